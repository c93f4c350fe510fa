// What the micro-benchmarks do: named, repeatable pieces of work on fixed bytes. The same pieces are timed
// (micro_main.cpp) and counted in instructions (count_instructions.cpp).
#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <vector>

namespace psource::bench {

struct workload {
  std::string name;
  /// What one call of run() does: rows (or values, batches; see `unit`), and the bytes that it reads or
  /// writes.
  std::size_t units = 0;
  std::size_t bytes = 0;
  /// Does the same at each call, on memory that earlier calls have grown. Returns a number that depends on
  /// all of its work, so that none can be left out.
  std::function<std::size_t()> run;
  const char* unit = "row";
};

/// One list each; what they need is made when they are called.
std::vector<workload> decoder_workloads();
std::vector<workload> session_workloads();
std::vector<workload> encoder_workloads();
std::vector<workload> escaping_workloads();
std::vector<workload> base64_workloads();
std::vector<workload> ledger_workloads();
std::vector<workload> emitter_workloads();

}  // namespace psource::bench
