// Whole records: selection, CDC columns, changes, keys, refusals.
#include "protocol/mapping/record_encoder.hpp"

#include <doctest/doctest.h>
#include <rapidjson/document.h>

#include "wire_row.hpp"

using namespace psource;
using psource::testing::append_record;
using psource::testing::wire_row;

namespace {

constexpr std::int32_t int64_type = 265;
constexpr std::int32_t varchar_type = 6165;
constexpr std::int32_t date_type = 2062;

stream_shape shape() {
  stream_shape result;
  result.id = {keyspace_name("commerce"), table_name("order\"s")};
  result.table.id = result.id;
  column_definition id;
  id.name = "id";
  id.column_type = "bigint";
  id.nullable = false;
  column_definition name;
  name.name = "na\"me";
  name.column_type = "varchar(20)";
  name.character_set = "utf8mb4";
  column_definition day;
  day.name = "day";
  day.column_type = "date";
  result.table.columns = {id, name, day};
  result.table.primary_key = {"id"};
  result.selected = {"id", "na\"me", "day", "_ab_cdc_updated_at", "_ab_cdc_deleted_at", "_ab_cdc_cursor"};
  return result;
}

field_event fields() {
  field_event result;
  result.table = table_name("order\"s");
  result.columns = {{"id", int64_type, "bigint", 63, 3},
                    {"na\"me", varchar_type, "varchar(20)", 45, 0},
                    {"day", date_type, "date", 63, 0}};
  return result;
}

record_context context() {
  record_context result;
  result.emitted_at_ms = 1700000000123;
  result.cdc_cursor = 1709210096500000;
  result.updated_at_micros = 1709210096000000;
  return result;
}

record_encoder compiled(const stream_shape& stream, const field_event& event, bool include_metadata = false) {
  auto encoder = record_encoder::compile(stream, event, {{}, include_metadata});
  REQUIRE(encoder);
  return std::move(*encoder);
}

const std::string head = R"({"type":"RECORD","record":{"stream":"order\"s","namespace":"commerce","data":{)";

}  // namespace

TEST_CASE("a record is one line with its row, the CDC columns and nothing else") {
  auto encoder = compiled(shape(), fields());
  std::string out = "before";
  REQUIRE(append_record(encoder, out, wire_row({"1", "a\nb", std::nullopt}).view(), context()));
  CHECK(out ==
        "before" + head +
            R"("id":1,"na\"me":"a\nb","day":null,"_ab_cdc_updated_at":"2024-02-29T12:34:56.000000Z",)"
            R"("_ab_cdc_deleted_at":null,"_ab_cdc_cursor":1709210096500000},"emitted_at":1700000000123}})"
            "\n");
  CHECK(encoder.warnings().empty());
  CHECK(encoder.column_count() == 3);
}

TEST_CASE("a delete carries its before image and the time it happened") {
  auto encoder = compiled(shape(), fields());
  REQUIRE(encoder.delivers_deletes());
  auto deleted = context();
  deleted.deleted = true;
  std::string out;
  REQUIRE(append_record(encoder, out, wire_row({"1", "a", "2024-02-29"}).view(), deleted));
  CHECK(
      out.find(
          R"("day":"2024-02-29","_ab_cdc_updated_at":"2024-02-29T12:34:56.000000Z","_ab_cdc_deleted_at":"2024-02-29T12:34:56.000000Z",)") !=
      std::string::npos);
  // The kept text of the CDC columns follows every change of the context.
  out.clear();
  REQUIRE(append_record(encoder, out, wire_row({"1", "a", "2024-02-29"}).view(), context()));
  CHECK(out.find(R"("_ab_cdc_deleted_at":null)") != std::string::npos);
  auto later = context();
  later.cdc_cursor = 5;
  later.emitted_at_ms = 6;
  later.updated_at_micros = 7;
  out.clear();
  REQUIRE(append_record(encoder, out, wire_row({"1", "a", "2024-02-29"}).view(), later));
  CHECK(
      out.find(
          R"("_ab_cdc_updated_at":"1970-01-01T00:00:00.000007Z","_ab_cdc_deleted_at":null,"_ab_cdc_cursor":5},"emitted_at":6}})") !=
      std::string::npos);
}

