// The planner: which tables are copied, resumed or caught up on which shards.
#include <doctest/doctest.h>

#include "protocol/airbyte/config.hpp"
#include "query.pb.h"
#include "sync/key_range.hpp"
#include "sync/planner.hpp"
#include "tests/sync/fixtures.hpp"

using namespace psource;
using namespace psource::testing;

namespace {

source_config config_of(const std::string& more = "") {
  auto config = parse_config(R"({"host":"h","database":"ks","username":"u","password":"secret")" + more + "}");
  REQUIRE(config);
  return *config;
}

configured_stream stream_of(const std::string& table, sync_mode mode = sync_mode::incremental) {
  configured_stream stream;
  stream.id = {keyspace_name("ks"), table_name(table)};
  stream.mode = mode;
  for (const char* name : {"id", "v", "_ab_cdc_updated_at", "_ab_cdc_deleted_at", "_ab_cdc_cursor"})
    stream.properties.push_back({name, "{}"});
  return stream;
}

struct world {
  explicit world(std::vector<std::string> shards, const std::string& more = "") {
    input.config = config_of(more);
    for (const auto& shard : shards) {
      input.serving[keyspace_name("ks")].push_back(shard_name(shard));
      input.stops[{keyspace_name("ks"), shard_name(shard)}] = gtids(server + "1-10");
    }
    add_table("t");
  }
  void add_table(const std::string& name, sync_mode mode = sync_mode::incremental) {
    const auto table = simple_table(name);
    input.tables.emplace(table.id, table);
    input.streams.push_back(stream_of(name, mode));
  }
  void save(const std::string& table, const std::string& shard, const std::string& position,
            std::optional<std::int64_t> cdc = 5, const std::string& lastpk = "") {
    saved_shard entry;
    entry.cursor = {shard_name(shard), keyspace_name("ks"), position, lastpk};
    entry.cdc_cursor = cdc;
    input.state.streams[{keyspace_name("ks"), table_name(table)}].shards[shard_name(shard)] = entry;
  }
  sync_plan plan() {
    auto made = make_plan(input);
    REQUIRE_MESSAGE(made.has_value(), (made ? "" : made.error().message));
    return std::move(*made);
  }
  plan_input input;
};

std::string some_key() {
  query::QueryResult key;
  key.add_fields()->set_name("id");
  key.add_rows()->add_lengths(1);
  key.mutable_rows(0)->set_values("7");
  return key.SerializeAsString();
}

}  // namespace

TEST_CASE("without state every table is copied on every shard, in turns over the shards") {
  world w({"-80", "80-"});
  w.add_table("u");
  const auto plan = w.plan();
  REQUIRE(plan.copies.size() == 4);
  CHECK(plan.catch_ups.empty());
  CHECK(plan.copies[0].shards[0] == shard_name("-80"));
  CHECK(plan.copies[1].shards[0] == shard_name("80-"));
  CHECK(plan.streams[0].ledger.cursors.size() == 2);
}

TEST_CASE("copies that need the binary log since an earlier read come first") {
  world w({"-"});
  w.add_table("u");
  w.add_table("v");
  w.save("u", "-", server + "1-5", 5, some_key());
  w.save("v", "-", "");
  w.input.state.streams.at({keyspace_name("ks"), table_name("v")}).shards.begin()->second.since = server + "1-4";
  const auto plan = w.plan();
  REQUIRE(plan.copies.size() == 3);
  CHECK(plan.copies[0].tables[0].shape->id.table == table_name("u"));
  CHECK(plan.copies[1].tables[0].shape->id.table == table_name("v"));
  CHECK(plan.copies[2].tables[0].shape->id.table == table_name("t"));
}

TEST_CASE("a key with a TIME column gets a warning, unless it is delivered as text") {
  world w({"-"});
  auto& table = w.input.tables.begin()->second;
  table.columns[0].column_type = "timestamp";
  CHECK(w.plan().warnings.empty());
  for (const char* type : {"time", "time(3)"}) {
    table.columns[0].column_type = type;
    const auto plan = w.plan();
    REQUIRE(plan.warnings.size() == 1);
    CHECK(plan.warnings[0].find("time_as_string") != std::string::npos);
  }
  w.input.config.time_as_string = true;
  CHECK(w.plan().warnings.empty());
}

TEST_CASE("S3 S6 a position that contains the peeked one opens no stream and comes back unchanged") {
  world w({"-"});
  w.save("t", "-", server + "1-10");
  const auto plan = w.plan();
  CHECK(plan.copies.empty());
  CHECK(plan.catch_ups.empty());
  CHECK(plan.streams[0].up_to_date == 1);
  CHECK(plan.streams[0].ledger.cursors.at(shard_name("-")).position == server + "1-10");
  CHECK(plan.streams[0].ledger.cursors.at(shard_name("-")).cdc_cursor == 5);
}

