// The MySQL server of a local branch, packet by packet and against clients that break the protocol.
#include "local_branch/mysql_server.hpp"

#include <doctest/doctest.h>

#include <condition_variable>
#include <mutex>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "tests/mysql/test_tls.hpp"
#include "tests/mysql/test_wire.hpp"

using namespace psource;
using namespace psource::local_branch;
using namespace psource::test;

namespace {

/// Remembers what it was asked, and answers with the target and the statement.
struct echo {
  std::mutex mutex;
  std::vector<std::string> asked;

  mysql_handler handler() {
    return [this](const std::string& target, const std::string& sql) -> mysql_reply {
      const std::lock_guard<std::mutex> lock(mutex);
      asked.push_back(target + "|" + sql);
      if (sql == "throw") throw std::runtime_error("boom");
      if (sql == "fail") return mysql_error{1105, "HY000", "no such thing"};
      return mysql_result{{"target", "sql"}, {{target, sql}, {std::nullopt, ""}}};
    };
  }
};

std::unique_ptr<mysql_server> start(echo& e, mysql_server_options options = {}) {
  auto server = mysql_server::start(std::move(options), e.handler());
  REQUIRE(server.has_value());
  REQUIRE((*server)->port() != 0);
  return std::move(*server);
}

mysql_server_options with_login() {
  mysql_server_options options;
  options.username = "user";
  options.password = "secret";
  return options;
}

bool is_ok(const std::optional<std::string>& p) { return p && !p->empty() && p->front() == '\0'; }

/// The number of an ERR packet, 0 for anything else.
unsigned error_number(const std::optional<std::string>& p) {
  if (!p || p->size() < 9 || p->front() != '\xFF' || (*p)[3] != '#') return 0;
  return static_cast<unsigned char>((*p)[1]) | static_cast<unsigned>(static_cast<unsigned char>((*p)[2]))
                                                   << 8;
}

}  // namespace

TEST_CASE("login: the right password, wrong ones, and servers that let everyone in") {
  echo e;
  const auto server = start(e, with_login());
  CHECK(is_ok(raw_client(server->port()).log_in("user", "secret")));
  CHECK(error_number(raw_client(server->port()).log_in("user", "Secret")) == 1045);
  CHECK(error_number(raw_client(server->port()).log_in("user", "")) == 1045);
  CHECK(error_number(raw_client(server->port()).log_in("other", "secret")) == 1045);
  CHECK(error_number(raw_client(server->port()).log_in("", "")) == 1045);

  const auto open = start(e);
  CHECK(is_ok(raw_client(open->port()).log_in("anyone", "anything")));
  CHECK(is_ok(raw_client(open->port()).log_in("", "")));
}

TEST_CASE("a client with another login method is asked for mysql_native_password") {
  echo e;
  const auto server = start(e, with_login());
  raw_client client(server->port());
  const auto greeting = client.read_packet();
  REQUIRE(greeting);
  client.send(packet(1, raw_client::login("user", std::string(32, 'x'), "caching_sha2_password")));
  const auto change = client.read_packet();
  REQUIRE(change);
  CHECK(change->substr(0, 23) == std::string("\xFE") + "mysql_native_password" + '\0');
  CHECK(change->substr(23, 20) == raw_client::scramble_of(*greeting));
  client.send(packet(3, native_answer("secret", raw_client::scramble_of(*greeting))));
  CHECK(is_ok(client.read_packet()));
  CHECK(is_ok(client.command('\x0e')));
}

TEST_CASE("commands: ping, quit, init_db, empty and unknown ones") {
  echo e;
  const auto server = start(e);
  raw_client client(server->port());
  REQUIRE(is_ok(client.log_in("", "")));
  CHECK(is_ok(client.command('\x0e')));
  CHECK(is_ok(client.command('\x02', "ks/-80")));
  for (const char code : {'\x00', '\x04', '\x11', '\x16', '\x1f', '\x7f'})
    CHECK(error_number(client.command(code)) == 1047);
  client.send(packet(0, ""));
  CHECK(error_number(client.read_packet()) == 1047);
  CHECK(error_number(client.command('\x03', "")) == 1065);
  CHECK(error_number(client.command('\x03', " /* nothing */ -- at all\n ;")) == 1065);
  CHECK(error_number(client.command('\x03', "/* open")) == 1065);
  CHECK(error_number(client.command('\x03', "fail")) == 1105);
  CHECK(error_number(client.command('\x03', "throw")) == 1105);
  CHECK(is_ok(client.command('\x0e')));
  CHECK(e.asked == std::vector<std::string>{"ks/-80|fail", "ks/-80|throw"});
  CHECK_FALSE(client.command('\x01').has_value());
}

