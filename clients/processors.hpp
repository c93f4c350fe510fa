// How many processors this process may use: what the numbers of threads follow from.
#pragma once

#include <sched.h>

#include <algorithm>
#include <cstdio>
#include <thread>

namespace psource {

/// Those that its affinity allows, or fewer where a container's share (cgroup v2) is less, rounded up; at least 1. Asks the
/// system each time.
inline unsigned usable_processors() {
  cpu_set_t set;
  CPU_ZERO(&set);
  unsigned count = std::thread::hardware_concurrency();
  if (sched_getaffinity(0, sizeof(set), &set) == 0) count = static_cast<unsigned>(CPU_COUNT(&set));
  // "max 100000" or "<quota> <period>".
  if (std::FILE* file = std::fopen("/sys/fs/cgroup/cpu.max", "re")) {
    double quota = 0;
    double period = 0;
    if (std::fscanf(file, "%lf %lf", &quota, &period) == 2 && quota > 0 && period > 0)
      count = std::min(count, static_cast<unsigned>(quota / period + 0.999));
    std::fclose(file);
  }
  return std::max(count, 1U);
}

}  // namespace psource
