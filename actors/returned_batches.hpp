// The way back of a reader's batches, from the emitter to the reader.
#pragma once

#include <cstddef>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "sync/batch.hpp"

namespace psource {

/// Batches that are written, until their reader takes them. Shared by one reader and the emitter, each on whatever thread it
/// runs. Were each batch sent back in a message, it would wake a reader that mostly has no use for it yet; so only a reader
/// that waits is told.
class returned_batches {
 public:
  /// For the emitter. True: the reader waits, and has to be told that there is something.
  bool put(std::shared_ptr<batch> written) {
    std::lock_guard<std::mutex> lock(mutex_);
    written_.push_back(std::move(written));
    return std::exchange(awaited_, false);
  }

  /// For the reader: moves all that came back to the end of `to`, and returns how many. It does not wait any more.
  std::size_t take(std::vector<std::shared_ptr<batch>>& to) {
    std::lock_guard<std::mutex> lock(mutex_);
    awaited_ = false;
    const std::size_t count = written_.size();
    for (auto& one : written_) to.push_back(std::move(one));
    written_.clear();
    return count;
  }

  /// For the reader, when it needs one more. True: it will be told once there is one. False: there is one already.
  bool await() {
    std::lock_guard<std::mutex> lock(mutex_);
    awaited_ = written_.empty();
    return awaited_;
  }

 private:
  std::mutex mutex_;
  std::vector<std::shared_ptr<batch>> written_;
  bool awaited_ = false;
};

}  // namespace psource
