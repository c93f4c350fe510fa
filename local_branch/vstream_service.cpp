// gRPC's side of a call: one write at a time, the next response is made when the one before is on its way.
#include "local_branch/vstream_service.hpp"

#include <grpcpp/grpcpp.h>
#include <grpcpp/support/byte_buffer.h>

#include <algorithm>
#include <atomic>
#include <climits>
#include <deque>
#include <fstream>
#include <mutex>
#include <sstream>
#include <thread>

#include "clients/grpc_order.hpp"
#include "local_branch/shards.hpp"
#include "local_branch/worker_pool.hpp"
#include "protocol/base64.hpp"
#include "vtgateservice.grpc.pb.h"

namespace psource::local_branch {
namespace {

/// Responses below this size are copied into gRPC's own memory.
constexpr std::size_t small_response = 4096;

/// Buffers of sent responses, to be filled again: fresh memory of this size costs page faults.
class buffer_pool {
 public:
  byte_buffer take() {
    std::lock_guard lock(mutex_);
    if (free_.empty()) return {};
    byte_buffer out = std::move(free_.back());
    free_.pop_back();
    return out;
  }
  void give(byte_buffer buffer) {
    constexpr std::size_t most_buffers = 32;
    constexpr std::size_t most_bytes = 1 << 20;
    if (buffer.capacity() > most_bytes) return;
    std::lock_guard lock(mutex_);
    if (free_.size() < most_buffers) free_.push_back(std::move(buffer));
  }

