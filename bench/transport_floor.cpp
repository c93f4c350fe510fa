// The floor under every figure: the connector's VStream calls over the connector's channels, and nothing
// else. No row is looked at; only bytes are counted.
//
// There are three of them. The bare transport takes the responses as gRPC brings them, with its callback API and on its own
// threads: the yardstick, which stays the same however the connector changes. With --scheduled its threads are scheduled as the
// connector's are. With --client the connector's own client brings the responses, put together and on its thread, scheduled so:
// what the connector cannot go below.
#include <arpa/inet.h>
#include <grpcpp/client_context.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/client_callback.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <atomic>
#include <charconv>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <memory>
#include <mutex>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "clients/grpc_channel.hpp"
#include "clients/grpc_vstream.hpp"
#include "clients/process_settings.hpp"
#include "protocol/vitess/request.hpp"
#include "sync/stream_session.hpp"

namespace psource::bench {
namespace {

using steady = std::chrono::steady_clock;

constexpr const char* usage =
    R"(Opens the VStream calls of a read and counts what comes, decoding nothing. Prints one line of JSON.

  transport_floor --port PORT --keyspace NAME --streams FILE [--tables A,B] [--rows N] [--max-streams 64] [--ca FILE]
                  [--round-trip-us 100] [--scheduled | --client]

FILE has one call a line, its parts separated by tabs: shard, then for a copy the table's name alone, or for the binary
log a position and the number of responses after which the call is done (heartbeats do not count).
--tables are those of the binary log's calls. --rows only goes into the figures per row. Plain text without --ca.
--round-trip-us is what the connector would measure at the MySQL port: its channels' windows follow from it.
--scheduled has the threads scheduled as the connector's are. --client has the connector's own client bring the responses,
scheduled so; without it gRPC's callback API does.
)";

// A heartbeat is smaller, a transaction larger.
constexpr std::size_t largest_heartbeat = 64;

struct planned_call {
  std::string request;
  /// 0 = a copy, which ends with its COPY_COMPLETED.
  std::uint64_t responses = 0;
};

struct options {
  connection_settings connection;
  keyspace_name keyspace;
  std::string streams_file;
  std::vector<table_name> tables;
  std::uint64_t rows = 0;
  std::size_t max_streams = 64;
  std::chrono::microseconds round_trip{100};
  bool own_client = false;
  bool scheduled = false;
};

[[noreturn]] void complain(const std::string& what) {
  std::cerr << "transport_floor: " << what << "\n";
  std::exit(2);
}

std::vector<std::string> split(const std::string& text, char separator) {
  std::vector<std::string> parts;
  std::istringstream in(text);
  for (std::string part; std::getline(in, part, separator);) parts.push_back(part);
  return parts;
}

std::uint64_t to_number(const std::string& text) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) complain("\"" + text + "\" is not a number.");
  return value;
}

std::string read_file(const std::string& name) {
  std::ifstream in(name, std::ios::binary);
  std::ostringstream text;
  if (!in || !(text << in.rdbuf())) complain("cannot read " + name + ".");
  return text.str();
}

options parse(int argc, char** argv) {
  options out;
  out.connection.host = "127.0.0.1";
  out.connection.auth = grpc_auth::none;
  out.connection.tls.enabled = false;
  for (int i = 1; i < argc; ++i) {
    const std::string flag = argv[i];
    if (flag == "--help") {
      std::cout << usage;
      std::exit(0);
    }
    if (flag == "--client" || flag == "--scheduled") {
      out.own_client = flag == "--client";
      out.scheduled = true;
      continue;
    }
    if (i + 1 == argc) complain(flag + " needs a value, or is not known; see --help.");
    const std::string value = argv[++i];
    if (flag == "--port") {
      out.connection.port = static_cast<std::uint16_t>(to_number(value));
    } else if (flag == "--keyspace") {
      out.keyspace = keyspace_name(value);
    } else if (flag == "--streams") {
      out.streams_file = value;
    } else if (flag == "--tables") {
      for (const auto& name : split(value, ',')) out.tables.emplace_back(name);
    } else if (flag == "--rows") {
      out.rows = to_number(value);
    } else if (flag == "--max-streams") {
      out.max_streams = static_cast<std::size_t>(to_number(value));
    } else if (flag == "--round-trip-us") {
      out.round_trip = std::chrono::microseconds(to_number(value));
    } else if (flag == "--ca") {
      out.connection.tls.enabled = true;
      out.connection.tls.ca_certificate = read_file(value);
    } else {
      complain(flag + " is not known; see --help.");
    }
  }
  if (out.streams_file.empty()) complain("--streams is missing; see --help.");
  return out;
}

