// Connecting under a deadline to hosts of which some addresses do not answer.
#include <arpa/inet.h>
#include <doctest/doctest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <vector>

#include "clients/deadline_socket.hpp"

using namespace psource;
using namespace std::chrono_literals;

namespace {

// Everything that is sent there is lost, or it answers, or it refuses.
class address_of {
 public:
  enum class kind { silent, answering, refusing };

  explicit address_of(kind what) : fd_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    REQUIRE(bind(fd_, reinterpret_cast<const sockaddr*>(&to), sizeof to) == 0);
    address_.length = sizeof to;
    REQUIRE(getsockname(fd_, reinterpret_cast<sockaddr*>(&address_.bytes), &address_.length) == 0);
    if (what == kind::refusing) return;
    REQUIRE(listen(fd_, what == kind::silent ? 0 : 8) == 0);
    // With a full queue Linux drops what asks for a connection.
    while (what == kind::silent) {
      const int waiting = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
      waiting_.push_back(waiting);
      const int error = connect(waiting, reinterpret_cast<const sockaddr*>(&address_.bytes), address_.length) == 0 ? 0 : errno;
      REQUIRE((error == 0 || error == EINPROGRESS));
      // On loopback a connection is there at once, or never.
      if (error == EINPROGRESS) break;
    }
  }
  ~address_of() {
    for (const int fd : waiting_) close(fd);
    close(fd_);
  }
  address_of(const address_of&) = delete;
  address_of& operator=(const address_of&) = delete;

  const socket_address& get() const { return address_; }

 private:
  int fd_;
  socket_address address_;
  std::vector<int> waiting_;
};

using kind = address_of::kind;
using cause = deadline_socket::fault::cause;

}  // namespace

TEST_CASE("an address that swallows everything leaves time for the next one") {
  const address_of silent(kind::silent), refusing(kind::refusing), answering(kind::answering);
  deadline_socket socket(deadline_socket::clock::now() + 600ms);
  CHECK_FALSE(socket.connect({silent.get(), refusing.get(), answering.get()}));
  CHECK(socket.fd() >= 0);
}

TEST_CASE("where no address answers, the fault is that of the last one") {
  const address_of silent(kind::silent), refusing(kind::refusing);
  deadline_socket last_refuses(deadline_socket::clock::now() + 100ms);
  auto fault = last_refuses.connect({silent.get(), refusing.get()});
  REQUIRE(fault);
  CHECK(fault->why == cause::no_connection);
  CHECK(fault->error == ECONNREFUSED);
  deadline_socket last_is_silent(deadline_socket::clock::now() + 100ms);
  fault = last_is_silent.connect({refusing.get(), silent.get()});
  REQUIRE(fault);
  CHECK(fault->error == ETIMEDOUT);
}

TEST_CASE("hosts are looked up, numbers are taken as they are") {
  const address_of answering(kind::answering);
  sockaddr_in to{};
  std::memcpy(&to, &answering.get().bytes, sizeof to);
  deadline_socket socket(deadline_socket::clock::now() + 20s);
  CHECK_FALSE(socket.connect("127.0.0.1", ntohs(to.sin_port)));
  deadline_socket unknown(deadline_socket::clock::now() + 20s);
  const auto fault = unknown.connect("no-such-host.invalid", 1);
  REQUIRE(fault);
  CHECK(fault->why == cause::unknown_host);
}
