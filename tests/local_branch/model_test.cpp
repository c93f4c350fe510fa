// Shard names, GTID sets, made-up rows, and the branch's memory of changes.
#include <doctest/doctest.h>

#include <algorithm>
#include <set>

#include "local_branch/branch.hpp"
#include "local_branch/gtids.hpp"
#include "local_branch/load.hpp"
#include "local_branch/options.hpp"
#include "local_branch/rows.hpp"
#include "local_branch/shards.hpp"

using namespace psource::local_branch;

TEST_CASE("shards are named as Vitess names equal key ranges") {
  using names = std::vector<std::string>;
  CHECK(shard_names(1) == names{"-"});
  CHECK(shard_names(2) == names{"-80", "80-"});
  CHECK(shard_names(3) == names{"-55", "55-aa", "aa-"});
  CHECK(shard_names(4) == names{"-40", "40-80", "80-c0", "c0-"});
  const auto n256 = shard_names(256);
  REQUIRE(n256.size() == 256);
  CHECK(n256.front() == "-01");
  CHECK(n256[1] == "01-02");
  CHECK(n256.back() == "ff-");
  const auto n1024 = shard_names(1024);
  REQUIRE(n1024.size() == 1024);
  CHECK(n1024.front() == "-0040");
  CHECK(n1024[1] == "0040-0080");
  CHECK(n1024.back() == "ffc0-");
}

TEST_CASE("each id is on exactly one shard, and a shard's ids can be walked in order") {
  for (const std::size_t shards : {1, 2, 3, 16, 1000}) {
    const row_layout layout(7, shards);
    std::set<std::int64_t> seen;
    for (std::size_t s = 0; s < shards; ++s) {
      for (std::int64_t id = layout.next(s, 0), before = 0; id <= 5000;
           before = id, id = layout.next(s, id)) {
        REQUIRE(id > before);
        REQUIRE(layout.shard_of(id) == s);
        REQUIRE(seen.insert(id).second);
      }
    }
    CHECK(seen.size() == 5000);
  }
}

TEST_CASE("neighbouring ids do not always go to the same shards") {
  const row_layout layout(7, 2);
  std::size_t even_on_first = 0;
  for (std::int64_t id = 2; id <= 2000; id += 2) even_on_first += layout.shard_of(id) == 0 ? 1 : 0;
  CHECK(even_on_first > 400);
  CHECK(even_on_first < 600);
}

namespace {

std::string row_of(const row_maker& maker, std::int64_t id, std::uint32_t version) {
  std::string out(maker.max_size(), '\0');
  out.resize(static_cast<std::size_t>(maker.write(out.data(), id, version, row_text::mysql) - out.data()));
  return out;
}

}  // namespace

TEST_CASE("rows follow from seed, id and version alone, in sysbench's form") {
  const sbtest_rows a(1, 1000);
  const sbtest_rows same(1, 1000);
  const sbtest_rows other(2, 1000);
  std::set<std::string> seen;
  for (const std::int64_t id : {1, 2, 99, 1'000'000'000, 2'000'000'000}) {
    CHECK(row_of(a, id, 0) == row_of(same, id, 0));
    CHECK(row_of(a, id, 0) != row_of(other, id, 0));
    CHECK(row_of(a, id, 0) != row_of(a, id, 1));
    const auto values = read_row(row_of(a, id, 3));
    REQUIRE(values);
    REQUIRE(values->size() == 4);
    CHECK(*(*values)[0] == std::to_string(id));
    const auto k = std::stoll(*(*values)[1]);
    CHECK(k >= 1);
    CHECK(k <= 1000);
    for (const auto& [number, size] : {std::pair{2, 119}, std::pair{3, 59}}) {
      const auto& text = *(*values)[static_cast<std::size_t>(number)];
      REQUIRE(static_cast<int>(text.size()) == size);
      for (std::size_t i = 0; i < text.size(); ++i) {
        const bool dash = i % 12 == 11;
        CHECK((dash ? text[i] == '-' : (text[i] >= '0' && text[i] <= '9')));
      }
      CHECK(seen.insert(text).second);
    }
  }
}

TEST_CASE("rows survive the way into bytes and back") {
  const row_values values{std::string("a"), std::nullopt, std::string(), std::string(1000, 'x'),
                          std::string("\0\xff", 2)};
  byte_buffer bytes;
  append_row(bytes, values);
  CHECK(read_row(bytes.view()) == values);
  CHECK_FALSE(read_row(bytes.view().substr(0, bytes.size() - 1)));
}

