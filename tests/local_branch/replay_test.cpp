// Recordings served again: the same requests get the same order of events, and what follows from them.
#include <doctest/doctest.h>

#include <sstream>

#include "grammar.hpp"
#include "local_branch/replay.hpp"
#include "local_branch/truth.hpp"
#include "session_helper.hpp"

using namespace psource::local_branch;
using namespace session_helper;
using grammar::join;
using grammar::reduce;

namespace {

std::string of_shard(const grammar::responses& all, const std::string& shard) {
  return join(reduce(all, {shard, true, false, true}));
}

}  // namespace

TEST_CASE("a recorded copy and what followed are served in the recorded order, shard by shard") {
  for (const std::string name : {"copy_then_dml_unsharded", "charsets_generated", "sharded_copy_full"}) {
    CAPTURE(name);
    branch b(1);
    REQUIRE(add_recording(b, grammar::recording(name + ".vstream")));
    const auto recorded = grammar::load(name + ".vstream");
    driver call(b, grammar::load_call(name + ".txt").request);
    const auto sent = call.take();
    for (const auto& s : b.keyspaces().begin()->second->shards())
      CHECK(of_shard(sent, s->name()) == of_shard(recorded, s->name()));
  }
}

TEST_CASE("recorded transactions are served in the recorded order from the recording's first position") {
  for (const std::string name : {"sharded_stream.vstream", "ddl_midstream.vstream",
                                 "failover_planned_primary.vstream", "large_transactions.vstream.gz"}) {
    CAPTURE(name);
    branch b(1);
    REQUIRE(add_recording(b, grammar::recording(name)));
    const auto recorded = grammar::load(name);
    auto request = grammar::load_call(name.substr(0, name.find('.')) + ".txt").request;
    for (auto& entry : *request.mutable_vgtid()->mutable_shard_gtids()) {
      const shard* s = b.find(entry.keyspace())->find_shard(entry.shard());
      entry.set_gtid(s->initial_position);
    }
    driver call(b, request);
    const auto sent = call.take();
    for (const auto& s : b.keyspaces().begin()->second->shards()) {
      grammar::options how;
      how.shard = s->name();
      how.fold_equal = true;
      auto expected = reduce(recorded, how);
      expected.erase(expected.begin());  // the answer to "current"
      CHECK(join(reduce(sent, how)) == join(expected));
    }
  }
}

TEST_CASE("current is the recording's last position, and a position gets what comes after it") {
  branch b(1);
  REQUIRE(add_recording(b, grammar::recording("copy_then_dml_unsharded.vstream")));
  const auto recorded = grammar::load("copy_then_dml_unsharded.vstream");
  std::vector<std::string> positions;
  for (const auto& response : recorded)
    for (const auto& event : response.events())
      if (event.type() == binlogdata::VGTID) positions.push_back(event.vgtid().shard_gtids(0).gtid());
  auto request = copy_request("unsharded", {}, {"alltypes", "empty_u", "sbtest"});
  auto& entry = add_shard(request, "unsharded", "0", "current");
  driver peek(b, request);
  const auto answer = peek.take();
  REQUIRE(answer.size() == 1);
  CHECK(answer[0].events(0).vgtid().shard_gtids(0).gtid() == positions.back());
  entry.set_gtid(positions[positions.size() - 3]);
  driver rest(b, request);
  CHECK(rest.take().size() == 2);
}

TEST_CASE("one table of a recording can be copied, also from the middle") {
  branch b(1);
  REQUIRE(add_recording(b, grammar::recording("copy_then_dml_unsharded.vstream")));
  auto request = copy_request("unsharded", {"0"}, {"sbtest"});
  stream_options small;
  small.packet_size = 500;
  driver first(b, request, small);
  folder have;
  have.take(first.take(4));
  CHECK(have.rows.size() > 3);
  CHECK(have.rows.size() < 12);
  *request.mutable_vgtid() = have.vgtid;
  driver second(b, request, small);
  have.take(second.take());
  driver whole(b, copy_request("unsharded", {"0"}, {"sbtest"}));
  folder all;
  all.take(whole.take());
  CHECK(have.rows == all.rows);
  std::ostringstream truth;
  write_truth(b, truth);
  std::size_t lines = 0;
  std::istringstream in(truth.str());
  for (std::string line; std::getline(in, line);)
    lines += line.find("\"table\":\"sbtest\"") != std::string::npos ? 1 : 0;
  CHECK(lines == all.rows.size());
}

TEST_CASE("FIELD events define tables: columns, keys and character sets") {
  branch b(1);
  REQUIRE(add_recording(b, grammar::recording("charsets_generated.vstream")));
  const keyspace* ks = b.find("unsharded");
  REQUIRE(ks != nullptr);
  const auto number = ks->find_table("charsets");
  REQUIRE(number);
  const auto& schema = ks->tables()[*number].schema;
  CHECK(schema.primary_key == std::vector<std::size_t>{0, 1});
  const auto column_of = [&](const std::string& name) -> const column& {
    for (const auto& c : schema.columns)
      if (c.name == name) return c;
    throw std::runtime_error(name);
  };
  CHECK(column_of("l1").character_set == "latin1");
  CHECK(column_of("bincol").collation == "utf8mb4_bin");
  CHECK(column_of("sub").character_set.empty());
  CHECK(column_of("sub").nullable == false);
}

