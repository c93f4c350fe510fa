// PROGRESS: tells people every minute (or every second on a terminal) how far the read is.
#pragma once

#include <caf/stateful_actor.hpp>
#include <caf/typed_event_based_actor.hpp>
#include <chrono>
#include <functional>
#include <memory>
#include <string>

#include "actors/interfaces.hpp"
#include "sync/clock.hpp"
#include "sync/run_counters.hpp"

namespace psource {

/// One report's figures, taken from the counters at a moment.
struct progress_sample {
  std::chrono::steady_clock::time_point time;
  std::uint64_t records = 0;
  std::uint64_t bytes = 0;
};

/// "12,345 rows (1,000 rows/s, 0.3 MB/s), streams 4 running, 10 waiting, 2 done; lag 3 s; waiting for the server".
/// Pure; `lag_seconds` below 0 = unknown.
std::string progress_text(const progress_sample& before, const progress_sample& now, const run_counters& counters,
                          std::int64_t lag_seconds);

struct progress_state {
  static inline const char* name = "progress";
  std::shared_ptr<const run_counters> counters;
  std::shared_ptr<const sync_clock> clock;
  progress_sample last;
};

/// `tell` gets each report on an actor's thread.
progress_actor::behavior_type progress(progress_actor::stateful_pointer<progress_state> self,
                                       std::shared_ptr<const run_counters> counters,
                                       std::shared_ptr<const sync_clock> clock, std::chrono::milliseconds interval,
                                       std::function<void(const std::string&)> tell);

}  // namespace psource