TEST_CASE("a column of another type than the catalog declares is told once, with both, and delivered as it is") {
  auto stream = shape();
  stream.declared["id"] = {{"number"}, "", "integer", ""};
  stream.declared["na\"me"] = {{"number"}, "", "integer", ""};
  stream.declared["day"] = {{"string"}, "date", "", ""};
  auto encoder = compiled(stream, fields());
  REQUIRE(encoder.warnings().size() == 1);
  CHECK(encoder.warnings()[0] ==
        "The catalog declares column na\"me of commerce.order\"s as number (integer), but its type is varchar. Its "
        "values are delivered in that type's form. Refresh the schema of the connection.");
  std::string out;
  REQUIRE(append_record(encoder, out, wire_row({"1", "a", "2024-02-29"}).view(), context()));
  CHECK(out.find(R"("na\"me":"a")") != std::string::npos);
  // Columns that are not delivered are none of its concern.
  stream.selected = {"id"};
  const auto narrow = compiled(stream, fields());
  for (const auto& warning : narrow.warnings()) CHECK(warning.find("declares") == std::string::npos);
  // Another kind of surprise of the same column is told as well.
  stream.selected = {"na\"me"};
  auto strange = fields();
  strange.columns[1].column_type = "hologram";
  CHECK(compiled(stream, strange).warnings().size() == 3);
}

TEST_CASE("what contradicts a declared type") {
  const auto fits = [](const declared_type& declared, const std::string& type) {
    return !contradicts(declared, map_type(parse_column_type(type), {}));
  };
  const declared_type nothing;
  const declared_type integer{{"number"}, "", "integer", ""};
  const declared_type plain_integer{{"integer"}, "", "", ""};
  const declared_type number{{"number"}, "", "", ""};
  const declared_type text{{"string"}, "", "", ""};
  const declared_type bytes{{"string"}, "", "", "base64"};
  const declared_type date{{"string"}, "date", "", ""};
  const declared_type zoned{{"string"}, "date-time", "timestamp_with_timezone", ""};
  const declared_type boolean{{"boolean"}, "", "", ""};
  const declared_type either{{"number", "string"}, "", "", ""};
  CHECK(fits(nothing, "blob"));
  for (const auto* type : {"int", "bigint unsigned", "year"}) {
    CHECK(fits(integer, type));
    CHECK(fits(plain_integer, type));
    CHECK(fits(number, type));
    CHECK_FALSE(fits(text, type));
    CHECK_FALSE(fits(boolean, type));
  }
  for (const auto* type : {"decimal(9,2)", "double"}) {
    CHECK_FALSE(fits(integer, type));
    CHECK_FALSE(fits(plain_integer, type));
    CHECK(fits(number, type));
  }
  CHECK_FALSE(fits(integer, "tinyint(1)"));
  CHECK(fits(boolean, "tinyint(1)"));
  CHECK_FALSE(fits(boolean, "tinyint(4)"));
  for (const auto* type : {"varchar(9)", "json", "enum('a')", "date", "timestamp"}) {
    CHECK(fits(text, type));
    CHECK(fits(either, type));
    CHECK_FALSE(fits(integer, type));
    CHECK_FALSE(fits(bytes, type));
  }
  CHECK(fits(bytes, "varbinary(9)"));
  CHECK_FALSE(fits(text, "varbinary(9)"));
  CHECK(fits(date, "date"));
  CHECK_FALSE(fits(date, "datetime"));
  CHECK_FALSE(fits(date, "varchar(9)"));
  CHECK(fits(zoned, "timestamp(6)"));
  CHECK_FALSE(fits(zoned, "datetime"));
  CHECK_FALSE(fits(text, "vector(3)"));
  CHECK(declared_type{{"string", "number"}, "date-time", "x", ""}.to_string() == "string or number (date-time, x)");
  CHECK(text.to_string() == "string");
}

TEST_CASE("what discovery declares contradicts no column of the same type") {
  for (const auto* type :
       {"tinyint(1)", "tinyint(4) unsigned", "smallint", "int(11)", "bigint unsigned", "year", "decimal(10,0)", "float",
        "double", "bit(1)", "bit(9)", "bit(64)", "date", "datetime(3)", "timestamp", "time", "char(3)", "varchar(9)",
        "longtext", "enum('a','b')", "set('a')", "json", "binary(3)", "varbinary(3)", "blob", "point", "vector(2)", "new"}) {
    const auto line = map_type(parse_column_type(type), {});
    const declared_type declared{{line.type}, line.format, line.airbyte_type, line.content_encoding};
    CHECK_MESSAGE(!contradicts(declared, line), type);
  }
}

TEST_CASE("without _ab_cdc_deleted_at in the catalog no delete is encoded") {
  auto stream = shape();
  stream.selected = {"id"};
  auto encoder = compiled(stream, fields());
  CHECK_FALSE(encoder.delivers_deletes());
  auto deleted = context();
  deleted.deleted = true;
  std::string out = "kept";
  const auto done = append_record(encoder, out, wire_row({"1", "a", std::nullopt}).view(), deleted);
  REQUIRE_FALSE(done);
  CHECK(done.error().code == error_code::internal);
  CHECK(out == "kept");
}

TEST_CASE("the configured catalog decides what is delivered") {
  auto stream = shape();
  stream.selected = {"day"};
  auto encoder = compiled(stream, fields());
  std::string out;
  REQUIRE(append_record(encoder, out, wire_row({"1", "a", "2024-02-29"}).view(), context()));
  CHECK(out == head + R"("day":"2024-02-29"},"emitted_at":1700000000123}})" + "\n");
  REQUIRE(encoder.warnings().size() == 1);
  CHECK(encoder.warnings()[0].find("id, na\"me") != std::string::npos);

  stream.selected = {"_ab_cdc_cursor"};
  auto only_cursor = compiled(stream, fields());
  out.clear();
  REQUIRE(append_record(only_cursor, out, wire_row({"1", "a", "2024-02-29"}).view(), context()));
  CHECK(out == head + R"("_ab_cdc_cursor":1709210096500000},"emitted_at":1700000000123}})" + "\n");
}

TEST_CASE("a catalog without properties means the table's columns and no CDC column") {
  auto stream = shape();
  stream.selected.clear();
  auto encoder = compiled(stream, fields());
  CHECK_FALSE(encoder.delivers_deletes());
  std::string out;
  REQUIRE(append_record(encoder, out, wire_row({"1", "a", std::nullopt}).view(), context()));
  CHECK(out == head + R"("id":1,"na\"me":"a","day":null},"emitted_at":1700000000123}})" + "\n");
}