std::vector<planned_call> plan(const options& options) {
  std::vector<planned_call> calls;
  for (const auto& line : split(read_file(options.streams_file), '\n')) {
    const auto parts = split(line, '\t');
    if (parts.size() != 2 && parts.size() != 3)
      complain("a line of " + options.streams_file + " is not a call.");
    stream_request request;
    request.keyspace = options.keyspace;
    planned_call call;
    shard_start start;
    start.shard = shard_name(parts[0]);
    if (parts.size() == 2) {
      start.tables.push_back({table_name(parts[1]), {}});
      request.tables.emplace_back(parts[1]);
    } else {
      start.gtid = parts[1];
      call.responses = to_number(parts[2]);
      request.tables = options.tables;
    }
    request.shards.push_back(std::move(start));
    auto bytes = serialize(request);
    if (!bytes) complain(bytes.error().message);
    call.request = std::move(*bytes);
    calls.push_back(std::move(call));
  }
  if (calls.empty()) complain(options.streams_file + " has no call.");
  return calls;
}

// What all calls add to, and what the main thread waits for.
struct tally {
  std::atomic<std::uint64_t> responses{0};
  std::atomic<std::uint64_t> bytes{0};
  std::mutex mutex;
  std::condition_variable changed;
  std::size_t answered = 0;  // Calls that have had their first response.
  std::size_t done = 0;
  std::string problem;

  void note_end(bool cancelled_by_us, int status_code, const std::string& message) {
    {
      std::lock_guard lock(mutex);
      if (cancelled_by_us)
        ++done;
      else if (problem.empty())
        problem = "a call ended with status " + std::to_string(status_code) + ": " + message;
    }
    changed.notify_all();
  }
};

// The responses of one call, counted up to its end.
class counter {
 public:
  counter(std::shared_ptr<tally> all, std::uint64_t wanted) : all_(std::move(all)), wanted_(wanted) {}

  // True when the call is done. `completes` tells whether the response completes a copy, and is asked only in copies.
  template <class Completes>
  bool count(std::size_t size, const Completes& completes) {
    if (wanted_ != 0 && size <= largest_heartbeat) return false;
    ++seen_;
    all_->responses.fetch_add(1, std::memory_order_relaxed);
    all_->bytes.fetch_add(size, std::memory_order_relaxed);
    if (seen_ == 1) {
      {
        std::lock_guard lock(all_->mutex);
        ++all_->answered;
      }
      all_->changed.notify_all();
    }
    return wanted_ != 0 ? seen_ == wanted_ : completes();
  }

  const std::shared_ptr<tally>& all() const { return all_; }

 private:
  const std::shared_ptr<tally> all_;
  const std::uint64_t wanted_;
  std::uint64_t seen_ = 0;
};

// Opens calls, and waits for their ends.
class transport {
 public:
  virtual ~transport() = default;
  virtual void open(const planned_call& call, std::shared_ptr<tally> all) = 0;
  // False when the ends of all calls do not come.
  virtual bool wait_until_idle() = 0;
};

// ---- With gRPC's callback API

// What the calls of one channel share. The count is guarded by the tally's mutex.
struct lane {
  explicit lane(std::shared_ptr<grpc::Channel> c) : channel(std::move(c)), stub(channel) {}
  std::shared_ptr<grpc::Channel> channel;
  grpc::GenericStub stub;
  std::size_t running = 0;
};

