// The real port: a gRPC client copies and streams while rows change, logs in, and is one of many.
#include <doctest/doctest.h>
#include <grpcpp/grpcpp.h>

#include <atomic>
#include <memory>
#include <thread>
#include <vector>

#include "grammar.hpp"
#include "local_branch/load.hpp"
#include "local_branch/vstream_service.hpp"
#include "protocol/base64.hpp"
#include "session_helper.hpp"
#include "vtgateservice.grpc.pb.h"

using namespace psource::local_branch;
using namespace session_helper;

namespace {

std::unique_ptr<vtgateservice::Vitess::Stub> connect(const vstream_server& server) {
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(-1);
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  return vtgateservice::Vitess::NewStub(grpc::CreateCustomChannel(
      "127.0.0.1:" + std::to_string(server.port()), grpc::InsecureChannelCredentials(), arguments));
}

/// A call that reads in order; it fails the test instead of hanging for ever.
struct reading {
  reading(vtgateservice::Vitess::Stub& stub, const vtgate::VStreamRequest& request) {
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(60));
    reader = stub.VStream(&context, request);
  }
  grpc::Status end() {
    context.TryCancel();
    vtgate::VStreamResponse rest;
    while (reader->Read(&rest)) {
    }
    return reader->Finish();
  }
  grpc::ClientContext context;
  std::unique_ptr<grpc::ClientReader<vtgate::VStreamResponse>> reader;
};

/// Joins also when a check has failed.
struct joined_thread {
  ~joined_thread() { join(); }
  void join() {
    if (thread.joinable()) thread.join();
  }
  std::thread thread;
};

std::unique_ptr<vstream_server> serve(const branch& b, vstream_server_options options = {}) {
  auto server = vstream_server::start(b, std::move(options));
  REQUIRE(server);
  return std::move(*server);
}

}  // namespace

