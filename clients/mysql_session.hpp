// A session with the branch's MySQL port over TCP, with TLS, time limits, and errors that say what to do.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "clients/connection.hpp"
#include "clients/mysql_port.hpp"
#include "protocol/failure.hpp"

namespace psource {

/// How long the session waits, in whole seconds (1 at least).
struct mysql_limits {
  /// For each of the host's addresses; and for each answer while logging in.
  std::chrono::seconds connect{10};
  /// For the next bytes of an answer.
  std::chrono::seconds read{60};
  std::chrono::seconds write{30};
  /// For all rows of one answer, counted from the statement.
  std::chrono::seconds answer{600};
  /// Of one result set, all values together.
  std::size_t answer_bytes = std::size_t{1} << 30;
};

/// Errors of both functions: host_unreachable (name look-up, connection, time-out, server gone), tls_failed,
/// credentials_refused, response_malformed (not the MySQL protocol), response_too_large, keyspace_unknown,
/// tablet_type_missing, config_invalid (host name or PEM text), query_failed (all others). After
/// host_unreachable, tls_failed, response_malformed and response_too_large the session is of no more use.
class mysql_session final : public mysql_port {
 public:
  /// Connects to settings.mysql_host (settings.host when empty) and logs in. With TLS the server's
  /// certificate is verified before the login is sent; a server without TLS gets no login. LOAD DATA LOCAL
  /// and clear-text login methods are refused. The first call of a process makes it ignore SIGPIPE (the
  /// library does).
  static result<std::unique_ptr<mysql_session>> connect(const connection_settings& settings,
                                                        mysql_limits limits = {});

  ~mysql_session() override;
  mysql_session(const mysql_session&) = delete;
  mysql_session& operator=(const mysql_session&) = delete;

  result<mysql_rows> query(const std::string& sql) override;
  result<void> use(const std::string& target) override;

 private:
  class impl;
  explicit mysql_session(std::unique_ptr<impl> implementation);
  std::unique_ptr<impl> impl_;
};

/// An error as libmysqlclient or the server numbers it.
struct mysql_fault {
  unsigned code = 0;
  std::string text;
  /// Before the first statement.
  bool during_login = false;
  /// The time limit that ran out, when that was it.
  std::chrono::seconds waited{0};
};

/// The user's sentence and the class of a fault. Names host, port and user, never the password. Pure.
failure explain_mysql_fault(const mysql_fault& fault, const connection_settings& settings);

/// "host:port" of the MySQL port.
std::string mysql_endpoint(const connection_settings& settings);

}  // namespace psource
