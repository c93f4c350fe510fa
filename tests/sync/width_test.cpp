// How many streams run at once: more while they wait for their servers, fewer while they wait for us.
#include <doctest/doctest.h>

#include <initializer_list>

#include "sync/stream_width.hpp"

using namespace psource;
using namespace std::chrono_literals;

namespace {

constexpr width_settings settings{8, 2};
const std::chrono::steady_clock::time_point start{};

// Looks until a judgement has been made; returns when to look again after it.
std::chrono::milliseconds judge(stream_width& width, std::size_t fed, bool all_run = true) {
  for (int i = 1; i < static_cast<int>(stream_width::looks_of_a_judgement); ++i)
    CHECK(width.look(start + i * stream_width::between, fed, all_run, 0) == stream_width::between);
  return width.look(start + 10 * stream_width::between, fed, all_run, 0);
}

}  // namespace

TEST_CASE("streams that wait for their servers become more, up to the most") {
  stream_width width(settings, 64);
  CHECK(width.moves());
  CHECK(width.now() == 8);
  for (const std::size_t next : {16u, 32u, 64u}) {
    CHECK(judge(width, 0) == stream_width::between);
    CHECK(width.now() == next);
  }
  judge(width, 0);
  CHECK(width.now() == 64);
}

TEST_CASE("a most that is no multiple is kept to") {
  stream_width width(settings, 20);
  judge(width, 0);
  judge(width, 0);
  CHECK(width.now() == 20);
}

TEST_CASE("streams that keep the processors at work stay as many as they are") {
  stream_width width(settings, 64);
  judge(width, 2);
  CHECK(width.now() == 8);
  judge(width, 8);
  CHECK(width.now() == 8);
}

TEST_CASE("where few have something, one more at a time runs: the others may be stuck") {
  stream_width width(settings, 64);
  CHECK(judge(width, 1) == stream_width::between + 100ms);
  CHECK(width.now() == 9);
  CHECK(judge(width, 2) == stream_width::between + 200ms);
  CHECK(width.now() == 10);
  judge(width, 2, false);
  CHECK(width.now() == 10);
  judge(width, 3);
  CHECK(width.now() == 10);
}

TEST_CASE("streams that bring more than is decoded become fewer, down to the least") {
  stream_width width(settings, 64);
  while (width.now() < 64) judge(width, 0);
  judge(width, 4);
  CHECK(width.now() == 64);
  for (const std::size_t next : {32u, 16u, 8u, 8u}) {
    judge(width, 5);
    CHECK(width.now() == next);
  }
}

TEST_CASE("a judgement is by all of its looks, and by none from before it was forgotten") {
  for (const std::size_t fed : {9u, 10u}) {
    stream_width width(settings, 64);
    for (int i = 0; i < 5; ++i) width.look(start, 8, true, 0);
    width.forget();
    for (int i = 0; i < 10; ++i) width.look(start + i * stream_width::between, i == 3 ? fed : 0, true, 0);
    // Ten in all are one on the average.
    CHECK(width.now() == (fed == 9 ? 16 : 9));
  }
}

TEST_CASE("streams that are over before the next look become more, whatever they bring") {
  stream_width width(settings, 64);
  std::size_t done = 1000;
  int late = 1;
  // So many end from one look to the next.
  const auto judge_brief = [&](std::size_t ended, std::size_t fed) {
    for (int i = 0; i < 10; ++i, done += ended) width.look(start + i * late * stream_width::between, fed, true, done);
    // In the pause as well.
    done += 100 * ended;
  };
  judge_brief(8, 2);
  CHECK(width.now() == 8);
  judge_brief(9, 2);
  CHECK(width.now() == 16);
  judge_brief(17, 16);
  CHECK(width.now() == 32);
  judge_brief(32, 8);
  CHECK(width.now() == 32);
  // With half as many they would be too brief again.
  judge_brief(17, 8);
  CHECK(width.now() == 32);
  judge_brief(16, 8);
  CHECK(width.now() == 16);
  // Looks that come late see more ends, of streams that last as long.
  late = 3;
  judge_brief(40, 4);
  CHECK(width.now() == 16);
  judge_brief(49, 4);
  CHECK(width.now() == 32);
}

TEST_CASE("where fewer run than may, more may not help") {
  stream_width width(settings, 64);
  judge(width, 0, false);
  CHECK(width.now() == 8);
  for (int i = 0; i < 10; ++i) width.look(start + i * stream_width::between, 0, i != 3, 0);
  CHECK(width.now() == 8);
  judge(width, 0);
  CHECK(width.now() == 16);
}

TEST_CASE("while nothing changes, looks become rare; a change makes them frequent again") {
  stream_width width(settings, 64);
  for (const auto pause : {100ms, 200ms, 400ms, 800ms, 1000ms, 1000ms}) CHECK(judge(width, 2) == stream_width::between + pause);
  CHECK(judge(width, 0) == stream_width::between);
  CHECK(judge(width, 2) == stream_width::between + 100ms);
}

TEST_CASE("fewer streams than the least: nothing to judge") {
  for (const std::size_t most : {1u, 8u}) {
    stream_width width(settings, most);
    CHECK_FALSE(width.moves());
    CHECK(width.now() == most);
    judge(width, 0);
    CHECK(width.now() == most);
    judge(width, 5);
    CHECK(width.now() == most);
  }
}

TEST_CASE("with many processors all may run at once") {
  CHECK(stream_width(width_for(2), 64).now() == 4);
  CHECK(stream_width(width_for(32), 64).now() == 64);
  CHECK(stream_width(width_for(2), 3).now() == 3);
}
