// What a client sends to local-branch's MySQL port. Input: options (1 byte), then the client's bytes.
#include <sys/socket.h>
#include <unistd.h>

#include <stdexcept>

#include "fuzz/fuzz.hpp"
#include "local_branch/mysql_server.hpp"

using namespace psource;
using namespace psource::local_branch;

namespace {

// More would fill the socket with answers that nobody takes.
constexpr std::size_t most_bytes = 2048;

// Answers with what it was asked, as values and as an error.
mysql_reply answer(const std::string& target, const std::string& sql) {
  FUZZ_CHECK(!sql.empty() && sql.back() != ';');
  if (sql[0] == 'e') return mysql_error{1105, "HY000", sql};
  if (sql[0] == 't') throw std::runtime_error(sql);
  if (sql[0] == 'o') return mysql_result{};
  return mysql_result{{"target", "sql", "nothing"}, {{target, sql}, {std::nullopt, sql, sql, sql}}};
}

}  // namespace

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  fuzz::input in(data, size);
  mysql_server_options options;
  // A user without password can be told by a fixed answer, although the scramble is random.
  if (in.byte() % 2 == 1) options.username = "fuzz";
  int sockets[2] = {-1, -1};
  FUZZ_CHECK(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets) == 0);
  const int room = 1 << 20;
  // Never waits for a reader that there is not.
  const timeval patience{0, 200'000};
  ::setsockopt(sockets[0], SOL_SOCKET, SO_SNDBUF, &room, sizeof room);
  ::setsockopt(sockets[0], SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
  const auto bytes = in.rest().substr(0, most_bytes);
  FUZZ_CHECK(::send(sockets[1], bytes.data(), bytes.size(), MSG_NOSIGNAL) ==
             static_cast<ssize_t>(bytes.size()));
  FUZZ_CHECK(::shutdown(sockets[1], SHUT_WR) == 0);
  serve_mysql_client(sockets[0], options, answer);
  ::shutdown(sockets[0], SHUT_WR);

  // What came back is whole packets, the greeting first.
  std::string got;
  for (char buffer[4096];;) {
    const auto count = ::recv(sockets[1], buffer, sizeof buffer, 0);
    if (count <= 0) break;
    got.append(buffer, static_cast<std::size_t>(count));
  }
  ::close(sockets[0]);
  ::close(sockets[1]);
  FUZZ_CHECK(got.size() > 5 && got[4] == 10);
  std::size_t at = 0;
  while (at < got.size()) {
    FUZZ_CHECK(got.size() - at >= 4);
    std::size_t length = 0;
    for (int i = 2; i >= 0; --i)
      length = length << 8 | static_cast<unsigned char>(got[at + static_cast<std::size_t>(i)]);
    FUZZ_CHECK(got.size() - at - 4 >= length);
    at += 4 + length;
  }
  return 0;
}
