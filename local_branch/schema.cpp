// Schemas and their serialized forms.
#include "local_branch/schema.hpp"

#include <algorithm>
#include <array>
#include <numeric>

namespace psource::local_branch {
namespace {

struct collation_row {
  std::uint32_t id;
  const char* character_set;
  const char* collation;
};

constexpr std::array<collation_row, 26> collations{{
    {1, "big5", "big5_chinese_ci"},
    {7, "koi8r", "koi8r_general_ci"},
    {8, "latin1", "latin1_swedish_ci"},
    {9, "latin2", "latin2_general_ci"},
    {11, "ascii", "ascii_general_ci"},
    {12, "ujis", "ujis_japanese_ci"},
    {13, "sjis", "sjis_japanese_ci"},
    {19, "euckr", "euckr_korean_ci"},
    {24, "gb2312", "gb2312_chinese_ci"},
    {26, "cp1250", "cp1250_general_ci"},
    {28, "gbk", "gbk_chinese_ci"},
    {33, "utf8mb3", "utf8mb3_general_ci"},
    {35, "ucs2", "ucs2_general_ci"},
    {45, "utf8mb4", "utf8mb4_general_ci"},
    {46, "utf8mb4", "utf8mb4_bin"},
    {47, "latin1", "latin1_bin"},
    {51, "cp1251", "cp1251_general_ci"},
    {54, "utf16", "utf16_general_ci"},
    {56, "utf16le", "utf16le_general_ci"},
    {57, "cp1256", "cp1256_general_ci"},
    {59, "cp1257", "cp1257_general_ci"},
    {60, "utf32", "utf32_general_ci"},
    {65, "ascii", "ascii_bin"},
    {83, "utf8mb3", "utf8mb3_bin"},
    {95, "cp932", "cp932_japanese_ci"},
    {255, "utf8mb4", "utf8mb4_0900_ai_ci"},
}};

void put_field(byte_buffer& out, const column& c, std::string_view table, std::string_view database) {
  out.text(1, c.name);
  out.number(2, static_cast<std::uint64_t>(c.type));
  out.text(3, table);
  out.text(4, table);
  out.text(5, database);
  out.text(6, c.name);
  out.number(7, c.length);
  out.number(8, c.charset);
  out.number(9, c.decimals);
  out.number(10, c.flags);
  out.text(11, c.column_type);
}

}  // namespace

bool table_schema::has_labels() const {
  return std::any_of(columns.begin(), columns.end(), [](const column& c) {
    return c.column_type.rfind("enum(", 0) == 0 || c.column_type.rfind("set(", 0) == 0;
  });
}

std::vector<std::size_t> table_schema::copy_order() const {
  if (!primary_key.empty()) return primary_key;
  std::vector<std::size_t> all(columns.size());
  std::iota(all.begin(), all.end(), std::size_t{0});
  return all;
}

collation_names names_of_collation(std::uint32_t id) {
  for (const auto& row : collations)
    if (row.id == id) return {row.character_set, row.collation};
  return {};
}

bool has_character_set(std::string_view column_type) {
  for (const char* word : {"char", "varchar", "text", "tinytext", "mediumtext", "longtext", "enum", "set"}) {
    const std::string_view name(word);
    if (column_type.substr(0, name.size()) != name) continue;
    const auto rest = column_type.substr(name.size());
    if (rest.empty() || rest.front() == '(' || rest.front() == ' ') return true;
  }
  return false;
}

table_schema sbtest_schema(std::string name) {
  table_schema table;
  table.name = std::move(name);
  column id;
  id.name = "id";
  id.type = 265;  // INT64
  id.column_type = "bigint";
  id.flags = flag_not_null | flag_primary_key | flag_no_default | flag_part_of_key | flag_number;
  id.length = 20;
  id.nullable = false;
  column k;
  k.name = "k";
  k.type = 263;  // INT32
  k.column_type = "int";
  k.flags = flag_not_null | flag_multiple_key | flag_part_of_key | flag_number;
  k.length = 11;
  k.nullable = false;
  column c;
  c.name = "c";
  c.type = 6167;  // CHAR
  c.column_type = "char(120)";
  c.charset = 255;
  c.flags = flag_not_null;
  c.length = 480;
  c.nullable = false;
  c.character_set = "utf8mb4";
  c.collation = "utf8mb4_0900_ai_ci";
  column pad = c;
  pad.name = "pad";
  pad.column_type = "char(60)";
  pad.length = 240;
  table.columns = {std::move(id), std::move(k), std::move(c), std::move(pad)};
  table.primary_key = {0};
  const auto digits = table.name.find_first_of("0123456789");
  table.indexes.push_back(
      {"k_" + (digits == std::string::npos ? "1" : table.name.substr(digits)), false, {1}});
  return table;
}

byte_buffer field_event(const table_schema& table, std::string_view wire_name, std::string_view keyspace,
                        std::string_view shard, bool labels_as_text) {
  byte_buffer out;
  out.text(1, wire_name);
  const std::string database = "vt_" + std::string(keyspace);
  byte_buffer field;
  for (const auto& c : table.columns) {
    field.clear();
    put_field(field, c, table.name, database);
    out.bytes(2, field.view());
  }
  out.text(3, keyspace);
  out.text(4, shard);
  out.number(25, labels_as_text ? 1 : 0);
  return out;
}

byte_buffer lastpk_result(const table_schema& table, std::string_view key_row) {
  byte_buffer out;
  byte_buffer field;
  for (const auto number : table.copy_order()) {
    const auto& c = table.columns[number];
    field.clear();
    field.text(1, c.name);
    field.number(2, static_cast<std::uint64_t>(c.type));
    field.number(8, c.charset);
    field.number(10, c.flags);
    out.bytes(1, field.view());
  }
  out.bytes(4, key_row);
  return out;
}

}  // namespace psource::local_branch
