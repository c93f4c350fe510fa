// What a real Vitess sent, row by row: the copy and the binlog must give the expected values.
#include <doctest/doctest.h>
#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>

#include <fstream>
#include <iterator>
#include <map>
#include <set>

#include "protocol/mapping/record_encoder.hpp"
#include "vtgate.pb.h"
#include "wire_row.hpp"

using namespace psource;
using psource::testing::append_record;

namespace {

std::vector<vtgate::VStreamResponse> load(const std::string& name) {
  std::ifstream in(std::string(PSOURCE_TEST_DATA) + "/recordings/" + name, std::ios::binary);
  const std::string bytes((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
  REQUIRE_FALSE(bytes.empty());
  google::protobuf::io::CodedInputStream stream(reinterpret_cast<const std::uint8_t*>(bytes.data()),
                                                static_cast<int>(bytes.size()));
  std::vector<vtgate::VStreamResponse> responses;
  std::uint32_t size = 0;
  while (stream.ReadVarint32(&size)) {
    std::string message;
    REQUIRE(stream.ReadString(&message, static_cast<int>(size)));
    responses.emplace_back();
    REQUIRE(responses.back().ParseFromString(message));
  }
  return responses;
}

/// A query.Row as the in-place decoder would show it: Protobuf has unpacked the lengths, so they are packed
/// again.
struct packed_row {
  explicit packed_row(const query::Row& row) : values(row.values()) {
    for (const std::int64_t length : row.lengths()) {
      auto raw = (static_cast<std::uint64_t>(length) << 1) ^ static_cast<std::uint64_t>(length >> 63);
      for (; raw >= 0x80; raw >>= 7) lengths.push_back(static_cast<char>(raw | 0x80));
      lengths.push_back(static_cast<char>(raw));
    }
  }
  row_view view() const { return {lengths, values, true}; }
  std::string lengths;
  std::string values;
};

struct delivered {
  bool copied;
  bool deleted;
  bool updated;
  std::string data;     ///< `"id":1,…` without braces
  std::string changes;  ///< "dt NULLED,dtm NULLED"
};

/// Every row image of a table, encoded by the FIELD event before it.
std::vector<delivered> replay(const std::string& recording, const std::string& table,
                              const std::map<std::string, std::string>& character_sets) {
  std::vector<delivered> result;
  std::optional<record_encoder> encoder;
  for (const auto& response : load(recording)) {
    for (const auto& event : response.events()) {
      if (event.type() == binlogdata::FIELD && event.field_event().table_name() == table) {
        stream_shape shape;
        shape.id = {keyspace_name("unsharded"), table_name(table)};
        field_event fields;
        fields.table = table_name(table);
        fields.enum_set_string_values = event.field_event().enum_set_string_values();
        for (const auto& field : event.field_event().fields()) {
          fields.columns.push_back({field.name(), static_cast<std::int32_t>(field.type()),
                                    field.column_type(), field.charset(), field.flags()});
          column_definition column;
          column.name = field.name();
          column.column_type = field.column_type();
          const auto found = character_sets.find(column.name);
          if (found != character_sets.end()) column.character_set = found->second;
          shape.table.columns.push_back(column);
          shape.selected.push_back(column.name);
        }
        auto compiled = record_encoder::compile(shape, fields, {});
        REQUIRE(compiled);
        CHECK(compiled->warnings().empty());
        encoder.emplace(std::move(*compiled));
      }
      if (event.type() != binlogdata::ROW || event.row_event().table_name() != table) continue;
      REQUIRE(encoder);
      for (const auto& change : event.row_event().row_changes()) {
        const bool deleted = !change.has_after();
        const packed_row row(deleted ? change.before() : change.after());
        record_context context;
        context.emitted_at_ms = 1;
        context.copied = event.timestamp() == 0;
        std::string line;
        REQUIRE(append_record(*encoder, line, row.view(), context));
        const std::string opening = "\"data\":{";
        const auto from = line.find(opening) + opening.size();
        const auto to = line.find("},\"emitted_at\":1");
        REQUIRE(to != std::string::npos);
        delivered record{context.copied, deleted, change.has_before() && !deleted,
                         line.substr(from, to - from), ""};
        for (auto at = line.find("{\"field\":\"", to); at != std::string::npos;
             at = line.find("{\"field\":\"", at + 1)) {
          const auto name_at = at + 10;
          const auto name_end = line.find('"', name_at);
          const auto change_at = line.find("\"change\":\"", name_end) + 10;
          if (!record.changes.empty()) record.changes += ",";
          record.changes += line.substr(name_at, name_end - name_at) + " " +
                            line.substr(change_at, line.find('"', change_at) - change_at);
        }
        result.push_back(record);
      }
    }
  }
  return result;
}

struct expected {
  std::string data;
  std::string changes;
};

const char* const alltypes_columns[] = {"t",  "tu",  "t1", "sm",  "md", "i",   "iu",   "bi", "bu",
                                        "f",  "d",   "dc", "dc0", "dt", "dtm", "dtm6", "ts", "ts3",
                                        "tm", "tm6", "y",  "c",   "vc", "vcl", "tx",   "bn", "vb",
                                        "bl", "b1",  "b9", "e",   "s",  "j",   "g",    "vec"};

std::string row(int id, const std::vector<std::string>& values) {
  REQUIRE(values.size() == std::size(alltypes_columns));
  std::string text = "\"id\":" + std::to_string(id);
  for (std::size_t i = 0; i < values.size(); ++i)
    text += ",\"" + std::string(alltypes_columns[i]) + "\":" + values[i];
  return text;
}

/// The rows of `alltypes`; the binlog phase inserted copies of rows 1 to 8 as 101 to 108.
expected alltypes(int id, bool copied) {
  const int n = copied ? id : id - 100;
  const std::string s = std::to_string(n);
  if (n == 1) return {row(id, std::vector<std::string>(std::size(alltypes_columns), "null")), ""};
  if (n == 2)
    return {row(id, {"127",
                     "255",
                     "true",
                     "32767",
                     "8388607",
                     "2147483647",
                     "4294967295",
                     "9223372036854775807",
                     "18446744073709551615",
                     "3.4e38",
                     "1.7976931348623157e308",
                     "999999999999999.99999",
                     "9999999999",
                     R"("9999-12-31")",
                     R"("9999-12-31T23:59:59.000000")",
                     R"("9999-12-31T23:59:59.999999")",
                     R"("2038-01-19T03:14:07.000000Z")",
                     R"("2038-01-19T03:14:07.999000Z")",
                     "null",
                     "null",
                     "2155",
                     R"("zzzzz")",
                     R"("naïve ☃")",
                     R"("café")",
                     "\"" + std::string(300, 't') + "\"",
                     R"("/////w==")",
                     R"("AP8Q")",
                     R"("AP/+gA==")",
                     "true",
                     "511",
                     R"("q't")",
                     R"("a,b,c")",
                     R"("{\"a\":[1,2.5,true,null,\"x\"],\"d\":0.1}")",
                     "\"POINT(1 2)\"",
                     "[1,2,3]"}),
            "tm NULLED,tm6 NULLED"};
  if (n == 3)
    return {row(id, {"-128",
                     "0",
                     "false",
                     "-32768",
                     "-8388608",
                     "-2147483648",
                     "0",
                     "-9223372036854775808",
                     "0",
                     "-3.99",
                     "-2.5e-308",
                     "-0.50000",
                     "0",
                     R"("1000-01-01")",
                     R"("1000-01-01T00:00:00.000000")",
                     R"("1000-01-01T00:00:00.000001")",
                     R"("1970-01-01T00:00:01.000000Z")",
                     R"("1970-01-01T00:00:01.001000Z")",
                     "null",
                     "null",
                     "1901",
                     R"("")",
                     R"("")",
                     R"("")",
                     R"("")",
                     R"("AAAAAA==")",
                     R"("")",
                     R"("")",
                     "false",
                     "1",
                     R"("x")",
                     R"("")",
                     R"("[]")",
                     R"("GEOMETRYCOLLECTION EMPTY")",
                     "[-0.5]"}),
            "tm NULLED,tm6 NULLED"};
  if (n == 4)
    return {row(id, {"2",
                     "3",
                     "true",
                     "1",
                     "1",
                     "1",
                     "1",
                     "1",
                     "1",
                     "0.1",
                     "0.1",
                     "0.33000",
                     "-5",
                     "null",
                     "null",
                     "null",
                     "null",
                     "null",
                     R"("00:00:00.000000")",
                     "null",
                     "0",
                     R"("a")",
                     R"("tab\tnl\nq\"\\\u0000z")",
                     R"("'q")",
                     R"("")",
                     R"("AAAAAA==")",
                     R"("Ig==")",
                     R"("XA==")",
                     "false",
                     "0",
                     R"("y,z")",
                     R"("c")",
                     R"("\"str\"")",
                     "\"LINESTRING(0 0,1 1)\"",
                     "null"}),
            "dt NULLED,dtm NULLED,dtm6 NULLED,ts NULLED,ts3 NULLED,tm6 NULLED"};
  return {row(id, {s,
                   s,
                   "true",
                   s,
                   s,
                   s,
                   s,
                   s,
                   s,
                   copied ? "16777200" : "16777216",
                   "123456789.12345679",
                   s + ".05000",
                   s,
                   R"("2024-02-29")",
                   R"("2024-02-29T12:34:56.000000")",
                   R"("2024-02-29T12:34:56.120000")",
                   R"("2024-02-29T12:34:56.000000Z")",
                   R"("2024-02-29T12:34:56.789000Z")",
                   R"("12:34:56.000000")",
                   R"("12:34:56.000100")",
                   "2024",
                   R"("ch")",
                   "\"v" + s + "\"",
                   R"("l")",
                   R"("t")",
                   R"("YgAAAA==")",
                   R"("dmI=")",
                   R"("Ymw=")",
                   "true",
                   "341",
                   R"("")",
                   R"("a")",
                   R"("{\"k\":)" + s + R"(,\"t\":\"2024\"}")",
                   "null",
                   "null"}),
          ""};
}

}  // namespace

