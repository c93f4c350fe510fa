// What the emitter says of states by itself.
#include <doctest/doctest.h>

#include <memory>
#include <random>
#include <string>
#include <utility>

#include "tests/actors/doubles.hpp"

using namespace psource;
using namespace psource::testing;

namespace {

// What zlib cannot make much smaller.
std::string long_position(std::size_t size) {
  std::minstd_rand random(7);
  std::string position = "MySQL56/";
  while (position.size() < size) position += "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-:"[random() >> 8 & 63];
  return position;
}

// What a read writes of so many tables with nothing new.
std::string text_of(std::size_t tables, const std::string& position) {
  sync_plan plan;
  for (std::size_t i = 0; i < tables; ++i) {
    planned_stream stream;
    stream.id = stream.ledger.id = {keyspace_name("ks"), table_name("t" + std::to_string(i))};
    stream.ledger.cursors[shard_name("-")].position = position;
    plan.streams.push_back(std::move(stream));
  }
  auto input = std::make_shared<plan_input>();
  input->listed_at = std::chrono::steady_clock::now();
  auto out = std::make_shared<text_output>();
  engine_options options;
  options.progress = progress_mode::none;
  const auto ended = engine(std::move(options))
                         .run(std::move(plan), input, std::make_shared<silent_client>(), std::make_shared<questions>(), out,
                              std::make_shared<still_clock>());
  CHECK(ended.complete);
  return out->text;
}

std::size_t times(const std::string& part, const std::string& text) {
  std::size_t count = 0;
  for (std::size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++count;
  return count;
}

}  // namespace

TEST_CASE("states that are too many for the platform together are warned of, once") {
  const std::string warning = "The states of this connection have more than 5 MB together";
  const std::string position = long_position(1'000'000);
  const std::string few = text_of(3, position);
  CHECK(times("stream_state", few) == 3);
  CHECK(few.size() > 2'500'000);
  CHECK(times(warning, few) == 0);
  const std::string many = text_of(8, position);
  CHECK(times("stream_state", many) == 8);
  CHECK(many.size() > 6'000'000);
  CHECK(times(warning, many) == 1);
}
