// The clock of the micro-benchmarks: it stands still, so that the same work gives the same bytes.
#pragma once

#include "sync/clock.hpp"

namespace psource::bench {

class fixed_clock final : public sync_clock {
 public:
  std::int64_t wall_milliseconds() const override { return 1'767'225'600'000; }
  std::int64_t server_microseconds() const override { return 1'767'225'600'000'000; }
};

}  // namespace psource::bench
