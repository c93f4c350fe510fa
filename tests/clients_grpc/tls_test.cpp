// TLS: what the gRPC client accepts and refuses, and how the probe names each fault.
#include <arpa/inet.h>
#include <doctest/doctest.h>
#include <netinet/in.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "clients/grpc_vstream.hpp"
#include "clients/tls_material.hpp"
#include "clients/tls_probe.hpp"
#include "tests/clients_grpc/certificates.hpp"
#include "tests/clients_grpc/recording_listener.hpp"
#include "tests/clients_grpc/scripted_server.hpp"

// c-ares 1.18 loses a copy of the name "localhost".
extern "C" const char* __lsan_default_suppressions();
extern "C" const char* __lsan_default_suppressions() { return "leak:libcares"; }

using namespace psource;
using namespace psource::test;
using namespace std::chrono_literals;

namespace {

constexpr auto probe_limit = 20s;

std::shared_ptr<grpc::ServerCredentials> server_credentials(const identity& own,
                                                            const std::string& client_ca = "") {
  grpc::SslServerCredentialsOptions options(client_ca.empty()
                                                ? GRPC_SSL_DONT_REQUEST_CLIENT_CERTIFICATE
                                                : GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY);
  options.pem_key_cert_pairs.push_back({own.key, own.certificate});
  options.pem_root_certs = client_ca;
  return grpc::SslServerCredentials(options);
}

call_script one_word(const seen_call&) { return {{"word"}, 1, grpc::Status::OK}; }

struct outcome {
  std::size_t responses = 0;
  stream_end end;
};

outcome call_once(const connection_settings& settings) {
  auto client = grpc_vstream_client::make(settings, {1, true});
  REQUIRE_MESSAGE(client.has_value(), (client ? "" : client.error().message));
  auto listener = std::make_shared<recording_listener>();
  auto call = (*client)->open({"r"}, listener);
  outcome o;
  o.responses = take_all(*call, *listener).size();
  o.end = listener->wait_for_end().value_or(stream_end{});
  CHECK((*client)->wait_until_idle(patience));
  return o;
}

// Checks both the probe's verdict and that gRPC fails as well.
void check_refused(const connection_settings& settings, const std::string& words) {
  const auto probed = probe_tls(settings.host, settings.port, settings.tls, probe_limit);
  REQUIRE_FALSE(probed.has_value());
  CHECK(probed.error().code == error_code::tls_failed);
  CHECK_MESSAGE(probed.error().message.find(words) != std::string::npos, probed.error().message);
  const outcome o = call_once(settings);
  CHECK(o.responses == 0);
  CHECK(o.end.status_code == 14);
}

// A listening socket on 127.0.0.1 whose one connection is handled by a function on a thread.
class raw_server {
 public:
  explicit raw_server(std::function<void(int fd)> handle) {
    listening_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    if (bind(listening_, reinterpret_cast<sockaddr*>(&address), size) != 0 || listen(listening_, 4) != 0 ||
        getsockname(listening_, reinterpret_cast<sockaddr*>(&address), &size) != 0) {
      throw std::runtime_error("the raw server cannot listen");
    }
    port_ = ntohs(address.sin_port);
    thread_ = std::thread([this, handle = std::move(handle)] {
      // On this thread only: the client's own writes must not raise SIGPIPE, and the test would see it.
      sigset_t pipe;
      sigemptyset(&pipe);
      sigaddset(&pipe, SIGPIPE);
      pthread_sigmask(SIG_BLOCK, &pipe, nullptr);
      const int fd = accept(listening_, nullptr, nullptr);
      if (fd >= 0) {
        handle(fd);
        ::close(fd);
      }
    });
  }
  ~raw_server() {
    shutdown(listening_, SHUT_RDWR);
    thread_.join();
    ::close(listening_);
  }
  std::uint16_t port() const { return port_; }

 private:
  int listening_ = -1;
  std::uint16_t port_ = 0;
  std::thread thread_;
};

void read_to_end(int fd) {
  char buffer[1024];
  while (read(fd, buffer, sizeof buffer) > 0) {
  }
}

// Serves one TLS handshake with OpenSSL itself, for what gRPC's server cannot be made to do.
std::function<void(int)> tls_handler(const identity& own, std::function<void(SSL_CTX*)> configure) {
  return [own, configure](int fd) {
    SSL_CTX* context = SSL_CTX_new(TLS_server_method());
    BIO* certificate_text = BIO_new_mem_buf(own.certificate.data(), -1);
    X509* certificate = PEM_read_bio_X509(certificate_text, nullptr, nullptr, nullptr);
    BIO* key_text = BIO_new_mem_buf(own.key.data(), -1);
    EVP_PKEY* key = PEM_read_bio_PrivateKey(key_text, nullptr, nullptr, nullptr);
    SSL_CTX_use_certificate(context, certificate);
    SSL_CTX_use_PrivateKey(context, key);
    configure(context);
    SSL* ssl = SSL_new(context);
    SSL_set_fd(ssl, fd);
    if (SSL_accept(ssl) == 1) {
      char byte;
      SSL_read(ssl, &byte, 1);
    }
    ERR_clear_error();
    SSL_free(ssl);
    SSL_CTX_free(context);
    X509_free(certificate);
    EVP_PKEY_free(key);
    BIO_free(certificate_text);
    BIO_free(key_text);
  };
}

int choose_h2(SSL*, const unsigned char** out, unsigned char* size, const unsigned char*, unsigned, void*) {
  static const unsigned char h2[] = {'h', '2'};
  *out = h2;
  *size = 2;
  return SSL_TLSEXT_ERR_OK;
}

}  // namespace

