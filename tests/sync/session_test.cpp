// The stream session: rows, cursors, where a stream ends; on scripts and on recordings of a real Vitess.
#include <doctest/doctest.h>

#include <set>
#include <thread>
#include <vector>

#include "sync/stream_session.hpp"
#include "tests/support/events.hpp"
#include "tests/support/recording.hpp"
#include "tests/sync/fixtures.hpp"

using namespace psource;
using namespace psource::testing;

namespace {

session_spec catch_up_spec(const std::string& from, const std::string& stop) {
  session_spec spec;
  spec.kind = stream_kind::catch_up;
  spec.keyspace = keyspace_name("ks");
  spec.shards = {shard_name("-")};
  spec.stops[shard_name("-")] = gtids(stop);
  auto table = session_table_of(0, simple_table("t"));
  table.cursors[shard_name("-")] = {from, {}, 0};
  spec.tables.push_back(std::move(table));
  return spec;
}

session_spec copy_spec(stream_kind kind = stream_kind::copy) {
  session_spec spec;
  spec.kind = kind;
  spec.keyspace = keyspace_name("ks");
  spec.shards = {shard_name("-")};
  auto table = session_table_of(0, simple_table("t"));
  table.cursors[shard_name("-")] = {};
  spec.tables.push_back(std::move(table));
  return spec;
}

struct driver {
  explicit driver(session_spec spec) : session(std::move(spec), clock) { session.begin_attempt(); }

  // Feeds one response and pumps it dry; the batch gathers everything.
  result<pump_result> give(std::string response) {
    session.feed(buffer(std::move(response)));
    for (;;) {
      auto step = session.pump(out);
      if (!step || *step != pump_result::batch_full) return step;
      lines += out.lines.view();
      out.clear();
    }
  }
  std::string take_lines() {
    lines += out.lines.view();
    out.lines.clear();
    return std::exchange(lines, {});
  }
  shard_cursor cursor(std::size_t table = 0, const std::string& shard = "-") {
    return session.tables()[table].cursors.at(shard_name(shard));
  }

  std::shared_ptr<fake_clock> clock = std::make_shared<fake_clock>();
  stream_session session;
  batch out;
  std::string lines;
};

}  // namespace

TEST_CASE("rows leave at once, the cursor waits for COMMIT") {
  driver d(catch_up_spec(server + "1-5", server + "1-9"));
  event_script script;
  script.begin(100).field("t").insert("t", "1", "a", 100);
  REQUIRE(*d.give(script.take()) == pump_result::needs_input);
  CHECK(told(d.take_lines()) == "1=a");
  CHECK(d.cursor().position == server + "1-5");
  script.vgtid(server + "1-6").commit(100);
  REQUIRE(*d.give(script.take()) == pump_result::needs_input);
  CHECK(d.cursor().position == server + "1-6");
}

TEST_CASE("P5 the end is reached by containment: the stop may be jumped over") {
  driver d(catch_up_spec(server + "1-5", server + "1-7"));
  event_script script;
  script.begin(1).vgtid(server + "1-6").commit(1).begin(2).field("t").insert("t", "1", "a", 2).vgtid(server + "1-12").commit(2);
  CHECK(*d.give(script.take()) == pump_result::finished);
  CHECK(told(d.take_lines()) == "1=a");
}

TEST_CASE("P5 the order of server UUIDs in a position does not matter") {
  const std::string a = "00000000-0000-0000-0000-00000000000a:1-5";
  const std::string b = "00000000-0000-0000-0000-00000000000b:1-9";
  driver d(catch_up_spec("MySQL56/" + a, "MySQL56/" + b + "," + a));
  event_script script;
  script.begin(1).vgtid("MySQL56/" + a + "," + b).commit(1);
  CHECK(*d.give(script.take()) == pump_result::finished);
}

TEST_CASE("P6 transactions without rows end the stream") {
  driver d(catch_up_spec(server + "1-5", server + "1-6"));
  event_script script;
  script.begin(1).vgtid(server + "1-6").commit(1);
  CHECK(*d.give(script.take()) == pump_result::finished);
  CHECK(d.take_lines().empty());
  CHECK(d.cursor().position == server + "1-6");
}

TEST_CASE("a COMMIT without VGTID counts for a GTID that is missing at the stop") {
  driver d(catch_up_spec(server + "1-5", server + "1-7"));
  event_script script;
  script.begin(1).vgtid(server + "1-6").commit(1);
  CHECK(*d.give(script.take()) == pump_result::needs_input);
  script.begin(2).commit(2);
  CHECK(*d.give(script.take()) == pump_result::finished);
  CHECK(d.cursor().position == server + "1-6");
}

TEST_CASE("P4 rows of the transaction that reaches the stop are delivered") {
  driver d(catch_up_spec(server + "1-5", server + "1-6"));
  event_script script;
  script.begin(1).field("t");
  for (int i = 1; i <= 11; ++i) script.insert("t", std::to_string(i), "r", 1);
  script.vgtid(server + "1-6").commit(1);
  CHECK(*d.give(script.take()) == pump_result::finished);
  CHECK(records_in(d.take_lines()).size() == 11);
}

TEST_CASE("a change of primary key is a delete and an insert, also as the last row of a transaction") {
  driver d(catch_up_spec(server + "1-5", server + "1-6"));
  event_script script;
  script.begin(50).field("t").row("t", row_values{"1", "a"}, row_values{"2", "a"}, 50).vgtid(server + "1-6").commit(50);
  CHECK(*d.give(script.take()) == pump_result::finished);
  const auto records = records_in(d.take_lines());
  REQUIRE(records.size() == 2);
  CHECK(records[0].id == "1");
  CHECK(records[0].deleted);
  CHECK(records[1].id == "2");
  CHECK_FALSE(records[1].deleted);
  CHECK(records[0].cursor == 50'000'000);
  CHECK(records[1].cursor == 50'500'000);
}

TEST_CASE("deletes deliver the before image; a catalog without _ab_cdc_deleted_at gets none") {
  event_script script;
  script.begin(50).field("t").row("t", row_values{"7", "gone"}, std::nullopt, 50).vgtid(server + "1-6").commit(50);
  const std::string response = script.take();
  driver with(catch_up_spec(server + "1-5", server + "1-6"));
  CHECK(*with.give(response) == pump_result::finished);
  CHECK(told(with.take_lines()) == "7x");
  auto spec = catch_up_spec(server + "1-5", server + "1-6");
  spec.tables[0] = session_table_of(0, simple_table("t"), {"id", "v"});
  spec.tables[0].cursors[shard_name("-")] = {server + "1-5", {}, 0};
  driver without(std::move(spec));
  CHECK(*without.give(response) == pump_result::finished);
  CHECK(without.take_lines().empty());
}

TEST_CASE("P14 the cursor column strictly rises, whatever the commit times say") {
  driver d(catch_up_spec(server + "1-5", server + "1-9"));
  event_script script;
  script.begin(100).field("t").insert("t", "1", "a", 100).insert("t", "2", "b", 100).vgtid(server + "1-6").commit(100);
  script.begin(99).insert("t", "3", "c", 99).row("t", row_values{"3", "c"}, std::nullopt, 99).vgtid(server + "1-7").commit(99);
  REQUIRE(d.give(script.take()));
  std::int64_t last = 0;
  for (const auto& record : records_in(d.take_lines())) {
    CHECK(record.cursor > last);
    last = record.cursor;
  }
  CHECK(last == d.cursor().cdc_cursor);
}

