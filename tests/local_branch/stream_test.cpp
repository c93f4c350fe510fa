// The order of events against what a real Vitess sent, the errors word for word, and copies that go on while
// rows change.
#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <thread>

#include "grammar.hpp"
#include "local_branch/load.hpp"
#include "session_helper.hpp"

using namespace psource::local_branch;
using namespace session_helper;
using grammar::join;
using grammar::reduce;

namespace {

table small_table(const std::string& name, std::int64_t rows) {
  table t;
  t.schema = sbtest_schema(name);
  t.rows = std::make_unique<sbtest_rows>(1, rows);
  t.row_count = rows;
  t.writable = true;
  return t;
}

std::int64_t first_id(const shard& s) { return s.owner().layout().next(s.number(), 0); }

/// Everything up to and with the end of the copy.
grammar::responses copy_part(const grammar::responses& all) {
  grammar::responses out;
  std::size_t last = 0;
  for (std::size_t i = 0; i < all.size(); ++i)
    for (const auto& event : all[i].events())
      if (event.type() == binlogdata::COPY_COMPLETED) last = i + 1;
  out.assign(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(last));
  return out;
}

std::string position_of(const shard& s) {
  std::shared_lock lock(s.mutex());
  return s.position(s.log_size());
}

}  // namespace

TEST_CASE("a seeded copy of three tables, one of them empty, has the recorded order of events") {
  const auto recorded = grammar::load("copy_then_dml_unsharded.vstream");
  branch b(1);
  keyspace& ks = *b.add("unsharded", std::vector<std::string>{"0"});
  SUBCASE("one shard") {
    branch made(1);
    keyspace& one = *made.add("unsharded", 1);
    one.add_table(small_table("sbtest", 12));
    one.add_table(small_table("alltypes", 8));
    one.add_table(small_table("empty_u", 1));
    driver call(made, copy_request("unsharded", {"-"}, {"alltypes", "empty_u", "sbtest"}));
    grammar::options how;
    how.progress = true;
    auto expected = join(reduce(copy_part(recorded), how));
    for (auto at = expected.find("{0 "); at != std::string::npos; at = expected.find("{0 "))
      expected.replace(at, 2, "{-");
    CHECK(join(reduce(call.take(), how)) == expected);
    CHECK(call.last_step == vstream_session::step::idle);
  }
  CHECK(ks.recorded());
}

TEST_CASE("a seeded copy of two shards has each shard's recorded order of events") {
  const auto recorded = grammar::load("sharded_copy_full.vstream");
  branch b(1);
  keyspace& ks = *b.add("sharded", 2);
  ks.add_table(small_table("orders", 100));
  ks.add_table(small_table("customers", 99));
  ks.add_table(small_table("empty_t", 0));
  driver call(b, copy_request("sharded", {"-80", "80-"}, {"customers", "orders", "empty_t"}));
  const auto sent = call.take();
  for (const char* shard : {"-80", "80-"}) {
    grammar::options how;
    how.shard = shard;
    how.progress = true;
    CHECK(join(reduce(sent, how)) == join(reduce(recorded, how)));
  }
  const auto& last = sent.back();
  REQUIRE(last.events_size() == 2);
  CHECK(last.events(1).type() == binlogdata::COPY_COMPLETED);
  CHECK(last.events(1).keyspace().empty());
}

TEST_CASE("events carry the same fields as recorded ones") {
  const auto recorded = grammar::load("copy_then_dml_unsharded.vstream");
  branch b(1);
  keyspace& ks = *b.add("unsharded", 1);
  ks.add_table(small_table("sbtest", 12));
  ks.add_table(small_table("alltypes", 8));
  shard& s = *ks.shards()[0];
  driver call(b, copy_request("unsharded", {"-"}, {"alltypes", "sbtest"}));
  auto sent = call.take();
  s.write(1'700'000'000'000'000'000, [](shard::writer& w) {
    w.insert(0, 100);
    w.end_statement();
    w.update(0, 100);
    w.end_statement();
    w.remove(0, 100);
  });
  const auto more = call.take();
  sent.insert(sent.end(), more.begin(), more.end());
  auto expected = grammar::fields_of(recorded, "sbtest");
  expected.erase("binlog HEARTBEAT");
  auto actual = grammar::fields_of(sent, "sbtest");
  CHECK(actual.size() == expected.size());
  for (const auto& [key, fields] : expected) {
    const std::string& type = key;
    INFO(type);
    CHECK(actual[type] == fields);
  }
}

