// The event grammar: every recording passes, and each named exception is told as the header says.
#include <doctest/doctest.h>
#include <google/protobuf/stubs/logging.h>

#include "protocol/vitess/event_assembler.hpp"
#include "protocol/vitess/last_key.hpp"
#include "tests/support/events.hpp"
#include "tests/support/recording.hpp"

using namespace psource;
using psource::testing::event_script;

namespace {

// `text` with each of its bytes as each value that a byte can have.
template <class Use>
void for_each_changed_byte(const std::string& text, const Use& use) {
  for (std::size_t at = 0; at < text.size(); ++at)
    for (unsigned value = 0; value < 256; ++value) {
      std::string changed = text;
      changed[at] = static_cast<char>(value);
      use(changed);
    }
}

// One letter per step: F fields, R rows, B boundary, C copy completed, h heartbeat, . nothing; E = refused.
std::string steps_of(event_assembler& assembler, const std::string& response) {
  std::string steps;
  event_reader events(response);
  raw_event event;
  while (events.next(event)) {
    auto step = assembler.feed(event);
    if (!step) return steps + "E";
    switch (*step) {
      case stream_step::nothing:
        steps += '.';
        break;
      case stream_step::heartbeat:
        steps += 'h';
        break;
      case stream_step::fields:
        steps += 'F';
        break;
      case stream_step::rows:
        steps += 'R';
        break;
      case stream_step::boundary:
        steps += 'B';
        if (!assembler.take_position()) return steps + "E";
        break;
      case stream_step::copy_completed:
        steps += 'C';
        break;
    }
  }
  return events.ok() ? steps : steps + "E";
}

}  // namespace

TEST_CASE("every recording of a real server follows the grammar") {
  for (const auto& name : psource::testing::recording_names()) {
    event_assembler assembler;
    std::string all;
    for (const auto& response : psource::testing::read_recording(name)) all += steps_of(assembler, response);
    CHECK_MESSAGE(all.find('E') == std::string::npos, name);
    CHECK_MESSAGE((all.find('B') != std::string::npos || name == "current_peek"), name);
    CHECK_FALSE(assembler.inside_transaction());
  }
}

TEST_CASE("an empty table's copy has two BEGINs and one COMMIT") {
  event_assembler assembler;
  event_script script;
  script.begin().field("t").begin().vgtid("MySQL56/00000000-0000-0000-0000-000000000001:1-5").commit();
  CHECK(steps_of(assembler, script.take()) == ".F..B");
}

TEST_CASE("a boundary has the last VGTID before it, and none when the server sent none") {
  event_assembler assembler;
  event_script script;
  const std::string first = "MySQL56/00000000-0000-0000-0000-000000000001:1-5";
  script.begin().field("t").insert("t", "1", "a").vgtid(first).commit().begin().commit();
  const std::string response = script.take();
  event_reader events(response);
  raw_event event;
  std::vector<std::size_t> shards;
  while (events.next(event)) {
    auto step = assembler.feed(event);
    REQUIRE(step);
    if (*step != stream_step::boundary) continue;
    const auto position = assembler.take_position();
    REQUIRE(position);
    shards.push_back(position->shards.size());
    if (!position->shards.empty()) CHECK(position->shards[0].gtid == first);
  }
  CHECK(shards == std::vector<std::size_t>{1, 0});
  CHECK(assembler.commits_without_vgtid("-") == 1);
}

TEST_CASE("rows of an open transaction are known as such until its COMMIT") {
  event_assembler assembler;
  event_script script;
  script.begin().field("t").insert("t", "1", "a");
  CHECK(steps_of(assembler, script.take()) == ".FR");
  CHECK(assembler.inside_transaction());
  script.begin();  // the tablet failed: the transaction starts again
  CHECK(steps_of(assembler, script.take()) == ".");
  CHECK_FALSE(assembler.inside_transaction());
}

TEST_CASE("ROLLBACK is harmless without rows and an error after rows") {
  event_assembler assembler;
  event_script script;
  script.begin().rollback();
  CHECK(steps_of(assembler, script.take()) == "..");
  script.begin().field("t").insert("t", "1", "a").rollback();
  CHECK(steps_of(assembler, script.take()) == ".FRE");
}

TEST_CASE("statement-based changes are an error, unknown event types are not") {
  event_assembler assembler;
  event_script script;
  script.statement_dml();
  CHECK(steps_of(assembler, script.take()) == "E");
  script.begin();
  script.last()->set_type(static_cast<binlogdata::VEventType>(77));
  CHECK(steps_of(assembler, script.take()) == ".");
}

TEST_CASE("a VGTID that names a shard twice is refused") {
  event_assembler assembler;
  event_script script;
  script.begin().vgtid_of({{"-80", "MySQL56/x:1"}, {"-80", "MySQL56/x:2"}}).commit();
  CHECK(steps_of(assembler, script.take()) == "..BE");
}