TEST_CASE("P7 P9 a copy ends when its entry is gone; rows before COPY_COMPLETED are kept") {
  driver d(copy_spec());
  event_script script;
  script.begin().field("t");
  REQUIRE(*d.give(script.take()) == pump_result::needs_input);
  script.vgtid(server + "1-5", {{"t", ""}});
  REQUIRE(*d.give(script.take()) == pump_result::needs_input);
  CHECK(d.cursor().position.empty());
  for (int i = 1; i <= 11; ++i) script.insert("t", std::to_string(i), "r");
  script.vgtid(server + "1-5", {{"t", "11"}}).commit();
  REQUIRE(*d.give(script.take()) == pump_result::needs_input);
  CHECK(d.cursor().position == server + "1-5");
  CHECK_FALSE(d.cursor().lastpk.empty());
  script.begin().vgtid(server + "1-5").commit().copy_completed().copy_completed(true);
  CHECK(*d.give(script.take()) == pump_result::finished);
  CHECK(records_in(d.take_lines()).size() == 11);
  CHECK(d.cursor().lastpk.empty());
  CHECK(d.cursor().position == server + "1-5");
}

TEST_CASE("a VGTID that lists the table without a key is stored as not begun") {
  driver d(copy_spec());
  event_script script;
  script.begin().field("t").vgtid(server + "1-5", {{"t", ""}}).commit();
  REQUIRE(d.give(script.take()));
  CHECK(d.cursor().position.empty());
  CHECK(d.cursor().lastpk.empty());
}

TEST_CASE("P8 P10 an interrupted copy asks for the rows above its last key and the changes since its snapshot") {
  driver d(copy_spec());
  event_script script;
  script.begin().field("t").vgtid(server + "1-5", {{"t", ""}}).insert("t", "1", "a").vgtid(server + "1-5", {{"t", "1"}}).commit();
  REQUIRE(d.give(script.take()));
  const auto again = d.session.begin_attempt();
  REQUIRE(again.shards.size() == 1);
  CHECK(again.shards[0].gtid == server + "1-5");
  REQUIRE(again.shards[0].tables.size() == 1);
  CHECK_FALSE(again.shards[0].tables[0].lastpk.empty());
}

TEST_CASE("a copy that went on above a key of other columns starts over") {
  driver d(copy_spec());
  event_script script;
  script.begin().field("t").vgtid(server + "1-5", {{"t", ""}}).insert("t", "1", "a").vgtid(server + "1-5", {{"t", "1"}}).commit();
  REQUIRE(d.give(script.take()));
  d.session.begin_attempt();
  script.begin().field("t").vgtid(server + "1-6", {{"t", "1"}}).insert("t", "9", "b").vgtid(server + "1-6", {{"t", "9"}});
  SUBCASE("another column") {
    script.last()->mutable_vgtid()->mutable_shard_gtids(0)->mutable_table_p_ks(0)->mutable_lastpk()->mutable_fields(0)->set_name("o");
  }
  SUBCASE("the same column as text") {
    script.last()->mutable_vgtid()->mutable_shard_gtids(0)->mutable_table_p_ks(0)->mutable_lastpk()->mutable_fields(0)->set_type(
        query::VARCHAR);
  }
  script.commit();
  const auto refused = d.give(script.take());
  REQUIRE_FALSE(refused);
  CHECK(refused.error().code == error_code::lastpk_refused);
  CHECK(refused.error().message.find("has changed in the middle of its copy") != std::string::npos);
  CHECK(d.cursor().position == server + "1-5");
}

TEST_CASE("a copy that cannot be resumed is stored as not begun until it ends") {
  auto spec = copy_spec();
  spec.tables[0].resumable = false;
  driver d(std::move(spec));
  event_script script;
  script.begin().field("t").vgtid(server + "1-5", {{"t", ""}}).insert("t", "1", "a").vgtid(server + "1-5", {{"t", "1"}}).commit();
  REQUIRE(d.give(script.take()));
  CHECK(d.cursor().position.empty());
  const auto again = d.session.begin_attempt();
  CHECK(again.shards[0].gtid.empty());
  CHECK(again.shards[0].tables[0].lastpk.empty());
}

TEST_CASE("nullable and duplicate rows of a table without a key, cut at a batch boundary, are all copied again") {
  auto spec = copy_spec();
  spec.tables[0].resumable = false;
  driver d(std::move(spec));
  event_script script;
  // Vitess orders such a table by all columns: what is above NULL, and the twins behind the last row, would be skipped.
  script.begin().field("t").vgtid(server + "1-5", {{"t", ""}});
  script.row("t", std::nullopt, row_values{"1", std::nullopt}).row("t", std::nullopt, row_values{"1", std::nullopt}).vgtid(server + "1-5", {{"t", "1"}}).commit();
  REQUIRE(d.give(script.take()));
  CHECK(records_in(d.take_lines()).size() == 2);
  CHECK(d.cursor().since == server + "1-5");
  const auto again = d.session.begin_attempt();
  CHECK(again.shards[0].gtid.empty());
  CHECK(again.shards[0].tables[0].lastpk.empty());
  script.begin().field("t").vgtid(server + "1-7", {{"t", ""}});
  script.row("t", std::nullopt, row_values{"1", std::nullopt}).row("t", std::nullopt, row_values{"1", std::nullopt}).insert("t", "2", "b");
  script.vgtid(server + "1-7", {{"t", "2"}}).commit().begin().vgtid(server + "1-7").commit();
  CHECK(*d.give(script.take()) == pump_result::finished);
  CHECK(records_in(d.take_lines()).size() == 3);
  // What was deleted between the two snapshots comes from the first one's position on.
  CHECK(d.cursor().position == server + "1-5");
  CHECK(d.cursor().since.empty());
}

TEST_CASE("a row that moves between shards within one second is not left deleted, whichever shard is read first") {
  const auto deleted = [] {
    driver d(catch_up_spec(server + "1-5", server + "1-6"));
    event_script script;
    script.begin(50).field("t").row("t", row_values{"7", "v"}, std::nullopt, 50).vgtid(server + "1-6").commit(50);
    REQUIRE(d.give(script.take()));
    return records_in(d.take_lines()).at(0).cursor;
  }();
  const auto inserted = [] {
    driver d(catch_up_spec(server + "1-5", server + "1-6"));
    event_script script;
    script.begin(50).field("t").insert("t", "7", "v", 50).vgtid(server + "1-6").commit(50);
    REQUIRE(d.give(script.take()));
    return records_in(d.take_lines()).at(0).cursor;
  }();
  CHECK(deleted < inserted);
}

TEST_CASE("a full refresh drops binlog events and resumes without a position") {
  driver d(copy_spec(stream_kind::full_copy));
  event_script script;
  script.begin().field("t").vgtid(server + "1-5", {{"t", ""}}).insert("t", "1", "a").vgtid(server + "1-5", {{"t", "1"}}).commit();
  script.begin(77).field("t").row("t", row_values{"1", "a"}, row_values{"1", "b"}, 77).vgtid(server + "1-6", {{"t", "1"}}).commit(77);
  REQUIRE(d.give(script.take()));
  CHECK(told(d.take_lines()) == "1=a");
  const auto again = d.session.begin_attempt();
  CHECK(again.shards[0].gtid.empty());
  CHECK_FALSE(again.shards[0].tables[0].lastpk.empty());
}

