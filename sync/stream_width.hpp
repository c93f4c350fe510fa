// How many streams run at once: as many as it takes to keep the processors at work, at most `max_streams`.
//
// Streams whose servers are slow are idle for most of the time, and many of them make the rate. Where few streams bring more
// than is decoded or written, more of them bring nothing: they wait for each other, with their responses and batches in memory that no
// longer fits into the processor's caches (docs/benchmarks.md, "Streams at once"). Streams of a few rows are mostly opening and ending, which
// wakes fewer threads where many do so at the same time. Pure; one owner.
#pragma once

#include <chrono>
#include <cstddef>

namespace psource {

struct width_settings {
  /// So many may run at the start, and whatever they bring.
  std::size_t least = 4;
  /// Threads that decode.
  std::size_t workers = 2;
};

/// For so many threads that decode: two streams for each may run at once whatever they bring.
inline width_settings width_for(std::size_t workers) { return {2 * workers, workers}; }

class stream_width {
 public:
  /// Never more than `most` (`max_streams`).
  stream_width(width_settings settings, std::size_t most);

  /// Streams that may run at once now.
  std::size_t now() const { return now_; }
  /// Whether that can change at all.
  bool moves() const { return least_ < most_; }

  /// Looks at the running streams while others wait for their turn: `fed` have something for us that is not used up and written,
  /// `all_run` tells that now() of them run, `done` how many have ended since the start. A number of looks together may change
  /// now(). Returns when to look again.
  std::chrono::milliseconds look(std::chrono::steady_clock::time_point time, std::size_t fed, bool all_run, std::size_t done);

  /// No stream waits any more: what was looked at last says nothing of those that may come.
  void forget();

  /// Between two looks.
  static constexpr std::chrono::milliseconds between{10};
  /// So many looks make a judgement.
  static constexpr std::size_t looks_of_a_judgement = 10;
  /// After a judgement that changes nothing; twice as long after the next one, up to the longest.
  static constexpr std::chrono::milliseconds first_pause{100};
  static constexpr std::chrono::milliseconds longest_pause{1000};

 private:
  void judge(std::chrono::steady_clock::duration elapsed, std::size_t ended);

  std::size_t workers_;
  std::size_t most_;
  std::size_t least_;
  std::size_t now_;
  std::size_t looks_ = 0;
  std::size_t fed_ = 0;  // Summed up over the looks.
  bool all_run_ = true;  // At each of the looks.
  std::size_t done_at_first_ = 0;
  std::chrono::steady_clock::time_point first_;
  std::chrono::milliseconds pause_{0};
};

}  // namespace psource
