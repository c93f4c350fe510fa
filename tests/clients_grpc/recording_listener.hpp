// A listener that keeps what it heard, and checks the order in which it heard it.
#pragma once

#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "clients/vstream.hpp"
#include "tests/clients_grpc/scripted_server.hpp"

namespace psource::test {

class recording_listener final : public vstream_listener {
 public:
  void on_ready() override {
    std::lock_guard<std::mutex> lock(mutex_);
    ready_ += 1;
    after_end_ = after_end_ || end_.has_value();
    changed_.notify_all();
  }
  void on_end(stream_end end) override {
    std::lock_guard<std::mutex> lock(mutex_);
    ends_ += 1;
    end_ = std::move(end);
    changed_.notify_all();
  }

  /// Waits for news since the last call: an on_ready() or the end. False on neither.
  bool wait_for_news() {
    std::unique_lock<std::mutex> lock(mutex_);
    const bool news = changed_.wait_for(lock, patience, [this] { return ready_ + ends_ != heard_; });
    heard_ = ready_ + ends_;
    return news;
  }
  std::optional<stream_end> wait_for_end() {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait_for(lock, patience, [this] { return end_.has_value(); });
    return end_;
  }
  bool ended() const {
    std::lock_guard<std::mutex> lock(mutex_);
    return end_.has_value();
  }
  std::size_t ready() const {
    std::lock_guard<std::mutex> lock(mutex_);
    return ready_;
  }
  std::size_t ends() const {
    std::lock_guard<std::mutex> lock(mutex_);
    return ends_;
  }
  bool heard_after_end() const {
    std::lock_guard<std::mutex> lock(mutex_);
    return after_end_;
  }

 private:
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::size_t ready_ = 0;
  std::size_t ends_ = 0;
  std::size_t heard_ = 0;
  bool after_end_ = false;
  std::optional<stream_end> end_;
};

/// Waits for the next response; nullptr when there is no news.
inline response_buffer take_next(vstream_call& call, recording_listener& listener) {
  for (;;) {
    response_buffer r = call.take();
    if (r != nullptr || !listener.wait_for_news()) {
      return r;
    }
  }
}

/// Takes everything up to the end of the call.
inline std::vector<std::string> take_all(vstream_call& call, recording_listener& listener) {
  std::vector<std::string> taken;
  for (;;) {
    const bool last = listener.ended();
    while (response_buffer r = call.take()) {
      taken.push_back(r->joined());
    }
    if (last || !listener.wait_for_news()) {
      return taken;
    }
  }
}

}  // namespace psource::test
