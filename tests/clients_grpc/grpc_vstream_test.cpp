// The gRPC client against a real server: bytes, read-ahead, ends, cancelling, channels, metadata.
#include "clients/grpc_vstream.hpp"

#include <dlfcn.h>
#include <doctest/doctest.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/generic/generic_stub.h>
#include <malloc.h>
#include <zlib.h>

#include <atomic>
#include <future>
#include <iterator>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "tests/clients_grpc/recording_listener.hpp"
#include "tests/clients_grpc/scripted_server.hpp"

using namespace psource;
using namespace psource::test;
using namespace std::chrono_literals;

namespace {

// What zlib has unpacked in this process.
std::atomic<std::size_t> unpacked_bytes{0};

}  // namespace

// gRPC's library finds this function before zlib's own.
extern "C" int inflate(z_streamp stream, int flush) {
  static const auto original = reinterpret_cast<int (*)(z_streamp, int)>(dlsym(RTLD_NEXT, "inflate"));
  const uLong before = stream->total_out;
  const int outcome = original(stream, flush);
  unpacked_bytes += stream->total_out - before;
  return outcome;
}

namespace {

std::shared_ptr<grpc_vstream_client> client_of(const connection_settings& settings,
                                               channel_plan plan = {1, true}, transport_limits limits = {}) {
  auto made = grpc_vstream_client::make(settings, plan, limits);
  REQUIRE_MESSAGE(made.has_value(), (made ? "" : made.error().message));
  return *made;
}

// A whole call over the same channel: a chance for stopped calls to read on.
void ping(grpc_vstream_client& client) {
  auto listener = std::make_shared<recording_listener>();
  auto call = client.open({"ping"}, listener);
  REQUIRE(take_all(*call, *listener).size() == 1);
}

// Until the stopped calls have read ahead as far as they may.
bool fills_up(grpc_vstream_client& client, std::size_t bytes) {
  const auto until = std::chrono::steady_clock::now() + patience;
  while (client.held_bytes() < bytes && std::chrono::steady_clock::now() < until) {
    ping(client);
  }
  return client.held_bytes() >= bytes;
}

scripted_server::script_function always(call_script script) {
  return [script = std::move(script)](const seen_call&) { return script; };
}

// `script` for calls that ask for `request`, one word for all others (see ping()).
scripted_server::script_function pong_or(const char* request, const call_script& script) {
  return [request, script](const seen_call& seen) {
    return seen.request == request ? script : call_script{{"pong"}, 1, grpc::Status::OK};
  };
}

struct open_call {
  std::shared_ptr<recording_listener> listener = std::make_shared<recording_listener>();
  std::unique_ptr<vstream_call> call;
};

std::vector<open_call> open_calls(grpc_vstream_client& client, std::size_t count) {
  std::vector<open_call> all(count);
  for (auto& one : all) one.call = client.open({"big"}, one.listener);
  return all;
}

}  // namespace

TEST_CASE("a call is fed from its first response until nothing is found any more, or it is dropped") {
  scripted_server server(always({{"a", "b"}, 1, std::nullopt}));
  auto client = client_of(server.settings());
  CHECK(client->fed_calls() == 0);
  auto listener = std::make_shared<recording_listener>();
  auto call = client->open({}, listener);
  REQUIRE(take_next(*call, *listener));
  CHECK(client->fed_calls() == 1);
  REQUIRE(take_next(*call, *listener));
  // The last one is still being looked at.
  CHECK(client->fed_calls() == 1);
  CHECK(call->take() == nullptr);
  CHECK(client->fed_calls() == 0);

  auto another = std::make_shared<recording_listener>();
  auto dropped = client->open({}, another);
  REQUIRE(another->wait_for_news());
  CHECK(client->fed_calls() == 1);
  dropped.reset();
  CHECK(client->fed_calls() == 0);
}

TEST_CASE("channel plans") {
  CHECK(plan_channels(0).channels == 1);
  CHECK(plan_channels(1).channels == 1);
  CHECK(plan_channels(3).channels == 3);
  CHECK(plan_channels(64).channels == 4);
  CHECK(plan_channels(360).channels == 4);
  CHECK(plan_channels(361).channels == 5);
  CHECK(plan_channels(1024).channels == 12);
  CHECK(plan_channels(0xffffffff).channels == 47721859);
  CHECK(plan_channels(8).bdp_probe);
  CHECK_FALSE(plan_channels(9).bdp_probe);
  CHECK(plan_channels(1).window == 0);
  CHECK(plan_channels(64).window == 0);
}

