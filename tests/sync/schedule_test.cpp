// The schedule: turns, limits, and what the end of a stream means for its tables.
#include <doctest/doctest.h>

#include "sync/schedule.hpp"
#include "tests/support/events.hpp"
#include "tests/sync/fixtures.hpp"

using namespace psource;
using namespace psource::testing;

namespace {

session_spec spec_of(stream_kind kind, const std::string& shard, std::vector<stream_index> streams) {
  session_spec spec;
  spec.kind = kind;
  spec.keyspace = keyspace_name("ks");
  spec.shards = {shard_name(shard)};
  spec.stops[shard_name(shard)] = gtids(server + "1-10");
  for (const auto stream : streams) {
    auto table = session_table_of(stream, simple_table("t" + std::to_string(stream)));
    table.cursors[shard_name(shard)] = {server + "1-5", {}, 3};
    spec.tables.push_back(std::move(table));
  }
  return spec;
}

sync_plan plan_of(std::size_t streams, std::vector<session_spec> specs) {
  sync_plan plan;
  plan.streams.resize(streams);
  for (auto& spec : specs) (spec.kind == stream_kind::catch_up ? plan.catch_ups : plan.copies).push_back(std::move(spec));
  return plan;
}

std::string verdicts(sync_schedule& schedule) {
  std::string text;
  for (const auto& verdict : schedule.take_verdicts())
    text += std::to_string(verdict.stream) + (verdict.complete ? "+ " : "- ");
  return text;
}

std::vector<session_table> at(const session_spec& spec, const std::string& position) {
  auto tables = spec.tables;
  for (auto& table : tables)
    for (auto& [shard, cursor] : table.cursors) cursor.position = position;
  return tables;
}

// -80 was split, and is followed to the two shards in its place.
session_spec spec_of_a_split() {
  auto spec = spec_of(stream_kind::catch_up, "-80", {0});
  spec.stops.clear();
  spec.stops[shard_name("-40")] = gtids(server + "1-10");
  spec.stops[shard_name("40-80")] = gtids(server + "1-10");
  spec.old_shards = {shard_name("-80")};
  return spec;
}

}  // namespace

TEST_CASE("streams without anything to read are over at once") {
  auto plan = plan_of(2, {spec_of(stream_kind::copy, "-", {1})});
  sync_schedule schedule(plan, {});
  CHECK(verdicts(schedule) == "0+ ");
}

TEST_CASE("catch-ups come first, and limits hold") {
  auto plan = plan_of(4, {spec_of(stream_kind::copy, "-", {0}), spec_of(stream_kind::copy, "-", {1}),
                          spec_of(stream_kind::copy, "-", {2}), spec_of(stream_kind::catch_up, "-", {3})});
  schedule_limits limits;
  limits.max_streams = 3;
  limits.max_copies_per_shard = 1;
  sync_schedule schedule(plan, limits);
  auto tasks = schedule.start();
  REQUIRE(tasks.size() == 2);
  CHECK(tasks[0].spec.kind == stream_kind::catch_up);
  CHECK(tasks[1].spec.tables[0].stream == 0);
  CHECK(schedule.start().empty());
  schedule.finished(tasks[1].id, at(tasks[1].spec, server + "1-10"));
  CHECK(verdicts(schedule) == "0+ ");
  tasks = schedule.start();
  REQUIRE(tasks.size() == 1);
  CHECK(tasks[0].spec.tables[0].stream == 1);
}

TEST_CASE("no more streams are started than may run at once now, nor than the configuration allows") {
  std::vector<session_spec> copies;
  for (stream_index i = 0; i < 8; ++i) copies.push_back(spec_of(stream_kind::copy, std::to_string(i), {i}));
  auto plan = plan_of(8, std::move(copies));
  schedule_limits limits;
  limits.max_streams = 5;
  sync_schedule schedule(plan, limits);
  auto tasks = schedule.start(true, 2);
  CHECK(tasks.size() == 2);
  CHECK(schedule.start(true, 2).empty());
  CHECK(schedule.start(true, 3).size() == 1);
  CHECK(schedule.start(true, 100).size() == 2);
  // Fewer from here on: those that run stay.
  CHECK(schedule.start(true, 1).empty());
  CHECK(schedule.running() == 5);
  for (const auto& task : tasks) schedule.finished(task.id, at(task.spec, server + "1-10"));
  CHECK(schedule.start(true, 3).empty());
  CHECK(schedule.start(true, 4).size() == 1);
}

