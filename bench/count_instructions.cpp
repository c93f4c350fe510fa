// Runs workloads a fixed number of times, for callgrind. `count_instructions --list` names them with their
// units and bytes; `count_instructions NAME` warms one up and then runs it once inside measured_run(), which
// is what counts.
#include <cstdio>
#include <string>
#include <utility>
#include <vector>

#include "bench/workloads.hpp"

namespace psource::bench {
namespace {

using subject = std::pair<const char*, std::vector<workload> (*)()>;
constexpr subject subjects[] = {{"decoder", decoder_workloads}, {"session", session_workloads},
                                {"encoder", encoder_workloads}, {"escaping", escaping_workloads},
                                {"base64", base64_workloads},   {"ledger", ledger_workloads}};

}  // namespace

// Known by this name to bench/instructions; what happens outside of it is not counted.
extern "C" __attribute__((noinline)) std::size_t measured_run(const workload* work) {
  const std::size_t done = work->run();
  __asm__ volatile("" ::: "memory");
  return done;
}

}  // namespace psource::bench

int main(int argc, char** argv) {
  using namespace psource::bench;
  const std::string wanted = argc == 2 ? argv[1] : "";
  const bool list = wanted == "--list";
  for (const auto& [name, make] : subjects) {
    const std::string prefix = std::string(name) + ".";
    if (!list && wanted.rfind(prefix, 0) != 0) continue;
    for (const workload& work : make()) {
      if (list) {
        std::printf("%s%s\t%zu\t%s\t%zu\n", prefix.c_str(), work.name.c_str(), work.units, work.unit,
                    work.bytes);
      } else if (wanted == prefix + work.name) {
        work.run();
        std::printf("%zu\n", measured_run(&work));
        return 0;
      }
    }
  }
  if (list) return 0;
  std::fprintf(stderr, "count_instructions: give --list or one of the names that it prints\n");
  return 2;
}
