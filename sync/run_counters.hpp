// Numbers that the engine's actors keep for the progress report. Each has one writer; all may be read from any thread.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

namespace psource {

/// How far a running stream is; its reader writes it.
struct stream_progress {
  explicit stream_progress(std::string where) : where(std::move(where)) {}
  /// Its first shard: "keyspace/shard".
  const std::string where;
  /// Records handed to the emitter.
  std::atomic<std::uint64_t> records{0};
  /// Commit time of the newest change handed over, seconds since 1970; 0 = only copied rows so far.
  std::atomic<std::int64_t> newest_commit_seconds{0};
};

/// The streams that run. Thread-safe.
class running_streams {
 public:
  /// A stream runs for as long as somebody else than this list holds it.
  std::shared_ptr<stream_progress> add(std::string where) {
    auto stream = std::make_shared<stream_progress>(std::move(where));
    std::lock_guard<std::mutex> guard(mutex_);
    // Not each time: it looks at memory that belongs to all the others.
    if (streams_.size() >= look_at_) {
      streams_.erase(std::remove_if(streams_.begin(), streams_.end(), [](const auto& entry) { return entry.expired(); }),
                     streams_.end());
      look_at_ = 2 * streams_.size() + 8;
    }
    streams_.push_back(stream);
    return stream;
  }
  std::vector<std::shared_ptr<const stream_progress>> list() const {
    std::vector<std::shared_ptr<const stream_progress>> running;
    std::lock_guard<std::mutex> guard(mutex_);
    for (const auto& entry : streams_)
      if (auto stream = entry.lock()) running.push_back(std::move(stream));
    return running;
  }

 private:
  mutable std::mutex mutex_;
  std::vector<std::weak_ptr<stream_progress>> streams_;
  /// So many entries are looked through for streams that have ended.
  std::size_t look_at_ = 8;
};

struct run_counters {
  std::atomic<std::uint64_t> records{0};
  /// Bytes of RECORD lines handed to the output.
  std::atomic<std::uint64_t> bytes{0};
  /// Batches handed over and not written yet.
  std::atomic<std::uint64_t> unwritten{0};
  std::atomic<std::uint64_t> running{0};
  std::atomic<std::uint64_t> waiting{0};
  std::atomic<std::uint64_t> done{0};
  std::atomic<std::uint64_t> tables_done{0};
  std::atomic<std::uint64_t> tables{0};
  running_streams streams;
};

}  // namespace psource
