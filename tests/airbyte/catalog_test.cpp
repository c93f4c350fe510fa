// Catalogs: the discovered one as text, the configured one as values and as complaints.
#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "protocol/airbyte/catalog.hpp"
#include "protocol/airbyte/messages.hpp"

using namespace psource;

namespace {

const std::vector<keyspace_name> one_keyspace = {keyspace_name("customer")};
const std::vector<keyspace_name> two_keyspaces = {keyspace_name("customer"), keyspace_name("commerce")};

std::string complaint(const std::string& text, const std::vector<keyspace_name>& keyspaces = one_keyspace) {
  const auto catalog = parse_configured_catalog(text, keyspaces);
  if (catalog) return "";
  CHECK(catalog.error().code == error_code::catalog_invalid);
  return catalog.error().message;
}

std::vector<configured_stream> loaded(const std::string& text,
                                      const std::vector<keyspace_name>& keyspaces = one_keyspace) {
  auto catalog = parse_configured_catalog(text, keyspaces);
  REQUIRE_MESSAGE(catalog.has_value(), complaint(text, keyspaces));
  return *catalog;
}

// A catalog of one stream with the given members of the entry and of its `stream`.
std::string entry(const std::string& stream, const std::string& rest = R"("sync_mode":"incremental")") {
  return R"({"streams":[{"stream":{)" + stream + "}" + (rest.empty() ? "" : "," + rest) + "}]}";
}

const std::string plain =
    R"("name":"orders","namespace":"customer","json_schema":{"properties":{"id":{"type":"integer"}}})";

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE(
    "a discovered catalog has both sync modes, a cursor of the source's own and lists for keys (S4, S9, "
    "S11)") {
  const std::vector<discovered_stream> streams = {
      {{keyspace_name("customer"), table_name("orders")},
       R"({"type":"object"})",
       {"region", "id"},
       "_ab_cdc_cursor",
       true},
      {{keyspace_name("ks"), table_name("no`\"key")}, "{}", {}, "", false}};
  CHECK(
      catalog_json(streams) ==
      "{\"streams\":[{\"name\":\"orders\",\"namespace\":\"customer\",\"json_schema\":{\"type\":\"object\"},"
      "\"supported_sync_modes\":[\"full_refresh\",\"incremental\"],\"source_defined_cursor\":true,"
      "\"default_cursor_field\":[\"_ab_cdc_cursor\"],\"source_defined_primary_key\":[[\"region\"],[\"id\"]],"
      "\"is_resumable\":true},{\"name\":\"no`\\\"key\",\"namespace\":\"ks\",\"json_schema\":{},"
      "\"supported_sync_modes\":[\"full_refresh\",\"incremental\"],\"source_defined_cursor\":true,"
      "\"default_cursor_field\":[],\"source_defined_primary_key\":[],\"is_resumable\":false}]}");
  CHECK(catalog_json({}) == "{\"streams\":[]}");
  CHECK(catalog_line({}) == "{\"type\":\"CATALOG\",\"catalog\":{\"streams\":[]}}\n");
}

TEST_CASE("everything in a configured stream is read") {
  const auto streams =
      loaded(R"({"streams":[{"stream":{"name":"orders","namespace":"customer","json_schema":{"type":"object",
      "properties":{"z":{"type":["null","string"]},"id":{"type":"number","airbyte_type":"integer"},"Ä\"":{}}},
      "supported_sync_modes":["full_refresh","incremental"],"source_defined_cursor":true,
      "default_cursor_field":["_ab_cdc_cursor"],"source_defined_primary_key":[["id"]],"is_resumable":true},
      "sync_mode":"full_refresh","destination_sync_mode":"append_dedup","cursor_field":["id"],
      "primary_key":[["z"],["id"]],"generation_id":9223372036854775807,"minimum_generation_id":0,"sync_id":7.0,
      "include_files":false,"surprise":{"a":[]}}],"more":1})");
  REQUIRE(streams.size() == 1);
  const auto& stream = streams[0];
  CHECK(stream.id == stream_id{keyspace_name("customer"), table_name("orders")});
  CHECK(stream.mode == sync_mode::full_refresh);
  CHECK(stream.destination_sync_mode == "append_dedup");
  CHECK(stream.cursor_field == std::vector<std::string>{"id"});
  CHECK(stream.primary_key == std::vector<std::vector<std::string>>{{"z"}, {"id"}});
  CHECK(stream.default_cursor_field == std::vector<std::string>{"_ab_cdc_cursor"});
  CHECK(stream.source_defined_primary_key == std::vector<std::vector<std::string>>{{"id"}});
  CHECK(stream.generation_id == 9223372036854775807LL);
  CHECK(stream.minimum_generation_id == 0);
  CHECK(stream.sync_id == 7);
  CHECK(stream.declares_properties);
  REQUIRE(stream.properties.size() == 3);
  CHECK(stream.properties[0].name == "z");
  CHECK(stream.properties[0].schema == R"({"type":["null","string"]})");
  CHECK(stream.properties[1].name == "id");
  CHECK(stream.properties[2].name == "Ä\"");
  REQUIRE(stream.find("id") != nullptr);
  CHECK(stream.find("id")->schema == R"({"type":"number","airbyte_type":"integer"})");
  CHECK(stream.find("ID") == nullptr);
}