TEST_CASE("transactions have the recorded order of events") {
  const auto recorded = grammar::load("copy_then_dml_unsharded.vstream");
  const auto all = reduce(recorded);
  const auto skip = reduce(copy_part(recorded)).size();
  branch b(1);
  keyspace& ks = *b.add("unsharded", 1);
  ks.add_table(small_table("empty_u", 0));
  ks.add_table(small_table("sbtest", 12));
  ks.add_table(small_table("other", 12));
  shard& s = *ks.shards()[0];
  vtgate::VStreamRequest request = copy_request("unsharded", {}, {"empty_u", "sbtest"});
  add_shard(request, "unsharded", "-", "current");
  driver call(b, request);
  CHECK(join(reduce(call.take())) == "VGTID OTHER\n");
  s.write(1, [](shard::writer& w) { w.insert(1, 100); });
  s.write(1, [](shard::writer& w) { w.remove(1, 100); });
  s.write(1, [](shard::writer& w) {
    w.insert(0, 11);
    w.end_statement();
    w.insert(1, 701);
  });
  s.write(1, [](shard::writer& w) { w.update(1, 1); });
  s.write(1, [](shard::writer& w) { w.update(2, 1); });
  const std::vector<std::string> expected(all.begin() + static_cast<std::ptrdiff_t>(skip),
                                          all.begin() + static_cast<std::ptrdiff_t>(skip) + 5);
  CHECK(join(reduce(call.take())) == join(expected));
}

