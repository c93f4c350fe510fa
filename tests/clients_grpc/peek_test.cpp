// The peek over a real server and over its faults.
#include "clients/peek.hpp"

#include <doctest/doctest.h>

#include <atomic>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "clients/grpc_vstream.hpp"
#include "tests/clients_grpc/recording_listener.hpp"
#include "tests/clients_grpc/scripted_server.hpp"
#include "vtgate.pb.h"

using namespace psource;
using namespace psource::test;
using namespace std::chrono_literals;

namespace {

const keyspace_name ks("customer");

std::vector<shard_name> shards_of(std::size_t n) {
  std::vector<shard_name> shards;
  for (std::size_t i = 0; i < n; ++i) {
    shards.emplace_back("s" + std::to_string(i));
  }
  return shards;
}

std::shared_ptr<grpc_vstream_client> client_of(const scripted_server& server) {
  return grpc_vstream_client::make(server.settings(), {1, true}).value();
}

// As vtgate answers: a heartbeat, then one VGTID per shard; those not positioned yet still say "current". `tell` names the shard
// that the event comes from.
call_script answer(const seen_call& seen, std::size_t answered,
                   const std::function<void(binlogdata::VEvent&, const std::string& shard)>& tell = {}) {
  vtgate::VStreamRequest request;
  REQUIRE(request.ParseFromString(seen.request));
  call_script script;
  vtgate::VStreamResponse heartbeat;
  heartbeat.add_events()->set_type(binlogdata::HEARTBEAT);
  script.responses.push_back(heartbeat.SerializeAsString());
  binlogdata::VGtid vgtid = request.vgtid();
  for (int i = 0; i < vgtid.shard_gtids_size() && static_cast<std::size_t>(i) < answered; ++i) {
    auto& shard = *vgtid.mutable_shard_gtids(i);
    shard.set_gtid("MySQL56/uuid:1-" + shard.shard().substr(1));
    vtgate::VStreamResponse response;
    auto* event = response.add_events();
    event->set_type(binlogdata::VGTID);
    *event->mutable_vgtid() = vgtid;
    if (tell) {
      tell(*event, shard.shard());
    }
    response.add_events()->set_type(binlogdata::OTHER);
    script.responses.push_back(response.SerializeAsString());
    // The shard's own later transactions must not move what was found first.
    shard.set_gtid("MySQL56/uuid:1-999999");
  }
  return script;
}

}  // namespace

TEST_CASE("130 shards are asked with three calls at the same time, each shard's first position counts") {
  scripted_server server([](const seen_call& seen) { return answer(seen, 64); });
  auto client = client_of(server);
  peek_options options;
  options.type = tablet_type::replica;
  options.cells = "zone1";
  const auto found = peek_positions(*client, ks, shards_of(130), options, patience);
  REQUIRE(found.has_value());
  CHECK(found->size() == 130);
  for (std::size_t i = 0; i < 130; ++i) {
    CHECK(found->at({ks, shard_name("s" + std::to_string(i))}) == "MySQL56/uuid:1-" + std::to_string(i));
  }
  CHECK(client->wait_until_idle(patience));
  CHECK(server.wait_until([](const auto& c) { return c.finished == 3; }));
  std::multiset<int> sizes;
  for (const seen_call& seen : server.seen()) {
    vtgate::VStreamRequest request;
    REQUIRE(request.ParseFromString(seen.request));
    sizes.insert(request.vgtid().shard_gtids_size());
    CHECK(request.tablet_type() == topodata::REPLICA);
    CHECK(request.flags().cells() == "zone1");
    CHECK(request.filter().rules_size() == 1);
    for (const auto& shard : request.vgtid().shard_gtids()) {
      CHECK(shard.gtid() == "current");
      CHECK(shard.keyspace() == "customer");
    }
  }
  CHECK(sizes == std::multiset<int>{2, 64, 64});
}

TEST_CASE("events tell which shard they come from, or not, or another one") {
  using event = binlogdata::VEvent;
  const std::vector<std::function<void(event&, const std::string&)>> ways = {
      [](event& e, const std::string& shard) { e.set_shard(shard); },
      [](event& e, const std::string&) { e.set_shard("s0"); },
      [](event& e, const std::string&) { e.set_shard("s63"); },
      [](event& e, const std::string&) { e.set_shard("unknown"); },
  };
  for (const auto& tell : ways) {
    scripted_server server([&](const seen_call& seen) { return answer(seen, 64, tell); });
    auto client = client_of(server);
    const auto found = peek_positions(*client, ks, shards_of(64), {}, patience);
    REQUIRE(found.has_value());
    CHECK(found->size() == 64);
    for (std::size_t i = 0; i < 64; ++i) {
      CHECK(found->at({ks, shard_name("s" + std::to_string(i))}) == "MySQL56/uuid:1-" + std::to_string(i));
    }
  }
}