TEST_CASE("columns that the table lost are named, and a table that lost all of them is refused") {
  auto stream = shape();
  stream.selected.push_back("gone");
  auto encoder = compiled(stream, fields());
  REQUIRE(encoder.warnings().size() == 1);
  CHECK(encoder.warnings()[0].find("gone") != std::string::npos);

  stream.selected = {"gone", "lost"};
  const auto refused = record_encoder::compile(stream, fields(), {});
  REQUIRE_FALSE(refused);
  CHECK(refused.error().code == error_code::catalog_invalid);
  CHECK(refused.error().message.find("gone, lost") != std::string::npos);
  REQUIRE(refused.error().stream);
  CHECK(*refused.error().stream == stream.id);
}

TEST_CASE("columns named \"@1\" are refused with an error that says what happened") {
  for (std::size_t i = 0; i < fields().columns.size(); ++i) {
    auto event = fields();
    event.columns[i].name = "@" + std::to_string(i + 1);
    for (const bool selected : {true, false}) {
      auto stream = shape();
      // A catalog that selects no such column does not make the values of the others any surer.
      if (!selected) stream.selected = {"id"};
      const auto refused = record_encoder::compile(stream, event, {});
      REQUIRE_FALSE(refused);
      CHECK(refused.error().code == error_code::schema_incompatible);
      CHECK(refused.error().message.find("has changed since the saved position") != std::string::npos);
      REQUIRE(refused.error().stream);
      CHECK(*refused.error().stream == stream.id);
    }
  }
}

TEST_CASE("a column may have a name that begins with @") {
  auto stream = shape();
  auto event = fields();
  for (const char* name : {"@handle", "@2"}) {
    stream.table.columns[1].name = event.columns[1].name = name;
    CHECK(record_encoder::compile(stream, event, {}));
  }
}