 private:
  std::mutex mutex_;
  std::vector<byte_buffer> free_;
};

struct loaned_buffer {
  std::shared_ptr<buffer_pool> pool;
  byte_buffer buffer;
};

void give_back(void* loan) {
  std::unique_ptr<loaned_buffer> held(static_cast<loaned_buffer*>(loan));
  held->pool->give(std::move(held->buffer));
}

class call final : public grpc::ServerWriteReactor<grpc::ByteBuffer>,
                   public commit_listener,
                   public std::enable_shared_from_this<call> {
 public:
  call(const branch& source, const stream_options& options, worker_pool& workers,
       std::shared_ptr<buffer_pool> buffers, fault_injector* faults, grpc::CallbackServerContext& context)
      : source_(source),
        options_(options),
        workers_(workers),
        buffers_(std::move(buffers)),
        faults_(faults),
        context_(context) {}

  /// Begins; the call keeps itself alive until OnDone.
  void begin(vtgate::VStreamRequest request) {
    self_ = shared_from_this();
    request_ = std::move(request);
    hand_to_grpc(&cancelled_);
    workers_.post([self = self_] { self->run(); });
  }

  void on_commit() override { wake(); }

  void OnWriteDone(bool ok) override {
    take_from_grpc(&outgoing_);
    if (!ok) cancelled_.store(true);
    run();
  }
  void OnCancel() override {
    take_from_grpc(&cancelled_);
    cancelled_.store(true);
    wake();
    hand_to_grpc(this);
  }
  void OnDone() override {
    take_from_grpc(this);
    self_.reset();
  }

 private:
  using clock = vstream_session::clock;

  void wake() {
    {
      std::lock_guard lock(mutex_);
      if (finished_) return;
      if (busy_) {
        asked_again_ = true;
        return;
      }
      busy_ = true;
    }
    workers_.post([self = shared_from_this()] { self->run(); });
  }

  /// Makes and sends one response, or goes to rest. Only one thread is here at a time (busy_).
  void run() {
    if (!session_ && !cancelled_.load()) {
      last_sent_ = clock::now();
      session_ = std::make_unique<vstream_session>(source_, request_, options_, last_sent_);
      session_->subscribe(weak_from_this());
      if (faults_ != nullptr) faults_->subscribe(weak_from_this());
    }
    for (;;) {
      if (cancelled_.load()) return finish(grpc::Status(grpc::StatusCode::CANCELLED, "the client has gone"));
      const auto now = clock::now();
      if (now < held_until_) {
        const auto interval = session_->heartbeat_interval();
        if (beats_while_held_ && interval.count() > 0) {
          if (now >= last_sent_ + interval) {
            byte_buffer beat = buffers_->take();
            vstream_session::heartbeat(beat);
            return send(std::move(beat));
          }
          wake_at(last_sent_ + interval);
        }
        arm_hold();
        if (rest()) return;
        continue;
      }
      if (!altered_.empty()) {
        byte_buffer next = std::move(altered_.front());
        altered_.pop_front();
        held_until_ = now + pace_;
        beats_while_held_ = false;
        return send(std::move(next));
      }
      if (end_) return finish(*end_);
      byte_buffer response = buffers_->take();
      switch (session_->produce(response, now)) {
        case vstream_session::step::response:
          if (faults_ == nullptr) return send(std::move(response));
          switch (go_wrong(response)) {
            case outcome::as_it_is:
              return send(std::move(response));
            case outcome::sent:
              return;
            case outcome::altered:
              continue;
          }
          return;
        case vstream_session::step::ended:
          buffers_->give(std::move(response));
          return finish(grpc::Status(static_cast<grpc::StatusCode>(session_->status().code),
                                     session_->status().message));
        case vstream_session::step::idle:
          break;
      }
      if (faults_ != nullptr) {
        response.clear();
        const auto what = go_wrong(response);
        if (what == outcome::sent) return;
        if (what == outcome::altered) continue;
      }
      const auto interval = session_->heartbeat_interval();
      if (interval.count() > 0 && now >= last_sent_ + interval) {
        vstream_session::heartbeat(response);
        return send(std::move(response));
      }
      buffers_->give(std::move(response));
      arm_timer();
      if (rest()) return;
    }
  }

  /// Nothing to do; false when somebody has asked meanwhile.
  bool rest() {
    std::lock_guard lock(mutex_);
    if (asked_again_) {
      asked_again_ = false;
      return false;
    }
    busy_ = false;
    return true;
  }

  void arm_hold() {
    if (held_until_ == clock::time_point::max() || hold_timer_ == held_until_) return;
    hold_timer_ = held_until_;
    workers_.post_at(held_until_, [weak = weak_from_this()] {
      if (const auto held = weak.lock()) held->wake();
    });
  }

  enum class outcome : std::uint8_t {
    as_it_is,  ///< The response goes out as it was made.
    sent,      ///< Something is on its way, or the call is over.
    altered,   ///< What comes next is in altered_, held_until_ and end_.
  };

  /// Looks for a fault that is due; an empty response stands for none. The response is kept, changed or
  /// dropped.
  outcome go_wrong(byte_buffer& response) {
    call_view view;
    view.reads = [this](const auto& keyspace, const auto& shard, const auto& table) {
      return session_->reads(keyspace, shard, table);
    };
    view.copying = session_->last_is_copy();
    view.peeks = session_->peeks();
    view.rows = session_->rows_sent();
    view.has_response = !response.empty();
    vtgate::VStreamResponse whole;
    if (view.has_response) whole.ParseFromArray(response.data(), static_cast<int>(response.size()));
    auto head = transaction_head(whole);
    view.has_transaction = head.has_value();
    const auto fault = faults_->next(view, faults_had_);
    if (!fault) {
      if (!trickling_ || !view.has_response) return outcome::as_it_is;
      alter_into_pieces(whole);
      return outcome::altered;
    }
    switch (fault->kind) {
      case fault_kind::close:
        finish(grpc::Status::OK);
        return outcome::sent;
      case fault_kind::reset:
        context_.TryCancel();
        finish(grpc::Status(grpc::StatusCode::CANCELLED, "reset"));
        return outcome::sent;
      case fault_kind::stall:
        held_until_ = fault->duration ? clock::now() + *fault->duration : clock::time_point::max();
        beats_while_held_ = fault->heartbeats;
        if (view.has_response) altered_.push_back(std::move(response));
        return outcome::altered;
      case fault_kind::status:
        finish(grpc::Status(static_cast<grpc::StatusCode>(fault->code), fault->message));
        return outcome::sent;
      case fault_kind::garbage: {
        byte_buffer noise = garbage(fault->bytes);
        send(std::move(noise));
        return outcome::sent;
      }
      case fault_kind::oversized: {
        send_oversized(fault->bytes);
        return outcome::sent;
      }
      case fault_kind::trickle:
        trickling_ = true;
        pace_ = *fault->duration;
        piece_ = fault->events;
        alter_into_pieces(whole);
        return outcome::altered;
      case fault_kind::duplicate_begin:
        altered_.push_back(serialized(*head));
        altered_.push_back(std::move(response));
        return outcome::altered;
      case fault_kind::half_transaction:
        altered_.push_back(serialized(*head));
        end_ = grpc::Status(static_cast<grpc::StatusCode>(fault->code), fault->message);
        return outcome::altered;
      default:
        return outcome::as_it_is;
    }
  }

  /// Everything up to the middle of the rows of the first transaction that begins in the response.
  static std::optional<vtgate::VStreamResponse> transaction_head(const vtgate::VStreamResponse& whole) {
    int begin = 0;
    while (begin < whole.events_size() && whole.events(begin).type() != binlogdata::BEGIN) ++begin;
    std::vector<int> rows;
    for (int i = begin; i < whole.events_size() && whole.events(i).type() != binlogdata::VGTID; ++i)
      if (whole.events(i).type() == binlogdata::ROW) rows.push_back(i);
    if (rows.empty()) return std::nullopt;
    const int last = rows[(rows.size() - 1) / 2];
    vtgate::VStreamResponse out;
    for (int i = 0; i <= last; ++i) *out.add_events() = whole.events(i);
    auto& changes = *out.mutable_events(last)->mutable_row_event()->mutable_row_changes();
    if (changes.size() > 1 && rows.size() == 1)
      changes.DeleteSubrange((changes.size() + 1) / 2, changes.size() / 2);
    return out;
  }

  static byte_buffer serialized(const google::protobuf::MessageLite& message) {
    byte_buffer out;
    out.append(message.SerializeAsString());
    return out;
  }

  void alter_into_pieces(const vtgate::VStreamResponse& whole) {
    vtgate::VStreamResponse piece;
    for (const auto& event : whole.events()) {
      *piece.add_events() = event;
      if (static_cast<std::size_t>(piece.events_size()) < piece_) continue;
      altered_.push_back(serialized(piece));
      piece.Clear();
    }
    if (piece.events_size() > 0) altered_.push_back(serialized(piece));
  }

  /// Bytes that no decoder takes for a response.
  static byte_buffer garbage(std::size_t size) {
    byte_buffer out;
    for (std::uint64_t i = 0; out.size() < size; ++i) {
      const std::uint64_t word = mix(size + i);
      out.append(
          {reinterpret_cast<const char*>(&word), std::min<std::size_t>(sizeof word, size - out.size())});
    }
    out.data()[0] = '\x0f';  // a field of a wire type that does not exist
    return out;
  }

  void send_oversized(std::size_t size) {
    static const std::vector<char> zeroes(std::size_t{1} << 20);
    std::vector<grpc::Slice> slices;
    for (std::size_t left = size; left > 0;) {
      const std::size_t part = std::min(left, zeroes.size());
      slices.emplace_back(zeroes.data(), part, grpc::Slice::STATIC_SLICE);
      left -= part;
    }
    last_sent_ = clock::now();
    outgoing_ = grpc::ByteBuffer(slices.data(), slices.size());
    start_write();
  }

  void arm_timer() {
    const auto interval = session_->heartbeat_interval();
    auto when = session_->deadline();
    if (interval.count() > 0 && (!when || *when > last_sent_ + interval)) when = last_sent_ + interval;
    if (when) wake_at(*when);
  }

  void wake_at(clock::time_point when) {
    // Who comes too early finds nothing to do; a later one is asked for then.
    if (timer_ <= when && timer_ > clock::now()) return;
    timer_ = when;
    workers_.post_at(when, [weak = weak_from_this()] {
      if (const auto held = weak.lock()) held->wake();
    });
  }

  void send(byte_buffer response) {
    last_sent_ = clock::now();
    if (response.size() < small_response) {
      grpc::Slice slice(response.data(), response.size());
      outgoing_ = grpc::ByteBuffer(&slice, 1);
      buffers_->give(std::move(response));
    } else {
      auto loan = std::make_unique<loaned_buffer>();
      loan->pool = buffers_;
      loan->buffer = std::move(response);
      char* const data = loan->buffer.data();
      const std::size_t size = loan->buffer.size();
      grpc::Slice slice(data, size, give_back, loan.release());
      outgoing_ = grpc::ByteBuffer(&slice, 1);
    }
    start_write();
  }

  void start_write() {
    hand_to_grpc(&outgoing_);
    StartWrite(&outgoing_);
  }

  void finish(const grpc::Status& status) {
    {
      std::lock_guard lock(mutex_);
      if (finished_) return;
      finished_ = true;
    }
    hand_to_grpc(this);
    Finish(status);
  }

  const branch& source_;
  const stream_options& options_;
  worker_pool& workers_;
  const std::shared_ptr<buffer_pool> buffers_;
  fault_injector* const faults_;
  grpc::CallbackServerContext& context_;
  vtgate::VStreamRequest request_;
  std::shared_ptr<call> self_;
  std::unique_ptr<vstream_session> session_;
  grpc::ByteBuffer outgoing_;
  clock::time_point last_sent_;
  // What faults have made of the call.
  std::vector<bool> faults_had_;
  std::deque<byte_buffer> altered_;
  std::optional<grpc::Status> end_;
  clock::time_point held_until_ = clock::time_point::min();
  clock::time_point hold_timer_ = clock::time_point::min();
  /// When the call is woken next, if that is still to come.
  clock::time_point timer_ = clock::time_point::min();
  std::chrono::milliseconds pace_{0};
  std::size_t piece_ = 1;
  bool trickling_ = false;
  bool beats_while_held_ = false;
  std::atomic<bool> cancelled_{false};
  std::mutex mutex_;
  /// A response is being made or sent.
  bool busy_ = true;
  bool asked_again_ = false;
  bool finished_ = false;
};

/// A call that was refused before it began.
class refused_call final : public grpc::ServerWriteReactor<grpc::ByteBuffer> {
 public:
  explicit refused_call(const grpc::Status& status) { Finish(status); }
  void OnDone() override { delete this; }
};

class service final
    : public vtgateservice::Vitess::WithRawCallbackMethod_VStream<vtgateservice::Vitess::Service> {
 public:
  service(const branch& source, const vstream_server_options& options, worker_pool& workers)
      : source_(source), options_(options), workers_(workers) {
    basic_ = "Basic ";
    append_base64(basic_, options_.username + ":" + options_.password);
  }

  grpc::ServerWriteReactor<grpc::ByteBuffer>* VStream(grpc::CallbackServerContext* context,
                                                      const grpc::ByteBuffer* bytes) override {
    if (const auto status = admit(*context); !status.ok()) return new refused_call(status);
    vtgate::VStreamRequest request;
    std::vector<grpc::Slice> slices;
    if (!bytes->Dump(&slices).ok())
      return new refused_call(grpc::Status(grpc::StatusCode::INTERNAL, "the request cannot be read"));
    std::string joined;
    for (const auto& slice : slices)
      joined.append(reinterpret_cast<const char*>(slice.begin()), slice.size());
    if (!request.ParseFromString(joined))
      return new refused_call(
          grpc::Status(grpc::StatusCode::INTERNAL, "the request is not a VStreamRequest"));
    auto made =
        std::make_shared<call>(source_, options_.streams, workers_, buffers_, options_.faults, *context);
    made->begin(std::move(request));
    return made.get();
  }

 private:
  grpc::Status admit(const grpc::CallbackServerContext& context) const {
    const auto& metadata = context.client_metadata();
    const bool has_login = metadata.count("authorization") + metadata.count("username") > 0;
    if (has_login && options_.login_seen) options_.login_seen();
    if (options_.username.empty()) return grpc::Status::OK;
    const auto value = [&](const char* key) -> std::optional<std::string> {
      const auto found = metadata.find(key);
      if (found == metadata.end()) return std::nullopt;
      return std::string(found->second.data(), found->second.size());
    };
    if (const auto header = value("authorization")) {
      if (*header == basic_) return grpc::Status::OK;
      return grpc::Status(grpc::StatusCode::PERMISSION_DENIED,
                          "auth failure: caller provided invalid credentials");
    }
    const auto username = value("username");
    const auto password = value("password");
    if (!username || !password)
      return grpc::Status(grpc::StatusCode::UNAUTHENTICATED, "username and password must be provided");
    if (*username == options_.username && *password == options_.password) return grpc::Status::OK;
    return grpc::Status(grpc::StatusCode::PERMISSION_DENIED,
                        "auth failure: caller \"" + *username + "\" provided invalid credentials");
  }

  const branch& source_;
  const vstream_server_options& options_;
  worker_pool& workers_;
  const std::shared_ptr<buffer_pool> buffers_ = std::make_shared<buffer_pool>();
  /// The authorization header that is expected.
  std::string basic_;
};

std::optional<std::string> read_all(const std::string& file) {
  std::ifstream in(file, std::ios::binary);
  if (!in) return std::nullopt;
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

}  // namespace

class vstream_server::impl {
 public:
  impl(const branch& source, vstream_server_options options)
      : options_(std::move(options)),
        workers_(std::clamp<std::size_t>(std::thread::hardware_concurrency(), 2, 8)),
        service_(source, options_, workers_) {}
  ~impl() { stop(); }