TEST_CASE("windows follow from the length of the line") {
  constexpr std::size_t kib = 1024;
  constexpr std::size_t mib = 1024 * kib;
  // Next door: one size, as long as all together are not too much.
  for (const auto near : {-1us, 0us, 100us}) {
    CHECK(plan_channels(1, near).window == mib);
    CHECK(plan_channels(32, near).window == mib);
    CHECK(plan_channels(64, near).window == mib);
    CHECK(plan_channels(64, near).window_of_many == 512 * kib);
    CHECK(plan_channels(256, near).window == mib);
    CHECK(plan_channels(256, near).window_of_many == 128 * kib);
    CHECK(plan_channels(257, near).window == 0);
    CHECK(plan_channels(64, near).channels == 4);
  }
  CHECK(plan_channels(1, 3ms).window == 4'500'000);
  CHECK(plan_channels(4, 10ms).window == 3'750'000);
  // Far away: as much as may wait in all.
  for (const auto far : std::initializer_list<std::chrono::microseconds>{30ms, 300ms, 1h, 1000h}) {
    CHECK(plan_channels(1, far).window == 16 * mib);
    CHECK(plan_channels(4, far).window == 8 * mib);
    CHECK(plan_channels(8, far).window == 4 * mib);
    CHECK(plan_channels(8, far).window_of_many == 4 * mib);
    CHECK(plan_channels(64, far).window == mib);
    CHECK(plan_channels(64, far).window_of_many == 512 * kib);
    CHECK(plan_channels(256, far).window_of_many == 128 * kib);
    CHECK(plan_channels(257, far).window == 0);
    CHECK(plan_channels(0xffffffff, far).window == 0);
  }
  CHECK(plan_channels(16, 4ms).window == 1'500'000);
  CHECK(plan_channels(16, 1ms).window == mib);
  CHECK_FALSE(plan_channels(64, 30ms).bdp_probe);
}

