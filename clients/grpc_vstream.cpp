// VStream calls over gRPC: channels, calls, and the rules of gRPC's callback API in one place.
#include "clients/grpc_vstream.hpp"

#include <grpc/grpc.h>
#include <grpc/support/log.h>
#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/security/credentials.h>
#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/channel_arguments.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <cstring>
#include <deque>
#include <iterator>
#include <map>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include "clients/grpc_order.hpp"
#include "clients/grpc_window.hpp"
#include "clients/tls_material.hpp"
#include "protocol/base64.hpp"

#ifndef PSOURCE_VERSION
#define PSOURCE_VERSION "0"
#endif

namespace psource {
namespace {

constexpr char vstream_method[] = "/vtgateservice.Vitess/VStream";

// What a response costs beside its bytes. Counted too, or empty responses could pile up without end.
constexpr std::size_t response_overhead = 128;

// ---- gRPC's log
// -------------------------------------------------------------------------------------------------

// gRPC's log function is a plain pointer of the process, so what it needs is too. Never destroyed: gRPC's
// threads may log until the very end.
struct log_target {
  std::mutex mutex;
  std::shared_ptr<const std::function<void(std::string_view)>> sink;
  std::string last_tls_error;
};

log_target& process_log() {
  static log_target& target = *new log_target;
  return target;
}

void receive_log_line(gpr_log_func_args* args) {
  if (args->severity < GPR_LOG_SEVERITY_ERROR) {
    return;
  }
  const std::string_view line = args->message;
  const bool about_tls = std::strstr(args->file, "ssl") != nullptr ||
                         std::strstr(args->file, "tls") != nullptr ||
                         line.find("andshake") != std::string_view::npos;
  log_target& log = process_log();
  std::shared_ptr<const std::function<void(std::string_view)>> sink;
  {
    std::lock_guard<std::mutex> lock(log.mutex);
    if (about_tls) {
      log.last_tls_error = line;
    }
    sink = log.sink;
  }
  if (sink && *sink) {
    (*sink)(line);
  }
}

void take_over_grpc_log() {
  static std::once_flag once;
  std::call_once(once, [] { gpr_set_log_function(receive_log_line); });
}

// ---- Settings -> gRPC
// -------------------------------------------------------------------------------------------

using metadata_list = std::vector<std::pair<std::string, std::string>>;

// gRPC ends the process when metadata holds a byte that HTTP/2 does not allow: refuse such values here.
bool can_be_header(const std::string& value) {
  return std::all_of(value.begin(), value.end(), [](char c) { return c >= 0x20 && c <= 0x7e; });
}

result<metadata_list> authentication_metadata(const connection_settings& settings) {
  metadata_list metadata;
  if (settings.username.empty()) {
    return metadata;
  }
  switch (settings.auth) {
    case grpc_auth::none:
      break;
    case grpc_auth::basic_header:
      if (settings.username.find(':') != std::string::npos) {
        return fail(error_code::config_invalid,
                    "username must not contain a colon: the server would cut it there.");
      }
      metadata.emplace_back("authorization", "Basic ");
      append_base64(metadata.back().second, settings.username + ":" + settings.password);
      break;
    case grpc_auth::username_password:
      if (!can_be_header(settings.username) || !can_be_header(settings.password)) {
        return fail(error_code::config_invalid,
                    "username and password may hold printable ASCII characters only: they are sent as gRPC "
                    "metadata.");
      }
      metadata.emplace_back("username", settings.username);
      metadata.emplace_back("password", settings.password);
      break;
  }
  return metadata;
}

result<std::string> target_of(const connection_settings& settings) {
  const std::string& host = settings.host;
  const bool allowed = !host.empty() && std::all_of(host.begin(), host.end(), [](unsigned char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           (c != 0 && std::strchr("-._:%", c) != nullptr);
  });
  if (!allowed) {
    return fail(error_code::config_invalid,
                "host must be a host name or an IP address alone, without a scheme, a path or a port.");
  }
  if (settings.port == 0) {
    return fail(error_code::config_invalid, "port must be between 1 and 65535.");
  }
  const bool ipv6 = host.find(':') != std::string::npos;
  return "dns:///" + (ipv6 ? "[" + host + "]" : host) + ":" + std::to_string(settings.port);
}

result<std::shared_ptr<grpc::ChannelCredentials>> credentials_of(const tls_settings& tls) {
  if (!tls.enabled) {
    return grpc::InsecureChannelCredentials();
  }
  if (auto checked = check_tls_material(tls); !checked) {
    return fail(checked.error());
  }
  if (tls.ca_certificate.empty()) {
    // Left empty below: gRPC reads the same file, and then shares one parsed copy between channels.
    if (auto roots = system_roots_file(); !roots) {
      return fail(roots.error());
    }
  }
  grpc::SslCredentialsOptions options;
  options.pem_root_certs = tls.ca_certificate;
  options.pem_private_key = tls.client_key;
  options.pem_cert_chain = tls.client_certificate;
  return grpc::SslCredentials(options);
}

// `window_is_set`: to plan.window, for the whole process. gRPC asks for it where it would probe.
grpc::ChannelArguments arguments_of(const tls_settings& tls, const channel_plan& plan, bool window_is_set,
                                    const transport_limits& limits) {
  grpc::ChannelArguments args;
  // Otherwise channels with equal arguments share one connection.
  args.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  args.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, plan.bdp_probe || window_is_set ? 1 : 0);
  // How much one read of the socket may allocate for (see memory_settings.hpp): gRPC's own limit of 4 MiB is more memory per
  // connection, and no faster.
  args.SetInt(GRPC_ARG_TCP_MAX_READ_CHUNK_SIZE, 256 * 1024);
  args.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, 30'000);
  args.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 10'000);
  // An idle stream is silent for long: without this gRPC stops pinging after two pings.
  args.SetInt(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  // vtgate answers pings on a connection without calls with "too_many_pings".
  args.SetInt(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 0);
  args.SetMaxReceiveMessageSize(static_cast<int>(std::min<std::size_t>(limits.receive_limit, 0x7fffffff)));
  args.SetMaxSendMessageSize(-1);
  // Retries belong to the engine, which knows the last complete position.
  args.SetInt(GRPC_ARG_ENABLE_RETRIES, 0);
  args.SetInt(GRPC_ARG_SERVICE_CONFIG_DISABLE_RESOLUTION, 1);
  // A compressed response ends its call all the same. Not unpacked before that: the limit on responses counts
  // what arrives, and few bytes can unpack to very many.
  args.SetInt(GRPC_COMPRESSION_CHANNEL_ENABLED_ALGORITHMS_BITSET, 1 << GRPC_COMPRESS_NONE);
  args.SetInt(GRPC_ARG_ENABLE_PER_MESSAGE_DECOMPRESSION, 0);
  args.SetUserAgentPrefix("source-planetscale/" PSOURCE_VERSION);
  if (tls.enabled && !tls.server_name.empty()) {
    args.SetSslTargetNameOverride(tls.server_name);
  }
  return args;
}

// The memory of large responses that were used up, for the next ones: fresh memory of that size would have to be cleared by
// the system each time, and leaves holes in the heap. Lives as long as the last response.
class response_pool : public std::enable_shared_from_this<response_pool> {
 public:
  // One copy into contiguous memory. Keeping gRPC's slices instead would pin its much larger read blocks.
  response_buffer flatten(grpc::ByteBuffer& in) {
    std::vector<grpc::Slice> slices;
    const std::size_t size = in.Valid() && in.Dump(&slices).ok() ? in.Length() : 0;
    std::unique_ptr<std::string> out = take(size);
    for (const grpc::Slice& slice : slices) {
      out->append(reinterpret_cast<const char*>(slice.begin()), slice.size());
    }
    in.Clear();
    return {out.release(), [pool = shared_from_this()](std::string* used) { pool->give_back(used); }};
  }

