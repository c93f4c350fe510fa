// One seed: a branch, several troubled reads with kills and reshards between and during them, a last quiet
// one.
#pragma once

#include <cstdint>
#include <iosfwd>
#include <map>
#include <string>
#include <vector>

namespace psource::simulation {

struct simulation_result {
  std::vector<std::string> violations;
  std::uint64_t runs = 0;
  std::uint64_t steps = 0;
  std::uint64_t records = 0;
  /// What went wrong, by kind, in words.
  std::map<std::string, std::uint64_t> troubles;
  /// Of everything that was said: the same seed gives the same.
  std::uint64_t fingerprint = 0;
};

/// `trace`: what is done and said, for people; may be null.
simulation_result simulate(std::uint64_t seed, std::ostream* trace);

}  // namespace psource::simulation
