// Where the time comes from, so that tests can give their own.
#pragma once

#include <cstdint>

namespace psource {

/// Thread-safe. Implementations: clients/server_clock.hpp (real), tests (fake).
class sync_clock {
 public:
  virtual ~sync_clock() = default;
  /// This machine's wall clock in milliseconds since 1970: what `emitted_at` says.
  virtual std::int64_t wall_milliseconds() const = 0;
  /// The database's clock in microseconds since 1970 (its utc_timestamp(6) carried forward by a steady clock): what
  /// copied rows get as `_ab_cdc_cursor`, because it must compare with the commit times of changes.
  virtual std::int64_t server_microseconds() const = 0;
};

}  // namespace psource
