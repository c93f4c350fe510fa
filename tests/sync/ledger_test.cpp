// The cursor ledger: what a STATE says, and when.
#include <doctest/doctest.h>

#include "protocol/airbyte/state_input.hpp"
#include "query.pb.h"
#include "sync/cursor_ledger.hpp"
#include "tests/sync/fixtures.hpp"

using namespace psource;
using namespace psource::testing;
using namespace std::chrono_literals;

namespace {

const steady_time start{};

cursor_ledger ledger_of(std::vector<std::string> shards, std::optional<full_refresh_mark> mark = std::nullopt) {
  ledger_stream stream;
  stream.id = {keyspace_name("ks"), table_name("t")};
  for (const auto& shard : shards) stream.cursors[shard_name(shard)] = {};
  stream.full_refresh = mark;
  ledger_stream other;
  other.id = {keyspace_name("ks"), table_name("u")};
  return cursor_ledger({stream, other}, {}, start);
}

batch batch_of(std::uint64_t records, const std::string& shard, shard_cursor cursor) {
  batch b;
  b.count(0, records);
  b.moves.push_back({0, shard_name(shard), std::move(cursor)});
  return b;
}

saved_stream_state read_back(const std::string& line) {
  auto state = parse_state("[" + line.substr(0, line.size() - 1).substr(0) + "]", {{keyspace_name("ks"), table_name("t")}});
  REQUIRE(state);
  REQUIRE(state->streams.size() == 1);
  return state->streams.begin()->second;
}

// The `state` object of a STATE line, as the platform hands it back.
std::string state_object(const std::string& line) {
  const std::string head = "{\"type\":\"STATE\",\"state\":";
  REQUIRE(line.compare(0, head.size(), head) == 0);
  return line.substr(head.size(), line.size() - head.size() - 2) + "\n";
}

}  // namespace

TEST_CASE("S7 every state lists all shards of the table, also those that have not moved") {
  auto ledger = ledger_of({"-80", "80-"});
  ledger.book(batch_of(3, "80-", {server + "1-5", {}, 77}));
  const auto state = read_back(state_object(ledger.take_state(0, start)));
  REQUIRE(state.shards.size() == 2);
  CHECK(state.shards.at(shard_name("-80")).cursor.position.empty());
  CHECK(state.shards.at(shard_name("80-")).cursor.position == server + "1-5");
  CHECK(state.shards.at(shard_name("80-")).cdc_cursor == 77);
}

TEST_CASE("where a copy begins is told from the table's first record on") {
  ledger_stream stream;
  stream.id = {keyspace_name("ks"), table_name("t")};
  for (const char* shard : {"-40", "40-80", "80-"}) stream.cursors[shard_name(shard)] = {};
  stream.beginnings[shard_name("-40")] = server + "1-5";
  stream.beginnings[shard_name("40-80")] = server + "1-6";
  stream.beginnings[shard_name("c0-")] = server + "1-9";
  cursor_ledger ledger({stream}, {}, start);
  CHECK(read_back(state_object(ledger.take_state(0, start))).shards.at(shard_name("-40")).since.empty());
  ledger.book(batch_of(0, "40-80", {{}, {}, 0, server + "1-7"}));
  CHECK(ledger.begin_records(0));
  const auto state = read_back(state_object(ledger.take_state(0, start)));
  CHECK(state.shards.size() == 3);
  CHECK(state.shards.at(shard_name("-40")).since == server + "1-5");
  CHECK(state.shards.at(shard_name("40-80")).since == server + "1-7");
  CHECK(state.shards.at(shard_name("80-")).since.empty());
  CHECK_FALSE(ledger.begin_records(0));
}

TEST_CASE("shards that are read anew go back to their beginnings before their records come") {
  auto ledger = ledger_of({"-80", "80-"});
  ledger.book(batch_of(0, "-80", {server + "1-9", {}, 7}));
  ledger.book(batch_of(0, "80-", {server + "1-9", {}, 7}));
  CHECK_FALSE(ledger.begin_records(0));
  ledger.go_back(0, {{shard_name("-80"), {{}, {}, 7, server + "1-5"}}, {shard_name("80-"), {server + "1-9", {}, 7}}});
  CHECK(ledger.begin_records(0));
  const auto state = read_back(state_object(ledger.take_state(0, start)));
  CHECK(state.shards.at(shard_name("-80")).cursor.position.empty());
  CHECK(state.shards.at(shard_name("-80")).since == server + "1-5");
  CHECK(state.shards.at(shard_name("-80")).cdc_cursor == 7);
  CHECK(state.shards.at(shard_name("80-")).cursor.position == server + "1-9");
  CHECK_FALSE(ledger.begin_records(0));
}

