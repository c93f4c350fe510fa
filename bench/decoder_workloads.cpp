// Decoding of responses in place: generated ones (a copy, transactions) and recorded ones.
#include <memory>

#include "bench/rows.hpp"
#include "bench/workloads.hpp"
#include "protocol/vitess/response_decoder.hpp"
#include "tests/support/recording.hpp"

namespace psource::bench {
namespace {

struct walked {
  std::size_t rows = 0;
  std::size_t bytes = 0;
};

void walk(const row_view& row, walked& seen) {
  if (!row.present) return;
  value_reader values(row);
  while (values.next()) seen.bytes += values.value().size();
}

/// Every event, every row, every value, as a session walks them.
walked walk(const std::vector<std::string>& responses) {
  walked seen;
  for (const auto& response : responses) {
    event_reader events(response);
    raw_event event;
    while (events.next(event)) {
      if (event.type != event_type::row) continue;
      row_event_reader rows(event.row_event);
      row_change_view change;
      while (rows.next(change) || events.next_alike(change)) {
        ++seen.rows;
        walk(change.before, seen);
        walk(change.after, seen);
      }
    }
  }
  return seen;
}

workload walking(std::string name, std::vector<std::string> responses) {
  const auto shared = std::make_shared<const std::vector<std::string>>(std::move(responses));
  std::size_t bytes = 0;
  for (const auto& response : *shared) bytes += response.size();
  return {std::move(name), walk(*shared).rows, bytes, [shared] { return walk(*shared).bytes; }};
}

}  // namespace

std::vector<workload> decoder_workloads() {
  return {walking("copy", generated_responses(2000)),
          walking("transactions_of_100", generated_responses(2000, 100)),
          walking("transactions_of_1", generated_responses(2000, 1)),
          walking("recorded_copy", testing::read_recording("sharded_copy_full")),
          walking("recorded_large_transactions", testing::read_recording("large_transactions"))};
}

}  // namespace psource::bench
