// Rows to RECORD lines, for every type. Input: options (1 byte), the index of a type below (1 byte; above
// them the type follows: number and collation, 4 bytes each, then column type, character set and name, each
// with a varint length), then the value; with option bit 7 a varint length, the row's lengths as on the wire,
// and its values.
#include "protocol/mapping/record_encoder.hpp"

#include "fuzz/fuzz.hpp"
#include "tests/mapping/wire_row.hpp"

using namespace psource;

namespace {

struct known_type {
  std::int32_t number;
  const char* text;
  std::uint32_t collation = 63;
  const char* charset = "";
};

constexpr known_type types[] = {
    {257, "tinyint"},
    {257, "tinyint(1)"},
    {770, "tinyint(1) unsigned zerofill"},
    {265, "bigint"},
    {778, "bigint(20) unsigned"},
    {785, "year"},
    {18, "decimal(20,5)"},
    {18, "decimal(65,30) unsigned"},
    {1035, "float"},
    {1036, "double"},
    {2073, "bit(1)"},
    {2073, "bit(64)"},
    {2062, "date"},
    {2064, "datetime(6)"},
    {2061, "timestamp(3)"},
    {2063, "time(6)"},
    {2074, "enum('x','y,z','q''t','(p)','back\\slash')", 255, "utf8mb4"},
    {2074, "enum('\xc3\xa9','\xc3\xbc')", 8, "latin1"},
    {2075, "set('a','b','c')", 255, "utf8mb4"},
    {2075, "set('\xc3\xa9','\xc3\xbc')", 8, "latin1"},
    {2078, "json"},
    {2077, "geometry"},
    {2077, "point"},
    {2083, "vector(3)"},
    {10264, "binary(4)"},
    {10262, "varbinary(10)"},
    {10260, "longblob"},
    {6163, "longtext", 255, "utf8mb4"},
    {6165, "varchar(20)", 255, "utf8mb4"},
    {6167, "char(5)", 33, "utf8mb3"},
    {6163, "text", 8, "latin1"},
    {6165, "varchar(9)", 11, "ascii"},
    {6165, "varchar(9)", 54, "utf16"},
    {6165, "varchar(9)", 56, "utf16le"},
    {6165, "varchar(9)", 60, "utf32"},
    {6165, "varchar(9)", 35, "ucs2"},
    {6165, "varchar(9)", 28, "gbk"},
    {6165, "varchar(9)", 248, "gb18030"},
    {6165, "varchar(9)", 13, "sjis"},
    {6165, "varchar(9)", 95, "cp932"},
    {6165, "varchar(9)", 1, "big5"},
    {6165, "varchar(9)", 12, "ujis"},
    {6165, "varchar(9)", 19, "euckr"},
    {6165, "varchar(9)", 51, "cp1251"},
    {6165, "varchar(9)", 6, "hp8"},
    {6165, "varchar(9)", 0, "unheard_of"},
    {9999, "unheard_of(3)"},
};
constexpr std::size_t type_count = sizeof(types) / sizeof(types[0]);

}  // namespace

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  fuzz::input in(data, size);
  const auto options = in.byte();
  const auto choice = in.byte();
  wire_column wire;
  wire.name = "v";
  std::string charset;
  if (choice < type_count) {
    wire.type = types[choice].number;
    wire.column_type = types[choice].text;
    wire.charset = types[choice].collation;
    charset = types[choice].charset;
  } else {
    wire.type = static_cast<std::int32_t>(in.number(4));
    wire.charset = static_cast<std::uint32_t>(in.number(4));
    wire.column_type = std::string(in.sized());
    charset = std::string(in.sized());
    wire.name = std::string(in.sized());
  }
  const bool key = (options & 1) != 0;
  wire.flags = key ? 2 : 0;

  stream_shape shape;
  shape.id = {keyspace_name("ks"), table_name("t")};
  shape.table.id = shape.id;
  shape.table.columns.push_back({wire.name, wire.column_type, true, charset, "", false, false});
  if (key) shape.table.primary_key = {wire.name};
  if ((options & 2) != 0)
    shape.selected = {wire.name, cdc_updated_at, cdc_deleted_at, cdc_cursor, planetscale_metadata};
  field_event fields;
  fields.table = table_name("t");
  fields.columns = {{"id", 265, "bigint", 63, 0}, wire};
  fields.enum_set_string_values = (options & 4) != 0;
  encoder_options chosen;
  chosen.types.tiny_int_as_boolean = (options & 8) == 0;
  chosen.types.time_as_string = (options & 16) != 0;
  chosen.include_metadata = (options & 32) != 0;
  auto encoder = record_encoder::compile(shape, fields, chosen);
  if (!encoder) {
    FUZZ_CHECK(!encoder.error().message.empty());
    return 0;
  }
  FUZZ_CHECK(encoder->column_count() == 2);

  record_context context;
  context.copied = (options & 64) != 0;
  context.emitted_at_ms = 1'700'000'000'000;
  context.cdc_cursor = 1'700'000'000'000'000;
  context.updated_at_micros = context.cdc_cursor;
  context.position = in.rest().substr(0, 20);
  const auto encode = [&](const row_view& row) {
    const std::string kept = "kept";
    text_buffer lines;
    lines.append(kept);
    const auto done = encoder->append_record(lines, row, context);
    const std::string out(lines.view());
    if (!done) {
      FUZZ_CHECK(out == kept && done.error().code == error_code::response_malformed);
      return false;
    }
    const std::string line = out.substr(kept.size());
    FUZZ_CHECK(fuzz::is_message(line));
    rapidjson::Document document;
    FUZZ_CHECK(fuzz::parse(document, std::string_view(line).substr(0, line.size() - 1)));
    FUZZ_CHECK(document["record"].HasMember("data") && document["record"]["data"].IsObject());
    return true;
  };
  if ((options & 128) != 0) {
    const auto lengths = in.sized();
    const row_view row{lengths, in.rest(), true};
    encode(row);
    encoder->same_key(row, {in.rest(), lengths, true});
    return 0;
  }
  const std::string value(in.rest());
  for (const auto& row :
       {testing::wire_row({std::string("1"), value}), testing::wire_row({std::nullopt, std::nullopt})}) {
    // Whatever the value is, it never costs the record.
    FUZZ_CHECK(encode(row.view()));
    FUZZ_CHECK(encoder->same_key(row.view(), row.view()));
    context.deleted = encoder->delivers_deletes();
  }
  return 0;
}
