// PROGRESS: tells people every minute (or every second on a terminal) how far the read is.
#pragma once

#include <caf/stateful_actor.hpp>
#include <caf/typed_event_based_actor.hpp>
#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "actors/interfaces.hpp"
#include "sync/clock.hpp"
#include "sync/run_counters.hpp"

namespace psource {

/// One report's figures, taken from the counters at a moment.
struct progress_sample {
  progress_sample() = default;
  progress_sample(const run_counters& counters, std::chrono::steady_clock::time_point time);

  struct stream {
    std::shared_ptr<const stream_progress> which;
    std::uint64_t records = 0;
  };
  std::chrono::steady_clock::time_point time;
  std::uint64_t records = 0;
  std::uint64_t bytes = 0;
  /// Those that run.
  std::vector<stream> streams;
};

/// "12,345 rows (1,000 rows/s, 0.3 MB/s), tables 1 of 3 done, streams 4 running, 10 waiting, 2 done, slowest shop/-80 with
/// 120 rows/s, lag 3 s, waiting for the server.": the slowest shard is that whose streams handed over the fewest records
/// between the two samples, the lag that of the stream whose newest change is the oldest. `server_seconds` is the server's
/// present time, since 1970. Pure.
std::string progress_text(const progress_sample& before, const progress_sample& now, const run_counters& counters,
                          std::int64_t server_seconds);

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