TEST_CASE("a copy that ends before the stop joins the catch-up") {
  auto plan = plan_of(1, {spec_of(stream_kind::copy, "-", {0})});
  sync_schedule schedule(plan, {});
  auto tasks = schedule.start();
  schedule.finished(tasks[0].id, at(tasks[0].spec, server + "1-8"));
  CHECK(verdicts(schedule).empty());
  tasks = schedule.start();
  REQUIRE(tasks.size() == 1);
  CHECK(tasks[0].spec.kind == stream_kind::catch_up);
  schedule.finished(tasks[0].id, at(tasks[0].spec, server + "1-10"));
  CHECK(verdicts(schedule) == "0+ ");
  CHECK(schedule.idle());
}

TEST_CASE("a table that is done waits while others are copied, and catches up to a fresh peek") {
  auto plan = plan_of(2, {spec_of(stream_kind::catch_up, "-", {0}), spec_of(stream_kind::copy, "-", {1})});
  for (stream_index i = 0; i < 2; ++i) plan.streams[i].table = session_table_of(i, simple_table("t" + std::to_string(i)));
  sync_schedule schedule(plan, {});
  auto tasks = schedule.start();
  REQUIRE(tasks.size() == 2);
  schedule.finished(tasks[0].id, at(tasks[0].spec, server + "1-10"));
  CHECK(verdicts(schedule).empty());
  CHECK(schedule.holds_tables());
  CHECK(schedule.held_shards() == std::set<shard_id>{{keyspace_name("ks"), shard_name("-")}});
  // An hour later: the stop has moved on.
  const std::map<shard_id, gtid_set> stops{{{keyspace_name("ks"), shard_name("-")}, gtids(server + "1-50")}};
  schedule.refresh(stops, 0);
  auto again = schedule.start();
  REQUIRE(again.size() == 1);
  CHECK(again[0].spec.kind == stream_kind::catch_up);
  CHECK(again[0].spec.tables[0].cursors.at(shard_name("-")).position == server + "1-10");
  CHECK(again[0].spec.stops.at(shard_name("-")) == gtids(server + "1-50"));
  schedule.finished(again[0].id, at(again[0].spec, server + "1-50"));
  schedule.refresh(stops, 0);
  CHECK(schedule.start().empty());
  // The last copy ends; both are over once they are released.
  schedule.finished(tasks[1].id, at(tasks[1].spec, server + "1-50"));
  CHECK(schedule.copies_done());
  CHECK(schedule.ends_unconfirmed());
  CHECK(verdicts(schedule).empty());
  schedule.begin_listing();
  schedule.confirm_ends({{keyspace_name("ks"), shard_name("-")}});
  CHECK_FALSE(schedule.ends_unconfirmed());
  schedule.release();
  CHECK(verdicts(schedule) == "0+ 1+ ");
  CHECK_FALSE(schedule.holds_tables());
}

TEST_CASE("a table that is done keeps up with the binary logs although copies hold every place") {
  auto plan = plan_of(2, {spec_of(stream_kind::copy, "-", {0}), spec_of(stream_kind::copy, "-", {1})});
  for (auto& stream : plan.streams) stream.table = session_table_of(stream.table.stream, simple_table("t"));
  schedule_limits limits;
  limits.max_streams = 1;
  sync_schedule schedule(plan, limits);
  auto tasks = schedule.start();
  REQUIRE(tasks.size() == 1);
  schedule.finished(tasks[0].id, at(tasks[0].spec, server + "1-10"));
  REQUIRE(schedule.start().size() == 1);
  schedule.refresh({{{keyspace_name("ks"), shard_name("-")}, gtids(server + "1-50")}}, 0);
  const auto more = schedule.start();
  REQUIRE(more.size() == 1);
  CHECK(more[0].spec.additional);
}

TEST_CASE("an end that is caught up from is judged when that is over") {
  auto copy = spec_of(stream_kind::copy, "-80", {0});
  copy.tables[0].cursors[shard_name("-80")] = {{}, {}, 3, server + "1-4"};
  auto plan = plan_of(1, {copy});
  plan.streams[0].table = session_table_of(0, simple_table("t0"));
  sync_schedule schedule(plan, {});
  const auto task = schedule.start().at(0);
  schedule.finished(task.id, at(task.spec, server + "1-10"));
  schedule.refresh({{{keyspace_name("ks"), shard_name("-80")}, gtids(server + "1-50")}}, 0);
  const auto further = schedule.start();
  REQUIRE(further.size() == 1);
  const std::set<shard_id> after{{keyspace_name("ks"), shard_name("-40")}, {keyspace_name("ks"), shard_name("40-80")}};
  schedule.begin_listing();
  schedule.confirm_ends(after);
  CHECK(schedule.ends_unconfirmed());
  schedule.finished(further[0].id, at(further[0].spec, server + "1-50"));
  schedule.begin_listing();
  schedule.confirm_ends(after);
  CHECK_FALSE(schedule.ends_unconfirmed());
  CHECK(schedule.plan_is_due());
  CHECK(schedule.unplanned().at(0).at(shard_name("-80")).since == server + "1-4");
}