TEST_CASE("no shards, no calls; a shard named twice is asked once") {
  scripted_server server([](const seen_call& seen) { return answer(seen, 64); });
  auto client = client_of(server);
  const auto none = peek_positions(*client, ks, {}, {}, patience);
  REQUIRE(none.has_value());
  CHECK(none->empty());
  CHECK(server.now().calls == 0);
  const auto twice = peek_positions(*client, ks, {shard_name("s1"), shard_name("s1")}, {}, patience);
  REQUIRE(twice.has_value());
  CHECK(twice->size() == 1);
}

TEST_CASE("a server that never answers") {
  scripted_server server([](const seen_call&) { return call_script{}; });
  auto client = client_of(server);
  const auto found = peek_positions(*client, ks, shards_of(70), {}, 1s);
  REQUIRE_FALSE(found.has_value());
  CHECK(found.error().what.code == error_code::stream_stalled);
  CHECK(found.error().what.message.find("within 1 s") != std::string::npos);
  CHECK(found.error().missing.size() == 70);
  CHECK_FALSE(found.error().end.has_value());
  CHECK(client->wait_until_idle(patience));  // Both calls were cancelled.
  CHECK(server.wait_until([](const auto& c) { return c.finished == 2; }));
}

TEST_CASE("a server that says nothing at all is given up sooner than one that sends heartbeats") {
  peek_options options;
  options.silence = 1s;
  for (const bool beats : {false, true}) {
    scripted_server server([beats](const seen_call&) { return beats ? call_script{{""}, 1, std::nullopt} : call_script{}; });
    auto client = client_of(server);
    const auto found = peek_positions(*client, ks, shards_of(1), options, 2s);
    REQUIRE_FALSE(found.has_value());
    CHECK(found.error().what.message.find(beats ? "within 2 s" : "within 1 s") != std::string::npos);
  }
}

TEST_CASE("a server that answers for some shards only tells which are missing") {
  scripted_server server([](const seen_call& seen) { return answer(seen, 2); });
  auto client = client_of(server);
  const auto found = peek_positions(*client, ks, shards_of(4), {}, 500ms);
  REQUIRE_FALSE(found.has_value());
  CHECK(found.error().missing == std::vector<shard_name>{shard_name("s2"), shard_name("s3")});
  CHECK(found.error().what.message.find("s2, s3") != std::string::npos);
}

TEST_CASE("an error of the server passes with its text, through the classifier when there is one") {
  scripted_server server([](const seen_call&) {
    return call_script{{}, 1, grpc::Status(grpc::StatusCode::FAILED_PRECONDITION, "shard provided in VGTID")};
  });
  auto client = client_of(server);
  const auto plain = peek_positions(*client, ks, shards_of(1), {}, patience);
  REQUIRE_FALSE(plain.has_value());
  CHECK(plain.error().what.code == error_code::stream_broken);
  CHECK(plain.error().what.detail == "shard provided in VGTID");
  REQUIRE(plain.error().end.has_value());
  CHECK(plain.error().end->status_code == 9);

  const auto classified = peek_positions(
      *client, ks, shards_of(1), {}, patience, [](const stream_end& end, const std::string& context) {
        return failure{error_code::shard_unknown, context + "|" + end.message, "", std::nullopt};
      });
  REQUIRE_FALSE(classified.has_value());
  CHECK(classified.error().what.code == error_code::shard_unknown);
  CHECK(classified.error().what.message ==
        "asking for the current position of keyspace customer, shard s0|shard provided in VGTID");
}

TEST_CASE("garbage instead of a response") {
  scripted_server server([](const seen_call&) { return call_script{{"\xff\xff\xff"}, 1, std::nullopt}; });
  auto client = client_of(server);
  const auto found = peek_positions(*client, ks, shards_of(1), {}, patience);
  REQUIRE_FALSE(found.has_value());
  CHECK(found.error().what.code == error_code::response_malformed);
}

TEST_CASE("answers of a stream that ends right after them count") {
  scripted_server server([](const seen_call& seen) {
    call_script script = answer(seen, 64);
    script.end = grpc::Status(grpc::StatusCode::UNAVAILABLE, "going away");
    return script;
  });
  auto client = client_of(server);
  const auto found = peek_positions(*client, ks, shards_of(3), {}, patience);
  REQUIRE(found.has_value());
  CHECK(found->size() == 3);
}

TEST_CASE("a peek that is given up does not wait for its time limit") {
  scripted_server server([](const seen_call& seen) { return answer(seen, 1); });
  auto client = client_of(server);
  peek_options options;
  // Shard s1 is never answered.
  options.given_up = [&server] { return !server.seen().empty(); };
  const auto found = peek_positions(*client, ks, shards_of(2), options, std::chrono::hours(1));
  REQUIRE_FALSE(found);
  CHECK(found.error().what.code == error_code::interrupted);
}