TEST_CASE("tables of a shard at one position share a call, others have their own") {
  world w({"-"});
  w.add_table("u");
  w.add_table("x");
  w.save("t", "-", server + "1-5");
  w.save("u", "-", server + "1-5");
  w.save("x", "-", server + "1-6");
  const auto plan = w.plan();
  REQUIRE(plan.catch_ups.size() == 2);
  CHECK(plan.catch_ups[0].tables.size() + plan.catch_ups[1].tables.size() == 3);
}

TEST_CASE("a half copy of ours resumes; the peer's own starts over; one without usable key starts over") {
  world w({"-"});
  w.save("t", "-", server + "1-5", 5, some_key());
  CHECK(w.plan().streams[0].resumes == 1);
  w.save("t", "-", server + "1-5", std::nullopt, some_key());
  auto plan = w.plan();
  CHECK(plan.streams[0].copies == 1);
  CHECK(plan.copies[0].tables[0].cursors.at(shard_name("-")).position.empty());
  w.save("t", "-", server + "1-5", 5, some_key());
  w.input.tables.begin()->second.copy_order.clear();
  CHECK(w.plan().streams[0].copies == 1);
}

TEST_CASE("a half copy by a key that is not the table's any more starts over, and brings the changes since it began") {
  world w({"-"});
  auto& table = w.input.tables.begin()->second;
  w.save("t", "-", server + "1-5", 5, some_key());
  for (const auto& key : {std::vector<std::string>{"v"}, {"id", "v"}, {"v", "id"}}) {
    table.primary_key = table.copy_order = key;
    const auto plan = w.plan();
    CHECK(plan.streams[0].resumes == 0);
    REQUIRE(plan.copies.size() == 1);
    const auto& cursor = plan.copies[0].tables[0].cursors.at(shard_name("-"));
    CHECK(cursor.lastpk.empty());
    CHECK(cursor.since == server + "1-5");
    CHECK(plan.infos.front().find("primary key has changed") != std::string::npos);
  }
  // Started over, a full refresh would deliver rows twice.
  w.input.streams[0].mode = sync_mode::full_refresh;
  w.input.streams[0].generation_id = w.input.streams[0].sync_id = 4;
  w.input.state.streams.begin()->second.full_refresh = full_refresh_mark{4, 4, false};
  auto plan = w.plan();
  CHECK(plan.copies.empty());
  REQUIRE(plan.streams[0].problem);
  CHECK(plan.streams[0].problem->code == error_code::lastpk_refused);
  // A unique key in the place of a primary key.
  w.input.streams[0].mode = sync_mode::incremental;
  w.input.state.streams.begin()->second.full_refresh.reset();
  table.primary_key.clear();
  table.copy_order = {"v"};
  CHECK(w.plan().streams[0].resumes == 0);
  table.copy_order = {"id"};
  CHECK(w.plan().streams[0].resumes == 1);
}

TEST_CASE("a half copy by a unique key goes on, in whatever order its columns are told") {
  world w({"-"});
  auto& table = w.input.tables.begin()->second;
  table.primary_key.clear();
  table.copy_order = {"v", "id"};
  query::QueryResult key;
  for (const char* name : {"id", "v"}) {
    key.add_fields()->set_name(name);
    key.add_rows();
  }
  key.mutable_rows()->RemoveLast();
  for (int i = 0; i < 2; ++i) key.mutable_rows(0)->add_lengths(1);
  key.mutable_rows(0)->set_values("78");
  w.save("t", "-", server + "1-5", 5, key.SerializeAsString());
  CHECK(w.plan().streams[0].resumes == 1);
  table.primary_key = table.copy_order;
  CHECK(w.plan().streams[0].resumes == 0);
}

TEST_CASE("a table without a key is told apart by the one that the user chose; one with a key is not") {
  world w({"-"});
  auto& table = w.input.tables.begin()->second;
  w.input.streams[0].primary_key = {{"v"}, {"no", "column"}, {"nowhere"}};
  table.identity = table.primary_key;
  CHECK(w.plan().streams[0].table.shape->table.identity == std::vector<std::string>{"id"});
  table.primary_key.clear();
  table.identity.clear();
  CHECK(w.plan().streams[0].table.shape->table.identity == std::vector<std::string>{"v"});
}

TEST_CASE("a half copy is resumed even when nothing new was written since") {
  world w({"-"});
  w.save("t", "-", server + "1-10", 5, some_key());
  const auto plan = w.plan();
  CHECK(plan.streams[0].resumes == 1);
  CHECK(plan.streams[0].up_to_date == 0);
}

