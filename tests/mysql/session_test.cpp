// libmysqlclient's session against the local branch's server, and against servers that misbehave.
#include "clients/mysql_session.hpp"

#include <doctest/doctest.h>

#include <chrono>
#include <condition_variable>
#include <functional>
#include <future>
#include <map>
#include <mutex>
#include <random>
#include <regex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "clients/discovery.hpp"
#include "clients/question_worker.hpp"
#include "local_branch/mysql_server.hpp"
#include "tests/mysql/test_tls.hpp"
#include "tests/mysql/test_wire.hpp"

using namespace psource;
using namespace psource::local_branch;
using namespace psource::test;

namespace {

const std::string password = "pa55word-of-the-test";

mysql_reply answer(const std::string& target, const std::string& sql) {
  if (sql == "one") return mysql_result{{"target", "null", "empty"}, {{target, std::nullopt, ""}}};
  if (sql == "fail") return mysql_error{1105, "HY000", "that went wrong"};
  return mysql_error{1064, "42000", "syntax error near " + sql};
}

/// A server on a port of its own, and the settings to reach it.
struct branch {
  explicit branch(mysql_handler handler = answer, const pem_pair* tls = nullptr) {
    mysql_server_options options;
    options.username = "user";
    options.password = password;
    if (tls != nullptr) {
      certificate = std::make_unique<temporary_file>(tls->certificate);
      key = std::make_unique<temporary_file>(tls->key);
      options.tls_cert_file = certificate->path();
      options.tls_key_file = key->path();
    }
    auto started = mysql_server::start(options, std::move(handler));
    REQUIRE(started.has_value());
    server = std::move(*started);
  }

  connection_settings settings() const { return at(server->port()); }

  static connection_settings at(std::uint16_t port) {
    connection_settings out;
    out.host = "127.0.0.1";
    out.mysql_port = port;
    out.username = "user";
    out.password = password;
    out.tls.enabled = false;
    return out;
  }

  std::unique_ptr<temporary_file> certificate, key;
  std::unique_ptr<mysql_server> server;
};

mysql_limits short_limits() {
  mysql_limits limits;
  limits.connect = limits.read = limits.write = std::chrono::seconds{1};
  return limits;
}

/// The error of a connection that must fail; its sentence names the port and not the password.
failure refused(const connection_settings& settings, mysql_limits limits = {}) {
  const auto session = mysql_session::connect(settings, limits);
  REQUIRE_FALSE(session.has_value());
  const failure& f = session.error();
  CAPTURE(f.message);
  CAPTURE(f.detail);
  CHECK(f.message.find(password) == std::string::npos);
  CHECK(f.detail.find(password) == std::string::npos);
  if (f.code != error_code::config_invalid)
    CHECK(f.message.find(std::to_string(settings.mysql_port)) != std::string::npos);
  return f;
}

bool says(const failure& f, const std::string& part) {
  CAPTURE(f.message);
  CAPTURE(f.detail);
  const bool found = f.message.find(part) != std::string::npos;
  CHECK_MESSAGE(found, part);
  return found;
}

std::unique_ptr<mysql_session> connected(const connection_settings& settings, mysql_limits limits = {}) {
  auto session = mysql_session::connect(settings, limits);
  if (!session) FAIL(session.error().message << " / " << session.error().detail);
  return std::move(*session);
}

std::chrono::steady_clock::duration time_of(const std::function<void()>& what) {
  const auto start = std::chrono::steady_clock::now();
  what();
  return std::chrono::steady_clock::now() - start;
}

}  // namespace

TEST_CASE("statements, NULL and empty values, errors of the server") {
  const branch b;
  const auto session = connected(b.settings());
  auto rows = session->query("one");
  REQUIRE(rows.has_value());
  CHECK(rows->columns() == std::vector<std::string>{"target", "null", "empty"});
  REQUIRE(rows->size() == 1);
  CHECK(rows->at(0, 0) == std::string_view(""));
  CHECK(rows->at(0, 1) == std::nullopt);
  CHECK(rows->at(0, 2) == std::string_view(""));

  for (const char* const target : {"ks", "ks:-80@replica", "ks/-80", "we`ird"}) {
    REQUIRE(session->use(target).has_value());
    rows = session->query("one");
    REQUIRE(rows.has_value());
    CHECK(rows->at(0, 0) == std::string_view(target));
  }
  const auto failed = session->query("fail");
  REQUIRE_FALSE(failed.has_value());
  CHECK(failed.error().code == error_code::query_failed);
  CHECK(failed.error().detail == "1105: that went wrong");
  CHECK(session->query("SET workload = 'olap'")->width() == 0);
  CHECK(session->query("one").has_value());
}

TEST_CASE("\"localhost\" is reached over TCP, and mysql_host goes before host") {
  const branch b;
  auto settings = b.settings();
  settings.mysql_host = "localhost";
  settings.host = "nowhere.invalid";
  CHECK(connected(settings)->query("one").has_value());
}

TEST_CASE("wrong password and wrong user are credentials_refused") {
  const branch b;
  auto settings = b.settings();
  settings.password = "wrong";
  const failure f = refused(settings);
  CHECK(f.code == error_code::credentials_refused);
  says(f, "\"user\"");
  CHECK(f.message.find("wrong") == std::string::npos);
  settings = b.settings();
  settings.username = "other";
  CHECK(refused(settings).code == error_code::credentials_refused);
  settings.username.clear();
  CHECK(refused(settings).code == error_code::credentials_refused);
}

