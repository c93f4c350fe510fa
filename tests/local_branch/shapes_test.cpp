// Tables of other row shapes: their rows are whole, stay within their bound, and are what the shape promises.
#include "local_branch/shapes.hpp"

#include <doctest/doctest.h>

#include <algorithm>

using namespace psource;
using namespace psource::local_branch;

TEST_CASE("every shape makes whole rows with a value for each column, the same each time") {
  for (const auto& name : shape_names()) {
    CAPTURE(name);
    const auto table = shaped_table(name, 100);
    REQUIRE(table);
    CHECK(table->schema.name == "shape_" + name);
    CHECK(table->row_count == 100);
    CHECK_FALSE(table->writable);
    byte_buffer buffer;
    for (const std::int64_t id : {1, 9, 100, 123456789}) {
      std::string bytes[2];
      for (auto& once : bytes) {
        char* const at = buffer.reserve(table->rows->max_size());
        const char* const end = table->rows->write(at, id, 0, row_text::mysql);
        REQUIRE(static_cast<std::size_t>(end - at) <= table->rows->max_size());
        once.assign(at, static_cast<std::size_t>(end - at));
      }
      CHECK(bytes[0] == bytes[1]);
      const auto values = read_row(bytes[0]);
      REQUIRE(values);
      CHECK(values->size() == table->schema.columns.size());
      CHECK(values->front() == std::to_string(id));
    }
  }
  CHECK_FALSE(shaped_table("round", 1));
}

TEST_CASE("shapes are as wide and as large as they say") {
  const auto sizes = [](const char* name) {
    const auto table = shaped_table(name, 1);
    byte_buffer buffer;
    char* const at = buffer.reserve(table->rows->max_size());
    const char* const end = table->rows->write(at, 1, 0, row_text::mysql);
    const auto values = read_row({at, static_cast<std::size_t>(end - at)});
    return std::pair(values->size(), values->back()->size());
  };
  CHECK(sizes("narrow").first == 1);
  CHECK(sizes("wide").first == 201);
  CHECK(sizes("huge").second == 1'000'000);
  for (const char* name : {"escapes", "latin1", "letters", "blob"}) CHECK(sizes(name) == std::pair<std::size_t, std::size_t>(2, 1000));
}