TEST_CASE("tables that were copied from a shard that does not serve afterwards are planned again") {
  const auto planned = [] {
    auto copy = spec_of(stream_kind::copy, "-80", {0});
    copy.tables[0].cursors[shard_name("-80")] = {{}, {}, 3, server + "1-4"};
    auto plan = plan_of(1, {copy});
    plan.streams[0].table = session_table_of(0, simple_table("t0"));
    return plan;
  };
  const std::set<shard_id> after{{keyspace_name("ks"), shard_name("-40")}, {keyspace_name("ks"), shard_name("40-80")}};
  auto plan = planned();
  sync_schedule schedule(plan, {});
  const auto task = schedule.start().at(0);
  // An answer to a question from before the copy's end tells nothing.
  schedule.begin_listing();
  schedule.finished(task.id, at(task.spec, server + "1-10"));
  schedule.confirm_ends({{keyspace_name("ks"), shard_name("-80")}});
  CHECK(schedule.ends_unconfirmed());
  schedule.begin_listing();
  SUBCASE("it serves") {
    schedule.confirm_ends({{keyspace_name("ks"), shard_name("-80")}});
    CHECK_FALSE(schedule.ends_unconfirmed());
    CHECK_FALSE(schedule.plan_is_due());
    schedule.release();
    CHECK(verdicts(schedule) == "0+ ");
  }
  SUBCASE("it does not") {
    schedule.confirm_ends(after);
    CHECK_FALSE(schedule.ends_unconfirmed());
    REQUIRE(schedule.plan_is_due());
    schedule.release();
    CHECK(verdicts(schedule).empty());
    CHECK(schedule.rounds() == 0);
    const auto standing = schedule.unplanned();
    REQUIRE(standing.count(0) == 1);
    // What is deleted from the peek on is told again.
    CHECK(standing.at(0).at(shard_name("-80")) == shard_cursor{"", "", 3, server + "1-4"});
    SUBCASE("the new plan is adopted, so many times") {
      for (unsigned round = 1; round <= 5; ++round) {
        auto again = planned();
        schedule.adopt(again);
        CHECK_FALSE(schedule.plan_is_due());
        const auto copy = schedule.start().at(0);
        schedule.failed(copy.id, {error_code::shards_changed, "resharded.", "", std::nullopt}, copy.spec.tables);
        CHECK(schedule.plan_is_due() == (round < 5));
      }
      CHECK(verdicts(schedule) == "0- ");
      const auto told = schedule.take_failures();
      REQUIRE(told.size() == 1);
      CHECK(told[0].message.find("The next sync goes on") != std::string::npos);
    }
    SUBCASE("what may pass is asked for again, so many times") {
      const failure outage{error_code::query_failed, "No primary tablet serves the shard now.", "1105: no healthy tablet", std::nullopt};
      for (unsigned round = 1; round <= 5; ++round) {
        CHECK(schedule.plan_is_due());
        CHECK(schedule.rounds() == round - 1);
        schedule.planning_failed(outage);
      }
      CHECK_FALSE(schedule.plan_is_due());
      CHECK(verdicts(schedule) == "0- ");
      const auto told = schedule.take_failures();
      REQUIRE(told.size() == 1);
      CHECK(told[0].message.find("could not be planned again: No primary tablet serves the shard now.") != std::string::npos);
    }
    SUBCASE("what does not pass ends it at once") {
      schedule.planning_failed({error_code::credentials_refused, "The login was refused.", "", std::nullopt});
      CHECK_FALSE(schedule.plan_is_due());
      CHECK(verdicts(schedule) == "0- ");
    }
    SUBCASE("there is no new plan") {
      schedule.fail_unplanned("Nobody answers.");
      CHECK(verdicts(schedule) == "0- ");
      const auto told = schedule.take_failures();
      REQUIRE(told.size() == 1);
      CHECK(told[0].code == error_code::shards_changed);
      CHECK(told[0].message.find("Nobody answers.") != std::string::npos);
    }
  }
}

