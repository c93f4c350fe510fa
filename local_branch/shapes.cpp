// Columns and stocks of rows of each shape.
#include "local_branch/shapes.hpp"

#include <algorithm>
#include <charconv>
#include <memory>

#include "local_branch/shards.hpp"

namespace psource::local_branch {
namespace {

struct shaped_column {
  column definition;
  /// The value in the row of this number of the stock.
  std::string (*value)(std::uint64_t random);
};

column made(const char* name, std::int32_t type, const char* column_type, std::uint32_t charset = 63,
            std::uint32_t flags = flag_number) {
  column out;
  out.name = name;
  out.type = type;
  out.column_type = column_type;
  out.charset = charset;
  out.flags = flags | flag_not_null;
  out.nullable = false;
  const auto names = names_of_collation(charset);
  if (has_character_set(column_type)) {
    out.character_set = names.character_set;
    out.collation = names.collation;
  }
  return out;
}

std::string repeated(std::string_view part, std::size_t size) {
  std::string out;
  while (out.size() + part.size() <= size) out += part;
  out.append(size - out.size(), '.');
  return out;
}

std::string digits(std::uint64_t random, std::uint64_t limit) { return std::to_string(random % limit); }

std::string two(std::uint64_t number) { return {static_cast<char>('0' + number / 10), static_cast<char>('0' + number % 10)}; }

std::string day(std::uint64_t random) {
  return "20" + two(random % 30) + "-" + two(1 + random / 31 % 12) + "-" + two(1 + random / 399 % 28);
}

std::string moment(std::uint64_t random) {
  return day(random) + " " + two(random % 24) + ":" + two(random / 25 % 60) + ":" + two(random / 1501 % 60);
}

const std::vector<shaped_column>& mixed() {
  static const std::vector<shaped_column> columns{
      {made("c_bigint", 265, "bigint"), [](std::uint64_t r) { return std::to_string(r >> 1); }},
      {made("c_int", 263, "int"), [](std::uint64_t r) { return digits(r, 2'000'000'000); }},
      {made("c_bool", 257, "tinyint(1)"), [](std::uint64_t r) { return digits(r, 2); }},
      {made("c_decimal", 18, "decimal(20,5)"),
       [](std::uint64_t r) { return digits(r, 1'000'000'000) + "." + std::to_string(10'000 + r % 90'000); }},
      {made("c_double", 1036, "double"),
       [](std::uint64_t r) { return digits(r, 1'000'000) + "." + std::to_string(1 + r % 9'999); }},
      {made("c_date", 2062, "date", 63, flag_binary), day},
      {made("c_datetime", 2064, "datetime", 63, flag_binary), moment},
      {made("c_timestamp", 2061, "timestamp", 63, flag_binary), moment},
      {made("c_varchar", 6165, "varchar(40)", 255, 0), [](std::uint64_t r) { return "a plain text " + std::to_string(r); }},
      {made("c_enum", 2074, "enum('small','medium','large')", 255, flag_enum),
       [](std::uint64_t r) { return std::string(r % 3 == 0 ? "small" : r % 3 == 1 ? "medium" : "large"); }}};
  return columns;
}

std::vector<shaped_column> columns_of(std::string_view shape) {
  constexpr std::size_t text_size = 1000;
  if (shape == "wide") {
    std::vector<shaped_column> out;
    for (std::size_t i = 0; i < 200; ++i) {
      out.push_back(mixed()[i % mixed().size()]);
      out.back().definition.name += "_" + std::to_string(i);
    }
    return out;
  }
  if (shape == "huge")
    return {{made("c", 6163, "mediumtext", 255, flag_blob), [](std::uint64_t r) {
               return repeated("A plain text that nobody has to escape, number " + std::to_string(r) + ". ", 1'000'000);
             }}};
  if (shape == "escapes")
    return {{made("c", 6163, "text", 255, flag_blob), [](std::uint64_t r) {
               return repeated("line \"" + std::to_string(r % 100) + "\"\n\tpath C:\\temp\\x; ", text_size);
             }}};
  if (shape == "latin1")
    return {{made("c", 6163, "text", 8, flag_blob), [](std::uint64_t r) {
               return repeated("Ma\xDF und Gr\xF6\xDF" "e, caf\xE9 " + std::to_string(r % 100) + ", pi\xF1" "a colada; ", text_size);
             }}};
  if (shape == "letters")
    return {{made("c", 6163, "text", 255, flag_blob), [](std::uint64_t r) {
               return repeated("東京都 привет Größe " + std::to_string(r % 100) + " ☃; ", text_size);
             }}};
  if (shape == "blob")
    return {{made("c", 10260, "blob", 63, flag_blob | flag_binary), [](std::uint64_t r) {
               std::string bytes(text_size, '\0');
               for (char& byte : bytes) byte = static_cast<char>(r = mix(r));
               return bytes;
             }}};
  return {};
}

/// A serialized query.Row whose first value is the id; the rest is ready in the stock.
class stocked_rows : public row_maker {
 public:
  stocked_rows(const std::vector<shaped_column>& columns, std::size_t stock) {
    for (std::size_t i = 0; i < stock; ++i) {
      rest row;
      byte_buffer lengths;
      for (std::size_t c = 0; c < columns.size(); ++c) {
        const std::string value = columns[c].value(mix(i * 1009 + c + 1));
        lengths.varint(static_cast<std::uint64_t>(value.size()) << 1);
        row.values += value;
      }
      row.lengths = lengths.view();
      largest_ = std::max(largest_, row.lengths.size() + row.values.size() + overhead);
      stock_.push_back(std::move(row));
    }
  }

  std::size_t max_size() const override { return largest_; }

  char* write(char* at, std::int64_t id, std::uint32_t, row_text) const override {
    const rest& row = stock_[mix(static_cast<std::uint64_t>(id)) % stock_.size()];
    char key[24];
    const auto key_size = static_cast<std::size_t>(std::to_chars(key, key + sizeof key, id).ptr - key);
    *at++ = 0x0a;  // lengths, packed zigzag
    at = write_varint(at, 1 + row.lengths.size());
    *at++ = static_cast<char>(key_size * 2);
    at = std::copy(row.lengths.begin(), row.lengths.end(), at);
    *at++ = 0x12;  // values
    at = write_varint(at, key_size + row.values.size());
    at = std::copy(key, key + key_size, at);
    return std::copy(row.values.begin(), row.values.end(), at);
  }

 private:
  /// The id, and the heads of both fields.
  static constexpr std::size_t overhead = 64;
  struct rest {
    std::string lengths;
    std::string values;
  };
  std::vector<rest> stock_;
  std::size_t largest_ = overhead;
};

}  // namespace

const std::vector<std::string>& shape_names() {
  static const std::vector<std::string> names{"narrow", "wide", "huge", "escapes", "latin1", "letters", "blob"};
  return names;
}

std::optional<table> shaped_table(std::string_view shape, std::int64_t rows) {
  const auto& names = shape_names();
  if (std::find(names.begin(), names.end(), shape) == names.end()) return std::nullopt;
  const auto columns = columns_of(shape);
  table out;
  out.schema.name = "shape_" + std::string(shape);
  out.schema.columns.push_back(sbtest_schema("").columns[0]);
  for (const auto& c : columns) out.schema.columns.push_back(c.definition);
  out.schema.primary_key = {0};
  out.rows = std::make_unique<stocked_rows>(columns, shape == "huge" ? 2 : 16);
  out.row_count = rows;
  return out;
}

}  // namespace psource::local_branch
