// Geometries: MySQL's stored form (SRID and WKB) → WKT.
#pragma once

#include <string_view>

#include "protocol/mapping/text_buffer.hpp"

namespace psource {

/// Appends the WKT of a geometry as MySQL's ST_AsText writes it, coordinates in storage order (x y): POINT(1
/// 2). Reads both byte orders. Impossible: anything that is not a whole geometry (truncated, trailing bytes,
/// unknown kinds, coordinates that are no numbers), and collections nested deeper than 64 levels. No quotes;
/// WKT has nothing to escape.
outcome append_wkt(text_buffer& out, std::string_view srid_and_wkb);

}  // namespace psource