TEST_CASE("a table whose stream a reshard has led to other shards is complete when those serve") {
  auto plan = plan_of(1, {spec_of(stream_kind::catch_up, "-", {0})});
  plan.streams[0].table = session_table_of(0, simple_table("t0"));
  sync_schedule schedule(plan, {});
  const auto task = schedule.start().at(0);
  auto tables = task.spec.tables;
  const std::map<shard_name, shard_cursor> ends{{shard_name("-80"), {server + "1-20", {}, 9}},
                                                {shard_name("80-"), {server + "1-30", {}, 9}}};
  tables[0].cursors = ends;
  schedule.finished(task.id, tables);
  CHECK(verdicts(schedule).empty());
  REQUIRE(schedule.ends_unconfirmed());
  schedule.begin_listing();
  SUBCASE("they do") {
    schedule.confirm_ends({{keyspace_name("ks"), shard_name("-80")}, {keyspace_name("ks"), shard_name("80-")}});
    CHECK_FALSE(schedule.plan_is_due());
    schedule.release();
    CHECK(verdicts(schedule) == "0+ ");
  }
  SUBCASE("the reshard was undone: it goes on from where it stands") {
    schedule.confirm_ends({{keyspace_name("ks"), shard_name("-")}});
    REQUIRE(schedule.plan_is_due());
    CHECK(schedule.unplanned().at(0) == ends);
    schedule.release();
    CHECK(verdicts(schedule).empty());
    CHECK(schedule.take_warnings().size() == 1);
  }
}

TEST_CASE("positions that lead through an undone reshard neither alone nor together are lost") {
  auto call = spec_of(stream_kind::catch_up, "-80", {0});
  call.rejoined = true;
  call.shards.push_back(shard_name("80-"));
  call.stops[shard_name("80-")] = gtids(server + "1-10");
  call.tables[0].cursors[shard_name("80-")] = {server + "1-7", {}, 5};
  auto plan = plan_of(1, {call});
  plan.streams[0].table = session_table_of(0, simple_table("t0"));
  const auto end = [](sync_schedule& schedule, error_code code) {
    const auto task = schedule.start().at(0);
    schedule.failed(task.id, {code, "It has waited.", "", std::nullopt}, task.spec.tables);
  };
  SUBCASE("one waits for the other") {
    sync_schedule schedule(plan, {});
    end(schedule, error_code::stream_stalled);
    CHECK(verdicts(schedule) == "0- ");
    const auto told = schedule.take_failures();
    REQUIRE(told.size() == 1);
    CHECK(told[0].message.find("do not lead through a reshard that was undone") != std::string::npos);
    CHECK(told[0].detail == "It has waited.");
    CHECK(told[0].message.find("Re-sync data") != std::string::npos);
  }
  SUBCASE("one waits for the other, and the data is to be synced again") {
    schedule_limits limits;
    limits.on_lost_position = lost_position_behavior::resync_data;
    sync_schedule schedule(plan, limits);
    end(schedule, error_code::stream_stalled);
    const auto copies = schedule.start();
    REQUIRE(copies.size() == 2);
    for (const auto& copy : copies) CHECK(copy.spec.kind == stream_kind::copy);
    CHECK(schedule.take_warnings().size() == 1);
  }
  SUBCASE("the server refuses them, after the traffic had time to be switched") {
    const auto adopted = plan;
    sync_schedule schedule(plan, {});
    for (unsigned round = 1; round <= 5; ++round) {
      end(schedule, error_code::shards_changed);
      REQUIRE(schedule.plan_is_due());
      auto again = adopted;
      schedule.adopt(again);
    }
    end(schedule, error_code::shards_changed);
    CHECK(verdicts(schedule) == "0- ");
    CHECK(schedule.take_failures().at(0).message.find("Re-sync data") != std::string::npos);
  }
  SUBCASE("a stall behind the reshard is no lost position") {
    sync_schedule schedule(plan, {});
    const auto task = schedule.start().at(0);
    auto tables = task.spec.tables;
    tables[0].cursors = {{shard_name("-"), {server + "1-20", {}, 9}}};
    schedule.failed(task.id, {error_code::stream_stalled, "It has waited.", "", std::nullopt}, tables);
    CHECK(schedule.take_failures().at(0).message == "It has waited.");
  }
  SUBCASE("what breaks otherwise is no lost position") {
    sync_schedule schedule(plan, {});
    end(schedule, error_code::stream_broken);
    CHECK(verdicts(schedule) == "0- ");
    CHECK(schedule.take_failures().at(0).message == "It has waited.");
  }
}

