// A TCP connection under one deadline for all that happens on it.
#pragma once

#include <sys/socket.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace psource {

/// An address with its port, as the resolver gives it.
struct socket_address {
  sockaddr_storage bytes{};
  socklen_t length = 0;
};

/// Blocking, for one thread; the socket itself does not block.
class deadline_socket {
 public:
  using clock = std::chrono::steady_clock;

  explicit deadline_socket(clock::time_point deadline) : deadline_(deadline) {}
  ~deadline_socket();
  deadline_socket(const deadline_socket&) = delete;
  deadline_socket& operator=(const deadline_socket&) = delete;

  /// Why there is no connection.
  struct fault {
    enum class cause : std::uint8_t { unknown_host, slow_look_up, no_connection } why;
    /// Of the last address that was tried; ETIMEDOUT where nothing answered.
    int error = 0;
    /// The resolver's words, or the system's for `error`.
    std::string text;
  };
  /// Looks the host up and tries its addresses. Nothing = connected.
  std::optional<fault> connect(const std::string& host, std::uint16_t port);
  /// Tries the addresses in their order, each for an equal share of the time that is left: a host may have one that swallows
  /// everything (of IPv6, often) before one that answers. Nothing = connected.
  std::optional<fault> connect(const std::vector<socket_address>& addresses);

  int fd() const { return fd_; }
  /// Waits for `events` (POLLIN, POLLOUT); false = the deadline has passed.
  bool wait(short events) { return wait_until(events, deadline_); }
  /// Reads exactly so many bytes. 0, or an errno (ECONNRESET also when the server hangs up).
  int read(char* to, std::size_t size);

 private:
  bool wait_until(short events, clock::time_point end);
  void close();

  clock::time_point deadline_;
  int fd_ = -1;
};

}  // namespace psource
