// Texts of column types. Input: a first byte (options) and the text.
#include "protocol/mapping/column_type.hpp"

#include "fuzz/fuzz.hpp"
#include "protocol/mapping/type_table.hpp"

using namespace psource;

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  fuzz::input in(data, size);
  const auto options = in.byte();
  const std::string text(in.rest());
  const column_type type = parse_column_type(text);
  FUZZ_CHECK(type.members.size() <= 65535);
  FUZZ_CHECK(type.kind == type_kind::enum_ || type.kind == type_kind::set || type.members.empty());
  FUZZ_CHECK(to_string(type.kind) != nullptr);

  schema_options schema;
  schema.types.tiny_int_as_boolean = (options & 1) == 0;
  schema.types.time_as_string = (options & 2) != 0;
  schema.include_metadata = (options & 4) != 0;
  schema.capture_deletes = (options & 8) == 0;
  FUZZ_CHECK(fuzz::is_json(property_schema(type, (options & 16) != 0, schema.types)));
  // The text may stand where a name does, too.
  table_definition table;
  table.id = {keyspace_name("ks"), table_name(text)};
  table.columns.push_back({text, text, (options & 16) != 0, text, "", false, false});
  rapidjson::Document document;
  FUZZ_CHECK(fuzz::parse(document, json_schema(table, schema)) && document.IsObject());
  FUZZ_CHECK(document["properties"].MemberCount() >= 2);

  if (size >= 9) {
    fuzz::input numbers(data + 1, size - 1);
    const auto number = static_cast<std::int32_t>(numbers.number(4));
    const auto collation = static_cast<std::uint32_t>(numbers.number(4));
    FUZZ_CHECK(fuzz::is_json(property_schema(column_type_of_number(number, collation), true, schema.types)));
  }
  return 0;
}
