// Implementation of progress.hpp.
#include "actors/progress.hpp"

#include <algorithm>
#include <caf/actor_clock.hpp>
#include <caf/actor_system.hpp>
#include <cstdio>
#include <map>
#include <optional>
#include <utility>

namespace psource {

namespace {

std::string grouped(std::uint64_t number) {
  std::string digits = std::to_string(number);
  for (std::size_t at = digits.size(); at > 3; at -= 3) digits.insert(at - 3, 1, ',');
  return digits;
}

std::uint64_t per_second(std::uint64_t count, double seconds) {
  return static_cast<std::uint64_t>(static_cast<double>(count) / seconds);
}

// ", slowest shop/-80 with 120 rows/s"; empty when not two shards are being read.
std::string slowest_shard(const progress_sample& before, const progress_sample& now, double seconds) {
  std::map<const stream_progress*, std::uint64_t> had;
  for (const auto& stream : before.streams) had[stream.which.get()] = stream.records;
  std::map<std::string, std::uint64_t> gained;
  for (const auto& stream : now.streams) gained[stream.which->where] += stream.records - had[stream.which.get()];
  if (gained.size() < 2) return {};
  const auto least = std::min_element(gained.begin(), gained.end(),
                                      [](const auto& a, const auto& b) { return a.second < b.second; });
  return ", slowest " + least->first + " with " + grouped(per_second(least->second, seconds)) + " rows/s";
}

// Of the stream that is furthest behind; nothing while there are only copies.
std::optional<std::int64_t> lag_of(const progress_sample& now, std::int64_t server_seconds) {
  std::optional<std::int64_t> oldest;
  for (const auto& stream : now.streams) {
    const std::int64_t newest = stream.which->newest_commit_seconds.load(std::memory_order_relaxed);
    if (newest != 0) oldest = std::min(oldest.value_or(newest), newest);
  }
  if (!oldest) return std::nullopt;
  return std::max<std::int64_t>(0, server_seconds - *oldest);
}

}  // namespace

progress_sample::progress_sample(const run_counters& counters, std::chrono::steady_clock::time_point time)
    : time(time), records(counters.records), bytes(counters.bytes) {
  for (auto& running : counters.streams.list()) {
    const std::uint64_t handed_over = running->records.load(std::memory_order_relaxed);
    streams.push_back({std::move(running), handed_over});
  }
}

std::string progress_text(const progress_sample& before, const progress_sample& now, const run_counters& counters,
                          std::int64_t server_seconds) {
  const double seconds = std::max(std::chrono::duration<double>(now.time - before.time).count(), 1e-3);
  char rate[64];
  std::snprintf(rate, sizeof(rate), "%.1f MB/s", static_cast<double>(now.bytes - before.bytes) / seconds / 1e6);
  std::string text = grouped(now.records) + " rows (" + grouped(per_second(now.records - before.records, seconds)) +
                     " rows/s, " + rate + "), tables " + std::to_string(counters.tables_done) + " of " +
                     std::to_string(counters.tables) + " done, streams " + std::to_string(counters.running) +
                     " running, " + std::to_string(counters.waiting) + " waiting, " + std::to_string(counters.done) +
                     " done" + slowest_shard(before, now, seconds);
  if (const auto lag = lag_of(now, server_seconds)) text += ", lag " + std::to_string(*lag) + " s";
  const char* waits = "the server";
  if (counters.unwritten > counters.running) waits = "standard output";
  return text + ", waiting for " + waits + ".";
}

progress_actor::behavior_type progress(progress_actor::stateful_pointer<progress_state> self,
                                       std::shared_ptr<const run_counters> counters,
                                       std::shared_ptr<const sync_clock> clock, std::chrono::milliseconds interval,
                                       std::function<void(const std::string&)> tell) {
  self->state.counters = std::move(counters);
  self->state.clock = std::move(clock);
  self->state.last.time = self->home_system().clock().now();
  self->set_default_handler(caf::drop);
  self->delayed_send(progress_actor(self), interval, report_atom::value);
  return {
      [self, interval, tell](report_atom) {
        auto& state = self->state;
        progress_sample now(*state.counters, self->home_system().clock().now());
        tell(progress_text(state.last, now, *state.counters, state.clock->server_microseconds() / 1'000'000));
        state.last = std::move(now);
        self->delayed_send(progress_actor(self), interval, report_atom::value);
      },
      [self](stop_atom) { self->quit(); },
  };
}

}  // namespace psource