TEST_CASE("shapes that break the rules are refused") {
  const auto code = [](field_event event) {
    const auto refused = record_encoder::compile(shape(), event, {});
    REQUIRE_FALSE(refused);
    return refused.error().code;
  };
  auto event = fields();
  event.columns[1].name = "id";
  CHECK(code(event) == error_code::response_malformed);
  event.columns.clear();
  CHECK(code(event) == error_code::response_malformed);
  for (int i = 0; i < 4097; ++i)
    event.columns.push_back({"c" + std::to_string(i), int64_type, "bigint", 63, 0});
  CHECK(code(event) == error_code::response_malformed);
}

TEST_CASE("a row that does not fit leaves the output as it was") {
  auto encoder = compiled(shape(), fields());
  std::string out = "kept";
  const auto refuse = [&](const row_view& row) {
    const auto done = append_record(encoder, out, row, context());
    REQUIRE_FALSE(done);
    CHECK(out == "kept");
    return done.error().code;
  };
  CHECK(refuse(wire_row({"1", "a"}).view()) == error_code::response_malformed);
  CHECK(refuse(wire_row({"1", "a", "2024-02-29", "4"}).view()) == error_code::response_malformed);
  CHECK(refuse(wire_row({}).view()) == error_code::response_malformed);
  const wire_row good({"1", "a", "2024-02-29"});
  auto view = good.view();
  view.values.remove_suffix(1);
  CHECK(refuse(view) == error_code::response_malformed);
  view = good.view();
  view.lengths = std::string_view("\x02\x02\x80", 3);
  CHECK(refuse(view) == error_code::response_malformed);
  view = good.view();
  view.present = false;
  CHECK(refuse(view) == error_code::internal);
  REQUIRE(append_record(encoder, out, good.view(), context()));
}

TEST_CASE("meta.changes names every value that could not be told") {
  auto stream = shape();
  auto encoder = compiled(stream, fields());
  std::string out;
  REQUIRE(append_record(encoder, out, wire_row({"x", "\xff", "0000-00-00"}).view(), context()));
  const std::string tail =
      R"("emitted_at":1700000000123,"meta":{"changes":[{"field":"id","change":"NULLED","reason":"SOURCE_SERIALIZATION_ERROR"},)"
      R"({"field":"na\"me","change":"TRUNCATED","reason":"SOURCE_SERIALIZATION_ERROR"},)"
      R"({"field":"day","change":"NULLED","reason":"SOURCE_SERIALIZATION_ERROR"}]}}})"
      "\n";
  CHECK(out.substr(out.size() - tail.size()) == tail);
  out.clear();
  REQUIRE(append_record(encoder, out, wire_row({"1", "a", "2024-02-29"}).view(), context()));
  CHECK(out.find("meta") == std::string::npos);
}

TEST_CASE("a zero date in the primary key becomes 1970-01-01") {
  auto stream = shape();
  stream.table.primary_key = {"id", "day"};
  auto encoder = compiled(stream, fields());
  std::string out;
  REQUIRE(append_record(encoder, out, wire_row({"1", "a", "0000-00-00"}).view(), context()));
  CHECK(out.find(R"("day":"1970-01-01")") != std::string::npos);
  CHECK(out.find(R"({"field":"day","change":"TRUNCATED")") != std::string::npos);
}

TEST_CASE("the peer's metadata column is written when it is selected and asked for") {
  auto stream = shape();
  stream.selected = {"id", "_planetscale_metadata"};
  auto with = context();
  with.position = "MySQL56/\"x\":1-5";
  with.extracted_at_ns = 1700000000123456789;
  with.sequence = 42;
  auto encoder = compiled(stream, fields(), true);
  std::string out;
  REQUIRE(append_record(encoder, out, wire_row({"1", "a", std::nullopt}).view(), with));
  CHECK(
      out ==
      head +
          R"("id":1,"_planetscale_metadata":{"vgtid_position":"MySQL56/\"x\":1-5","extracted_at":1700000000123456789,)"
          R"("sequence_number":42}},"emitted_at":1700000000123}})"
          "\n");
  out.clear();
  auto without = compiled(stream, fields(), false);
  REQUIRE(append_record(without, out, wire_row({"1", "a", std::nullopt}).view(), with));
  CHECK(out == head + R"("id":1},"emitted_at":1700000000123}})" + "\n");
  stream.selected = {"_planetscale_metadata"};
  auto alone = compiled(stream, fields(), true);
  out.clear();
  REQUIRE(append_record(alone, out, wire_row({"1", "a", std::nullopt}).view(), with));
  CHECK(out.find(R"("data":{"_planetscale_metadata":{)") != std::string::npos);
}