TEST_CASE("S17 starting_gtids count only where there is no state") {
  const std::string more = R"(,"starting_gtids":"{\"ks\":{\"-\":\"MySQL56/00000000-0000-0000-0000-000000000001:1-3\"}}")";
  world w({"-"}, more);
  auto plan = w.plan();
  REQUIRE(plan.catch_ups.size() == 1);
  CHECK(plan.catch_ups[0].tables[0].cursors.at(shard_name("-")).position == server + "1-3");
  REQUIRE(plan.infos.size() == 1);
  CHECK(plan.infos[0].find("not copied") != std::string::npos);
  CHECK(plan.warnings.empty());
  w.save("t", "-", server + "1-6");
  plan = w.plan();
  CHECK(plan.catch_ups[0].tables[0].cursors.at(shard_name("-")).position == server + "1-6");
}

TEST_CASE("starting_gtids for a shard that does not exist are warned of, once, where they would count") {
  world w({"-80", "80-"}, R"(,"starting_gtids":"{\"ks\":{\"-\":\"MySQL56/00000000-0000-0000-0000-000000000001:1-3\"}}")");
  w.add_table("u");
  const auto plan = w.plan();
  CHECK(plan.copies.size() == 4);
  REQUIRE(plan.warnings.size() == 1);
  CHECK(plan.warnings[0].find("`starting_gtids` has a position for the shard ks/-, which does not exist") != std::string::npos);
  for (const char* table : {"t", "u"})
    for (const char* shard : {"-80", "80-"}) w.save(table, shard, server + "1-6");
  CHECK(w.plan().warnings.empty());
}

TEST_CASE("a stream of a keyspace that the configuration does not name is told so, and keeps its state") {
  world w({"-"});
  auto other = stream_of("t");
  other.id.keyspace = keyspace_name("other");
  w.input.streams.push_back(other);
  saved_shard entry;
  entry.cursor = {shard_name("-"), other.id.keyspace, server + "1-5", ""};
  w.input.state.streams[other.id].shards[shard_name("-")] = entry;
  const auto plan = w.plan();
  CHECK(plan.copies.size() == 1);
  REQUIRE(plan.streams[1].problem);
  CHECK(plan.streams[1].problem->code == error_code::keyspace_unknown);
  CHECK(plan.streams[1].problem->message.find("`database` does not name the keyspace of the stream other.t") != std::string::npos);
  // Also where nothing else is read: that its tables are gone is more than anybody knows.
  w.input.streams.erase(w.input.streams.begin());
  const auto refused = make_plan(w.input);
  REQUIRE_FALSE(refused);
  CHECK(refused.error().code == error_code::keyspace_unknown);
  CHECK(plan.streams[1].ledger.cursors.at(shard_name("-")).position == server + "1-5");
}

TEST_CASE("S12 only the configured shards are read, with blanks and trailing commas") {
  world w({"-40", "40-80", "80-"}, R"(,"shards":"-40, 80-,")");
  const auto plan = w.plan();
  CHECK(plan.copies.size() == 2);
  CHECK(plan.streams[0].ledger.cursors.count(shard_name("40-80")) == 0);
  CHECK(plan.streams[0].ledger.cursors.count(shard_name("")) == 0);
}

TEST_CASE("S7 an unknown shard in the configuration is an error that names what exists") {
  world w({"-80", "80-"}, R"(,"shards":"-40")");
  const auto made = make_plan(w.input);
  REQUIRE_FALSE(made);
  CHECK(made.error().code == error_code::shard_unknown);
  CHECK(made.error().message.find("80-") != std::string::npos);
}

TEST_CASE("S22 a stale shard key of another keyspace is ignored with a warning, and the new shards are copied") {
  world w({"-"});
  w.save("t", "ks_etl/-", server + "1-5");
  const auto plan = w.plan();
  CHECK(plan.copies.size() == 1);
  REQUIRE_FALSE(plan.warnings.empty());
  CHECK(plan.warnings[0].find("ks_etl/-") != std::string::npos);
}

TEST_CASE("S4 a full refresh ignores an incremental state and the other way round") {
  world w({"-"});
  w.save("t", "-", server + "1-10");
  w.input.streams[0].mode = sync_mode::full_refresh;
  auto plan = w.plan();
  REQUIRE(plan.copies.size() == 1);
  CHECK(plan.copies[0].kind == stream_kind::full_copy);
  w.input.streams[0].mode = sync_mode::incremental;
  w.input.state.streams.begin()->second.full_refresh = full_refresh_mark{1, 1, true};
  plan = w.plan();
  REQUIRE(plan.copies.size() == 1);
  CHECK(plan.copies[0].kind == stream_kind::copy);
}

TEST_CASE("a full refresh resumes only within its generation and sync") {
  world w({"-80", "80-"});
  w.input.streams[0].mode = sync_mode::full_refresh;
  w.input.streams[0].generation_id = 4;
  w.input.streams[0].sync_id = 8;
  w.save("t", "-80", server + "1-5", 5, some_key());
  w.save("t", "80-", server + "1-5");
  auto& state = w.input.state.streams.begin()->second;
  state.full_refresh = full_refresh_mark{4, 8, false};
  auto plan = w.plan();
  CHECK(plan.streams[0].resumes == 1);
  CHECK(plan.streams[0].up_to_date == 1);
  state.full_refresh = full_refresh_mark{4, 9, false};
  plan = w.plan();
  CHECK(plan.streams[0].copies == 2);
  w.input.streams[0].sync_id.reset();
  CHECK(w.plan().streams[0].copies == 2);
}

TEST_CASE("a full refresh across a reshard: finished stays finished, begun fails until its next generation") {
  world w({"-80", "80-"});
  w.input.streams[0].mode = sync_mode::full_refresh;
  w.input.streams[0].generation_id = 4;
  w.input.streams[0].sync_id = 8;
  w.save("t", "-", server + "1-5");
  auto& state = w.input.state.streams.begin()->second;
  state.full_refresh = full_refresh_mark{4, 8, true};
  auto plan = w.plan();
  CHECK(plan.copies.empty());
  CHECK_FALSE(plan.streams[0].problem);
  CHECK(plan.streams[0].ledger.full_refresh->done);
  CHECK(plan.streams[0].ledger.cursors.count(shard_name("-")) == 1);
  // Killed after the last row, before it said so.
  state.full_refresh->done = false;
  CHECK(w.plan().streams[0].ledger.full_refresh->done);
  state.shards.begin()->second.cursor.last_known_pk = some_key();
  plan = w.plan();
  CHECK(plan.copies.empty());
  REQUIRE(plan.streams[0].problem);
  CHECK(plan.streams[0].problem->code == error_code::shards_changed);
  CHECK(plan.streams[0].ledger.cursors.count(shard_name("-")) == 1);
  // Nothing of it was delivered.
  state.shards.begin()->second.cursor.last_known_pk.clear();
  state.shards.begin()->second.cursor.position.clear();
  CHECK(w.plan().copies.size() == 2);
  state.full_refresh->generation_id = 3;
  CHECK(w.plan().copies.size() == 2);
}

TEST_CASE("a missing table: incremental goes on with its state, full refresh fails, none left is an error") {
  world w({"-"});
  w.input.streams.push_back(stream_of("gone"));
  w.save("gone", "-", server + "1-5");
  w.input.streams.push_back(stream_of("away", sync_mode::full_refresh));
  const auto plan = w.plan();
  CHECK_FALSE(plan.streams[1].problem);
  CHECK(plan.streams[1].ledger.cursors.at(shard_name("-")).position == server + "1-5");
  REQUIRE(plan.streams[2].problem);
  CHECK(plan.streams[2].problem->code == error_code::table_missing);
  REQUIRE(plan.warnings.size() == 1);
  CHECK(plan.warnings[0].find("Its saved state is kept.") != std::string::npos);
  // COMPLETE would have the destination take all rows away.
  w.input.streams[1].generation_id = w.input.streams[1].minimum_generation_id = 2;
  const auto refreshed = w.plan();
  REQUIRE(refreshed.streams[1].problem);
  CHECK(refreshed.streams[1].problem->code == error_code::table_missing);
  CHECK(refreshed.streams[1].ledger.cursors.at(shard_name("-")).position == server + "1-5");
  CHECK(refreshed.warnings.empty());
  w.input.tables.clear();
  const auto none = make_plan(w.input);
  REQUIRE_FALSE(none);
  CHECK(none.error().code == error_code::table_missing);
}

TEST_CASE("a position that the server has not executed is lost: fail, or copy again where configured") {
  world w({"-"});
  w.save("t", "-", server + "1-99");
  auto plan = w.plan();
  REQUIRE(plan.streams[0].problem);
  CHECK(plan.streams[0].problem->code == error_code::position_foreign);
  CHECK(plan.streams[0].problem->message.find("Refresh and remove records") != std::string::npos);
  world again({"-"}, R"(,"invalid_cdc_cursor_position_behavior":"Re-sync data")");
  again.save("t", "-", server + "1-99");
  plan = again.plan();
  CHECK(plan.copies.size() == 1);
  CHECK(plan.copies[0].tables[0].cursors.at(shard_name("-")).cdc_cursor == 5);
  CHECK(plan.warnings.size() == 1);
}

TEST_CASE("a position that a replica does not have is lost when the primary says so, not when the replica may lag") {
  world w({"-"}, R"(,"use_replica":true)");
  const shard_id shard{keyspace_name("ks"), shard_name("-")};
  const std::string errant = ",bbbbbbbb-bbbb-bbbb-bbbb-bbbbbbbbbbbb:1-3";
  w.save("t", "-", server + "1-10");
  CHECK(shards_to_ask(w.input).empty());
  w.save("t", "-", server + "1-99");
  CHECK(shards_to_ask(w.input) == std::vector<shard_id>{shard});
  SUBCASE("the primary did not answer") { CHECK(w.plan().streams[0].up_to_date == 1); }
  SUBCASE("the primary has it") {
    w.input.primaries[shard].executed = gtids(server + "1-100");
    CHECK(w.plan().streams[0].up_to_date == 1);
  }
  SUBCASE("lost in a failover") {
    w.input.primaries[shard].executed = gtids(server + "1-98");
    const auto plan = w.plan();
    REQUIRE(plan.streams[0].problem);
    CHECK(plan.streams[0].problem->code == error_code::position_foreign);
  }
  SUBCASE("with transactions that a replica made") {
    w.save("t", "-", server + "1-10" + errant);
    w.input.primaries[shard].executed = gtids(server + "1-10");
    CHECK(w.plan().streams[0].up_to_date == 1);
  }
  SUBCASE("of another database") {
    w.save("t", "-", "MySQL56/" + errant.substr(1));
    w.input.primaries[shard].executed = gtids(server + "1-10");
    REQUIRE(w.plan().streams[0].problem);
  }
}

TEST_CASE("old shards of a split are streamed together and feed the new ones") {
  world w({"-40", "40-80", "80-"});
  w.save("t", "-80", server + "1-5");
  w.save("t", "80-", server + "1-10");
  const auto plan = w.plan();
  CHECK(plan.copies.empty());
  REQUIRE(plan.catch_ups.size() == 1);
  CHECK(plan.catch_ups[0].shards == std::vector<shard_name>{shard_name("-80")});
  CHECK(plan.catch_ups[0].stops.count(shard_name("40-80")) == 1);
}

TEST_CASE("old shards of a merge are streamed in one call") {
  world w({"-80", "80-"});
  w.save("t", "-40", server + "1-5");
  w.save("t", "40-80", server + "1-6");
  w.save("t", "80-", server + "1-10");
  const auto plan = w.plan();
  REQUIRE(plan.catch_ups.size() == 1);
  CHECK(plan.catch_ups[0].shards.size() == 2);
}

TEST_CASE("a table half copied on an old shard is followed to the shards that cover it, to be copied there") {
  world w({"-40", "40-80", "80-"});
  w.save("t", "-80", server + "1-5", 99, some_key());
  w.save("t", "80-", server + "1-10", 7);
  SUBCASE("half copied") {}
  SUBCASE("not begun, by a run that was broken off") {
    auto& entry = w.input.state.streams.begin()->second.shards.at(shard_name("-80"));
    entry.cursor = {shard_name("-80"), keyspace_name("ks"), "", ""};
    entry.since = server + "1-5";
  }
  const auto plan = w.plan();
  CHECK(plan.copies.empty());
  REQUIRE(plan.catch_ups.size() == 1);
  const session_table& table = plan.catch_ups[0].tables[0];
  CHECK(table.uncopied);
  CHECK(table.cursors.at(shard_name("-80")) == shard_cursor{"", "", 99, server + "1-5"});
  CHECK(plan.streams[0].ledger.cursors.at(shard_name("-80")) == table.cursors.at(shard_name("-80")));
}

TEST_CASE("a table that no run has begun on an old shard is copied from the shards that cover it, its cursor kept") {
  world w({"-40", "40-80", "80-"});
  w.save("t", "-80", "", 99);
  w.save("t", "80-", server + "1-10", 7);
  const auto plan = w.plan();
  CHECK(plan.catch_ups.empty());
  REQUIRE(plan.copies.size() == 2);
  for (const auto& copy : plan.copies) {
    CHECK(copy.tables[0].cursors.begin()->second.cdc_cursor == 99);
    CHECK_FALSE(copy.settles_at_since);
  }
}

TEST_CASE("a copy keeps where it began, and one after a broken one ends there") {
  world w({"-"});
  SUBCASE("the first") {
    const auto plan = w.plan();
    REQUIRE(plan.copies.size() == 1);
    CHECK_FALSE(plan.copies[0].settles_at_since);
    CHECK(plan.copies[0].tables[0].cursors.at(shard_name("-")).since == server + "1-10");
    // Until a record of the table is told, no state has it.
    CHECK(plan.streams[0].ledger.cursors.at(shard_name("-")).since.empty());
    CHECK(plan.streams[0].ledger.beginnings.at(shard_name("-")) == server + "1-10");
    CHECK(shards_to_ask(w.input).empty());
  }
  SUBCASE("the second") {
    w.save("t", "-", "");
    auto& entry = w.input.state.streams.begin()->second.shards.at(shard_name("-"));
    SUBCASE("of this server") {
      entry.since = server + "1-7";
      const auto plan = w.plan();
      REQUIRE(plan.copies.size() == 1);
      CHECK(plan.copies[0].settles_at_since);
      CHECK(plan.copies[0].tables[0].cursors.at(shard_name("-")).since == server + "1-7");
      CHECK(plan.streams[0].ledger.cursors.at(shard_name("-")).since == server + "1-7");
      CHECK(plan.streams[0].ledger.beginnings.empty());
      CHECK(plan.warnings.empty());
    }
    SUBCASE("of this server, its binary log gone") {
      entry.since = server + "1-7";
      const shard_id shard{keyspace_name("ks"), shard_name("-")};
      CHECK(shards_to_ask(w.input) == std::vector<shard_id>{shard});
      w.input.primaries[shard] = {gtids(server + "1-7"), gtids(server + "1-10")};
      CHECK(w.plan().copies[0].settles_at_since);
      w.input.primaries[shard].purged = gtids(server + "1-8");
      const auto plan = w.plan();
      REQUIRE(plan.copies.size() == 1);
      CHECK_FALSE(plan.copies[0].settles_at_since);
      CHECK(plan.copies[0].tables[0].cursors.at(shard_name("-")).since == server + "1-10");
      REQUIRE(plan.warnings.size() == 1);
      CHECK(plan.warnings[0].find("purged") != std::string::npos);
    }
    SUBCASE("of this server, some of it lost in a failover") {
      const std::string lost = ",6ba72fa1-0000-11ee-8000-00000000dead:1-3";
      entry.since = server + "1-7" + lost;
      auto plan = w.plan();
      REQUIRE(plan.copies.size() == 1);
      CHECK(plan.copies[0].settles_at_since);
      CHECK(plan.copies[0].tables[0].cursors.at(shard_name("-")).since == server + "1-7");
      REQUIRE(plan.warnings.size() == 1);
      CHECK(plan.warnings[0].find("has not executed all") != std::string::npos);
      w.input.primaries[{keyspace_name("ks"), shard_name("-")}] = {gtids(server + "1-8"), gtids(server + "1-10")};
      plan = w.plan();
      CHECK_FALSE(plan.copies[0].settles_at_since);
      CHECK(plan.copies[0].tables[0].cursors.at(shard_name("-")).since == server + "1-10");
    }
    SUBCASE("of another server") {
      entry.since = "MySQL56/00000000-0000-0000-0000-000000000002:1-7";
      const auto plan = w.plan();
      REQUIRE(plan.copies.size() == 1);
      CHECK_FALSE(plan.copies[0].settles_at_since);
      CHECK(plan.warnings.size() == 1);
    }
  }
}

TEST_CASE("streams of a running read are planned again from their cursors, under their numbers") {
  world w({"-40", "40-80", "80-"});
  w.add_table("t1");
  w.add_table("t2");
  // The state that the read began with does not count any more.
  w.save("t1", "-80", server + "1-2");
  standing_cursors standing;
  // Streaming on a shard that was split: it is followed.
  standing[1][shard_name("-80")] = {server + "1-5", {}, 7};
  standing[1][shard_name("80-")] = {server + "1-10", {}, 8};
  // Not begun there: the new shards are copied.
  standing[2][shard_name("-80")] = {{}, {}, 9};
  standing[2][shard_name("80-")] = {server + "1-5", {}, 10};
  const auto plan = plan_again(w.input, standing);
  REQUIRE(plan);
  REQUIRE(plan->streams.size() == 2);
  CHECK(plan->streams[0].table.stream == 1);
  CHECK(plan->streams[1].table.stream == 2);
  REQUIRE(plan->catch_ups.size() == 2);
  CHECK(plan->catch_ups[0].old_shards == std::vector<shard_name>{shard_name("-80")});
  CHECK(plan->catch_ups[0].tables[0].stream == 1);
  CHECK(plan->catch_ups[1].shards == std::vector<shard_name>{shard_name("80-")});
  CHECK(plan->catch_ups[1].tables[0].stream == 2);
  REQUIRE(plan->copies.size() == 2);
  for (const auto& copy : plan->copies) {
    CHECK(copy.tables[0].stream == 2);
    CHECK(copy.replaces == std::vector<shard_name>{shard_name("-80")});
    CHECK(copy.replacements == std::vector<shard_name>{shard_name("-40"), shard_name("40-80")});
    CHECK(copy.tables[0].cursors.begin()->second.cdc_cursor == 9);
  }
}

TEST_CASE("the peer's cursor field gets a warning with the cure") {
  world w({"-"});
  auto& stream = w.input.streams[0];
  stream.destination_sync_mode = "append_dedup";
  stream.cursor_field = {"id"};
  stream.default_cursor_field = {"_ab_cdc_cursor"};
  auto plan = w.plan();
  REQUIRE(plan.warnings.size() == 1);
  CHECK(plan.warnings[0].find("ones. Set the stream's cursor field to \"_ab_cdc_cursor\"") != std::string::npos);

  // The catalog as the peer left it: its own default, and no CDC columns.
  stream.default_cursor_field = {"id"};
  stream.properties.resize(2);
  plan = w.plan();
  REQUIRE(plan.warnings.size() == 1);
  CHECK(plan.warnings[0].find("Refresh the connection's schema, then set") != std::string::npos);

  stream.destination_sync_mode = "append";
  CHECK(w.plan().warnings.empty());
  stream.destination_sync_mode = "append_dedup";
  stream.cursor_field = {"_ab_cdc_cursor"};
  CHECK(w.plan().warnings.empty());
}

TEST_CASE("records are held against what a refreshed catalog declares, not against the peer's") {
  world w({"-"});
  auto& stream = w.input.streams[0];
  stream.properties[0].schema = R"({"type":["number"],"airbyte_type":"integer"})";
  auto plan = w.plan();
  const auto& declared = plan.streams[0].table.shape->declared;
  REQUIRE(declared.count("id") == 1);
  CHECK(declared.at("id").airbyte_type == "integer");
  stream.properties.resize(2);
  plan = w.plan();
  CHECK(plan.streams[0].table.shape->declared.empty());
}

TEST_CASE("copies by FLOAT, DOUBLE, ENUM, SET or JSON keys, or without a key, are not resumed") {
  auto table = simple_table("t");
  CHECK(copy_is_resumable(table));
  for (const char* type : {"float", "double", "enum('a')", "set('a')", "json", "float(7,4)"}) {
    table.columns[0].column_type = type;
    CHECK_FALSE(copy_is_resumable(table));
  }
  table.columns[0].column_type = "varbinary(20)";
  CHECK(copy_is_resumable(table));
  table.copy_order.clear();
  CHECK_FALSE(copy_is_resumable(table));
}

TEST_CASE("replica streams also end by time, because replicas may hold GTIDs of their own") {
  world w({"-"}, R"(,"use_replica":true)");
  w.input.peek_seconds = 1000;
  w.save("t", "-", server + "1-99");
  const auto plan = w.plan();
  CHECK_FALSE(plan.streams[0].problem);
  w.save("t", "-", server + "1-5");
  const auto behind = w.plan();
  REQUIRE(behind.catch_ups.size() == 1);
  CHECK(behind.catch_ups[0].stop_commit_seconds == 1030);
  CHECK(behind.catch_ups[0].tablet == tablet_type::replica);
}

TEST_CASE("key ranges overlap where they share a key") {
  const auto range = [](const char* name) { return *key_range_of(shard_name(name)); };
  CHECK(range("-80").overlaps(range("7f-90")));
  CHECK_FALSE(range("-80").overlaps(range("80-")));
  CHECK_FALSE(key_range_of(shard_name("ks/-80x")));
  CHECK(key_range_of(shard_name("0")));
}

TEST_CASE("the shards that took over from one hold all of its keys") {
  const auto successors = [](const char* shard, std::vector<std::string> serving) {
    std::vector<shard_id> ids;
    for (const auto& name : serving) {
      const auto slash = name.find('/');
      ids.push_back({keyspace_name(name.substr(0, slash)), shard_name(name.substr(slash + 1))});
    }
    std::string text;
    for (const auto& name : successors_of({keyspace_name("ks"), shard_name(shard)}, ids)) text += name.str() + " ";
    return text;
  };
  CHECK(successors("-80", {"ks/80-", "ks/40-80", "ks/-40"}) == "-40 40-80 ");
  CHECK(successors("-80", {"ks/-"}) == "- ");
  CHECK(successors("40-80", {"ks/-60", "ks/60-"}) == "-60 60- ");
  CHECK(successors("80-", {"ks/-80", "ks/80-c0", "ks/c0-"}) == "80-c0 c0- ");
  CHECK(successors("0", {"ks/-80", "ks/80-"}) == "-80 80- ");
  CHECK(successors("-", {"ks/0"}) == "0 ");
  // It serves itself; a gap before, between and behind; another keyspace; names without a range.
  CHECK(successors("-80", {"ks/-80", "ks/80-"}).empty());
  CHECK(successors("-80", {"ks/20-80"}).empty());
  CHECK(successors("-80", {"ks/-20", "ks/40-80"}).empty());
  CHECK(successors("-80", {"ks/-40"}).empty());
  CHECK(successors("80-", {"ks/80-c0", "ks/-80"}).empty());
  CHECK(successors("-80", {"ks/-40", "other/40-80"}).empty());
  CHECK(successors("-80", {}).empty());
  CHECK(successors("east", {"ks/-"}).empty());
  CHECK(successors("-80", {"ks/east"}).empty());
}

TEST_CASE("a full refresh's state is not handed back as an incremental one when the table is missing") {
  world w({"-"});
  w.input.streams.push_back(stream_of("gone"));
  w.save("gone", "-", server + "1-5");
  w.input.state.streams[{keyspace_name("ks"), table_name("gone")}].full_refresh = full_refresh_mark{4, 8, true};
  const auto plan = w.plan();
  // What the next read would take for a position to catch up from, though incremental reads ignore such a state.
  CHECK(plan.streams[1].ledger.cursors.empty());
}

TEST_CASE("a start from LEGACY state keeps the cursors of a stream that `shards` leaves nothing of") {
  world w({"-"});
  w.input.config.keyspaces.push_back(keyspace_name("other"));
  w.input.config.shards.push_back({keyspace_name("other"), shard_name("-")});
  w.input.serving[keyspace_name("other")].push_back(shard_name("-"));
  w.save("t", "-", server + "1-5");
  w.input.state.from_legacy = true;
  const auto plan = w.plan();
  REQUIRE(plan.streams[0].problem);
  REQUIRE(plan.states_first);
  // The emitter writes a STREAM state of it before anything else; the platform drops the LEGACY one then.
  REQUIRE(plan.streams[0].ledger.cursors.size() == 1);
  CHECK(plan.streams[0].ledger.cursors.at(shard_name("-")).position == server + "1-5");
}

TEST_CASE("a table whose rows the destination takes away is copied, though an untyped state still has its position") {
  const auto planned = [](bool legacy, std::optional<std::int64_t> generation, std::optional<std::int64_t> minimum) {
    world w({"-"});
    w.save("t", "-", server + "1-5");
    w.input.state.from_legacy = legacy;
    w.input.state.streams.begin()->second.from_legacy = legacy;
    w.input.streams[0].generation_id = generation;
    w.input.streams[0].minimum_generation_id = minimum;
    return w.plan();
  };
  const auto refreshed = planned(true, 3, 3);
  CHECK(refreshed.copies.size() == 1);
  CHECK(refreshed.catch_ups.empty());
  CHECK(refreshed.warnings.size() == 1);
  // What the first STREAM state, before any record, says of it.
  CHECK(refreshed.states_first);
  CHECK(refreshed.streams[0].ledger.cursors.at(shard_name("-")).position.empty());
  // Not from `starting_gtids` either: that would bring changes alone.
  world given({"-"});
  given.save("t", "-", server + "1-5");
  given.input.state.streams.begin()->second.from_legacy = true;
  given.input.streams[0].generation_id = given.input.streams[0].minimum_generation_id = 3;
  given.input.config.starting_gtids[{keyspace_name("ks"), shard_name("-")}] = server + "1-4";
  CHECK(given.plan().copies.size() == 1);
  // Rows stay; or the state is from after the platform had taken out what it wanted to.
  for (const auto& plan : {planned(true, 3, 0), planned(true, 3, 2), planned(true, 0, 0), planned(true, std::nullopt, std::nullopt),
                           planned(true, 3, std::nullopt), planned(false, 3, 3)}) {
    CHECK(plan.copies.empty());
    CHECK(plan.catch_ups.size() == 1);
    CHECK(plan.warnings.empty());
  }
}

TEST_CASE("old shards are followed to the selected ones only") {
  world w({"-40", "40-80", "80-"});
  w.input.config.shards.push_back({keyspace_name(), shard_name("-40")});
  w.save("t", "-80", server + "1-5");
  auto plan = w.plan();
  REQUIRE(plan.catch_ups.size() == 1);
  CHECK(plan.catch_ups[0].wanted == std::vector<shard_name>{shard_name("-40")});
  CHECK(plan.catch_ups[0].stops.size() == 1);
  // All of them: nothing has to be left out.
  world whole({"-40", "40-80"});
  whole.save("t", "-80", server + "1-5");
  plan = whole.plan();
  REQUIRE(plan.catch_ups.size() == 1);
  CHECK(plan.catch_ups[0].wanted.empty());
}