TEST_CASE("USE changes the target, SET and transactions are accepted, the rest is asked") {
  echo e;
  const auto server = start(e);
  raw_client client(server->port());
  REQUIRE(is_ok(client.log_in("", "")));
  const auto query = [&](const std::string& sql) { return client.command('\x03', sql); };
  for (const char* const sql :
       {"USE `ks:-80@replica`", "use\n ks/-80 ;", "Use `a``b`", "SET workload = 'olap'", "set names utf8mb4",
        "BEGIN", "start transaction", "COMMIT", "rollback;"})
    CHECK(is_ok(query(sql)));
  CHECK(error_number(query("USE")) == 1064);
  CHECK(error_number(query("set names binary")) == 1235);  // as vtgate does
  CHECK(e.asked.empty());
  CHECK(query(" -- why\n/* hint */ SHOW x ; ").has_value());
  CHECK(e.asked == std::vector<std::string>{"a`b|SHOW x"});
  raw_client other(server->port());
  REQUIRE(is_ok(other.log_in("", "")));
  CHECK(other.command('\x03', "SETTLE useful").has_value());
  CHECK(e.asked.back() == "|SETTLE useful");
}

TEST_CASE("a result set on the wire") {
  echo e;
  const auto server = start(e);
  raw_client client(server->port());
  REQUIRE(is_ok(client.log_in("", "")));
  CHECK(client.command('\x03', "q") == std::string("\x02"));
  CHECK(client.last_sequence() == 1);
  const auto definition = client.read_packet();
  REQUIRE(definition);
  CHECK(definition->find("target") != std::string::npos);
  CHECK(client.read_packet().has_value());
  CHECK(client.read_packet()->front() == '\xFE');
  CHECK(client.read_packet() == std::string("\0\x01q", 3));
  CHECK(client.read_packet() == std::string("\xFB\0", 2));
  CHECK(client.read_packet()->front() == '\xFE');
  CHECK(client.last_sequence() == 7);
}