TEST_CASE("a change of primary key is seen by its bytes") {
  auto stream = shape();
  stream.table.primary_key = {"id", "na\"me"};
  const auto encoder = compiled(stream, fields());
  const wire_row base({"1", "a", "2024-02-29"});
  CHECK(encoder.same_key(base.view(), wire_row({"1", "a", std::nullopt}).view()));
  CHECK_FALSE(encoder.same_key(base.view(), wire_row({"2", "a", "2024-02-29"}).view()));
  CHECK_FALSE(encoder.same_key(base.view(), wire_row({"1", "A", "2024-02-29"}).view()));
  CHECK(encoder.same_key(wire_row({"1", std::nullopt, std::nullopt}).view(), base.view()));
  CHECK(encoder.same_key(wire_row({"9"}).view(), row_view{}));
  CHECK(encoder.same_key(row_view{}, base.view()));
}

TEST_CASE("without a primary key that counts by which rows are told apart, whatever the flags") {
  auto stream = shape();
  stream.table.primary_key.clear();
  stream.table.identity = {"na\"me"};
  const auto encoder = compiled(stream, fields());
  const wire_row base({"1", "a", "2024-02-29"});
  CHECK(encoder.same_key(base.view(), wire_row({"2", "a", std::nullopt}).view()));
  CHECK_FALSE(encoder.same_key(base.view(), wire_row({"1", "b", std::nullopt}).view()));
}

TEST_CASE("without discovery's key the flags of the FIELD event tell, and without any key no key changes") {
  auto stream = shape();
  stream.table.primary_key.clear();
  const auto flagged = compiled(stream, fields());
  CHECK_FALSE(
      flagged.same_key(wire_row({"1", "a", std::nullopt}).view(), wire_row({"2", "a", std::nullopt}).view()));
  auto event = fields();
  event.columns[0].flags = 0;
  const auto keyless = compiled(stream, event);
  CHECK(
      keyless.same_key(wire_row({"1", "a", std::nullopt}).view(), wire_row({"2", "a", std::nullopt}).view()));
}

TEST_CASE("unknown types and undecodable character sets warn once per column") {
  auto stream = shape();
  stream.table.columns[1].character_set = "keybcs2";
  auto event = fields();
  event.columns[0] = {"id", 2999, "hologram(3)", 0, 0};
  auto encoder = compiled(stream, event);
  REQUIRE(encoder.warnings().size() == 2);
  CHECK(encoder.warnings()[0].find("hologram(3)") != std::string::npos);
  CHECK(encoder.warnings()[1].find("keybcs2") != std::string::npos);

  // A column that discovery did not see, in a set that Vitess does not name.
  stream = shape();
  stream.table.columns.clear();
  event = fields();
  event.columns[1].charset = 0;
  CHECK(compiled(stream, event).warnings().size() == 1);
  event.columns[1].charset = 8;
  auto latin1 = compiled(stream, event);
  CHECK(latin1.warnings().empty());
  std::string out;
  REQUIRE(append_record(latin1, out, wire_row({"1", "\xe9", std::nullopt}).view(), context()));
  CHECK(out.find("\"é\"") != std::string::npos);
}

