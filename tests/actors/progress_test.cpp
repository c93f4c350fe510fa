// The progress line: rates, the slowest shard, the lag, and what is waited for.
#include <doctest/doctest.h>

#include <chrono>

#include "actors/progress.hpp"

using namespace psource;

namespace {

using std::chrono::seconds;

constexpr std::int64_t now_seconds = 1'700'000'000;
const std::chrono::steady_clock::time_point begin{};

bool has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

}  // namespace

TEST_CASE("rates are those since the last report") {
  run_counters counters;
  counters.tables = 3;
  counters.tables_done = 1;
  counters.running = 2;
  counters.waiting = 5;
  counters.done = 7;
  counters.records = 1'000;
  counters.bytes = 1'000'000;
  const progress_sample before(counters, begin);
  counters.records = 601'000;
  counters.bytes = 121'000'000;
  const progress_sample now(counters, begin + seconds(60));
  CHECK(progress_text(before, now, counters, now_seconds) ==
        "601,000 rows (10,000 rows/s, 2.0 MB/s), tables 1 of 3 done, streams 2 running, 5 waiting, 7 done, waiting for the "
        "server.");
  counters.unwritten = 3;
  CHECK(has(progress_text(before, now, counters, now_seconds), "waiting for standard output."));
}

TEST_CASE("the slowest shard is the one whose streams bring the least") {
  run_counters counters;
  const auto fast = counters.streams.add("shop/-80");
  const auto slow = counters.streams.add("shop/80-");
  const auto slow_too = counters.streams.add("shop/80-");
  fast->records = 50;
  slow->records = 9'000;
  const progress_sample before(counters, begin);
  fast->records = 700;
  slow->records = 9'100;
  slow_too->records = 20;
  const progress_sample now(counters, begin + seconds(10));
  CHECK(has(progress_text(before, now, counters, now_seconds), ", slowest shop/80- with 12 rows/s,"));
  SUBCASE("a shard by itself is not told") {
    run_counters one;
    const auto only = one.streams.add("shop/-");
    const progress_sample sample(one, begin);
    CHECK_FALSE(has(progress_text(sample, sample, one, now_seconds), "slowest"));
  }
}

TEST_CASE("the lag is that of the stream that is furthest behind, and streams that are over do not count") {
  run_counters counters;
  const auto near = counters.streams.add("shop/-80");
  auto far = counters.streams.add("shop/80-");
  const auto copying = counters.streams.add("shop/80-");
  CHECK_FALSE(has(progress_text({}, {counters, begin + seconds(1)}, counters, now_seconds), "lag"));
  near->newest_commit_seconds = now_seconds - 3;
  far->newest_commit_seconds = now_seconds - 4'000;
  CHECK(has(progress_text({}, {counters, begin + seconds(1)}, counters, now_seconds), ", lag 4000 s,"));
  far.reset();
  CHECK(has(progress_text({}, {counters, begin + seconds(1)}, counters, now_seconds), ", lag 3 s,"));
  // The server's clock may be behind its own commits by less than a second.
  near->newest_commit_seconds = now_seconds + 1;
  CHECK(has(progress_text({}, {counters, begin + seconds(1)}, counters, now_seconds), ", lag 0 s,"));
}
