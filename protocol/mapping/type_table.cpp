// The table itself. docs/types.md is printed from tests that run through it.
#include "protocol/mapping/type_table.hpp"

#include "protocol/mapping/json_string.hpp"

namespace psource {
namespace {

constexpr std::uint32_t widest_bit = 64;

constexpr type_mapping number(conversion how, const char* airbyte_type = "") {
  type_mapping line;
  line.how = how;
  line.type = "number";
  line.airbyte_type = airbyte_type;
  return line;
}

constexpr type_mapping moment(conversion how, const char* format, const char* airbyte_type) {
  type_mapping line;
  line.how = how;
  line.format = format;
  line.airbyte_type = airbyte_type;
  line.always_nullable = true;
  return line;
}

constexpr type_mapping plain(conversion how, const char* type, const char* content_encoding = "",
                             const char* items = "") {
  type_mapping line;
  line.how = how;
  line.type = type;
  line.content_encoding = content_encoding;
  line.items = items;
  return line;
}

void append_attribute(std::string& out, const char* name, const char* value) {
  if (*value == '\0') return;
  out.append(",\"").append(name).append("\":\"").append(value).append("\"");
}

std::string fragment(const type_mapping& line, bool nullable) {
  std::string out = nullable || line.always_nullable ? "{\"type\":[\"null\",\"" : "{\"type\":[\"";
  out.append(line.type).append("\"]");
  append_attribute(out, "format", line.format);
  append_attribute(out, "airbyte_type", line.airbyte_type);
  append_attribute(out, "contentEncoding", line.content_encoding);
  if (*line.items != '\0') out.append(",\"items\":{\"type\":\"").append(line.items).append("\"}");
  out.push_back('}');
  return out;
}

}  // namespace

type_mapping map_type(const column_type& type, const type_options& options) {
  switch (type.kind) {
    case type_kind::tinyint:
      if (type.width == 1 && options.tiny_int_as_boolean) return plain(conversion::boolean, "boolean");
      return number(conversion::integer, "integer");
    case type_kind::smallint:
    case type_kind::mediumint:
    case type_kind::int_:
    case type_kind::bigint:
    case type_kind::year:
      return number(conversion::integer, "integer");
    case type_kind::decimal:
      return number(conversion::decimal);
    case type_kind::float_:
      return number(conversion::float32);
    case type_kind::double_:
      return number(conversion::float64);
    case type_kind::bit:
      if (type.width == 1) return plain(conversion::bit_boolean, "boolean");
      // BIT(64) reaches beyond the integers of destinations.
      return number(conversion::bit_integer, type.width >= widest_bit ? "" : "integer");
    case type_kind::date:
      return moment(conversion::date, "date", "");
    case type_kind::datetime:
      return moment(conversion::datetime, "date-time", "timestamp_without_timezone");
    case type_kind::timestamp:
      return moment(conversion::timestamp, "date-time", "timestamp_with_timezone");
    case type_kind::time:
      if (options.time_as_string) {
        type_mapping line = plain(conversion::time_text, "string");
        line.always_nullable = true;
        return line;
      }
      return moment(conversion::time, "time", "time_without_timezone");
    case type_kind::char_:
    case type_kind::varchar:
    case type_kind::text:
      return plain(conversion::text, "string");
    case type_kind::enum_:
      return plain(conversion::enumeration, "string");
    case type_kind::set:
      return plain(conversion::set, "string");
    case type_kind::json:
      return plain(conversion::json, "string");
    case type_kind::binary:
    case type_kind::varbinary:
    case type_kind::blob:
      return plain(conversion::base64, "string", "base64");
    case type_kind::geometry:
      return plain(conversion::wkt, "string");
    case type_kind::vector:
      return plain(conversion::float_array, "array", "", "number");
    case type_kind::unknown:
      break;
  }
  return plain(conversion::base64, "string");
}

std::string property_schema(const column_type& type, bool nullable, const type_options& options) {
  return fragment(map_type(type, options), nullable);
}

bool is_reserved_column(std::string_view name, bool include_metadata) {
  return name == cdc_updated_at || name == cdc_deleted_at || name == cdc_cursor ||
         (include_metadata && name == planetscale_metadata);
}

std::string json_schema(const table_definition& table, const schema_options& options) {
  std::string out = "{\"type\":\"object\",\"properties\":{";
  const auto add = [&](std::string_view name, const std::string& schema) {
    if (out.back() != '{') out.push_back(',');
    out.append(quoted_json(name)).append(":").append(schema);
  };
  for (const auto& column : table.columns) {
    if (is_reserved_column(column.name, options.include_metadata)) continue;
    add(column.name, property_schema(parse_column_type(column.column_type), column.nullable, options.types));
  }
  const std::string instant =
      fragment(moment(conversion::timestamp, "date-time", "timestamp_with_timezone"), true);
  const std::string integer = fragment(number(conversion::integer, "integer"), true);
  add(cdc_updated_at, instant);
  if (options.capture_deletes) add(cdc_deleted_at, instant);
  add(cdc_cursor, integer);
  if (options.include_metadata) {
    add(planetscale_metadata, "{\"type\":[\"null\",\"object\"],\"properties\":{\"vgtid_position\":" +
                                  fragment(plain(conversion::text, "string"), true) +
                                  ",\"extracted_at\":" + integer + ",\"sequence_number\":" + integer + "}}");
  }
  out.append("}}");
  return out;
}

}  // namespace psource
