// The MySQL protocol by hand, for tests: a raw client for the real server, and scripted servers for the real
// client.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <openssl/evp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <utility>

namespace psource::test {

inline std::string packet(std::uint8_t sequence, const std::string& payload) {
  std::string out;
  for (int i = 0; i < 3; ++i) out.push_back(static_cast<char>((payload.size() >> (8 * i)) & 0xFF));
  out.push_back(static_cast<char>(sequence));
  return out + payload;
}

inline std::string sha1(const std::string& text) {
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned size = 0;
  EVP_Digest(text.data(), text.size(), digest, &size, EVP_sha1(), nullptr);
  return std::string(reinterpret_cast<const char*>(digest), size);
}

inline std::string native_answer(const std::string& password, const std::string& scramble) {
  std::string answer = sha1(password);
  const std::string mask = sha1(scramble + sha1(answer));
  for (std::size_t i = 0; i < answer.size(); ++i) answer[i] = static_cast<char>(answer[i] ^ mask[i]);
  return answer;
}

/// A TCP connection to 127.0.0.1 that speaks whole packets.
class raw_client {
 public:
  explicit raw_client(std::uint16_t port) : fd_(::socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_port = htons(port);
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    connected_ = ::connect(fd_, reinterpret_cast<sockaddr*>(&to), sizeof to) == 0;
    const timeval patience{20, 0};
    ::setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  }
  ~raw_client() { ::close(fd_); }
  raw_client(const raw_client&) = delete;
  raw_client& operator=(const raw_client&) = delete;

  bool connected() const { return connected_; }

  void send(const std::string& bytes) {
    std::string_view rest = bytes;
    while (!rest.empty()) {
      const ssize_t put = ::send(fd_, rest.data(), rest.size(), MSG_NOSIGNAL);
      if (put <= 0) return;
      rest.remove_prefix(static_cast<std::size_t>(put));
    }
  }
  void finish_sending() { ::shutdown(fd_, SHUT_WR); }

  /// The next packet; nothing when the server has hung up.
  std::optional<std::string> read_packet() {
    std::string header(4, '\0');
    if (!read(header)) return std::nullopt;
    const auto byte = [&](std::size_t i) { return std::size_t{static_cast<unsigned char>(header[i])}; };
    std::string payload(byte(0) | byte(1) << 8 | byte(2) << 16, '\0');
    sequence_ = static_cast<std::uint8_t>(byte(3));
    if (!read(payload)) return std::nullopt;
    return payload;
  }

  /// Everything until the server hangs up.
  std::string read_all() {
    std::string out(1, '\0');
    std::string all;
    while (read(out)) all += out;
    return all;
  }

  /// Reads the greeting and logs in by mysql_native_password; the server's answer.
  std::optional<std::string> log_in(const std::string& user, const std::string& password) {
    const auto greeting = read_packet();
    if (!greeting) return std::nullopt;
    const std::string scramble = scramble_of(*greeting);
    send(packet(1, login(user, password.empty() ? "" : native_answer(password, scramble))));
    return read_packet();
  }

  static std::string scramble_of(const std::string& greeting) {
    const std::size_t first = greeting.find('\0', 1) + 5;
    return greeting.substr(first, 8) + greeting.substr(first + 8 + 1 + 18, 12);
  }

  /// A login packet (protocol 4.1, secure connection, plugin name).
  static std::string login(const std::string& user, const std::string& answer,
                           const std::string& plugin = "mysql_native_password") {
    std::string out("\x00\x82\x08\x00", 4);
    out += std::string("\x00\x00\x00\x01\x2d", 5) + std::string(23, '\0');
    out += user + '\0';
    out += static_cast<char>(answer.size());
    out += answer + plugin + '\0';
    return out;
  }

  std::optional<std::string> command(char code, const std::string& body = "") {
    send(packet(0, std::string(1, code) + body));
    return read_packet();
  }

  std::uint8_t last_sequence() const { return sequence_; }

 private:
  bool read(std::string& to) {
    std::size_t have = 0;
    while (have < to.size()) {
      const ssize_t got = ::recv(fd_, to.data() + have, to.size() - have, 0);
      if (got <= 0) return false;
      have += static_cast<std::size_t>(got);
    }
    return true;
  }