TEST_CASE("TLS with the right authority and name") {
  const authority ca;
  scripted_server server(one_word, server_credentials(ca.issue("server", "DNS:localhost,IP:127.0.0.1")));
  connection_settings settings = server.settings();
  settings.tls.enabled = true;
  settings.tls.ca_certificate = ca.certificate();
  SUBCASE("by address") {}
  SUBCASE("by name") { settings.host = "localhost"; }
  SUBCASE("by a name given") { settings.tls.server_name = "localhost"; }
  const auto probed = probe_tls(settings.host, settings.port, settings.tls, probe_limit);
  REQUIRE_MESSAGE(probed.has_value(), (probed ? "" : probed.error().message));
  const outcome o = call_once(settings);
  CHECK(o.responses == 1);
  CHECK(o.end.status_code == 0);
}

TEST_CASE("TLS faults are refused by gRPC and named by the probe") {
  const authority ca;
  const authority other_ca;
  tls_settings tls;
  tls.ca_certificate = ca.certificate();
  std::shared_ptr<grpc::ServerCredentials> credentials;
  std::string words;
  SUBCASE("wrong authority") {
    credentials = server_credentials(ca.issue("server", "IP:127.0.0.1"));
    tls.ca_certificate = other_ca.certificate();
    words = "not among tls.ca_certificate";
  }
  SUBCASE("the system's roots do not know it") {
    credentials = server_credentials(ca.issue("server", "IP:127.0.0.1"));
    tls.ca_certificate.clear();
    words = "not among the system's root certificates";
  }
  SUBCASE("wrong name") {
    credentials = server_credentials(ca.issue("server", "DNS:db.example"));
    words = "not made out to \"127.0.0.1\"";
  }
  SUBCASE("wrong name given") {
    credentials = server_credentials(ca.issue("server", "DNS:db.example"));
    tls.server_name = "web.example";
    words = "not made out to \"web.example\"";
  }
  SUBCASE("expired") {
    credentials = server_credentials(ca.issue("server", "IP:127.0.0.1", -20, -10));
    words = "has expired";
  }
  SUBCASE("not yet valid") {
    credentials = server_credentials(ca.issue("server", "IP:127.0.0.1", 10, 20));
    words = "not valid yet";
  }
  SUBCASE("self-signed") {
    credentials = server_credentials(self_signed("IP:127.0.0.1"));
    words = "is self-signed";
  }
  SUBCASE("client certificate required") {
    credentials = server_credentials(ca.issue("server", "IP:127.0.0.1"), ca.certificate());
    words = "requires a client certificate";
  }
  SUBCASE("client certificate of a stranger") {
    credentials = server_credentials(ca.issue("server", "IP:127.0.0.1"), ca.certificate());
    const identity stranger = other_ca.issue("client", "");
    tls.client_certificate = stranger.certificate;
    tls.client_key = stranger.key;
    words = "does not accept the client certificate";
  }
  SUBCASE("the server speaks no TLS") { words = "speaks no TLS"; }
  scripted_server server(one_word, credentials);
  connection_settings settings = server.settings();
  settings.tls = tls;
  check_refused(settings, words);
}

TEST_CASE("client certificate accepted") {
  const authority ca;
  scripted_server server(one_word, server_credentials(ca.issue("server", "IP:127.0.0.1"), ca.certificate()));
  connection_settings settings = server.settings();
  const identity own = ca.issue("client", "");
  settings.tls.enabled = true;
  settings.tls.ca_certificate = ca.certificate();
  settings.tls.client_certificate = own.certificate;
  settings.tls.client_key = own.key;
  const auto probed = probe_tls(settings.host, settings.port, settings.tls, probe_limit);
  REQUIRE_MESSAGE(probed.has_value(), (probed ? "" : probed.error().message));
  CHECK(call_once(settings).responses == 1);
}

TEST_CASE("TLS disabled against servers with and without it") {
  const authority ca;
  tls_settings tls;
  tls.enabled = false;
  {
    scripted_server server(one_word, server_credentials(ca.issue("server", "IP:127.0.0.1")));
    const auto probed = probe_tls("127.0.0.1", server.port(), tls, probe_limit);
    REQUIRE_FALSE(probed.has_value());
    CHECK(probed.error().message.find("speaks TLS, but") != std::string::npos);
  }
  {
    scripted_server server(one_word);
    const auto probed = probe_tls("127.0.0.1", server.port(), tls, probe_limit);
    CHECK(probed.has_value());
  }
}