TEST_CASE("what was only followed across a reshard is copied from where it has come to") {
  auto follow = spec_of(stream_kind::catch_up, "-80", {0, 1});
  follow.old_shards = {shard_name("-80")};
  follow.tables[1].uncopied = true;
  auto plan = plan_of(2, {follow});
  for (stream_index i = 0; i < 2; ++i) plan.streams[i].table = session_table_of(i, simple_table("t" + std::to_string(i)));
  sync_schedule schedule(plan, {});
  const auto task = schedule.start().at(0);
  auto tables = task.spec.tables;
  for (auto& table : tables) {
    table.cursors.clear();
    for (const char* shard : {"-40", "40-80"})
      table.cursors[shard_name(shard)] = table.uncopied ? shard_cursor{"", "", 9, server + "1-20"} : shard_cursor{server + "1-20", "", 9};
  }
  schedule.finished(task.id, tables);
  const auto copies = schedule.start();
  REQUIRE(copies.size() == 2);
  for (const auto& copy : copies) {
    CHECK(copy.spec.kind == stream_kind::copy);
    CHECK(copy.spec.settles_at_since);
    CHECK(copy.spec.old_shards.empty());
    REQUIRE(copy.spec.tables.size() == 1);
    CHECK(copy.spec.tables[0].stream == 1);
    CHECK_FALSE(copy.spec.tables[0].uncopied);
    CHECK(copy.spec.tables[0].cursors.begin()->second == shard_cursor{"", "", 9, server + "1-20"});
  }
}

TEST_CASE("a copy does not start on a shard that was replaced meanwhile") {
  auto plan = plan_of(2, {spec_of(stream_kind::copy, "-80", {0}), spec_of(stream_kind::copy, "80-", {1})});
  sync_schedule schedule(plan, {});
  CHECK(schedule.start(false).empty());
  CHECK(schedule.copies_wait());
  schedule.drop_unserved({{keyspace_name("ks"), shard_name("80-")}, {keyspace_name("ks"), shard_name("-40")}});
  CHECK(verdicts(schedule) == "0- ");
  const auto told = schedule.take_failures();
  REQUIRE(told.size() == 1);
  CHECK(told[0].code == error_code::shards_changed);
  const auto tasks = schedule.start();
  REQUIRE(tasks.size() == 1);
  CHECK(tasks[0].spec.shards[0] == shard_name("80-"));
}

TEST_CASE("a failed table does not wait for the others' copies") {
  auto plan = plan_of(2, {spec_of(stream_kind::catch_up, "-", {0}), spec_of(stream_kind::copy, "-", {1})});
  for (stream_index i = 0; i < 2; ++i) plan.streams[i].table = session_table_of(i, simple_table("t" + std::to_string(i)));
  sync_schedule schedule(plan, {});
  auto tasks = schedule.start();
  schedule.failed(tasks[0].id, {error_code::position_lost, "purged.", "", std::nullopt}, tasks[0].spec.tables);
  CHECK(verdicts(schedule) == "0- ");
}

TEST_CASE("a resumed copy whose position is lost is copied again, once") {
  auto plan = plan_of(1, {spec_of(stream_kind::copy, "-", {0})});
  schedule_limits limits;
  limits.on_lost_position = lost_position_behavior::resync_data;
  sync_schedule schedule(plan, limits);
  auto tasks = schedule.start();
  schedule.failed(tasks[0].id, {error_code::position_lost, "purged.", "", std::nullopt}, tasks[0].spec.tables);
  tasks = schedule.start();
  REQUIRE(tasks.size() == 1);
  CHECK(tasks[0].spec.tables[0].cursors.at(shard_name("-")).position.empty());
}

TEST_CASE("an error that names a table takes it out of its call, the others go on") {
  auto plan = plan_of(3, {spec_of(stream_kind::catch_up, "-", {0, 1, 2})});
  sync_schedule schedule(plan, {});
  auto tasks = schedule.start();
  failure why{error_code::schema_incompatible, "no.", "", stream_id{keyspace_name("ks"), table_name("t1")}};
  schedule.failed(tasks[0].id, why, tasks[0].spec.tables);
  CHECK(verdicts(schedule) == "1- ");
  tasks = schedule.start();
  REQUIRE(tasks.size() == 1);
  CHECK(tasks[0].spec.tables.size() == 2);
  schedule.finished(tasks[0].id, at(tasks[0].spec, server + "1-10"));
  CHECK(verdicts(schedule) == "0+ 2+ ");
  REQUIRE(schedule.take_failures().size() == 1);
  CHECK(schedule.any_failed());
}

TEST_CASE("an error of one table that names none is narrowed down by halving the call") {
  auto plan = plan_of(5, {spec_of(stream_kind::catch_up, "-", {0, 1, 2, 3, 4})});
  sync_schedule schedule(plan, {});
  const failure why{error_code::response_malformed, "bad.", "", std::nullopt};
  int rounds = 0;
  while (!schedule.idle() && ++rounds < 50)
    for (auto& task : schedule.start()) {
      bool guilty = false;
      for (const auto& table : task.spec.tables) guilty = guilty || table.stream == 3;
      if (guilty)
        schedule.failed(task.id, why, task.spec.tables);
      else
        schedule.finished(task.id, at(task.spec, server + "1-10"));
    }
  std::set<stream_index> complete;
  std::set<stream_index> incomplete;
  for (const auto& verdict : schedule.take_verdicts()) (verdict.complete ? complete : incomplete).insert(verdict.stream);
  CHECK(complete == std::set<stream_index>{0, 1, 2, 4});
  CHECK(incomplete == std::set<stream_index>{3});
}

