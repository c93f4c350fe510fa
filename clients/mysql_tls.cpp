// OpenSSL's part of the MySQL port.
#include "clients/mysql_tls.hpp"

#include <openssl/x509_vfy.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <optional>
#include <string_view>
#include <utility>

#include "clients/deadline_socket.hpp"
#include "clients/mysql_session.hpp"
#include "clients/openssl.hpp"
#include "clients/tls_material.hpp"

namespace psource {
namespace {

constexpr std::uint32_t capability_ssl = 0x800;

/// The capabilities of a greeting of protocol version 10; nothing for anything else.
std::optional<std::uint32_t> greeting_capabilities(std::string_view packet) {
  if (packet.empty() || packet[0] != 10) return std::nullopt;
  const auto version_end = packet.find('\0', 1);
  if (version_end == std::string_view::npos) return std::nullopt;
  const std::size_t at = version_end + 1 + 4 + 8 + 1;  // thread id, first part of the scramble, a zero
  if (packet.size() < at + 2) return std::nullopt;
  return static_cast<unsigned char>(packet[at]) |
         static_cast<std::uint32_t>(static_cast<unsigned char>(packet[at + 1])) << 8;
}

}  // namespace

result<memory_file> memory_file::make(const std::string& content) {
  memory_file file;
  file.fd_ = ::memfd_create("tls", MFD_CLOEXEC);
  std::string_view rest = content;
  while (file.fd_ >= 0 && !rest.empty()) {
    const ssize_t put = ::write(file.fd_, rest.data(), rest.size());
    if (put < 0 && errno == EINTR) continue;
    if (put <= 0) break;
    rest.remove_prefix(static_cast<std::size_t>(put));
  }
  if (file.fd_ < 0 || !rest.empty())
    return fail(error_code::internal, "The TLS certificates could not be put into memory.",
                std::strerror(errno));
  return file;
}

memory_file::~memory_file() {
  if (fd_ >= 0) ::close(fd_);
}
memory_file::memory_file(memory_file&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
memory_file& memory_file::operator=(memory_file&& other) noexcept {
  std::swap(fd_, other.fd_);
  return *this;
}

std::string memory_file::path() const { return fd_ < 0 ? "" : "/proc/self/fd/" + std::to_string(fd_); }

result<std::string> verified_fingerprint(const connection_settings& settings, std::chrono::seconds limit) {
  const std::string where = mysql_endpoint(settings);
  const std::string host = settings.mysql_host.empty() ? settings.host : settings.mysql_host;
  const auto refuse = [&](unsigned code, const std::string& text) {
    return fail(explain_mysql_fault({code, text, true, {}}, settings));
  };
  constexpr unsigned unknown_host = 2005, no_connection = 2003, lost = 2013, tls_error = 2026,
                     malformed = 2027;

  deadline_socket socket(deadline_socket::clock::now() + limit);
  const auto broken = [&](int error) {
    return fail(explain_mysql_fault(
        {lost, std::strerror(error), true, error == ETIMEDOUT ? limit : std::chrono::seconds{0}}, settings));
  };
  if (const auto why = socket.connect(host, settings.mysql_port)) {
    if (why->why == deadline_socket::fault::cause::unknown_host) return refuse(unknown_host, why->text);
    if (why->error == ETIMEDOUT) return broken(why->error);
    return refuse(no_connection, why->text + " (" + std::to_string(why->error) + ")");
  }

  std::array<char, 4> header{};
  if (const int error = socket.read(header.data(), header.size())) return broken(error);
  const auto byte = [&](std::size_t i) { return std::size_t{static_cast<unsigned char>(header[i])}; };
  const std::size_t size = byte(0) | byte(1) << 8 | byte(2) << 16;
  if (size > 4096) return refuse(malformed, "the server's first packet is too long");
  std::string greeting(size, '\0');
  if (const int error = socket.read(greeting.data(), greeting.size())) return broken(error);
  const auto capabilities = greeting_capabilities(greeting);
  if (!capabilities) return refuse(malformed, "the server's first packet is no greeting of MySQL");
  if ((*capabilities & capability_ssl) == 0)
    return refuse(tls_error, "SSL is required, but the server does not support it");

  // SSLRequest: protocol 4.1, SSL, secure connection; 16 MiB packets; utf8mb4.
  std::array<char, 36> request{32, 0, 0, 1, 0, '\x8A', 0, 0, 0, 0, 0, 1, 45};
  if (::send(socket.fd(), request.data(), request.size(), MSG_NOSIGNAL) !=
      static_cast<ssize_t>(request.size()))
    return broken(errno);

  auto made = make_tls_context(settings.tls);
  if (!made) return fail(std::move(made.error()));
  const owned<SSL_CTX> context = std::move(*made);
  const owned<SSL> ssl(SSL_new(context.get()));
  const char* const name = settings.tls.server_name.empty() ? host.c_str() : settings.tls.server_name.c_str();
  X509_VERIFY_PARAM* const expected = ssl ? SSL_get0_param(ssl.get()) : nullptr;
  if (expected == nullptr ||
      (X509_VERIFY_PARAM_set1_ip_asc(expected, name) != 1 &&
       X509_VERIFY_PARAM_set1_host(expected, name, 0) != 1) ||
      SSL_set_fd(ssl.get(), socket.fd()) != 1)
    return fail(error_code::internal, "OpenSSL could not be set up.", newest_openssl_error());
  // No server name indication: libmysqlclient sends none either, and must be shown the same certificate.
  for (;;) {
    const int done = SSL_connect(ssl.get());
    if (done == 1) break;
    switch (SSL_get_error(ssl.get(), done)) {
      case SSL_ERROR_WANT_READ:
        if (!socket.wait(POLLIN)) return broken(ETIMEDOUT);
        break;
      case SSL_ERROR_WANT_WRITE:
        if (!socket.wait(POLLOUT)) return broken(ETIMEDOUT);
        break;
      default: {
        const long verdict = SSL_get_verify_result(ssl.get());
        const std::string reason = newest_openssl_error();
        if (verdict != X509_V_OK) return refuse(tls_error, X509_verify_cert_error_string(verdict));
        return refuse(tls_error, reason.empty() ? "the server ended the TLS handshake" : reason);
      }
    }
  }
  const owned<X509> certificate(SSL_get1_peer_certificate(ssl.get()));
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
  unsigned digest_size = 0;
  if (!certificate || X509_digest(certificate.get(), EVP_sha1(), digest.data(), &digest_size) != 1)
    return refuse(tls_error, "the server showed no certificate");
  std::string out;
  for (unsigned i = 0; i < digest_size; ++i) {
    constexpr char digits[] = "0123456789abcdef";
    out.push_back(digits[digest[i] >> 4]);
    out.push_back(digits[digest[i] & 15]);
  }
  return out;
}

}  // namespace psource
