// One TLS handshake that names the fault.
#include "clients/tls_probe.hpp"

#include <arpa/inet.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <sys/socket.h>

#include <cerrno>
#include <string_view>
#include <utility>

#include "clients/deadline_socket.hpp"
#include "clients/openssl.hpp"
#include "clients/tls_material.hpp"

namespace psource {
namespace {

struct endpoint {
  std::string host;
  std::uint16_t port = 0;
  std::string name() const { return host + ":" + std::to_string(port); }
};

failure explain(const deadline_socket::fault& why, const endpoint& to) {
  const auto unreachable = [&](std::string message) {
    return failure{error_code::host_unreachable, std::move(message), why.text, std::nullopt};
  };
  if (why.why == deadline_socket::fault::cause::slow_look_up)
    return unreachable("Looking up the host name " + to.host + " took too long.");
  if (why.why == deadline_socket::fault::cause::unknown_host)
    return unreachable("The host name " + to.host + " cannot be resolved. Check the host of the configuration.");
  if (why.error == ECONNREFUSED)
    return unreachable("Nothing listens on " + to.name() + " (connection refused). Check host and port.");
  if (why.error == ETIMEDOUT)
    return unreachable("No answer from " + to.name() + ". Check host and port, and whether a firewall is in between.");
  return unreachable("Cannot connect to " + to.name() + ": " + why.text + ".");
}

// The handshake runs over memory buffers and the bytes are carried here: OpenSSL's own socket writes raise
// SIGPIPE.
class tls_connection {
 public:
  enum class step { done, failed, closed, timed_out };

  tls_connection(SSL* ssl, deadline_socket& socket) : ssl_(ssl), socket_(socket) {
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
      if (!socket_.wait(POLLIN)) {
        return step::timed_out;
      }
      const ssize_t got = recv(socket_.fd(), buffer, sizeof buffer, 0);
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
        const ssize_t r = ::send(socket_.fd(), buffer + sent, static_cast<std::size_t>(n - sent), MSG_NOSIGNAL);
        if (r > 0) {
          sent += static_cast<int>(r);
        } else if (errno == EAGAIN) {
          if (!socket_.wait(POLLOUT)) {
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
  deadline_socket& socket_;
  std::string received_;
};

bool is_ip_address(const std::string& text) {
  unsigned char bytes[16];
  return inet_pton(AF_INET, text.c_str(), bytes) == 1 || inet_pton(AF_INET6, text.c_str(), bytes) == 1;
}

// Called when the server asks for a client certificate.
int remember_request(SSL*, void* requested) {
  *static_cast<bool*>(requested) = true;
  return 1;
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
  deadline_socket socket(deadline_socket::clock::now() + limit);
  const endpoint to{host, port};
  if (auto checked = check_tls_material(tls); !checked) {
    return fail(checked.error());
  }

  auto made = make_tls_context(tls);
  if (!made) return fail(std::move(made.error()));
  const owned<SSL_CTX> context = std::move(*made);
  SSL_CTX_set_alpn_protos(context.get(), alpn_h2, sizeof alpn_h2);
  bool certificate_requested = false;
  SSL_CTX_set_cert_cb(context.get(), remember_request, &certificate_requested);
  const owned<SSL> ssl(SSL_new(context.get()));
  const std::string name = tls.server_name.empty() ? host : tls.server_name;
  if (is_ip_address(name)) {
    X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl.get()), name.c_str());
  } else {
    SSL_set_tlsext_host_name(ssl.get(), name.c_str());
    SSL_set1_host(ssl.get(), name.c_str());
  }

  if (const auto why = socket.connect(host, port)) {
    return fail(explain(*why, to));
  }
  tls_connection connection(ssl.get(), socket);
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
