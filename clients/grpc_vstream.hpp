// VStream calls over gRPC: the real implementation of clients/vstream.hpp. No gRPC header is needed to use
// it.
#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "clients/connection.hpp"
#include "clients/read_ahead.hpp"
#include "clients/vstream.hpp"
#include "protocol/failure.hpp"

namespace psource {

/// How many connections to open, and how much may be under way on each.
struct channel_plan {
  unsigned channels = 1;
  /// gRPC may widen its windows by measuring the line, where `window` is 0 or cannot be had. With many stopped streams the
  /// measured windows take gigabytes; with few, a long line needs them.
  bool bdp_probe = true;
  /// Bytes that the server may send on each connection, and on each stream of it, beyond what is being read; 0 = gRPC decides.
  /// gRPC holds twice as much of a stream that nobody takes from.
  std::size_t window = 0;
  /// The same where more than `few` calls run at once; not larger.
  std::size_t window_of_many = 0;
  static constexpr std::size_t few = 32;
};

/// The plan for so many streams at once: max(ceil(streams / 90), min(streams, 4)) channels, at least one,
/// because servers allow about 100 calls per connection and say nothing when more wait. Where the time of a round trip is
/// known, windows follow from it: what the line can hold, and at least 1 MiB, but for all streams that run at once 32 MiB at most. Where
/// that is not larger than gRPC's own of 64 KiB by far, it is left to gRPC. Where the time is not known, gRPC probes up to 8 streams. Pure.
channel_plan plan_channels(unsigned streams, std::optional<std::chrono::microseconds> round_trip = std::nullopt);

/// Opens VStream calls over its own channels. Thread-safe.
///
/// Shutdown: cancel or drop all calls, wait_until_idle(), then end what the listeners talk to, then drop the
/// client. The last reference to the client must not be dropped by a listener.
class grpc_vstream_client final : public vstream_client {
 public:
  /// Connects to nothing yet: the first call does. Errors: config_invalid (host, credentials that cannot be
  /// sent, PEM texts), tls_failed (no root certificates on this system). The plan's window counts for the whole process
  /// (gRPC has it so): no other client with a window may be connected.
  static result<std::shared_ptr<grpc_vstream_client>> make(const connection_settings& settings,
                                                           channel_plan plan, transport_limits limits = {});
  /// Cancels what still runs and waits for its end.
  ~grpc_vstream_client() override;

  /// Goes to the channel with the fewest running calls. A channel whose last attempt to connect failed is
  /// replaced first, so a retry never waits for gRPC's own back-off. The listener may hear before open() has
  /// returned.
  std::unique_ptr<vstream_call> open(vstream_request request,
                                     std::shared_ptr<vstream_listener> listener) override;

  /// Calls opened from now on use fresh channels (name look-up included) in place of those whose first call is older
  /// than `silence`. Running calls keep theirs.
  void reconnect(std::chrono::milliseconds silence) override;
  std::size_t fed_calls() const override;
  void expect_calls(std::size_t at_once) override;

  /// Waits until every call's on_end() has returned and its resources are freed. False when the time is over.
  /// Not from a listener.
  bool wait_until_idle(std::chrono::milliseconds timeout);

  /// Calls whose on_end() has not returned yet.
  std::size_t running_calls() const;
  /// Bytes of the responses of all calls that are still there: not taken yet, or not freed by whoever took them. Any thread.
  std::size_t held_bytes() const;

 private:
  class hub;
  class running_call;
  class call_handle;
  grpc_vstream_client(std::shared_ptr<hub> hub, const channel_plan& plan);
  std::shared_ptr<hub> hub_;
  const channel_plan plan_;
};

/// gRPC writes errors of its own to a log of the process, by default stderr. The first make() takes that log
/// over: errors go to this sink (any thread; must not block), everything else is dropped. An empty sink drops
/// all.
void set_grpc_log_sink(std::function<void(std::string_view line)> sink);

}  // namespace psource
