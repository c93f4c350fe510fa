// The grammar of fault files, when faults happen, and what they do to the model: reshards, failovers, purges.
#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <set>

#include "local_branch/faults.hpp"
#include "local_branch/load.hpp"
#include "local_branch/sql_answers.hpp"
#include "session_helper.hpp"

using namespace psource::local_branch;
using namespace session_helper;

namespace {

/// A call that reads one table of one shard.
call_view view_of(const std::string& shard, std::uint64_t rows, bool has_response = true) {
  call_view out;
  out.reads = [shard](const std::string& keyspace, const std::string& on, const std::string& table) {
    return (keyspace.empty() || keyspace == "k") && (on.empty() || on == shard) &&
           (table.empty() || table == "sbtest1");
  };
  out.rows = rows;
  out.has_response = has_response;
  return out;
}

std::unique_ptr<fault_injector> inject(branch& b, const std::string& text, fault_injector::hooks hooks = {}) {
  auto parsed = parse_faults(text);
  REQUIRE(parsed.problems.empty());
  auto made = fault_injector::make(b, std::move(parsed.faults), std::move(hooks));
  REQUIRE(made);
  (*made)->start();
  return std::move(*made);
}

std::string kind_of(const std::optional<fault>& found) { return found ? to_string(found->kind) : "none"; }

std::string shard_list(const binlogdata::VGtid& vgtid) {
  std::string out;
  for (const auto& entry : vgtid.shard_gtids()) out += (out.empty() ? "" : " ") + entry.shard();
  return out;
}

vtgate::VStreamRequest resume(const keyspace& ks, const binlogdata::VGtid& vgtid) {
  auto request = copy_request(ks.name(), {}, {"sbtest1"});
  *request.mutable_vgtid() = vgtid;
  return request;
}

const handover* plan(keyspace& ks, std::vector<std::string> from, std::vector<std::string> to,
                     bool keep_old = true) {
  auto made = ks.plan_reshard(from, to, keep_old);
  REQUIRE(made);
  return *made;
}

/// Rows by their key alone: a reshard moves them.
std::map<std::string, std::string> without_shards(const std::map<std::string, std::string>& rows) {
  std::map<std::string, std::string> out;
  for (const auto& [key, row] : rows) CHECK(out.emplace(key.substr(key.find('/')), row).second);
  return out;
}

std::map<std::string, std::string> serving_truth(const keyspace& ks) {
  std::map<std::string, std::string> out;
  for (const auto& [key, row] : truth_of(ks)) {
    const shard* s = ks.find_shard(key.substr(0, key.find('/')));
    if (s != nullptr && s->serving) out[key] = row;
  }
  return out;
}

// A call whose position nobody has any more: heartbeats, then its end.
void check_that_it_searches_for_5_seconds(driver& lost, const std::string& shard) {
  lost.waited = std::chrono::seconds(4);
  CHECK(lost.take().empty());
  CHECK(lost.last_step == vstream_session::step::idle);
  lost.waited = std::chrono::seconds(5);
  CHECK(lost.take().empty());
  CHECK(lost.last_step == vstream_session::step::ended);
  CHECK(lost.session().status().code == 1);
  CHECK(lost.session().status().message.find("failed to find a PRIMARY tablet for VStream in " + shard) !=
        std::string::npos);
}

}  // namespace

TEST_CASE("a fault file is read line by line") {
  const auto parsed = parse_faults(
      "# what goes wrong\n"
      "\n"
      "{\"do\":\"status\",\"keyspace\":\"k\",\"shard\":\"-80\",\"table\":\"t\",\"phase\":\"copy\",\"rows\":"
      "100,"
      "\"after_ms\":5,\"repeat\":3,\"code\":\"INTERNAL\",\"message\":\"no\"}\r\n"
      "  "
      "{\"do\":\"reshard\",\"from\":[\"-80\"],\"to\":[\"-40\",\"40-80\"],\"keep_old\":false,\"on_signal\":"
      "true}\n"
      "{\"do\":\"stall\"}\n"
      "{\"do\":\"stall\",\"ms\":7,\"phase\":\"binlog\",\"heartbeats\":true}\n"
      "{\"do\":\"purge\",\"keep\":2,\"search_ms\":100}\n"
      "{\"do\":\"oversized\"}\n"
      "{\"do\":\"half_transaction\",\"code\":1}");
  CHECK(parsed.problems.empty());
  REQUIRE(parsed.faults.size() == 7);
  const auto& first = parsed.faults[0];
  CHECK(first.kind == fault_kind::status);
  CHECK(first.line == 3);
  CHECK(first.keyspace == "k");
  CHECK(first.shard == "-80");
  CHECK(first.table == "t");
  CHECK(first.phase == fault_phase::copy);
  CHECK(first.rows == 100);
  CHECK(first.after.count() == 5);
  CHECK(first.repeat == 3);
  CHECK(first.code == 13);
  CHECK(first.message == "no");
  CHECK(parsed.faults[1].from == std::vector<std::string>{"-80"});
  CHECK(parsed.faults[1].to.size() == 2);
  CHECK_FALSE(parsed.faults[1].keep_old);
  CHECK(parsed.faults[1].on_signal);
  CHECK_FALSE(parsed.faults[1].needs_call());
  CHECK_FALSE(parsed.faults[2].duration);
  CHECK(parsed.faults[2].repeat == 1);
  CHECK(parsed.faults[3].duration->count() == 7);
  CHECK(parsed.faults[4].keep == 2);
  CHECK(parsed.faults[4].duration->count() == 100);
  CHECK(parsed.faults[5].bytes == std::size_t{192} << 20);
  CHECK(parsed.faults[6].code == 1);
}

