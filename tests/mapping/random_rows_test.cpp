// Random bytes for every type: whatever comes in, what goes out is one line of valid JSON.
#include <doctest/doctest.h>
#include <rapidjson/document.h>

#include <random>
#include <set>

#include "protocol/mapping/record_encoder.hpp"
#include "type_cases.hpp"
#include "wire_row.hpp"

using namespace psource;
using namespace psource::testing;

namespace {

/// Bytes of one of several tastes: anything, printable, digits and signs, or a case's own value with a few
/// bytes changed.
std::string some_bytes(std::mt19937& random, const type_block& block) {
  std::string bytes;
  switch (random() % 4) {
    case 0:
      bytes.resize(random() % 50);
      for (auto& c : bytes) c = static_cast<char>(random());
      break;
    case 1:
      bytes.resize(random() % 30);
      for (auto& c : bytes) c = static_cast<char>(' ' + random() % 95);
      break;
    case 2: {
      const std::string signs = "0123456789.-+eE: ,";
      bytes.resize(random() % 30);
      for (auto& c : bytes) c = signs[random() % signs.size()];
      break;
    }
    default:
      bytes = block.values[random() % block.values.size()].bytes;
      for (unsigned i = random() % 4; i > 0 && !bytes.empty(); --i)
        bytes[random() % bytes.size()] = static_cast<char>(random());
      if (random() % 4 == 0) bytes.resize(random() % (bytes.size() + 1));
  }
  return bytes;
}

bool fits(const rapidjson::Value& value, const rapidjson::Value& schema) {
  std::set<std::string> types;
  for (const auto& type : schema["type"].GetArray()) types.insert(type.GetString());
  if (value.IsNull()) return true;
  if (value.IsString()) return types.count("string") != 0;
  if (value.IsBool()) return types.count("boolean") != 0;
  if (value.IsArray()) return types.count("array") != 0;
  return value.IsNumber() && types.count("number") != 0;
}

}  // namespace

TEST_CASE("random bytes for every type give one valid line each, of the declared type") {
  for (const unsigned seed : {1u, 20240229u}) {
    std::mt19937 random(seed);
    for (const auto& block : load_type_cases(PSOURCE_TEST_TYPES)) {
      stream_shape shape;
      shape.id = {keyspace_name("ks"), table_name("t")};
      column_definition column;
      column.name = "v";
      column.column_type = block.column_type;
      column.character_set = block.charset;
      shape.table.columns = {column};
      if (random() % 2 == 0) shape.table.primary_key = {"v"};
      shape.selected = {"v", "_ab_cdc_cursor"};
      field_event fields;
      fields.columns = {{"v", block.number, block.column_type, block.collation, 0}};
      fields.enum_set_string_values = !block.labels_are_numbers;
      auto encoder = record_encoder::compile(shape, fields, {block.options, false});
      REQUIRE(encoder);
      rapidjson::Document schema;
      schema.Parse(block.nullable.data(), block.nullable.size());
      for (int round = 0; round < 300; ++round) {
        const std::string bytes = some_bytes(random, block);
        record_context context;
        context.copied = random() % 2 == 0;
        std::string line;
        REQUIRE(append_record(*encoder, line, wire_row({bytes}).view(), context));
        CAPTURE(block.place);
        CAPTURE(seed);
        CAPTURE(round);
        REQUIRE(line.find('\n') == line.size() - 1);
        rapidjson::Document document;
        // Numbers as text first: all that is asked here is whether the line is JSON.
        document.Parse<rapidjson::kParseValidateEncodingFlag | rapidjson::kParseNumbersAsStringsFlag>(
            line.data(), line.size());
        REQUIRE_FALSE(document.HasParseError());
        const auto& data = document["record"]["data"];
        REQUIRE(data.MemberCount() == 2);
        document.Parse<rapidjson::kParseValidateEncodingFlag>(line.data(), line.size());
        if (!document.HasParseError()) REQUIRE(fits(document["record"]["data"]["v"], schema));
      }
    }
  }
}

TEST_CASE("random rows never leave a half line behind") {
  std::mt19937 random(5);
  stream_shape shape;
  shape.id = {keyspace_name("ks"), table_name("t")};
  shape.selected = {"a", "b", "_ab_cdc_cursor"};
  field_event fields;
  fields.columns = {{"a", 265, "bigint", 63, 0}, {"b", 6165, "varchar(9)", 45, 0}};
  auto encoder = record_encoder::compile(shape, fields, {});
  REQUIRE(encoder);
  int good = 0;
  for (int round = 0; round < 50000; ++round) {
    std::string lengths(random() % 5, '\0');
    for (auto& c : lengths) c = static_cast<char>(random() % 3 == 0 ? random() : random() % 8);
    std::string values(random() % 8, '7');
    std::string out = "kept";
    const auto done = append_record(*encoder, out, {lengths, values, true}, {});
    if (done) {
      ++good;
      CHECK(out.back() == '\n');
    } else {
      CHECK(out == "kept");
    }
    encoder->same_key({lengths, values, true}, {values, lengths, true});
  }
  CHECK(good > 100);
}