TEST_CASE("an error of the server that nobody knows halves the call until the tables that it concerns are alone") {
  auto plan = plan_of(4, {spec_of(stream_kind::catch_up, "-", {0, 1, 2, 3})});
  sync_schedule schedule(plan, {});
  const failure why{error_code::stream_failed, "unheard of.", "", std::nullopt};
  std::size_t failed = 0;
  for (auto tasks = schedule.start(); !tasks.empty(); tasks = schedule.start())
    for (const auto& task : tasks) {
      const auto& tables = task.spec.tables;
      const bool concerned = std::any_of(tables.begin(), tables.end(), [](const auto& table) { return table.stream == 2; });
      failed += concerned ? 1 : 0;
      if (concerned)
        schedule.failed(task.id, why, tables);
      else
        schedule.finished(task.id, tables);
    }
  CHECK(failed == 3);
  CHECK(verdicts(schedule) == "0+ 1+ 2- 3+ ");
}

TEST_CASE("an error of the whole stream fails all its tables, each told once") {
  auto plan = plan_of(2, {spec_of(stream_kind::catch_up, "-80", {0, 1}), spec_of(stream_kind::catch_up, "80-", {0, 1})});
  sync_schedule schedule(plan, {});
  auto tasks = schedule.start();
  const failure why{error_code::stream_broken, "gone.", "", std::nullopt};
  schedule.failed(tasks[0].id, why, tasks[0].spec.tables);
  CHECK(verdicts(schedule).empty());
  schedule.failed(tasks[1].id, why, tasks[1].spec.tables);
  CHECK(verdicts(schedule) == "0- 1- ");
  CHECK(schedule.take_failures().size() == 2);
}

TEST_CASE("a lost position fails the sync, or copies again with the cursor kept where configured") {
  const failure why{error_code::position_lost, "purged.", "", std::nullopt};
  auto plan = plan_of(1, {spec_of(stream_kind::catch_up, "-", {0})});
  sync_schedule strict(plan, {});
  auto tasks = strict.start();
  strict.failed(tasks[0].id, why, tasks[0].spec.tables);
  CHECK(verdicts(strict) == "0- ");
  CHECK(strict.take_failures()[0].message.find("Re-sync data") != std::string::npos);
  plan = plan_of(1, {spec_of(stream_kind::catch_up, "-", {0})});
  schedule_limits limits;
  limits.on_lost_position = lost_position_behavior::resync_data;
  sync_schedule lenient(plan, limits);
  tasks = lenient.start();
  lenient.failed(tasks[0].id, why, tasks[0].spec.tables);
  CHECK(verdicts(lenient).empty());
  CHECK(lenient.take_warnings().size() == 1);
  tasks = lenient.start();
  REQUIRE(tasks.size() == 1);
  CHECK(tasks[0].spec.kind == stream_kind::copy);
  CHECK(tasks[0].spec.tables[0].cursors.at(shard_name("-")).position.empty());
  CHECK(tasks[0].spec.tables[0].cursors.at(shard_name("-")).cdc_cursor == 3);
}

TEST_CASE("tables of old shards that are gone are copied again from the shards that serve") {
  auto spec = spec_of_a_split();
  auto plan = plan_of(1, {spec});
  schedule_limits limits;
  limits.on_lost_position = lost_position_behavior::resync_data;
  sync_schedule schedule(plan, limits);
  auto tasks = schedule.start();
  schedule.failed(tasks[0].id, {error_code::position_lost, "gone.", "", std::nullopt}, tasks[0].spec.tables);
  tasks = schedule.start();
  REQUIRE(tasks.size() == 2);
  for (const auto& task : tasks) {
    CHECK(task.spec.kind == stream_kind::copy);
    CHECK(task.spec.replaces == std::vector<shard_name>{shard_name("-80")});
    CHECK(task.spec.tables[0].cursors.begin()->second.cdc_cursor == 3);
    CHECK(task.spec.shards[0] != shard_name("-80"));
  }
}

