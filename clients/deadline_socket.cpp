// Implementation of deadline_socket.hpp.
#include "clients/deadline_socket.hpp"

#include <netdb.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <future>
#include <thread>
#include <utility>

namespace psource {
namespace {

struct found_addresses {
  std::vector<socket_address> list;
  /// getaddrinfo's.
  int error = 0;
};

found_addresses look_up(const std::string& host, std::uint16_t port, int flags) {
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = flags | AI_NUMERICSERV;
  addrinfo* found = nullptr;
  found_addresses out;
  out.error = getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &found);
  for (addrinfo* a = found; out.error == 0 && a != nullptr; a = a->ai_next) {
    socket_address item;
    std::memcpy(&item.bytes, a->ai_addr, a->ai_addrlen);
    item.length = a->ai_addrlen;
    out.list.push_back(item);
  }
  if (found != nullptr) freeaddrinfo(found);
  return out;
}

// Nothing when it takes longer.
std::optional<found_addresses> look_up_until(const std::string& host, std::uint16_t port, deadline_socket::clock::time_point end) {
  if (auto numeric = look_up(host, port, AI_NUMERICHOST); numeric.error == 0) return numeric;
  // getaddrinfo cannot be interrupted, so it gets a thread that may outlive us; it owns all that it touches.
  std::promise<found_addresses> promise;
  auto future = promise.get_future();
  std::thread([promise = std::move(promise), host, port]() mutable {
    promise.set_value(look_up(host, port, AI_ADDRCONFIG));
  }).detach();
  if (future.wait_until(end) != std::future_status::ready) return std::nullopt;
  return future.get();
}

}  // namespace

deadline_socket::~deadline_socket() { close(); }

void deadline_socket::close() {
  if (fd_ >= 0) ::close(fd_);
  fd_ = -1;
}

std::optional<deadline_socket::fault> deadline_socket::connect(const std::string& host, std::uint16_t port) {
  const auto found = look_up_until(host, port, deadline_);
  if (!found) return fault{fault::cause::slow_look_up, ETIMEDOUT, std::strerror(ETIMEDOUT)};
  if (found->error != 0 || found->list.empty())
    return fault{fault::cause::unknown_host, 0, found->error != 0 ? gai_strerror(found->error) : ""};
  return connect(found->list);
}

std::optional<deadline_socket::fault> deadline_socket::connect(const std::vector<socket_address>& addresses) {
  int error = ETIMEDOUT;
  for (std::size_t i = 0; i < addresses.size(); ++i) {
    const socket_address& to = addresses[i];
    const auto now = clock::now();
    const auto share = (deadline_ - now) / static_cast<std::int64_t>(addresses.size() - i);
    close();
    fd_ = ::socket(to.bytes.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd_ < 0) {
      error = errno;
      continue;
    }
    if (::connect(fd_, reinterpret_cast<const sockaddr*>(&to.bytes), to.length) == 0) return std::nullopt;
    error = errno;
    if (error != EINPROGRESS) continue;
    if (!wait_until(POLLOUT, now + share)) {
      error = ETIMEDOUT;
      continue;
    }
    socklen_t size = sizeof error;
    if (::getsockopt(fd_, SOL_SOCKET, SO_ERROR, &error, &size) != 0) error = errno;
    if (error == 0) return std::nullopt;
  }
  return fault{fault::cause::no_connection, error, std::strerror(error)};
}

bool deadline_socket::wait_until(short events, clock::time_point end) {
  for (;;) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(end - clock::now()).count();
    pollfd waiting{fd_, events, 0};
    const int ready = ::poll(&waiting, 1, static_cast<int>(std::clamp<std::int64_t>(left, 0, 600'000)));
    if (ready > 0) return true;
    if (ready < 0 && errno != EINTR) return false;
    if (clock::now() >= end) return false;
  }
}

int deadline_socket::read(char* to, std::size_t size) {
  while (size > 0) {
    const ssize_t got = ::recv(fd_, to, size, 0);
    if (got > 0) {
      to += got;
      size -= static_cast<std::size_t>(got);
    } else if (got == 0) {
      return ECONNRESET;
    } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
      if (!wait(POLLIN)) return ETIMEDOUT;
    } else if (errno != EINTR) {
      return errno;
    }
  }
  return 0;
}

}  // namespace psource
