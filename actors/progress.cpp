// Implementation of progress.hpp.
#include "actors/progress.hpp"

#include <algorithm>
#include <caf/actor_clock.hpp>
#include <caf/actor_system.hpp>
#include <cstdio>

namespace psource {

namespace {

std::string grouped(std::uint64_t number) {
  std::string digits = std::to_string(number);
  for (std::size_t at = digits.size(); at > 3; at -= 3) digits.insert(at - 3, 1, ',');
  return digits;
}

}  // namespace

std::string progress_text(const progress_sample& before, const progress_sample& now, const run_counters& counters,
                          std::int64_t lag_seconds) {
  const double seconds = std::max(std::chrono::duration<double>(now.time - before.time).count(), 1e-3);
  const auto rows = static_cast<std::uint64_t>(static_cast<double>(now.records - before.records) / seconds);
  char rate[64];
  std::snprintf(rate, sizeof(rate), "%.1f MB/s", static_cast<double>(now.bytes - before.bytes) / seconds / 1e6);
  std::string text = grouped(now.records) + " rows (" + grouped(rows) + " rows/s, " + rate + "), tables " +
                     std::to_string(counters.tables_done) + " of " + std::to_string(counters.tables) +
                     " done, streams " + std::to_string(counters.running) + " running, " +
                     std::to_string(counters.waiting) + " waiting, " + std::to_string(counters.done) + " done";
  if (lag_seconds >= 0) text += ", lag " + std::to_string(lag_seconds) + " s";
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
        progress_sample now{self->home_system().clock().now(), state.counters->records, state.counters->bytes};
        const std::int64_t newest = state.counters->newest_commit_seconds;
        const std::int64_t lag =
            newest == 0 ? -1 : std::max<std::int64_t>(0, state.clock->server_microseconds() / 1'000'000 - newest);
        tell(progress_text(state.last, now, *state.counters, lag));
        state.last = now;
        self->delayed_send(progress_actor(self), interval, report_atom::value);
      },
      [self](stop_atom) { self->quit(); },
  };
}

}  // namespace psource