TEST_CASE("copied rows of one snapshot share the server's time as cursor, the next snapshot's is larger") {
  driver d(copy_spec());
  event_script script;
  script.begin().field("t").insert("t", "1", "a").insert("t", "2", "b").vgtid(server + "1-5", {{"t", "2"}}).commit();
  REQUIRE(d.give(script.take()));
  auto records = records_in(d.take_lines());
  CHECK(records[0].cursor == d.clock->server);
  CHECK(records[1].cursor == d.clock->server);
  script.begin().field("t").insert("t", "3", "c").vgtid(server + "1-5", {{"t", "3"}}).commit();
  REQUIRE(d.give(script.take()));
  records = records_in(d.take_lines());
  CHECK(records[0].cursor == d.clock->server + 1);
}

TEST_CASE("what the primary has not executed of the stop is not waited for") {
  const std::string lost = "6ba72fa1-0000-11ee-8000-00000000dead:1-3";
  auto spec = catch_up_spec(server + "1-5", server + "1-9," + lost);
  spec.stop_by_commit_time(1000);
  const shard_name shard("-");
  driver d(spec);
  event_script script;
  const auto transaction = [&](int last, std::int64_t seconds) {
    script.begin(seconds).field("t").insert("t", std::to_string(last), "a", seconds);
    script.vgtid(server + "1-" + std::to_string(last)).commit(seconds);
    return *d.give(script.take());
  };
  CHECK(d.session.may_miss_the_stop());
  CHECK(transaction(6, 999) == pump_result::needs_input);
  CHECK_FALSE(d.session.is_overdue());
  SUBCASE("a stream that goes on ends with its next transaction") {
    CHECK(transaction(8, 1029) == pump_result::needs_input);
    CHECK_FALSE(d.session.is_overdue());
    // Committed half a minute after the peek: the stop should have been reached. It is not cut before the primary was asked.
    CHECK(transaction(9, 1030) == pump_result::needs_input);
    CHECK(d.session.is_overdue());
    CHECK(transaction(10, 1031) == pump_result::needs_input);
    CHECK(d.session.cut_stop(shard, gtids(server + "1-11")));
    CHECK(transaction(11, 1032) == pump_result::finished);
  }
  SUBCASE("a silent one has nothing more to wait for") {
    CHECK(transaction(9, 999) == pump_result::needs_input);
    CHECK(d.session.cut_stop(shard, gtids(server + "1-9")));
  }
  SUBCASE("what is executed and has not come is waited for") {
    CHECK_FALSE(d.session.cut_stop(shard, gtids(server + "1-9")));
    CHECK(transaction(8, 999) == pump_result::needs_input);
    CHECK(transaction(9, 999) == pump_result::finished);
  }
  SUBCASE("an answer that is older than what has come since") {
    CHECK(transaction(9, 1040) == pump_result::needs_input);
    CHECK(transaction(10, 1041) == pump_result::needs_input);
    CHECK(d.session.cut_stop(shard, gtids(server + "1-9")));
    CHECK(transaction(11, 1042) == pump_result::finished);
  }
  SUBCASE("nor does one that says nothing, or speaks of another kind of position, or of another shard") {
    CHECK_FALSE(d.session.cut_stop(shard, {}));
    CHECK_FALSE(d.session.cut_stop(shard, *gtid_set::parse_position("MariaDB/0-1-9")));
    CHECK_FALSE(d.session.cut_stop(shard_name("80-"), gtids(server + "1-9")));
    CHECK(transaction(9, 999) == pump_result::needs_input);
  }
}

TEST_CASE("a copy most likely ends with a small response that tells so") {
  const auto completes = [](event_script& script, const std::string& padding = {}) {
    std::string bytes = script.take();
    if (!padding.empty()) {
      vtgate::VStreamResponse more;
      REQUIRE(more.ParseFromString(bytes));
      more.mutable_events(0)->set_statement(padding);
      bytes = more.SerializeAsString();
    }
    return completes_copy(whole_response(bytes));
  };
  event_script script;
  CHECK(completes(script.copy_completed()));
  CHECK(completes(script.copy_completed(true)));
  CHECK(completes(script.begin().vgtid("MySQL56/x:1").commit().copy_completed()));
  CHECK_FALSE(completes(script.begin().vgtid("MySQL56/x:1").commit()));
  CHECK_FALSE(completes(script.copy_completed(), std::string(5000, 'x')));
  CHECK_FALSE(completes_copy(whole_response("")));
  CHECK_FALSE(completes_copy(whole_response("\xff\xff\xff")));
}

TEST_CASE("batches are larger where few streams run, and all together stay below 4 MiB") {
  for (const std::size_t streams : {0, 1, 4}) CHECK(batch_size_for(streams) == 512 * 1024);
  CHECK(batch_size_for(8) == 256 * 1024);
  for (const std::size_t streams : {16, 64, 1024}) CHECK(batch_size_for(streams) == batch::capacity);
}

TEST_CASE("a batch takes another size without keeping memory for a larger one") {
  batch one;
  for (const std::size_t size : {512 * 1024, 128 * 1024, 256 * 1024}) {
    one.resize(size);
    CHECK(one.most == size);
    CHECK(one.lines.capacity() >= size + batch::slack);
    CHECK(one.lines.capacity() <= 2 * size);
  }
}

TEST_CASE("a batch stops between two rows when it is full, and goes on with the next one") {
  driver d(catch_up_spec(server + "1-5", server + "1-6"));
  event_script script;
  script.begin(1).field("t");
  const int rows = 12000;
  for (int i = 0; i < rows; ++i) script.insert("t", std::to_string(i), std::string(20, 'x'), 1);
  script.vgtid(server + "1-6").commit(1);
  d.session.feed(buffer(script.take()));
  batch out;
  SUBCASE("of the usual size") {}
  SUBCASE("larger") { out.most = 3 * batch::capacity; }
  std::size_t told_rows = 0;
  std::size_t batches = 0;
  for (;;) {
    auto step = d.session.pump(out);
    REQUIRE(step);
    CHECK(out.lines.size() <= out.most);
    told_rows += records_in(std::string(out.lines.view())).size();
    ++batches;
    if (*step == pump_result::finished) break;
    REQUIRE(*step == pump_result::batch_full);
    out.clear();
  }
  CHECK(told_rows == rows);
  CHECK(batches > 4);
}

namespace {

// Three changes of one ROW event; the after images of the last two leave `v` out.
std::string noblob_response() {
  event_script script;
  script.begin(1).field("t").row("t", row_values{"1", "a"}, row_values{"1", "b"}, 1);
  auto* rows = script.last()->mutable_row_event();
  for (const char* id : {"2", "3"}) {
    auto* change = rows->add_row_changes();
    event_script::fill(change->mutable_before(), {id, "x"});
    event_script::fill(change->mutable_after(), {id, std::nullopt});
    change->mutable_data_columns()->set_count(2);
    change->mutable_data_columns()->set_cols("\x01");
  }
  script.vgtid(server + "1-6").commit(1);
  return script.take();
}

}  // namespace

