// The MySQL port of a local branch: the server side of the MySQL protocol over TCP, with and without TLS.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "protocol/failure.hpp"

namespace psource::local_branch {

/// A text result set: every value is MySQL's text of it, or NULL. Rows shorter than `columns` are filled with
/// NULL, longer ones are cut.
struct mysql_result {
  std::vector<std::string> columns;
  std::vector<std::vector<std::optional<std::string>>> rows;
};

/// An ERR packet: MySQL's error number, the five characters of its SQLSTATE, and the sentence.
struct mysql_error {
  unsigned code;
  std::string sqlstate;
  std::string message;
};

using mysql_reply = std::variant<mysql_result, mysql_error>;

/// Answers one query. `target` is what the session chose by its connect database, COM_INIT_DB or USE: "ks",
/// "ks/-80", "ks:-80@replica"; "" at the start. `sql` comes without leading comments, blanks around it and
/// the last semicolon. Called on the server's threads, concurrently; must not throw. A result without columns
/// is sent as OK. SET, USE, BEGIN, START TRANSACTION, COMMIT and ROLLBACK never reach it.
using mysql_handler = std::function<mysql_reply(const std::string& target, const std::string& sql)>;

struct mysql_server_options {
  /// Numeric address to listen on.
  std::string listen = "127.0.0.1";
  /// 0 = any free port.
  std::uint16_t port = 0;
  /// What a client must log in with; an empty user name lets everyone in.
  std::string username, password;
  /// PEM files, both or neither. With them TLS is offered (not demanded).
  std::string tls_cert_file, tls_key_file;
  /// PEM file of the authorities whose client certificates are let in over TLS; empty = none is asked for.
  std::string tls_client_ca_file;
  /// Whether TLS ends at version 1.1, which no client should take.
  bool tls_old = false;
  /// Called for every login that arrives, before it is judged; may be empty. On the server's threads,
  /// concurrently.
  std::function<void()> login_seen;
};

/// Serves one client on a connected stream socket, without TLS, and returns when the client is gone or has to
/// go: what a server does for each of its connections. The socket stays the caller's. Blocking; raises no
/// SIGPIPE.
void serve_mysql_client(int socket, const mysql_server_options& options, const mysql_handler& handler);

/// A running server: one thread accepts, one more serves each connection. Speaks handshake v10,
/// mysql_native_password, COM_QUERY (text protocol), COM_INIT_DB, COM_PING and COM_QUIT; everything else gets
/// error 1047.
class mysql_server {
 public:
  /// Binds, listens and returns at once. Errors: config_invalid (address, certificate or key cannot be used).
  static result<std::unique_ptr<mysql_server>> start(mysql_server_options options, mysql_handler handler);

  /// The port that it listens on. Thread-safe.
  std::uint16_t port() const;

  /// Closes the listener and every connection, and returns when all its threads have ended (running handlers
  /// are waited for). May be repeated; neither from a handler nor from two threads at once.
  void stop();

  /// stop().
  ~mysql_server();

  mysql_server(const mysql_server&) = delete;
  mysql_server& operator=(const mysql_server&) = delete;

 private:
  class impl;
  explicit mysql_server(std::unique_ptr<impl> implementation);
  std::unique_ptr<impl> impl_;
};

}  // namespace psource::local_branch