TEST_CASE("responses arrive in order, byte for byte, and the status with its text ends the call") {
  const std::vector<std::string> sent = {"a", std::string(300'000, 'b'), "", std::string("c\0d", 3)};
  scripted_server server(
      always({sent, 1, grpc::Status(grpc::StatusCode::UNKNOWN, "vttablet: Query was empty")}));
  auto client = client_of(server.settings());
  auto listener = std::make_shared<recording_listener>();
  auto call = client->open({std::string("request\0bytes", 13)}, listener);

  CHECK(take_all(*call, *listener) == sent);
  const auto end = listener->wait_for_end();
  REQUIRE(end.has_value());
  CHECK(end->status_code == 2);
  CHECK(end->message == "vttablet: Query was empty");
  CHECK_FALSE(end->cancelled_by_us);
  REQUIRE(client->wait_until_idle(patience));
  CHECK(listener->ends() == 1);
  CHECK(listener.use_count() == 1);
  CHECK(client->held_bytes() == 0);

  const seen_call seen = server.seen().at(0);
  CHECK(seen.method == "/vtgateservice.Vitess/VStream");
  CHECK(seen.request == std::string("request\0bytes", 13));
  CHECK(seen.metadata.find("user-agent")->second.rfind("source-planetscale/", 0) == 0);
}

TEST_CASE("a good end has status 0, and what was read before the end can be taken after it") {
  scripted_server server(always({{"x", "y"}, 1, grpc::Status::OK}));
  auto client = client_of(server.settings());
  auto listener = std::make_shared<recording_listener>();
  auto call = client->open({"r"}, listener);
  const auto end = listener->wait_for_end();
  REQUIRE(end.has_value());
  CHECK(end->status_code == 0);
  REQUIRE(client->wait_until_idle(patience));
  REQUIRE(call->take() != nullptr);
  REQUIRE(call->take() != nullptr);
  CHECK(call->take() == nullptr);
}

TEST_CASE("a call that is not taken from holds back the server") {
  constexpr std::size_t size = 20'000;
  constexpr std::size_t count = 2'000;
  const transport_limits limits;
  const std::size_t bound = limits.read_ahead + size + 256 * (limits.read_ahead / size + 1);
  scripted_server server(pong_or("big", {{std::string(size, 'x')}, count, grpc::Status::OK}));
  auto client = client_of(server.settings(), {1, false}, limits);
  auto listener = std::make_shared<recording_listener>();
  auto call = client->open({"big"}, listener);
  REQUIRE(listener->wait_for_news());

  CHECK(fills_up(*client, limits.read_ahead));
  for (int i = 0; i < 50; ++i) {
    ping(*client);
    REQUIRE(client->held_bytes() <= bound);
  }
  CHECK(server.now().accepted < count / 2);
  CHECK(listener->ready() == 1);

  std::size_t taken = 0;
  std::size_t most_held = 0;
  for (;;) {
    const bool last = listener->ended();
    while (response_buffer r = call->take()) {
      REQUIRE(r->size() == size);
      taken += 1;
      most_held = std::max(most_held, client->held_bytes());
    }
    if (last || !listener->wait_for_news()) {
      break;
    }
  }
  CHECK(taken == count);
  CHECK(most_held <= bound + size);  // With the one that was taken last.
  CHECK(client->held_bytes() == 0);
}

TEST_CASE("nothing is read ahead behind a response that is most likely the last, but whoever takes on gets it") {
  const std::vector<std::string> sent = {"a", "last", "b", "c", "last", "last", "d"};
  std::optional<grpc::Status> ends = grpc::Status::OK;
  SUBCASE("and the call ends") {}
  SUBCASE("and it is cancelled while nothing is being read") { ends.reset(); }
  scripted_server server(always({sent, 1, ends}));
  auto client = client_of(server.settings());
  auto listener = std::make_shared<recording_listener>();
  auto call = client->open({"r", [](const response_bytes& response) { return response.joined() == "last"; }}, listener);
  std::vector<std::string> taken;
  bool behind_last = false;
  while (taken.size() < sent.size()) {
    if (const response_buffer response = call->take()) {
      REQUIRE_FALSE(behind_last);
      taken.push_back(response->joined());
      behind_last = taken.back() == "last";
      if (behind_last && !ends) {
        break;
      }
    } else {
      behind_last = false;
      REQUIRE(listener->wait_for_news());
    }
  }
  if (ends) {
    CHECK(taken == sent);
  } else {
    CHECK(taken == std::vector<std::string>{"a", "last"});
    call->cancel();
  }
  const auto end = listener->wait_for_end();
  REQUIRE(end.has_value());
  CHECK(end->cancelled_by_us == !ends);
  CHECK(end->status_code == (ends ? 0 : 1));
  CHECK(client->wait_until_idle(patience));
  CHECK(listener->ends() == 1);
}

TEST_CASE("a call that is not taken from holds no more than twice its window beside what was read ahead") {
  constexpr std::size_t size = 20'000;
  constexpr std::size_t count = 2'000;
  // gRPC by itself would hold 200 KiB, or 5 MiB and soon 9 where it probes.
  constexpr std::size_t window = 1024 * 1024;
  // What was read ahead, and what the server's side of the transport takes without sending it.
  constexpr std::size_t beside = transport_limits().read_ahead + 64 * 1024 + 2 * size;
  scripted_server server(pong_or("big", {{std::string(size, 'x')}, count, grpc::Status::OK}));
  // Whether gRPC would probe or not.
  channel_plan plan{1, true, window};
  std::size_t at_once = 1;
  SUBCASE("with few streams") {}
  SUBCASE("with many streams") { plan.bdp_probe = false; }
  SUBCASE("where more run than the wider window is for") {
    plan.window = 4 * window;
    plan.window_of_many = window;
    at_once = channel_plan::few + 1;
  }
  auto client = client_of(server.settings(), plan);
  client->expect_calls(at_once);
  auto listener = std::make_shared<recording_listener>();
  auto call = client->open({"big"}, listener);
  CHECK(server.wait_until([](const auto& n) { return n.accepted * size >= window; }));
  std::size_t pings = 0;
  for (; pings < 50; ++pings) {
    ping(*client);
  }
  CHECK((server.now().accepted - pings) * size <= 2 * window + beside);
  CHECK(take_all(*call, *listener).size() == count);
  CHECK(client->held_bytes() == 0);
}

TEST_CASE("used memory serves the next response without becoming twice as large") {
  call_script script{{}, 1, std::nullopt};
  // Larger than those that stay in pieces.
  for (std::size_t size = 1'100'000; size <= 1'900'000; size += 20'000) script.responses.emplace_back(size, 'x');
  const std::size_t count = script.responses.size();
  scripted_server server(always(std::move(script)));
  auto client = client_of(server.settings(), {1, false});
  auto listener = std::make_shared<recording_listener>();
  auto call = client->open({}, listener);
  for (std::size_t taken = 0; taken < count; ++taken) {
    const response_buffer response = take_next(*call, *listener);
    REQUIRE(response != nullptr);
    REQUIRE(std::next(response->begin()) == response->end());
    const std::size_t capacity = malloc_usable_size(const_cast<char*>(response->begin()->data()));
    REQUIRE(capacity <= response->size() + response->size() / 2 + 64 * 1024);
  }
}

TEST_CASE("usual responses stay in gRPC's pieces, up to 8 MiB in all; small and very large ones are put together") {
  call_script script;
  std::mt19937 random(3);
  const auto add = [&](std::size_t size) {
    std::string bytes(size, '\0');
    for (char& c : bytes) c = static_cast<char>(random());
    script.responses.push_back(std::move(bytes));
  };
  add(30'000);
  add(1'100'000);
  for (int i = 0; i < 40; ++i) add(300'000);
  const std::vector<std::string> sent = script.responses;
  scripted_server server(always(std::move(script)));
  auto client = client_of(server.settings(), {1, false});
  auto listener = std::make_shared<recording_listener>();
  auto call = client->open({}, listener);
  std::vector<response_buffer> taken;
  std::size_t in_pieces = 0;
  while (taken.size() < sent.size()) {
    const response_buffer response = take_next(*call, *listener);
    REQUIRE(response != nullptr);
    const std::size_t number = taken.size();
    REQUIRE(response->joined() == sent[number]);
    REQUIRE(response->size() == sent[number].size());
    const auto pieces = static_cast<std::size_t>(response->end() - response->begin());
    if (pieces > 1) in_pieces += response->size();
    CAPTURE(number);
    REQUIRE((pieces > 1) == (number >= 2 && number < 2 + 27));  // 28 of 300,000 bytes are more than 8 MiB.
    taken.push_back(response);
  }
  CHECK(in_pieces == 27 * 300'000);
  // What was given back makes room.
  taken.clear();
  CHECK(client->held_bytes() == 0);
  auto next = client->open({}, listener);
  for (std::size_t number = 0; number < 5; ++number) {
    const response_buffer response = take_next(*next, *listener);
    REQUIRE(response != nullptr);
    if (number >= 2) REQUIRE(response->end() - response->begin() > 1);
  }
}

TEST_CASE("many calls together read little ahead, and all of them come to their ends") {
  constexpr std::size_t size = 300'000;
  constexpr std::size_t calls = 40;
  scripted_server server(pong_or("big", {{std::string(size, 'x')}, 5, grpc::Status::OK}));
  transport_limits limits;
  limits.read_ahead = size;
  limits.read_ahead_of_all = 4 * size;
  auto client = client_of(server.settings(), {2, false}, limits);
  const auto all = open_calls(*client, calls);

  // Nothing was taken, so each has one: that is not read ahead.
  CHECK(fills_up(*client, calls * size));
  std::vector<response_buffer> taken;
  for (const auto& one : all) {
    taken.push_back(one.call->take());
    REQUIRE(taken.back() != nullptr);
  }
  // Whoever took them still has them: no room to read ahead.
  const std::size_t held = client->held_bytes();
  for (int i = 0; i < 20; ++i) {
    ping(*client);
    REQUIRE(client->held_bytes() == held);
  }
  taken.clear();
  for (const auto& one : all) CHECK(take_all(*one.call, *one.listener).size() == 4);
  CHECK(client->held_bytes() == 0);
}

TEST_CASE("with its own limits the client holds no more than is documented of many calls that nobody takes from") {
  constexpr std::size_t size = 350'000;
  constexpr std::size_t calls = 32;
  constexpr std::size_t count = 8;
  constexpr transport_limits limits;
  // docs/design.md: 4 MiB, and of each call at most two responses; ours is one of them, the other is on its way in gRPC.
  constexpr std::size_t bound = (std::size_t{4} << 20) + calls * (size + response_overhead);
  static_assert(limits.read_ahead_of_all == std::size_t{4} << 20 && limits.read_ahead == std::size_t{1} << 20);
  static_assert(bound < calls * limits.read_ahead, "each for itself they would hold more");
  scripted_server server(pong_or("big", {{std::string(size, 'x')}, count, grpc::Status::OK}));
  auto client = client_of(server.settings(), {2, false});
  const auto all = open_calls(*client, calls);

  // One of each: that is not read ahead.
  CHECK(fills_up(*client, calls * size));
  for (int i = 0; i < 50; ++i) {
    ping(*client);
    REQUIRE(client->held_bytes() <= bound);
  }
  CHECK(client->fed_calls() == calls);

  // Nor do they read more while one after the other is emptied.
  for (const auto& one : all) {
    std::size_t taken = 0;
    for (;;) {
      const bool last = one.listener->ended();
      while (const response_buffer response = one.call->take()) {
        REQUIRE(response->size() == size);
        REQUIRE(client->held_bytes() <= bound);
        taken += 1;
      }
      if (last || !one.listener->wait_for_news()) break;
    }
    CHECK(taken == count);
  }
  CHECK(client->held_bytes() == 0);
}

TEST_CASE("empty responses count against the read-ahead too") {
  constexpr std::size_t count = 20'000;
  scripted_server server(pong_or("many", {{""}, count, grpc::Status::OK}));
  const transport_limits limits;
  auto client = client_of(server.settings(), {1, false}, limits);
  auto listener = std::make_shared<recording_listener>();
  auto call = client->open({"many"}, listener);
  CHECK(fills_up(*client, limits.read_ahead));
  for (int i = 0; i < 20; ++i) {
    ping(*client);
    REQUIRE(client->held_bytes() <= limits.read_ahead + 1024);
  }
  CHECK(take_all(*call, *listener).size() == count);
}

TEST_CASE("a response above the limit ends the stream") {
  transport_limits limits;
  limits.receive_limit = 1 << 20;
  scripted_server server(always({{"small", std::string((1 << 20) + 1, 'x')}, 1, std::nullopt}));
  auto client = client_of(server.settings(), {1, true}, limits);
  auto listener = std::make_shared<recording_listener>();
  auto call = client->open({"r"}, listener);
  CHECK(take_all(*call, *listener) == std::vector<std::string>{"small"});
  const auto end = listener->wait_for_end();
  REQUIRE(end.has_value());
  CHECK(end->status_code == 8);
  CHECK(end->message.find("larger than max") != std::string::npos);
  CHECK_FALSE(end->cancelled_by_us);
}

TEST_CASE("a compressed response ends its call and is not unpacked") {
  // Small, so that it is there together with the headers: gRPC then has it unpacked before it looks at them.
  scripted_server server([](const seen_call& call) {
    call_script script{{std::string(16384, '\0')}, 1, std::nullopt, true};
    if (call.method == "/anyone") {
      script.end = grpc::Status::OK;
    }
    return script;
  });
  // That the server does compress, and that the count sees it: a client that takes anything.
  unpacked_bytes = 0;
  const auto settings = server.settings();
  grpc::GenericStub anyone(grpc::CreateChannel(settings.host + ":" + std::to_string(settings.port),
                                               grpc::InsecureChannelCredentials()));
  grpc::ClientContext context;
  const grpc::Slice word("x");
  const grpc::ByteBuffer request(&word, 1);
  grpc::ByteBuffer response;
  std::promise<grpc::Status> done;
  anyone.UnaryCall(&context, "/anyone", {}, &request, &response,
                   [&done](grpc::Status status) { done.set_value(std::move(status)); });
  REQUIRE(done.get_future().get().ok());
  CHECK(response.Length() == 16384);
  CHECK(unpacked_bytes.load() == 16384);

  unpacked_bytes = 0;
  auto client = client_of(settings);
  auto listener = std::make_shared<recording_listener>();
  auto call = client->open({"x"}, listener);
  for (const std::string& taken : take_all(*call, *listener)) {
    CHECK(taken.size() < 100);
  }
  const auto end = listener->wait_for_end();
  REQUIRE(end.has_value());
  CHECK(end->status_code == 12);
  CHECK(end->message == "Compression algorithm 'gzip' is disabled.");
  CHECK_FALSE(end->cancelled_by_us);
  CHECK(unpacked_bytes.load() == 0);
}

TEST_CASE("cancel and drop end a running call") {
  scripted_server server(always({{std::string(50'000, 'x')}, 1'000'000, std::nullopt}));
  transport_limits limits;
  bool drop = false;
  bool full = true;
  SUBCASE("cancel, while nothing more is read ahead") {}
  SUBCASE("cancel, while reading") { full = false; }
  SUBCASE("drop, while nothing more is read ahead") { drop = true; }
  SUBCASE("drop, while reading") {
    drop = true;
    full = false;
  }
  limits.read_ahead = full ? 1 : std::size_t{1} << 40;
  limits.read_ahead_of_all = std::size_t{1} << 40;
  auto client = client_of(server.settings(), {1, true}, limits);
  auto listener = std::make_shared<recording_listener>();
  auto call = client->open({"r"}, listener);
  REQUIRE(listener->wait_for_news());
  CHECK(client->running_calls() == 1);
  CHECK_FALSE(client->wait_until_idle(0ms));

  if (drop) {
    call.reset();
  } else {
    call->cancel();
    call->cancel();
  }
  const auto end = listener->wait_for_end();
  REQUIRE(end.has_value());
  CHECK(end->status_code == 1);
  CHECK(end->cancelled_by_us);
  if (!drop) CHECK(call->take() != nullptr);
  call.reset();
  CHECK(client->held_bytes() == 0);
  CHECK(client->fed_calls() == 0);
  CHECK(client->wait_until_idle(patience));
  CHECK(listener->ends() == 1);
  CHECK_FALSE(listener->heard_after_end());
  CHECK(server.wait_until([](const auto& c) { return c.finished == 1; }));
}

TEST_CASE("a listener may drop and take inside its own callbacks") {
  class impulsive final : public vstream_listener {
   public:
    void on_ready() override {
      std::lock_guard<std::mutex> lock(mutex);
      if (call) {
        taken += call->take() != nullptr ? 1 : 0;
        call.reset();
      }
    }
    void on_end(stream_end) override {
      std::lock_guard<std::mutex> lock(mutex);
      call.reset();
      ends += 1;
    }
    std::mutex mutex;
    std::unique_ptr<vstream_call> call;
    int taken = 0;
    int ends = 0;
  };
  scripted_server server(always({{"one", "two"}, 1'000, std::nullopt}));
  auto client = client_of(server.settings());
  auto listener = std::make_shared<impulsive>();
  {
    std::lock_guard<std::mutex> lock(listener->mutex);
    listener->call = client->open({"r"}, listener);
  }
  REQUIRE(client->wait_until_idle(patience));
  CHECK(listener->taken == 1);
  CHECK(listener->ends == 1);
}

TEST_CASE("under stress every call ends once, last, and is announced once per burst") {
  scripted_server server([](const seen_call& seen) {
    const int kind = seen.request.empty() ? 0 : seen.request[0] % 4;
    switch (kind) {
      case 0:
        return call_script{{"s"}, 1'000'000, std::nullopt};
      case 1:
        return call_script{{std::string(90'000, 'l'), "s"}, 1'000'000, std::nullopt};
      case 2:
        return call_script{{"s", "t"}, 20, grpc::Status::OK};
      default:
        return call_script{{}, 1, grpc::Status(grpc::StatusCode::INTERNAL, "no")};
    }
  });
  auto client = client_of(server.settings(), {3, false});
  constexpr int threads = 4;
  constexpr int calls_per_thread = 150;
  struct outcome {
    std::shared_ptr<recording_listener> listener;
    std::size_t empty_takes = 0;
  };
  std::vector<std::vector<outcome>> outcomes(threads);
  std::vector<std::thread> pool;
  for (int t = 0; t < threads; ++t) {
    pool.emplace_back([&, t] {
      std::mt19937 random(static_cast<unsigned>(t) + 1);
      for (int i = 0; i < calls_per_thread; ++i) {
        outcome o{std::make_shared<recording_listener>(), 0};
        auto call = client->open({std::string(1, static_cast<char>('a' + random() % 4))}, o.listener);
        unsigned wanted = random() % 12;
        const bool from_another_thread = random() % 3 == 0;
        std::thread other;
        if (from_another_thread) {
          other = std::thread([&call] { call->cancel(); });
        }
        while (wanted > 0) {
          if (call->take()) {
            wanted -= 1;
            continue;
          }
          o.empty_takes += 1;
          if (o.listener->ended() || !o.listener->wait_for_news()) {
            break;
          }
        }
        if (other.joinable()) {
          other.join();
        }
        if (random() % 2 == 0) {
          call->cancel();
        }
        call.reset();
        outcomes[static_cast<std::size_t>(t)].push_back(std::move(o));
      }
    });
  }
  for (std::thread& t : pool) {
    t.join();
  }
  REQUIRE(client->wait_until_idle(patience));
  CHECK(client->running_calls() == 0);
  CHECK(client->held_bytes() == 0);
  std::size_t wrong = 0;
  for (const auto& list : outcomes) {
    REQUIRE(list.size() == calls_per_thread);
    for (const outcome& o : list) {
      wrong += o.listener->ends() == 1 ? 0 : 1;
      wrong += o.listener->heard_after_end() ? 1 : 0;
      wrong += o.listener->ready() <= o.empty_takes + 1 ? 0 : 1;
      wrong += o.listener.use_count() == 1 ? 0 : 1;
    }
  }
  CHECK(wrong == 0);
}

TEST_CASE("calls are dealt evenly over separate connections; reconnect() makes new ones") {
  scripted_server server(always({{"hello"}, 1, std::nullopt}));
  auto client = client_of(server.settings(), {4, true});
  std::vector<std::shared_ptr<recording_listener>> listeners;
  std::vector<std::unique_ptr<vstream_call>> calls;
  const auto open_some = [&](std::size_t n) {
    for (std::size_t i = 0; i < n; ++i) {
      listeners.push_back(std::make_shared<recording_listener>());
      calls.push_back(client->open({"r"}, listeners.back()));
    }
    REQUIRE(server.wait_until([&](const auto& c) { return c.calls == calls.size(); }));
  };
  const auto peers = [&] {
    std::map<std::string, int> count;
    for (const seen_call& c : server.seen()) {
      count[c.peer] += 1;
    }
    return count;
  };
  open_some(8);
  CHECK(peers().size() == 4);
  for (const auto& [peer, count] : peers()) {
    CHECK(count == 2);
  }
  client->reconnect(std::chrono::milliseconds(0));
  open_some(4);
  CHECK(peers().size() == 8);
  // Another stream notices the same dead line later: these connections were made since.
  client->reconnect(std::chrono::hours(1));
  open_some(4);
  CHECK(peers().size() == 8);
  CHECK(client->running_calls() == 16);
  for (const auto& l : listeners) {
    CHECK_FALSE(l->ended());  // Calls on the old channels run on.
  }
  calls.clear();
  CHECK(client->wait_until_idle(patience));
}

TEST_CASE("a server that dies ends the call; the next open() connects at once when it is back") {
  auto server = std::make_unique<scripted_server>(always({{"hello"}, 1, std::nullopt}));
  const std::uint16_t port = server->port();
  auto client = client_of(server->settings());
  auto listener = std::make_shared<recording_listener>();
  auto call = client->open({"r"}, listener);
  REQUIRE(listener->wait_for_news());
  server.reset();
  auto end = listener->wait_for_end();
  REQUIRE(end.has_value());
  CHECK(end->status_code != 0);
  CHECK_FALSE(end->cancelled_by_us);

  auto refused = std::make_shared<recording_listener>();
  auto second = client->open({"r"}, refused);
  end = refused->wait_for_end();
  REQUIRE(end.has_value());
  CHECK(end->status_code == 14);
  CHECK(end->message.find("onnect") != std::string::npos);

  server = std::make_unique<scripted_server>(always({{"again"}, 1, grpc::Status::OK}), nullptr, port);
  auto back = std::make_shared<recording_listener>();
  auto third = client->open({"r"}, back);
  CHECK(take_all(*third, *back) == std::vector<std::string>{"again"});
  CHECK(client->wait_until_idle(patience));
}

TEST_CASE("a client that goes ends its calls first; their handles stay usable") {
  scripted_server server(always({{"hello"}, 1, std::nullopt}));
  auto client = client_of(server.settings(), {2, true});
  std::vector<std::shared_ptr<recording_listener>> listeners;
  std::vector<std::unique_ptr<vstream_call>> calls;
  for (int i = 0; i < 5; ++i) {
    listeners.push_back(std::make_shared<recording_listener>());
    calls.push_back(client->open({"r"}, listeners.back()));
    REQUIRE(listeners.back()->wait_for_news());
  }
  client.reset();
  for (std::size_t i = 0; i < calls.size(); ++i) {
    CHECK(listeners[i]->ends() == 1);
    CHECK(calls[i]->take() != nullptr);
    CHECK(calls[i]->take() == nullptr);
  }
}

// With no server in the process, the client's channels are the only ones that share gRPC's callback threads.
TEST_CASE("channels that come and go without a server") {
  connection_settings settings;
  settings.host = "127.0.0.1";
  {
    scripted_server gone(always({}));
    settings = gone.settings();
  }
  for (int round = 0; round < 200; ++round) {
    auto client = client_of(settings);
    auto listener = std::make_shared<recording_listener>();
    auto call = client->open({"r"}, listener);
    if (round % 2 == 0) {
      call->cancel();
    }
    REQUIRE(listener->wait_for_end().has_value());
    if (round % 3 == 0) {
      client->reconnect(std::chrono::milliseconds(0));
      auto again = std::make_shared<recording_listener>();
      call = client->open({"r"}, again);
      REQUIRE(again->wait_for_end().has_value());
    }
    CHECK(client->wait_until_idle(patience));
  }
}

TEST_CASE("authentication metadata") {
  scripted_server server(always({{}, 1, grpc::Status::OK}));
  connection_settings settings = server.settings();
  const auto metadata_of_call = [&] {
    auto client = client_of(settings);
    auto listener = std::make_shared<recording_listener>();
    auto call = client->open({"r"}, listener);
    REQUIRE(listener->wait_for_end().has_value());
    return server.seen().back().metadata;
  };
  settings.username = "user";
  settings.password = "p:\xc3\xa4ss\n";
  SUBCASE("basic header takes any password") {
    settings.auth = grpc_auth::basic_header;
    const auto metadata = metadata_of_call();
    CHECK(metadata.find("authorization")->second == "Basic dXNlcjpwOsOkc3MK");
    CHECK(metadata.count("username") == 0);
  }
  SUBCASE("a basic header cannot hold a colon in the name") {
    settings.auth = grpc_auth::basic_header;
    settings.username = "us:er";
    auto made = grpc_vstream_client::make(settings, {});
    REQUIRE_FALSE(made.has_value());
    CHECK(made.error().code == error_code::config_invalid);
  }
  SUBCASE("username and password") {
    settings.auth = grpc_auth::username_password;
    settings.password = "p ss~";
    const auto metadata = metadata_of_call();
    CHECK(metadata.find("username")->second == "user");
    CHECK(metadata.find("password")->second == "p ss~");
    CHECK(metadata.count("authorization") == 0);
  }
  SUBCASE("what gRPC cannot send is refused, and not repeated") {
    settings.auth = grpc_auth::username_password;
    auto made = grpc_vstream_client::make(settings, {});
    REQUIRE_FALSE(made.has_value());
    CHECK(made.error().code == error_code::config_invalid);
    CHECK(made.error().message.find(settings.password) == std::string::npos);
  }
  SUBCASE("no user, no metadata") {
    settings.username.clear();
    settings.auth = grpc_auth::basic_header;
    const auto metadata = metadata_of_call();
    CHECK(metadata.count("authorization") == 0);
    CHECK(metadata.count("username") == 0);
  }
}

TEST_CASE("hosts that are none are refused") {
  for (const char* host : {"", "https://example.com", "a b", "unix:/tmp/x", "host/path"}) {
    connection_settings settings;
    settings.host = host;
    settings.tls.enabled = false;
    auto made = grpc_vstream_client::make(settings, {});
    REQUIRE_FALSE(made.has_value());
    CHECK(made.error().code == error_code::config_invalid);
  }
  connection_settings settings;
  settings.host = std::string("a\0b", 3);
  CHECK_FALSE(grpc_vstream_client::make(settings, {}).has_value());
}