TEST_CASE("rows that came incomplete are looked up by primary key, in order; one that is gone is skipped") {
  driver d(catch_up_spec(server + "1-5", server + "1-6"));
  REQUIRE(*d.give(noblob_response()) == pump_result::needs_rows);
  CHECK(told(std::string(d.out.lines.view())) == "1=b");
  const row_lookup wanted = d.session.missing_rows();
  REQUIRE(wanted.keys.size() == 2);
  CHECK(wanted.keys[0] == std::vector<std::string>{"2"});
  const auto sql = lookup_query(wanted);
  REQUIRE(sql);
  CHECK(*sql == "select 0, `id`, cast(`v` as binary) from `t` where `id` = 2 union all "
                "select 1, `id`, cast(`v` as binary) from `t` where `id` = 3");
  looked_up_row found;
  found.add("3");
  found.add("whole");
  d.session.complete({std::nullopt, found});
  CHECK(*d.session.pump(d.out) == pump_result::finished);
  CHECK(told(d.take_lines()) == "1=b 3=whole");
}

TEST_CASE("rows that came incomplete fail a table that has no key to look them up by") {
  auto spec = catch_up_spec(server + "1-5", server + "1-6");
  auto definition = simple_table("t");
  definition.primary_key.clear();
  spec.tables[0] = session_table_of(0, definition);
  spec.tables[0].cursors[shard_name("-")] = {server + "1-5", {}, 0};
  driver d(std::move(spec));
  const auto step = d.give(noblob_response());
  REQUIRE_FALSE(step);
  CHECK(step.error().code == error_code::row_image_incomplete);
  REQUIRE(step.error().stream);
  CHECK(step.error().stream->table == table_name("t"));
}

TEST_CASE("keys are written into SQL by their type, and nothing else gets in") {
  row_lookup lookup;
  lookup.table = {keyspace_name("ks"), table_name("odd`name")};
  lookup.columns = {{"a", false}};
  lookup.key = {{"a", 6165, "latin1"}};
  lookup.keys = {{"\xe9'"}};
  CHECK(*lookup_query(lookup) == "select 0, `a` from `odd``name` where `a` = _latin1 x'e927'");
  lookup.key = {{"a", 10264, ""}};
  CHECK(*lookup_query(lookup) == "select 0, `a` from `odd``name` where `a` = x'e927'");
  lookup.key = {{"a", 265, ""}};
  CHECK_FALSE(lookup_query(lookup));
  lookup.key = {{"a", 2064, ""}};
  CHECK_FALSE(lookup_query(lookup));
  lookup.keys = {{"2024-01-01 00:00:00"}};
  CHECK(*lookup_query(lookup) == "select 0, `a` from `odd``name` where `a` = '2024-01-01 00:00:00'");
}

TEST_CASE("table names with the keyspace in front are understood, and a point in a name is no keyspace") {
  auto spec = catch_up_spec(server + "1-5", server + "1-6");
  spec.tables.push_back(session_table_of(1, simple_table("ks.t")));
  spec.tables[1].cursors[shard_name("-")] = {server + "1-5", {}, 0};
  driver d(std::move(spec));
  event_script script;
  script.begin(1).field("ks.t").insert("ks.t", "1", "a", 1).vgtid(server + "1-6").commit(1);
  CHECK(*d.give(script.take()) == pump_result::finished);
  CHECK(records_in(d.take_lines())[0].stream == "ks.t");
  driver old(catch_up_spec(server + "1-5", server + "1-6"));
  script.begin(1).field("ks.t").insert("ks.t", "1", "a", 1).vgtid(server + "1-6").commit(1);
  CHECK(*old.give(script.take()) == pump_result::finished);
  CHECK(records_in(old.take_lines())[0].stream == "t");
}

TEST_CASE("rows before their FIELD event and rows of a strange shard are protocol errors") {
  driver d(catch_up_spec(server + "1-5", server + "1-6"));
  event_script script;
  script.begin(1).insert("t", "1", "a", 1);
  const auto early = d.give(script.take());
  REQUIRE_FALSE(early);
  CHECK(early.error().code == error_code::response_malformed);
  driver e(catch_up_spec(server + "1-5", server + "1-6"));
  event_script strange("ks", "80-");
  strange.begin(1).insert("t", "1", "a", 1);
  const auto other = e.give(strange.take());
  REQUIRE_FALSE(other);
  CHECK(other.error().message.find("80-") != std::string::npos);
}

TEST_CASE("positions, keys, times and shards that cannot be are protocol errors and move no cursor") {
  const auto refused = [](session_spec spec, std::string response) {
    driver d(std::move(spec));
    const auto before = d.cursor();
    const auto step = d.give(std::move(response));
    REQUIRE_FALSE(step);
    CHECK(step.error().code == error_code::response_malformed);
    d.session.seal(d.out);
    for (const auto& move : d.out.moves) CHECK(move.cursor.position == before.position);
    CHECK(d.cursor().position == before.position);
    CHECK(d.cursor().lastpk.empty());
    return step.error().message;
  };
  const auto contains = [](const std::string& text, const char* part) { return text.find(part) != std::string::npos; };
  const auto catch_up = catch_up_spec(server + "1-5", server + "1-9");
  event_script script;
  script.begin(1).vgtid("nonsense").commit(1);
  CHECK(contains(refused(catch_up, script.take()), "position of ks/- that is none"));
  script.begin(1).vgtid_of({{"-", server + "1-6"}, {"80-", ""}}).commit(1);
  CHECK(contains(refused(catch_up, script.take()), "tells no position of ks/80-"));
  script.begin(1).vgtid_of({{"-", server + "1-6"}, {"a/b", server + "1-6"}}).commit(1);
  CHECK(contains(refused(catch_up, script.take()), "impossible name: ks/a/b"));
  script.begin(1).vgtid_of({{"-", server + "1-6"}, {"", "current"}}).commit(1);
  CHECK(contains(refused(catch_up, script.take()), "impossible name"));
  for (const std::int64_t time : {std::int64_t{-1}, std::int64_t{1} << 62}) {
    script.begin(time).field("t").insert("t", "1", "a", time);
    CHECK(contains(refused(catch_up, script.take()), "impossible commit time"));
  }
  script.begin().vgtid(server + "1-5", {{"t", "7"}});
  script.last()->mutable_vgtid()->mutable_shard_gtids(0)->mutable_table_p_ks(0)->mutable_lastpk()->clear_fields();
  script.commit();
  CHECK(contains(refused(copy_spec(), script.take()), "has no fields"));
  // The position of a snapshot is kept before its first boundary.
  script.begin().field("t").vgtid("nonsense", {{"t", ""}}).insert("t", "1", "a");
  CHECK(contains(refused(copy_spec(), script.take()), "position of ks/- that is none"));
}

TEST_CASE("a reshard whose first transaction on a new shard holds rows is crossed, cursors going on above the parent's") {
  auto spec = catch_up_spec(server + "1-5", server + "1-5");
  spec.shards = spec.old_shards = {shard_name("-80")};
  spec.stops.clear();
  spec.stops[shard_name("-40")] = gtids(server + "1-9");
  spec.stops[shard_name("40-80")] = gtids(server + "1-9");
  spec.tables[0].cursors.clear();
  spec.tables[0].cursors[shard_name("-80")] = {server + "1-5", {}, 900'000'000};
  driver d(std::move(spec));
  event_script script("ks", "-40");
  script.begin(7).field("t").insert("t", "1", "a", 7);
  REQUIRE(d.give(script.take()));
  CHECK(records_in(d.take_lines())[0].cursor > 900'000'000);
  d.session.seal(d.out);
  CHECK(d.out.moves.empty());
  // Cut here: the rows come again, above what was given out.
  d.session.abandon_attempt();
  const std::int64_t given = d.cursor(0, "-80").cdc_cursor;
  CHECK(given > 900'000'000);
  CHECK(d.session.begin_attempt().shards.size() == 1);
  d.out.clear();
  script.begin(7).field("t").insert("t", "1", "a", 7);
  script.vgtid_of({{"-40", server + "1-9"}, {"40-80", server + "1-8"}}).commit(7);
  REQUIRE(*d.give(script.take()) == pump_result::needs_input);
  CHECK(records_in(d.take_lines())[0].cursor > given);
  d.session.seal(d.out);
  REQUIRE(d.out.removals.size() == 1);
  CHECK(d.out.removals[0].shard == shard_name("-80"));
  CHECK(d.cursor(0, "-40").position == server + "1-9");
  script.shard("40-80").begin(8).vgtid_of({{"-40", server + "1-9"}, {"40-80", server + "1-9"}}).commit(8);
  CHECK(*d.give(script.take()) == pump_result::finished);
}