 private:
  // Two of vtgate's usual responses for each of a few streams; more are in use than lie here.
  static constexpr std::size_t most_kept = std::size_t{4} << 20;
  // Sizes are rounded up to this, so that responses of about one size fit into each other's memory. Smaller ones are left to
  // the heap: rounded up, many waiting ones would hold far more than their bytes.
  static constexpr std::size_t step = std::size_t{32} << 10;

  // Empty, with room for so many bytes and not for many more: a string that grows by itself would double instead.
  std::unique_ptr<std::string> take(std::size_t size) {
    const std::size_t room = size < step ? size : (size + step - 1) / step * step;
    if (size >= step) {
      std::lock_guard<std::mutex> lock(mutex_);
      const auto fits = std::find_if(free_.rbegin(), free_.rend(), [&](const auto& one) {
        return one->capacity() >= size && one->capacity() - size <= size / 2 + step;
      });
      // The oldest makes way where none fits, or sizes that do not come any more would stay for ever.
      const bool found = fits != free_.rend();
      if (found || !free_.empty()) {
        const auto leaving = found ? std::prev(fits.base()) : free_.begin();
        std::unique_ptr<std::string> left = std::move(*leaving);
        free_.erase(leaving);
        kept_ -= left->capacity();
        if (found) {
          return left;
        }
      }
    }
    auto fresh = std::make_unique<std::string>();
    fresh->reserve(room);
    return fresh;
  }

