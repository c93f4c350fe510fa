// The one source of chance in a simulation: the same seed gives the same run, on every machine.
#pragma once

#include <cstdint>
#include <random>

namespace psource::simulation {

class chance_source {
 public:
  explicit chance_source(std::uint64_t seed) : engine_(seed) {}

  /// 0 … n-1; n above 0.
  std::size_t below(std::size_t n) { return static_cast<std::size_t>(engine_() % n); }
  /// low … high, both included.
  std::int64_t between(std::int64_t low, std::int64_t high) {
    return low + static_cast<std::int64_t>(engine_() % static_cast<std::uint64_t>(high - low + 1));
  }
  /// True in `percent` of 100 cases.
  bool percent(unsigned percent) { return engine_() % 100 < percent; }
  /// True in `permille` of 1000 cases.
  bool permille(unsigned permille) { return engine_() % 1000 < permille; }

 private:
  std::mt19937_64 engine_;
};

}  // namespace psource::simulation