TEST_CASE("an old shard that no tablet serves is told with what may be behind it, or copied again where configured") {
  auto spec = spec_of_a_split();
  const auto plan = [&] { return plan_of(1, {spec}); };
  const failure no_tablet{error_code::stream_broken, "No tablet.", "failed to find a PRIMARY tablet for VStream in ks/-80",
                          std::nullopt};
  const failure other{error_code::stream_broken, "No tablet.", "vtgate went away", std::nullopt};
  const auto end = [](sync_schedule& schedule, const failure& why, const char* stands_on) {
    const auto task = schedule.start().at(0);
    auto tables = task.spec.tables;
    tables[0].cursors = {{shard_name(stands_on), {server + "1-7", {}, 5}}};
    schedule.failed(task.id, why, tables);
  };
  SUBCASE("told") {
    auto planned = plan();
    sync_schedule schedule(planned, {});
    end(schedule, no_tablet, "-80");
    CHECK(verdicts(schedule) == "0- ");
    const auto told = schedule.take_failures().at(0);
    CHECK(told.code == error_code::stream_broken);
    CHECK(told.message.find("No tablet. The stream follows old shards through a reshard.") == 0);
    CHECK(told.message.find("Re-sync data") != std::string::npos);
  }
  schedule_limits limits;
  limits.on_lost_position = lost_position_behavior::resync_data;
  auto planned = plan();
  sync_schedule schedule(planned, limits);
  SUBCASE("copied again") {
    end(schedule, no_tablet, "-80");
    const auto copies = schedule.start();
    REQUIRE(copies.size() == 2);
    for (const auto& copy : copies) {
      CHECK(copy.spec.kind == stream_kind::copy);
      CHECK(copy.spec.replaces == std::vector<shard_name>{shard_name("-80")});
    }
    CHECK(schedule.take_warnings().size() == 1);
  }
  SUBCASE("what breaks otherwise is an outage") {
    end(schedule, other, "-80");
    CHECK(schedule.take_failures().at(0).message == "No tablet.");
  }
  SUBCASE("and so it is behind the reshard, where the binary logs can be asked for") {
    end(schedule, no_tablet, "-40");
    CHECK(schedule.take_failures().at(0).message == "No tablet.");
  }
}

TEST_CASE("a refused primary key starts the copy over, once") {
  auto plan = plan_of(1, {spec_of(stream_kind::copy, "-", {0})});
  sync_schedule schedule(plan, {});
  const failure why{error_code::lastpk_refused, "key.", "", std::nullopt};
  auto tasks = schedule.start();
  schedule.failed(tasks[0].id, why, tasks[0].spec.tables);
  tasks = schedule.start();
  REQUIRE(tasks.size() == 1);
  CHECK(tasks[0].spec.tables[0].cursors.at(shard_name("-")).lastpk.empty());
  schedule.failed(tasks[0].id, why, tasks[0].spec.tables);
  CHECK(schedule.start().empty());
  CHECK(verdicts(schedule) == "0- ");
}

TEST_CASE("a refused primary key ends a full refresh: started over it would deliver rows twice") {
  auto plan = plan_of(1, {spec_of(stream_kind::full_copy, "-", {0})});
  sync_schedule schedule(plan, {});
  auto tasks = schedule.start();
  schedule.failed(tasks[0].id, {error_code::lastpk_refused, "key.", "", std::nullopt}, tasks[0].spec.tables);
  CHECK(schedule.start().empty());
  CHECK(verdicts(schedule) == "0- ");
}

TEST_CASE("a shard copied in place of an old one has only its own stop to reach") {
  auto spec = spec_of_a_split();
  auto plan = plan_of(1, {spec});
  schedule_limits limits;
  limits.on_lost_position = lost_position_behavior::resync_data;
  sync_schedule schedule(plan, limits);
  auto tasks = schedule.start();
  schedule.failed(tasks[0].id, {error_code::position_lost, "gone.", "", std::nullopt}, tasks[0].spec.tables);
  tasks = schedule.start();
  REQUIRE(tasks.size() == 2);
  // A replica that lags: the snapshot is older than the stop.
  schedule.finished(tasks[0].id, at(tasks[0].spec, server + "1-8"));
  const auto rest = schedule.start();
  REQUIRE(rest.size() == 1);
  CHECK(rest[0].spec.kind == stream_kind::catch_up);
  CHECK(rest[0].spec.stops.size() == 1);
  // The other shard never comes in this stream.
  auto clock = std::make_shared<fake_clock>();
  stream_session session(rest[0].spec, clock);
  session.begin_attempt();
  event_script script("ks", rest[0].spec.shards[0].str());
  script.begin(1).vgtid(server + "1-10").commit(1);
  session.feed(buffer(script.take()));
  batch out;
  CHECK(*session.pump(out) == pump_result::finished);
}

