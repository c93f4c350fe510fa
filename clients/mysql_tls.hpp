// TLS for the MySQL port: files that exist in memory only, and a look at the server's certificate.
#pragma once

#include <chrono>
#include <string>

#include "clients/connection.hpp"
#include "protocol/failure.hpp"

namespace psource {

/// A file without a name that lives as long as the object: for libraries that want a path for what is a
/// secret.
class memory_file {
 public:
  memory_file() = default;
  /// Errors: internal (no memory_file can be made).
  static result<memory_file> make(const std::string& content);
  ~memory_file();
  memory_file(memory_file&& other) noexcept;
  memory_file& operator=(memory_file&& other) noexcept;

  /// A path by which this process can open the file; empty for a default-made object.
  std::string path() const;

 private:
  int fd_ = -1;
};

/// Connects, starts TLS as MySQL clients do, verifies the server's certificate (chain, and the name
/// tls.server_name), hangs up, and returns the certificate's SHA-1 fingerprint in hexadecimal digits. For
/// libmysqlclient, which can compare certificates with the host name only. Never sends a login. `limit` holds
/// for the whole of it. The texts in settings.tls must have passed
/// check_tls_material(). Errors: host_unreachable, tls_failed, response_malformed.
result<std::string> verified_fingerprint(const connection_settings& settings, std::chrono::seconds limit);

}  // namespace psource