TEST_CASE("GTID sets are read, merged, compared and written") {
  const std::string a = "aaaaaaaa-0000-1000-8000-000000000001";
  const std::string b = "bbbbbbbb-0000-1000-8000-000000000002";
  const auto set = gtids::parse("MySQL56/" + a + ":4-5:1-3:9,\n" + b + ":7");
  REQUIRE(set);
  CHECK(set->to_position() == "MySQL56/" + a + ":1-5:9," + b + ":7");
  CHECK(set->to_string(",\n") == a + ":1-5:9,\n" + b + ":7");
  CHECK(set->has(a, 9));
  CHECK_FALSE(set->has(a, 8));
  CHECK(set->contains(*gtids::parse("MySQL56/" + a + ":2-5")));
  CHECK_FALSE(set->contains(*gtids::parse("MySQL56/" + a + ":2-6")));
  CHECK_FALSE(gtids::parse("MySQL56/" + a + ":2-6")->contains(*set));
  gtids cut = *set;
  cut.remove(a, 3);
  CHECK(cut.to_position() == "MySQL56/" + a + ":1-2:4-5:9," + b + ":7");
  cut.remove(b, 7);
  CHECK_FALSE(cut.has(b, 7));
  CHECK(gtids::parse("garbage").error().message ==
        "could not decode position: parse error: unknown GTIDSet flavor \"\"");
  CHECK_FALSE(gtids::parse("MySQL56/" + a));
  CHECK_FALSE(gtids::parse("MySQL56/" + a + ":x-"));
  CHECK_FALSE(gtids::parse("MySQL56/" + a + ":0"));
}

TEST_CASE("a snapshot does not see later changes") {
  branch b(5);
  keyspace& ks = *b.add("ks", 2);
  ks.add_sbtest_tables(1, 100);
  shard& s = *ks.shards()[0];
  const auto rows_at = [&](std::size_t count) {
    std::vector<std::pair<std::int64_t, std::uint32_t>> out;
    s.scan(0, count, 0, [&](std::int64_t id, std::uint32_t version) {
      out.emplace_back(id, version);
      return true;
    });
    return out;
  };
  const auto before = rows_at(s.log_size());
  CHECK(before.size() == 50);
  const std::size_t at = s.log_size();
  const std::int64_t first = before[0].first;
  const std::int64_t second = before[1].first;
  const std::int64_t fresh = ks.layout().next(0, 100);
  const auto count = s.write(1, [&](shard::writer& w) {
    CHECK(w.update(0, first));
    CHECK(w.update(0, first));
    CHECK(w.remove(0, second));
    CHECK_FALSE(w.update(0, second));
    CHECK_FALSE(w.insert(0, first));
    CHECK(w.insert(0, fresh));
  });
  CHECK(count == 4);
  CHECK(s.write(1, [&](shard::writer& w) { w.insert(0, second); }) == 1);
  CHECK(rows_at(at) == before);
  const auto after = rows_at(at + 1);
  CHECK(after.size() == 50);
  CHECK(after[0] == std::pair<std::int64_t, std::uint32_t>{first, 2});
  CHECK(after[1].first == before[2].first);
  CHECK(after.back() == std::pair<std::int64_t, std::uint32_t>{fresh, 0});
  CHECK(rows_at(at + 2)[1] == std::pair<std::int64_t, std::uint32_t>{second, 1});
  CHECK(s.write(1, [](shard::writer&) {}) == 0);
  CHECK(s.log_size() == at + 2);
}

TEST_CASE("positions grow by one GTID per transaction, and a position finds its place in the log") {
  branch b(5);
  keyspace& ks = *b.add("ks", 2);
  ks.add_sbtest_tables(1, 100);
  shard& s = *ks.shards()[1];
  for (int i = 0; i < 5; ++i) s.write(1, [&](shard::writer& w) { w.update(0, ks.layout().next(1, 0)); });
  const auto& uuid = s.sources()[0];
  CHECK(s.position(6) == "MySQL56/" + uuid + ":1-6");
  CHECK(uuid != ks.shards()[0]->sources()[0]);
  CHECK(s.locate(*gtids::parse("MySQL56/" + uuid + ":1-4")) == std::size_t{4});
  CHECK(s.locate(*gtids::parse("MySQL56/" + uuid + ":1-6")) == std::size_t{6});
  CHECK(s.locate(*gtids::parse("MySQL56/" + uuid + ":1-2:4-5")) == std::size_t{2});
  CHECK_FALSE(s.locate(*gtids::parse("MySQL56/" + uuid + ":1-7")));
  CHECK_FALSE(s.locate(*gtids::parse("MySQL56/aaaaaaaa-0000-1000-8000-000000000001:1")));
}