  void give_back(std::string* used) {
    std::unique_ptr<std::string> owned(used);
    owned->clear();
    std::lock_guard<std::mutex> lock(mutex_);
    if (owned->capacity() < step || owned->capacity() > most_kept - kept_) {
      return;
    }
    kept_ += owned->capacity();
    free_.push_back(std::move(owned));
  }

  std::mutex mutex_;
  std::vector<std::unique_ptr<std::string>> free_;  // The oldest first.
  std::size_t kept_ = 0;                            // Bytes of free_, at most most_kept.
};

// One channel and what runs on it. The counts are guarded by the hub's mutex.
struct channel_slot {
  explicit channel_slot(std::shared_ptr<grpc::Channel> c) : channel(std::move(c)), stub(channel) {}
  std::shared_ptr<grpc::Channel> channel;
  grpc::GenericStub stub;
  std::size_t running = 0;
  std::optional<std::chrono::steady_clock::time_point> used_since;  // A call was dealt to it then, the first.
  bool has_queue = false;  // A call was prepared on it, so it shares in gRPC's callback threads.
};

}  // namespace

// ---- Channels
// ---------------------------------------------------------------------------------------------------

// The channels, the calls that run on them, and the settings of both. Shared with every call.
//
// gRPC 1.51 keeps one set of callback threads for the process and counts the channels that share it. The last
// such channel to go joins these threads, so it must never go on one of them: that would corrupt memory.
// Therefore calls hold plain pointers to slots, slots are freed by open() only while another one has a share,
// and the rest by close().
class grpc_vstream_client::hub {
 public:
  hub(std::string target, std::shared_ptr<grpc::ChannelCredentials> credentials, grpc::ChannelArguments args,
      metadata_list metadata, unsigned channels, transport_limits limits)
      : metadata(std::move(metadata)),
        limits(limits),
        target_(std::move(target)),
        credentials_(std::move(credentials)),
        args_(std::move(args)) {
    for (unsigned i = 0; i < std::max(channels, 1U); ++i) {
      live_.push_back(make_slot());
    }
  }

  // The slot for a new call, already counted as running there; finished() gives it back.
  channel_slot* pick() {
    std::lock_guard<std::mutex> lock(mutex_);
    auto best = std::min_element(live_.begin(), live_.end(),
                                 [](const auto& a, const auto& b) { return a->running < b->running; });
    const grpc_connectivity_state state = (*best)->channel->GetState(/*try_to_connect=*/false);
    if (state == GRPC_CHANNEL_TRANSIENT_FAILURE || state == GRPC_CHANNEL_SHUTDOWN) {
      retired_.push_back(std::exchange(*best, make_slot()));
    }
    (*best)->running += 1;
    if (!(*best)->used_since) {
      (*best)->used_since = std::chrono::steady_clock::now();
    }
    running_ += 1;
    return best->get();
  }

  // The call is about to run: gRPC has prepared it.
  void started(channel_slot& slot, std::uint64_t call_id, const std::shared_ptr<running_call>& call) {
    std::vector<std::unique_ptr<channel_slot>> unused;  // Freed after the mutex is released.
    std::lock_guard<std::mutex> lock(mutex_);
    slot.has_queue = true;
    calls_.emplace(call_id, call);
    if (std::any_of(live_.begin(), live_.end(), [](const auto& s) { return s->has_queue; })) {
      auto first = std::stable_partition(retired_.begin(), retired_.end(),
                                         [](const auto& s) { return s->running > 0; });
      std::move(first, retired_.end(), std::back_inserter(unused));
      retired_.erase(first, retired_.end());
    }
  }

  // The call is gone.
  void finished(channel_slot& slot, std::uint64_t call_id) {
    std::lock_guard<std::mutex> lock(mutex_);
    calls_.erase(call_id);
    slot.running -= 1;
    running_ -= 1;
    if (running_ == 0) {
      idle_.notify_all();
    }
  }

