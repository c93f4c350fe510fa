// Named cases of the simulation: each shows one promise, or holds one fault that was found and cured.
#include <doctest/doctest.h>

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "protocol/airbyte/state_input.hpp"
#include "protocol/vitess/cursor.hpp"
#include "tests/simulation/engine_run.hpp"
#include "tests/simulation/transcript_check.hpp"

using namespace psource;
using namespace psource::simulation;

namespace {

constexpr std::int64_t interval_us = 1'000'000;
constexpr std::int64_t never = INT64_MAX;

// A branch, what was delivered of it, and the settings of the next read.
struct scene {
  explicit scene(std::vector<model_table> tables = {{"t0", true}}, const std::vector<int>& boundaries = {},
                 sync_mode mode = sync_mode::incremental)
      : branch(tables, boundaries, chance),
        streams(streams_of(tables, mode)),
        check(branch, settled, streams) {
    settings.streams = streams;
    settings.config.checkpoint_interval = std::chrono::seconds(1);
  }

  static std::vector<configured_stream> streams_of(const std::vector<model_table>& tables, sync_mode mode) {
    std::vector<configured_stream> all;
    for (const auto& table : tables) all.push_back(configured(table, mode));
    return all;
  }

  // One read from the last state; every invariant holds.
  const run_report& read() {
    if (settings.state_text.empty()) settings.state_text = check.state_text();
    check.run_begins();
    engine_run run(branch, time, settled, chance, settings);
    report = run.run();
    check.take(report, interval_us, settings.lagging);
    for (const auto& what : check.violations()) FAIL_CHECK(what);
    time.now_us += 5'000'000;
    settings = {};
    settings.streams = streams;
    settings.config.checkpoint_interval = std::chrono::seconds(1);
    return report;
  }

  void truth() {
    check.compare_with_truth();
    for (const auto& what : check.violations()) FAIL_CHECK(what);
  }

  model_shard& shard(const std::string& name = "-") { return *branch.find(name); }
  void put(const std::vector<std::int64_t>& ids, const std::string& name = "-", std::size_t table = 0) {
    std::vector<row_key> keys;
    for (const auto id : ids) keys.emplace_back(table, id);
    branch.put(shard(name), time.seconds(), keys);
  }
  const std::string& position(std::size_t index, const std::string& name = "-") {
    return shard(name).position_text(index);
  }
  std::string now(const std::string& name = "-") { return position(shard(name).log.size(), name); }

  std::map<std::string, table_cursor> state(std::size_t stream = 0) {
    std::vector<stream_id> ids;
    for (const auto& each : streams) ids.push_back(each.id);
    std::map<std::string, table_cursor> cursors;
    const auto saved = parse_state(check.state_text(), ids);
    REQUIRE(saved);
    const auto found = saved->streams.find(streams[stream].id);
    if (found != saved->streams.end())
      for (const auto& [name, entry] : found->second.shards) cursors[name.str()] = entry.cursor;
    return cursors;
  }
  told_status status(std::size_t stream = 0) { return check.last_run()[stream].status; }
  // How often a row was told in the last read.
  std::size_t times(std::int64_t id) {
    const auto& records = check.last_records();
    return static_cast<std::size_t>(
        std::count_if(records.begin(), records.end(), [&](const told_row& row) { return row.id == id; }));
  }
  bool logged(const std::string& part) {
    const auto& logs = check.last_logs();
    return std::any_of(logs.begin(), logs.end(),
                       [&](const std::string& line) { return line.find(part) != std::string::npos; });
  }
  // Cuts the first call once it has sent so many events, one event per response.
  void cut_first_call_after(std::size_t events, std::function<void()> meanwhile = {}) {
    auto done = std::make_shared<bool>(false);
    settings.on_step = [done, events, meanwhile](engine_run& run) {
      run.events_per_response = 1;
      if (*done || run.server().calls().empty()) return;
      const auto call = run.server().calls().front();
      if (call->events_sent() < events) return;
      *done = true;
      if (meanwhile) meanwhile();
      call->end(14, "connection reset by peer");
    };
  }

  chance_source chance{7};
  simulated_time time;
  settled_positions settled;
  branch_model branch;
  std::vector<configured_stream> streams;
  transcript_check check;
  run_settings settings;
  run_report report;
};

}  // namespace

TEST_CASE("a retry resumes from the last complete cursor, and rows of a half transaction come again") {
  scene s;
  s.branch.fill(0, 1);
  s.read();
  s.put({1});
  s.put({2, 3});
  s.put({4});
  // BEGIN FIELD ROW VGTID COMMIT, then BEGIN ROW of the second transaction (its rows share a ROW event or
  // not).
  s.cut_first_call_after(7);
  s.read();
  REQUIRE(s.report.calls.size() == 2);
  CHECK(s.report.calls[0].shards[0].gtid == s.position(0));
  CHECK(s.report.calls[1].shards[0].gtid == s.position(1));
  CHECK(s.times(1) == 1);
  CHECK(s.times(2) == 2);
  CHECK(s.times(4) == 1);
  CHECK(s.status() == told_status::complete);
  s.truth();
}

TEST_CASE("a copy interrupted in the middle resumes above its last key and loses no row written meanwhile") {
  scene s;
  for (std::int64_t id = 1; id <= 20; ++id) s.branch.fill(0, id);
  // The first batch has one to four rows: BEGIN FIELD VGTID ROW… VGTID COMMIT.
  s.cut_first_call_after(12, [&s] {
    s.put({1, 15});
    s.branch.remove(s.shard(), s.time.seconds(), {0, 18});
    s.branch.change_key(s.shard(), s.time.seconds(), {0, 19}, 21);
    s.put({30});
  });
  s.read();
  REQUIRE(s.report.calls.size() == 2);
  const auto& again = s.report.calls[1].shards[0];
  CHECK(again.copy);
  CHECK(again.gtid == s.position(0));
  CHECK_FALSE(again.lastpk.empty());
  CHECK(s.times(20) == 1);
  CHECK(s.status() == told_status::complete);
  s.truth();
}

TEST_CASE("a copy killed in the middle resumes above its last key in the next read") {
  scene s;
  for (std::int64_t id = 1; id <= 20; ++id) s.branch.fill(0, id);
  s.settings.on_step = [](engine_run& run) {
    run.events_per_response = 1;
    if (run.server().calls().empty()) return;
    // Part of the copy is out; wait for its state, then die.
    if (run.server().calls().front()->events_sent() >= 12) run.server_stands_still = true;
    if (run.elapsed_seconds() >= 4) run.kill();
  };
  s.read();
  CHECK(s.report.killed);
  CHECK_FALSE(s.state().at("-").last_known_pk.empty());
  s.put({1, 15, 40});
  s.branch.remove(s.shard(), s.time.seconds(), {0, 2});
  s.read();
  CHECK_FALSE(s.report.calls[0].shards[0].lastpk.empty());
  CHECK(s.status() == told_status::complete);
  s.truth();
}

TEST_CASE("a copy without a key starts over") {
  scene s({{"t0", false}});
  for (std::int64_t id = 1; id <= 20; ++id) s.branch.fill(0, id);
  s.cut_first_call_after(14);
  s.read();
  REQUIRE(s.report.calls.size() == 2);
  CHECK(s.report.calls[1].shards[0].copy);
  CHECK(s.report.calls[1].shards[0].gtid.empty());
  CHECK(s.report.calls[1].shards[0].lastpk.empty());
  CHECK(s.times(1) == 2);
  CHECK(s.status() == told_status::complete);
  s.truth();
}

TEST_CASE("an empty table is copied although its copy says BEGIN twice") {
  scene s;
  s.read();
  CHECK(s.status() == told_status::complete);
  CHECK(s.check.last_records().empty());
  CHECK(s.state().at("-").position == s.position(0));
  s.put({1});
  s.read();
  s.truth();
}

TEST_CASE("the end is reached by containment when the stop is jumped over") {
  scene s;
  s.branch.fill(0, 1);
  s.read();
  s.put({2});
  // The peek sees a GTID that no VGTID will end at.
  s.branch.append(s.shard(), entry_kind::unsent, s.time.seconds());
  s.settings.on_step = [&s, done = false](engine_run& run) mutable {
    if (run.calls() == 0 || done) return;
    done = true;
    s.put({3});
  };
  s.read();
  CHECK(s.status() == told_status::complete);
  CHECK(s.report.calls.size() == 1);
  CHECK(s.state().at("-").position == s.now());
  s.truth();
}