namespace {

std::vector<change> changes_of(std::uint64_t seed, std::size_t transactions) {
  branch b(seed);
  keyspace& ks = *b.add("ks", 4);
  ks.add_sbtest_tables(3, 500);
  transaction_source source(b, seed);
  for (std::size_t i = 0; i < transactions; ++i) source.write(1, 1000);
  std::vector<change> out;
  for (const auto& s : ks.shards())
    for (std::size_t i = 0; i < s->log_size(); ++i)
      out.insert(out.end(), s->at(i).changes.begin(), s->at(i).changes.end());
  return out;
}

bool equal(const std::vector<change>& a, const std::vector<change>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](const change& x, const change& y) {
    return x.id == y.id && x.version == y.version && x.table == y.table && x.kind == y.kind;
  });
}

}  // namespace

TEST_CASE("the write load is repeatable and mixes updates, inserts and deletes as promised") {
  const auto one = changes_of(3, 1000);
  CHECK(equal(one, changes_of(3, 1000)));
  CHECK_FALSE(equal(one, changes_of(4, 1000)));
  double kinds[3] = {};
  for (const auto& c : one) kinds[static_cast<int>(c.kind)] += 1.0 / static_cast<double>(one.size());
  CHECK(kinds[static_cast<int>(change_kind::update)] == doctest::Approx(0.6).epsilon(0.1));
  CHECK(kinds[static_cast<int>(change_kind::insert)] == doctest::Approx(0.2).epsilon(0.25));
  CHECK(kinds[static_cast<int>(change_kind::remove)] == doctest::Approx(0.2).epsilon(0.25));
}

TEST_CASE("transactions have 1 to 20 row changes, some of them in two tables, and stop at the total") {
  branch b(3);
  keyspace& ks = *b.add("ks", 2);
  ks.add_sbtest_tables(3, 500);
  transaction_source source(b, 3);
  std::size_t total = 0;
  while (total < 5000) total += source.write(1, 5000 - total);
  CHECK(total == 5000);
  bool two_tables = false;
  std::set<std::size_t> sizes;
  for (const auto& s : ks.shards()) {
    for (std::size_t i = 1; i < s->log_size(); ++i) {
      const auto& changes = s->at(i).changes;
      sizes.insert(changes.size());
      for (const auto& c : changes) two_tables = two_tables || c.table != changes.front().table;
    }
  }
  CHECK(*sizes.begin() == 1);
  CHECK(*sizes.rbegin() == 20);
  CHECK(two_tables);
}

TEST_CASE("the command line tells every problem at once") {
  const char* wrong[] = {"local-branch", "--keyspace",     "ks",     "--rows=-1", "--tls-cert",
                         "c.pem",        "--tablet-types", "master", "x"};
  const auto bad = parse_arguments(9, wrong);
  CHECK(bad.problems.size() == 5);
  const char* unknown[] = {"local-branch", "--keyspaces", "ks:2"};
  CHECK(parse_arguments(3, unknown).problems.size() == 1);
  const char* none[] = {"local-branch"};
  CHECK(parse_arguments(1, none).problems.size() == 1);
  const char* good[] = {"local-branch", "--keyspace", "a:2",           "--keyspace", "b-c:1024",
                        "--write-rate", "1.5",        "--write-total", "7"};
  const auto fine = parse_arguments(9, good);
  CHECK(fine.problems.empty());
  REQUIRE(fine.options.keyspaces.size() == 2);
  CHECK(fine.options.keyspaces[1] == std::pair<std::string, std::size_t>{"b-c", 1024});
  CHECK(fine.options.write_rate == 1.5);
  CHECK(fine.options.write_total == 7);
  CHECK(fine.options.packet_size == 250'000);
  const char* packets[] = {"local-branch", "--keyspace", "a:1", "--packet-size", "350000"};
  CHECK(parse_arguments(5, packets).options.packet_size == 350'000);
  packets[4] = "0";
  CHECK(parse_arguments(5, packets).problems.size() == 1);
  const char* help[] = {"local-branch", "--help"};
  CHECK(parse_arguments(2, help).help.find("--keyspace NAME:SHARDS") != std::string::npos);
}

TEST_CASE("a burst is written at once, whatever the rate allows, and none comes after the end") {
  branch served(3);
  served.add("commerce", 2)->add_sbtest_tables(1, 100);
  load_writer load(served, 3, 0, 0);
  load.burst(500);
  CHECK(load.written() == 500);
  load.burst(1);
  CHECK(load.written() == 501);
  load.stop();
  load.burst(7);
  CHECK(load.written() == 501);
}