TEST_CASE("counts are exact since the table's last state") {
  auto ledger = ledger_of({"-"});
  ledger.book(batch_of(3, "-", {server + "1-5", {}, 1}));
  ledger.book(batch_of(4, "-", {server + "1-6", {}, 2}));
  CHECK(ledger.take_state(0, start).find("\"recordCount\":7.0") != std::string::npos);
  CHECK(ledger.take_state(0, start).find("\"recordCount\":0.0") != std::string::npos);
  CHECK(ledger.total_records(0) == 7);
}

TEST_CASE("two states with records between them are never equal, though no cursor has moved") {
  auto ledger = ledger_of({"-"});
  const auto write = [&](std::uint64_t records) {
    // A copy that cannot go on in its middle stays where it is.
    ledger.book(batch_of(records, "-", {"", "", 5, server + "1-3"}));
    return state_object(ledger.take_state(0, start));
  };
  const auto first = write(4);
  CHECK(first.find("records") == std::string::npos);
  const auto second = write(3);
  const auto third = write(2);
  CHECK(second.find("\"records\":7}") != std::string::npos);
  CHECK(third.find("\"records\":9}") != std::string::npos);
  for (const auto& state : {first, second, third}) CHECK(read_back(state).shards.at(shard_name("-")).since == server + "1-3");
  // Without records between them they may be.
  CHECK(ledger.take_state(0, start).find("\"records\"") == std::string::npos);
}

TEST_CASE("a state is due after the interval while records flow, much later when only the position moves") {
  auto ledger = ledger_of({"-"});
  CHECK(ledger.due(start + 1h).empty());
  ledger.book(batch_of(1, "-", {server + "1-5", {}, 1}));
  CHECK(ledger.due(start + 29s).empty());
  CHECK(ledger.due(start + 30s) == std::vector<stream_index>{0});
  ledger.take_state(0, start + 30s);
  CHECK_FALSE(ledger.changed(0));
  ledger.book(batch_of(0, "-", {server + "1-6", {}, 1}));
  CHECK(ledger.changed(0));
  CHECK(ledger.due(start + 5min).empty());
  CHECK(ledger.due(start + 11min) == std::vector<stream_index>{0});
}

TEST_CASE("a reshard replaces shards in the state") {
  auto ledger = ledger_of({"-80", "80-"});
  batch b;
  b.removals.push_back({0, shard_name("-80"), {}});
  b.moves.push_back({0, shard_name("-40"), {server + "1", {}, 5}});
  b.moves.push_back({0, shard_name("40-80"), {server + "2", {}, 6}});
  ledger.book(b);
  const auto state = read_back(state_object(ledger.take_state(0, start)));
  CHECK(state.shards.size() == 3);
  CHECK(state.shards.count(shard_name("-80")) == 0);
  CHECK(state.shards.count(shard_name("40-80")) == 1);
}

TEST_CASE("a full refresh is marked with its generation, and as done at its end") {
  auto ledger = ledger_of({"-"}, full_refresh_mark{3, 9, false});
  auto state = read_back(state_object(ledger.take_state(0, start)));
  REQUIRE(state.full_refresh);
  CHECK(*state.full_refresh == full_refresh_mark{3, 9, false});
  ledger.finish_full_refresh(0);
  state = read_back(state_object(ledger.take_state(0, start)));
  CHECK(state.full_refresh->done);
}

TEST_CASE("S8 a half copy's key survives the way through a state") {
  auto ledger = ledger_of({"-"});
  query::QueryResult key;
  auto* field = key.add_fields();
  field->set_name("id");
  field->set_type(query::VARBINARY);
  key.add_rows()->add_lengths(3);
  key.mutable_rows(0)->set_values(std::string("\xff\x00\xfe", 3));
  ledger.book(batch_of(1, "-", {server + "1-5", key.SerializeAsString(), 9}));
  const auto state = read_back(state_object(ledger.take_state(0, start)));
  CHECK(state.shards.at(shard_name("-")).cursor.last_known_pk == key.SerializeAsString());
}
