// Implementation of row_lookup.hpp.
#include "protocol/vitess/row_lookup.hpp"


namespace psource {

namespace {

// Flag bits of query.Type numbers.
constexpr std::int32_t integral_flag = 256;
constexpr std::int32_t float_flag = 1024;
constexpr std::int32_t decimal_type = 18;
constexpr std::int32_t timestamp_type = 2061;
constexpr std::int32_t date_type = 2062;
constexpr std::int32_t time_type = 2063;
constexpr std::int32_t datetime_type = 2064;

std::string quoted_name(const std::string& name) {
  std::string text = "`";
  for (const char c : name) {
    if (c == '`') text += '`';
    text += c;
  }
  return text + "`";
}

bool only(const std::string& value, const char* allowed) {
  return !value.empty() && value.find_first_not_of(allowed) == std::string::npos;
}

std::optional<std::string> literal(const row_lookup::key_column& column, const std::string& value) {
  if ((column.type & integral_flag) != 0 || (column.type & float_flag) != 0 || column.type == decimal_type) {
    if (!only(value, "0123456789+-.eE")) return std::nullopt;
    return value;
  }
  if (column.type == timestamp_type || column.type == date_type || column.type == time_type ||
      column.type == datetime_type) {
    if (!only(value, "0123456789-: .")) return std::nullopt;
    return "'" + value + "'";
  }
  static const char digits[] = "0123456789abcdef";
  std::string text = column.character_set.empty() ? "x'" : "_" + column.character_set + " x'";
  for (const char c : value) {
    text += digits[static_cast<unsigned char>(c) >> 4];
    text += digits[static_cast<unsigned char>(c) & 15];
  }
  return text + "'";
}

void append_length(std::string& out, std::int64_t length) {
  auto raw = (static_cast<std::uint64_t>(length) << 1) ^ static_cast<std::uint64_t>(length >> 63);
  while (raw >= 0x80) {
    out += static_cast<char>(raw | 0x80);
    raw >>= 7;
  }
  out += static_cast<char>(raw);
}

}  // namespace

void looked_up_row::add(const std::optional<std::string_view>& value) {
  append_length(lengths, value ? static_cast<std::int64_t>(value->size()) : -1);
  if (value) values.append(*value);
}

std::string lookup_preparation() { return "set time_zone = '+00:00'"; }

result<std::string> lookup_query(const row_lookup& lookup) {
  std::string columns;
  for (const auto& column : lookup.columns) {
    const std::string name = quoted_name(column.name);
    columns += column.is_text ? ", cast(" + name + " as binary)" : ", " + name;
  }
  std::string sql;
  for (std::size_t i = 0; i < lookup.keys.size(); ++i) {
    if (i > 0) sql += " union all ";
    sql += "select " + std::to_string(i) + columns + " from " + quoted_name(lookup.table.table.str()) + " where ";
    for (std::size_t k = 0; k < lookup.key.size(); ++k) {
      const auto value = literal(lookup.key[k], lookup.keys[i][k]);
      if (!value)
        return fail(error_code::response_malformed, "The primary key column " + lookup.key[k].name + " of " +
                                                        lookup.table.to_string() + " has a value that its type cannot have.");
      sql += (k > 0 ? " and " : "") + quoted_name(lookup.key[k].name) + " = " + *value;
    }
  }
  return sql;
}

}  // namespace psource