TEST_CASE("every problem of a fault file is told with its line") {
  const std::pair<const char*, const char*> wrong[] = {
      {"nonsense", "not a JSON object"},
      {"[]", "not a JSON object"},
      {"{\"do\":\"close\"} x", "not a JSON object"},
      {"{}", "\"do\" has to be one of close, reset"},
      {"{\"do\":5}", "\"do\" has to be a text"},
      {"{\"do\":\"close\",\"ms\":5}", "\"ms\" is nothing that close takes"},
      {"{\"do\":\"close\",\"rows\":-1}", "\"rows\" has to be a whole number"},
      {"{\"do\":\"close\",\"rows\":1.5}", "\"rows\" has to be a whole number"},
      {"{\"do\":\"close\",\"rows\":99999999999999999999}", "\"rows\" has to be a whole number"},
      {"{\"do\":\"close\",\"repeat\":0}", "\"repeat\" has to be a whole number from 1"},
      {"{\"do\":\"close\",\"on_signal\":1}", "\"on_signal\" has to be true or false"},
      {"{\"do\":\"close\",\"phase\":\"late\"}", "\"phase\" has to be"},
      {"{\"do\":\"status\",\"code\":\"SOSO\"}", "\"code\" has to be a gRPC status"},
      {"{\"do\":\"status\",\"code\":17}", "\"code\" has to be a gRPC status"},
      {"{\"do\":\"garbage\",\"bytes\":0}", "\"bytes\" has to be"},
      {"{\"do\":\"oversized\",\"bytes\":99999999999}", "more than a message can have"},
      {"{\"do\":\"reshard\",\"from\":[],\"to\":[\"-\"]}", "\"from\" has to be a list of shards"},
      {"{\"do\":\"reshard\",\"from\":[\"-\"],\"to\":[5]}", "\"to\" has to be a list of shards"},
      {"{\"do\":\"reshard\",\"from\":[\"-\"],\"to\":[\"-\"],\"repeat\":2}", "a reshard happens once"},
  };
  for (const auto& [text, expected] : wrong) {
    const char* const line = text;
    CAPTURE(line);
    const auto parsed = parse_faults("\n" + std::string(line) + "\n");
    CHECK(parsed.faults.empty());
    REQUIRE_FALSE(parsed.problems.empty());
    CHECK(parsed.problems[0].rfind("line 2: ", 0) == 0);
    CHECK(parsed.problems[0].find(expected) != std::string::npos);
  }
  CHECK(parse_faults("x\n{}\n{\"do\":\"close\",\"a\":1,\"b\":2}").problems.size() == 4);
  const std::string deep(100'000, '[');
  CHECK(parse_faults("{\"do\":" + deep).problems.size() == 1);
}

TEST_CASE("reshards have to fit to the shards that will be there") {
  branch b(1);
  b.add("k", 2);
  b.add("other", 4);
  const auto refused = [&](const std::string& line) {
    auto made = fault_injector::make(b, parse_faults(line).faults, {});
    return made ? std::string() : made.error().message;
  };
  const std::string to_four =
      "{\"do\":\"reshard\",\"keyspace\":\"k\",\"from\":[\"-80\"],\"to\":[\"-40\",\"40-80\"]}";
  CHECK(refused("{\"do\":\"close\",\"keyspace\":\"none\"}").find("no keyspace none") != std::string::npos);
  CHECK(refused("{\"do\":\"reshard\",\"from\":[\"-80\"],\"to\":[\"-80\"]}").find("needs \"keyspace\"") !=
        std::string::npos);
  for (const char* ends : {"[\"-80\"],\"to\":[\"-40\"]", "[\"-80\"],\"to\":[\"-40\",\"30-80\"]",
                           "[\"-80\"],\"to\":[\"-40\",\"50-80\"]", "[\"-80\"],\"to\":[\"nonsense\"]",
                           "[\"-80\"],\"to\":[\"-40\",\"40-80\",\"40-80\"]"})
    CHECK(refused("{\"do\":\"reshard\",\"keyspace\":\"k\",\"from\":" + std::string(ends) + "}")
              .find("line 1: The keyspace k cannot be resharded: the new shards do not cover") == 0);
  CHECK(refused("{\"do\":\"reshard\",\"keyspace\":\"k\",\"from\":[\"-40\"],\"to\":[\"-40\"]}")
            .find("no shard -40") != std::string::npos);
  // Each begins with what the ones before leave.
  CHECK(refused(to_four +
                "\n{\"do\":\"reshard\",\"keyspace\":\"k\",\"from\":[\"40-80\",\"80-\"],\"to\":[\"40-\"]}") ==
        "");
  CHECK(refused(to_four).find("no shard -80") != std::string::npos);
  const sql_answers answers(b, {1});
  CHECK(std::get<mysql_result>(answers.answer("", "show vitess_shards")).rows.size() == 6);
}

TEST_CASE("faults of calls happen where, when and as often as they are told to") {
  branch b(1);
  b.add("k", 2);
  std::vector<std::size_t> told;
  fault_injector::hooks hooks;
  hooks.told = [&](const fault& what) { told.push_back(what.line); };
  const auto faults = inject(b,
                             "{\"do\":\"close\",\"shard\":\"-80\",\"rows\":10,\"repeat\":2}\n"
                             "{\"do\":\"reset\",\"table\":\"sbtest1\",\"phase\":\"copy\"}\n"
                             "{\"do\":\"half_transaction\",\"shard\":\"80-\",\"rows\":20}\n"
                             "{\"do\":\"garbage\",\"on_signal\":true}\n"
                             "{\"do\":\"status\",\"phase\":\"peek\"}\n"
                             "{\"do\":\"stall\",\"table\":\"other\"}",
                             hooks);
  std::vector<bool> first, second, third;
  CHECK(kind_of(faults->next(view_of("-80", 9), first)) == "none");
  CHECK(kind_of(faults->next(view_of("80-", 10), second)) == "none");
  CHECK(kind_of(faults->next(view_of("-80", 10), first)) == "close");
  CHECK(kind_of(faults->next(view_of("-80", 11), first)) == "none");
  CHECK(kind_of(faults->next(view_of("-80", 11, false), third)) == "close");
  third.clear();
  CHECK(kind_of(faults->next(view_of("-80", 12), third)) == "none");
  auto copying = view_of("80-", 0);
  copying.copying = true;
  CHECK(kind_of(faults->next(copying, second)) == "reset");
  auto transaction = view_of("80-", 20);
  CHECK(kind_of(faults->next(transaction, second)) == "none");
  transaction.has_transaction = true;
  CHECK(kind_of(faults->next(transaction, second)) == "half_transaction");
  faults->signal();
  CHECK(kind_of(faults->next(transaction, second)) == "garbage");
  faults->signal();
  CHECK(kind_of(faults->next(transaction, third)) == "none");
  auto peek = view_of("80-", 0);
  peek.peeks = true;
  CHECK(kind_of(faults->next(peek, first)) == "status");
  CHECK(told == std::vector<std::size_t>{1, 1, 2, 3, 4, 5});
  faults->stop();
}

TEST_CASE("a call can set off a fault of the branch, and a fault that is not due yet waits") {
  branch b(1);
  keyspace& ks = *b.add("k", 2);
  ks.add_sbtest_tables(1, 100);
  const auto faults = inject(b,
                             "{\"do\":\"failover\",\"shard\":\"80-\",\"rows\":5}\n"
                             "{\"do\":\"close\",\"after_ms\":3600000}");
  std::vector<bool> had;
  CHECK_FALSE(faults->next(view_of("80-", 4), had));
  CHECK(ks.find_shard("80-")->sources().size() == 1);
  CHECK_FALSE(faults->next(view_of("80-", 5), had));
  CHECK(ks.find_shard("80-")->sources().size() == 2);
  CHECK(ks.find_shard("-80")->sources().size() == 1);
}

TEST_CASE("a signal sets off the next fault of the branch; restarts are asked for") {
  branch b(1);
  keyspace& ks = *b.add("k", 2);
  std::mutex mutex;
  std::condition_variable changed;
  std::vector<std::string> told;
  fault_injector::hooks hooks;
  hooks.told = [&](const fault& what) {
    std::lock_guard lock(mutex);
    told.emplace_back(to_string(what.kind));
    changed.notify_all();
  };
  std::atomic<std::int64_t> down{-1};
  hooks.restart = [&](std::chrono::milliseconds time) { down = time.count(); };
  const auto faults =
      inject(b,
             "{\"do\":\"purge\",\"on_signal\":true}\n"
             "{\"do\":\"reshard\",\"from\":[\"80-\"],\"to\":[\"80-c0\",\"c0-\"],\"on_signal\":true}\n"
             "{\"do\":\"restart\",\"ms\":7,\"on_signal\":true}",
             hooks);
  const auto signal = [&](std::size_t expected) {
    faults->signal();
    std::unique_lock lock(mutex);
    REQUIRE(changed.wait_for(lock, std::chrono::seconds(60), [&] { return told.size() == expected; }));
  };
  signal(1);
  CHECK_FALSE(ks.find_shard("-80")->purged().empty());
  CHECK(ks.serving_shards().size() == 2);
  signal(2);
  CHECK(ks.serving_shards().size() == 3);
  signal(3);
  CHECK(down == 7);
  CHECK(told == std::vector<std::string>{"purge", "reshard", "restart"});
}

TEST_CASE("key ranges are read, and split the ids as the equal ranges do") {
  CHECK(parse_key_range("-")->end == 65536);
  CHECK(parse_key_range("-80")->end == 0x8000);
  CHECK(parse_key_range("40-8080")->begin == 0x4000);
  CHECK(parse_key_range("40-8080")->end == 0x8080);
  for (const char* name : {"", "0", "80-80", "80-40", "8-", "123456-", "xx-", "-8g", "-4-8"})
    CHECK_FALSE(parse_key_range(name));
  for (const std::size_t count : {1, 2, 3, 16, 300}) {
    const row_layout layout(7, count);
    const auto names = shard_names(count);
    for (std::int64_t id = 1; id < 3000; id += 7) {
      const auto number = layout.shard_of(id);
      CHECK(parse_key_range(names[number])->contains(layout.key_of(id)));
      CHECK(layout.number_of(layout.key_of(id)) == number);
    }
  }
}

TEST_CASE("a split under way: the call goes on with the new shards, no row lost, none twice") {
  branch b(3);
  keyspace& ks = *b.add("k", 2);
  ks.add_sbtest_tables(1, 2000);
  const auto* split = plan(ks, {"-80"}, {"-40", "40-80"});
  CHECK(ks.find_shard("-40") == nullptr);
  transaction_source writes(b, 3);
  driver call(b, copy_request("k", {"-80", "80-"}, {"sbtest1"}));
  folder have;
  have.take(call.take());
  for (int i = 0; i < 200; ++i) writes.write(1, 100);
  have.take(call.take());
  const auto before = have.vgtid;
  CHECK(shard_list(before) == "-80 80-");
  for (int i = 0; i < 100; ++i) writes.write(1, 100);
  REQUIRE(ks.reshard(*split));
  CHECK_FALSE(ks.reshard(*split));
  for (int i = 0; i < 400; ++i) writes.write(1, 100);
  have.take(call.take());
  CHECK(shard_list(have.vgtid) == "80- -40 40-80");
  const auto truth = serving_truth(ks);
  CHECK(truth.size() > 1500);
  // The stream names the old shard's rows by the old shard until they change.
  driver fresh(b, copy_request("k", {"-40", "40-80", "80-"}, {"sbtest1"}));
  folder copied;
  copied.take(fresh.take());
  CHECK(copied.rows == truth);
  std::map<std::string, std::string> moved;
  for (const auto& [key, row] : have.rows) {
    const auto id = key.substr(key.find('/'));
    const bool old = key.rfind("-80/", 0) == 0;
    if (!old) moved[id] = row;
  }
  for (const auto& [id, row] : moved) CHECK(without_shards(truth).at(id) == row);

  const sql_answers answers(b, {1});
  const auto shown = std::get<mysql_result>(answers.answer("", "show vitess_shards")).rows;
  CHECK(shown.size() == 3);
  CHECK(std::count(shown.begin(), shown.end(), std::vector<std::optional<std::string>>{"k/-80"}) == 0);

  // The position from before the reshard leads to the same end.
  driver late(b, resume(ks, before));
  folder again;
  again.take(late.take());
  CHECK(shard_list(again.vgtid) == "80- -40 40-80");
  CHECK(again.changes > 0);
  // "current" on the old shard is past its journal and never leaves.
  auto current = copy_request("k", {}, {"sbtest1"});
  add_shard(current, "k", "-80", "current");
  driver stuck(b, current);
  folder there;
  there.take(stuck.take());
  CHECK(shard_list(there.vgtid) == "-80");
}

TEST_CASE("every row is in one of the new shards, and later reshards begin with them") {
  branch b(5);
  keyspace& ks = *b.add("k", 4);
  ks.add_sbtest_tables(1, 3000);
  const auto* wider = plan(ks, {"-40", "40-80", "80-c0"}, {"-60", "60-c0"});
  const auto* back = plan(ks, {"-60", "60-c0", "c0-"}, {"-80", "80-"});
  const auto* fine = plan(ks, {"80-"}, {"80-90", "90-a0a0", "a0a0-"});
  transaction_source writes(b, 5);
  std::size_t done = 0;
  for (const auto* step : {wider, back, fine}) {
    for (int i = 0; i < 300; ++i) done += writes.write(1, 100);
    const auto before = without_shards(serving_truth(ks));
    REQUIRE(ks.reshard(*step));
    const auto after = serving_truth(ks);
    CHECK(without_shards(after) == before);
    std::size_t copied = 0;
    for (shard* s : ks.serving_shards()) {
      driver copy(b, copy_request("k", {s->name()}, {"sbtest1"}));
      folder rows;
      rows.take(copy.take());
      CHECK(std::all_of(rows.rows.begin(), rows.rows.end(),
                        [&](const auto& row) { return after.at(row.first) == row.second; }));
      copied += rows.rows.size();
    }
    CHECK(copied == after.size());
  }
  for (int i = 0; i < 300; ++i) CHECK(writes.write(1, 100) > 0);
  CHECK(ks.serving_shards().size() == 4);
  std::size_t total = 0;
  for (shard* s : ks.serving_shards()) {
    CHECK(s->log_size() > 10);
    total += s->log_size();
  }
  CHECK(done > 3000);
  CHECK(total > 300);
}

TEST_CASE("a merge: one shard alone ends with INTERNAL, both together go on") {
  branch b(9);
  keyspace& ks = *b.add("k", 4);
  ks.add_sbtest_tables(1, 400);
  const auto* merge = plan(ks, {"-40", "40-80"}, {"-80"});
  transaction_source writes(b, 9);
  driver both(b, copy_request("k", {"-40", "40-80"}, {"sbtest1"}));
  driver alone(b, copy_request("k", {"-40"}, {"sbtest1"}));
  folder have;
  have.take(both.take());
  alone.take();
  for (int i = 0; i < 50; ++i) writes.write(1, 100);
  ks.reshard(*merge);
  for (int i = 0; i < 50; ++i) writes.write(1, 100);
  CHECK_FALSE(alone.take().empty());
  CHECK(alone.last_step == vstream_session::step::ended);
  CHECK(alone.session().status().code == 13);
  CHECK(alone.session().status().message.find("not all journaling participants are in the stream") !=
        std::string::npos);
  have.take(both.take());
  CHECK(shard_list(have.vgtid) == "-80");
  CHECK(both.last_step == vstream_session::step::idle);
}

TEST_CASE("an old shard that is removed is refused; a call that has it open still comes over") {
  branch b(2);
  keyspace& ks = *b.add("k", std::size_t{1});
  ks.add_sbtest_tables(1, 50);
  const auto* split = plan(ks, {"-"}, {"-80", "80-"}, false);
  driver open(b, copy_request("k", {"-"}, {"sbtest1"}));
  folder have;
  have.take(open.take());
  const auto saved = have.vgtid;
  ks.reshard(*split);
  have.take(open.take());
  CHECK(shard_list(have.vgtid) == "-80 80-");
  driver late(b, resume(ks, saved));
  CHECK(late.take().empty());
  CHECK(late.last_step == vstream_session::step::ended);
  CHECK(late.session().status().code == 9);
  CHECK(late.session().status().message.find("shard provided in VGTID, -, not found in the k keyspace") !=
        std::string::npos);
}

TEST_CASE(
    "a copy that was under way ends at the journal; one that begins behind it never leaves the old shard") {
  branch b(6);
  keyspace& ks = *b.add("k", 2);
  ks.add_sbtest_tables(1, 8000);
  const auto* split = plan(ks, {"-80"}, {"-40", "40-80"});
  driver call(b, copy_request("k", {"-80"}, {"sbtest1"}));
  folder have;
  have.take(call.take(3));
  REQUIRE(have.vgtid.shard_gtids(0).table_p_ks_size() == 1);
  ks.reshard(*split);
  // The call that was open reads its snapshot to the end.
  folder open;
  open.take(call.take());
  CHECK(have.changes + open.changes == 4000);
  CHECK(shard_list(open.vgtid) == "-40 40-80");
  driver resumed(b, resume(ks, have.vgtid));
  folder rest;
  rest.take(resumed.take());
  CHECK(rest.changes == 0);
  CHECK(shard_list(rest.vgtid) == "-40 40-80");
  for (const auto& entry : rest.vgtid.shard_gtids()) CHECK(entry.table_p_ks_size() == 0);
  driver fresh(b, copy_request("k", {"-80"}, {"sbtest1"}));
  folder all;
  all.take(fresh.take());
  CHECK(all.changes == 4000);
  CHECK(shard_list(all.vgtid) == "-80");
}

TEST_CASE("the journal is shown to those who ask for it") {
  branch b(2);
  keyspace& ks = *b.add("k", 2);
  ks.add_sbtest_tables(1, 50);
  const auto* split = plan(ks, {"-80"}, {"-40", "40-80"});
  auto request = copy_request("k", {}, {"sbtest1"});
  add_shard(request, "k", "-80", ks.shards()[0]->position(1));
  request.mutable_flags()->set_include_reshard_journal_events(true);
  driver call(b, request);
  CHECK(call.take().empty());
  ks.reshard(*split);
  const auto sent = call.take();
  const auto lines = grammar::reduce(sent);
  REQUIRE(lines.size() >= 3);
  CHECK(lines[0] == "BEGIN JOURNAL VGTID COMMIT");
  CHECK(lines[1] == "BEGIN VGTID COMMIT");
  const auto& journal = sent[0].events(1).journal();
  CHECK(journal.migration_type() == binlogdata::SHARDS);
  REQUIRE(journal.shard_gtids_size() == 2);
  CHECK(journal.shard_gtids(1).shard() == "40-80");
  CHECK(journal.shard_gtids(1).gtid() == ks.find_shard("40-80")->position(1));
  REQUIRE(journal.participants_size() == 1);
  CHECK(journal.participants(0).shard() == "-80");
}

TEST_CASE("after a failover the position has two servers and streams go on") {
  branch b(4);
  keyspace& ks = *b.add("k", std::size_t{1});
  ks.add_sbtest_tables(1, 50);
  shard& s = *ks.shards()[0];
  const auto write = [&] { return s.write(1, [](shard::writer& w) { w.update(0, 7); }); };
  driver call(b, copy_request("k", {"-"}, {"sbtest1"}));
  folder have;
  have.take(call.take());
  write();
  s.fail_over();
  write();
  have.take(call.take());
  CHECK(have.rows == truth_of(ks));
  const std::string gtid = have.vgtid.shard_gtids(0).gtid();
  const auto expected = gtids::parse("MySQL56/" + s.sources().at(0) + ":1-2," + s.sources().at(1) + ":1-2");
  CHECK(gtids::parse(gtid).value() == *expected);
  CHECK(s.sources()[0] != s.sources()[1]);
  driver late(b, resume(ks, have.vgtid));
  write();
  folder again;
  again.take(late.take());
  CHECK(again.changes == 1);
}

TEST_CASE("purged binary logs bring heartbeats, then CANCELED; the MySQL port tells") {
  branch b(4);
  keyspace& ks = *b.add("k", std::size_t{1});
  ks.add_sbtest_tables(1, 50);
  shard& s = *ks.shards()[0];
  const auto write = [&] { return s.write(1, [](shard::writer& w) { w.update(0, 7); }); };
  const std::string old = s.position(s.log_size());
  write();
  write();
  const auto at = [&](const std::string& gtid) {
    auto request = copy_request("k", {}, {"sbtest1"});
    add_shard(request, "k", "-", gtid);
    return request;
  };
  driver open(b, at(old));
  s.purge(1, std::chrono::seconds(5));
  CHECK(open.take().size() == 2);
  driver lost(b, at(old));
  CHECK(lost.take().empty());
  CHECK(lost.last_step == vstream_session::step::idle);
  check_that_it_searches_for_5_seconds(lost, "k/-");
  driver kept(b, at(s.position(2)));
  CHECK(kept.take().size() == 1);
  driver copy(b, copy_request("k", {"-"}, {"sbtest1"}));
  folder have;
  have.take(copy.take());
  CHECK(have.rows == truth_of(ks));
  const sql_answers answers(b, {1});
  const auto told =
      std::get<mysql_result>(answers.answer("k/-", "select @@global.gtid_purged, @@global.gtid_executed"));
  CHECK(told.rows[0][0] == s.sources()[0] + ":1-2");
  CHECK(told.rows[0][1] == s.sources()[0] + ":1-3");
}

TEST_CASE("an old shard that is kept is purged and fails over like any other") {
  branch b(4);
  keyspace& ks = *b.add("k", 2);
  ks.add_sbtest_tables(1, 100);
  const auto faults = inject(
      b,
      "{\"do\":\"reshard\",\"from\":[\"-80\"],\"to\":[\"-40\",\"40-80\"],\"rows\":1}\n"
      "{\"do\":\"failover\",\"shard\":\"-80\",\"rows\":2}\n"
      "{\"do\":\"purge\",\"shard\":\"-80\",\"search_ms\":5000,\"rows\":3}");
  const shard& old = *ks.find_shard("-80");
  const auto at = [](const std::string& gtid) {
    auto request = copy_request("k", {}, {"sbtest1"});
    add_shard(request, "k", "-80", gtid);
    return request;
  };
  std::vector<bool> had;
  const auto saved = at(old.position(old.log_size()));
  faults->next(view_of("-80", 1), had);
  REQUIRE_FALSE(old.serving);
  CHECK(old.sources().size() == 1);

  // What another server writes stands behind the journal, where no stream comes that has met it.
  faults->next(view_of("-80", 2), had);
  CHECK(old.sources().size() == 2);
  for (const bool journals : {false, true}) {
    auto request = saved;
    request.mutable_flags()->set_include_reshard_journal_events(journals);
    driver follows(b, request);
    const auto sent = follows.take();
    folder there;
    there.take(sent);
    CHECK(shard_list(there.vgtid) == "-40 40-80");
    const auto lines = grammar::reduce(sent);
    CHECK(std::count(lines.begin(), lines.end(), "BEGIN JOURNAL VGTID COMMIT") == (journals ? 1 : 0));
    CHECK(lines.size() == (journals ? 5 : 4));
  }
  driver current(b, at("current"));
  folder behind;
  behind.take(current.take());
  CHECK(shard_list(behind.vgtid) == "-80");
  for (const std::size_t count : {old.log_size() - 1, old.log_size()}) {
    driver stays(b, at(old.position(count)));
    folder there;
    there.take(stays.take());
    CHECK((there.vgtid.shard_gtids().empty() || shard_list(there.vgtid) == "-80"));
  }

  faults->next(view_of("-80", 3), had);
  driver lost(b, saved);
  check_that_it_searches_for_5_seconds(lost, "k/-80");
}

TEST_CASE("a fault of the branch that finds nothing to happen to is told as missed, or refused when it never can") {
  const auto told_of = [](const std::string& text, std::vector<std::uint64_t> rows) {
    branch b(4);
    b.add("k", 2)->add_sbtest_tables(1, 100);
    std::string told;
    fault_injector::hooks hooks;
    hooks.told = [&](const fault& what) { told += (told.empty() ? "" : ", ") + std::string(to_string(what.kind)); };
    hooks.missed = [&](const fault& what) {
      told += (told.empty() ? "no " : ", no ") + std::string(to_string(what.kind));
    };
    const auto faults = inject(b, text, std::move(hooks));
    std::vector<bool> had;
    for (const auto count : rows) faults->next(view_of("-80", count), had);
    return told;
  };
  const std::string split = "{\"do\":\"reshard\",\"from\":[\"-80\"],\"to\":[\"-40\",\"40-80\"],\"rows\":3";
  const std::string removed = split + ",\"keep_old\":false}\n";
  CHECK(told_of(split + "}\n{\"do\":\"purge\",\"shard\":\"-80\",\"rows\":4}", {3, 4}) == "reshard, purge");
  for (const std::string kind : {"purge", "failover"})
    CHECK(told_of(removed + "{\"do\":\"" + kind + "\",\"shard\":\"-80\",\"rows\":4}", {3, 4}) ==
          "reshard, no " + kind);
  CHECK(told_of(removed + "{\"do\":\"ddl\",\"table\":\"sbtest1\",\"drop\":\"k\",\"shard\":\"-80\",\"rows\":4}",
                {3, 4}) == "reshard, no ddl");
  // The second one begins with what the first one leaves, and comes before it.
  CHECK(told_of("{\"do\":\"reshard\",\"from\":[\"80-\"],\"to\":[\"80-c0\",\"c0-\"],\"phase\":\"peek\"}\n"
                "{\"do\":\"reshard\",\"from\":[\"-80\",\"80-c0\"],\"to\":[\"-c0\"],\"rows\":4}",
                {4}) == "no reshard");

  const auto refused = [](const std::string& line) {
    branch b(1);
    b.add("k", 2)->add_sbtest_tables(1, 10);
    b.add("recorded", std::vector<std::string>{"-"});
    auto made = fault_injector::make(b, parse_faults(line).faults, {});
    return made ? std::string() : made.error().message;
  };
  CHECK(refused("{\"do\":\"purge\",\"shard\":\"-40\"}") == "line 1: there is no shard -40 that a purge can happen to.");
  CHECK(refused("{\"do\":\"failover\",\"shard\":\"80\"}") ==
        "line 1: there is no shard 80 that a failover can happen to.");
  CHECK(refused("{\"do\":\"ddl\",\"table\":\"sbtest1\",\"drop\":\"k\",\"shard\":\"-40\"}") ==
        "line 1: there is no shard -40 that a ddl can happen to.");
  CHECK(refused("\n{\"do\":\"purge\",\"keyspace\":\"recorded\"}") ==
        "line 2: there is no shard that a purge can happen to.");
  CHECK(refused("{\"do\":\"purge\",\"shard\":\"-40\",\"on_signal\":true}\n"
                "{\"do\":\"reshard\",\"keyspace\":\"k\",\"from\":[\"-80\"],\"to\":[\"-40\",\"40-80\"]}") == "");
}

TEST_CASE("a call that comes to a shard whose binary logs are gone ends as one that begins there") {
  branch b(4);
  keyspace& ks = *b.add("k", 2);
  ks.add_sbtest_tables(1, 100);
  const auto* split = plan(ks, {"-80"}, {"-40", "40-80"});
  const auto* again = plan(ks, {"40-80"}, {"40-60", "60-80"}, false);
  auto request = copy_request("k", {}, {"sbtest1"});
  for (const auto& s : ks.serving_shards()) add_shard(request, "k", s->name(), s->position(s->log_size()));
  driver open(b, request);
  CHECK(open.take().empty());
  ks.reshard(*split);
  std::string missing;
  std::chrono::seconds limit{90};
  SUBCASE("purged, as long as vtgate searches") {
    missing = "-40";
    ks.find_shard("-40")->purge(0, std::chrono::milliseconds(0));
  }
  SUBCASE("purged, and both are looked for: the first search that ends counts") {
    missing = "40-80";
    limit = std::chrono::seconds(5);
    ks.find_shard("-40")->purge(0, std::chrono::seconds(7));
    ks.find_shard("40-80")->purge(0, std::chrono::seconds(5));
  }
  SUBCASE("replaced and removed meanwhile") {
    missing = "40-80";
    ks.reshard(*again);
  }
  if (missing.empty()) return;
  // It comes over an hour after it began: the search begins then.
  const std::chrono::seconds hour(3600);
  open.waited = hour;
  folder have;
  have.take(open.take());
  CHECK(open.last_step == vstream_session::step::idle);
  REQUIRE(open.session().deadline());
  open.waited = hour + limit - std::chrono::seconds(1);
  // What the other shards write still comes.
  ks.find_shard("80-")->write(1, [&](shard::writer& w) { w.update(0, ks.find_shard("80-")->next_id(0)); });
  have.take(open.take());
  CHECK(have.changes == 1);
  CHECK(shard_list(have.vgtid) == "80- -40 40-80");
  CHECK(open.last_step == vstream_session::step::idle);
  open.waited = hour + limit;
  CHECK(open.take().empty());
  CHECK(open.last_step == vstream_session::step::ended);
  CHECK(open.session().status().code == 1);
  const auto& told = open.session().status().message;
  CHECK(told.find("error starting stream from shard GTID keyspace:\"k\" shard:\"" + missing +
                  "\" gtid:\"MySQL56/") == 0);
  CHECK(told.find("failed to find a PRIMARY tablet for VStream in k/" + missing) != std::string::npos);
}

// -- DDL
// -----------------------------------------------------------------------------------------------------------

namespace {

/// Columns of the last FIELD event, joined by commas; "" when there is none.
std::string columns_of(const grammar::responses& all) {
  std::string out;
  for (const auto& response : all) {
    for (const auto& event : response.events()) {
      if (event.type() != binlogdata::FIELD) continue;
      out.clear();
      for (const auto& field : event.field_event().fields())
        out += (out.empty() ? "" : ",") + field.name();
    }
  }
  return out;
}

/// The types of all events; of a DDL its statement.
std::string events_of(const grammar::responses& all) {
  std::string out;
  for (const auto& response : all)
    for (const auto& event : response.events())
      out += (out.empty() ? "" : " ") + (event.type() == binlogdata::DDL
                                             ? "(" + event.statement() + ")"
                                             : binlogdata::VEventType_Name(event.type()));
  return out;
}

/// The values of the after image of the last row change.
row_values last_row(const grammar::responses& all) {
  row_values out;
  for (const auto& response : all)
    for (const auto& event : response.events())
      for (const auto& change : event.row_event().row_changes())
        out = read_row(change.after().SerializeAsString()).value_or(row_values());
  return out;
}

}  // namespace

TEST_CASE("a ddl changes the columns of what is written and copied from then on, and of nothing before") {
  branch b(4);
  keyspace& ks = *b.add("k", std::size_t{1});
  ks.add_sbtest_tables(2, 50);
  const auto faults = inject(
      b,
      "{\"do\":\"ddl\",\"table\":\"sbtest1\",\"add\":\"extra int\",\"rows\":0}\n"
      "{\"do\":\"ddl\",\"table\":\"sbtest1\",\"drop\":\"k\",\"rows\":1}\n"
      "{\"do\":\"ddl\",\"table\":\"sbtest1\",\"rename\":[\"pad\",\"note\"],\"rows\":2}");
  shard& s = *ks.shards()[0];
  std::vector<bool> had;
  const auto write = [&](std::int64_t id) { s.write(1, [&](shard::writer& w) { w.update(0, id); }); };
  driver call(b, copy_request("k", {"-"}, {"sbtest1"}));
  driver other(b, copy_request("k", {"-"}, {"sbtest2"}));
  CHECK(columns_of(call.take()) == "id,k,c,pad");
  folder have;
  other.take();
  driver before(b, copy_request("k", {"-"}, {"sbtest1"}));
  have.take(before.take());

  write(1);
  faults->next(view_of("-", 0), had);
  write(2);
  const auto added = call.take();
  CHECK(events_of(added) ==
        "BEGIN FIELD ROW VGTID COMMIT VGTID (alter table `sbtest1` add column `extra` int) "
        "BEGIN VGTID COMMIT BEGIN VGTID COMMIT BEGIN FIELD ROW VGTID COMMIT");
  CHECK(columns_of(added) == "id,k,c,pad,extra");
  REQUIRE(last_row(added).size() == 5);
  CHECK(last_row(added)[4]);
  CHECK(events_of(other.take()) ==
        "BEGIN VGTID COMMIT VGTID OTHER BEGIN VGTID COMMIT BEGIN VGTID COMMIT BEGIN VGTID COMMIT");

  faults->next(view_of("-", 1), had);
  write(1);
  CHECK(columns_of(call.take()) == "id,c,pad,extra");
  faults->next(view_of("-", 2), had);
  const sql_answers answers(b, {1});
  const auto columns = std::get<mysql_result>(
      answers.answer("k",
                     "select column_name from information_schema.columns where table_schema = 'k' "
                     "and table_name = 'sbtest1'"));
  std::string names;
  for (const auto& row : columns.rows) names += (names.empty() ? "" : ",") + row[0].value_or("");
  CHECK(names == "id,c,note,extra");

  SUBCASE("read later, every transaction has the columns of its time") {
    driver late(b, resume(ks, have.vgtid));
    CHECK(columns_of(late.take(1)) == "id,k,c,pad");
  }
  SUBCASE("a copy has the columns of now; the new one is null where nobody has written since") {
    folder copied;
    driver fresh(b, copy_request("k", {"-"}, {"sbtest1", "sbtest2"}));
    const auto sent = fresh.take();
    copied.take(sent);
    CHECK(copied.rows == truth_of(ks));
    const auto value = [&](const char* id) {
      return read_row(copied.rows.at(std::string("-/sbtest1/") + id)).value().at(3);
    };
    CHECK(value("1"));
    CHECK(value("2"));
    CHECK_FALSE(value("3"));
  }
}

TEST_CASE("a ddl puts columns in other places and gives them other types") {
  branch b(4);
  keyspace& ks = *b.add("k", std::size_t{1});
  ks.add_sbtest_tables(1, 50);
  const auto faults = inject(
      b,
      "{\"do\":\"ddl\",\"table\":\"sbtest1\",\"modify\":\"pad first\",\"rows\":0}\n"
      "{\"do\":\"ddl\",\"table\":\"sbtest1\",\"add\":\"extra int after id\",\"rows\":1}\n"
      "{\"do\":\"ddl\",\"table\":\"sbtest1\",\"modify\":\"c bigint after k\",\"rows\":2}\n"
      "{\"do\":\"ddl\",\"table\":\"sbtest1\",\"modify\":\"k varchar(1)\",\"rows\":3}");
  shard& s = *ks.shards()[0];
  std::vector<bool> had;
  driver call(b, copy_request("k", {"-"}, {"sbtest1"}));
  call.take();
  const auto write = [&] {
    s.write(1, [](shard::writer& w) { w.update(0, 7); });
    return call.take();
  };
  const auto before = last_row(write());
  REQUIRE(before.size() == 4);
  faults->next(view_of("-", 0), had);
  auto sent = write();
  CHECK(columns_of(sent) == "pad,id,k,c");
  CHECK(events_of(sent).find("(alter table `sbtest1` modify column `pad` char(60) not null first)") !=
        std::string::npos);
  CHECK(last_row(sent)[1] == "7");
  CHECK(last_row(sent)[0]->size() == before[3]->size());
  faults->next(view_of("-", 1), had);
  CHECK(columns_of(write()) == "pad,id,extra,k,c");
  faults->next(view_of("-", 2), had);
  sent = write();
  CHECK(columns_of(sent) == "pad,id,extra,k,c");
  CHECK(events_of(sent).find("(alter table `sbtest1` modify column `c` bigint after k)") != std::string::npos);
  // The digits before the first dash.
  CHECK(last_row(sent)[4]->size() <= 11);
  CHECK(last_row(sent)[4]->find('-') == std::string::npos);
  faults->next(view_of("-", 3), had);
  sent = write();
  CHECK(last_row(sent)[3]->size() == 1);

  // The key is found where it is now.
  const sql_answers answers(b, {1});
  const auto keys = std::get<mysql_result>(
      answers.answer("k",
                     "select column_name, data_type from information_schema.columns where table_schema = 'k' "
                     "and table_name = 'sbtest1'"));
  CHECK(keys.rows.size() == 5);
  driver fresh(b, copy_request("k", {"-"}, {"sbtest1"}));
  std::set<std::string> rows;
  std::set<std::string> truth;
  for (const auto& response : fresh.take())
    for (const auto& event : response.events())
      for (const auto& change : event.row_event().row_changes()) rows.insert(change.after().SerializeAsString());
  for (const auto& [key, row] : truth_of(ks)) truth.insert(row);
  CHECK(rows.size() == 50);
  CHECK(rows == truth);
}

TEST_CASE("a table that is emptied loses its rows without row events") {
  branch b(4);
  keyspace& ks = *b.add("k", std::size_t{1});
  ks.add_sbtest_tables(1, 50);
  std::string what;
  std::string statements;
  SUBCASE("by TRUNCATE") {
    what = "truncate";
    statements = "VGTID (truncate table `sbtest1`) BEGIN VGTID COMMIT BEGIN VGTID COMMIT";
  }
  SUBCASE("by DROP and CREATE") {
    what = "recreate";
    statements =
        "VGTID (DROP TABLE `sbtest1` /* generated by server */) BEGIN VGTID COMMIT BEGIN VGTID COMMIT VGTID (create "
        "table `sbtest1` (`id` bigint not null, `k` int not null, `c` char(120) not null, `pad` char(60) not null, "
        "primary key (`id`))) BEGIN VGTID COMMIT BEGIN VGTID COMMIT";
  }
  if (what.empty()) return;
  const auto faults = inject(b, "{\"do\":\"ddl\",\"table\":\"sbtest1\",\"" + what +
                                    "\":true,\"rows\":0}\n"
                                    "{\"do\":\"reshard\",\"from\":[\"-\"],\"to\":[\"-80\",\"80-\"],\"rows\":1}");
  shard& s = *ks.shards()[0];
  s.write(1, [](shard::writer& w) {
    w.update(0, 1);
    w.insert(0, 60);
  });
  std::vector<bool> had;
  driver call(b, copy_request("k", {"-"}, {"sbtest1"}));
  folder have;
  have.take(call.take());
  CHECK(have.rows.size() == 51);
  const auto start = have.vgtid;
  faults->next(view_of("-", 0), had);
  CHECK(events_of(call.take()) == statements);
  CHECK(truth_of(ks).empty());
  CHECK_FALSE(s.version_of(0, 2));

  // A row of the same key is another one.
  s.write(1, [](shard::writer& w) {
    CHECK(w.insert(0, 1));
    CHECK(w.insert(0, 2));
    CHECK_FALSE(w.update(0, 3));
  });
  folder after;
  after.take(call.take());
  CHECK(after.rows == truth_of(ks));
  CHECK(after.rows.size() == 2);
  CHECK(after.rows.at("-/sbtest1/2") != have.rows.at("-/sbtest1/2"));
  driver fresh(b, copy_request("k", {"-"}, {"sbtest1"}));
  folder copied;
  copied.take(fresh.take());
  CHECK(copied.rows == truth_of(ks));
  // Read later, the rows are there until the statement.
  driver late(b, resume(ks, start));
  CHECK(events_of(late.take()).find(statements) == 0);
  // And they stay away when the shard is replaced.
  faults->next(view_of("-", 1), had);
  CHECK(truth_of(ks).size() == 2);
}

TEST_CASE("calls end at a ddl whose columns the tablet has not read yet, so often as told") {
  branch b(4);
  keyspace& ks = *b.add("k", std::size_t{1});
  ks.add_sbtest_tables(2, 50);
  const auto faults = inject(
      b, "{\"do\":\"ddl\",\"table\":\"sbtest1\",\"drop\":\"pad\",\"rows\":0,\"reload_failures\":2}");
  std::vector<bool> had;
  driver call(b, copy_request("k", {"-"}, {"sbtest1"}));
  driver other(b, copy_request("k", {"-"}, {"sbtest2"}));
  folder have;
  have.take(call.take());
  other.take();
  faults->next(view_of("-", 0), had);
  CHECK(events_of(other.take()) == "VGTID OTHER BEGIN VGTID COMMIT BEGIN VGTID COMMIT");
  CHECK(events_of(call.take()).empty());
  const auto status = call.session().status();
  CHECK(status.code == 2);
  CHECK(status.message.find("in Engine.reload(), reading table sbtest1") != std::string::npos);
  CHECK(status.message.find("failed to reload schema after DDL encountered in stream") != std::string::npos);
  driver second(b, resume(ks, have.vgtid));
  CHECK(events_of(second.take()).empty());
  CHECK(second.session().status().code == 2);
  driver third(b, resume(ks, have.vgtid));
  CHECK(events_of(third.take()).find("VGTID (alter table `sbtest1` drop column `pad`)") == 0);
}

TEST_CASE("without schema versions older transactions have the columns of now, as far as they fit") {
  const auto late_columns = [](const std::string& change) {
    branch b(4);
    keyspace& ks = *b.add("k", std::size_t{1});
    ks.add_sbtest_tables(1, 50);
    const auto faults = inject(b, "{\"do\":\"ddl\",\"table\":\"sbtest1\"," + change + ",\"rows\":0}");
    std::vector<bool> had;
    driver call(b, copy_request("k", {"-"}, {"sbtest1"}));
    folder have;
    have.take(call.take());
    ks.shards()[0]->write(1, [](shard::writer& w) { w.update(0, 1); });
    faults->next(view_of("-", 0), had);
    stream_options options;
    options.schema_versions = false;
    driver late(b, resume(ks, have.vgtid), options);
    const auto columns = columns_of(late.take());
    return late.session().status().code == 0 ? columns : late.session().status().message;
  };
  CHECK(late_columns("\"add\":\"extra int\"") == "id,k,c,pad");
  CHECK(late_columns("\"rename\":[\"pad\",\"note\"]") == "id,k,c,note");
  // c and pad have the same type: nobody can tell that they have changed their places.
  CHECK(late_columns("\"modify\":\"pad after k\"") == "id,k,pad,c");
  CHECK(late_columns("\"add\":\"extra int first\"") == "@1,@2,@3,@4");
  CHECK(late_columns("\"modify\":\"k varchar(20)\"") == "@1,@2,@3,@4");
  CHECK(late_columns("\"drop\":\"pad\"").find("cannot determine table columns for sbtest1: event has [bigint int char(120) "
                                             "char(60)], schema has [bigint int char(120)]") != std::string::npos);
}

TEST_CASE("the shards of a reshard have the columns of those that they replace") {
  branch b(4);
  keyspace& ks = *b.add("k", std::size_t{1});
  ks.add_sbtest_tables(1, 50);
  const auto faults = inject(
      b,
      "{\"do\":\"ddl\",\"table\":\"sbtest1\",\"add\":\"extra varchar(9)\",\"rows\":0}\n"
      "{\"do\":\"reshard\",\"from\":[\"-\"],\"to\":[\"-80\",\"80-\"],\"rows\":1}");
  shard& s = *ks.shards()[0];
  std::vector<bool> had;
  driver call(b, copy_request("k", {"-"}, {"sbtest1"}));
  call.take();
  faults->next(view_of("-", 0), had);
  for (std::int64_t id = 1; id <= 9; ++id) s.write(1, [&](shard::writer& w) { w.update(0, id); });
  call.take();
  faults->next(view_of("-", 1), had);
  for (shard* born : ks.serving_shards())
    born->write(1, [&](shard::writer& w) { w.update(0, born->next_id(0)); });
  CHECK(columns_of(call.take()) == "id,k,c,pad,extra");
  driver fresh(b, copy_request("k", {"-80", "80-"}, {"sbtest1"}));
  folder copied;
  copied.take(fresh.take());
  std::size_t values = 0;
  for (const auto& [key, row] : copied.rows) values += read_row(row).value().at(4) ? 1 : 0;
  CHECK(copied.rows.size() == 50);
  CHECK(values == 9);
}

TEST_CASE("a ddl that cannot be is refused with its line") {
  const auto problem = [](const std::string& line) {
    branch b(1);
    b.add("k", std::size_t{1})->add_sbtest_tables(1, 10);
    auto parsed = parse_faults(line);
    if (!parsed.problems.empty()) return parsed.problems.front();
    auto made = fault_injector::make(b, std::move(parsed.faults), {});
    return made ? std::string() : made.error().message;
  };
  const auto ddl = [&](const std::string& what) {
    return problem("{\"do\":\"ddl\",\"table\":\"sbtest1\"," + what + "}");
  };
  CHECK(ddl("\"add\":\"x bigint\"").empty());
  CHECK(ddl("\"rename\":[\"pad\",\"note\"]").empty());
  CHECK(ddl("\"add\":\"x blob\"").find("int, bigint or varchar(N)") != std::string::npos);
  CHECK(ddl("\"add\":\"pad int\"").find("already") != std::string::npos);
  CHECK(ddl("\"drop\":\"id\"").find("its key") != std::string::npos);
  CHECK(ddl("\"drop\":\"x\"").find("no column x") != std::string::npos);
  CHECK(ddl("\"rename\":[\"pad\",\"c\"]").find("cannot have the name") != std::string::npos);
  CHECK(ddl("\"rename\":[\"pad\"]").find("line 1") == 0);
  CHECK(ddl("\"drop\":\"c\",\"add\":\"x int\"").find("one of") != std::string::npos);
  CHECK(ddl("\"modify\":\"k bigint\"").empty());
  CHECK(ddl("\"modify\":\"k\"").find("a type or a place") != std::string::npos);
  CHECK(ddl("\"modify\":\"k blob\"").find("int, bigint or varchar(N)") != std::string::npos);
  CHECK(ddl("\"modify\":\"id varchar(9)\"").find("its key") != std::string::npos);
  CHECK(ddl("\"modify\":\"k after x\"").find("no place \"after x\"") != std::string::npos);
  CHECK(ddl("\"modify\":\"k after k\"").find("no place \"after k\"") != std::string::npos);
  CHECK(ddl("\"add\":\"x int last\"").find("no place \"last\"") != std::string::npos);
  CHECK(ddl("\"truncate\":true").empty());
  CHECK(ddl("\"truncate\":false").find("one of") != std::string::npos);
  CHECK(ddl("\"recreate\":true,\"shard\":\"-\"").find("all of its shards") != std::string::npos);
  CHECK(ddl("\"drop\":\"c\",\"repeat\":2").find("once") != std::string::npos);
  CHECK(problem("{\"do\":\"ddl\",\"drop\":\"c\"}").find("needs \"table\"") != std::string::npos);
  CHECK(problem("{\"do\":\"ddl\",\"table\":\"none\",\"drop\":\"c\"}").find("no table none") !=
        std::string::npos);
}
