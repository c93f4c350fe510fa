// Counts allocations: encoding a row makes none once the buffers have grown.
#include <doctest/doctest.h>

#include <atomic>
#include <cstdlib>
#include <new>

#include "protocol/mapping/record_encoder.hpp"
#include "wire_row.hpp"

namespace {
std::atomic<std::size_t> allocations{0};
}

// Not inlined: g++ takes a visible free() of memory from new for a mismatch.
[[gnu::noinline]] void* operator new(std::size_t size) {
  ++allocations;
  if (void* memory = std::malloc(size == 0 ? 1 : size)) return memory;
  throw std::bad_alloc();
}
[[gnu::noinline]] void operator delete(void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }

using namespace psource;
using psource::testing::wire_row;

TEST_CASE("encoding a row allocates nothing, changes and transcoding included") {
  stream_shape shape;
  shape.id = {keyspace_name("ks"), table_name("t")};
  const char* const types[] = {"bigint",        "double", "datetime(6)", "text",
                               "enum('é','b')", "json",   "blob",        "point"};
  const std::int32_t numbers[] = {265, 1036, 2064, 6163, 2074, 2078, 10260, 2077};
  field_event fields;
  fields.enum_set_string_values = true;
  for (std::size_t i = 0; i < std::size(types); ++i) {
    const std::string name = "a_rather_long_name_of_a_column_" + std::to_string(i);
    column_definition column;
    column.name = name;
    column.column_type = types[i];
    if (i == 3) column.character_set = "gbk";
    if (i == 4) column.character_set = "latin1";
    shape.table.columns.push_back(column);
    shape.selected.push_back(name);
    fields.columns.push_back({name, numbers[i], types[i], 0, 0});
  }
  shape.selected.push_back("_ab_cdc_cursor");
  auto encoder = record_encoder::compile(shape, fields, {});
  REQUIRE(encoder);
  const wire_row row({"1", "1.5E+00", "0000-00-00 00:00:00", "\xd6\xd0\xce", "\xe9", R"({"a": [1, 2]})",
                      std::string(1000, 'x'), std::string("\0\0\0\0\1\1\0\0\0", 9) + std::string(16, '\0')});
  text_buffer out;
  out.reserve(1 << 20);
  record_context context;
  for (int warm_up = 0; warm_up < 2; ++warm_up) REQUIRE(encoder->append_record(out, row.view(), context));
  const std::size_t before = allocations;
  bool good = true;
  for (int i = 0; i < 100; ++i) {
    context.cdc_cursor = i;  // so that the kept text is made anew as well
    good = good && encoder->append_record(out, row.view(), context).has_value();
  }
  CHECK(allocations == before);
  CHECK(good);
}