TEST_CASE("nobody listens, and host names that are none") {
  std::uint16_t port = 0;
  {
    const branch b;
    port = b.server->port();
  }
  const failure f = refused(branch::at(port));
  CHECK(f.code == error_code::host_unreachable);
  says(f, "No connection to the MySQL server 127.0.0.1:" + std::to_string(port));
  for (const char* const host : {"", "a,b", "h=localhost;port=1", "a b", "/tmp/socket", "a;b"}) {
    auto settings = branch::at(port);
    settings.host = host;
    CHECK(refused(settings).code == error_code::config_invalid);
  }
  CHECK(explain_mysql_fault({2005, "Unknown MySQL server host 'h' (-2)", true, {}}, branch::at(1)).code ==
        error_code::host_unreachable);
}

TEST_CASE("TLS with an authority of our own") {
  const authority ca("test authority");
  const pem_pair pair = ca.issue("localhost", "DNS:localhost,IP:127.0.0.1");
  const branch b(answer, &pair);
  auto settings = b.settings();
  settings.tls.enabled = true;
  settings.tls.ca_certificate = ca.pem();
  for (const char* const host : {"localhost", "127.0.0.1"}) {
    CAPTURE(host);
    settings.host = host;
    const auto session = connected(settings);
    const auto rows = session->query("one");
    REQUIRE(rows.has_value());
    CHECK(rows->size() == 1);
  }
  settings.password = "wrong";
  CHECK(refused(settings).code == error_code::credentials_refused);
}

