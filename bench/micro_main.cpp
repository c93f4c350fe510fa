// Times the workloads of one subject with google-benchmark; PSOURCE_WORKLOADS names the function that lists
// them.
#include <benchmark/benchmark.h>

#include "bench/workloads.hpp"

int main(int argc, char** argv) {
  using psource::bench::workload;
  const std::vector<workload> all = psource::bench::PSOURCE_WORKLOADS();
  for (const workload& work : all)
    benchmark::RegisterBenchmark(work.name.c_str(), [&work](benchmark::State& state) {
      for (auto _ : state) benchmark::DoNotOptimize(work.run());
      const auto rounds = static_cast<double>(state.iterations());
      state.counters[std::string("per_") + work.unit] =
          benchmark::Counter(rounds * static_cast<double>(work.units),
                             benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
      if (work.bytes > 0) state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(work.bytes));
    });
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  benchmark::RunSpecifiedBenchmarks();
}