  void reconnect(std::chrono::milliseconds silence) {
    const auto silent_since = std::chrono::steady_clock::now() - silence;
    std::lock_guard<std::mutex> lock(mutex_);
    for (auto& slot : live_) {
      // Many streams notice a dead line one after the other; what was made for the first of them is fresh
      // enough for all.
      if (slot->used_since && *slot->used_since <= silent_since) {
        retired_.push_back(std::exchange(slot, make_slot()));
      }
    }
  }

  bool wait_until_idle(std::chrono::milliseconds timeout) {
    std::unique_lock<std::mutex> lock(mutex_);
    return idle_.wait_for(lock, timeout, [this] { return running_ == 0; });
  }

  // Ends every call, waits for the ends, and frees the channels on this thread.
  void close();

  std::size_t running() const {
    std::lock_guard<std::mutex> lock(mutex_);
    return running_;
  }

  const metadata_list metadata;
  const transport_limits limits;
  const std::shared_ptr<response_pool> responses = std::make_shared<response_pool>();
  std::atomic<std::size_t> held_bytes{0};
  std::atomic<std::uint64_t> next_call_id{0};

 private:
  std::unique_ptr<channel_slot> make_slot() {
    return std::make_unique<channel_slot>(grpc::CreateCustomChannel(target_, credentials_, args_));
  }