TEST_CASE("COMMITs without VGTID of a shard that a stream has left do not count when it comes back") {
  auto spec = catch_up_spec(server + "1-5", server + "1-5");
  spec.shards = {shard_name("-80"), shard_name("80-")};
  spec.old_shards = {shard_name("-80")};
  spec.stops.clear();
  for (const char* name : {"-40", "40-80", "80-"}) spec.stops[shard_name(name)] = gtids(server + "1-9");
  spec.tables[0].cursors.clear();
  for (const auto& name : spec.shards) spec.tables[0].cursors[name] = {server + "1-5", {}, 0};
  driver d(std::move(spec));
  event_script script("ks", "-40");
  script.begin(1).vgtid_of({{"-40", server + "1-7"}, {"40-80", server + "1-7"}, {"80-", server + "1-5"}}).commit(1);
  script.shard("40-80").begin(2).commit(2);
  // The reshard is undone, and done once more.
  script.shard("-80").begin(3).vgtid_of({{"-80", server + "1-20"}, {"80-", server + "1-5"}}).commit(3);
  script.shard("-40").begin(4).vgtid_of({{"-40", server + "1-9"}, {"40-80", server + "1-8"}, {"80-", server + "1-5"}}).commit(4);
  script.shard("80-").begin(5).vgtid_of({{"-40", server + "1-9"}, {"40-80", server + "1-8"}, {"80-", server + "1-9"}}).commit(5);
  auto step = d.give(script.take());
  REQUIRE(step);
  CHECK(*step == pump_result::needs_input);
  script.shard("40-80").begin(6).commit(6);
  step = d.give(script.take());
  REQUIRE(step);
  CHECK(*step == pump_result::finished);
}

TEST_CASE("a copy that cannot be resumed is not resumed by the server either") {
  auto spec = copy_spec();
  spec.tables[0].resumable = false;
  driver d(std::move(spec));
  event_script script;
  script.begin().field("t").vgtid(server + "1-5", {{"t", ""}}).insert("t", "1", "a").vgtid(server + "1-5", {{"t", "1"}}).commit();
  REQUIRE(d.give(script.take()));
  script.begin().field("t").insert("t", "2", "b").vgtid(server + "1-6", {{"t", "2"}}).commit();
  const auto step = d.give(script.take());
  REQUIRE_FALSE(step);
  CHECK(step.error().code == error_code::copy_time_limit);
  CHECK(step.error().message.find("primary key") != std::string::npos);
}

TEST_CASE("a copy that starts over settles at its first snapshot, so that later deletes are told") {
  auto spec = copy_spec();
  spec.tables[0].resumable = false;
  driver d(std::move(spec));
  event_script script;
  script.begin().field("t").vgtid(server + "1-5", {{"t", ""}}).insert("t", "1", "a");
  REQUIRE(d.give(script.take()));
  d.session.begin_attempt();
  script.begin().field("t").vgtid(server + "1-8", {{"t", ""}}).insert("t", "2", "b").vgtid(server + "1-8", {{"t", "2"}}).commit();
  script.begin().vgtid(server + "1-8").commit();
  CHECK(*d.give(script.take()) == pump_result::finished);
  CHECK(d.cursor().position == server + "1-5");
}

TEST_CASE("a copy that is completed without any position is not taken for complete") {
  driver d(copy_spec());
  event_script script;
  script.copy_completed();
  CHECK_FALSE(d.give(script.take()));
}

TEST_CASE("recording: a split while catching up moves the cursors to the new shards") {
  session_spec spec;
  spec.kind = stream_kind::catch_up;
  spec.keyspace = keyspace_name("customer");
  spec.shards = {shard_name("-80")};
  // Stops of the new shards, as a peek at them gives.
  spec.stops[shard_name("-40")] = gtids("MySQL56/09ce4ae1-e6d9-11f1-a201-02fc00000001:1-195");
  auto table = session_table_of(0, simple_table("customers", "customer"), {});
  table.cursors[shard_name("-80")] = {"MySQL56/82760c52-e6d8-11f1-8eed-02fc00000001:1-205", {}, 42};
  spec.tables.push_back(std::move(table));
  driver d(std::move(spec));
  bool finished = false;
  for (const auto& response : read_recording("resume_old_shard_after_split")) {
    auto step = d.give(response);
    REQUIRE(step);
    if (*step == pump_result::finished) {
      finished = true;
      break;
    }
  }
  CHECK(finished);
  d.session.seal(d.out);
  REQUIRE(d.out.removals.size() == 1);
  CHECK(d.out.removals[0].shard == shard_name("-80"));
  std::vector<std::string> shards;
  for (const auto& move : d.out.moves) {
    shards.push_back(move.shard.str());
    CHECK_FALSE(move.cursor.position.empty());
    CHECK(move.cursor.cdc_cursor > 42);
  }
  CHECK(shards == std::vector<std::string>{"-40", "40-80"});
}

TEST_CASE("recording: a copy of two tables' bytes is delivered to the last row") {
  session_spec spec;
  spec.kind = stream_kind::copy;
  spec.keyspace = keyspace_name("unsharded");
  spec.shards = {shard_name("0")};
  auto definition = simple_table("sbtest", "unsharded");
  auto table = session_table_of(0, definition, {"id", "k", "c", "pad", "_ab_cdc_cursor"});
  table.cursors[shard_name("0")] = {};
  spec.tables.push_back(std::move(table));
  driver d(std::move(spec));
  bool finished = false;
  for (const auto& response : read_recording("copy_then_dml_unsharded")) {
    auto step = d.give(response);
    REQUIRE(step);
    if (*step == pump_result::finished) {
      finished = true;
      break;
    }
  }
  CHECK(finished);
  CHECK(records_in(d.take_lines()).size() == 12);
}

TEST_CASE("recording: transactions of 8,000 rows pass in bounded batches") {
  session_spec spec;
  spec.kind = stream_kind::catch_up;
  spec.keyspace = keyspace_name("unsharded");
  spec.shards = {shard_name("0")};
  auto table = session_table_of(0, simple_table("empty_u", "unsharded"), {"id", "v", "_ab_cdc_deleted_at", "_ab_cdc_cursor"});
  table.cursors[shard_name("0")] = {};
  spec.tables.push_back(std::move(table));
  spec.stops[shard_name("0")] = gtids("MySQL56/ffffffff-ffff-ffff-ffff-ffffffffffff:1");
  stream_session session(std::move(spec), std::make_shared<fake_clock>());
  session.begin_attempt();
  std::size_t largest = 0;
  std::uint64_t records = 0;
  for (const auto& response : read_recording("large_transactions")) {
    session.feed(buffer(response));
    for (bool more = true; more;) {
      batch out;
      auto step = session.pump(out);
      REQUIRE(step);
      if (records_in(std::string(out.lines.view())).size() > 1) largest = std::max(largest, out.lines.size());
      for (const auto& count : out.counts) records += count.records;
      more = *step == pump_result::batch_full;
    }
  }
  // 8,000 inserts, updates and deletes; see the recording's .txt.
  CHECK(records >= 16000);
  CHECK(largest <= batch::capacity);
}