TEST_CASE("a refresh of held tables inherits nothing from the first call's reshard") {
  auto old = spec_of(stream_kind::catch_up, "-80", {0});
  old.old_shards = {shard_name("-80")};
  old.stops.clear();
  old.stops[shard_name("-40")] = gtids(server + "1-10");
  old.stops[shard_name("40-80")] = gtids(server + "1-10");
  auto plan = plan_of(2, {old, spec_of(stream_kind::copy, "80-", {1})});
  for (stream_index i = 0; i < 2; ++i) plan.streams[i].table = session_table_of(i, simple_table("t" + std::to_string(i)));
  sync_schedule schedule(plan, {});
  auto tasks = schedule.start();
  REQUIRE(tasks.size() == 2);
  // The journal was crossed.
  auto crossed = tasks[0].spec.tables;
  crossed[0].cursors.clear();
  crossed[0].cursors[shard_name("-40")] = {server + "1-10", {}, 3};
  crossed[0].cursors[shard_name("40-80")] = {server + "1-10", {}, 3};
  schedule.finished(tasks[0].id, crossed);
  schedule.refresh({{{keyspace_name("ks"), shard_name("-40")}, gtids(server + "1-50")}}, 0);
  const auto again = schedule.start();
  REQUIRE(again.size() == 1);
  CHECK(again[0].spec.shards == std::vector<shard_name>{shard_name("-40")});
  CHECK(again[0].spec.old_shards.empty());
  // A merge in the middle of the read: the table is planned again, no position is lost.
  schedule.failed(again[0].id, {error_code::shards_changed, "resharded.", "", std::nullopt}, again[0].spec.tables);
  CHECK(schedule.take_failures().empty());
  CHECK(schedule.unplanned().count(0) == 1);
}

TEST_CASE("a table that had reached its stop stays complete when the additional hourly catch-up breaks") {
  auto plan = plan_of(2, {spec_of(stream_kind::catch_up, "-", {0}), spec_of(stream_kind::copy, "-", {1})});
  for (stream_index i = 0; i < 2; ++i) plan.streams[i].table = session_table_of(i, simple_table("t" + std::to_string(i)));
  sync_schedule schedule(plan, {});
  auto tasks = schedule.start();
  schedule.finished(tasks[0].id, at(tasks[0].spec, server + "1-10"));
  schedule.refresh({{{keyspace_name("ks"), shard_name("-")}, gtids(server + "1-50")}}, 0);
  auto again = schedule.start();
  REQUIRE(again.size() == 1);
  schedule.failed(again[0].id, {error_code::stream_broken, "reset.", "", std::nullopt},
                  at(again[0].spec, server + "1-30"));
  CHECK(schedule.take_warnings().size() == 1);
  // The next refresh goes on from where it has come to.
  schedule.refresh({{{keyspace_name("ks"), shard_name("-")}, gtids(server + "1-60")}}, 0);
  again = schedule.start();
  REQUIRE(again.size() == 1);
  CHECK(again[0].spec.tables[0].cursors.at(shard_name("-")).position == server + "1-30");
  schedule.failed(again[0].id, {error_code::stream_stalled, "slow.", "", std::nullopt}, again[0].spec.tables);
  // Nor does it count what would end any other stream.
  for (const auto code : {error_code::credentials_refused, error_code::vstream_unavailable, error_code::response_too_large}) {
    schedule.refresh({{{keyspace_name("ks"), shard_name("-")}, gtids(server + "1-60")}}, 0);
    again = schedule.start();
    REQUIRE(again.size() == 1);
    schedule.failed(again[0].id, {code, "no.", "", std::nullopt}, again[0].spec.tables);
  }
  schedule.finished(tasks[1].id, at(tasks[1].spec, server + "1-50"));
  schedule.release();
  const auto told = verdicts(schedule);
  CHECK(told.find("0+") != std::string::npos);
  CHECK_FALSE(schedule.any_failed());
}

TEST_CASE("a half copy whose older changes no longer fit is copied again where that is configured") {
  auto plan = plan_of(1, {spec_of(stream_kind::copy, "-", {0})});
  plan.copies[0].tables[0].cursors[shard_name("-")].lastpk = "some key";
  schedule_limits limits;
  limits.on_lost_position = lost_position_behavior::resync_data;
  sync_schedule schedule(plan, limits);
  auto tasks = schedule.start();
  schedule.failed(tasks[0].id, {error_code::schema_incompatible, "no.", "", std::nullopt}, tasks[0].spec.tables);
  tasks = schedule.start();
  REQUIRE(tasks.size() == 1);
  CHECK(tasks[0].spec.tables[0].cursors.at(shard_name("-")).position.empty());
}
