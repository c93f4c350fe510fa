// The database's clock, carried forward by this machine's steady clock.
#pragma once

#include <chrono>
#include <cstdint>

#include "sync/clock.hpp"

namespace psource {

/// Immutable after construction; any thread.
class server_clock final : public sync_clock {
 public:
  /// `server_microseconds` is what the server said, at the moment of the call.
  explicit server_clock(std::int64_t server_microseconds)
      : base_(server_microseconds),
        since_(std::chrono::steady_clock::now()),
        wall_(std::chrono::system_clock::now()) {}

  std::int64_t wall_milliseconds() const override {
    using namespace std::chrono;
    // Carried forward as well: `emitted_at` never falls, also when somebody sets the clock.
    return duration_cast<milliseconds>((wall_ + (steady_clock::now() - since_)).time_since_epoch()).count();
  }
  std::int64_t server_microseconds() const override {
    using namespace std::chrono;
    return base_ + duration_cast<microseconds>(steady_clock::now() - since_).count();
  }

 private:
  std::int64_t base_;
  std::chrono::steady_clock::time_point since_;
  std::chrono::system_clock::time_point wall_;
};

}  // namespace psource