TEST_CASE("the catch-up of a resumed copy counts as progress until it has reached the stop") {
  auto spec = copy_spec();
  spec.stops[shard_name("-")] = gtids(server + "1-1000");
  query::QueryResult key;
  auto* field = key.add_fields();
  field->set_name("id");
  field->set_type(query::INT64);
  event_script::fill(key.add_rows(), row_values{"7"});
  spec.tables[0].cursors[shard_name("-")] = {server + "1-5", key.SerializeAsString(), 3};
  driver d(std::move(spec));
  const auto before = d.session.advances();
  event_script script;
  // Part of what changed since the copy was interrupted; then the connection breaks.
  for (int i = 6; i < 506; ++i) script.begin(i).vgtid(server + "1-" + std::to_string(i), {{"t", "7"}}).commit(i);
  REQUIRE(d.give(script.take()));
  CHECK(d.cursor().position == server + "1-505");
  const auto caught_up = d.session.advances();
  CHECK(caught_up > before);
  // Behind the stop a poisoned row could break the stream for ever, with a few transactions more each time.
  script.begin(1000).vgtid(server + "1-1000", {{"t", "7"}}).commit(1000);
  REQUIRE(d.give(script.take()));
  const auto at_stop = d.session.advances();
  script.begin(1001).vgtid(server + "1-1001", {{"t", "7"}}).commit(1001);
  REQUIRE(d.give(script.take()));
  CHECK(d.session.advances() == at_stop);
}

TEST_CASE("a ROW event that cannot be decoded is an error, also when its table's name is the broken part") {
  driver d(catch_up_spec(server + "1-5", server + "1-6"));
  event_script script;
  script.begin(1).field("t").insert("t", "1", "a", 1).vgtid(server + "1-6").commit(1);
  std::string bytes = script.take();
  // The length of RowEvent.table_name ("t") is made one far beyond the event.
  const auto at = bytes.rfind(std::string("\x0a\x01t\x12", 4));
  REQUIRE(at != std::string::npos);
  bytes[at + 1] = 0x7f;
  const auto step = d.give(bytes);
  REQUIRE_FALSE(step);
  CHECK(step.error().code == error_code::response_malformed);
  CHECK(d.cursor().position == server + "1-5");
}

TEST_CASE("incomplete rows are not looked up by keys that cannot be compared") {
  struct key_type {
    query::Type type;
    const char* column_type;
    const char* value;
  };
  for (const key_type& key : {key_type{query::FLOAT32, "float", "3.99E+00"}, key_type{query::FLOAT64, "double", "1E-01"},
                              key_type{query::ENUM, "enum('a','b')", "2"}, key_type{query::SET, "set('a','b')", "3"}}) {
    auto spec = catch_up_spec(server + "1-5", server + "1-6");
    auto definition = simple_table("t");
    definition.columns[0].column_type = key.column_type;
    spec.tables[0] = session_table_of(0, definition);
    spec.tables[0].cursors[shard_name("-")] = {server + "1-5", {}, 0};
    driver d(std::move(spec));
    event_script script;
    script.begin(1).field("t");
    auto* field = script.last()->mutable_field_event()->mutable_fields(0);
    field->set_type(key.type);
    field->set_column_type(key.column_type);
    script.row("t", row_values{key.value, "old"}, row_values{key.value, std::nullopt}, 1);
    auto* columns = script.last()->mutable_row_event()->mutable_row_changes(0)->mutable_data_columns();
    columns->set_count(2);
    columns->set_cols("\x01");
    script.vgtid(server + "1-6").commit(1);
    const auto step = d.give(script.take());
    REQUIRE_FALSE(step);
    CHECK(step.error().code == error_code::row_image_incomplete);
  }
}

TEST_CASE("rows of a shard that replaces the copied one say that the keyspace was resharded") {
  auto spec = copy_spec();
  driver d(std::move(spec));
  event_script script;
  script.begin().field("t").vgtid(server + "1-5", {{"t", ""}});
  script.insert("t", "1", "a").vgtid(server + "1-5", {{"t", "1"}}).commit();
  REQUIRE(d.give(script.take()));
  // The first transaction of a new shard: its VGTID, which lists the new shards, comes after its rows.
  script.shard("-80").begin(9).field("t").insert("t", "2", "b", 9);
  script.vgtid_of({{"-80", server + "1-9"}, {"80-", server + "1-8"}}).commit(9);
  const auto step = d.give(script.take());
  REQUIRE_FALSE(step);
  CHECK(step.error().code == error_code::shards_changed);
}

TEST_CASE("a table that is emptied by a statement is warned of: its rows stay in the destination") {
  driver d(catch_up_spec(server + "1-5", server + "1-9"));
  event_script script;
  script.vgtid(server + "1-6").ddl();
  script.last()->set_statement("truncate table `u`");
  script.vgtid(server + "1-7").ddl();
  script.last()->set_statement("alter table t add column c int");
  REQUIRE(d.give(script.take()));
  CHECK(d.out.warnings.empty());
  script.vgtid(server + "1-8").ddl();
  script.last()->set_statement("truncate table `t`");
  REQUIRE(d.give(script.take()));
  REQUIRE(d.out.warnings.size() == 1);
  CHECK(d.out.warnings[0].find("Rows of ks.t were removed") != std::string::npos);
  CHECK(d.cursor().position == server + "1-8");
}

TEST_CASE("a table that changes places with another one is warned of, not the cut-over of an online DDL") {
  driver d(catch_up_spec(server + "1-5", server + "1-9"));
  event_script script;
  script.vgtid(server + "1-6").ddl();
  script.last()->set_statement(
      "RENAME TABLE `t` TO `_vt_hld_6ace8bcef73211ea87e9f875a4d24e90_20200915120410_`, "
      "`_vt_vrp_6ace8bcef73211ea87e9f875a4d24e90_20200915120410_` TO `t`, "
      "`_vt_hld_6ace8bcef73211ea87e9f875a4d24e90_20200915120410_` TO "
      "`_vt_vrp_6ace8bcef73211ea87e9f875a4d24e90_20200915120410_`");
  REQUIRE(d.give(script.take()));
  CHECK(d.out.warnings.empty());
  SUBCASE("by a swap") {
    script.vgtid(server + "1-7").ddl();
    script.last()->set_statement("RENAME TABLE t TO t_old, t_new TO t");
  }
  SUBCASE("by Vitess's way to drop it") {
    script.vgtid(server + "1-7").ddl();
    script.last()->set_statement("RENAME TABLE `t` TO _vt_hld_6ace8bcef73211ea87e9f875a4d24e90_20200916120410_");
  }
  REQUIRE(d.give(script.take()));
  REQUIRE(d.out.warnings.size() == 1);
  CHECK(d.out.warnings[0].find("Rows of ks.t were removed") != std::string::npos);
  CHECK(d.cursor().position == server + "1-7");
}