TEST_CASE("over gRPC, copy and binlog fold to the truth while rows change") {
  branch b(21);
  keyspace& ks = *b.add("k", 4);
  ks.add_sbtest_tables(2, 40'000);
  const auto server = serve(b);
  const auto stub = connect(*server);
  reading call(*stub, copy_request("k", {"-40", "40-80", "80-c0", "c0-"}, {"sbtest1", "sbtest2"}));
  folder have;
  vtgate::VStreamResponse response;
  REQUIRE(call.reader->Read(&response));
  have.take(grammar::responses{response});
  joined_thread writer{std::thread([&] {
    transaction_source source(b, 21);
    for (int i = 0; i < 4000; ++i) source.write(1, 1000);
  })};
  const auto complete = [&] {
    for (const auto& entry : have.vgtid.shard_gtids()) {
      const shard& s = *ks.find_shard(entry.shard());
      std::shared_lock lock(s.mutex());
      if (entry.table_p_ks_size() > 0 || entry.gtid() != s.position(s.log_size())) return false;
    }
    return have.vgtid.shard_gtids_size() == 4;
  };
  std::size_t largest = 0;
  std::string open;
  bool caught_up = false;
  while (call.reader->Read(&response)) {
    largest = std::max(largest, response.ByteSizeLong());
    for (const auto& event : response.events()) {
      if (event.type() == binlogdata::BEGIN && open.empty()) open = event.shard();
      if (!open.empty()) CHECK(event.shard() == open);
      if (event.type() == binlogdata::COMMIT) open.clear();
      have.take(event);
    }
    if (!open.empty() || !complete()) continue;
    writer.join();
    if ((caught_up = complete())) break;
  }
  REQUIRE(caught_up);
  CHECK(have.rows == truth_of(ks));
  CHECK(largest > 300'000);
  CHECK(largest < 400'000);
  CHECK(call.end().error_code() == grpc::StatusCode::CANCELLED);
}

TEST_CASE("hundreds of calls at once all hear of a commit") {
  branch b(1);
  keyspace& ks = *b.add("k", 256);
  ks.add_sbtest_tables(1, 2560);
  const auto server = serve(b);
  std::vector<std::unique_ptr<vtgateservice::Vitess::Stub>> stubs;
  for (int i = 0; i < 4; ++i) stubs.push_back(connect(*server));
  std::vector<std::unique_ptr<reading>> calls;
  for (const auto& s : ks.shards()) {
    auto request = copy_request("k", {}, {"sbtest1"});
    add_shard(request, "k", s->name(), "current");
    calls.push_back(std::make_unique<reading>(*stubs[calls.size() % stubs.size()], request));
  }
  vtgate::VStreamResponse response;
  for (auto& call : calls) {
    REQUIRE(call->reader->Read(&response));
    CHECK(response.events(1).type() == binlogdata::OTHER);
  }
  for (const auto& s : ks.shards())
    s->write(1, [&](shard::writer& w) { CHECK(w.update(0, ks.layout().next(s->number(), 0))); });
  for (auto& call : calls) {
    REQUIRE(call->reader->Read(&response));
    CHECK(grammar::join(grammar::reduce({response})) == "BEGIN FIELD[sbtest1] ROW*[sbtest1] VGTID COMMIT\n");
  }
  for (auto& call : calls) CHECK(call->end().error_code() == grpc::StatusCode::CANCELLED);
}

TEST_CASE("heartbeats come when nothing else does, and only when asked for") {
  branch b(1);
  b.add("k", std::size_t{1})->add_sbtest_tables(1, 1);
  const auto server = serve(b);
  const auto stub = connect(*server);
  auto request = copy_request("k", {"-"}, {"sbtest1"});
  request.mutable_flags()->set_heartbeat_interval(1);
  reading call(*stub, request);
  vtgate::VStreamResponse response;
  std::size_t heartbeats = 0;
  while (heartbeats < 2 && call.reader->Read(&response)) {
    if (response.events(0).type() != binlogdata::HEARTBEAT) {
      CHECK(heartbeats == 0);
      continue;
    }
    ++heartbeats;
    CHECK(response.events_size() == 1);
    CHECK(response.events(0).timestamp() > 1'600'000'000);
    CHECK(response.events(0).current_time() / 1'000'000'000 == response.events(0).timestamp());
    CHECK(response.events(0).keyspace().empty());
  }
  CHECK(heartbeats == 2);
  call.end();
}

TEST_CASE("a search for a tablet ends with CANCELED after heartbeats") {
  branch b(1);
  b.add("k", std::size_t{1})->add_sbtest_tables(1, 1);
  vstream_server_options options;
  options.streams.tablet_search = std::chrono::milliseconds(1500);
  options.streams.tablet_types = {1};
  const auto server = serve(b, options);
  const auto stub = connect(*server);
  auto request = copy_request("k", {"-"}, {"sbtest1"});
  request.set_tablet_type(topodata::RDONLY);
  request.mutable_flags()->set_heartbeat_interval(1);
  reading call(*stub, request);
  vtgate::VStreamResponse response;
  REQUIRE(call.reader->Read(&response));
  CHECK(response.events(0).type() == binlogdata::HEARTBEAT);
  CHECK_FALSE(call.reader->Read(&response));
  const auto status = call.reader->Finish();
  CHECK(status.error_code() == grpc::StatusCode::CANCELLED);
  CHECK(status.error_message().find("failed to find a RDONLY tablet for VStream in k/-") !=
        std::string::npos);
}

TEST_CASE("with a user name, calls must log in, in either form") {
  branch b(1);
  b.add("k", std::size_t{1})->add_sbtest_tables(1, 1);
  vstream_server_options options;
  options.username = "user";
  options.password = "secret";
  const auto server = serve(b, options);
  const auto stub = connect(*server);
  const auto request = copy_request("k", {"-"}, {"sbtest1"});
  const auto code = [&](const std::vector<std::pair<std::string, std::string>>& metadata) {
    grpc::ClientContext context;
    for (const auto& [key, value] : metadata) context.AddMetadata(key, value);
    const auto reader = stub->VStream(&context, request);
    vtgate::VStreamResponse response;
    if (reader->Read(&response)) context.TryCancel();
    const bool begun = response.events_size() > 0;
    while (reader->Read(&response)) {
    }
    const auto status = reader->Finish();
    return begun ? grpc::StatusCode::OK : status.error_code();
  };
  std::string basic = "Basic ";
  psource::append_base64(basic, "user:secret");
  CHECK(code({{"authorization", basic}}) == grpc::StatusCode::OK);
  CHECK(code({{"username", "user"}, {"password", "secret"}}) == grpc::StatusCode::OK);
  CHECK(code({}) == grpc::StatusCode::UNAUTHENTICATED);
  CHECK(code({{"username", "user"}}) == grpc::StatusCode::UNAUTHENTICATED);
  CHECK(code({{"authorization", "Basic x"}}) == grpc::StatusCode::PERMISSION_DENIED);
  CHECK(code({{"username", "user"}, {"password", "wrong"}}) == grpc::StatusCode::PERMISSION_DENIED);
}

TEST_CASE("two servers never share a port, and a stopped one cuts its calls") {
  branch b(1);
  b.add("k", std::size_t{1})->add_sbtest_tables(1, 1);
  const auto server = serve(b);
  vstream_server_options same;
  same.port = server->port();
  const auto second = vstream_server::start(b, same);
  REQUIRE_FALSE(second);
  CHECK(second.error().code == psource::error_code::config_invalid);
  const auto stub = connect(*server);
  reading call(*stub, copy_request("k", {"-"}, {"sbtest1"}));
  vtgate::VStreamResponse response;
  REQUIRE(call.reader->Read(&response));
  server->stop();
  while (call.reader->Read(&response)) {
  }
  CHECK_FALSE(call.reader->Finish().ok());
  server->stop();
}
