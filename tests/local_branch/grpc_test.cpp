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

TEST_CASE("a search that begins in the middle of a call does not wait for the next heartbeat") {
  /// Forgets a new shard's binary logs as soon as it is there.
  struct purger final : commit_listener {
    void on_commit() override { target->purge(0, std::chrono::milliseconds(1)); }
    shard* target = nullptr;
  };
  // A call that is still busy when its shard is replaced can come over before the logs are gone: then once more.
  for (bool in_time = false; !in_time;) {
    branch b(1);
    keyspace& ks = *b.add("k", 2);
    ks.add_sbtest_tables(1, 10);
    const auto split = ks.plan_reshard({"-80"}, {"-40", "40-80"}, true);
    REQUIRE(split);
    shard& old = *ks.find_shard("-80");
    const auto purges = std::make_shared<purger>();
    purges->target = (*split)->successors[0];
    old.subscribe(purges);
    const auto server = serve(b);
    const auto stub = connect(*server);
    auto request = copy_request("k", {}, {"sbtest1"});
    add_shard(request, "k", "-80", "current");
    request.mutable_flags()->set_heartbeat_interval(3600);
    reading call(*stub, request);
    vtgate::VStreamResponse response;
    REQUIRE(call.reader->Read(&response));
    REQUIRE(ks.reshard(**split));
    in_time = true;
    while (in_time && call.reader->Read(&response)) in_time = response.events(0).shard() != "-40";
    if (!in_time) continue;
    const auto status = call.reader->Finish();
    CHECK(status.error_code() == grpc::StatusCode::CANCELLED);
    CHECK(status.error_message().find("failed to find a PRIMARY tablet for VStream in k/-40") != std::string::npos);
  }
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

namespace {

/// A server with faults, and what a client sees of one call.
struct faulty {
  explicit faulty(const std::string& lines) : b(1), ks(*b.add("k", 2)) {
    ks.add_sbtest_tables(1, 6000);
    auto made = fault_injector::make(b, parse_faults(lines).faults, {});
    REQUIRE(made);
    faults = std::move(*made);
    faults->start();
    vstream_server_options options;
    options.faults = faults.get();
    server = serve(b, std::move(options));
    stub = connect(*server);
  }
  struct outcome {
    folder have;
    std::vector<std::string> kinds;
    grpc::Status status;
    bool copied = false;
  };
  /// Reads until the copy is over, the call ends, or (then it `cancels`) a response that cannot be decoded.
  outcome copy(std::chrono::milliseconds limit = std::chrono::seconds(60), bool cancels = false) {
    outcome out;
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + limit);
    auto reader = stub->VStream(&context, copy_request("k", {"-80"}, {"sbtest1"}));
    vtgate::VStreamResponse response;
    while (!out.copied && reader->Read(&response)) {
      out.have.take(grammar::responses{response});
      for (const auto& event : response.events())
        out.copied = out.copied || event.type() == binlogdata::COPY_COMPLETED;
      for (const auto& line : grammar::reduce({response})) out.kinds.push_back(line);
    }
    if (out.copied || cancels) context.TryCancel();
    out.status = reader->Finish();
    return out;
  }
  branch b;
  keyspace& ks;
  std::unique_ptr<fault_injector> faults;
  std::unique_ptr<vstream_server> server;
  std::unique_ptr<vtgateservice::Vitess::Stub> stub;
};

}  // namespace

TEST_CASE("calls are closed, reset, refused and stalled, as often as told, and go well afterwards") {
  faulty here(
      "{\"do\":\"close\",\"rows\":1000}\n"
      "{\"do\":\"reset\",\"rows\":1001}\n"
      "{\"do\":\"status\",\"rows\":2000,\"code\":\"ABORTED\",\"message\":\"so it is\"}\n"
      "{\"do\":\"stall\",\"rows\":2001}");
  const auto closed = here.copy();
  CHECK(closed.status.ok());
  CHECK_FALSE(closed.copied);
  const auto reset = here.copy();
  CHECK_FALSE(reset.status.ok());
  CHECK_FALSE(reset.copied);
  const auto refused = here.copy();
  CHECK(refused.status.error_code() == grpc::StatusCode::ABORTED);
  CHECK(refused.status.error_message() == "so it is");
  CHECK(refused.have.changes >= 1000);
  CHECK(refused.have.changes < 2000);
  const auto stalled = here.copy(std::chrono::milliseconds(700));
  CHECK(stalled.status.error_code() == grpc::StatusCode::DEADLINE_EXCEEDED);
  CHECK_FALSE(stalled.copied);
  const auto well = here.copy();
  CHECK(well.copied);
  CHECK(well.have.changes == 3000);
}

TEST_CASE("garbage and oversized messages stand in a response's place") {
  for (const char* line : {"{\"do\":\"garbage\",\"rows\":1000,\"bytes\":100}",
                           "{\"do\":\"oversized\",\"rows\":1000,\"bytes\":3000000}"}) {
    faulty here(line);
    // This client takes messages of any size, so it sees that the zeroes are no response.
    const auto broken = here.copy(std::chrono::seconds(60), true);
    CHECK_FALSE(broken.status.ok());
    CHECK_FALSE(broken.copied);
    const auto well = here.copy();
    CHECK(well.copied);
    CHECK(well.have.changes == 3000);
  }
}

TEST_CASE("a trickle brings every event alone, a short stall only delays") {
  faulty here(
      "{\"do\":\"stall\",\"ms\":5}\n"
      "{\"do\":\"trickle\",\"rows\":2900,\"ms\":0,\"events\":100}");
  const auto all = here.copy();
  CHECK(all.copied);
  CHECK(all.have.changes == 3000);
  CHECK(all.kinds.size() > 10);
}

TEST_CASE("transactions break off in the middle, or begin twice") {
  faulty here(
      "{\"do\":\"duplicate_begin\",\"phase\":\"binlog\"}\n"
      "{\"do\":\"half_transaction\",\"phase\":\"binlog\",\"message\":\"half\"}");
  shard& s = *here.ks.shards()[0];
  auto request = copy_request("k", {}, {"sbtest1"});
  add_shard(request, "k", "-80", s.position(1));
  const auto write = [&] {
    s.write(1, [&](shard::writer& w) {
      for (std::int64_t run = 0; run < 6; ++run) w.update(0, s.id_near(run));
    });
  };
  write();
  write();
  reading call(*here.stub, request);
  std::vector<std::string> kinds;
  std::vector<int> changes;
  vtgate::VStreamResponse response;
  while (call.reader->Read(&response)) {
    for (const auto& line : grammar::reduce({response})) kinds.push_back(line);
    folder part;
    part.take(grammar::responses{response});
    changes.push_back(static_cast<int>(part.changes));
  }
  const auto status = call.reader->Finish();
  CHECK(kinds == std::vector<std::string>{"BEGIN FIELD[sbtest1] ROW*[sbtest1]",
                                          "BEGIN FIELD[sbtest1] ROW*[sbtest1] VGTID COMMIT",
                                          "BEGIN ROW*[sbtest1]"});
  CHECK(changes == std::vector<int>{3, 6, 3});
  CHECK(status.error_code() == grpc::StatusCode::UNAVAILABLE);
  CHECK(status.error_message() == "half");
}