TEST_CASE("of the shards that replace an old one only those that are selected deliver rows") {
  auto spec = catch_up_spec(server + "1-5", server + "1-9");
  spec.shards = spec.old_shards = {shard_name("-80")};
  spec.wanted = {shard_name("-40")};
  spec.stops.clear();
  spec.stops[shard_name("-40")] = gtids(server + "1-9");
  spec.tables[0].cursors.clear();
  spec.tables[0].cursors[shard_name("-80")] = {server + "1-5", {}, 0};
  driver d(std::move(spec));
  event_script script("ks", "-80");
  script.begin(1).field("t").insert("t", "1", "old", 1).vgtid(server + "1-6").commit(1);
  // Behind the journal; the other half comes first.
  script.shard("40-80").begin(2).field("t").insert("t", "2", "no", 2);
  script.vgtid_of({{"-40", server + "1-6"}, {"40-80", server + "1-7"}}).commit(2);
  script.shard("-40").begin(3).field("t").insert("t", "3", "yes", 3);
  script.vgtid_of({{"-40", server + "1-8"}, {"40-80", server + "1-7"}}).commit(3);
  script.shard("40-80").begin(4).insert("t", "4", "no", 4);
  script.vgtid_of({{"-40", server + "1-8"}, {"40-80", server + "1-9"}}).commit(4);
  REQUIRE(*d.give(script.take()) == pump_result::needs_input);
  CHECK(told(d.take_lines()) == "1=old 3=yes");
  REQUIRE(d.session.tables()[0].cursors.size() == 1);
  CHECK(d.cursor(0, "-40").position == server + "1-8");
  // The next attempt asks for the selected shard alone.
  CHECK(d.session.begin_attempt().shards.size() == 1);
  script.shard("-40").begin(5).vgtid(server + "1-9").commit(5);
  CHECK(*d.give(script.take()) == pump_result::finished);
}

TEST_CASE("in a call of several shards a transaction moves the cursors of its own shard only") {
  auto spec = catch_up_spec(server + "1-5", server + "1-9");
  spec.shards = {shard_name("-80"), shard_name("80-")};
  spec.stops = {{shard_name("-80"), gtids(server + "1-9")}, {shard_name("80-"), gtids(server + "1-9")}};
  spec.tables[0].cursors = {{shard_name("-80"), {server + "1-5", {}, 0}}, {shard_name("80-"), {server + "1-5", {}, 0}}};
  driver d(std::move(spec));
  event_script script("ks", "-80");
  script.begin(1).vgtid_of({{"-80", server + "1-6"}, {"80-", server + "1-5"}}).commit(1);
  REQUIRE(d.give(script.take()));
  d.session.seal(d.out);
  d.out.clear();
  script.shard("80-").begin(2).vgtid_of({{"80-", server + "1-6"}, {"-80", server + "1-6"}}).commit(2);
  REQUIRE(d.give(script.take()));
  d.session.seal(d.out);
  REQUIRE(d.out.moves.size() == 1);
  CHECK(d.out.moves[0].shard == shard_name("80-"));
  CHECK(d.out.moves[0].cursor.position == server + "1-6");
}

namespace {

/// A FIELD event of the table "t" with columns of these names and types (bigint or varchar(20)).
void columns(event_script& script, const std::vector<std::pair<std::string, std::string>>& named) {
  script.field("t");
  auto* event = script.last()->mutable_field_event();
  const query::Field id = event->fields(0);
  const query::Field v = event->fields(1);
  event->clear_fields();
  for (const auto& [name, type] : named) {
    auto* field = event->add_fields();
    *field = type == "bigint" ? id : v;
    field->set_name(name);
    if (name != "id") field->set_flags(0);
  }
}

/// What a stream with the columns id and v delivers of one row before a DDL and one behind it. All texts that the
/// session had to say are in `warnings`.
std::string across_a_ddl(const std::vector<std::pair<std::string, std::string>>& changed, const row_values& row,
                         std::vector<std::string>& warnings) {
  driver d(catch_up_spec(server + "1-5", server + "1-8"));
  event_script script;
  script.begin(1).field("t").insert("t", "1", "a", 1).vgtid(server + "1-6").commit(1);
  script.vgtid(server + "1-7").ddl().begin(2);
  columns(script, changed);
  script.row("t", std::nullopt, row, 2).vgtid(server + "1-8").commit(2);
  d.session.feed(buffer(script.take()));
  REQUIRE(*d.session.pump(d.out) == pump_result::finished);
  warnings = d.out.warnings;
  const std::string lines(d.out.lines.view());
  CHECK(d.cursor().position == server + "1-8");
  const auto second = lines.find('\n') + 1;
  CHECK(told(lines.substr(0, second)) == "1=a");
  const auto data = lines.find("\"data\":{", second) + 8;
  return lines.substr(data, lines.find(",\"_ab_cdc", data) - data);
}

}  // namespace

TEST_CASE("a column added in the middle of a stream is left out with a warning") {
  std::vector<std::string> warnings;
  CHECK(across_a_ddl({{"id", "bigint"}, {"v", "varchar(20)"}, {"extra", "bigint"}}, {"2", "b", "7"}, warnings) ==
        R"("id":2,"v":"b")");
  REQUIRE(warnings.size() == 1);
  CHECK(warnings[0].find("Not delivered: extra.") != std::string::npos);
  // In the first place, so that the others move on.
  CHECK(across_a_ddl({{"extra", "bigint"}, {"id", "bigint"}, {"v", "varchar(20)"}}, {"7", "2", "b"}, warnings) ==
        R"("id":2,"v":"b")");
}

TEST_CASE("a column dropped in the middle of a stream is absent from then on, with a warning") {
  std::vector<std::string> warnings;
  CHECK(across_a_ddl({{"id", "bigint"}}, {"2"}, warnings) == R"("id":2)");
  REQUIRE(warnings.size() == 1);
  CHECK(warnings[0].find("no longer has: v.") != std::string::npos);
}

TEST_CASE("a column renamed in the middle of a stream is lost under its old name and left out under the new one") {
  std::vector<std::string> warnings;
  CHECK(across_a_ddl({{"id", "bigint"}, {"w", "varchar(20)"}}, {"2", "b"}, warnings) == R"("id":2)");
  REQUIRE(warnings.size() == 2);
  CHECK(warnings[0].find("Not delivered: w.") != std::string::npos);
  CHECK(warnings[1].find("no longer has: v.") != std::string::npos);
}

TEST_CASE("columns that change places in the middle of a stream keep their values") {
  std::vector<std::string> warnings;
  CHECK(across_a_ddl({{"v", "varchar(20)"}, {"id", "bigint"}}, {"b", "2"}, warnings) == R"("v":"b","id":2)");
  CHECK(warnings.empty());
}

TEST_CASE("a column whose type changes in the middle of a stream is delivered as the new type has it") {
  std::vector<std::string> warnings;
  CHECK(across_a_ddl({{"id", "bigint"}, {"v", "bigint"}}, {"2", "7"}, warnings) == R"("id":2,"v":7)");
}

