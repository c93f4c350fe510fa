// Runs workloads a fixed number of times, for callgrind. `count_instructions --list` names them with their units and
// bytes; `count_instructions [BEGINNING…]` takes those whose names begin so (all without one), in the order of the list:
// each is warmed up and then run once inside measured_run(), which is what counts.
#include <cstdio>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "bench/workloads.hpp"

namespace psource::bench {
namespace {

using subject = std::pair<const char*, std::vector<workload> (*)()>;
constexpr subject subjects[] = {{"decoder", decoder_workloads}, {"session", session_workloads},
                                {"encoder", encoder_workloads}, {"escaping", escaping_workloads},
                                {"base64", base64_workloads},   {"ledger", ledger_workloads},
                                {"emitter", emitter_workloads}};

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
  const bool list = argc == 2 && std::string_view(argv[1]) == "--list";
  const auto wanted = [&](const std::string& name) {
    for (int i = 1; i < argc; ++i)
      if (name.rfind(argv[i], 0) == 0) return true;
    return argc == 1;
  };
  std::size_t found = 0;
  for (const auto& [subject, make] : subjects) {
    for (const workload& work : make()) {
      const std::string name = std::string(subject) + "." + work.name;
      if (!list && !wanted(name)) continue;
      ++found;
      std::size_t done = 0;
      if (!list) {
        work.run();
        done = measured_run(&work);
      }
      std::printf("%s\t%zu\t%s\t%zu\t%zu\n", name.c_str(), work.units, work.unit, work.bytes, done);
    }
  }
  if (found != 0) return 0;
  std::fprintf(stderr, "count_instructions: no workload's name begins so; --list names them\n");
  return 2;
}