  int fd_;
  bool connected_ = false;
  std::uint8_t sequence_ = 0;
};

/// A greeting as servers send it; `capabilities` decide about TLS (0x800).
inline std::string greeting(std::uint32_t capabilities, const std::string& plugin = "mysql_native_password") {
  std::string out(
      "\x0a"
      "8.0.30\0",
      8);
  out += std::string("\x01\0\0\0", 4) + "abcdefgh" + '\0';
  out.push_back(static_cast<char>(capabilities & 0xFF));
  out.push_back(static_cast<char>(capabilities >> 8 & 0xFF));
  out += std::string("\x2d\x02\0", 3);
  out.push_back(static_cast<char>(capabilities >> 16 & 0xFF));
  out.push_back(static_cast<char>(capabilities >> 24 & 0xFF));
  out += '\x15' + std::string(10, '\0') + "ijklmnopqrst" + '\0' + plugin + '\0';
  return out;
}
constexpr std::uint32_t plain_capabilities = 0x00088209;  // no TLS
constexpr std::uint32_t tls_capabilities = plain_capabilities | 0x800;

inline std::string ok_packet() { return std::string("\0\0\0\x02\0\0\0", 7); }

/// A server that does what the script says for each connection, one after the other, and remembers what it
/// was sent.
class scripted_server {
 public:
  /// One connection. read() returns what came next ("" at the end or after the server was told to stop).
  class peer {
   public:
    peer(int fd, std::string& received, const std::atomic<bool>& stopping)
        : fd_(fd), received_(received), stopping_(stopping) {}
    /// False when the client is gone or reads nothing any more.
    bool send(const std::string& bytes) {
      std::string_view rest = bytes;
      while (!rest.empty() && !stopping_) {
        pollfd waiting{fd_, POLLOUT, 0};
        if (::poll(&waiting, 1, 20) <= 0) continue;
        const ssize_t put = ::send(fd_, rest.data(), rest.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
        if (put < 0) return false;
        rest.remove_prefix(static_cast<std::size_t>(put));
      }
      return rest.empty();
    }
    std::string read() {
      char buffer[4096];
      while (!stopping_) {
        pollfd waiting{fd_, POLLIN, 0};
        if (::poll(&waiting, 1, 20) <= 0) continue;
        const ssize_t got = ::recv(fd_, buffer, sizeof buffer, 0);
        if (got <= 0) return "";
        received_.append(buffer, static_cast<std::size_t>(got));
        return std::string(buffer, static_cast<std::size_t>(got));
      }
      return "";
    }
    void read_to_the_end() {
      while (!read().empty()) {
      }
    }

   private:
    int fd_;
    std::string& received_;
    const std::atomic<bool>& stopping_;
  };

  explicit scripted_server(std::function<void(peer&)> script)
      : script_(std::move(script)), listener_(::socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in at{};
    at.sin_family = AF_INET;
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof at;
    (void)::bind(listener_, reinterpret_cast<sockaddr*>(&at), size);
    (void)::listen(listener_, 16);
    ::getsockname(listener_, reinterpret_cast<sockaddr*>(&at), &size);
    port_ = ntohs(at.sin_port);
    thread_ = std::thread([this] { run(); });
  }
  ~scripted_server() {
    stop();
    ::close(listener_);
  }
  scripted_server(const scripted_server&) = delete;
  scripted_server& operator=(const scripted_server&) = delete;

  std::uint16_t port() const { return port_; }
  /// Ends the server; then received() is all that clients ever sent.
  void stop() {
    stopping_ = true;
    ::shutdown(listener_, SHUT_RDWR);  // wakes poll()
    if (thread_.joinable()) thread_.join();
  }
  const std::string& received() const { return received_; }

 private:
  void run() {
    while (!stopping_) {
      pollfd waiting{listener_, POLLIN, 0};
      if (::poll(&waiting, 1, -1) <= 0) continue;
      const int fd = ::accept(listener_, nullptr, nullptr);
      if (fd < 0) continue;
      peer p(fd, received_, stopping_);
      script_(p);
      ::close(fd);
    }
  }

  std::function<void(peer&)> script_;
  int listener_;
  std::uint16_t port_ = 0;
  std::string received_;
  std::atomic<bool> stopping_{false};
  std::thread thread_;
};

}  // namespace psource::test
