// A long line on one machine: passes TCP connections on to a port of 127.0.0.1, every byte half a round trip later.
//
// Stands in for netem where the kernel has none. Nothing is lost and the rate is not limited; what is on the line in one
// direction is, by --buffer, as TCP's own window would.
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <list>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace psource::bench {
namespace {

using steady = std::chrono::steady_clock;

constexpr const char* usage =
    R"(Passes TCP connections on to a port of 127.0.0.1, delayed. Prints the port that it listens on as JSON.

  delaying_proxy --to PORT [--round-trip-ms 30] [--buffer 16777216]

--buffer: bytes that may be on the line in one direction of a connection. SIGTERM ends it.
)";

struct options {
  std::uint16_t to = 0;
  std::chrono::microseconds one_way{15'000};
  std::size_t buffer = std::size_t{16} << 20;
};

[[noreturn]] void complain(const std::string& what) {
  std::fprintf(stderr, "delaying_proxy: %s\n", what.c_str());
  std::exit(2);
}

std::uint64_t to_number(std::string_view text) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size())
    complain("\"" + std::string(text) + "\" is not a number.");
  return value;
}

options parse(int argc, char** argv) {
  options out;
  for (int i = 1; i < argc; ++i) {
    const std::string_view flag = argv[i];
    if (flag == "--help") {
      std::fputs(usage, stdout);
      std::exit(0);
    }
    if (i + 1 == argc) complain(std::string(flag) + " needs a value, or is not known; see --help.");
    const std::uint64_t value = to_number(argv[++i]);
    if (flag == "--to")
      out.to = static_cast<std::uint16_t>(value);
    else if (flag == "--round-trip-ms")
      out.one_way = std::chrono::microseconds(value * 500);
    else if (flag == "--buffer")
      out.buffer = static_cast<std::size_t>(value);
    else
      complain(std::string(flag) + " is not known; see --help.");
  }
  if (out.to == 0) complain("--to is missing; see --help.");
  return out;
}

sockaddr_in loopback(std::uint16_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

void set_up(int fd) {
  const int yes = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
  fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
}

/// What is on the line from one socket to another.
class direction {
 public:
  direction(int from, int to) : from_(from), to_(to) {}

  bool wants_input(const options& line) const { return !ended_ && on_line_ < line.buffer; }
  /// When the next bytes arrive; max when there are none.
  steady::time_point next() const { return pieces_.empty() ? steady::time_point::max() : pieces_.front().due; }
  bool over() const { return over_; }
  int from() const { return from_; }
  int to() const { return to_; }

  void read(const options& line) {
    constexpr std::size_t most = 256 * 1024;
    piece in;
    in.bytes.resize(most);
    const ssize_t n = ::read(from_, in.bytes.data(), most);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
    in.bytes.resize(n > 0 ? static_cast<std::size_t>(n) : 0);
    in.due = steady::now() + line.one_way;
    // An end travels as long as the bytes before it.
    ended_ = in.bytes.empty();
    on_line_ += in.bytes.size();
    pieces_.push_back(std::move(in));
  }

  void write() {
    while (!pieces_.empty() && pieces_.front().due <= steady::now()) {
      piece& first = pieces_.front();
      if (first.bytes.empty()) {
        shutdown(to_, SHUT_WR);
        over_ = true;
        return;
      }
      const ssize_t n = send(to_, first.bytes.data() + first.done, first.bytes.size() - first.done, MSG_NOSIGNAL);
      if (n < 0) {
        over_ = errno != EAGAIN && errno != EINTR;
        return;
      }
      first.done += static_cast<std::size_t>(n);
      on_line_ -= static_cast<std::size_t>(n);
      if (first.done == first.bytes.size()) pieces_.pop_front();
    }
  }

 private:
  struct piece {
    std::vector<char> bytes;
    std::size_t done = 0;
    steady::time_point due;
  };
  int from_;
  int to_;
  std::deque<piece> pieces_;
  std::size_t on_line_ = 0;
  bool ended_ = false;
  bool over_ = false;
};

struct connection {
  connection(int client, int server) : up(client, server), down(server, client) {}
  direction up;
  direction down;
};

int listen_anywhere() {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address = loopback(0);
  socklen_t size = sizeof address;
  if (fd < 0 || bind(fd, reinterpret_cast<sockaddr*>(&address), size) != 0 || listen(fd, 128) != 0 ||
      getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) != 0)
    complain("cannot listen.");
  set_up(fd);
  std::printf("{\"port\":%u}\n", ntohs(address.sin_port));
  std::fflush(stdout);
  return fd;
}

void take_in(int listener, const options& line, std::list<connection>& connections) {
  const int client = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
  if (client < 0) return;
  const int server = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const sockaddr_in address = loopback(line.to);
  // Loopback answers at once; that the caller's own handshake was not delayed costs it one round trip less.
  if (connect(server, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    close(client);
    close(server);
    return;
  }
  set_up(client);
  set_up(server);
  connections.emplace_back(client, server);
}

[[noreturn]] void pass_on(const options& line) {
  const int listener = listen_anywhere();
  std::list<connection> connections;
  std::vector<pollfd> polled;
  for (;;) {
    const auto now = steady::now();
    auto next = steady::time_point::max();
    polled.assign(1, pollfd{listener, POLLIN, 0});
    for (connection& each : connections)
      for (direction* way : {&each.up, &each.down}) {
        const bool blocked = way->next() <= now;
        polled.push_back({way->wants_input(line) ? way->from() : -1, POLLIN, 0});
        polled.push_back({blocked ? way->to() : -1, POLLOUT, 0});
        if (!blocked) next = std::min(next, way->next());
      }
    timespec wait{3600, 0};
    if (next != steady::time_point::max()) {
      const auto left = std::chrono::duration_cast<std::chrono::nanoseconds>(next - now).count();
      wait = {static_cast<time_t>(left / 1'000'000'000), static_cast<long>(left % 1'000'000'000)};
    }
    if (ppoll(polled.data(), polled.size(), &wait, nullptr) < 0) continue;
    std::size_t at = 1;
    for (connection& each : connections)
      for (direction* way : {&each.up, &each.down}) {
        if (polled[at].revents != 0) way->read(line);
        at += 2;
        way->write();
      }
    connections.remove_if([](const connection& each) {
      // When the client has said all, the server may still have something to say.
      if (!each.down.over()) return false;
      close(each.up.from());
      close(each.up.to());
      return true;
    });
    if (polled.front().revents != 0) take_in(listener, line, connections);
  }
}

}  // namespace
}  // namespace psource::bench

int main(int argc, char** argv) {
  std::signal(SIGPIPE, SIG_IGN);
  psource::bench::pass_on(psource::bench::parse(argc, argv));
}