TEST_CASE("columns named \"@1\" in the middle of a stream end it with schema_incompatible, behind what came before") {
  driver d(catch_up_spec(server + "1-5", server + "1-8"));
  event_script script;
  script.begin(1).field("t").insert("t", "1", "a", 1).vgtid(server + "1-6").commit(1).begin(2);
  columns(script, {{"@1", "bigint"}, {"@2", "varchar(20)"}});
  script.row("t", std::nullopt, row_values{"2", "b"}, 2).vgtid(server + "1-7").commit(2);
  const auto refused = d.give(script.take());
  REQUIRE_FALSE(refused);
  CHECK(refused.error().code == error_code::schema_incompatible);
  CHECK(told(d.take_lines()) == "1=a");
  CHECK(d.cursor().position == server + "1-6");
}

TEST_CASE("shards of a table share what was compiled, as long as their FIELD events are alike") {
  const auto shared = std::make_shared<shared_shape>();
  const auto of_shard = [&shared](const char* name) {
    auto spec = copy_spec();
    spec.shards = {shard_name(name)};
    spec.tables.front().shared = shared;
    spec.tables.front().cursors = {{shard_name(name), {}}};
    return spec;
  };
  const auto field_of = [](event_script& script) { return script.last()->field_event().SerializeAsString(); };
  driver left(of_shard("-80"));
  driver right(of_shard("80-"));

  event_script on_left("ks", "-80");
  on_left.begin().field("t");
  const std::string field = field_of(on_left);
  const auto shape = shape_of_field_event(field);
  REQUIRE(shape);
  CHECK(shape->table == "t");
  CHECK(shared->find(shape->bytes) == nullptr);
  on_left.insert("t", "1", "a");
  REQUIRE(*left.give(on_left.take()) == pump_result::needs_input);
  CHECK(told(left.take_lines()) == "1=a");
  const auto kept = shared->find(shape->bytes);
  REQUIRE(kept);

  event_script on_right("ks", "80-");
  on_right.begin().field("t");
  CHECK(shape_of_field_event(field_of(on_right))->bytes == shape->bytes);
  on_right.insert("t", "2", "b");
  REQUIRE(*right.give(on_right.take()) == pump_result::needs_input);
  CHECK(told(right.take_lines()) == "2=b");
  CHECK(shared->find(shape->bytes) == kept);

  // The schema changes on one shard first.
  on_right.field("t");
  on_right.last()->mutable_field_event()->mutable_fields(1)->set_name("w");
  on_right.insert("t", "3", "c");
  REQUIRE(*right.give(on_right.take()) == pump_result::needs_input);
  CHECK(right.take_lines().find("\"v\"") == std::string::npos);
  CHECK(shared->find(shape->bytes) == nullptr);
  on_left.insert("t", "4", "d");
  REQUIRE(*left.give(on_left.take()) == pump_result::needs_input);
  CHECK(told(left.take_lines()) == "4=d");
}

TEST_CASE("CREATE TABLE … SELECT: its position holds only with the rows behind it") {
  driver d(catch_up_spec(server + "1-5", server + "1-6"));
  event_script script;
  script.vgtid(server + "1-6").ddl();
  script.last()->set_statement("CREATE TABLE `t` (\n  `id` bigint NOT NULL,\n  `v` varchar(20)\n) START TRANSACTION");
  auto step = d.give(script.take());
  REQUIRE(step);
  CHECK(*step == pump_result::needs_input);
  CHECK(d.cursor().position == server + "1-5");
  script.field("t").insert("t", "1", "a", 2).vgtid(server + "1-6").commit(2);
  step = d.give(script.take());
  REQUIRE(step);
  CHECK(*step == pump_result::finished);
  CHECK(told(d.take_lines()) == "1=a");
  CHECK(d.cursor().position == server + "1-6");
}

TEST_CASE("CREATE TABLE … SELECT on one of several shards: what another one tells meanwhile does not move it") {
  auto spec = catch_up_spec(server + "1-5", server + "1-9");
  spec.shards = {shard_name("-80"), shard_name("80-")};
  spec.stops.clear();
  spec.tables[0].cursors.clear();
  for (const auto& name : spec.shards) {
    spec.stops[name] = gtids(server + "1-9");
    spec.tables[0].cursors[name] = {server + "1-5", {}, 0};
  }
  driver d(std::move(spec));
  event_script script("ks", "-80");
  script.vgtid_of({{"-80", server + "1-6"}, {"80-", server + "1-5"}}).ddl();
  script.last()->set_statement("CREATE TABLE `t` (`id` bigint NOT NULL, `v` varchar(20)) START TRANSACTION");
  script.shard("80-").begin(2).vgtid_of({{"-80", server + "1-6"}, {"80-", server + "1-6"}}).commit(2);
  REQUIRE(d.give(script.take()));
  CHECK(d.cursor(0, "-80").position == server + "1-5");
  CHECK(d.cursor(0, "80-").position == server + "1-6");
  script.shard("-80").field("t").insert("t", "1", "a", 2);
  script.vgtid_of({{"-80", server + "1-6"}, {"80-", server + "1-6"}}).commit(2);
  REQUIRE(d.give(script.take()));
  CHECK(told(d.take_lines()) == "1=a");
  CHECK(d.cursor(0, "-80").position == server + "1-6");
}

TEST_CASE("rows of a replica that lags behind the peek are covered by `since` from the first one on") {
  auto spec = copy_spec();
  // The peek, as the planner sets it.
  spec.tables[0].cursors.begin()->second.since = server + "1-7";
  driver d(std::move(spec));
  event_script script;
  script.begin().field("t").vgtid(server + "1-5", {{"t", ""}}).insert("t", "1", "a");
  REQUIRE(d.give(script.take()));
  CHECK(records_in(d.take_lines()).size() == 1);
  CHECK(d.cursor().since == server + "1-5");
  // A server that tells no position does not take it away.
  auto unsaid = copy_spec();
  unsaid.tables[0].cursors.begin()->second.since = server + "1-7";
  driver e(std::move(unsaid));
  script.begin().field("t").insert("t", "1", "a");
  REQUIRE(e.give(script.take()));
  CHECK(e.cursor().since == server + "1-7");
}

TEST_CASE("shards of a table that are read by several threads share what was compiled") {
  constexpr std::size_t threads = 4;
  constexpr std::size_t rounds = 50;
  const auto shared = std::make_shared<shared_shape>();
  // Half of the threads know the table with another column, so that what is kept changes hands all the time.
  std::vector<std::string> responses;
  for (std::size_t i = 0; i < 2; ++i) {
    event_script script("ks", "-80");
    script.begin().field("t");
    if (i == 1) script.last()->mutable_field_event()->mutable_fields(1)->set_name("w");
    script.insert("t", "1", "a");
    responses.push_back(script.take());
  }
  std::vector<std::set<std::string>> lines(threads);
  std::vector<std::thread> running;
  for (std::size_t i = 0; i < threads; ++i)
    running.emplace_back([&, i] {
      for (std::size_t round = 0; round < rounds; ++round) {
        auto spec = copy_spec();
        spec.shards = {shard_name("-80")};
        spec.tables.front().shared = shared;
        spec.tables.front().cursors = {{shard_name("-80"), {}}};
        driver d(std::move(spec));
        const auto step = d.give(responses[i % 2]);
        lines[i].insert(step && *step == pump_result::needs_input ? d.take_lines() : "failed");
      }
    });
  for (auto& thread : running) thread.join();
  for (std::size_t i = 0; i < threads; ++i) {
    REQUIRE(lines[i].size() == 1);
    CHECK((lines[i].begin()->find("\"v\":\"a\"") != std::string::npos) == (i % 2 == 0));
  }
}