TEST_CASE("a packet over the limit and one out of order end the connection with an error") {
  echo e;
  const auto server = start(e);
  {
    raw_client client(server->port());
    REQUIRE(is_ok(client.log_in("", "")));
    client.send(packet(5, "\x0e"));
    CHECK(error_number(client.read_packet()) == 1156);
    CHECK_FALSE(client.read_packet().has_value());
  }
  {
    raw_client client(server->port());
    REQUIRE(client.read_packet());
    client.send(packet(1, std::string(70'000, 'x')));
    CHECK(error_number(client.read_packet()) == 1153);
  }
  {
    // A command in chunks of 16 MiB; the fifth passes 64 MiB.
    raw_client client(server->port());
    REQUIRE(is_ok(client.log_in("", "")));
    for (std::uint8_t i = 0; i < 4; ++i) client.send(packet(i, std::string(0xFFFFFF, '\x03')));
    client.send(std::string("\xFF\xFF\xFF\x04", 4));
    CHECK(error_number(client.read_packet()) == 1153);
  }
}

TEST_CASE("a statement longer than 16 MiB arrives whole") {
  echo e;
  const auto server = start(e);
  raw_client client(server->port());
  REQUIRE(is_ok(client.log_in("", "")));
  const std::string sql(0xFFFFFF + 10, 's');
  client.send(packet(0, "\x03" + sql.substr(0, 0xFFFFFF - 1)) + packet(1, sql.substr(0xFFFFFF - 1)));
  CHECK(client.read_packet() == std::string("\x02"));
  REQUIRE(e.asked.size() == 1);
  CHECK(e.asked.front() == "|" + sql);
}

TEST_CASE("TLS is offered only with a certificate; asking for it all the same is a bad handshake") {
  echo e;
  const auto offers_tls = [](std::uint16_t port) {
    const auto greeting = raw_client(port).read_packet();
    REQUIRE(greeting);
    return ((*greeting)[greeting->find('\0', 1) + 5 + 8 + 1 + 1] & 0x08) != 0;
  };
  const auto plain = start(e);
  CHECK_FALSE(offers_tls(plain->port()));
  raw_client client(plain->port());
  REQUIRE(client.read_packet());
  client.send(packet(1, std::string("\x00\x8A\x08\x00", 4) + std::string(28, '\0')));
  CHECK(error_number(client.read_packet()) == 1043);

  const authority ca("ca");
  const auto pair = ca.issue("localhost", "DNS:localhost");
  const temporary_file certificate(pair.certificate), key(pair.key);
  mysql_server_options options;
  options.tls_cert_file = certificate.path();
  options.tls_key_file = key.path();
  const auto secure = start(e, options);
  CHECK(offers_tls(secure->port()));
  // It is offered, not demanded.
  CHECK(is_ok(raw_client(secure->port()).log_in("", "")));
  // Garbage in place of the handshake ends that connection only.
  raw_client broken(secure->port());
  REQUIRE(broken.read_packet());
  broken.send(packet(1, std::string("\x00\x8A\x08\x00", 4) + std::string(28, '\0')) +
              "GET / HTTP/1.1\r\n\r\n");
  broken.read_all();
  CHECK(is_ok(raw_client(secure->port()).log_in("", "")));
}

TEST_CASE("options that cannot be used are told") {
  echo e;
  const auto code = [&](mysql_server_options options) {
    const auto server = mysql_server::start(std::move(options), e.handler());
    REQUIRE_FALSE(server.has_value());
    CHECK_FALSE(server.error().message.empty());
    return server.error().code;
  };
  const authority ca("ca");
  const auto pair = ca.issue("a", "DNS:a");
  const auto other = ca.issue("b", "DNS:b");
  const temporary_file certificate(pair.certificate), key(pair.key), other_key(other.key), garbage("garbage");
  mysql_server_options options;
  options.listen = "localhost";
  CHECK(code(options) == error_code::config_invalid);
  options = {};
  options.tls_cert_file = certificate.path();
  CHECK(code(options) == error_code::config_invalid);
  options.tls_key_file = other_key.path();
  CHECK(code(options) == error_code::config_invalid);
  options.tls_key_file = "/nonexistent/key.pem";
  CHECK(code(options) == error_code::config_invalid);
  options.tls_key_file = key.path();
  options.tls_cert_file = garbage.path();
  CHECK(code(options) == error_code::config_invalid);
  options.tls_cert_file = certificate.path();
  options.tls_client_ca_file = garbage.path();
  CHECK(code(options) == error_code::config_invalid);
  const auto running = start(e);
  options = {};
  options.port = running->port();
  CHECK(code(options) == error_code::config_invalid);
}

TEST_CASE("stop() ends idle, half logged-in and busy clients, and waits for running handlers") {
  std::mutex mutex;
  std::condition_variable changed;
  bool running = false, release = false, finished = false;
  auto server = mysql_server::start({}, [&](const std::string&, const std::string&) -> mysql_reply {
    std::unique_lock<std::mutex> lock(mutex);
    running = true;
    changed.notify_all();
    changed.wait(lock, [&] { return release; });
    finished = true;
    return mysql_result{{"x"}, {{std::string(50'000'000, 'x')}}};
  });
  REQUIRE(server.has_value());
  const std::uint16_t port = (*server)->port();
  raw_client idle(port), half(port), busy(port);
  REQUIRE(is_ok(idle.log_in("", "")));
  REQUIRE(half.read_packet());
  REQUIRE(is_ok(busy.log_in("", "")));
  busy.send(packet(0, "\x03wait"));
  std::thread stopping;
  {
    std::unique_lock<std::mutex> lock(mutex);
    changed.wait(lock, [&] { return running; });
    stopping = std::thread([&] { (*server)->stop(); });
  }
  CHECK_FALSE(idle.read_packet().has_value());
  CHECK_FALSE(half.read_packet().has_value());
  {
    const std::lock_guard<std::mutex> lock(mutex);
    CHECK_FALSE(finished);
    release = true;
    changed.notify_all();
  }
  stopping.join();
  CHECK(finished);
  CHECK_FALSE(raw_client(port).connected());
  (*server)->stop();
}

TEST_CASE("no bytes from a client break the server") {
  echo e;
  const auto server = start(e, with_login());
  std::mt19937 random(20261123);
  const auto any = [&](unsigned below) { return static_cast<unsigned>(random() % below); };
  const auto garbage = [&](unsigned at_most) {
    std::string out(any(at_most + 1), '\0');
    for (char& c : out) c = static_cast<char>(any(4) == 0 ? 0 : any(256));
    return out;
  };
  for (int round = 0; round < 400; ++round) {
    raw_client client(server->port());
    REQUIRE(client.connected());
    switch (round % 4) {
      case 0:  // bytes without form
        client.send(garbage(300));
        break;
      case 1:  // a login packet of garbage
        client.send(packet(1, garbage(200)));
        break;
      case 2: {  // a login with a few bytes changed
        std::string login = raw_client::login("user", std::string(20, 'a'));
        for (unsigned i = any(6) + 1; i > 0; --i)
          login[any(static_cast<unsigned>(login.size()))] = static_cast<char>(any(256));
        client.send(packet(1, login.substr(0, any(static_cast<unsigned>(login.size()) + 1))));
        break;
      }
      default: {  // garbage after a good login
        if (!is_ok(client.log_in("user", "secret"))) FAIL("login");
        for (int i = 0; i < 3; ++i) client.send(packet(0, garbage(60)));
        client.send(garbage(20));
      }
    }
    client.finish_sending();
    client.read_all();
  }
  raw_client client(server->port());
  CHECK(is_ok(client.log_in("user", "secret")));
  CHECK(is_ok(client.command('\x0e')));
}