TEST_CASE("a large transaction comes in pieces of the recorded form and size") {
  const auto recorded = grammar::load("large_transactions.vstream.gz");
  branch b(1);
  keyspace& ks = *b.add("unsharded", 2);
  ks.add_table(small_table("empty_u", 0));
  shard& s = *ks.shards()[0];
  shard& quiet = *ks.shards()[1];
  vtgate::VStreamRequest request = copy_request("unsharded", {}, {"empty_u"});
  add_shard(request, "unsharded", s.name(), position_of(s));
  add_shard(request, "unsharded", quiet.name(), position_of(quiet));
  driver call(b, request);
  CHECK(call.take().empty());
  for (int kind = 0; kind < 3; ++kind) {
    s.write(1, [&](shard::writer& w) {
      std::int64_t id = 0;
      for (int i = 0; i < 8000; ++i) {
        id = ks.layout().next(0, id);
        CHECK((kind == 0 ? w.insert(0, id) : kind == 1 ? w.update(0, id) : w.remove(0, id)));
      }
    });
    quiet.write(1, [&](shard::writer& w) { w.insert(0, first_id(quiet)); });
  }
  const auto sent = call.take();
  grammar::options how;
  how.shard = s.name();
  how.fold_equal = true;
  const auto actual = reduce(sent, how);
  // Recorded: insert, update, one row of 60 KB, delete.
  auto expected = reduce(recorded, {"", false, true, true});
  REQUIRE(expected.size() == 11);
  expected.erase(expected.begin() + 7);
  expected.erase(expected.begin());
  CHECK(join(actual) == join(expected));
  // The other shard's transactions do not come between the pieces.
  std::string open;
  std::size_t rows = 0;
  for (const auto& response : sent) {
    CHECK(response.ByteSizeLong() < 330'000);
    for (const auto& event : response.events()) {
      if (event.type() == binlogdata::BEGIN) {
        CHECK(open.empty());
        open = event.shard();
      }
      CHECK(event.shard() == open);
      if (event.type() == binlogdata::COMMIT) open.clear();
      if (event.type() == binlogdata::ROW) {
        rows += static_cast<std::size_t>(event.row_event().row_changes_size());
        CHECK(event.row_event().row_changes_size() <= 76);
      }
    }
  }
  CHECK(rows == 3 * 8000 + 1);
}

TEST_CASE("current: shards that have no position yet still say so") {
  branch b(1);
  keyspace& ks = *b.add("sharded", 2);
  ks.add_table(small_table("customers", 10));
  vtgate::VStreamRequest request;
  add_shard(request, "sharded", "-80", "current");
  add_shard(request, "sharded", "80-", "current");
  add_rule(request, "customers");
  driver call(b, request);
  auto recorded = grammar::load("sharded_stream.vstream");
  recorded.resize(2);
  grammar::options how;
  how.progress = true;
  CHECK(join(reduce(call.take(), how)) == join(reduce(recorded, how)));
}

TEST_CASE("a whole branch can be asked for its current positions") {
  branch b(1);
  b.add("a", 2)->add_sbtest_tables(1, 1);
  b.add("b", 1)->add_sbtest_tables(1, 1);
  vtgate::VStreamRequest request;
  add_shard(request, "", "", "current");
  driver call(b, request);
  const auto sent = call.take();
  CHECK(sent.size() == 3);
  CHECK(sent.back().events(0).vgtid().shard_gtids_size() == 3);
}

TEST_CASE("table names carry the keyspace unless asked otherwise") {
  branch b(1);
  b.add("k", 1)->add_sbtest_tables(1, 3);
  auto request = copy_request("k", {"-"}, {"sbtest1"});
  request.mutable_flags()->set_exclude_keyspace_from_table_name(false);
  driver call(b, request);
  const auto sent = call.take();
  CHECK(sent[0].events(1).field_event().table_name() == "k.sbtest1");
  CHECK(sent[2].events(0).row_event().table_name() == "k.sbtest1");
  CHECK(sent[2].events(3).vgtid().shard_gtids(0).table_p_ks(0).table_name() == "sbtest1");
}

TEST_CASE("a copy is resumed above its last key, after the changes since its position") {
  branch b(1);
  keyspace& ks = *b.add("k", 1);
  ks.add_table(small_table("t", 100));
  shard& s = *ks.shards()[0];
  auto request = copy_request("k", {"-"}, {"t"});
  stream_options small;
  small.packet_size = 2000;
  driver first(b, request, small);
  folder have;
  have.take(first.take(4));
  const auto& progress = have.vgtid.shard_gtids(0);
  REQUIRE(progress.table_p_ks_size() == 1);
  REQUIRE(progress.table_p_ks(0).has_lastpk());
  CHECK(progress.table_p_ks(0).lastpk().fields(0).name() == "id");
  CHECK(progress.table_p_ks(0).lastpk().fields(0).type() == query::INT64);
  const auto copied = have.rows.size();
  CHECK(copied > 10);
  CHECK(copied < 90);
  // Below the last key, above it, and a new row.
  s.write(1, [](shard::writer& w) { w.update(0, 1); });
  s.write(1, [](shard::writer& w) { w.remove(0, 99); });
  s.write(1, [](shard::writer& w) { w.insert(0, 101); });

  SUBCASE("with its position: every later change comes first, each with the last key") {
    *request.mutable_vgtid() = have.vgtid;
    driver second(b, request);
    const auto sent = second.take();
    const auto words = reduce(sent, {"", true, false, true});
    REQUIRE(words.size() == 7);
    CHECK(words[0] == "BEGIN FIELD[t] ROW*[t] VGTID{- at t+;} COMMIT");
    CHECK(words[1] == "BEGIN ROW*[t] VGTID{- at t+;} COMMIT");
    CHECK(words[2] == words[1]);
    CHECK(words[3] == "BEGIN FIELD[t labels]");
    CHECK(words[4] == "ROW*[t] VGTID{- at t+;} COMMIT");
    CHECK(words[5] == "BEGIN VGTID{- at;} COMMIT");
    CHECK(words[6] == "COPY_COMPLETED COPY_COMPLETED");
    have.take(sent);
    CHECK(have.rows == truth_of(ks));
  }
  SUBCASE("without a position: only the rows above") {
    *request.mutable_vgtid() = have.vgtid;
    request.mutable_vgtid()->mutable_shard_gtids(0)->set_gtid("");
    driver second(b, request);
    const auto before = have.changes;
    have.take(second.take());
    CHECK(have.changes - before == 100 - copied);
  }
}

TEST_CASE("a table whose copy has not begun is left out of the catch-up") {
  branch b(1);
  keyspace& ks = *b.add("k", 1);
  ks.add_table(small_table("a", 10));
  ks.add_table(small_table("z", 10));
  shard& s = *ks.shards()[0];
  driver call(b, copy_request("k", {"-"}, {"a", "z"}));
  folder have;
  have.take(call.take(4));
  s.write(1, [](shard::writer& w) {
    w.update(1, 1);
    w.update(0, 1);
  });
  const auto sent = call.take();
  const auto words = reduce(sent);
  CHECK(words[0] == "BEGIN FIELD[a] ROW*[a] VGTID COMMIT");
  CHECK(words[1] == "BEGIN FIELD[z labels]");
  have.take(sent);
  CHECK(have.rows == truth_of(ks));
}

TEST_CASE("tables_to_copy narrows the copy; the others are streamed") {
  branch b(1);
  keyspace& ks = *b.add("k", 1);
  ks.add_table(small_table("a", 10));
  ks.add_table(small_table("z", 10));
  auto request = copy_request("k", {"-"}, {"a", "z"});
  request.mutable_flags()->add_tables_to_copy("z");
  driver call(b, request);
  const auto words = reduce(call.take());
  CHECK(words[0] == "BEGIN FIELD[z labels]");
  CHECK(words.size() == 5);
  ks.shards()[0]->write(1, [](shard::writer& w) { w.update(0, 1); });
  CHECK(join(reduce(call.take())) == "BEGIN FIELD[a] ROW*[a] VGTID COMMIT\n");
}

TEST_CASE("a position with a hole gets what is missing, and nothing twice") {
  branch b(1);
  keyspace& ks = *b.add("k", 1);
  ks.add_table(small_table("t", 10));
  shard& s = *ks.shards()[0];
  for (int i = 1; i <= 5; ++i) s.write(1, [&](shard::writer& w) { w.update(0, i); });
  const auto uuid = s.sources()[0];
  auto request = copy_request("k", {}, {"t"});
  add_shard(request, "k", "-", "MySQL56/" + uuid + ":1-2:4");
  driver call(b, request);
  const auto sent = call.take();
  REQUIRE(sent.size() == 3);
  const auto position = [&](std::size_t i) {
    return sent[i].events(sent[i].events_size() - 2).vgtid().shard_gtids(0).gtid();
  };
  CHECK(position(0) == "MySQL56/" + uuid + ":1-4");
  CHECK(position(1) == "MySQL56/" + uuid + ":1-5");
  CHECK(position(2) == "MySQL56/" + uuid + ":1-6");
  CHECK(sent[0].events(0).event_gtid() == uuid + ":3");
}

TEST_CASE("requests that cannot be served fail with Vitess's words") {
  branch b(1);
  keyspace& unsharded = *b.add("unsharded", std::size_t{1});
  unsharded.add_table(small_table("sbtest", 10));
  keyspace& sharded = *b.add("sharded", 2);
  sharded.add_table(small_table("customers", 10));
  const std::string position = position_of(*unsharded.shards()[0]);
  for (const std::string name :
       {"bad_gtid", "lastpk_no_fields", "missing_table_copy", "no_keyspace", "shard_gone"}) {
    CAPTURE(name);
    auto recorded = grammar::load_call("errors/" + name + ".txt");
    auto& entry = *recorded.request.mutable_vgtid()->mutable_shard_gtids(0);
    std::string expected = recorded.end;
    const auto replace = [&expected](const std::string& from, const std::string& to) {
      for (auto at = expected.find(from); at != std::string::npos; at = expected.find(from, at + to.size()))
        expected.replace(at, from.size(), to);
    };
    replace("\\'", "'");
    if (entry.keyspace() == "unsharded") {
      entry.set_shard("-");
      replace("shard:\"0\"", "shard:\"-\"");
      replace("unsharded/0", "unsharded/-");
      replace("unsharded.0", "unsharded.-");
      replace("test-0000000001", "zone1-0000000100");
    }
    if (name == "lastpk_no_fields") {
      replace(entry.gtid(), position);
      entry.set_gtid(position);
    }
    driver call(b, recorded.request);
    CHECK(call.take().empty());
    REQUIRE(call.last_step == vstream_session::step::ended);
    CHECK(expected.find(call.session().status().message) != std::string::npos);
    CHECK(call.session().status().message.size() > 80);
    const std::map<std::string, int> codes{{"UNKNOWN", 2}, {"INTERNAL", 13}, {"FAILED_PRECONDITION", 9}};
    CHECK(call.session().status().code == codes.at(expected.substr(2, expected.find('\'', 2) - 2)));
  }
}

TEST_CASE("positions of the future, of another server, and missing tablets: silence, then CANCELED") {
  branch b(1);
  keyspace& ks = *b.add("unsharded", std::size_t{1});
  ks.add_table(small_table("sbtest", 10));
  const auto uuid = ks.shards()[0]->sources()[0];
  stream_options options;
  const auto silent = [&](const vtgate::VStreamRequest& request, const std::string& type) {
    driver call(b, request, options);
    CHECK(call.take().empty());
    ks.shards()[0]->write(1, [](shard::writer& w) { w.update(0, 1); });
    call.waited = std::chrono::seconds(89);
    CHECK(call.take().empty());
    CHECK(call.last_step == vstream_session::step::idle);
    REQUIRE(call.session().deadline());
    call.waited = std::chrono::seconds(91);
    CHECK(call.take().empty());
    REQUIRE(call.last_step == vstream_session::step::ended);
    CHECK(call.session().status().code == 1);
    CHECK(call.session().status().message.find(
              "failed to find a " + type +
              " tablet for VStream in unsharded/- within the zone1 cell(s): context has "
              "expired") != std::string::npos);
  };
  for (const std::string& gtid :
       {uuid + ":1-99999999", std::string("00000000-0000-0000-0000-000000000001:1-5")}) {
    auto request = copy_request("unsharded", {}, {"sbtest"});
    add_shard(request, "unsharded", "-", "MySQL56/" + gtid);
    silent(request, "PRIMARY");
  }
  options.tablet_types = {1};
  auto request = copy_request("unsharded", {}, {"sbtest"});
  add_shard(request, "unsharded", "-", "current");
  request.set_tablet_type(topodata::REPLICA);
  silent(request, "REPLICA");
}

TEST_CASE("a missing table fails only a copy") {
  branch b(1);
  b.add("unsharded", std::size_t{1})->add_table(small_table("sbtest", 10));
  auto request = copy_request("unsharded", {}, {"nosuch"});
  add_shard(request, "unsharded", "-", "current");
  driver call(b, request);
  CHECK(join(reduce(call.take())) == "VGTID OTHER\n");
  CHECK(call.last_step == vstream_session::step::idle);
}

TEST_CASE("malformed filters and requests are refused") {
  branch b(1);
  b.add("k", std::size_t{1})->add_table(small_table("t", 10));
  const auto code = [&](const std::function<void(vtgate::VStreamRequest&)>& change) {
    auto request = copy_request("k", {"-"}, {"t"});
    change(request);
    driver call(b, request);
    call.take();
    return call.session().status().code;
  };
  CHECK(code([](auto&) {}) == 0);
  CHECK(code([](auto& r) { r.mutable_filter()->mutable_rules(0)->set_filter(""); }) == 0);
  CHECK(code([](auto& r) { r.mutable_filter()->mutable_rules(0)->set_match("/^t$/"); }) == 0);
  CHECK(code([](auto& r) { r.mutable_filter()->mutable_rules(0)->set_match("/(/"); }) == 3);
  CHECK(code([](auto& r) { r.mutable_filter()->mutable_rules(0)->set_filter("select id from t"); }) == 3);
  CHECK(code([](auto& r) { r.mutable_filter()->mutable_rules(0)->set_filter("select * from `u`"); }) == 3);
  CHECK(code([](auto& r) { r.clear_vgtid(); }) == 3);
  CHECK(code([](auto& r) {
          r.mutable_vgtid()->mutable_shard_gtids(0)->set_shard("");
          r.mutable_vgtid()->mutable_shard_gtids(0)->set_gtid("MySQL56/x");
        }) == 3);
  CHECK(code([](auto& r) {
          auto* lastpk = r.mutable_vgtid()->mutable_shard_gtids(0)->mutable_table_p_ks(0)->mutable_lastpk();
          lastpk->add_fields()->set_name("id");
          auto* row = lastpk->add_rows();
          row->add_lengths(1);
          row->add_lengths(1);
          row->set_values("12");
        }) == 2);
}

TEST_CASE("responses end where their rows have come to the packet size") {
  branch b(5);
  keyspace& ks = *b.add("k", 1);
  ks.add_sbtest_tables(1, 5000);
  for (const std::size_t size : {100'000, 350'000}) {
    stream_options options;
    options.packet_size = size;
    std::vector<std::size_t> sizes;
    for (const auto& response : driver(b, copy_request("k", {"-"}, {"sbtest1"}), options).take())
      sizes.push_back(response.ByteSizeLong());
    // A row has about 200 bytes, and what is around its values; the last responses have what was left, and the end.
    std::sort(sizes.rbegin(), sizes.rend());
    REQUIRE(sizes.size() > 2);
    CHECK(sizes[0] >= size);
    CHECK(sizes[0] < size + size / 4);
    CHECK(sizes[1] >= size);
  }
}

TEST_CASE("copy and binlog fold to the truth while rows change") {
  branch b(11);
  keyspace& ks = *b.add("k", 4);
  ks.add_sbtest_tables(2, 3000);
  std::atomic<bool> written{false};
  stream_options small;
  small.packet_size = 20'000;
  folder have;
  driver call(b, copy_request("k", {"-40", "40-80", "80-c0", "c0-"}, {"sbtest1", "sbtest2"}), small);
  have.take(call.take(3));
  std::thread writer([&] {
    transaction_source source(b, 11);
    for (int i = 0; i < 3000; ++i) source.write(1, 1000);
    written.store(true);
  });
  while (!written.load()) have.take(call.take(5));
  writer.join();
  have.take(call.take());
  CHECK(have.rows == truth_of(ks));
  for (const auto& entry : have.vgtid.shard_gtids()) {
    CHECK(entry.table_p_ks_size() == 0);
    CHECK(entry.gtid() == position_of(*ks.find_shard(entry.shard())));
  }
}

// One shard with several tables, or several shards with one table. With several of both, tables_to_copy names
// tables that a shard has finished; Vitess then copies them again and leaves their deletes out, and so does
// this server.
TEST_CASE("a call that is cut at any response and resumed from its last VGTID loses no row") {
  for (const bool shards : {false, true})
    for (std::uint64_t seed = 1; seed <= 20; ++seed) {
      CAPTURE(seed);
      branch b(seed);
      keyspace& ks = *b.add("k", std::size_t{shards ? 2u : 1u});
      ks.add_sbtest_tables(shards ? 1 : 2, 200);
      transaction_source source(b, seed);
      stream_options small;
      small.packet_size = 4000;
      auto request = shards ? copy_request("k", {"-80", "80-"}, {"sbtest1"})
                            : copy_request("k", {"-"}, {"sbtest1", "sbtest2"});
      const std::string fresh = request.vgtid().SerializeAsString();
      folder have;
      for (std::uint64_t round = 0;; ++round) {
        driver call(b, request, small);
        const auto sent = call.take(1 + static_cast<std::size_t>(mix(seed * 1000 + round) % 12));
        // Keep what a client keeps: whole transactions, and the VGTID of the last one.
        std::vector<binlogdata::VEvent> open;
        for (const auto& response : sent) {
          for (const auto& event : response.events()) {
            open.push_back(event);
            if (event.type() != binlogdata::COMMIT) continue;
            for (const auto& held : open) have.take(held);
            open.clear();
          }
        }
        source.write(1, 20);
        if (have.vgtid.shard_gtids_size() > 0) *request.mutable_vgtid() = have.vgtid;
        request.mutable_flags()->clear_tables_to_copy();
        bool unfinished = have.vgtid.shard_gtids_size() == 0;
        std::set<std::string> names;
        for (const auto& entry : have.vgtid.shard_gtids())
          for (const auto& pk : entry.table_p_ks()) names.insert(pk.table_name());
        for (const auto& name : names) request.mutable_flags()->add_tables_to_copy(name);
        unfinished = unfinished || !names.empty();
        if (!unfinished && round > 30) break;
        REQUIRE(round < 2000);
      }
      driver rest(b, request, small);
      have.take(rest.take());
      CHECK(have.rows == truth_of(ks));
      CHECK(fresh != request.vgtid().SerializeAsString());
    }
}
