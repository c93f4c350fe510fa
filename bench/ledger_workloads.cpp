// The emitter's book: booking batches, and making states.
#include <memory>

#include "bench/workloads.hpp"
#include "sync/cursor_ledger.hpp"

namespace psource::bench {
namespace {

std::vector<shard_name> shards(std::size_t count) {
  std::vector<shard_name> names;
  for (std::size_t i = 0; i < count; ++i) names.emplace_back("shard-" + std::to_string(10'000 + i));
  return names;
}

shard_cursor cursor_at(std::size_t transaction) {
  shard_cursor cursor;
  cursor.position =
      "MySQL56/4a5687a2-e851-1de6-b82e-3773aeb608b7:1-" + std::to_string(1'000'000 + transaction);
  cursor.cdc_cursor = 1'767'225'600'000'000 + static_cast<std::int64_t>(transaction);
  return cursor;
}

cursor_ledger ledger_of(const std::vector<shard_name>& names, std::size_t tables) {
  std::vector<ledger_stream> streams(tables);
  for (std::size_t t = 0; t < tables; ++t) {
    streams[t].id = {keyspace_name("bench"), table_name("sbtest" + std::to_string(t + 1))};
    for (const auto& name : names) streams[t].cursors[name] = cursor_at(0);
  }
  return cursor_ledger(std::move(streams), {}, steady_time{});
}

workload booking(std::string name, std::size_t count, std::size_t batches) {
  const auto names = shards(count);
  const auto ledger = std::make_shared<cursor_ledger>(ledger_of(names, 20));
  const auto filled = std::make_shared<std::vector<batch>>();
  for (std::size_t i = 0; i < batches; ++i) {
    batch next;
    next.count(i % 20, 300);
    next.moves.push_back({i % 20, names[i * 7 % names.size()], cursor_at(i)});
    filled->push_back(std::move(next));
  }
  const auto run = [=] {
    for (const auto& next : *filled) ledger->book(next);
    return static_cast<std::size_t>(ledger->total_records(0));
  };
  return {std::move(name), batches, 0, run, "batch"};
}

workload stating(std::string name, std::size_t count, std::size_t moved) {
  const auto names = shards(count);
  const auto ledger = std::make_shared<cursor_ledger>(ledger_of(names, 1));
  const auto moves = std::make_shared<batch>();
  for (std::size_t i = 0; i < moved; ++i) moves->moves.push_back({0, names[i], cursor_at(i)});
  const auto run = [=] {
    ledger->book(*moves);
    return ledger->take_state(0, steady_time{}).size();
  };
  return {std::move(name), 1, run(), run, "state"};
}

}  // namespace

std::vector<workload> ledger_workloads() {
  return {booking("book_4_shards", 4, 1000),
          booking("book_1024_shards", 1024, 1000),
          stating("state_4_shards", 4, 4),
          stating("state_256_shards_all_moved", 256, 256),
          stating("state_1024_shards_64_moved", 1024, 64),
          stating("state_1024_shards_all_moved", 1024, 1024)};
}

}  // namespace psource::bench
