// The type that a catalog declares for a column, and whether values of another type contradict it.
#pragma once

#include <string>
#include <vector>

#include "protocol/mapping/type_table.hpp"

namespace psource {

/// The parts of a column's json_schema that its values can contradict. Empty texts are parts that it does not have.
struct declared_type {
  /// "number", "string" …, without "null". Empty = it declares nothing: every value fits.
  std::vector<std::string> types;
  std::string format;
  std::string airbyte_type;
  std::string content_encoding;

  /// For messages: "number (integer)".
  std::string to_string() const;
};

/// True when values of `now` do not have the form that the catalog declares, so that a destination may not hold them
/// or people misread them. What merely holds less than is declared (an integer where a number is, a date where a text
/// is) is none; neither are nulls.
bool contradicts(const declared_type& declared, const type_mapping& now);

}  // namespace psource