  result<void> listen() {
    std::shared_ptr<grpc::ServerCredentials> credentials = grpc::InsecureServerCredentials();
    if (!options_.tls_cert_file.empty()) {
      const auto certificate = read_all(options_.tls_cert_file);
      const auto key = read_all(options_.tls_key_file);
      if (!certificate || !key)
        return fail(error_code::config_invalid, "The certificate " + options_.tls_cert_file + " or its key " +
                                                    options_.tls_key_file + " cannot be read.");
      grpc::SslServerCredentialsOptions tls;
      if (!options_.tls_client_ca_file.empty()) {
        const auto authorities = read_all(options_.tls_client_ca_file);
        if (!authorities)
          return fail(error_code::config_invalid,
                      "The certificate file " + options_.tls_client_ca_file + " cannot be read.");
        tls.client_certificate_request = GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY;
        tls.pem_root_certs = *authorities;
      }
      tls.pem_key_cert_pairs.push_back({*key, *certificate});
      credentials = grpc::SslServerCredentials(tls);
    }
    grpc::ServerBuilder builder;
    int port = 0;
    const bool ipv6 = options_.listen.find(':') != std::string::npos;
    const std::string address =
        (ipv6 ? "[" + options_.listen + "]" : options_.listen) + ":" + std::to_string(options_.port);
    builder.AddListeningPort(address, credentials, &port);
    builder.RegisterService(&service_);
    builder.SetMaxReceiveMessageSize(-1);
    builder.SetMaxSendMessageSize(-1);
    builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
    builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, INT_MAX);
    builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
    builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, 1000);
    builder.AddChannelArgument(GRPC_ARG_HTTP2_MAX_PING_STRIKES, 0);
    server_ = builder.BuildAndStart();
    if (!server_ || port <= 0)
      return fail(error_code::config_invalid, "The gRPC port cannot be opened at " + address +
                                                  ": it is in use, or the address, the certificate or "
                                                  "its key is not usable.");
    port_ = static_cast<std::uint16_t>(port);
    return {};
  }

  std::uint16_t port() const { return port_; }

  void stop() {
    if (server_) server_->Shutdown(std::chrono::system_clock::now());
    server_.reset();
    workers_.stop();
  }

 private:
  const vstream_server_options options_;
  worker_pool workers_;
  service service_;
  std::unique_ptr<grpc::Server> server_;
  std::uint16_t port_ = 0;
};

vstream_server::vstream_server(std::unique_ptr<impl> implementation) : impl_(std::move(implementation)) {}
vstream_server::~vstream_server() = default;

result<std::unique_ptr<vstream_server>> vstream_server::start(const branch& source,
                                                              vstream_server_options options) {
  auto made = std::make_unique<impl>(source, std::move(options));
  if (auto listening = made->listen(); !listening) return tl::unexpected(std::move(listening.error()));
  return std::unique_ptr<vstream_server>(new vstream_server(std::move(made)));
}

std::uint16_t vstream_server::port() const { return impl_->port(); }
void vstream_server::stop() { impl_->stop(); }

}  // namespace psource::local_branch
