// Every case of tests/types/ through the schema and the record encoder.
#include <doctest/doctest.h>
#include <rapidjson/document.h>

#include "protocol/mapping/record_encoder.hpp"
#include "type_cases.hpp"
#include "wire_row.hpp"

namespace {

using namespace psource;
using namespace psource::testing;

const char* const folder = PSOURCE_TEST_TYPES;

stream_shape shape_of(const type_block& block, bool key) {
  stream_shape shape;
  shape.id = {keyspace_name("ks"), table_name("t")};
  shape.table.id = shape.id;
  column_definition column;
  column.name = "v";
  column.column_type = block.column_type;
  column.character_set = block.charset;
  shape.table.columns = {column};
  if (key) shape.table.primary_key = {"v"};
  shape.selected = {"v"};
  return shape;
}

struct encoded {
  std::string json;
  std::string change;
};

encoded encode(const type_block& block, const type_value& value, bool copied) {
  field_event fields;
  fields.table = table_name("t");
  fields.columns = {{"v", block.number, block.column_type, block.collation, 0}};
  fields.enum_set_string_values = !block.labels_are_numbers;
  auto encoder =
      record_encoder::compile(shape_of(block, value.phase == "key"), fields, {block.options, false});
  REQUIRE(encoder);
  const wire_row row({value.null ? std::optional<std::string>() : value.bytes});
  record_context context;
  context.emitted_at_ms = 7;
  context.copied = copied;
  std::string line;
  REQUIRE(append_record(*encoder, line, row.view(), context));

  rapidjson::Document document;
  document.Parse<rapidjson::kParseValidateEncodingFlag | rapidjson::kParseFullPrecisionFlag>(line.data(),
                                                                                             line.size());
  REQUIRE_FALSE(document.HasParseError());
  REQUIRE(line.back() == '\n');

  const std::string head = R"({"type":"RECORD","record":{"stream":"t","namespace":"ks","data":{"v":)";
  const std::string tail = R"(},"emitted_at":7)";
  REQUIRE(line.compare(0, head.size(), head) == 0);
  const auto end = line.rfind(tail);
  REQUIRE(end != std::string::npos);
  encoded result;
  result.json = line.substr(head.size(), end - head.size());
  const auto& record = document["record"];
  if (record.HasMember("meta")) {
    const auto& changes = record["meta"]["changes"];
    REQUIRE(changes.Size() == 1);
    CHECK(std::string(changes[0]["field"].GetString()) == "v");
    CHECK(std::string(changes[0]["reason"].GetString()) == "SOURCE_SERIALIZATION_ERROR");
    result.change = changes[0]["change"].GetString();
  }
  return result;
}

}  // namespace

TEST_CASE("every value of every type becomes what the case files say, in both phases") {
  std::size_t checked = 0;
  for (const auto& block : load_type_cases(folder)) {
    for (const auto& value : block.values) {
      for (const bool copied : {true, false}) {
        if ((value.phase == "copy" && !copied) || (value.phase == "binlog" && copied)) continue;
        CAPTURE(value.place);
        CAPTURE(copied);
        const encoded result = encode(block, value, copied);
        CHECK(result.json == value.json);
        CHECK(result.change == value.change);
        ++checked;
      }
    }
  }
  CHECK(checked > 500);
}

TEST_CASE("every type has the json_schema that the case files say") {
  for (const auto& block : load_type_cases(folder)) {
    CAPTURE(block.place);
    const column_type type = parse_column_type(block.column_type);
    CHECK(property_schema(type, true, block.options) == block.nullable);
    CHECK(property_schema(type, false, block.options) == block.required);
  }
}

TEST_CASE("the case files cover every kind of type in both phases: NULL, empty, and values") {
  const auto counts = count_cases(load_type_cases(folder));
  for (int i = 0; i <= static_cast<int>(type_kind::unknown); ++i) {
    const auto kind = static_cast<type_kind>(i);
    CAPTURE(to_string(kind));
    REQUIRE(counts.count(kind) == 1);
    const phase_counts& count = counts.at(kind);
    CHECK(count.null >= 2);
    CHECK(count.empty >= 2);
    CHECK(count.copy >= 4);
    CHECK(count.binlog >= 4);
  }
}