TEST_CASE("the probe against servers that are something else") {
  const authority ca;
  const identity own = ca.issue("server", "IP:127.0.0.1");
  tls_settings tls;
  tls.ca_certificate = ca.certificate();
  std::function<void(int)> handler;
  std::string words;
  std::chrono::milliseconds limit = probe_limit;
  error_code code = error_code::tls_failed;
  SUBCASE("MySQL's port") {
    handler = [](int fd) {
      const std::string greeting(
          "\x4a\0\0\0\x0a"
          "8.0.30-Vitess\0",
          19);
      CHECK(write(fd, greeting.data(), greeting.size()) == 19);
      read_to_end(fd);
    };
    words = "does not speak TLS";
  }
  SUBCASE("hangs up") {
    handler = [](int) {};
    words = "during the TLS handshake";
    code = error_code::host_unreachable;  // as one that restarts does
  }
  SUBCASE("never answers") {
    handler = read_to_end;
    limit = 200ms;
    code = error_code::host_unreachable;
    words = "does not answer the TLS handshake";
  }
  SUBCASE("old protocol") {
    handler = tls_handler(own, [](SSL_CTX* c) {
      SSL_CTX_set_cipher_list(c, "ALL:@SECLEVEL=0");
      SSL_CTX_set_min_proto_version(c, TLS1_VERSION);
      SSL_CTX_set_max_proto_version(c, TLS1_1_VERSION);
    });
    words = "too old";
  }
  SUBCASE("no HTTP/2") {
    handler = tls_handler(own, [](SSL_CTX*) {});
    words = "does not offer HTTP/2";
  }
  SUBCASE("TLS 1.2 with a client certificate required") {
    handler = tls_handler(own, [](SSL_CTX* c) {
      SSL_CTX_set_max_proto_version(c, TLS1_2_VERSION);
      SSL_CTX_set_alpn_select_cb(c, choose_h2, nullptr);
      SSL_CTX_set_verify(c, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nullptr);
    });
    words = "requires a client certificate";
  }
  raw_server server(handler);
  const auto probed = probe_tls("127.0.0.1", server.port(), tls, limit);
  REQUIRE_FALSE(probed.has_value());
  CHECK(probed.error().code == code);
  CHECK_MESSAGE(probed.error().message.find(words) != std::string::npos, probed.error().message);
}

TEST_CASE("the probe names what is not TLS's fault") {
  std::uint16_t unused = 0;
  {
    unused = raw_server([](int) {}).port();
  }
  const auto refused = probe_tls("127.0.0.1", unused, {}, probe_limit);
  REQUIRE_FALSE(refused.has_value());
  CHECK(refused.error().code == error_code::host_unreachable);
  CHECK(refused.error().message.find("refused") != std::string::npos);

  const auto unknown = probe_tls("no-such-host.invalid", 443, {}, probe_limit);
  REQUIRE_FALSE(unknown.has_value());
  CHECK(unknown.error().code == error_code::host_unreachable);
}

TEST_CASE("PEM texts are checked before anything connects") {
  const authority ca;
  const identity one = ca.issue("one", "");
  const identity two = ca.issue("two", "");
  connection_settings settings;
  settings.host = "127.0.0.1";
  std::string key;
  SUBCASE("authority") {
    settings.tls.ca_certificate = "not a certificate";
    key = "tls.ca_certificate";
  }
  SUBCASE("certificate without key") {
    settings.tls.client_certificate = one.certificate;
    key = "tls.client_key";
  }
  SUBCASE("certificate broken") {
    settings.tls.client_certificate = one.certificate.substr(0, 60);
    settings.tls.client_key = one.key;
    key = "tls.client_certificate";
  }
  SUBCASE("key broken") {
    settings.tls.client_certificate = one.certificate;
    settings.tls.client_key = "secret nonsense";
    key = "tls.client_key";
  }
  SUBCASE("key of another") {
    settings.tls.client_certificate = one.certificate;
    settings.tls.client_key = two.key;
    key = "tls.client_key";
  }
  const auto made = grpc_vstream_client::make(settings, {});
  REQUIRE_FALSE(made.has_value());
  CHECK(made.error().code == error_code::config_invalid);
  CHECK(made.error().message.find(key) != std::string::npos);
  CHECK(made.error().message.find("secret") == std::string::npos);
  CHECK_FALSE(probe_tls("127.0.0.1", 1, settings.tls, 1s).has_value());
}

TEST_CASE("gRPC's log goes to the sink") {
  const authority ca;
  const authority other_ca;
  scripted_server server(one_word, server_credentials(ca.issue("server", "IP:127.0.0.1")));
  connection_settings settings = server.settings();
  settings.tls.enabled = true;
  settings.tls.ca_certificate = other_ca.certificate();
  struct collected {
    std::mutex mutex;
    std::vector<std::string> lines;
  };
  auto log = std::make_shared<collected>();
  set_grpc_log_sink([log](std::string_view line) {
    std::lock_guard<std::mutex> lock(log->mutex);
    log->lines.emplace_back(line);
  });
  const outcome o = call_once(settings);
  set_grpc_log_sink({});
  CHECK(o.end.status_code == 14);
  std::lock_guard<std::mutex> lock(log->mutex);
  CHECK_FALSE(log->lines.empty());
}