TEST_CASE("COMMIT without VGTID as the last event before the stop") {
  scene s;
  s.branch.fill(0, 1);
  s.read();
  s.put({2});
  s.branch.append(s.shard(), entry_kind::silent, s.time.seconds());
  s.branch.append(s.shard(), entry_kind::silent, s.time.seconds());
  s.read();
  CHECK(s.status() == told_status::complete);
  CHECK(s.report.calls.size() == 1);
  CHECK(s.state().at("-").position == s.position(1));
  s.truth();
}

TEST_CASE("COMMITs without VGTID that a failing tablet repeats count once") {
  scene s;
  s.branch.fill(0, 1);
  s.read();
  s.branch.append(s.shard(), entry_kind::silent, s.time.seconds());
  s.put({2});
  s.branch.append(s.shard(), entry_kind::silent, s.time.seconds());
  s.settings.on_step = [restarts = 0](engine_run& run) mutable {
    run.events_per_response = 1;
    if (run.server().calls().empty() || restarts == 4) return;
    const auto call = run.server().calls().front();
    // Each time BEGIN and COMMIT of the first, or COMMIT alone.
    if (call->inside_transaction() || call->events_sent() < static_cast<std::size_t>(restarts + 2)) return;
    ++restarts;
    call->restart();
  };
  s.read();
  CHECK(s.status() == told_status::complete);
  CHECK(s.times(2) == 1);
  s.truth();
}

TEST_CASE("COMMITs without VGTID on one shard do not end the stream of another") {
  scene s({{"t0", true}}, {0x80});
  s.branch.fill(0, 1);
  s.read();
  // Both shards are followed in one call once they are old.
  s.branch.reshard({&s.shard("-80"), &s.shard("80-")}, {}, s.time.seconds());
  s.branch.reshard({&s.shard("-")}, {0x40}, s.time.seconds());
  for (int i = 0; i < 6; ++i) s.branch.append(s.shard("-40"), entry_kind::silent, s.time.seconds());
  for (const std::int64_t id : {1, 2, 3, 4, 5, 6})
    if (s.shard("40-").holds(id)) s.put({id}, "40-");
  s.read();
  CHECK(s.status() == told_status::complete);
  CHECK(s.state().at("40-").position == s.now("40-"));
  s.truth();
}

TEST_CASE("one table fails, the others go on") {
  scene s({{"t0", true}, {"t1", true}, {"t2", true}});
  for (std::size_t table = 0; table < 3; ++table) s.branch.fill(table, 1);
  s.read();
  for (std::size_t table = 0; table < 3; ++table) s.put({1, 2}, "-", table);
  s.settings.on_call = [](engine_run&, served_call& call) {
    const auto& tables = call.request().tables;
    if (std::find(tables.begin(), tables.end(), "t1") != tables.end())
      call.end(2, "cannot determine table columns for t1: event has [8 15], schema has 1 column");
  };
  const auto before = s.state(1);
  s.read();
  CHECK(s.status(0) == told_status::complete);
  CHECK(s.status(1) == told_status::incomplete);
  CHECK(s.status(2) == told_status::complete);
  CHECK(s.check.last_run()[1].errors == 1);
  CHECK_FALSE(s.report.outcome->complete);
  CHECK(s.state(1).at("-").position == before.at("-").position);
  s.read();
  CHECK(s.check.all_complete());
  s.truth();
}

