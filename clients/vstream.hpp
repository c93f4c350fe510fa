// The seam between the engine and the database's streams: bytes in, bytes out, no gRPC in sight.
//
// The gRPC implementation is clients/grpc_vstream.hpp; simulations implement the same interface with scripted bytes.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "protocol/failure.hpp"
#include "protocol/names.hpp"

namespace psource {

/// One serialized vtgate.VStreamResponse: its bytes, in the pieces in which the transport has them. Owns them.
class response_bytes {
 public:
  response_bytes(const response_bytes&) = delete;
  response_bytes& operator=(const response_bytes&) = delete;
  virtual ~response_bytes() = default;

  /// Bytes of all pieces.
  std::size_t size() const { return size_; }
  /// The pieces, in order; a field may be cut anywhere. They hold as long as the object does.
  const std::string_view* begin() const { return pieces_.empty() ? &whole_ : pieces_.data(); }
  const std::string_view* end() const { return pieces_.empty() ? &whole_ + 1 : pieces_.data() + pieces_.size(); }
  /// Put together: a copy.
  std::string joined() const {
    std::string all;
    all.reserve(size_);
    for (const std::string_view piece : *this) all += piece;
    return all;
  }

 protected:
  response_bytes() = default;
  void set(std::string_view whole) {
    whole_ = whole;
    size_ = whole.size();
  }
  void set(std::vector<std::string_view> pieces) {
    pieces_ = std::move(pieces);
    for (const std::string_view piece : pieces_) size_ += piece.size();
  }

 private:
  std::string_view whole_;                // Where there are no pieces_.
  std::vector<std::string_view> pieces_;  // Empty where the response is in one piece.
  std::size_t size_ = 0;
};

/// A response in one piece.
class whole_response final : public response_bytes {
 public:
  explicit whole_response(std::string bytes) : bytes_(std::move(bytes)) { set(bytes_); }

 private:
  const std::string bytes_;
};

/// Shared, because messages between threads are copied.
using response_buffer = std::shared_ptr<const response_bytes>;

/// How a stream ended. `status_code` is the gRPC status number (0 = the server closed the stream in good order).
struct stream_end {
  int status_code = 0;
  /// The server's text, word for word. Of a call that we cancelled nothing is asked: it is CANCELLED, without one.
  std::string message;
  /// The call was ended by our own cancel().
  bool cancelled_by_us = false;
};

/// Hears what happens to a call. All functions run on a thread of the transport and must not block. Where the handle is dropped, on_end()
/// may run on the thread that drops it.
class vstream_listener {
 public:
  virtual ~vstream_listener() = default;
  /// At least one response can be taken. Once per burst: it is not called again before take() has returned nullptr.
  virtual void on_ready() = 0;
  /// The call is over. Exactly once per open(), last; responses that were read before can still be taken.
  virtual void on_end(stream_end end) = 0;
};

/// One running VStream call. Handle functions may be called from any thread. Dropping the handle cancels the call;
/// the transport keeps what it needs until the end was told.
class vstream_call {
 public:
  virtual ~vstream_call() = default;
  /// The next response, or nullptr when none is ready now (on_ready() will tell when one is). The transport reads ahead
  /// while less than 1 MiB is ready (and less than 4 MiB of all calls is there, taken or not), so not taking is what holds the
  /// server back. It may read on only when take() has found nothing: take until then.
  virtual response_buffer take() = 0;
  /// Asks the call to end; on_end() follows. May be repeated.
  virtual void cancel() = 0;
};

/// A request in serialized form: the bytes of a vtgate.VStreamRequest.
struct vstream_request {
  std::string bytes;
  /// Tells the responses behind which most likely nothing more is wanted, so that the transport need not read on there before
  /// take() has found nothing. Runs on a thread of the transport. May be empty: it reads on behind all of them.
  bool (*is_last)(const response_bytes&) = nullptr;
};

/// Opens calls. Thread-safe.
class vstream_client {
 public:
  virtual ~vstream_client() = default;
  /// Starts a call at once and returns without waiting. The listener is shared with the transport until on_end() returned;
  /// it may hear before open() has returned.
  virtual std::unique_ptr<vstream_call> open(vstream_request request, std::shared_ptr<vstream_listener> listener) = 0;
  /// For connections that are dead without a word: calls opened from now on use none that was in use before `silence`
  /// began, `silence` being how long the caller has heard nothing.
  virtual void reconnect(std::chrono::milliseconds silence) = 0;
  /// Calls that have something for us: responses came since take() last found nothing, and take() has not found nothing again.
  /// The others wait for their servers.
  virtual std::size_t fed_calls() const = 0;
  /// So many calls may run at once from now on: what each may have under way follows from it.
  virtual void expect_calls(std::size_t at_once) = 0;
};

}  // namespace psource
