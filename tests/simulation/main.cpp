// engine_simulation: runs the simulation over many seeds and prints, for each that fails, the command that
// replays it.
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <string>

#include "tests/simulation/simulation.hpp"

namespace {

volatile std::sig_atomic_t stop_wanted = 0;

struct options {
  std::uint64_t first = 1;
  std::uint64_t seeds = 1000;
  std::uint64_t most_failures = 5;
  bool forever = false;
  bool trace = false;
  bool twice = false;
  bool help = false;
};

options parse(int argc, char** argv) {
  options result;
  for (int i = 1; i < argc; ++i) {
    const std::string name = argv[i];
    const auto number = [&] { return i + 1 < argc ? std::strtoull(argv[++i], nullptr, 10) : 0; };
    if (name == "--seeds")
      result.seeds = number();
    else if (name == "--first")
      result.first = number();
    else if (name == "--failures")
      result.most_failures = number();
    else if (name == "--forever")
      result.forever = true;
    else if (name == "--trace")
      result.trace = true;
    else if (name == "--twice")
      result.twice = true;
    else
      result.help = true;
  }
  return result;
}

}  // namespace

int main(int argc, char** argv) {
  const options chosen = parse(argc, argv);
  if (chosen.help) {
    std::puts(
        "engine_simulation [--first S] [--seeds N] [--forever] [--failures N] [--trace] [--twice]\n"
        "  --first S     the first seed (1)\n"
        "  --seeds N     so many seeds (1000)\n"
        "  --forever     go on until SIGINT or SIGTERM\n"
        "  --failures N  give up after so many seeds that fail (5)\n"
        "  --trace       tell what each run asks and says\n"
        "  --twice       run each seed twice and compare");
    return 2;
  }
  for (const int signal : {SIGINT, SIGTERM}) std::signal(signal, [](int) { stop_wanted = 1; });
  const auto started = std::chrono::steady_clock::now();
  psource::simulation::simulation_result sum;
  std::uint64_t failed = 0;
  std::uint64_t done = 0;
  for (std::uint64_t seed = chosen.first; (chosen.forever || done < chosen.seeds) && stop_wanted == 0; ++seed) {
    auto result = psource::simulation::simulate(seed, chosen.trace ? &std::cout : nullptr);
    if (chosen.twice && psource::simulation::simulate(seed, nullptr).fingerprint != result.fingerprint)
      result.violations.push_back("a second run of the same seed says something else");
    ++done;
    sum.runs += result.runs;
    sum.steps += result.steps;
    sum.records += result.records;
    for (const auto& [kind, count] : result.troubles) sum.troubles[kind] += count;
    if (!result.violations.empty()) {
      ++failed;
      std::printf("seed %llu fails; replay: %s --first %llu --seeds 1 --trace\n",
                  static_cast<unsigned long long>(seed), argv[0], static_cast<unsigned long long>(seed));
      for (std::size_t i = 0; i < result.violations.size() && i < 4; ++i)
        std::printf("  %s\n", result.violations[i].c_str());
      std::fflush(stdout);
      if (failed >= chosen.most_failures) break;
    }
    if (chosen.forever && done % 10'000 == 0) {
      std::printf("%llu seeds, %llu failed\n", static_cast<unsigned long long>(done),
                  static_cast<unsigned long long>(failed));
      std::fflush(stdout);
    }
  }
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count();
  const auto number = [](std::uint64_t n) { return static_cast<unsigned long long>(n); };
  std::printf("%llu seeds (%llu failed) in %.1f s: %llu reads, %llu steps, %llu records\n", number(done), number(failed),
              seconds, number(sum.runs), number(sum.steps), number(sum.records));
  for (const auto& [kind, count] : sum.troubles) std::printf("  %llu %s\n", number(count), kind.c_str());
  return failed == 0 ? 0 : 1;
}