TEST_CASE("the shards of a VGTID are walked as Protobuf reads them, or refused") {
  const google::protobuf::LogSilencer quiet;
  std::size_t same = 0;
  std::size_t refused = 0;
  std::size_t found = 0;
  const auto compare = [&](const std::string& bytes) {
    binlogdata::VGtid expected;
    const bool whole = expected.ParseFromString(bytes);
    psource::shard_gtid_reader shards(bytes);
    int number = 0;
    while (shards.next()) {
      // What Protobuf refuses may have been well up to there; this reader looks at fewer of the bytes.
      if (!whole) continue;
      REQUIRE(number < expected.shard_gtids_size());
      const auto& entry = expected.shard_gtids(number++);
      REQUIRE(shards.keyspace() == entry.keyspace());
      REQUIRE(shards.shard() == entry.shard());
      REQUIRE(shards.gtid() == entry.gtid());
      // The first one of that name, or none where it is written in an unusual way.
      psource::shard_gtid_reader named(bytes);
      if (named.find(entry.keyspace(), entry.shard())) {
        ++found;
        const auto first = std::find_if(expected.shard_gtids().begin(), expected.shard_gtids().end(), [&](const auto& other) {
          return other.keyspace() == entry.keyspace() && other.shard() == entry.shard() && other.gtid() == named.gtid();
        });
        REQUIRE(first != expected.shard_gtids().end());
      }
    }
    if (whole) REQUIRE((!shards.ok() || number == expected.shard_gtids_size()));
    shards.ok() ? ++same : ++refused;
    return shards.ok();
  };
  binlogdata::VGtid vgtid;
  for (const char* shard : {"-80", "80-"}) {
    auto& entry = *vgtid.add_shard_gtids();
    entry.set_keyspace("ks");
    entry.set_shard(shard);
    entry.set_gtid("MySQL56/x:1");
    entry.add_table_p_ks()->set_table_name("t");
  }
  const std::string usual = vgtid.SerializeAsString();
  REQUIRE(compare(usual));
  REQUIRE(found == 2);
  for (const auto& [keyspace, shard] : {std::pair("ks", "-8"), {"ks", "-800"}, {"k", "-80"}, {"s", "80-"}, {"", ""}})
    CHECK_FALSE(psource::shard_gtid_reader(usual).find(keyspace, shard));
  CHECK_FALSE(psource::shard_gtid_reader(usual).find(std::string(128, 'k'), "-80"));
  REQUIRE(compare(""));
  REQUIRE(compare(usual + std::string("\x10\x05", 2)));  // A field that no server sends yet.
  for (std::size_t cut = 1; cut < usual.size(); ++cut) compare(usual.substr(0, cut));
  for_each_changed_byte(usual, compare);
  CHECK(same > 5000);
  CHECK(refused > 1000);
  CHECK(found > 5000);
}

TEST_CASE("the usual VGTID is read as Protobuf reads it, and so is whatever resembles it") {
  // Protobuf tells of strings that are not UTF-8.
  const google::protobuf::LogSilencer quiet;
  std::size_t read = 0;
  std::size_t refused = 0;
  const auto compare = [&](const std::string& bytes) {
    binlogdata::VGtid expected;
    const bool whole = expected.ParseFromString(bytes);
    const auto found = psource::parse_vgtid(bytes);
    if (!whole || expected.shard_gtids_size() != 1) {
      ++refused;
      REQUIRE((!found || whole));
      return;
    }
    for (const auto& table : expected.shard_gtids(0).table_p_ks())
      if (table.has_lastpk() && psource::fault_of_last_key(table.lastpk()) != nullptr) {
        ++refused;
        REQUIRE(!found);
        return;
      }
    ++read;
    REQUIRE(found);
    REQUIRE(found->shards.size() == 1);
    const auto& entry = expected.shard_gtids(0);
    const auto& here = found->shards.front();
    REQUIRE(here.id.keyspace.str() == entry.keyspace());
    REQUIRE(here.id.shard.str() == entry.shard());
    REQUIRE(here.gtid == entry.gtid());
    REQUIRE(here.unfinished.size() == static_cast<std::size_t>(entry.table_p_ks_size()));
    for (int i = 0; i < entry.table_p_ks_size(); ++i) {
      const auto& table = here.unfinished[static_cast<std::size_t>(i)];
      REQUIRE(table.table.str() == entry.table_p_ks(i).table_name());
      query::QueryResult key;
      REQUIRE(key.ParseFromString(table.lastpk));
      REQUIRE(key.SerializeAsString() == entry.table_p_ks(i).lastpk().SerializeAsString());
    }
  };
  const std::string position("\x0a\x16\x0a\x02ks\x12\x03-80\x1a\x0bMySQL56/x:1", 24);
  binlogdata::VGtid copy;
  REQUIRE(copy.ParseFromString(position));
  copy.mutable_shard_gtids(0)->add_table_p_ks()->set_table_name("begun");
  auto& table = *copy.mutable_shard_gtids(0)->add_table_p_ks();
  table.set_table_name("t");
  auto& column = *table.mutable_lastpk()->add_fields();
  column.set_name("id");
  column.set_type(query::INT64);
  auto& row = *table.mutable_lastpk()->add_rows();
  row.add_lengths(2);
  row.set_values("17");
  std::size_t whole_ones = 0;
  for (const std::string& usual : {position, copy.SerializeAsString()}) {
    compare(usual);
    REQUIRE(read == whole_ones + 1);
    for (std::size_t cut = 0; cut < usual.size(); ++cut) compare(usual.substr(0, cut));
    for_each_changed_byte(usual, [&](const std::string& changed) {
      compare(changed);
      compare(changed + usual);
    });
    whole_ones = read;
  }
  CHECK(read > 5000);
  CHECK(refused > 5000);
  // Keys are compared by what stands before their rows.
  const std::string key = copy.shard_gtids(0).table_p_ks(1).lastpk().SerializeAsString();
  const std::size_t row_at = key.rfind("\x22\x07");
  REQUIRE(row_at != std::string::npos);
  const std::string row_first = key.substr(row_at) + key.substr(0, row_at);
  std::string bytes = copy.SerializeAsString();
  bytes.replace(bytes.find(key), key.size(), row_first);
  const auto found = psource::parse_vgtid(bytes);
  REQUIRE(found);
  CHECK(found->shards.front().unfinished.at(1).lastpk == key);
}