TEST_CASE("nulls and absent keys are tolerated where the protocol allows them") {
  const auto nulls = loaded(
      entry(plain + R"(,"default_cursor_field":null,"source_defined_primary_key":null,"is_resumable":null)",
            R"("sync_mode":"incremental","destination_sync_mode":null,"cursor_field":null,
      "primary_key":null,"generation_id":null,"minimum_generation_id":null,"sync_id":null,"include_files":null)"));
  REQUIRE(nulls.size() == 1);
  CHECK(nulls[0].mode == sync_mode::incremental);
  CHECK(nulls[0].destination_sync_mode.empty());
  CHECK(nulls[0].primary_key.empty());
  CHECK_FALSE(nulls[0].generation_id.has_value());
  CHECK_FALSE(nulls[0].sync_id.has_value());
  CHECK(loaded(R"({"streams":[]})").empty());
  CHECK(loaded(entry(R"("name":"t","json_schema":{"properties":{}})"))[0].declares_properties);
  CHECK_FALSE(loaded(entry(R"("name":"t","json_schema":{})"))[0].declares_properties);
  CHECK_FALSE(loaded(entry(R"("name":"t","json_schema":{"properties":null})"))[0].declares_properties);
}

TEST_CASE("a stream without namespace belongs to the only keyspace") {
  for (const std::string space : {"", R"(,"namespace":null)", R"(,"namespace":"")"}) {
    const auto text = entry(R"("name":"t","json_schema":{})" + space);
    CAPTURE(text);
    CHECK(loaded(text)[0].id == stream_id{keyspace_name("customer"), table_name("t")});
    CHECK(contains(complaint(text, two_keyspaces), "stream \"t\" lacks the key `stream.namespace`"));
  }
  CHECK(loaded(entry(R"("name":"t","json_schema":{},"namespace":"gone")"))[0].id.keyspace ==
        keyspace_name("gone"));
}

TEST_CASE("what is wrong with a catalog is said with the stream's name") {
  struct row {
    std::string text, part;
  };
  const std::vector<row> rows = {
      {"", "is empty"},
      {"null", "must be an object with a list"},
      {"[]", "must be an object with a list"},
      {"{}", "must be an object with a list"},
      {R"({"streams":{}})", "must be an object with a list"},
      {R"({"streams":null})", "must be an object with a list"},
      {R"({"streams":[5]})", "entry 1 of `streams` must be an object, but is a number"},
      {R"({"streams":[null]})", "entry 1 of `streams` must be an object, but is null"},
      {R"({"streams":[{}]})", "entry 1 of `streams` lacks the key `stream`"},
      {R"({"streams":[{"stream":[]}]})", "it is an array"},
      {entry(""), "lacks the key `stream.name`"},
      {entry(R"("name":"")"), "it is empty"},
      {entry(R"("name":7)"), "it is a number"},
      {entry(R"("name":"t","namespace":7)"), "stream \"t\" must have a text as `stream.namespace`"},
      {entry(plain, ""), "stream \"customer.orders\" lacks the key `sync_mode`"},
      {entry(plain, R"("sync_mode":null)"), "lacks the key `sync_mode`"},
      {entry(plain, R"("sync_mode":1)"), "a text as `sync_mode`, but it is a number"},
      {entry(plain, R"("sync_mode":"INVALID")"),
       "stream \"customer.orders\" has the unknown `sync_mode` \"INVALID\""},
      {entry(plain, R"("sync_mode":"incremental","destination_sync_mode":[])"), "`destination_sync_mode`"},
      {entry(plain, R"("sync_mode":"incremental","cursor_field":"id")"), "`cursor_field`"},
      {entry(plain, R"("sync_mode":"incremental","cursor_field":[1])"), "`cursor_field`"},
      {entry(plain, R"("sync_mode":"incremental","primary_key":{})"), "`primary_key`"},
      {entry(plain, R"("sync_mode":"incremental","primary_key":["id"])"), "`primary_key`"},
      {entry(plain, R"("sync_mode":"incremental","primary_key":[[null]])"), "`primary_key`"},
      {entry(plain, R"("sync_mode":"incremental","generation_id":"1")"),
       "`generation_id`, but it is a string"},
      {entry(plain, R"("sync_mode":"incremental","generation_id":1.5)"), "`generation_id`, but it is 1.5"},
      {entry(plain, R"("sync_mode":"incremental","sync_id":9223372036854775808)"), "`sync_id`"},
      {entry(plain, R"("sync_mode":"incremental","minimum_generation_id":[])"), "`minimum_generation_id`"},
      {entry(plain + R"(,"default_cursor_field":5)"), "`stream.default_cursor_field`"},
      {entry(plain + R"(,"source_defined_primary_key":"id")"), "`stream.source_defined_primary_key`"},
      {entry(R"("name":"t")"), "lacks the key `stream.json_schema`"},
      {entry(R"("name":"t","json_schema":null)"), "lacks the key `stream.json_schema`"},
      {entry(R"("name":"t","json_schema":"x")"), "`stream.json_schema`, but it is a string"},
      {entry(R"("name":"t","json_schema":{"properties":[]})"),
       "`stream.json_schema.properties`, but it is an array"},
      {R"({"streams":[{"stream":{)" + plain + R"(},"sync_mode":"incremental"},{"stream":{)" + plain +
           R"(},"sync_mode":"full_refresh"}]})",
       "stream \"customer.orders\" is in it twice"},
      {"{\"streams\":[\n{\"stream\" 5}]}", "(line 2, column 11)"},
      {std::string(400000, '['), "nests deeper than 100 levels"},
      {entry(R"("name":"t","json_schema":{"properties":)" + std::string(400000, '[')), "nests deeper"},
  };
  for (const auto& row : rows) {
    CAPTURE(row.text.substr(0, 200));
    const auto message = complaint(row.text);
    CHECK_MESSAGE(contains(message, row.part), message);
    CHECK((message.empty() || message.back() == '.'));
  }
}

TEST_CASE("a complaint about a named stream carries its descriptor") {
  const auto catalog = parse_configured_catalog(entry(plain, R"("sync_mode":"INVALID")"), one_keyspace);
  REQUIRE_FALSE(catalog.has_value());
  CHECK(catalog.error().stream == stream_id{keyspace_name("customer"), table_name("orders")});
}

TEST_CASE("a catalog that was cut anywhere is refused") {
  const auto whole = entry(plain, R"("sync_mode":"incremental","primary_key":[["id"]])");
  CHECK(loaded(whole).size() == 1);
  for (std::size_t size = 0; size < whole.size(); ++size) {
    CAPTURE(size);
    CHECK_FALSE(complaint(whole.substr(0, size)).empty());
  }
}

TEST_CASE("what a property declares is told apart, and nothing is made of what cannot be read") {
  const auto moment = declared_type_of(
      R"({"airbyte_type":"timestamp_with_timezone","type":["null","string"],"format":"date-time"})");
  CHECK(moment.types == std::vector<std::string>{"string"});
  CHECK(moment.format == "date-time");
  CHECK(moment.airbyte_type == "timestamp_with_timezone");
  CHECK(moment.content_encoding.empty());
  CHECK(declared_type_of(R"({"type":"string","contentEncoding":"base64"})").content_encoding == "base64");
  CHECK(declared_type_of(R"({"type":"string"})").types == std::vector<std::string>{"string"});
  CHECK(declared_type_of(R"({"type":["number","string"]})").types.size() == 2);
  for (const auto* text : {"{}", "true", "[]", "", R"({"type":7,"format":[]})", R"({"oneOf":[{"type":"string"}]})"}) {
    const auto none = declared_type_of(text);
    CHECK(none.types.empty());
    CHECK(none.format.empty());
  }
}