// Owns itself until its end. Reads are started by reactions only, so no hold is needed.
class bare_call final : public grpc::ClientBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer> {
 public:
  bare_call(const planned_call& call, lane& lane, std::shared_ptr<tally> all)
      : lane_(lane), counter_(std::move(all), call.responses) {
    const grpc::Slice bytes(call.request);
    request_ = grpc::ByteBuffer(&bytes, 1);
  }

  void start() {
    lane_.stub.PrepareBidiStreamingCall(&context_, vstream_method, {}, this);
    StartWriteLast(&request_, grpc::WriteOptions());
    StartRead(&incoming_);
    StartCall();
  }

  void OnReadDone(bool ok) override {
    if (!ok) return;
    const auto completes = [this] {
      // Only the small responses that may tell the end are put together, and their events looked at, never their rows.
      if (incoming_.Length() > largest_copy_end) return false;
      grpc::Slice whole;
      if (!incoming_.DumpToSingleSlice(&whole).ok()) complain("a response cannot be read.");
      return completes_copy(whole_response({reinterpret_cast<const char*>(whole.begin()), whole.size()}));
    };
    if (counter_.count(incoming_.Length(), completes)) {
      cancelled_ = true;
      context_.TryCancel();
      return;
    }
    incoming_.Clear();
    StartRead(&incoming_);
  }

  void OnDone(const grpc::Status& status) override {
    const std::shared_ptr<tally> all = counter_.all();
    {
      std::lock_guard lock(all->mutex);
      --lane_.running;
    }
    const bool cancelled = cancelled_;
    const grpc::Status end = status;
    // Before the end is noted: the program may be over then.
    delete this;
    all->note_end(cancelled, static_cast<int>(end.error_code()), end.error_message());
  }

 private:
  lane& lane_;
  counter counter_;
  bool cancelled_ = false;
  grpc::ClientContext context_;
  grpc::ByteBuffer request_;
  grpc::ByteBuffer incoming_;
};

class bare_transport final : public transport {
 public:
  bare_transport(const channel_maker& maker, unsigned channels) {
    for (unsigned i = 0; i < channels; ++i) lanes_.push_back(std::make_unique<lane>(maker.make()));
  }
  void open(const planned_call& call, std::shared_ptr<tally> all) override {
    lane* least = nullptr;
    {
      std::lock_guard lock(all->mutex);
      for (const auto& one : lanes_)
        if (least == nullptr || one->running < least->running) least = one.get();
      ++least->running;
    }
    (new bare_call(call, *least, std::move(all)))->start();
  }
  // Nothing is under way once the last call has told its end, and destroying the channels waits for gRPC's threads.
  bool wait_until_idle() override { return true; }

 private:
  std::vector<std::unique_ptr<lane>> lanes_;
};

// ---- With the connector's client

// The handle comes after open(), which may be later than the first responses.
class taken_call final : public vstream_listener {
 public:
  taken_call(const planned_call& call, std::shared_ptr<tally> all) : counter_(std::move(all), call.responses) {}

  void attach(std::shared_ptr<vstream_call> call) {
    {
      std::lock_guard lock(mutex_);
      call_ = std::move(call);
    }
    drain();
  }

  void on_ready() override { drain(); }
  void on_end(stream_end end) override { counter_.all()->note_end(end.cancelled_by_us, end.status_code, end.message); }

 private:
  // Two threads meet here only around attach().
  void drain() {
    std::lock_guard lock(mutex_);
    if (!call_) return;
    while (const response_buffer response = call_->take()) {
      if (counter_.count(response->size(), [&] { return completes_copy(*response); })) {
        call_->cancel();
        call_.reset();
        return;
      }
    }
  }

  counter counter_;
  std::mutex mutex_;
  std::shared_ptr<vstream_call> call_;
};

class client_transport final : public transport {
 public:
  explicit client_transport(std::shared_ptr<grpc_vstream_client> client) : client_(std::move(client)) {}
  void open(const planned_call& call, std::shared_ptr<tally> all) override {
    auto listener = std::make_shared<taken_call>(call, std::move(all));
    listener->attach(client_->open({call.request, call.responses == 0 ? completes_copy : nullptr}, listener));
  }
  bool wait_until_idle() override { return client_->wait_until_idle(std::chrono::seconds(10)); }