TEST_CASE(
    "recording copy_then_dml_unsharded: every type gives the expected value in the copy and in the binlog") {
  const std::map<std::string, std::string> sets = {{"c", "utf8mb4"},  {"vc", "utf8mb4"}, {"vcl", "latin1"},
                                                   {"tx", "utf8mb4"}, {"e", "utf8mb4"},  {"s", "utf8mb4"}};
  const auto replaced = [](std::string text, const std::string& from, const std::string& to) {
    const auto at = text.find(from);
    REQUIRE(at != std::string::npos);
    return text.replace(at, from.size(), to);
  };
  std::set<int> copied;
  int updates = 0;
  std::set<int> streamed;
  for (const auto& record : replay("copy_then_dml_unsharded.vstream", "alltypes", sets)) {
    const int id = std::stoi(record.data.substr(5));
    CAPTURE(id);
    CAPTURE(record.copied);
    expected want = alltypes(id, record.copied);
    if (record.updated) {  // update alltypes set vc = 'changed', j = json_set(j, '$.z', 1) where id = 102
      want.data = replaced(want.data, "naïve ☃", "changed");
      want.data = replaced(want.data, "0.1}", R"(0.1,\"z\":1})");
      ++updates;
    }
    CHECK(record.data == want.data);
    CHECK(record.changes == want.changes);
    (record.copied ? copied : streamed).insert(id);
  }
  CHECK(copied == std::set<int>{1, 2, 3, 4, 5, 6, 7, 8});
  CHECK(updates == 1);
  CHECK(streamed == std::set<int>{101, 102, 103, 104, 105, 106, 107, 108});
}

