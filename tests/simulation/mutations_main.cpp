// engine_mutations: plants one fault after the other in the engine, and fails for each that the simulation
// does not find.
#include <cstdio>

#include "sync/test_faults.hpp"
#include "tests/simulation/simulation.hpp"

namespace {

using psource::test_faults::fault;

struct mutation {
  fault what;
  const char* name;
};

// The first seed that fails, or 0.
std::uint64_t first_failure(fault what, std::uint64_t seeds) {
  psource::test_faults::planted = what;
  for (std::uint64_t seed = 1; seed <= seeds; ++seed)
    if (!psource::simulation::simulate(seed, nullptr).violations.empty()) return seed;
  return 0;
}

}  // namespace

int main() {
  constexpr std::uint64_t healthy_seeds = 500;
  constexpr std::uint64_t most_seeds = 6'000;
  const mutation mutations[] = {{fault::state_before_records, "state before records"},
                                {fault::cursor_inside_transaction, "cursor moved inside a transaction"},
                                {fault::lost_last_batch, "a lost last batch"},
                                {fault::skipped_pending_table, "a skipped pending table"},
                                {fault::equality_at_stop, "equality instead of containment at the stop"},
                                {fault::forgotten_beginning, "a copy's beginning forgotten at a kill"},
                                {fault::columns_of_before, "columns of before a schema change"},
                                {fault::emptied_untold, "an emptied table that is not told"},
                                {fault::ended_in_between, "an end on shards of an undone reshard"}};
  bool good = true;
  if (const auto seed = first_failure(fault::none, healthy_seeds)) {
    std::printf("without a fault, seed %llu fails\n", static_cast<unsigned long long>(seed));
    good = false;
  }
  for (const auto& each : mutations) {
    const auto seed = first_failure(each.what, most_seeds);
    if (seed != 0)
      std::printf("%s: found by seed %llu\n", each.name, static_cast<unsigned long long>(seed));
    else
      std::printf("%s: NOT FOUND in %llu seeds\n", each.name, static_cast<unsigned long long>(most_seeds));
    good = good && seed != 0;
  }
  return good ? 0 : 1;
}