TEST_CASE("files that are no recordings are refused with the reason") {
  branch b(1);
  CHECK(add_recording(b, grammar::recording("nosuch.vstream")).error().message.find("cannot be opened") !=
        std::string::npos);
  const auto text = add_recording(b, grammar::recording("README.md"));
  REQUIRE_FALSE(text);
  CHECK(text.error().code == psource::error_code::input_unreadable);
  REQUIRE(add_recording(b, grammar::recording("current_peek.vstream")));
  CHECK(add_recording(b, grammar::recording("current_peek.vstream")).error().message.find("exists already") !=
        std::string::npos);
}

TEST_CASE("a recorded reshard: the stream goes on with the new shards") {
  for (const std::string name : {"reshard_split_one_shard_stream", "reshard_split_journal_flag",
                                 "reshard_split_stop_on_reshard", "resume_old_shard_after_split"}) {
    CAPTURE(name);
    branch b(1);
    REQUIRE(add_recording(b, grammar::recording(name + ".vstream")));
    const auto recorded = grammar::load(name + ".vstream");
    auto request = grammar::load_call(name + ".txt").request;
    const bool peeked = request.vgtid().shard_gtids(0).gtid() == "current";
    for (auto& entry : *request.mutable_vgtid()->mutable_shard_gtids())
      entry.set_gtid(b.find("customer")->find_shard(entry.shard())->initial_position);
    driver call(b, request);
    const auto sent = call.take();
    std::set<std::string> shards;
    for (const auto& response : recorded)
      for (const auto& event : response.events()) shards.insert(event.shard());
    for (const auto& shard : shards) {
      if (shard.empty()) continue;
      auto expected = reduce(recorded, {shard, false, false, true});
      if (peeked && !expected.empty() && expected[0] == "VGTID OTHER") expected.erase(expected.begin());
      CHECK(join(reduce(sent, {shard, false, false, true})) == join(expected));
    }
    // The lists of shards change in the same order.
    const auto lists = [](const grammar::responses& all) {
      std::vector<std::string> out;
      for (const auto& response : all)
        for (const auto& event : response.events()) {
          if (event.type() != binlogdata::VGTID) continue;
          std::string list;
          for (const auto& entry : event.vgtid().shard_gtids()) list += entry.shard() + " ";
          if (out.empty() || out.back() != list) out.push_back(list);
        }
      return out;
    };
    CHECK(lists(sent) == lists(recorded));
  }
}

TEST_CASE("current on a shard that was resharded never reaches the new ones") {
  branch b(1);
  REQUIRE(add_recording(b, grammar::recording("reshard_split_one_shard_stream.vstream")));
  auto request = copy_request("customer", {}, {"customers"});
  add_shard(request, "customer", "-80", "current");
  driver call(b, request);
  CHECK(join(reduce(call.take())) == "VGTID OTHER\n");
  CHECK(b.find("customer")->find_shard("-80")->serving == false);
}

TEST_CASE("one of two merged shards alone ends with INTERNAL, both together go on") {
  branch b(1);
  keyspace& ks = *b.add("customer", std::vector<std::string>{"-40", "40-80", "-80"});
  table t;
  t.schema = sbtest_schema("customers");
  ks.add_table(std::move(t));
  const std::string position = "MySQL56/09ce4ae1-e6d9-11f1-a201-02fc00000001:1-203";
  auto merge = std::make_shared<handover>();
  for (const auto& s : ks.shards()) {
    s->initial_position = position;
    (s->name() == "-80" ? merge->successors : merge->participants).push_back(s.get());
  }
  for (shard* s : merge->participants) s->handed_over = merge.get();
  auto recorded = grammar::load_call("resume_merged_one.txt");
  recorded.request.mutable_vgtid()->mutable_shard_gtids(0)->set_gtid(position);
  driver alone(b, recorded.request);
  CHECK(alone.take().empty());
  CHECK(alone.last_step == vstream_session::step::ended);
  CHECK(alone.session().status().code == 13);
  std::string said = alone.session().status().message;
  for (auto at = said.find("0000000100"); at != std::string::npos; at = said.find("0000000100"))
    said.replace(at, 10, "0000000400");
  CHECK("('INTERNAL', '" + said + "')" == recorded.end);
  auto both = recorded.request;
  *both.mutable_vgtid()->add_shard_gtids() = both.vgtid().shard_gtids(0);
  both.mutable_vgtid()->mutable_shard_gtids(1)->set_shard("40-80");
  driver together(b, both);
  CHECK(together.take().empty());
  CHECK(together.last_step == vstream_session::step::idle);
}