TEST_CASE("TLS: a large answer arrives whole") {
  const authority ca("test authority");
  const pem_pair pair = ca.issue("localhost", "DNS:localhost");
  const std::string value(300'000, 'v');
  const branch b(
      [&](const std::string&, const std::string&) -> mysql_reply {
        mysql_result out{{"a", "b"}, {}};
        for (int i = 0; i < 50; ++i) out.rows.push_back({std::to_string(i), value});
        return out;
      },
      &pair);
  auto settings = b.settings();
  settings.host = "localhost";
  settings.tls.enabled = true;
  settings.tls.ca_certificate = ca.pem();
  const auto rows = connected(settings)->query("big");
  REQUIRE(rows.has_value());
  REQUIRE(rows->size() == 50);
  CHECK(rows->at(49, 0) == std::string_view("49"));
  CHECK(rows->at(49, 1) == std::string_view(value));
}

TEST_CASE("certificates that must not be trusted") {
  const authority ca("test authority"), other("another authority");
  const pem_pair good = ca.issue("localhost", "DNS:localhost");
  const pem_pair elsewhere = ca.issue("elsewhere.test", "DNS:elsewhere.test");
  const pem_pair expired = ca.issue("localhost", "DNS:localhost", -7200, -3600);
  const pem_pair future = ca.issue("localhost", "DNS:localhost", 3600, 7200);
  const auto attempt = [](const pem_pair& shown, const std::string& trusted,
                          const std::string& server_name = "") {
    const branch b([](const std::string&, const std::string&) -> mysql_reply { return mysql_result{}; },
                   &shown);
    auto settings = b.settings();
    settings.host = "localhost";
    settings.tls.enabled = true;
    settings.tls.ca_certificate = trusted;
    settings.tls.server_name = server_name;
    const failure f = refused(settings);
    CHECK(f.code == error_code::tls_failed);
    return f;
  };
  says(attempt(good, other.pem()), "not signed by a trusted authority");
  says(attempt(good, ""), "not signed by a trusted authority");  // the system's roots
  says(attempt(elsewhere, ca.pem()), "for another name");
  says(attempt(expired, ca.pem()), "expired");
  says(attempt(future, ca.pem()), "not valid yet");
  // The same through tls.server_name, which takes another way.
  says(attempt(elsewhere, other.pem(), "elsewhere.test"), "not signed by a trusted authority");
  says(attempt(elsewhere, "", "elsewhere.test"), "not signed by a trusted authority");
  says(attempt(elsewhere, ca.pem(), "third.test"), "for another name");
  says(attempt(ca.issue("e", "DNS:e.test", -7200, -3600), ca.pem(), "e.test"), "expired");
}

TEST_CASE("tls.server_name: the certificate's name may differ from the host") {
  const authority ca("test authority");
  const pem_pair pair = ca.issue("db", "DNS:db.internal.test,IP:10.1.2.3");
  const branch b(answer, &pair);
  auto settings = b.settings();
  settings.tls.enabled = true;
  settings.tls.ca_certificate = ca.pem();
  CHECK(refused(settings).code == error_code::tls_failed);
  for (const char* const name : {"db.internal.test", "10.1.2.3"}) {
    settings.tls.server_name = name;
    CHECK(connected(settings)->query("one").has_value());
  }
  settings.password = "wrong";
  CHECK(refused(settings).code == error_code::credentials_refused);
}

TEST_CASE("PEM texts that cannot be used are told before anything connects") {
  const authority ca("test authority");
  const pem_pair pair = ca.issue("client", "DNS:client"), other = ca.issue("other", "DNS:other");
  scripted_server server([](scripted_server::peer& p) { p.read_to_the_end(); });
  auto settings = branch::at(server.port());
  settings.tls.enabled = true;
  settings.tls.ca_certificate = "nonsense";
  CHECK(refused(settings).code == error_code::config_invalid);
  settings.tls.ca_certificate = ca.pem();
  settings.tls.client_certificate = pair.certificate;
  CHECK(refused(settings).code == error_code::config_invalid);
  settings.tls.client_key = other.key;
  CHECK(refused(settings).code == error_code::config_invalid);
  settings.tls.client_key = pair.key;
  settings.tls.client_certificate = "nonsense";
  CHECK(refused(settings).code == error_code::config_invalid);
}

TEST_CASE("a client certificate can be shown") {
  const authority ca("test authority");
  const pem_pair server_pair = ca.issue("localhost", "DNS:localhost"),
                 client_pair = ca.issue("client", "DNS:client");
  const branch b(answer, &server_pair);
  auto settings = b.settings();
  settings.host = "localhost";
  settings.tls.enabled = true;
  settings.tls.ca_certificate = ca.pem();
  settings.tls.client_certificate = client_pair.certificate;
  settings.tls.client_key = client_pair.key;
  CHECK(connected(settings)->query("one").has_value());
}

TEST_CASE("a server without TLS gets no login when TLS is demanded") {
  const authority ca("test authority");
  for (const bool with_name : {false, true}) {
    scripted_server server([](scripted_server::peer& p) {
      p.send(packet(0, greeting(plain_capabilities)));
      p.read_to_the_end();
    });
    auto settings = branch::at(server.port());
    settings.tls.enabled = true;
    settings.tls.ca_certificate = ca.pem();
    if (with_name) settings.tls.server_name = "db.internal.test";
    const failure f = refused(settings);
    CHECK(f.code == error_code::tls_failed);
    says(f, "does not offer TLS");
    server.stop();
    CHECK(server.received() == "");
  }
}

TEST_CASE("a server that hangs up or shouts before TLS gets no login either") {
  const authority ca("test authority");
  for (const std::string& after :
       {std::string(), packet(2, "\xFF\x15\x04#28000Access denied"), std::string(100, 'x')}) {
    scripted_server server([&](scripted_server::peer& p) {
      p.send(packet(0, greeting(tls_capabilities)));
      p.read();
      p.send(after);
    });
    auto settings = branch::at(server.port());
    settings.tls.enabled = true;
    settings.tls.ca_certificate = ca.pem();
    refused(settings);
    server.stop();
    CHECK(server.received().find("user") == std::string::npos);
  }
  // An error in place of the greeting.
  scripted_server full([](scripted_server::peer& p) {
    p.send(packet(0,
                  "\xFF\x10\x04"
                  "Too many connections"));
    p.read_to_the_end();
  });
  auto settings = branch::at(full.port());
  CHECK(refused(settings).code == error_code::host_unreachable);
  settings.tls.enabled = true;
  settings.tls.ca_certificate = ca.pem();
  CHECK(refused(settings).code == error_code::host_unreachable);
}

TEST_CASE("servers that accept and never answer run into the time limit") {
  const authority ca("test authority");
  const auto silent_after = [&](const std::vector<std::string>& said, bool tls,
                                const std::string& server_name = "") {
    scripted_server server([&](scripted_server::peer& p) {
      for (std::size_t i = 0; i < said.size(); ++i) {
        if (i > 0) p.read();
        p.send(said[i]);
      }
      p.read_to_the_end();
    });
    auto settings = branch::at(server.port());
    settings.tls.enabled = tls;
    settings.tls.ca_certificate = tls ? ca.pem() : "";
    settings.tls.server_name = server_name;
    failure f;
    const auto took = time_of([&] {
      auto session = mysql_session::connect(settings, short_limits());
      if (!session) {
        f = session.error();
      } else {
        auto rows = (*session)->query("SHOW VITESS_SHARDS");
        REQUIRE_FALSE(rows.has_value());
        f = rows.error();
        CHECK_FALSE((*session)->query("SHOW VITESS_SHARDS").has_value());
      }
    });
    CHECK(f.code == error_code::host_unreachable);
    says(f, "did not answer within 1 s");
    says(f, "127.0.0.1:" + std::to_string(settings.mysql_port));
    CHECK(took >= std::chrono::milliseconds(900));
    CHECK(took < std::chrono::seconds(6));
  };
  SUBCASE("no greeting") { silent_after({}, false); }
  SUBCASE("no greeting, TLS") { silent_after({}, true); }
  SUBCASE("no greeting, TLS with a name") { silent_after({}, true, "db.test"); }
  SUBCASE("half a greeting") { silent_after({packet(0, greeting(plain_capabilities)).substr(0, 20)}, false); }
  SUBCASE("no TLS handshake") { silent_after({packet(0, greeting(tls_capabilities))}, true); }
  SUBCASE("no TLS handshake, with a name") {
    silent_after({packet(0, greeting(tls_capabilities))}, true, "db.test");
  }
  SUBCASE("no answer to the login") { silent_after({packet(0, greeting(plain_capabilities))}, false); }
  SUBCASE("no answer to a statement") {
    silent_after({packet(0, greeting(plain_capabilities)), packet(2, ok_packet())}, false);
  }
  SUBCASE("half an answer") {
    silent_after({packet(0, greeting(plain_capabilities)), packet(2, ok_packet()), packet(1, "\x01")}, false);
  }
}

TEST_CASE("a statement over TLS that is never answered runs into the time limit") {
  const authority ca("test authority");
  const pem_pair pair = ca.issue("localhost", "DNS:localhost");
  std::mutex mutex;
  std::condition_variable changed;
  bool release = false;
  const branch b(
      [&](const std::string&, const std::string&) -> mysql_reply {
        std::unique_lock<std::mutex> lock(mutex);
        changed.wait(lock, [&] { return release; });
        return mysql_result{};
      },
      &pair);
  auto settings = b.settings();
  settings.host = "localhost";
  settings.tls.enabled = true;
  settings.tls.ca_certificate = ca.pem();
  const auto session = connected(settings, short_limits());
  const auto took = time_of([&] {
    const auto rows = session->query("wait");
    REQUIRE_FALSE(rows.has_value());
    CHECK(rows.error().code == error_code::host_unreachable);
    says(rows.error(), "did not answer within 1 s");
  });
  CHECK(took < std::chrono::seconds(6));
  const std::lock_guard<std::mutex> lock(mutex);
  release = true;
  changed.notify_all();
}

TEST_CASE("large answers: a value above 16 MiB, very many rows, and the limit on bytes") {
  const std::string value(40'000'000, 'x');
  const branch b([&](const std::string&, const std::string& sql) -> mysql_reply {
    if (sql == "value")
      return mysql_result{{"v", "after"}, {{value, "end"}, {std::string(0xFFFFFF - 8, 'y'), "end"}}};
    mysql_result out{{"n"}, {}};
    for (int i = 0; i < 300'000; ++i) out.rows.push_back({std::to_string(i)});
    return out;
  });
  const auto session = connected(b.settings());
  auto rows = session->query("value");
  REQUIRE(rows.has_value());
  REQUIRE(rows->size() == 2);
  CHECK((rows->at(0, 0) == std::string_view(value)));
  CHECK(rows->at(0, 1) == std::string_view("end"));
  CHECK(rows->at(1, 1) == std::string_view("end"));
  rows = session->query("rows");
  REQUIRE(rows.has_value());
  REQUIRE(rows->size() == 300'000);
  CHECK(rows->at(299'999, 0) == std::string_view("299999"));

  mysql_limits limits;
  limits.answer_bytes = 2'000'000;
  const auto careful = connected(b.settings(), limits);
  rows = careful->query("rows");
  REQUIRE_FALSE(rows.has_value());
  CHECK(rows.error().code == error_code::response_too_large);
  const auto other = connected(b.settings(), limits);
  rows = other->query("value");
  REQUIRE_FALSE(rows.has_value());
  CHECK(rows.error().code == error_code::response_too_large);
}

TEST_CASE("an endless answer is cut off at the time limit for answers") {
  scripted_server server([](scripted_server::peer& p) {
    p.send(packet(0, greeting(plain_capabilities)));
    p.read();
    p.send(packet(2, ok_packet()));
    p.read();
    p.send(packet(1, "\x01"));
    const std::string definition = std::string(
        "\x03"
        "def\0\0\0\x01n\0\x0c\x2d\0\xff\xff\0\0\xfd\0\0\0\0\0",
        24);
    p.send(packet(2, definition) + packet(3, std::string("\xFE\0\0\2\0", 5)));
    for (int i = 0; i < 100'000'000; ++i) {
      const std::string row = packet(static_cast<std::uint8_t>(4 + i), "\x01x");
      std::string rows;
      for (int j = 0; j < 100; ++j) rows += row;
      if (!p.send(rows)) return;
    }
  });
  mysql_limits limits;
  limits.answer = std::chrono::seconds{1};
  const auto session = connected(branch::at(server.port()), limits);
  const auto took = time_of([&] {
    const auto rows = session->query("q");
    REQUIRE_FALSE(rows.has_value());
    CHECK(rows.error().code == error_code::host_unreachable);
    says(rows.error(), "did not finish an answer within 1 s");
  });
  CHECK(took < std::chrono::seconds(6));
}

TEST_CASE("a server gets neither the password in clear text nor a local file") {
  for (const char* const plugin :
       {"mysql_clear_password", "dialog", "mysql_old_password", "../../x", "no_such_plugin"}) {
    CAPTURE(plugin);
    scripted_server asks_at_once([&](scripted_server::peer& p) {
      p.send(packet(0, greeting(plain_capabilities, plugin)));
      p.read_to_the_end();
    });
    CHECK(refused(branch::at(asks_at_once.port())).code == error_code::credentials_refused);
    asks_at_once.stop();
    CHECK(asks_at_once.received().find(password) == std::string::npos);

    scripted_server asks_later([&](scripted_server::peer& p) {
      p.send(packet(0, greeting(plain_capabilities)));
      p.read();
      p.send(packet(2, std::string("\xFE") + plugin + '\0' + "aaaaaaaaaaaaaaaaaaaa" + '\0'));
      p.read_to_the_end();
    });
    CHECK(refused(branch::at(asks_later.port())).code == error_code::credentials_refused);
    asks_later.stop();
    CHECK(asks_later.received().find(password) == std::string::npos);
  }

  const temporary_file secret("content of a local file");
  scripted_server asks_for_file([&](scripted_server::peer& p) {
    p.send(packet(0, greeting(plain_capabilities | 0x80)));
    p.read();
    p.send(packet(2, ok_packet()));
    p.read();
    p.send(packet(1, "\xFB" + secret.path()));
    p.read_to_the_end();
  });
  {
    const auto session = connected(branch::at(asks_for_file.port()), short_limits());
    CHECK_FALSE(session->query("SHOW VITESS_SHARDS").has_value());
  }
  asks_for_file.stop();
  CHECK(asks_for_file.received().find("local file") == std::string::npos);
}

TEST_CASE("something else than MySQL on the port") {
  for (const std::string& said :
       {std::string("HTTP/1.1 400 Bad Request\r\n\r\n"), std::string("SSH-2.0-x\r\n"),
        packet(0,
               "\x09"
               "old server\0"),
        packet(0, ""), packet(0, "\x0a"),
        packet(0,
               "\x0a"
               "8.0"),
        std::string("\0\0\x12\x04\0\0\0\0\0", 9)}) {
    for (const std::string server_name : {"", "db.test"}) {
      CAPTURE(said);
      scripted_server server([&](scripted_server::peer& p) { p.send(said); });
      auto settings = branch::at(server.port());
      settings.tls.enabled = !server_name.empty();
      settings.tls.server_name = server_name;
      const failure f = refused(settings, short_limits());
      const bool clear = f.code == error_code::response_malformed || f.code == error_code::host_unreachable ||
                         f.code == error_code::tls_failed || f.code == error_code::credentials_refused;
      CHECK(clear);
    }
  }
}

TEST_CASE("no bytes from a server break the client") {
  std::mt19937 random(20261123);
  const auto any = [&](std::size_t below) { return static_cast<std::size_t>(random() % below); };
  const auto garbage = [&](std::size_t at_most) {
    std::string out(any(at_most + 1), '\0');
    for (char& c : out) c = static_cast<char>(any(4) == 0 ? 0 : any(256));
    return out;
  };
  const auto changed = [&](std::string text) {
    for (std::size_t i = any(4) + 1; i > 0 && !text.empty(); --i)
      text[any(text.size())] = static_cast<char>(any(256));
    if (any(3) == 0) text.resize(any(text.size() + 1));
    return text;
  };
  const std::string definition = std::string(
      "\x03"
      "def\0\0\0\x01n\0\x0c\x2d\0\xff\xff\0\0\xfd\0\0\0\0\0",
      24);
  const std::string end = std::string("\xFE\0\0\2\0", 5);
  int answered = 0, failed = 0;
  for (int round = 0; round < 400; ++round) {
    CAPTURE(round);
    std::vector<std::string> said;
    switch (round % 5) {
      case 0:
        said = {packet(0, garbage(120))};
        break;
      case 1:
        said = {packet(0, changed(greeting(plain_capabilities))), packet(2, ok_packet())};
        break;
      case 2:
        said = {packet(0, greeting(plain_capabilities)), packet(2, garbage(60))};
        break;
      case 3:
        said = {packet(0, greeting(plain_capabilities)), packet(2, ok_packet()),
                packet(1, garbage(60)) + packet(2, garbage(60))};
        break;
      default:
        said = {packet(0, greeting(plain_capabilities)), packet(2, ok_packet()),
                packet(1, any(2) == 0 ? "\x01" : changed("\x01")) +
                    packet(2, any(2) == 0 ? definition : changed(definition)) + packet(3, end) +
                    packet(4, changed("\x05"
                                      "hello")) +
                    packet(5, end)};
    }
    scripted_server server([&](scripted_server::peer& p) {
      for (std::size_t i = 0; i < said.size(); ++i) {
        if (i > 0) p.read();
        p.send(said[i]);
      }
    });
    const auto session = mysql_session::connect(branch::at(server.port()), short_limits());
    const bool ok = session && (*session)->query("SHOW VITESS_SHARDS").has_value();
    ++(ok ? answered : failed);
  }
  CHECK(failed > 200);
  CHECK(answered + failed == 400);
}

TEST_CASE("what the server's and the library's errors mean") {
  const connection_settings settings = branch::at(3306);
  const auto code = [&](unsigned number, const std::string& text, bool login = false) {
    return explain_mysql_fault({number, text, login, {}}, settings).code;
  };
  CHECK(code(1045, "Access denied for user 'x'@'y' (using password: YES)", true) ==
        error_code::credentials_refused);
  CHECK(code(1105, "unauthorized: you are not authorized to perform this operation", true) ==
        error_code::credentials_refused);
  CHECK(code(1105, "Access denied for user 'x'", true) == error_code::credentials_refused);
  CHECK(code(1142, "SELECT command denied to user 'x' for table 't'") == error_code::credentials_refused);
  CHECK(code(1105, "target: ks.-80.replica: code = PermissionDenied desc = table acl error") ==
        error_code::credentials_refused);
  CHECK(code(1049, "VT05003: unknown database 'ks' in vschema") == error_code::keyspace_unknown);
  CHECK(code(1105,
             "target: ks.-80.replica: no healthy tablet available for 'keyspace:\"ks\" shard:\"-80\" "
             "tablet_type:REPLICA'") == error_code::tablet_type_missing);
  // A failover: nothing in the configuration is wrong.
  CHECK(code(1105,
             "target: ks.-80.primary: no healthy tablet available for 'keyspace:\"ks\" shard:\"-80\" "
             "tablet_type:PRIMARY'") == error_code::query_failed);
  CHECK(code(1064, "You have an error in your SQL syntax") == error_code::query_failed);
  CHECK(code(3024, "Query execution was interrupted, maximum statement execution time exceeded") ==
        error_code::query_failed);
  CHECK(code(1040, "Too many connections", true) == error_code::host_unreachable);
  CHECK(code(1105, "server is starting", true) == error_code::host_unreachable);
  CHECK(code(1105, "unknown error: Code: UNAVAILABLE\nserver does not allow insecure connections, client must use SSL/TLS\n", true) ==
        error_code::tls_failed);
  CHECK(code(2006, "Server has gone away") == error_code::host_unreachable);
  CHECK(code(2013, "Lost connection to server during query") == error_code::host_unreachable);
  CHECK(code(2013, "tlsv13 alert certificate required") == error_code::tls_failed);
  CHECK(code(2026, "TLS/SSL error: unable to get local issuer certificate", true) == error_code::tls_failed);
  connection_settings shows_certificate = settings;
  shows_certificate.tls.client_certificate = "pem";
  const auto tls_words = [](const connection_settings& at, unsigned number, const std::string& text) {
    const failure f = explain_mysql_fault({number, text, true, {}}, at);
    CHECK(f.code == error_code::tls_failed);
    return f.message;
  };
  CHECK(tls_words(settings, 2013, "tlsv13 alert certificate required")
            .find("may ask for a client certificate") != std::string::npos);
  CHECK(tls_words(shows_certificate, 2026, "tlsv1 alert unknown ca")
            .find("may not accept the client certificate") != std::string::npos);
  CHECK(tls_words(settings, 2026, "self-signed certificate").find("is self-signed") != std::string::npos);
  CHECK(tls_words(settings, 2026, "self-signed certificate in certificate chain")
            .find("not signed by a trusted authority") != std::string::npos);
  for (const char* const text : {"error:0A000102:SSL routines::unsupported protocol",
                                 "error:0A00042E:SSL routines::tlsv1 alert protocol version"})
    CHECK(tls_words(settings, 2026, text).find("too old") != std::string::npos);
  CHECK(code(2027, "Malformed packet") == error_code::response_malformed);
  CHECK(code(2020, "Got packet bigger than 'max_allowed_packet' bytes") == error_code::response_too_large);
  const failure f = explain_mysql_fault({2003, "Can't connect to server on 'h' (113)", true, {}}, settings);
  CHECK(f.message ==
        "No connection to the MySQL server 127.0.0.1:3306 (No route to host). Check mysql_host and "
        "mysql_port, and whether a "
        "firewall is between.");
}

TEST_CASE("sessions in many threads at once") {
  const branch b;
  std::vector<std::thread> threads;
  std::atomic<int> good{0};
  for (int t = 0; t < 16; ++t)
    threads.emplace_back([&, t] {
      auto session = mysql_session::connect(b.settings());
      if (!session || !(*session)->use("ks" + std::to_string(t))) return;
      for (int i = 0; i < 50; ++i) {
        const auto rows = (*session)->query("one");
        if (!rows || rows->at(0, 0) != "ks" + std::to_string(t)) return;
      }
      ++good;
    });
  for (auto& thread : threads) thread.join();
  CHECK(good == 16);
}

TEST_CASE("discovery over the wire") {
  const branch b([](const std::string& target, const std::string& sql) -> mysql_reply {
    if (sql == "SHOW VITESS_SHARDS") return mysql_result{{"Shards"}, {{"ks/-80"}, {"ks/80-"}}};
    if (sql == columns_query(keyspace_name("ks")))
      return mysql_result{
          {"TABLE_NAME", "TABLE_TYPE", "TABLE_ROWS", "TABLE_COMMENT", "COLUMN_NAME", "COLUMN_TYPE",
           "IS_NULLABLE", "CHARACTER_SET_NAME", "COLLATION_NAME", "EXTRA", "COLUMN_KEY"},
          {{"t", "BASE TABLE", "50", "", "id", "bigint", "NO", std::nullopt, std::nullopt, "", "PRI"},
           {"t", "BASE TABLE", "50", "", "c", "char(120)", "YES", "utf8mb4", "utf8mb4_0900_ai_ci", "", ""}}};
    if (sql == indexes_query(keyspace_name("ks")))
      return mysql_result{
          {"TABLE_NAME", "INDEX_NAME", "NON_UNIQUE", "SEQ_IN_INDEX", "COLUMN_NAME", "NULLABLE"},
          {{"t", "PRIMARY", "0", "1", "id", ""}}};
    if (sql == "SELECT utc_timestamp(6)")
      return mysql_result{{"utc_timestamp(6)"}, {{"2026-11-23 08:30:00.000001"}}};
    if (sql == "SELECT @@global.gtid_purged, @@global.gtid_executed" && target == "ks:80-@replica")
      return mysql_result{{"p", "e"}, {{"u:1-2", "u:1-5,\nv:1"}}};
    if (sql == "SHOW VITESS_TABLETS")
      return mysql_result{{"Cell", "Keyspace", "Shard", "TabletType", "State"},
                          {{"zone1", "ks", "-80", "REPLICA", "SERVING"}}};
    return mysql_error{1064, "42000", "unexpected: " + sql + " in " + target};
  });
  const auto session = connected(b.settings());
  const auto shards = list_shards(*session);
  REQUIRE(shards.has_value());
  CHECK(shards->size() == 2);
  const auto positions = shard_positions(*session, shards->at(1), tablet_type::replica);
  REQUIRE(positions.has_value());
  CHECK(positions->executed == "u:1-5,v:1");
  CHECK(list_tablets(*session)->at(0).type == "REPLICA");
  const auto tables = list_tables(*session, keyspace_name("ks"), shards->size());
  REQUIRE(tables.has_value());
  REQUIRE(tables->size() == 1);
  CHECK(tables->front().row_estimate == std::uint64_t{100});
  CHECK(tables->front().primary_key == std::vector<std::string>{"id"});
  CHECK(server_clock_micros(*session) == 1'795'422'600'000'001);
}

namespace {

/// Shards of keyspaces behind a MySQL port, each with the ids that it holds of a table `t`, and a worker that asks them.
struct sharded_branch {
  sharded_branch()
      : served([this](const std::string& target, const std::string& sql) { return reply(target, sql); }),
        worker(served.settings(), {}, [](const auto&, auto, const auto&) {
          return result<std::map<shard_id, gtid_set>>(fail(error_code::internal, "Nobody peeks here."));
        }) {}

  mysql_reply reply(const std::string& target, const std::string& sql) {
    std::lock_guard<std::mutex> guard(mutex);
    if (sql == "SHOW VITESS_SHARDS") {
      asked.push_back(target.empty() ? "list" : "list in " + target);
      mysql_result list{{"Shards"}, {}};
      for (const auto& shard : listed) list.rows.push_back({shard});
      return list;
    }
    asked.push_back(target);
    if (on_question) on_question(target);
    const auto found = ids.find(target);
    if (found == ids.end()) return mysql_error{1105, "HY000", refusal};
    mysql_result rows{{"number", "id"}, {}};
    static const std::regex one("select (\\d+), `id` from `t` where `id` = (\\d+)");
    for (std::sregex_iterator at(sql.begin(), sql.end(), one), end; at != end; ++at)
      if (found->second.count(std::stoi((*at)[2])) != 0) rows.rows.push_back({(*at)[1].str(), target + ":" + (*at)[2].str()});
    return rows;
  }

  /// Where each row comes from: "ks/-40:1 ks/40-80:2 -", or the failure's code and detail.
  std::string look_up(const std::string& shard, const std::vector<int>& keys, const std::string& keyspace = "ks") {
    row_lookup wanted;
    wanted.table = {keyspace_name(keyspace), table_name("t")};
    wanted.shard = shard_name(shard);
    wanted.columns = {{"id", false}};
    wanted.key.push_back({"id", 265, ""});
    for (const int key : keys) wanted.keys.push_back({std::to_string(key)});
    std::promise<std::string> told;
    worker.ask_rows(wanted, [&told, &keys](result<looked_up_rows> rows) {
      if (!rows) {
        told.set_value(rows.error().message + " / " + rows.error().detail);
        return;
      }
      std::string text = rows->size() == keys.size() ? "" : "not as many rows as keys";
      for (const auto& row : *rows) text += (text.empty() ? "" : " ") + (row ? row->values : std::string("-"));
      told.set_value(text);
    });
    return told.get_future().get();
  }

  /// What was asked since the last call, in order.
  std::string questions() {
    std::lock_guard<std::mutex> guard(mutex);
    std::string text;
    for (const auto& target : std::exchange(asked, {})) text += (text.empty() ? "" : " ") + target;
    return text;
  }

  /// Changes what the server says.
  template <class Change>
  void change(const Change& what) {
    std::lock_guard<std::mutex> guard(mutex);
    what();
  }
  void set(std::vector<std::string> shards_listed, std::map<std::string, std::set<int>> shards_that_answer) {
    change([&] {
      listed = std::move(shards_listed);
      ids = std::move(shards_that_answer);
    });
  }

  std::mutex mutex;
  std::vector<std::string> listed;
  /// By target; a shard that is not here has no tablet.
  std::map<std::string, std::set<int>> ids;
  std::string refusal = "target: ks.-80.primary: no healthy tablet available for 'keyspace:\"ks\"'";
  std::function<void(const std::string&)> on_question;
  std::vector<std::string> asked;
  branch served;
  question_worker worker;
};

}  // namespace

TEST_CASE("rows are looked up with one question where their shard serves") {
  sharded_branch b;
  b.set({"ks/-80", "ks/80-"}, {{"ks/-80", {1, 2}}, {"ks/80-", {3}}});
  CHECK(b.look_up("-80", {2, 3, 1}) == "ks/-80:2 - ks/-80:1");
  CHECK(b.questions() == "ks/-80");
}

TEST_CASE("rows of a shard that was replaced are looked up on the shards that took its keys over") {
  sharded_branch b;
  b.set({"other/-80", "ks/-40", "ks/40-80", "ks/80-"},
        {{"ks/-40", {1, 2}}, {"ks/40-80", {3}}, {"ks/80-", {4}}, {"other/-80", {4}}});
  SUBCASE("split") {
    CHECK(b.look_up("-80", {2, 3, 4, 1}) == "ks/-40:2 ks/40-80:3 - ks/-40:1");
    CHECK(b.questions() == "ks/-80 list ks/-40 ks/40-80");
    // It is known now, and who has everything is asked alone.
    CHECK(b.look_up("-80", {1, 2}) == "ks/-40:1 ks/-40:2");
    CHECK(b.look_up("-80", {3}) == "ks/40-80:3");
    CHECK(b.questions() == "ks/-40 ks/-40 ks/40-80");
    // A shard of the same name in another keyspace is another one.
    CHECK(b.look_up("-80", {4}, "other") == "other/-80:4");
  }
  SUBCASE("merge") {
    b.set({"ks/-"}, {{"ks/-", {1, 4}}});
    CHECK(b.look_up("80-", {4}) == "ks/-:4");
    CHECK(b.look_up("-80", {1, 2}) == "ks/-:1 -");
  }
  SUBCASE("shards of an unsharded keyspace") {
    CHECK(b.look_up("0", {4, 3, 5, 1}) == "ks/80-:4 ks/40-80:3 - ks/-40:1");
    CHECK(b.questions() == "ks/0 list ks/-40 ks/40-80 ks/80-");
    CHECK(b.look_up("-", {4, 3, 5, 1}) == "ks/80-:4 ks/40-80:3 - ks/-40:1");
    b.set({"ks/0"}, {{"ks/0", {7}}});
    CHECK(b.look_up("80-", {7}) == "ks/0:7");
  }
  SUBCASE("replaced again, and switched back") {
    CHECK(b.look_up("-80", {1, 3}) == "ks/-40:1 ks/40-80:3");
    b.set({"ks/-20", "ks/20-40", "ks/40-80", "ks/80-"}, {{"ks/-20", {1}}, {"ks/20-40", {2}}, {"ks/40-80", {3}}});
    CHECK(b.look_up("-80", {1, 2, 3}) == "ks/-20:1 ks/20-40:2 ks/40-80:3");
    b.set({"ks/-80", "ks/80-"}, {{"ks/-80", {1, 2, 3}}});
    CHECK(b.look_up("-80", {1, 2, 3}) == "ks/-80:1 ks/-80:2 ks/-80:3");
    b.questions();
    CHECK(b.look_up("-80", {1}) == "ks/-80:1");
    CHECK(b.questions() == "ks/-80");
  }
  SUBCASE("while its traffic is being switched vtgate has other words") {
    b.change([&b] { b.refusal = "target: ks.-80.primary: current keyspace is being resharded"; });
    CHECK(b.look_up("-80", {1}) == "ks/-40:1");
  }
}

TEST_CASE("no row counts as gone while a shard that may have it does not answer") {
  sharded_branch b;
  const std::string failed = "No primary tablet serves the shard now. / 1105: " + b.refusal;
  SUBCASE("the shard is still listed: its traffic is about to be switched, or it has an outage") {
    b.set({"ks/-80", "ks/80-"}, {{"ks/80-", {4}}});
    CHECK(b.look_up("-80", {1}) == failed);
  }
  SUBCASE("one of the shards that took over is replaced in between") {
    b.set({"ks/-40", "ks/40-80"}, {{"ks/-40", {1}}, {"ks/40-80", {3}}});
    b.change([&b] {
      b.on_question = [&b](const std::string& target) {
        if (target == "ks/-40") b.ids.erase("ks/40-80");
      };
    });
    CHECK(b.look_up("-80", {1, 3}) == failed);
    b.change([&b] { b.on_question = nullptr; });
    b.set({"ks/-40", "ks/40-60", "ks/60-80"}, {{"ks/-40", {1}}, {"ks/60-80", {3}}, {"ks/40-60", {}}});
    CHECK(b.look_up("-80", {1, 3}) == "ks/-40:1 ks/60-80:3");
  }
  SUBCASE("nobody has a part of its keys") {
    b.set({"ks/-40", "ks/60-80", "ks/80-", "other/40-60"}, {{"ks/-40", {1}}, {"ks/60-80", {2}}});
    CHECK(b.look_up("-80", {1}) == failed);
    b.set({"ks/-40", "ks/40-60"}, {{"ks/-40", {1}}, {"ks/40-60", {2}}});
    CHECK(b.look_up("-80", {1}) == failed);
  }
  SUBCASE("names that tell no key range") {
    b.set({"ks/east", "ks/west"}, {{"ks/east", {1}}, {"ks/west", {2}}});
    CHECK(b.look_up("north", {1}) == failed);
    CHECK(b.look_up("-80", {1}) == failed);
  }
}

TEST_CASE("the end of the question worker gives up a peek under way") {
  std::promise<void> asked;
  std::promise<result<std::map<shard_id, gtid_set>>> answered;
  {
    question_worker worker(
        connection_settings{}, {}, [&asked](const auto&, std::chrono::milliseconds limit, const std::function<bool()>& given_up) {
          CHECK(limit == std::chrono::seconds(7));
          asked.set_value();
          while (!given_up()) std::this_thread::yield();
          return result<std::map<shard_id, gtid_set>>(fail(error_code::interrupted, "The read is ending."));
        });
    worker.ask_stops({{keyspace_name("ks"), shard_name("-")}}, std::chrono::seconds(7),
                     [&answered](auto stops) { answered.set_value(stops); });
    asked.get_future().wait();
  }
  const auto stops = answered.get_future().get();
  REQUIRE_FALSE(stops);
  CHECK(stops.error().code == error_code::interrupted);
}