TEST_CASE("an output that is closed ends the run") {
  for (const bool full : {false, true}) {
    scene s({{"t0", true}, {"t1", true}});
    for (std::int64_t id = 1; id <= 30; ++id) s.branch.fill(0, id), s.branch.fill(1, id);
    s.settings.trouble.break_at = 2'000;
    s.settings.trouble.disk_full = full;
    s.read();
    REQUIRE(s.report.outcome);
    REQUIRE(s.report.outcome->output_problem);
    CHECK(s.report.outcome->output_problem->code ==
          (full ? error_code::output_failed : error_code::output_closed));
    CHECK_FALSE(s.report.outcome->complete);
    CHECK(s.report.transcript.size() == 2'000);
    s.read();
    CHECK(s.check.all_complete());
    s.truth();
  }
}

TEST_CASE("stop ends in order: last states, INCOMPLETE") {
  scene s({{"t0", true}, {"t1", true}});
  for (std::int64_t id = 1; id <= 30; ++id) s.branch.fill(0, id), s.branch.fill(1, id);
  s.settings.on_step = [](engine_run& run) {
    run.events_per_response = 1;
    if (run.server().calls().size() == 2 && run.server().calls()[1]->events_sent() == 9) run.stop(15);
  };
  s.read();
  REQUIRE(s.report.outcome);
  CHECK(s.report.outcome->signal == 15);
  CHECK_FALSE(s.report.outcome->complete);
  CHECK(s.status(0) == told_status::incomplete);
  CHECK(s.status(1) == told_status::incomplete);
  CHECK(s.check.last_run()[1].states >= 1);
  CHECK_FALSE(s.state(1).at("-").last_known_pk.empty());
  s.read();
  CHECK(s.check.all_complete());
  s.truth();
}

TEST_CASE("a reader that never has to wait hears a stop all the same") {
  // The next response is always there and each batch is written at once, while the reader is still in its turn.
  scene s;
  for (std::int64_t id = 1; id <= 400; ++id) s.branch.fill(0, id, 10'000);
  s.settings.trouble.output_at_once = SIZE_MAX;
  constexpr unsigned before_stop = 10;
  unsigned taken = 0;
  s.settings.on_call = [&](engine_run& run, served_call& call) {
    call.on_take = [&] {
      if (++taken == before_stop) run.stop(15);
      if (call.ready_bytes() == 0 && call.can_send()) call.send(8);
      run.run_ready_actors();
    };
  };
  s.read();
  CHECK(taken > before_stop);
  // The two batches of a turn, of responses with at least a row of 10 KB each.
  CHECK(taken < before_stop + 2 * batch::capacity / 10'000);
  CHECK(s.status() == told_status::incomplete);
  s.read();
  CHECK(s.check.all_complete());
  s.truth();
}

TEST_CASE("a slow output holds the readers back") {
  scene s({{"t0", true}, {"t1", true}});
  for (std::int64_t id = 1; id <= 40; ++id) s.branch.fill(0, id, 30'000), s.branch.fill(1, id, 30'000);
  std::size_t sent_when_blocked = 0;
  s.settings.config.max_streams = 2;
  // Less than the tables have.
  s.settings.transport.read_ahead = 64 * 1024;
  s.settings.on_step = [&](engine_run& run) {
    run.output_stands_still = run.elapsed_seconds() < 600;
    if (run.elapsed_seconds() == 500) {
      sent_when_blocked = 0;
      for (const auto& call : run.server().calls()) sent_when_blocked += call->events_sent();
    }
  };
  s.read();
  // 2 streams × (2 batches of 128 KiB + what the transport reads ahead) of 2 × 40 rows of 30 KB; and nobody
  // gave up.
  CHECK(sent_when_blocked > 0);
  CHECK(sent_when_blocked < 50);
  CHECK(s.report.most_queued_bytes > 200'000);
  CHECK(s.report.most_queued_bytes <= 2 * 2 * batch::capacity);
  CHECK(s.report.calls.size() == 2);
  CHECK(s.check.all_complete());
  s.truth();
}

TEST_CASE("more streams run at once while they wait for their servers") {
  scene s({{"t0", true}}, {0x20, 0x40, 0x60, 0x80, 0xa0, 0xc0, 0xe0});
  for (std::int64_t id = 1; id <= 40; ++id) s.branch.fill(0, id);
  s.settings.config.max_streams = 7;
  s.settings.streams_at_least = 2;
  std::set<std::size_t> at_once;
  s.settings.on_step = [&](engine_run& run) {
    run.server_stands_still = run.elapsed_seconds() < 5;
    if (run.server_stands_still) at_once.insert(run.server().calls().size());
  };
  s.read();
  CHECK(at_once.count(2) == 1);
  CHECK(*at_once.rbegin() == 7);
  CHECK(s.check.all_complete());
  s.truth();
}

TEST_CASE("no more streams run at once while those that do wait for the output") {
  std::vector<model_table> tables;
  for (int i = 0; i < 8; ++i) tables.push_back({"t" + std::to_string(i), true});
  scene s(tables);
  for (std::size_t table = 0; table < tables.size(); ++table)
    for (std::int64_t id = 1; id <= 20; ++id) s.branch.fill(table, id, 60'000);
  s.settings.config.max_streams = 8;
  s.settings.config.max_copies_per_shard = 8;
  s.settings.streams_at_least = 2;
  std::size_t at_once = 0;
  s.settings.on_step = [&](engine_run& run) {
    run.output_stands_still = run.elapsed_seconds() < 60;
    if (run.elapsed_seconds() < 60) at_once = std::max(at_once, run.server().calls().size());
  };
  s.read();
  CHECK(at_once == 2);
  CHECK(s.report.most_queued_bytes <= 8 * 2 * batch::capacity);
  CHECK(s.check.all_complete());
  s.truth();
}

TEST_CASE("a stream that is done keeps its place until its rows are written") {
  std::vector<model_table> tables;
  for (int i = 0; i < 12; ++i) tables.push_back({"t" + std::to_string(i), true});
  scene s(tables);
  for (std::size_t table = 0; table < tables.size(); ++table) s.branch.fill(table, 1, 100'000);
  s.settings.config.max_streams = 2;
  s.settings.on_step = [](engine_run& run) { run.output_stands_still = run.elapsed_seconds() < 60; };
  s.read();
  CHECK(s.report.most_queued_bytes <= 2 * 2 * batch::capacity);
  CHECK(s.check.all_complete());
  s.truth();
}

// A read of a large transaction on each of so many shards, all at once, whose output stands still for a minute and is slow then.
run_report read_much_at_once(std::size_t streams, std::size_t large_batches, const transport_limits& transport) {
  constexpr std::size_t rows_of_each = 100;
  constexpr std::uint32_t padding = 20'000;
  std::vector<int> boundaries;
  for (std::size_t i = 1; i < streams; ++i) boundaries.push_back(static_cast<int>(i * 256 / streams));
  scene s({{"t0", true}, {"t1", true}}, boundaries);
  s.read();
  for (const auto* shard : s.branch.serving()) {
    // Neighbours are of two tables, so that each row has an event of its own, and all responses are of one size.
    std::vector<row_key> keys;
    for (std::int64_t id = 1; keys.size() < rows_of_each; ++id)
      if (shard->holds(id)) keys.emplace_back(keys.size() % 2, id);
    s.branch.put(s.shard(shard->name), s.time.seconds(), keys, padding);
  }
  s.settings.config.max_streams = streams;
  s.settings.large_batches = large_batches;
  s.settings.transport = transport;
  s.settings.trouble.output_speed = 2;
  bool filled = false;
  s.settings.on_step = [&](engine_run& run) {
    run.events_per_response = 8;
    run.output_stands_still = run.elapsed_seconds() < 60;
    // A few calls read ahead as far as all of them may. The others have read nothing yet, so each of them still gets one response, and
    // another one when nothing is left of that.
    const auto& calls = run.server().calls();
    const auto& held = run.server().held();
    filled = filled || (calls.size() == streams && held.bytes + held.largest > transport_limits().read_ahead_of_all);
    for (std::size_t i = 0; i < calls.size(); ++i) calls[i]->mute = i >= 4 && !filled;
  };
  run_report report = s.read();
  CHECK(filled);
  CHECK(s.check.all_complete());
  s.truth();
  // What could break the bound is much larger than it is.
  CHECK(report.transcript.size() > streams * rows_of_each * padding);
  return report;
}

TEST_CASE("what is held in memory keeps to its bound whatever the size of a transaction, and whoever reads") {
  // Every run checks the bound (engine_run::check_memory), for one stream more; here it is driven to its limit.
  struct width {
    std::size_t streams;
    std::size_t large_batches;
  };
  constexpr std::size_t mib = std::size_t{1} << 20;
  static_assert(transport_limits().read_ahead == mib && transport_limits().read_ahead_of_all == 4 * mib);
  static_assert(batch::capacity == 128 * 1024 && batch::all_of_few == 4 * mib);
  for (const width at : {width{16, 0}, width{4, batch::all_of_few}}) {
    CAPTURE(at.streams);
    const run_report report = read_much_at_once(at.streams, at.large_batches, {});
    const std::size_t largest = report.largest_response;
    CHECK(largest > 150'000);
    const memory_bound bound = bound_of({}, at.large_batches, at.streams, largest, 0);
    CHECK(report.most_response_bytes <= bound.response_bytes);
    CHECK(report.most_queued_bytes <= bound.record_bytes);
    CHECK(report.most_response_bytes > bound.response_bytes / 10 * 9);
    // Whole rows, of 20 KB, and what was handed over before there was more.
    CHECK(report.most_queued_bytes > bound.record_bytes / 10 * 7);
    // In the words of docs/design.md.
    CHECK(report.most_held_bytes <= 8 * mib + at.streams * (2 * 128 * 1024 + 2 * largest));
    CHECK(bound.bytes() + at.streams * largest <= 8 * mib + at.streams * (2 * 128 * 1024 + 2 * largest));
  }
}

TEST_CASE("calls that read ahead without regard to the others break the bound on what is held in memory") {
  // Or the case above would prove nothing.
  transport_limits alone;
  alone.read_ahead_of_all = SIZE_MAX / 2;
  const run_report report = read_much_at_once(16, 0, alone);
  const std::size_t largest = report.largest_response;
  CHECK(report.most_response_bytes > bound_of({}, 0, 16, largest, 0).response_bytes);
  CHECK(report.most_held_bytes > (std::size_t{8} << 20) + 16 * (2 * 128 * 1024 + 2 * largest));
}

TEST_CASE("no shard starves: all advance while the largest is read, and the smallest do not wait for it") {
  // 4 shards; one has fifty times the rows of the others, and all are streamed at once.
  scene s({{"t0", true}}, {0x40, 0x80, 0xc0});
  std::map<std::string, std::size_t> rows;
  for (std::int64_t id = 1; id <= 4000; ++id) {
    const auto serving = s.branch.serving();
    const auto home = std::find_if(serving.begin(), serving.end(), [&](const auto* shard) { return shard->holds(id); });
    std::size_t& there = rows[(*home)->name];
    if (there >= ((*home)->name == "-40" ? 500u : 10u)) continue;
    s.branch.fill(0, id);
    ++there;
  }
  s.settings.config.max_streams = 4;
  // Events sent on the largest shard's call when each of the others came to its end.
  std::map<std::string, std::size_t> sent_by_largest;
  s.settings.on_step = [&](engine_run& run) {
    run.events_per_response = 1;
    std::size_t largest = 0;
    std::set<std::string> open;
    for (const auto& call : run.server().calls()) {
      const std::string& shard = call->request().shards.front().shard;
      if (!call->dropped()) open.insert(shard);
      if (shard == "-40") largest = call->events_sent();
    }
    if (run.calls() == 4)
      for (const auto* shard : run.branch().serving())
        if (open.count(shard->name) == 0) sent_by_largest.emplace(shard->name, largest);
  };
  s.read();
  REQUIRE(rows.size() == 4);
  for (const auto& [name, sent] : sent_by_largest) {
    const std::string& shard = name;
    if (shard != "-40") CHECK_MESSAGE(sent < 250, shard);
  }
  CHECK(sent_by_largest.size() == 4);
  CHECK(s.check.all_complete());
  s.truth();
}

TEST_CASE("a stop that a failover has taken GTIDs from does not keep a stream going") {
  // The peek saw transactions that the new primary never got. With and without further changes.
  for (const bool written_to : {true, false}) {
    scene s({{"t0", true}});
    for (std::int64_t id = 1; id <= 5; ++id) s.branch.fill(0, id);
    s.read();
    s.branch.put(s.shard(), s.time.seconds(), {{0, 1}, {0, 2}});
    s.settings.on_plan = [](plan_input& input) {
      auto& stop = input.stops.begin()->second;
      stop = *gtid_set::parse_position(stop.to_position() + ",eeeeeeee-0000-11ee-8000-000000000000:1-3");
    };
    std::int64_t written = 0;
    s.settings.on_step = [&](engine_run& run) {
      if (!written_to || run.elapsed_seconds() < 2 * (written + 1) || written > 200) return;
      ++written;
      s.branch.put(s.shard(), s.time.seconds(), {{0, 100 + written}});
    };
    s.read();
    CHECK(s.check.all_complete());
    CHECK(s.report.calls.size() == 1);
    // Half a minute after the peek the primary is asked, soon after; a silent stream tells it earlier.
    CHECK(s.report.ended_us - s.report.started_us < (written_to ? 60 : 30) * 1'000'000);
    CHECK((written > 0) == written_to);
    s.read();
    CHECK(s.check.all_complete());
    s.truth();
  }
}

TEST_CASE("a stalled stream is given up after the timeout and retried") {
  scene s;
  s.branch.fill(0, 1);
  s.read();
  s.put({1, 2});
  SUBCASE("heartbeats are no progress") {
    s.settings.on_call = [](engine_run& run, served_call& call) {
      if (run.calls() == 1) call.only_heartbeats_until_us = never;
    };
    s.read();
    CHECK(s.logged("brought nothing new for 300 s"));
    CHECK((s.report.ended_us - s.report.started_us) / 1'000'000 >= 300);
  }
  SUBCASE("silence after the first event is a dead connection") {
    s.settings.on_call = [](engine_run& run, served_call& call) {
      if (run.calls() != 1) return;
      call.send_heartbeat();
      call.mute = true;
    };
    s.read();
    CHECK(s.logged("not even a heartbeat"));
    CHECK((s.report.ended_us - s.report.started_us) / 1'000'000 >= 60);
    CHECK((s.report.ended_us - s.report.started_us) / 1'000'000 < 100);
  }
  SUBCASE("a response that takes longer than that comes in the attempt that waits longer") {
    s.settings.on_call = [](engine_run&, served_call& call) {
      call.send_heartbeat();
      call.mute = true;
    };
    s.settings.on_step = [](engine_run& run) {
      for (const auto& call : run.server().calls())
        if (run.time().now_us - call->opened_us >= 100'000'000) call->mute = false;
    };
    s.read();
    CHECK(s.logged("brought nothing for 60 s, not even a heartbeat"));
  }
  CHECK(s.report.calls.size() == 2);
  CHECK(s.status() == told_status::complete);
  s.truth();
}

TEST_CASE("a transaction that breaks its stream each time is given up") {
  scene s;
  s.branch.fill(0, 1);
  s.read();
  s.put({2});
  s.put({3, 4, 5});
  s.settings.on_step = [](engine_run& run) {
    run.events_per_response = 1;
    // After COMMIT of the first or, resumed there, in the middle of the second: rows come, the cursor does
    // not move.
    for (const auto& call : run.server().calls())
      if (call->open() && !call->dropped() && call->events_sent() == (run.calls() == 1 ? 7 : 3))
        call->end(14, "connection reset by peer");
  };
  s.read();
  CHECK(s.status() == told_status::incomplete);
  CHECK(s.report.calls.size() == 4);  // max_retries is 3
  CHECK(s.state().at("-").position == s.position(1));
  s.read();
  CHECK(s.status() == told_status::complete);
  s.truth();
}

TEST_CASE("a reader that takes one stream after another has all retries for each") {
  scene s({{"t0", true}, {"t1", true}, {"t2", true}, {"t3", true}});
  for (std::size_t table = 0; table < 4; ++table) s.branch.fill(table, 1);
  s.settings.config.max_streams = 1;
  s.settings.config.max_retries = 1;
  s.settings.on_call = [](engine_run& run, served_call& call) {
    if (run.calls() % 2 == 1) call.end(14, "connection reset by peer");
  };
  s.read();
  CHECK(s.report.calls.size() == 8);
  CHECK(s.check.all_complete());
  s.truth();
}

TEST_CASE("a reshard while catching up moves the cursors to the new shards") {
  scene s({{"t0", true}, {"t1", true}}, {0x80});
  for (std::int64_t id = 1; id <= 10; ++id) s.branch.fill(0, id), s.branch.fill(1, id);
  s.read();
  for (const std::int64_t id : {1, 2, 3, 4})
    for (const char* name : {"-80", "80-"})
      if (s.shard(name).holds(id)) s.put({id}, name);
  s.settings.on_step = [&s, done = false](engine_run& run) mutable {
    run.events_per_response = 1;
    if (done || run.calls() < 2) return;
    done = true;
    s.branch.reshard({&s.shard("-80")}, {0x40}, s.time.seconds());
    for (const std::int64_t id : {11, 12, 13, 14, 15, 16})
      for (const char* name : {"-40", "40-80"})
        if (s.shard(name).holds(id)) s.put({id}, name);
  };
  s.read();
  CHECK(s.check.all_complete());
  // Where the stop was reached before the journal the old shard stays, and is followed in the next read.
  s.read();
  CHECK(s.check.all_complete());
  for (std::size_t stream = 0; stream < 2; ++stream) {
    const auto state = s.state(stream);
    CHECK(state.size() == 3);
    for (const char* name : {"-40", "40-80", "80-"}) CHECK(state.count(name) == 1);
  }
  s.truth();
}

TEST_CASE("the journal within a catch-up moves the cursors at once") {
  scene s;
  for (std::int64_t id = 1; id <= 10; ++id) s.branch.fill(0, id);
  s.read();
  s.put({1});
  // The stop is a GTID that no event ends at: the journal comes first.
  s.branch.append(s.shard(), entry_kind::unsent, s.time.seconds());
  s.settings.on_step = [&s, done = false](engine_run& run) mutable {
    if (done || run.calls() < 1) return;
    done = true;
    s.branch.reshard({&s.shard()}, {0x80}, s.time.seconds());
  };
  s.read();
  CHECK(s.status() == told_status::complete);
  CHECK(s.report.calls.size() == 1);
  CHECK(s.state().count("-") == 0);
  CHECK(s.state().count("-80") == 1);
  CHECK(s.state().count("80-") == 1);
  s.read();
  s.truth();
}

TEST_CASE("saved old shards are followed to the new ones") {
  SUBCASE("a split") {
    scene s;
    for (std::int64_t id = 1; id <= 10; ++id) s.branch.fill(0, id);
    s.read();
    const std::string saved = s.state().at("-").position;
    s.put({1, 2});
    s.branch.reshard({&s.shard()}, {0x80}, s.time.seconds());
    for (const char* name : {"-80", "80-"})
      for (const std::int64_t id : {3, 4, 5, 21, 22})
        if (s.shard(name).holds(id)) s.put({id}, name);
    s.read();
    REQUIRE(s.report.calls.size() == 1);
    CHECK(s.report.calls[0].shards[0].shard == "-");
    CHECK(s.report.calls[0].shards[0].gtid == saved);
    CHECK(s.status() == told_status::complete);
    CHECK(s.state().size() == 2);
    CHECK(s.state().at("-80").position == s.now("-80"));
    CHECK(s.state().at("80-").position == s.now("80-"));
    s.truth();
  }
  SUBCASE("a merge") {
    scene s({{"t0", true}}, {0x80});
    for (std::int64_t id = 1; id <= 10; ++id) s.branch.fill(0, id);
    s.read();
    s.branch.reshard({&s.shard("-80"), &s.shard("80-")}, {}, s.time.seconds());
    s.put({1, 2, 30});
    s.read();
    REQUIRE(s.report.calls.size() == 1);
    CHECK(s.report.calls[0].shards.size() == 2);
    CHECK(s.status() == told_status::complete);
    CHECK(s.state().size() == 1);
    CHECK(s.state().at("-").position == s.now());
    s.truth();
  }
  SUBCASE("two reshards, one after the other") {
    scene s;
    for (std::int64_t id = 1; id <= 10; ++id) s.branch.fill(0, id);
    s.read();
    s.branch.reshard({&s.shard()}, {0x80}, s.time.seconds());
    s.branch.reshard({&s.shard("-80")}, {0x40}, s.time.seconds());
    s.read();
    CHECK(s.status() == told_status::complete);
    CHECK(s.state().size() == 3);
    for (const char* name : {"-40", "40-80", "80-"}) CHECK(s.state().count(name) == 1);
    s.truth();
  }
}

TEST_CASE("traffic switched, and switched back to the same servers: the saved position leads through both") {
  scene s;
  for (std::int64_t id = 1; id <= 10; ++id) s.branch.fill(0, id);
  const auto split = [&] { s.branch.reshard({&s.shard()}, {0x80}, s.time.seconds()); };
  const auto back = [&] { s.branch.switch_back(s.shard(), s.time.seconds()); };
  const auto write = [&] {
    for (const char* name : {"-80", "80-"})
      for (const std::int64_t id : {3, 4, 5, 21, 22})
        if (s.shard(name).holds(id)) s.put({id}, name);
  };
  s.read();
  SUBCASE("between two reads") {
    s.put({1, 2});
    split();
    write();
    back();
    s.put({6, 23});
    s.read();
  }
  SUBCASE("with a read in between") {
    split();
    write();
    s.read();
    write();
    back();
    s.put({6, 23});
    s.read();
  }
  SUBCASE("while a read goes on") {
    s.put({1, 2});
    split();
    write();
    s.settings.on_step = [&](engine_run& run) {
      if (run.step() == 5) back();
    };
    s.read();
    s.read();
  }
  SUBCASE("with nothing new") {
    split();
    back();
    s.read();
  }
  CHECK(s.status() == told_status::complete);
  CHECK(s.state().size() == 1);
  CHECK(s.state().at("-").position == s.now());
  s.truth();
}

TEST_CASE("a merge that was undone: the saved positions of both shards lead through it together") {
  scene s;
  s.branch.reshard({&s.shard()}, {0x80}, s.time.seconds());
  for (std::int64_t id = 1; id <= 30; ++id)
    for (const char* name : {"-80", "80-"})
      if (s.shard(name).holds(id)) s.put({id}, name);
  s.read();
  REQUIRE(s.state().size() == 2);
  for (const char* name : {"-80", "80-"})
    for (const std::int64_t id : {3, 4, 5})
      if (s.shard(name).holds(id)) s.put({id}, name);
  s.branch.reshard({&s.shard("-80"), &s.shard("80-")}, {}, s.time.seconds());
  s.put({1, 2, 31}, "-");
  s.branch.switch_back(s.shard("-80"), s.time.seconds());
  for (const char* name : {"-80", "80-"})
    for (const std::int64_t id : {6, 7, 32})
      if (s.shard(name).holds(id)) s.put({id}, name);
  s.read();
  CHECK(s.status() == told_status::complete);
  CHECK(s.state().size() == 2);
  s.truth();
}

TEST_CASE("a merge that is followed by a call that stalls: the stall is told, and the next sync goes on") {
  scene s({{"t0", true}}, {0x80});
  for (std::int64_t id = 1; id <= 10; ++id) s.branch.fill(0, id);
  s.read();
  s.branch.reshard({&s.shard("-80"), &s.shard("80-")}, {}, s.time.seconds());
  s.put({1, 2, 30}, "-");
  s.settings.on_call = [](engine_run&, served_call& call) { call.only_heartbeats_until_us = never; };
  s.read();
  CHECK(s.status() == told_status::incomplete);
  CHECK(s.logged("brought nothing new"));
  CHECK(s.logged("If it ends like this with each sync"));
  CHECK_FALSE(s.logged("do not lead through"));
  s.read();
  CHECK(s.status() == told_status::complete);
  CHECK(s.report.calls.size() == 1);
  CHECK(s.times(30) == 1);
  s.truth();
}

TEST_CASE("new shards of a followed old one that are resharded in turn are planned again, not lost") {
  scene s({{"t0", true}}, {0x80});
  for (std::int64_t id = 1; id <= 10; ++id) s.branch.fill(0, id);
  s.read();
  s.branch.reshard({&s.shard("-80")}, {0x40}, s.time.seconds());
  for (int n = 0; n < 10; ++n)
    for (std::int64_t id = 1; id <= 30; ++id)
      if (s.shard("-40").holds(id)) s.put({id}, "-40");
  s.settings.on_step = [&s, merged = false](engine_run& run) mutable {
    run.events_per_response = 1;
    if (merged || run.step() <= 3) return;
    merged = true;
    s.branch.reshard({&s.shard("40-80"), &s.shard("80-")}, {}, s.time.seconds());
  };
  s.read();
  CHECK(s.status() == told_status::complete);
  CHECK_FALSE(s.logged("Refresh and remove records"));
  s.truth();
}

TEST_CASE("one shard copied after a merge that was undone, the other before it: a lost position") {
  scene s({{"t0", true}}, {0x80});
  for (std::int64_t id = 1; id <= 10; ++id) s.branch.fill(0, id);
  s.read();
  s.branch.append(s.shard("-80"), entry_kind::statement, s.time.seconds());
  s.branch.reshard({&s.shard("-80"), &s.shard("80-")}, {}, s.time.seconds());
  s.put({1, 2, 31}, "-");
  s.branch.switch_back(s.shard("-80"), s.time.seconds());
  // The position on -80 is lost: that shard alone is copied again.
  s.branch.purge(s.shard("-80"), 0);
  s.settings.config.on_lost_position = lost_position_behavior::resync_data;
  SUBCASE("the data is synced again") {
    s.read();
    CHECK(s.status() == told_status::complete);
    CHECK(s.logged("do not lead through a reshard that was undone"));
    s.truth();
  }
  SUBCASE("the sync fails") {
    // After that copy, while the other shard is tried again.
    s.settings.on_step = [](engine_run& run) {
      if (run.calls() >= 6) run.kill();
    };
    s.read();
    REQUIRE(s.state().at("-80").position == s.now("-80"));
    s.read();
    CHECK(s.status() == told_status::incomplete);
    CHECK(s.logged("do not lead through a reshard that was undone"));
    CHECK(s.logged("Re-sync data"));
  }
}

TEST_CASE("changes of shards that are not selected are not claimed by the shard that comes back when a reshard is undone") {
  scene s;
  for (std::int64_t id = 1; id <= 10; ++id) s.branch.fill(0, id);
  s.read();
  const auto select = [&s](int low, std::vector<shard_selector> shards) {
    s.check.select(low, 256);
    s.settings.config.shards = std::move(shards);
  };
  const auto undo_while_reading = [&s] {
    // The stop is a GTID that no event ends at: the journal that leads back comes first.
    s.branch.append(s.shard("80-"), entry_kind::unsent, s.time.seconds());
    s.settings.on_step = [&s](engine_run& run) {
      if (run.step() == 5) s.branch.switch_back(s.shard(), s.time.seconds());
    };
  };
  s.branch.reshard({&s.shard()}, {0x80}, s.time.seconds());
  for (const char* name : {"-80", "80-"})
    for (std::int64_t id = 3; id <= 12; ++id)
      if (s.shard(name).holds(id)) s.put({id}, name);
  select(0x80, {{{}, shard_name("80-")}});
  SUBCASE("while it is read") {
    undo_while_reading();
    s.read();
    CHECK(s.status() == told_status::incomplete);
    CHECK(s.logged("Re-sync data"));
  }
  SUBCASE("before it is read, and done once more") {
    s.branch.switch_back(s.shard(), s.time.seconds());
    s.branch.switch_back(s.shard("-80"), s.time.seconds());
    // Nor can anybody tell that a stream has ended on a shard that does not serve.
    s.settings.trouble.no_questions = true;
    s.read();
    CHECK(s.status() == told_status::incomplete);
    CHECK(s.logged("Re-sync data"));
  }
  SUBCASE("while it is read, and the data is synced again") {
    undo_while_reading();
    s.settings.config.on_lost_position = lost_position_behavior::resync_data;
    s.read();
  }
  CHECK(s.logged("was undone: the stream was led back to the shard -"));
  CHECK(s.state().count("-") == 0);
  select(0, {});
  s.settings.config.on_lost_position = lost_position_behavior::resync_data;
  s.read();
  CHECK(s.status() == told_status::complete);
  s.truth();
}

TEST_CASE("a stream that is led to other shards and back in one call ends at its stop, not before") {
  scene s({{"t0", true}}, {0x40, 0x80});
  for (std::int64_t id = 1; id <= 30; ++id) s.branch.fill(0, id);
  s.read();
  s.branch.reshard({&s.shard("-40"), &s.shard("40-80")}, {}, s.time.seconds());
  s.branch.switch_back(s.shard("-40"), s.time.seconds());
  for (const char* name : {"-40", "40-80"})
    for (std::int64_t id = 1; id <= 30; ++id)
      if (s.shard(name).holds(id)) s.put({id}, name);
  s.read();
  CHECK(s.status() == told_status::complete);
  for (const char* name : {"-40", "40-80", "80-"}) CHECK(s.state().at(name).position == s.now(name));
  s.truth();
}

TEST_CASE("a half copy from before a reshard that was undone begins anew, and its table is complete") {
  scene s;
  for (std::int64_t id = 1; id <= 10; ++id) s.branch.fill(0, id);
  s.settings.on_step = [](engine_run& run) {
    run.events_per_response = 1;
    if (run.server().calls().size() == 1 && run.server().calls()[0]->events_sent() > 10)
      run.server_stands_still = true;
    if (run.elapsed_seconds() >= 4) run.kill();
  };
  s.read();
  s.settings.on_step = nullptr;
  REQUIRE_FALSE(s.state().at("-").last_known_pk.empty());
  s.put({1, 2});
  s.branch.reshard({&s.shard()}, {0x80}, s.time.seconds());
  s.branch.switch_back(s.shard(), s.time.seconds());
  s.put({6, 23});
  s.read();
  CHECK(s.status() == told_status::complete);
  CHECK(s.state().at("-").position == s.now());
  s.truth();
}

TEST_CASE(
    "a table half copied when its shard was resharded starts over on the new shards, all of them listed") {
  scene s({{"t0", true}, {"t1", true}});
  for (std::int64_t id = 1; id <= 10; ++id) s.branch.fill(0, id), s.branch.fill(1, id);
  s.settings.on_step = [](engine_run& run) {
    run.events_per_response = 1;
    if (run.server().calls().size() == 2 && run.server().calls()[0]->events_sent() > 10)
      run.server_stands_still = true;
    if (run.elapsed_seconds() >= 4) run.kill();
  };
  s.read();
  s.branch.reshard({&s.shard()}, {0x80}, s.time.seconds());
  s.read();
  CHECK(s.check.all_complete());
  CHECK(s.state(0).size() == 2);
  CHECK(s.state(1).size() == 2);
  s.truth();
}

TEST_CASE("a copy that began after the journal is noticed, and made again on the new shards in the same read") {
  scene s;
  for (std::int64_t id = 1; id <= 10; ++id) s.branch.fill(0, id);
  s.settings.on_call = [&s](engine_run& run, served_call&) {
    // Before the copy takes its snapshot: it sees the old shard after the journal.
    if (run.calls() == 1) s.branch.reshard({&s.shard()}, {0x80}, s.time.seconds());
  };
  s.read();
  CHECK(s.status() == told_status::complete);
  // The copy, the way across the journal, and the copies of the new shards.
  CHECK(s.report.calls.size() == 4);
  CHECK(s.logged("was replaced by others around the time"));
  CHECK(s.state().size() == 2);
  CHECK(s.state().count("-") == 0);
  s.put({1}, s.shard("-80").holds(1) ? "-80" : "80-");
  s.read();
  CHECK(s.status() == told_status::complete);
  s.truth();
}

TEST_CASE("a copy whose shard is replaced before the read is over is made again, and misses no deletion") {
  scene s({{"t0", true}, {"t1", true}});
  for (std::int64_t id = 1; id <= 10; ++id) s.branch.fill(0, id), s.branch.fill(1, id);
  s.settings.config.max_streams = 1;
  s.settings.on_step = [&s, done = false](engine_run& run) mutable {
    // The second copy is under way.
    if (done || run.calls() < 2 || run.server().calls().back()->events_sent() < 5) return;
    done = true;
    s.branch.reshard({&s.shard()}, {0x80}, s.time.seconds());
    for (const std::int64_t id : {1, 2, 3, 4})
      for (std::size_t table = 0; table < 2; ++table)
        s.branch.remove(s.shard(s.shard("-80").holds(id) ? "-80" : "80-"), s.time.seconds(), {table, id});
    run.server().calls().back()->end(14, "connection reset by peer");
  };
  s.read();
  CHECK(s.check.all_complete());
  for (std::size_t stream = 0; stream < 2; ++stream) {
    CHECK(s.state(stream).size() == 2);
    CHECK(s.state(stream).count("-") == 0);
  }
  s.read();
  CHECK(s.check.all_complete());
  s.truth();
}

TEST_CASE("a merge under two streams is planned again, and read in the same run") {
  scene s({{"t0", true}}, {0x80});
  for (std::int64_t id = 1; id <= 10; ++id) s.branch.fill(0, id);
  s.read();
  for (std::int64_t id = 1; id <= 10; ++id) s.put({id}, s.shard("-80").holds(id) ? "-80" : "80-");
  // Stops that no event ends at: both streams come to the journal before them.
  for (const char* name : {"-80", "80-"}) s.branch.append(s.shard(name), entry_kind::unsent, s.time.seconds());
  s.settings.on_step = [&s, done = false](engine_run& run) mutable {
    if (done || run.calls() < 2) return;
    done = true;
    s.branch.reshard({&s.shard("-80"), &s.shard("80-")}, {}, s.time.seconds());
    s.put({11});
  };
  s.read();
  CHECK(s.status() == told_status::complete);
  CHECK(s.report.calls.back().shards.size() == 2);
  CHECK(s.state().size() == 1);
  CHECK(s.state().at("-").position == s.now());
  s.truth();
}

TEST_CASE("a start from LEGACY state writes STREAM states first") {
  scene s({{"t0", true}, {"t1", true}});
  s.branch.fill(0, 1);
  s.branch.fill(1, 1);
  const std::string cursor =
      table_cursor{shard_name("-"), keyspace_name("ks"), s.position(0), {}}.encode_base64();
  s.settled.emplace("-", s.position(0));
  s.check.adopt();
  s.put({1, 2});
  const std::string shards = R"({"shards":{"-":{"cursor":")" + cursor + "\"}}}";
  s.settings.state_text =
      R"([{"type":"LEGACY","data":{"streams":{"ks:t0":)" + shards + R"(,"ks:t1":)" + shards + "}}}]";
  s.read();
  std::vector<std::string> kinds;
  for (const auto& emitted : s.report.emitted) {
    if (emitted.bytes.find(R"({"type":"RECORD")") == 0) kinds.push_back("R");
    if (emitted.bytes.find(R"({"type":"STATE")") == 0)
      kinds.push_back(emitted.bytes.find(R"("recordCount":0.0)") != std::string::npos ? "S0" : "S");
  }
  REQUIRE(kinds.size() > 3);
  CHECK(kinds[0] == "S0");
  CHECK(kinds[1] == "S0");
  CHECK(kinds[2] == "R");
  CHECK(s.check.all_complete());
  CHECK(s.times(1) == 1);
  s.truth();
}

TEST_CASE("without a MySQL port a read that copies for longer than the refresh interval goes on") {
  scene s({{"t0", true}, {"t1", true}});
  s.branch.fill(0, 1);
  s.branch.fill(1, 1);
  s.settings.trouble.no_questions = true;
  s.settings.refresh_interval = std::chrono::seconds(10);
  s.settings.on_call = [](engine_run& run, served_call& call) {
    if (run.calls() == 1) call.only_heartbeats_until_us = run.time().now_us + 100'000'000;
  };
  s.read();
  CHECK(s.check.all_complete());
  s.truth();
}

TEST_CASE("a full refresh tells every row once, and goes on after a cut") {
  scene s({{"t0", true}}, {}, sync_mode::full_refresh);
  for (std::int64_t id = 1; id <= 20; ++id) s.branch.fill(0, id);
  s.settings.streams[0].generation_id = s.settings.streams[0].sync_id = 3;
  s.cut_first_call_after(12);
  s.read();
  CHECK(s.status() == told_status::complete);
  CHECK(s.check.last_records().size() <= 24);
  CHECK(s.times(20) == 1);
}

TEST_CASE("a full refresh without a key is not started over within a read") {
  scene s({{"t0", false}}, {}, sync_mode::full_refresh);
  for (std::int64_t id = 1; id <= 20; ++id) s.branch.fill(0, id);
  s.settings.streams[0].generation_id = s.settings.streams[0].sync_id = 3;
  s.cut_first_call_after(12);
  s.read();
  CHECK(s.status() == told_status::incomplete);
  CHECK(s.times(1) == 1);
  s.settings.streams[0].generation_id = 4;
  s.read();
  CHECK(s.status() == told_status::complete);
  CHECK(s.check.last_records().size() == 20);
}

TEST_CASE("a copy that the server itself begins anew misses no deletion of the rows told before") {
  for (const bool killed : {false, true}) {
    scene s;
    for (std::int64_t id = 1; id <= 10; ++id) s.branch.fill(0, id);
    s.settings.on_step = [&s, killed, done = false](engine_run& run) mutable {
      run.events_per_response = 1;
      if (run.server().calls().empty()) return;
      const auto call = run.server().calls().front();
      // BEGIN FIELD VGTID ROW: the first batch is open.
      if (!done && call->events_sent() == 4) {
        done = true;
        s.branch.remove(s.shard(), s.time.seconds(), {0, 1});
        call->restart();
      }
      // Within the second attempt, behind its first batches, and after a state.
      if (killed && call->events_sent() >= 18) run.server_stands_still = true;
      if (killed && run.elapsed_seconds() >= 4) run.kill();
    };
    s.read();
    if (killed) CHECK_FALSE(s.state().at("-").last_known_pk.empty());
    // Killed or not: the position is that of the first snapshot, and the next read tells what happened since.
    CHECK(s.state().at("-").position == s.position(0));
    s.read();
    CHECK(s.status() == told_status::complete);
    CHECK_FALSE(s.branch.deletion_may_be_missed(s.shard().history.at({0, 1}).back().version));
    s.truth();
  }
}

TEST_CASE("a lost position after two reshards copies the shards that serve, and no other") {
  scene s({{"t0", true}}, {0x80});
  for (std::int64_t id = 1; id <= 20; ++id) s.branch.fill(0, id);
  s.settings.on_call = [&s](engine_run&, served_call& call) {
    // The copy of this shard sees it past its journal: from there no stream leads to the new shards.
    if (call.request().shards[0].shard == "80-" && s.shard("80-").serving)
      s.branch.reshard({&s.shard("80-")}, {0xc0}, s.time.seconds());
  };
  s.read();
  s.branch.reshard({&s.shard("-80")}, {0x40}, s.time.seconds());
  s.branch.reshard({&s.shard("40-80"), &s.shard("80-c0")}, {}, s.time.seconds());
  for (const char* name : {"-40", "40-c0", "c0-"})
    for (std::int64_t id = 1; id <= 20; ++id)
      if (s.shard(name).holds(id)) {
        s.put({id}, name);
        break;
      }
  s.settings.config.on_lost_position = lost_position_behavior::resync_data;
  s.read();
  CHECK(s.status() == told_status::complete);
  CHECK(s.state().size() == 3);
  for (const char* name : {"-40", "40-c0", "c0-"}) CHECK(s.state().count(name) == 1);
  s.truth();
}

// What differs from servers of real life: the tablets that stream never apply some GTIDs that the peek saw.
TEST_CASE("an errant GTID of another replica does not keep an idle shard's read from ending") {
  scene s({{"t0", true}});
  for (std::int64_t id = 1; id <= 5; ++id) s.branch.fill(0, id);
  s.read();
  const auto errant = [](plan_input& input) {
    input.config.tablets = tablet_type::replica;
    for (auto& [id, stop] : input.stops)
      stop = *gtid_set::parse_position(stop.to_position() + ",00000000-0000-0000-0000-0000000000ee:1");
  };
  for (const bool with_changes : {false, true}) {
    if (with_changes) s.put({1, 7});
    s.settings.on_plan = errant;
    s.read();
    CHECK(s.status() == told_status::complete);
    CHECK(s.report.calls.size() == 1);
    CHECK(s.report.ended_us - s.report.started_us < 60'000'000);
    CHECK(s.times(7) == (with_changes ? 1 : 0));
  }
  s.truth();
}

// A copy by primary key alone needs no binary log: a full refresh asks for the rows above its last key with gtid "".
TEST_CASE("a full refresh goes on above its last key although the binary logs of its snapshot are purged") {
  scene s({{"t0", true}}, {}, sync_mode::full_refresh);
  for (std::int64_t id = 1; id <= 20; ++id) s.branch.fill(0, id);
  s.cut_first_call_after(12, [&s] {
    s.put({1, 2, 3});
    s.shard().purged = s.shard().log.size();
  });
  s.settings.on_call = [](engine_run& run, served_call& call) {
    // The second attempt's first rows take 30 s: a loaded tablet, LOCK TABLES, a tablet that is looked for.
    if (run.calls() == 2) call.only_heartbeats_until_us = run.time().now_us + 30'000'000;
  };
  s.read();
  CHECK(s.status() == told_status::complete);
}

// Cases that have bitten others (docs/tests.md).

TEST_CASE("a kill between a copy's first VGTID and its first rows") {
  scene s;
  for (std::int64_t id = 1; id <= 10; ++id) s.branch.fill(0, id);
  s.settings.on_step = [](engine_run& run) {
    run.events_per_response = 1;
    if (run.server().calls().empty()) return;
    // BEGIN FIELD VGTID
    if (run.server().calls().front()->events_sent() == 3) run.server_stands_still = true;
    if (run.elapsed_seconds() >= 700) run.kill();
  };
  s.settings.config.timeout = std::chrono::hours(1);
  s.read();
  CHECK(s.report.killed);
  CHECK(s.check.last_records().empty());
  for (const auto& [shard, cursor] : s.state()) CHECK(cursor.position.empty());
  s.put({1, 11});
  s.branch.remove(s.shard(), s.time.seconds(), {0, 5});
  s.read();
  CHECK(s.report.calls[0].shards[0].copy);
  CHECK(s.report.calls[0].shards[0].gtid.empty());
  CHECK(s.status() == told_status::complete);
  s.truth();
}

TEST_CASE("a copy that starts over after a kill misses no deletion of rows that a state covers, with and without a key") {
  for (const bool keyed : {true, false}) {
    CAPTURE(keyed);
    scene s({{"t0", keyed}});
    for (std::int64_t id = 1; id <= 20; ++id) s.branch.fill(0, id);
    s.settings.on_step = [keyed](engine_run& run) {
      run.events_per_response = 1;
      if (run.server().calls().empty()) return;
      // With a key: in the first batch, which no VGTID has closed yet. Without: anywhere.
      if (run.server().calls().front()->events_sent() >= (keyed ? 4u : 14u)) run.server_stands_still = true;
      if (run.elapsed_seconds() >= 4) run.kill();
    };
    s.read();
    CHECK(s.report.killed);
    REQUIRE(s.state().count("-") == 1);
    CHECK(s.state().at("-").position.empty());
    CHECK(s.check.last_run()[0].records > 0);
    s.branch.remove(s.shard(), s.time.seconds(), {0, 1});
    s.put({2});
    s.read();
    CHECK(s.report.calls[0].shards[0].gtid.empty());
    CHECK(s.status() == told_status::complete);
    s.truth();
    CHECK(s.state().at("-").position == s.now());
  }
}

TEST_CASE("COPY_COMPLETED never comes") {
  scene s({{"t0", true}, {"t1", false}}, {0x80});
  for (std::int64_t id = 1; id <= 20; ++id) s.branch.fill(0, id), s.branch.fill(1, id);
  s.settings.trouble.hide_copy_completed = 100;
  s.read();
  CHECK(s.check.all_complete());
  CHECK(s.report.calls.size() == 4);
  s.truth();
}

TEST_CASE("purged binary logs show as heartbeats and a missing tablet only, until the MySQL port can be asked") {
  scene s;
  s.branch.fill(0, 1);
  s.read();
  for (std::int64_t id = 1; id <= 5; ++id) s.put({id});
  s.branch.remove(s.shard(), s.time.seconds(), {0, 2});
  s.branch.purge(s.shard(), 2);
  const auto before = s.state().at("-").position;
  SUBCASE("nobody can be asked: an outage that may pass") {
    s.settings.trouble.no_questions = true;
    s.settings.config.max_retries = 1;
    s.read();
    CHECK(s.status() == told_status::incomplete);
    CHECK(s.logged("No primary tablet"));
    CHECK_FALSE(s.logged("purged"));
    CHECK(s.state().at("-").position == before);
    CHECK(s.report.calls.size() == 2);
  }
  SUBCASE("asked: the position is lost, and that is told at once") {
    s.read();
    CHECK(s.status() == told_status::incomplete);
    CHECK(s.logged("were purged"));
    CHECK(s.logged("Refresh and remove records"));
    CHECK((s.report.ended_us - s.report.started_us) / 1'000'000 < 30);
    CHECK(s.state().at("-").position == before);
  }
  s.settings.config.on_lost_position = lost_position_behavior::resync_data;
  s.read();
  CHECK(s.status() == told_status::complete);
  CHECK(s.logged("is copied again; rows deleted meanwhile stay"));
  s.truth();
}

TEST_CASE("binary logs of an old shard that are purged before it was followed: nobody can be asked for them") {
  scene s;
  for (std::int64_t id = 1; id <= 10; ++id) s.branch.fill(0, id);
  s.read();
  const auto before = s.state().at("-").position;
  s.put({1, 2});
  s.branch.reshard({&s.shard()}, {0x80}, s.time.seconds());
  s.branch.purge(*s.branch.find("-"), 0);
  // The MySQL port leads to shards that serve.
  s.settings.trouble.no_questions = true;
  s.settings.config.max_retries = 1;
  s.read();
  CHECK(s.status() == told_status::incomplete);
  CHECK(s.logged("No primary tablet of ks/- could serve the stream."));
  CHECK(s.logged("The stream follows old shards through a reshard. If it ends like this with each sync"));
  CHECK(s.state().at("-").position == before);
  CHECK(s.report.calls.size() == 2);
  s.settings.trouble.no_questions = true;
  s.settings.config.max_retries = 1;
  s.settings.config.on_lost_position = lost_position_behavior::resync_data;
  s.read();
  CHECK(s.status() == told_status::complete);
  CHECK(s.logged("is copied again; rows deleted meanwhile stay"));
  CHECK(s.state().size() == 2);
  CHECK(s.state().count("-") == 0);
  s.truth();
}

TEST_CASE("a replica that serves what its primary has purged: a broken connection is no lost position") {
  scene s;
  for (std::int64_t id = 1; id <= 5; ++id) s.branch.fill(0, id);
  s.read();
  for (std::int64_t id = 1; id <= 30; ++id) s.put({id});
  s.settings.on_plan = [](plan_input& input) { input.config.tablets = tablet_type::replica; };
  // Silent at first, so that the primary is asked.
  s.settings.on_call = [](engine_run& run, served_call& call) {
    if (run.calls() == 1) call.only_heartbeats_until_us = run.time().now_us + 30'000'000;
  };
  std::size_t broken_after = 0;
  SUBCASE("after the stream has come further") { broken_after = 60; }
  SUBCASE("while it is silent") {}
  // The model's replica has the binary logs of its primary: the primary's are gone only while it is asked.
  s.settings.on_step = [&s, broken_after, broken = false](engine_run& run) mutable {
    run.events_per_response = 1;
    const auto seconds = run.elapsed_seconds();
    s.shard().purged = !broken && seconds > 2 && seconds < 25 ? 10 : 0;
    if (broken || run.server().calls().empty()) return;
    const auto call = run.server().calls().front();
    if (seconds < 20 || call->events_sent() < broken_after) return;
    broken = true;
    call->end(14, "connection reset by peer");
  };
  s.read();
  CHECK(s.status() == told_status::complete);
  CHECK_FALSE(s.logged("were purged"));
  CHECK(s.report.calls.size() == 2);
  s.truth();
}

TEST_CASE("tables of one shard at different positions: nothing is skipped and nothing repeated") {
  scene s({{"t0", true}, {"t1", true}});
  s.branch.fill(0, 1);
  s.branch.fill(1, 1);
  s.read();
  s.put({2}, "-", 0);
  s.put({12}, "-", 1);
  s.settings.on_call = [](engine_run&, served_call& call) {
    const auto& tables = call.request().tables;
    if (std::find(tables.begin(), tables.end(), "t1") != tables.end())
      call.end(2, "cannot determine table columns for t1: event has [8 15], schema has 1 column");
  };
  s.read();
  REQUIRE(s.state(0).at("-").position != s.state(1).at("-").position);
  s.put({3}, "-", 0);
  s.put({13}, "-", 1);
  s.read();
  CHECK(s.report.calls.size() == 2);
  CHECK(s.check.all_complete());
  for (const std::int64_t id : {3, 12, 13}) CHECK(s.times(id) == 1);
  CHECK(s.times(2) == 0);
  CHECK(s.state(0).at("-").position == s.state(1).at("-").position);
  s.truth();
}

TEST_CASE("a sync longer than the binary logs are kept") {
  for (const bool refreshed : {true, false}) {
    CAPTURE(refreshed);
    scene s({{"t0", true}, {"t1", true}});
    s.branch.fill(0, 1);
    s.branch.fill(1, 1);
    // The copy of t1 takes three hours. Binary logs are kept for 80 minutes, and t0 is written to every 10.
    constexpr std::int64_t copy_seconds = 3 * 3600;
    constexpr std::int64_t write_seconds = 600;
    s.settings.config.timeout = std::chrono::hours(5);
    s.settings.refresh_interval = refreshed ? std::chrono::hours(1) : std::chrono::hours(10);
    s.settings.on_call = [](engine_run& run, served_call& call) {
      if (call.request().tables.front() == "t1" && call.request().shards[0].copy)
        call.only_heartbeats_until_us = run.time().now_us + copy_seconds * 1'000'000;
    };
    s.settings.on_step = [&s, writes = std::int64_t{0}](engine_run& run) mutable {
      for (; writes < run.elapsed_seconds() / write_seconds && writes < 17; ++writes) {
        s.put({writes % 5});
        s.branch.purge(s.shard(), 8);
      }
    };
    s.read();
    CHECK(s.check.all_complete());
    // Had t0 been left at the end of its own copy, the next read would come too late.
    s.read();
    CHECK(s.status(1) == told_status::complete);
    CHECK(s.status(0) == (refreshed ? told_status::complete : told_status::incomplete));
    CHECK(s.logged("were purged") != refreshed);
    if (refreshed) s.truth();
  }
}

TEST_CASE("a lost position is warned of before the first state that drops it") {
  // Whoever gets that state and not the warning would never hear of it.
  scene s;
  s.branch.fill(0, 1);
  s.read();
  s.settings.config.on_lost_position = lost_position_behavior::resync_data;
  s.settings.on_plan = [](plan_input& input) {
    for (auto& [stream, saved] : input.state.streams)
      for (auto& [shard, entry] : saved.shards)
        entry.cursor.position = "MySQL56/ffffffff-0000-11ee-8000-000000000000:1-3";
  };
  s.read();
  const auto warned = s.report.transcript.find("the table is copied again there");
  REQUIRE(warned != std::string::npos);
  CHECK(warned < s.report.transcript.find(R"("type":"STATE")"));
}

TEST_CASE("a start from LEGACY state killed after its first STREAM state") {
  scene s({{"t0", true}, {"t1", true}});
  for (std::size_t table = 0; table < 2; ++table) s.branch.fill(table, 1), s.branch.fill(table, 2);
  const std::string cursor =
      table_cursor{shard_name("-"), keyspace_name("ks"), s.position(0), {}}.encode_base64();
  s.settled.emplace("-", s.position(0));
  s.check.adopt();
  s.put({1}, "-", 0);
  s.branch.remove(s.shard(), s.time.seconds(), {1, 2});
  const std::string shards = R"({"shards":{"-":{"cursor":")" + cursor + "\"}}}";
  s.settings.state_text =
      R"([{"type":"LEGACY","data":{"streams":{"ks:t0":)" + shards + R"(,"ks:t1":)" + shards + "}}}]";
  s.settings.trouble.output_bytes = 50;
  s.settings.on_step = [](engine_run& run) {
    const std::string said = run.out().transcript();
    const auto first = said.find(R"({"type":"STATE")");
    if (first != std::string::npos && said.find('\n', first) != std::string::npos) run.kill();
  };
  s.read();
  CHECK(s.report.killed);
  // The platform has forgotten the LEGACY state by now, so the second table has none.
  REQUIRE(s.state(0).size() == 1);
  REQUIRE(s.state(1).empty());
  CHECK(s.check.last_records().empty());
  s.branch.forgive_deletions(1);
  s.read();
  CHECK(s.check.all_complete());
  CHECK(s.report.calls.size() == 2);
}

TEST_CASE("a reshard while the read was being prepared is seen before its copies start") {
  scene s({{"t0", true}});
  for (std::int64_t id = 1; id <= 10; ++id) s.branch.fill(0, id);
  s.settings.on_plan = [&s](plan_input& input) {
    // The shards were listed two minutes ago; the peek took so long.
    input.listed_at = std::chrono::steady_clock::time_point(-std::chrono::minutes(2));
    s.branch.reshard({&s.shard()}, {0x80}, s.time.seconds());
  };
  s.read();
  CHECK(s.status() == told_status::complete);
  CHECK(s.logged("was replaced by others before"));
  // It is only followed across its journal.
  for (const auto& call : s.report.calls) CHECK((call.shards[0].shard != "-" || !call.shards[0].copy));
  CHECK(s.state().size() == 2);
  s.truth();
}