TEST_CASE(
    "recording charsets_generated: every character set, generated and invisible columns, in both phases") {
  const std::map<std::string, std::string> sets = {
      {"l1", "latin1"}, {"u3", "utf8mb3"}, {"u4", "utf8mb4"},     {"u16", "utf16"}, {"u2", "ucs2"},
      {"u32", "utf32"}, {"g", "gbk"},      {"sj", "sjis"},        {"cp", "cp1251"}, {"koi", "koi8r"},
      {"big", "big5"},  {"asc_", "ascii"}, {"bincol", "utf8mb4"}, {"el", "latin1"}};
  const auto texts = [](const char* id, const char* el) {
    return "\"id\":\"" + std::string(id) +
           "\",\"sub\":1,\"l1\":\"café "
           "€\",\"u3\":\"日本\",\"u4\":\"😀\",\"u16\":\"日本\",\"u2\":\"日本\",\"u32\":\"😀\","
           "\"g\":\"中文\",\"sj\":\"日本語\",\"cp\":\"Привет\",\"koi\":\"Привет\",\"big\":\"中文\",\"asc_\":"
           "\"ascii\","
           "\"bincol\":\"Bin\",\"charbin\":\"AP9BAAAA\",\"el\":\"" +
           el + "\",\"gen\":2,\"gens\":2,\"inv\":7";
  };
  const auto nulls = [](const char* id, const char* sub, const char* generated) {
    return "\"id\":\"" + std::string(id) + "\",\"sub\":" + sub +
           ",\"l1\":null,\"u3\":null,\"u4\":null,\"u16\":null,\"u2\":null,\"u32\":null,\"g\":null,\"sj\":"
           "null,\"cp\":null,"
           "\"koi\":null,\"big\":null,\"asc_\":null,\"bincol\":null,\"charbin\":null,\"el\":null," +
           generated;
  };
  const std::string empties =
      "\"id\":\"////"
      "\",\"sub\":65535,\"l1\":\"\",\"u3\":\"\",\"u4\":\"\",\"u16\":\"\",\"u2\":\"\",\"u32\":\"\",\"g\":\"\","
      "\"sj\":\"\",\"cp\":\"\",\"koi\":\"\",\"big\":\"\",\"asc_\":\"\",\"bincol\":\"\",\"charbin\":"
      "\"AAAAAAAA\",\"el\":\"ü\","
      "\"gen\":65536,\"gens\":131070,\"inv\":7";

  const auto records = replay("charsets_generated.vstream", "charsets", sets);
  const std::vector<std::string> want = {
      texts("AAH/", "é"),                                    // copy: the label in latin1
      nulls("AAH/", "2", "\"gen\":3,\"gens\":4,\"inv\":7"),  //
      empties,                                               //
      texts("AQID", "é"),                                    // binlog: the label in UTF-8
      nulls("AQID", "2", "\"gen\":3,\"gens\":4,\"inv\":7"),  //
      nulls("AQID", "3", "\"gen\":4,\"gens\":6,\"inv\":7"),  // update of the key
      empties,                                               // delete
  };
  REQUIRE(records.size() == want.size());
  for (std::size_t i = 0; i < want.size(); ++i) {
    CAPTURE(i);
    CHECK(records[i].data == want[i]);
    CHECK(records[i].changes.empty());
    CHECK(records[i].copied == (i < 3));
    CHECK(records[i].deleted == (i == 6));
  }
}
