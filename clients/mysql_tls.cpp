// OpenSSL's part of the MySQL port.
#include "clients/mysql_tls.hpp"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netdb.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509_vfy.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <memory>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "clients/mysql_session.hpp"
#include "clients/tls_material.hpp"

namespace psource {
namespace {

struct openssl_free {
  void operator()(BIO* p) const { BIO_free_all(p); }
  void operator()(X509* p) const { X509_free(p); }
  void operator()(EVP_PKEY* p) const { EVP_PKEY_free(p); }
  void operator()(SSL* p) const { SSL_free(p); }
  void operator()(SSL_CTX* p) const { SSL_CTX_free(p); }
};
template <class T>
using owned = std::unique_ptr<T, openssl_free>;

/// An encrypted key must be an error, not a question on the terminal.
int no_passphrase(char*, int, int, void*) { return 0; }

std::string openssl_error() {
  std::array<char, 256> text{};
  const unsigned long code = ERR_peek_error();
  ERR_clear_error();
  if (code == 0) return "";
  ERR_error_string_n(code, text.data(), text.size());
  return text.data();
}

owned<BIO> open_text(const std::string& text) {
  return owned<BIO>(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
}

std::vector<owned<X509>> read_certificates(const std::string& pem) {
  std::vector<owned<X509>> out;
  const auto bio = open_text(pem);
  while (X509* certificate = PEM_read_bio_X509(bio.get(), nullptr, no_passphrase, nullptr))
    out.emplace_back(certificate);
  ERR_clear_error();
  return out;
}

owned<EVP_PKEY> read_key(const std::string& pem) {
  const auto bio = open_text(pem);
  return owned<EVP_PKEY>(PEM_read_bio_PrivateKey(bio.get(), nullptr, no_passphrase, nullptr));
}

/// A TCP connection under one deadline for all that happens on it.
class deadline_socket {
 public:
  explicit deadline_socket(std::chrono::seconds limit) : end_(std::chrono::steady_clock::now() + limit) {}
  ~deadline_socket() { close(); }
  deadline_socket(const deadline_socket&) = delete;
  deadline_socket& operator=(const deadline_socket&) = delete;

  int fd() const { return fd_; }

  /// 0, or the errno of the last address tried.
  int connect(const addrinfo* addresses) {
    int error = EADDRNOTAVAIL;
    for (const addrinfo* a = addresses; a != nullptr; a = a->ai_next) {
      close();
      fd_ = ::socket(a->ai_family, a->ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, a->ai_protocol);
      if (fd_ < 0) {
        error = errno;
        continue;
      }
      if (::connect(fd_, a->ai_addr, a->ai_addrlen) == 0) return 0;
      error = errno;
      if (error != EINPROGRESS) continue;
      if (!wait(POLLOUT)) return ETIMEDOUT;
      socklen_t size = sizeof error;
      if (::getsockopt(fd_, SOL_SOCKET, SO_ERROR, &error, &size) != 0) error = errno;
      if (error == 0) return 0;
    }
    return error;
  }

  /// Waits for `events` (POLLIN, POLLOUT); false = the deadline passed.
  bool wait(short events) {
    for (;;) {
      const auto left =
          std::chrono::duration_cast<std::chrono::milliseconds>(end_ - std::chrono::steady_clock::now());
      if (left.count() <= 0) return false;
      pollfd waiting{fd_, events, 0};
      const int ready = ::poll(&waiting, 1, static_cast<int>(left.count()) + 1);
      if (ready > 0) return true;
      if (ready < 0 && errno != EINTR) return false;
    }
  }

  /// 0, or an errno (ECONNRESET also when the server hangs up).
  int read(char* to, std::size_t size) {
    while (size > 0) {
      const ssize_t got = ::recv(fd_, to, size, 0);
      if (got > 0) {
        to += got;
        size -= static_cast<std::size_t>(got);
      } else if (got == 0) {
        return ECONNRESET;
      } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
        if (!wait(POLLIN)) return ETIMEDOUT;
      } else if (errno != EINTR) {
        return errno;
      }
    }
    return 0;
  }

 private:
  void close() {
    if (fd_ >= 0) ::close(fd_);
    fd_ = -1;
  }
  int fd_ = -1;
  std::chrono::steady_clock::time_point end_;
};

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

  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (const int error =
          ::getaddrinfo(host.c_str(), std::to_string(settings.mysql_port).c_str(), &hints, &found))
    return refuse(unknown_host, ::gai_strerror(error));
  const std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> addresses(found, &::freeaddrinfo);

  deadline_socket socket(limit);
  const auto broken = [&](int error) {
    return fail(explain_mysql_fault(
        {lost, std::strerror(error), true, error == ETIMEDOUT ? limit : std::chrono::seconds{0}}, settings));
  };
  if (const int error = socket.connect(addresses.get())) {
    if (error == ETIMEDOUT) return broken(error);
    return refuse(no_connection, std::string(std::strerror(error)) + " (" + std::to_string(error) + ")");
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

  const owned<SSL_CTX> context(SSL_CTX_new(TLS_client_method()));
  if (!context) return fail(error_code::internal, "OpenSSL could not be set up.", openssl_error());
  SSL_CTX_set_min_proto_version(context.get(), TLS1_2_VERSION);
  if (!settings.tls.ca_certificate.empty()) {
    X509_STORE* store = SSL_CTX_get_cert_store(context.get());
    for (const auto& certificate : read_certificates(settings.tls.ca_certificate))
      X509_STORE_add_cert(store, certificate.get());
  } else {
    const auto roots = system_roots_file();
    if (!roots) return tl::unexpected(roots.error());
    SSL_CTX_load_verify_locations(context.get(), roots->c_str(), nullptr);
  }
  if (!settings.tls.client_certificate.empty()) {
    const auto chain = read_certificates(settings.tls.client_certificate);
    const auto key = read_key(settings.tls.client_key);
    if (chain.empty() || !key) return refuse(tls_error, "the client certificate cannot be used");
    SSL_CTX_use_certificate(context.get(), chain.front().get());
    for (std::size_t i = 1; i < chain.size(); ++i) SSL_CTX_add1_chain_cert(context.get(), chain[i].get());
    SSL_CTX_use_PrivateKey(context.get(), key.get());
  }
  SSL_CTX_set_verify(context.get(), SSL_VERIFY_PEER, nullptr);
  ERR_clear_error();

  const owned<SSL> ssl(SSL_new(context.get()));
  const char* const name = settings.tls.server_name.empty() ? host.c_str() : settings.tls.server_name.c_str();
  X509_VERIFY_PARAM* const expected = ssl ? SSL_get0_param(ssl.get()) : nullptr;
  if (expected == nullptr ||
      (X509_VERIFY_PARAM_set1_ip_asc(expected, name) != 1 &&
       X509_VERIFY_PARAM_set1_host(expected, name, 0) != 1) ||
      SSL_set_fd(ssl.get(), socket.fd()) != 1)
    return fail(error_code::internal, "OpenSSL could not be set up.", openssl_error());
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
        const std::string reason = openssl_error();
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