TEST_CASE("the character set is the one that the tablet tells, where it tells the column's own") {
  constexpr std::uint32_t latin1 = 8, utf8mb4 = 255, binary = 63, unknown_to_vitess = 0;
  const auto cafe = [](const char* discovered, std::uint32_t told, bool tells_own, const std::string& bytes) {
    auto stream = shape();
    stream.table.columns[1].character_set = discovered;
    auto event = fields();
    event.enum_set_string_values = tells_own;
    event.columns[1].charset = told;
    auto encoder = compiled(stream, event);
    CHECK(encoder.character_set(0).empty());
    CHECK(encoder.character_set(1) == (bytes == "caf\xe9" ? "latin1" : "utf8mb4"));
    std::string out;
    REQUIRE(append_record(encoder, out, wire_row({"1", bytes, std::nullopt}).view(), context()));
    return out.find("\"café\"") != std::string::npos;
  };
  const std::string in_latin1 = "caf\xe9";
  const std::string in_utf8 = "caf\xc3\xa9";
  // Converted since discovery, or on this shard before others.
  CHECK(cafe("latin1", utf8mb4, true, in_utf8));
  CHECK(cafe("utf8mb4", latin1, true, in_latin1));
  // Vitess 19 and older name the connection's.
  CHECK(cafe("latin1", utf8mb4, false, in_latin1));
  CHECK(cafe("latin1", binary, true, in_latin1));
  CHECK(cafe("latin1", unknown_to_vitess, true, in_latin1));
}

TEST_CASE("a column with a name of ours is left out of schema and records") {
  auto stream = shape();
  column_definition clash;
  clash.name = "_ab_cdc_cursor";
  clash.column_type = "varchar(3)";
  stream.table.columns.push_back(clash);
  auto event = fields();
  event.columns.push_back({"_ab_cdc_cursor", varchar_type, "varchar(3)", 45, 0});
  auto encoder = compiled(stream, event);
  CHECK(encoder.warnings().size() == 1);
  std::string out;
  REQUIRE(append_record(encoder, out, wire_row({"1", "a", std::nullopt, "mine"}).view(), context()));
  CHECK(out.find("mine") == std::string::npos);

  const std::string schema = json_schema(stream.table, {});
  const auto first = schema.find("_ab_cdc_cursor");
  CHECK(schema.find("_ab_cdc_cursor", first + 1) == std::string::npos);
}

TEST_CASE("a stream's schema has its columns in order, then the CDC columns") {
  const auto table = shape().table;
  const std::string instant =
      R"({"type":["null","string"],"format":"date-time","airbyte_type":"timestamp_with_timezone"})";
  const std::string integer = R"({"type":["null","number"],"airbyte_type":"integer"})";
  const std::string columns =
      R"({"type":"object","properties":{"id":{"type":["number"],"airbyte_type":"integer"},"na\"me":{"type":["null","string"]},)"
      R"("day":{"type":["null","string"],"format":"date"},"_ab_cdc_updated_at":)" +
      instant;
  CHECK(json_schema(table, {}) ==
        columns + R"(,"_ab_cdc_deleted_at":)" + instant + R"(,"_ab_cdc_cursor":)" + integer + "}}");
  schema_options options;
  options.capture_deletes = false;
  CHECK(json_schema(table, options) == columns + R"(,"_ab_cdc_cursor":)" + integer + "}}");
  options.include_metadata = true;
  rapidjson::Document document;
  const std::string whole = json_schema(table, options);
  document.Parse(whole.data(), whole.size());
  REQUIRE_FALSE(document.HasParseError());
  CHECK(document["properties"]["_planetscale_metadata"]["properties"].MemberCount() == 3);
}

TEST_CASE("a table with no columns in front still has a valid schema") {
  table_definition table;
  rapidjson::Document document;
  const std::string schema = json_schema(table, {});
  document.Parse(schema.data(), schema.size());
  REQUIRE_FALSE(document.HasParseError());
  CHECK(document["properties"].MemberCount() == 3);
}

TEST_CASE("a large value is written whole, and the encoder works on") {
  auto encoder = compiled(shape(), fields());
  std::string out;
  REQUIRE(append_record(encoder, out, wire_row({"1", std::string(5000000, '\n'), std::nullopt}).view(),
                                context()));
  CHECK(out.size() > 10000000);
  out.clear();
  REQUIRE(append_record(encoder, out, wire_row({"1", "small", std::nullopt}).view(), context()));
  CHECK(out.find("\"small\"") != std::string::npos);
}

TEST_CASE("what was compiled is shared, but not the decoders of multi-byte character sets") {
  const record_encoder first = compiled(shape(), fields());
  REQUIRE(first.shareable());
  record_encoder second = first.another();
  CHECK(second.column_count() == first.column_count());
  CHECK(second.room() == first.room());
  stream_shape chinese = shape();
  chinese.table.columns[1].character_set = "gbk";
  CHECK_FALSE(compiled(chinese, fields()).shareable());
}