  const std::string target_;
  const std::shared_ptr<grpc::ChannelCredentials> credentials_;
  const grpc::ChannelArguments args_;
  mutable std::mutex mutex_;
  std::condition_variable idle_;
  std::vector<std::unique_ptr<channel_slot>> live_;
  std::vector<std::unique_ptr<channel_slot>> retired_;
  std::map<std::uint64_t, std::weak_ptr<running_call>> calls_;
  std::size_t running_ = 0;
};

// ---- One call
// ---------------------------------------------------------------------------------------------------

// Owns itself from start() until OnDone. Reads are started by reactions and by take(), that is from outside a
// reaction; therefore one hold is kept from before StartCall until it is certain that no read will be started
// any more: after OnReadDone(false), or once cancelled with no read under way. While `reading_` is true the
// hold stays, so StartRead can be called after the mutex is released.
class grpc_vstream_client::running_call final
    : public grpc::ClientBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer> {
 public:
  running_call(std::shared_ptr<hub> hub, std::string request, std::shared_ptr<vstream_listener> listener)
      : hub_(std::move(hub)), slot_(hub_->pick()), listener_(std::move(listener)) {
    grpc::Slice bytes(request);
    request_ = grpc::ByteBuffer(&bytes, 1);
    for (const auto& [key, value] : hub_->metadata) {
      context_.AddMetadata(key, value);
    }
  }
  running_call(const running_call&) = delete;
  running_call& operator=(const running_call&) = delete;
  ~running_call() override { hub_->held_bytes -= ready_bytes_; }

  void start(const std::shared_ptr<running_call>& self) {
    self_ = self;
    slot_->stub.PrepareBidiStreamingCall(&context_, vstream_method, {}, this);
    AddHold();
    reading_ = true;
    StartWriteLast(&request_, grpc::WriteOptions());
    StartRead(&incoming_);
    hub_->started(*slot_, id_, self);  // Before StartCall, after which the end may come at any moment.
    hand_to_grpc(&incoming_);
    hand_to_grpc(this);
    StartCall();
  }

  response_buffer take() {
    response_buffer taken;
    bool read = false;
    {
      std::lock_guard<std::mutex> lock(mutex_);
      if (ready_.empty()) {
        announced_ = false;
      } else {
        taken = std::move(ready_.front());
        ready_.pop_front();
        const std::size_t cost = taken->size() + response_overhead;
        ready_bytes_ -= cost;
        hub_->held_bytes -= cost;
      }
      // Whoever found nothing waits for the next response: that is not read ahead.
      if (held_ && !reading_ && !cancelled_ && (taken == nullptr || may_read_ahead())) {
        reading_ = read = true;
      }
    }
    if (read) {
      hand_to_grpc(&incoming_);
      StartRead(&incoming_);
    }
    return taken;
  }

  void cancel() {
    bool release = false;
    {
      std::lock_guard<std::mutex> lock(mutex_);
      if (cancelled_ || ended_) {
        return;
      }
      cancelled_ = true;
      if (held_ && !reading_) {
        held_ = false;
        release = true;
      }
    }
    context_.TryCancel();
    if (release) {
      RemoveHold();
    }
  }

  // Nobody can take any more: cancel, and give the memory back now.
  void abandon() {
    cancel();
    std::deque<response_buffer> unread;
    std::lock_guard<std::mutex> lock(mutex_);
    unread.swap(ready_);
    hub_->held_bytes -= ready_bytes_;
    ready_bytes_ = 0;
  }

  void OnReadDone(bool ok) override {
    take_from_grpc(&incoming_);
    if (!ok) {
      bool release = false;
      {
        std::lock_guard<std::mutex> lock(mutex_);
        reading_ = false;
        release = std::exchange(held_, false);
      }
      if (release) {
        RemoveHold();
      }
      return;
    }
    response_buffer response = hub_->responses->flatten(incoming_);
    bool announce = false;
    bool read = false;
    bool release = false;
    {
      std::lock_guard<std::mutex> lock(mutex_);
      if (cancelled_) {
        reading_ = false;
        release = std::exchange(held_, false);
      } else {
        const std::size_t cost = response->size() + response_overhead;
        ready_.push_back(std::move(response));
        ready_bytes_ += cost;
        hub_->held_bytes += cost;
        announce = !std::exchange(announced_, true);
        reading_ = read = may_read_ahead();
      }
    }
    if (announce) {
      listener_->on_ready();
    }
    hand_to_grpc(this);
    if (read) {
      hand_to_grpc(&incoming_);
      StartRead(&incoming_);
    }
    if (release) {
      RemoveHold();
    }
  }

  void OnDone(const grpc::Status& status) override {
    take_from_grpc(this);
    std::shared_ptr<running_call> self = std::move(self_);
    std::shared_ptr<vstream_listener> listener = std::move(listener_);
    const std::shared_ptr<hub> hub = hub_;
    channel_slot& slot = *slot_;
    const std::uint64_t id = id_;
    stream_end end;
    end.status_code = static_cast<int>(status.error_code());
    end.message = status.error_message();
    {
      std::lock_guard<std::mutex> lock(mutex_);
      ended_ = true;
      end.cancelled_by_us = cancelled_;
    }
    listener->on_end(std::move(end));
    listener.reset();
    self.reset();  // *this may be gone from here on.
    hub->finished(slot, id);
  }

 private:
  bool may_read_ahead() const {
    return ready_bytes_ < hub_->limits.read_ahead && hub_->held_bytes < hub_->limits.read_ahead_of_all;
  }

  const std::shared_ptr<hub> hub_;
  channel_slot* const slot_;  // Lives until hub::finished().
  const std::uint64_t id_ = hub_->next_call_id++;
  std::shared_ptr<vstream_listener> listener_;  // Set until OnDone; reactions and OnDone never overlap.
  std::shared_ptr<running_call> self_;
  grpc::ClientContext context_;
  grpc::ByteBuffer request_;
  grpc::ByteBuffer incoming_;  // Belongs to gRPC while reading_.

  std::mutex mutex_;
  std::deque<response_buffer> ready_;
  std::size_t ready_bytes_ = 0;
  bool reading_ = false;    // A read is under way, or its StartRead is about to be called.
  bool held_ = true;        // Our hold is in place.
  bool announced_ = false;  // on_ready() was called, and take() has not said "nothing" since.
  bool cancelled_ = false;
  bool ended_ = false;
};

void grpc_vstream_client::hub::close() {
  std::vector<std::shared_ptr<running_call>> calls;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    for (const auto& [id, call] : calls_) {
      calls.push_back(call.lock());
    }
  }
  for (const auto& call : calls) {
    if (call) {
      call->cancel();
    }
  }
  calls.clear();
  std::vector<std::unique_ptr<channel_slot>> live;
  std::vector<std::unique_ptr<channel_slot>> retired;
  std::unique_lock<std::mutex> lock(mutex_);
  idle_.wait(lock, [this] { return running_ == 0; });
  live.swap(live_);
  retired.swap(retired_);
}

class grpc_vstream_client::call_handle final : public vstream_call {
 public:
  explicit call_handle(std::shared_ptr<running_call> call) : call_(std::move(call)) {}
  ~call_handle() override { call_->abandon(); }
  response_buffer take() override { return call_->take(); }
  void cancel() override { call_->cancel(); }

