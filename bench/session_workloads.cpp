// The whole way of a row inside a reader, without actors and transport: responses in, batches of lines out.
#include <memory>
#include <stdexcept>

#include "bench/fixed_clock.hpp"
#include "bench/rows.hpp"
#include "bench/workloads.hpp"
#include "sync/stream_session.hpp"

namespace psource::bench {
namespace {

workload pumping(std::string name, stream_kind kind, std::size_t rows, std::size_t transaction_rows,
                 bool cdc) {
  auto responses = std::make_shared<std::vector<response_buffer>>();
  std::size_t bytes = 0;
  for (auto& response : generated_responses(rows, transaction_rows)) {
    bytes += response.size();
    responses->push_back(std::make_shared<const whole_response>(std::move(response)));
  }
  const auto shape = generated_shape(cdc);
  const auto clock = std::make_shared<fixed_clock>();
  const auto out = std::make_shared<batch>();
  out->lines.reserve(batch::capacity + batch::slack);
  const auto run = [=] {
    session_spec spec;
    spec.kind = kind;
    spec.keyspace = keyspace_name(generated_keyspace);
    spec.shards = {shard_name(generated_shard)};
    session_table table;
    table.shape = shape;
    table.cursors[spec.shards.front()] = {};
    spec.tables.push_back(std::move(table));
    // Never reached: the workload ends with its responses.
    spec.stops[spec.shards.front()] =
        *gtid_set::parse_position("MySQL56/ffffffff-ffff-ffff-ffff-ffffffffffff:1-9");
    stream_session session(std::move(spec), clock);
    static_cast<void>(session.begin_attempt());
    std::size_t written = 0;
    const auto hand_over = [&] {
      session.seal(*out);
      written += out->lines.size();
      out->clear();
    };
    for (const auto& response : *responses) {
      session.feed(response);
      for (;;) {
        const auto step = session.pump(*out);
        if (!step) throw std::runtime_error(step.error().message);
        if (*step != pump_result::batch_full) break;
        hand_over();
      }
    }
    hand_over();
    return written;
  };
  return {std::move(name), rows, bytes, run};
}

/// A workload that delivers less than it says would look fast.
std::vector<workload> checked(std::vector<workload> all) {
  constexpr std::size_t shortest_line = 300;
  for (const workload& work : all)
    if (work.run() < work.units * shortest_line) throw std::runtime_error(work.name + " delivers too little");
  return all;
}

}  // namespace

std::vector<workload> session_workloads() {
  return checked({pumping("copy", stream_kind::copy, 2000, 0, false),
                  pumping("copy_cdc", stream_kind::copy, 2000, 0, true),
                  pumping("transactions_of_100_cdc", stream_kind::catch_up, 2000, 100, true),
                  pumping("transactions_of_1_cdc", stream_kind::catch_up, 2000, 1, true)});
}

}  // namespace psource::bench