 private:
  const std::shared_ptr<grpc_vstream_client> client_;
};

std::unique_ptr<transport> make_transport(const options& options, const channel_plan& plan) {
  if (options.own_client) {
    auto client = grpc_vstream_client::make(options.connection, plan);
    if (!client) complain(client.error().message);
    return std::make_unique<client_transport>(*std::move(client));
  }
  const auto maker = channel_maker::of(options.connection, plan, transport_limits{});
  if (!maker) complain(maker.error().message);
  return std::make_unique<bare_transport>(*maker, plan.channels);
}

// TCP connections of this process to the port.
std::size_t open_sockets(std::uint16_t port) {
  std::size_t count = 0;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    sockaddr_in6 peer{};
    socklen_t size = sizeof peer;
    const int fd = std::atoi(entry.path().filename().c_str());
    // The port is at the same place for both address families.
    if (getpeername(fd, reinterpret_cast<sockaddr*>(&peer), &size) == 0 &&
        (peer.sin6_family == AF_INET || peer.sin6_family == AF_INET6) && ntohs(peer.sin6_port) == port)
      ++count;
  }
  return count;
}

double seconds(const timeval& t) {
  return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) * 1e-6;
}

int count(const options& options) {
  const auto begin = steady::now();
  const std::vector<planned_call> calls = plan(options);
  const std::size_t at_once = std::min(calls.size(), options.max_streams);
  const channel_plan channels = plan_channels(static_cast<unsigned>(at_once), options.round_trip);
  const auto transport = make_transport(options, channels);
  const auto all = std::make_shared<tally>();
  std::size_t opened = 0;
  std::size_t sockets = 0;
  for (;;) {
    std::size_t done = 0;
    bool look = false;
    {
      std::unique_lock lock(all->mutex);
      all->changed.wait(lock, [&] {
        return !all->problem.empty() || all->done == calls.size() ||
               (opened < calls.size() && opened - all->done < at_once) ||
               (sockets == 0 && all->answered >= at_once);
      });
      if (!all->problem.empty()) complain(all->problem);
      done = all->done;
      look = sockets == 0 && all->answered >= at_once;
    }
    if (look) sockets = open_sockets(options.connection.port);
    if (done == calls.size()) break;
    while (opened < calls.size() && opened - done < at_once) {
      transport->open(calls[opened++], all);
    }
  }
  const double wall = std::chrono::duration<double>(steady::now() - begin).count();
  if (!transport->wait_until_idle()) complain("the calls did not end within 10 s.");

  rusage used{};
  getrusage(RUSAGE_SELF, &used);
  const double cpu = seconds(used.ru_utime) + seconds(used.ru_stime);
  const auto bytes = static_cast<double>(all->bytes.load());
  std::printf(
      "{\"calls\":%zu,\"responses\":%llu,\"bytes\":%.0f,\"rows\":%llu,\"cpu_seconds\":%.6f,\"user_seconds\":%"
      ".6f,"
      "\"wall_seconds\":%.6f,\"channels\":%u,\"window\":%zu,\"sockets\":%zu}\n",
      calls.size(), static_cast<unsigned long long>(all->responses.load()), bytes,
      static_cast<unsigned long long>(options.rows), cpu, seconds(used.ru_utime), wall, channels.channels,
      channels.window, sockets);
  if (sockets != channels.channels) {
    std::cerr << "transport_floor: " << sockets << " sockets for " << channels.channels
              << " channels: they are shared, so this is not the connector's transport.\n";
    return 3;
  }
  return 0;
}

}  // namespace
}  // namespace psource::bench

int main(int argc, char** argv) {
  const auto options = psource::bench::parse(argc, argv);
  psource::set_up_memory();  // As the connector.
  if (options.scheduled) psource::set_up_scheduling();
  return psource::bench::count(options);
}
