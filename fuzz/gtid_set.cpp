// GTID sets: what is parsed is printed and parsed again as the same set, and comparisons agree with each
// other. Input: up to three positions, divided by '|'.
#include "protocol/vitess/gtid_set.hpp"

#include "fuzz/fuzz.hpp"
#include "sync/key_range.hpp"

using namespace psource;

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  fuzz::input in(data, size);
  std::vector<gtid_set> sets;
  for (int i = 0; i < 3 && (i == 0 || !in.empty()); ++i) {
    const auto text = in.until('|');
    // Names of shards come from the same places as positions. One of a range without keys overlaps nothing, not even itself.
    if (const auto range = key_range_of(shard_name(text)))
      FUZZ_CHECK(range->overlaps(*range) == (range->end.empty() || range->start < range->end));
    auto set = gtid_set::parse_position(text);
    if (!set) {
      FUZZ_CHECK(set.error().code == error_code::response_malformed && set.error().message.back() == '.');
      continue;
    }
    const std::string printed = set->to_position();
    const auto again = gtid_set::parse_position(printed);
    FUZZ_CHECK(again && *again == *set && again->to_position() == printed);
    FUZZ_CHECK(set->empty() == printed.empty());
    FUZZ_CHECK(set->contains(*set) && set->contains(gtid_set()) && set->missing_from(*set) == 0);
    FUZZ_CHECK(set->empty() || (set->missing_from(gtid_set()) > 0 && !gtid_set().contains(*set)));
    sets.push_back(std::move(*set));
  }
  for (const auto& a : sets)
    for (const auto& b : sets) {
      FUZZ_CHECK(a.contains(b) == (b.missing_from(a) == 0));
      FUZZ_CHECK((a == b) == (a.contains(b) && b.contains(a)));
      FUZZ_CHECK((a == b) == (b == a));
      for (const auto& c : sets)
        if (a.contains(b) && b.contains(c)) FUZZ_CHECK(a.contains(c));
    }
  return 0;
}
