// The one type table: what every MySQL type becomes, in the catalog and in records. Discovery and reading
// share it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "protocol/mapping/column_type.hpp"
#include "protocol/vitess/columns.hpp"

namespace psource {

/// The user's options that change types (`options` of the configuration).
struct type_options {
  /// TINYINT(1) is a boolean (false: `do_not_treat_tiny_int_as_boolean`).
  bool tiny_int_as_boolean = true;
  /// TIME is a plain string as MySQL prints it, so that negative times and times beyond a day survive.
  bool time_as_string = false;
};

struct schema_options {
  type_options types;
  /// Adds `_planetscale_metadata`.
  bool include_metadata = false;
  /// Declares `_ab_cdc_deleted_at`; without it a stream gets no delete records.
  bool capture_deletes = true;
};

/// How a value of a column becomes JSON.
enum class conversion : std::uint8_t {
  integer,      ///< digits, leading zeros removed
  boolean,      ///< "0" → false, any other number true
  decimal,      ///< all digits kept, normalised
  float32,      ///< shortest text of that width
  float64,      ///<
  bit_boolean,  ///< raw bytes, BIT(1)
  bit_integer,  ///< raw big-endian bytes
  date,         ///<
  datetime,     ///< 6 digits, no offset
  timestamp,    ///< 6 digits, Z
  time,         ///< within a day
  time_text,    ///< as MySQL prints it
  text,         ///< transcoded to UTF-8
  enumeration,  ///< label
  set,          ///< labels joined by commas
  json,         ///< JSON text in one form
  base64,       ///< raw bytes
  wkt,          ///< SRID + WKB → WKT
  float_array,  ///< VECTOR
};

/// One line of the table.
struct type_mapping {
  conversion how = conversion::base64;
  /// JSON schema: "number", "string", "boolean", "array".
  const char* type = "string";
  /// Empty when there is none, for all of these.
  const char* format = "";
  const char* airbyte_type = "";
  const char* content_encoding = "";
  /// Type of an array's items.
  const char* items = "";
  /// Declared nullable even when the column is NOT NULL: zero dates become null.
  bool always_nullable = false;
};

/// The line of the table for a type; total.
type_mapping map_type(const column_type& type, const type_options& options);

/// The json_schema fragment of one column: {"type":["null","string"],"format":"date"}. Valid JSON, one line.
std::string property_schema(const column_type& type, bool nullable, const type_options& options);

/// The whole json_schema object of a stream: its columns in the table's order, then the CDC columns, then
/// `_planetscale_metadata` when asked for. Columns with the name of one of these are left out. Valid JSON,
/// one line.
std::string json_schema(const table_definition& table, const schema_options& options);

inline constexpr const char* cdc_updated_at = "_ab_cdc_updated_at";
inline constexpr const char* cdc_deleted_at = "_ab_cdc_deleted_at";
inline constexpr const char* cdc_cursor = "_ab_cdc_cursor";
inline constexpr const char* planetscale_metadata = "_planetscale_metadata";

/// True for the names above that a stream cannot use for columns of its own; _planetscale_metadata only with
/// the option.
bool is_reserved_column(std::string_view name, bool include_metadata);

}  // namespace psource
