// Names of tables that belong to Vitess or to a tool for schema changes, and to nobody who selects tables.
#pragma once

#include <string_view>

namespace psource {

/// Tables that Vitess makes for itself and leaves out of VStreams: those of its online DDL and of its table
/// garbage collection, old and new names. Anchored: a user's `my_vt_table`, `_vt_hold` or `x_vrepl` is none;
/// but Vitess takes every `_…_old` for one.
bool is_internal_table(std::string_view name);

}  // namespace psource