 private:
  const std::shared_ptr<running_call> call_;
};

// ---- The client
// -------------------------------------------------------------------------------------------------

channel_plan plan_channels(unsigned streams, std::optional<std::chrono::microseconds> round_trip) {
  constexpr unsigned calls_per_channel = 90;
  constexpr unsigned few_streams = 8;
  // Twice what the fastest server sends (rows made up on the same machine), because a window is announced again only when half
  // of it is used up.
  constexpr std::uint64_t bytes_per_microsecond = 1500;
  constexpr std::uint64_t most_of_all = std::uint64_t{32} << 20;
  constexpr std::uint64_t most_of_one = std::uint64_t{16} << 20;
  // With less, one stream is slower over TLS, and each response wakes more threads.
  constexpr std::uint64_t least = std::uint64_t{1} << 20;
  // Below that a window of one's own brings nothing over gRPC's.
  constexpr std::uint64_t worth_it = std::uint64_t{128} << 10;
  const unsigned needed = streams / calls_per_channel + (streams % calls_per_channel != 0 ? 1 : 0);
  channel_plan plan;
  plan.channels = std::max({1U, needed, std::min(streams, 4U)});
  plan.bdp_probe = streams <= few_streams;
  if (!round_trip) {
    return plan;
  }
  // An hour is longer than any line; more could overflow.
  const auto microseconds =
      std::clamp<std::int64_t>(round_trip->count(), 0, std::int64_t{3'600'000'000});
  const std::uint64_t line = static_cast<std::uint64_t>(microseconds) * bytes_per_microsecond / plan.channels;
  const std::uint64_t window = std::min({line, most_of_all / std::max(1U, streams), most_of_one});
  if (streams <= few_streams) {
    plan.window = static_cast<std::size_t>(std::max(window, least));
  } else if (window >= worth_it) {
    plan.window = static_cast<std::size_t>(window);
  }
  return plan;
}

result<std::shared_ptr<grpc_vstream_client>> grpc_vstream_client::make(const connection_settings& settings,
                                                                       channel_plan plan,
                                                                       transport_limits limits) {
  take_over_grpc_log();
  result<std::string> target = target_of(settings);
  if (!target) {
    return fail(target.error());
  }
  result<metadata_list> metadata = authentication_metadata(settings);
  if (!metadata) {
    return fail(metadata.error());
  }
  auto credentials = credentials_of(settings.tls);
  if (!credentials) {
    return fail(credentials.error());
  }
  const bool window_is_set = set_grpc_window(plan.window);
  auto made = std::make_shared<hub>(*std::move(target), *std::move(credentials),
                                    arguments_of(settings.tls, plan, window_is_set, limits), *std::move(metadata),
                                    plan.channels, limits);
  return std::shared_ptr<grpc_vstream_client>(new grpc_vstream_client(std::move(made)));
}

grpc_vstream_client::grpc_vstream_client(std::shared_ptr<hub> hub) : hub_(std::move(hub)) {}
grpc_vstream_client::~grpc_vstream_client() { hub_->close(); }

std::unique_ptr<vstream_call> grpc_vstream_client::open(vstream_request request,
                                                        std::shared_ptr<vstream_listener> listener) {
  auto call = std::make_shared<running_call>(hub_, std::move(request.bytes), std::move(listener));
  auto handle = std::make_unique<call_handle>(call);
  call->start(call);
  return handle;
}

void grpc_vstream_client::reconnect(std::chrono::milliseconds silence) { hub_->reconnect(silence); }
bool grpc_vstream_client::wait_until_idle(std::chrono::milliseconds timeout) {
  return hub_->wait_until_idle(timeout);
}
std::size_t grpc_vstream_client::running_calls() const { return hub_->running(); }
std::size_t grpc_vstream_client::held_bytes() const { return hub_->held_bytes.load(); }

void set_grpc_log_sink(std::function<void(std::string_view line)> sink) {
  take_over_grpc_log();
  auto shared = std::make_shared<const std::function<void(std::string_view)>>(std::move(sink));
  log_target& log = process_log();
  std::lock_guard<std::mutex> lock(log.mutex);
  log.sink = std::move(shared);
}

std::string last_grpc_tls_error() {
  log_target& log = process_log();
  std::lock_guard<std::mutex> lock(log.mutex);
  return log.last_tls_error;
}

}  // namespace psource
