// Numbers that the engine's actors keep for the progress report. Each has one writer; all may be read from any thread.
#pragma once

#include <atomic>
#include <cstdint>

namespace psource {

struct run_counters {
  std::atomic<std::uint64_t> records{0};
  /// Bytes of RECORD lines handed to the output.
  std::atomic<std::uint64_t> bytes{0};
  /// Batches handed over and not written yet.
  std::atomic<std::uint64_t> unwritten{0};
  std::atomic<std::uint64_t> states{0};
  std::atomic<std::uint64_t> running{0};
  std::atomic<std::uint64_t> waiting{0};
  std::atomic<std::uint64_t> done{0};
  std::atomic<std::uint64_t> tables_done{0};
  std::atomic<std::uint64_t> tables{0};
  /// Commit time of the newest change delivered, seconds since 1970; 0 = only copies so far.
  std::atomic<std::int64_t> newest_commit_seconds{0};
};

}  // namespace psource
