// One TLS handshake that names the fault.
#include "clients/tls_probe.hpp"

#include <arpa/inet.h>
#include <netdb.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <future>
#include <memory>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "clients/tls_material.hpp"

namespace psource {
namespace {

using clock = std::chrono::steady_clock;

template <auto Free>
struct freed_by {
  template <class T>
  void operator()(T* p) const {
    Free(p);
  }
};
using context_ptr = std::unique_ptr<SSL_CTX, freed_by<SSL_CTX_free>>;
using ssl_ptr = std::unique_ptr<SSL, freed_by<SSL_free>>;
using bio_ptr = std::unique_ptr<BIO, freed_by<BIO_free_all>>;
using x509_ptr = std::unique_ptr<X509, freed_by<X509_free>>;
using key_ptr = std::unique_ptr<EVP_PKEY, freed_by<EVP_PKEY_free>>;

class socket_fd {
 public:
  explicit socket_fd(int fd = -1) : fd_(fd) {}
  socket_fd(socket_fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  socket_fd& operator=(socket_fd&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~socket_fd() {
    if (fd_ >= 0) {
      close(fd_);
    }
  }
  int get() const { return fd_; }

 private:
  int fd_;
};

struct address {
  sockaddr_storage bytes{};
  socklen_t length = 0;
};

struct endpoint {
  std::string host;
  std::uint16_t port = 0;
  std::string name() const { return host + ":" + std::to_string(port); }
};

int milliseconds_left(clock::time_point deadline) {
  const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - clock::now()).count();
  return left <= 0 ? 0 : static_cast<int>(left < 600'000 ? left + 1 : 600'000);
}

// False when the time is over.
bool wait_for(int fd, short events, clock::time_point deadline) {
  for (;;) {
    pollfd p{fd, events, 0};
    const int n = poll(&p, 1, milliseconds_left(deadline));
    if (n > 0) {
      return true;
    }
    if (n == 0 || errno != EINTR) {
      return false;
    }
  }
}

using addresses_or_error = std::pair<std::vector<address>, int>;

addresses_or_error look_up(const std::string& host, std::uint16_t port, int flags) {
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = flags | AI_NUMERICSERV;
  addrinfo* found = nullptr;
  const int error = getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &found);
  addresses_or_error out{{}, error};
  for (addrinfo* a = found; error == 0 && a != nullptr; a = a->ai_next) {
    address item;
    std::memcpy(&item.bytes, a->ai_addr, a->ai_addrlen);
    item.length = a->ai_addrlen;
    out.first.push_back(item);
  }
  if (found != nullptr) {
    freeaddrinfo(found);
  }
  return out;
}

result<std::vector<address>> resolve(const endpoint& to, clock::time_point deadline) {
  if (auto numeric = look_up(to.host, to.port, AI_NUMERICHOST); numeric.second == 0) {
    return std::move(numeric.first);
  }
  // getaddrinfo cannot be interrupted, so it gets a thread that may outlive us; it owns all that it touches.
  std::promise<addresses_or_error> promise;
  std::future<addresses_or_error> future = promise.get_future();
  std::thread([promise = std::move(promise), to]() mutable {
    promise.set_value(look_up(to.host, to.port, AI_ADDRCONFIG));
  }).detach();
  if (future.wait_until(deadline) != std::future_status::ready) {
    return fail(error_code::host_unreachable, "Looking up the host name " + to.host + " took too long.");
  }
  addresses_or_error found = future.get();
  if (found.second != 0 || found.first.empty()) {
    return fail(error_code::host_unreachable,
                "The host name " + to.host + " cannot be resolved. Check the host of the configuration.",
                found.second != 0 ? gai_strerror(found.second) : "");
  }
  return std::move(found.first);
}

result<socket_fd> connect_to(const endpoint& to, clock::time_point deadline) {
  auto addresses = resolve(to, deadline);
  if (!addresses) {
    return fail(addresses.error());
  }
  int last_error = ETIMEDOUT;
  for (const address& a : *addresses) {
    socket_fd fd(socket(a.bytes.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    if (fd.get() < 0) {
      last_error = errno;
      continue;
    }
    if (connect(fd.get(), reinterpret_cast<const sockaddr*>(&a.bytes), a.length) == 0) {
      return fd;
    }
    last_error = errno;
    if (last_error != EINPROGRESS) {
      continue;
    }
    if (!wait_for(fd.get(), POLLOUT, deadline)) {
      last_error = ETIMEDOUT;
      break;
    }
    socklen_t size = sizeof last_error;
    if (getsockopt(fd.get(), SOL_SOCKET, SO_ERROR, &last_error, &size) == 0 && last_error == 0) {
      return fd;
    }
  }
  const std::string reason = std::strerror(last_error);
  if (last_error == ECONNREFUSED) {
    return fail(error_code::host_unreachable,
                "Nothing listens on " + to.name() + " (connection refused). Check host and port.", reason);
  }
  if (last_error == ETIMEDOUT) {
    return fail(
        error_code::host_unreachable,
        "No answer from " + to.name() + ". Check host and port, and whether a firewall is in between.",
        reason);
  }
  return fail(error_code::host_unreachable, "Cannot connect to " + to.name() + ": " + reason + ".", reason);
}

// The handshake runs over memory buffers and the bytes are carried here: OpenSSL's own socket writes raise
// SIGPIPE.
class tls_connection {
 public:
  enum class step { done, failed, closed, timed_out };

  tls_connection(SSL* ssl, int fd, clock::time_point deadline) : ssl_(ssl), fd_(fd), deadline_(deadline) {
    BIO* in = BIO_new(BIO_s_mem());
    BIO* out = BIO_new(BIO_s_mem());
    BIO_set_mem_eof_return(in, -1);
    SSL_set_bio(ssl_, in, out);
  }

  step handshake() {
    return run([this] { return SSL_connect(ssl_); });
  }
  step send(std::string_view bytes) {
    return run([this, bytes] { return SSL_write(ssl_, bytes.data(), static_cast<int>(bytes.size())); });
  }
  // Waits for anything from the server: with TLS 1.3 it judges our certificate only after our side is done.
  step first_byte() {
    char byte;
    return run([this, &byte] { return SSL_read(ssl_, &byte, 1); });
  }
  const std::string& received() const { return received_; }

 private:
  template <class Operation>
  step run(Operation operation) {
    for (;;) {
      ERR_clear_error();
      const int n = operation();
      const int error = n > 0 ? SSL_ERROR_NONE : SSL_get_error(ssl_, n);
      if (!flush() && error != SSL_ERROR_WANT_READ) {
        return n > 0 ? step::done : error == SSL_ERROR_SSL ? step::failed : step::closed;
      }
      if (n > 0) {
        return step::done;
      }
      if (error == SSL_ERROR_ZERO_RETURN) {
        return step::closed;
      }
      if (error != SSL_ERROR_WANT_READ && error != SSL_ERROR_WANT_WRITE) {
        return step::failed;
      }
      char buffer[4096];
      if (!wait_for(fd_, POLLIN, deadline_)) {
        return step::timed_out;
      }
      const ssize_t got = recv(fd_, buffer, sizeof buffer, 0);
      if (got > 0) {
        if (received_.size() < 64) {
          received_.append(buffer, static_cast<std::size_t>(got));
        }
        BIO_write(SSL_get_rbio(ssl_), buffer, static_cast<int>(got));
      } else if (got == 0 || (errno != EAGAIN && errno != EINTR)) {
        return step::closed;
      }
    }
  }

  bool flush() {
    char buffer[4096];
    for (int n; (n = BIO_read(SSL_get_wbio(ssl_), buffer, sizeof buffer)) > 0;) {
      for (int sent = 0; sent < n;) {
        const ssize_t r = ::send(fd_, buffer + sent, static_cast<std::size_t>(n - sent), MSG_NOSIGNAL);
        if (r > 0) {
          sent += static_cast<int>(r);
        } else if (errno == EAGAIN) {
          if (!wait_for(fd_, POLLOUT, deadline_)) {
            return false;
          }
        } else if (errno != EINTR) {
          return false;
        }
      }
    }
    return true;
  }

  SSL* ssl_;
  int fd_;
  clock::time_point deadline_;
  std::string received_;
};

std::string newest_openssl_error() {
  std::string text;
  unsigned long code = 0;
  while ((code = ERR_get_error()) != 0) {
    char buffer[256];
    ERR_error_string_n(code, buffer, sizeof buffer);
    text = buffer;
  }
  return text;
}

bool is_ip_address(const std::string& text) {
  unsigned char bytes[16];
  return inet_pton(AF_INET, text.c_str(), bytes) == 1 || inet_pton(AF_INET6, text.c_str(), bytes) == 1;
}

// Called when the server asks for a client certificate.
int remember_request(SSL*, void* requested) {
  *static_cast<bool*>(requested) = true;
  return 1;
}

int no_pass_phrase(char*, int, int, void*) { return -1; }

bool use_roots(SSL_CTX* context, const std::string& pem) {
  bio_ptr in(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())));
  X509_STORE* store = SSL_CTX_get_cert_store(context);
  int added = 0;
  while (x509_ptr certificate{PEM_read_bio_X509(in.get(), nullptr, no_pass_phrase, nullptr)}) {
    added += X509_STORE_add_cert(store, certificate.get());
  }
  ERR_clear_error();
  return added > 0;
}

bool use_client_certificate(SSL_CTX* context, const tls_settings& tls) {
  bio_ptr chain(
      BIO_new_mem_buf(tls.client_certificate.data(), static_cast<int>(tls.client_certificate.size())));
  x509_ptr own(PEM_read_bio_X509(chain.get(), nullptr, no_pass_phrase, nullptr));
  if (!own || SSL_CTX_use_certificate(context, own.get()) != 1) {
    return false;
  }
  while (x509_ptr next{PEM_read_bio_X509(chain.get(), nullptr, no_pass_phrase, nullptr)}) {
    SSL_CTX_add1_chain_cert(context, next.get());
  }
  ERR_clear_error();
  bio_ptr in(BIO_new_mem_buf(tls.client_key.data(), static_cast<int>(tls.client_key.size())));
  key_ptr key(PEM_read_bio_PrivateKey(in.get(), nullptr, no_pass_phrase, nullptr));
  return key && SSL_CTX_use_PrivateKey(context, key.get()) == 1;
}

tl::unexpected<failure> tls_fault(std::string message, std::string detail) {
  return fail(error_code::tls_failed, std::move(message), std::move(detail));
}

tl::unexpected<failure> verification_fault(long verdict, const endpoint& to, const std::string& name,
                                           bool own_authority) {
  const std::string detail = X509_verify_cert_error_string(verdict);
  const std::string which = own_authority ? "tls.ca_certificate" : "the system's root certificates";
  switch (verdict) {
    case X509_V_ERR_HOSTNAME_MISMATCH:
    case X509_V_ERR_IP_ADDRESS_MISMATCH:
      return tls_fault("The certificate of " + to.name() + " is not made out to \"" + name +
                           "\". Check the host, or set tls.server_name to the name in the certificate.",
                       detail);
    case X509_V_ERR_CERT_HAS_EXPIRED:
      return tls_fault("The certificate of " + to.name() + " has expired. Its owner has to renew it.",
                       detail);
    case X509_V_ERR_CERT_NOT_YET_VALID:
      return tls_fault("The certificate of " + to.name() +
                           " is not valid yet. Check the clock of this machine and of the server.",
                       detail);
    case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
      return tls_fault("The certificate of " + to.name() +
                           " is self-signed. Set tls.ca_certificate to that certificate to trust it.",
                       detail);
    case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
      return tls_fault("The certificate of " + to.name() + " is signed by an authority that is not among " +
                           which + ". Set tls.ca_certificate to the certificate of that authority.",
                       detail);
    default:
      return tls_fault("The certificate of " + to.name() + " is not acceptable: " + detail + ".", detail);
  }
}

// Why the handshake broke off, from the newest reason in OpenSSL's queue.
tl::unexpected<failure> handshake_fault(tls_connection::step step, const endpoint& to,
                                        const tls_settings& tls, bool certificate_requested) {
  const unsigned long code = ERR_peek_last_error();
  const int reason = ERR_GET_LIB(code) == ERR_LIB_SSL ? ERR_GET_REASON(code) : 0;
  const std::string detail = newest_openssl_error();
  // What a server or proxy does that restarts: it says nothing about TLS, nor about the configuration.
  const auto unreachable = [&](std::string message) {
    return fail(error_code::host_unreachable, std::move(message), detail);
  };
  if (step == tls_connection::step::timed_out) {
    return unreachable(
        to.name() +
        " accepts connections, but does not answer the TLS handshake. Check that the port is the gRPC "
        "port; if the server speaks no TLS, set tls.mode to \"disabled\".");
  }
  const bool alert_or_close = step == tls_connection::step::closed || reason >= SSL_AD_REASON_OFFSET;
  if (certificate_requested && alert_or_close) {
    if (tls.client_certificate.empty()) {
      return tls_fault(
          to.name() + " requires a client certificate. Set tls.client_certificate and tls.client_key.",
          detail);
    }
    return tls_fault(to.name() + " does not accept the client certificate of tls.client_certificate.",
                     detail);
  }
  switch (reason) {
    case SSL_R_WRONG_VERSION_NUMBER:
    case SSL_R_HTTP_REQUEST:
    case SSL_R_PACKET_LENGTH_TOO_LONG:
      return tls_fault(
          to.name() +
              " does not speak TLS. Check that the port is the gRPC port; if the server really speaks no "
              "TLS, set tls.mode to \"disabled\".",
          detail);
    case SSL_R_UNSUPPORTED_PROTOCOL:
    case SSL_R_TLSV1_ALERT_PROTOCOL_VERSION:
      return tls_fault(to.name() + " offers only TLS versions that are too old; at least TLS 1.2 is needed.",
                       detail);
    case SSL_R_NO_APPLICATION_PROTOCOL:
    case SSL_R_TLSV1_ALERT_NO_APPLICATION_PROTOCOL:
      return tls_fault(to.name() + " speaks TLS, but not gRPC (it does not offer HTTP/2). Check the port.",
                       detail);
    default:
      break;
  }
  if (step == tls_connection::step::closed) {
    return unreachable(
        to.name() +
        " closed the connection during the TLS handshake. Check that the port is the gRPC port; if the "
        "server speaks no TLS, set tls.mode to \"disabled\".");
  }
  return tls_fault("The TLS handshake with " + to.name() + " failed: " + detail + ".", detail);
}

// HTTP/2's opening words and an empty SETTINGS frame: whatever speaks HTTP/2 answers them.
constexpr std::string_view http2_opening("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0", 33);
constexpr unsigned char alpn_h2[] = {2, 'h', '2'};

}  // namespace

result<void> probe_tls(const std::string& host, std::uint16_t port, const tls_settings& tls,
                       std::chrono::milliseconds limit) {
  const clock::time_point deadline = clock::now() + limit;
  const endpoint to{host, port};
  if (auto checked = check_tls_material(tls); !checked) {
    return fail(checked.error());
  }

  ERR_clear_error();
  context_ptr context(SSL_CTX_new(TLS_client_method()));
  if (!context) {
    return fail(error_code::internal, "OpenSSL does not start.", newest_openssl_error());
  }
  SSL_CTX_set_min_proto_version(context.get(), TLS1_2_VERSION);
  SSL_CTX_set_alpn_protos(context.get(), alpn_h2, sizeof alpn_h2);
  if (tls.enabled) {
    SSL_CTX_set_verify(context.get(), SSL_VERIFY_PEER, nullptr);
    if (!tls.ca_certificate.empty()) {
      if (!use_roots(context.get(), tls.ca_certificate)) {
        return fail(error_code::config_invalid, "tls.ca_certificate is not a certificate in PEM form.");
      }
    } else {
      auto roots = system_roots_file();
      if (!roots) {
        return fail(roots.error());
      }
      SSL_CTX_load_verify_locations(context.get(), roots->c_str(), nullptr);
    }
    if (!tls.client_certificate.empty() && !use_client_certificate(context.get(), tls)) {
      return fail(error_code::config_invalid, "tls.client_certificate and tls.client_key cannot be used.",
                  newest_openssl_error());
    }
  }
  bool certificate_requested = false;
  SSL_CTX_set_cert_cb(context.get(), remember_request, &certificate_requested);
  ssl_ptr ssl(SSL_new(context.get()));
  const std::string name = tls.server_name.empty() ? host : tls.server_name;
  if (is_ip_address(name)) {
    X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl.get()), name.c_str());
  } else {
    SSL_set_tlsext_host_name(ssl.get(), name.c_str());
    SSL_set1_host(ssl.get(), name.c_str());
  }

  auto fd = connect_to(to, deadline);
  if (!fd) {
    return fail(fd.error());
  }
  tls_connection connection(ssl.get(), fd->get(), deadline);
  tls_connection::step step = connection.handshake();

  if (!tls.enabled) {
    if (step == tls_connection::step::done) {
      return tls_fault(to.name() + " speaks TLS, but the configuration disables it. Set tls.mode to \"verify\".",
                       "");
    }
    ERR_clear_error();
    return {};
  }
  if (step != tls_connection::step::done) {
    const long verdict = SSL_get_verify_result(ssl.get());
    if (verdict != X509_V_OK) {
      ERR_clear_error();
      return verification_fault(verdict, to, name, !tls.ca_certificate.empty());
    }
    return handshake_fault(step, to, tls, certificate_requested);
  }
  const unsigned char* chosen = nullptr;
  unsigned chosen_size = 0;
  SSL_get0_alpn_selected(ssl.get(), &chosen, &chosen_size);
  if (std::string_view(reinterpret_cast<const char*>(chosen), chosen_size) != "h2") {
    return tls_fault(to.name() + " speaks TLS, but not gRPC (it does not offer HTTP/2). Check the port.", "");
  }
  // Its outcome shows in the read below.
  connection.send(http2_opening);
  step = connection.first_byte();
  if (step != tls_connection::step::done) {
    return handshake_fault(step, to, tls, certificate_requested);
  }
  return {};
}

}  // namespace psource
