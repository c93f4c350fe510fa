// libmysqlclient (MariaDB's Connector/C) as a session; the only file that includes <mysql.h>.
#include "clients/mysql_session.hpp"

#include <errmsg.h>
#include <mysql.h>
#include <sys/socket.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <utility>
#include <vector>

#include "clients/mysql_tls.hpp"
#include "clients/tls_material.hpp"

namespace psource {
namespace {

// Error numbers of servers (MySQL's mysqld_error.h, which vtgate shares).
constexpr unsigned too_many_connections = 1040;
constexpr unsigned database_denied = 1044;
constexpr unsigned access_denied = 1045;
constexpr unsigned unknown_database = 1049;
constexpr unsigned server_shutdown = 1053;
constexpr unsigned table_denied = 1142;
constexpr unsigned column_denied = 1143;
constexpr unsigned access_denied_no_password = 1698;

const std::string& host_of(const connection_settings& settings) {
  return settings.mysql_host.empty() ? settings.host : settings.mysql_host;
}

bool contains(const std::string& text, std::string_view part) { return text.find(part) != std::string::npos; }

std::string lower(std::string text) {
  for (char& c : text) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return text;
}

/// "Can't connect to server on 'h' (111)" -> "Connection refused". The library often tells EINPROGRESS
/// instead of why.
std::string errno_words(const std::string& text) {
  const auto open = text.rfind('(');
  if (open == std::string::npos) return {};
  const int number = std::atoi(text.c_str() + open + 1);
  return number > 0 && number != EINPROGRESS ? std::strerror(number) : "";
}

/// Numbers that the library gives, not a server (servers use 1000 to 1999 and 3000 to 4999).
bool is_library_error(unsigned code) {
  return (code >= CR_MIN_ERROR && code <= CR_MAX_ERROR) ||
         (code >= CR_EVENT_CREATE_FAILED && code <= CR_MARIADB_LAST_ERROR);
}

failure make(error_code code, std::string message, std::string detail) {
  return failure{code, std::move(message), std::move(detail), std::nullopt};
}

failure explain_tls(const std::string& where, const std::string& text, const std::string& detail,
                    bool has_client_certificate) {
  const auto tls = [&](const std::string& sentence) {
    return make(error_code::tls_failed, sentence, detail);
  };
  const std::string said = lower(text);
  if (contains(said, "does not support it"))
    return tls("The MySQL server " + where +
               " does not offer TLS, so the login was not sent. Use a port with TLS, or set tls.mode to "
               "\"disabled\" if "
               "the network is to be trusted.");
  if (contains(said, "expired")) return tls("The TLS certificate of " + where + " has expired.");
  if (contains(said, "not yet valid"))
    return tls("The TLS certificate of " + where + " is not valid yet. Check this machine's clock.");
  if (contains(said, "validation of ssl server certificate failed") || contains(said, "hostname mismatch") ||
      contains(said, "ip address mismatch"))
    return tls(
        "The TLS certificate of " + where +
        " is for another name. Set mysql_host to the name in the certificate, or tls.server_name to it.");
  if (contains(said, "fingerprint verification"))
    return tls("The MySQL server " + where + " showed two different TLS certificates in a row. Try again.");
  // Said with "in certificate chain" behind it of an authority that is not trusted.
  if ((contains(said, "self-signed certificate") || contains(said, "self signed certificate")) &&
      !contains(said, "chain"))
    return tls("The TLS certificate of " + where +
               " is self-signed. Put that certificate into tls.ca_certificate to trust it.");
  if (contains(said, "self-signed") || contains(said, "self signed") ||
      contains(said, "issuer certificate") || contains(said, "verify the first certificate") ||
      contains(said, "certificate verify failed"))
    return tls(
        "The TLS certificate of " + where +
        " is not signed by a trusted authority. Put the authority's certificate into tls.ca_certificate.");
  if (contains(said, "protocol version") || contains(said, "unsupported protocol"))
    return tls("The MySQL server " + where +
               " offers only TLS versions that are too old; at least TLS 1.2 is needed.");
  if (contains(said, "alert"))
    return tls("The MySQL server " + where +
               (has_client_certificate
                    ? " refused the TLS handshake. It may not accept the client certificate of "
                      "tls.client_certificate."
                    : " refused the TLS handshake. It may ask for a client certificate "
                      "(tls.client_certificate, tls.client_key)."));
  for (const char* cut : {"unexpected eof", "reset by peer", "broken pipe", "ended the tls handshake"})
    if (contains(said, cut))  // a server or proxy that restarts, as likely as one that speaks no TLS
      return make(error_code::host_unreachable,
                  "The MySQL server " + where +
                      " closed the connection during the TLS handshake. Check that mysql_port is its MySQL port.",
                  detail);
  return tls("The TLS handshake with " + where +
             " failed. Check mysql_host, mysql_port and the tls settings.");
}

}  // namespace

std::string mysql_endpoint(const connection_settings& settings) {
  return host_of(settings) + ":" + std::to_string(settings.mysql_port);
}

failure explain_mysql_fault(const mysql_fault& fault, const connection_settings& settings) {
  const std::string where = mysql_endpoint(settings);
  const std::string detail = std::to_string(fault.code) + ": " + fault.text;
  const std::string said = lower(fault.text);
  const bool has_client_certificate = !settings.tls.client_certificate.empty();
  const auto unreachable = [&](const std::string& sentence) {
    return make(error_code::host_unreachable, sentence, detail);
  };
  const auto refused = [&](const std::string& sentence) {
    return make(error_code::credentials_refused, sentence, detail);
  };

  if (fault.waited.count() > 0 && is_library_error(fault.code))
    return unreachable(
        "The MySQL server " + where + " did not answer within " + std::to_string(fault.waited.count()) +
        " s. Check mysql_host and mysql_port" +
        (fault.during_login ? ", and whether a firewall is between." : ", and the load of the branch."));
  switch (fault.code) {
    case CR_UNKNOWN_HOST:
      return unreachable("The host name " + host_of(settings) +
                         " cannot be found. Check host and mysql_host.");
    case CR_SOCKET_CREATE_ERROR:
    case CR_CONN_HOST_ERROR:
    case CR_CONNECTION_ERROR:
    case CR_IPSOCK_ERROR: {
      if (contains(said, "before completion of tls"))
        return unreachable("The MySQL server " + where + " refused the connection before TLS was set up.");
      const std::string why = errno_words(fault.text);
      return unreachable("No connection to the MySQL server " + where +
                         (why.empty() ? "" : " (" + why + ")") +
                         ". Check mysql_host and mysql_port, and whether a firewall is between.");
    }
    case CR_SSL_CONNECTION_ERROR:
      return explain_tls(where, fault.text, detail, has_client_certificate);
    case CR_SERVER_GONE_ERROR:
    case CR_SERVER_LOST:
    case CR_ERR_NET_READ:
    case CR_ERR_NET_WRITE:
    case server_shutdown:
      // A server that wants a client certificate says so only after the handshake (TLS 1.3).
      if (contains(said, "alert")) return explain_tls(where, fault.text, detail, has_client_certificate);
      return unreachable(
          "The MySQL server " + where + " closed the connection" +
          (fault.during_login ? " during the login. Check that mysql_port is its MySQL port." : "."));
    case too_many_connections:
      return unreachable("The MySQL server " + where + " accepts no more connections now.");
    case CR_VERSION_ERROR:
    case CR_MALFORMED_PACKET:
    case CR_SERVER_HANDSHAKE_ERR:
    case CR_COMMANDS_OUT_OF_SYNC:
    case CR_UNKNOWN_ERROR:
      return make(
          error_code::response_malformed,
          "What " + where + " sends is not the MySQL protocol. Check that mysql_port is the MySQL port.",
          detail);
    case CR_NET_PACKET_TOO_LARGE:
      return make(error_code::response_too_large, "One row of an answer of " + where + " is too long.",
                  detail);
    case CR_OUT_OF_MEMORY:
      return make(error_code::response_too_large, "An answer of " + where + " does not fit into memory.",
                  detail);
    case CR_SECURE_AUTH:
    case CR_AUTH_PLUGIN_CANNOT_LOAD:
    case CR_AUTH_PLUGIN_ERR:
    case CR_PLUGIN_NOT_ALLOWED:
      return refused(
          "The MySQL server " + where +
          " asks for a login method that is not supported (mysql_native_password and caching_sha2_password "
          "are).");
    case unknown_database:
      return make(error_code::keyspace_unknown, "The branch at " + where + " does not know the keyspace.",
                  detail);
    default:
      break;
  }
  const bool denied = fault.code == access_denied || fault.code == access_denied_no_password ||
                      fault.code == database_denied || fault.code == table_denied ||
                      fault.code == column_denied || contains(said, "access denied") ||
                      contains(said, "permission denied") || contains(said, "permissiondenied") ||
                      contains(said, "unauthorized") || contains(said, "not authorized") ||
                      contains(said, "unauthenticated");
  if (denied && (fault.during_login || fault.code == access_denied))
    return refused("The MySQL server " + where + " refused the login of user \"" + settings.username +
                   "\". Check username and password, and that the password belongs to this branch.");
  if (denied)
    return refused("The user \"" + settings.username + "\" may not do this at " + where +
                   ". Use a password with the right to read.");
  if (contains(said, "no healthy tablet") || contains(said, "no tablet available") ||
      contains(said, "failed to find a tablet")) {
    // A shard without a primary is in the middle of a failover; one without replicas may never have had any.
    const bool of_choice = contains(said, "replica") || contains(said, "rdonly");
    return make(of_choice ? error_code::tablet_type_missing : error_code::query_failed,
                of_choice ? "No tablet of the chosen type serves the shard now." : "No primary tablet serves the shard now.",
                detail);
  }
  if (contains(said, "vt05003"))
    return make(error_code::keyspace_unknown, "The branch at " + where + " does not know the keyspace.",
                detail);
  if (fault.during_login && contains(said, "must use ssl/tls"))
    return make(error_code::tls_failed, "The MySQL server " + where + " takes connections with TLS only. Set tls.mode to \"verify\".",
                detail);
  if (fault.during_login)
    return unreachable("The MySQL server " + where + " did not let us in: " + fault.text);
  return make(error_code::query_failed, "The MySQL server " + where + " could not answer: " + fault.text,
              detail);
}

class mysql_session::impl {
 public:
  impl(connection_settings settings, mysql_limits limits) : settings_(std::move(settings)), limits_(limits) {}
  ~impl() {
    if (!open_) return;
    if (broken_) hang_up();
    ::mysql_close(&handle_);
  }
  impl(const impl&) = delete;
  impl& operator=(const impl&) = delete;

  result<void> connect() {
    const std::string host = one_host();
    if (host.empty())
      return fail(error_code::config_invalid, "mysql_host (or host) must be one host name or address: \"" +
                                                  host_of(settings_) + "\" is none.");
    // First of all: from here on SIGPIPE is ignored, also in verified_fingerprint().
    if (::mysql_init(&handle_) == nullptr)
      return fail(error_code::internal, "libmysqlclient could not be set up.");
    open_ = true;
    memory_file ca, certificate, key;
    std::string ca_path, fingerprint;
    if (settings_.tls.enabled) {
      if (auto checked = check_tls_material(settings_.tls); !checked) return checked;
      if (!to_file(settings_.tls.ca_certificate, ca) ||
          !to_file(settings_.tls.client_certificate, certificate) || !to_file(settings_.tls.client_key, key))
        return fail(error_code::internal, "The TLS certificates could not be put into memory.");
      ca_path = ca.path();
      if (ca_path.empty()) {
        auto roots = system_roots_file();
        if (!roots) return tl::unexpected(std::move(roots).error());
        ca_path = std::move(*roots);
      }
      if (!settings_.tls.server_name.empty() && settings_.tls.server_name != host) {
        connection_settings bare = settings_;
        bare.mysql_host = host;
        auto seen = verified_fingerprint(bare, seconds(limits_.connect));
        if (!seen) return tl::unexpected(std::move(seen).error());
        fingerprint = std::move(*seen);
      }
    }

    set_options(ca_path, certificate.path(), key.path(), fingerprint);
    // An empty name would make the library send the name of this machine's user.
    const char* const user = settings_.username.empty() ? "source_planetscale" : settings_.username.c_str();
    start_clock();
    if (::mysql_real_connect(&handle_, host.c_str(), user, settings_.password.c_str(), nullptr,
                             settings_.mysql_port, nullptr, 0) == nullptr)
      return fail(fault(true, seconds(limits_.connect)));
    return {};
  }

  result<mysql_rows> query(const std::string& sql) {
    if (broken_)
      return fail(error_code::host_unreachable,
                  "The connection to " + mysql_endpoint(settings_) + " is gone.");
    start_clock();
    if (::mysql_real_query(&handle_, sql.data(), sql.size()) != 0)
      return fail(fault(false, seconds(limits_.read)));
    // Row by row, so that the limits hold while an answer comes in.
    const result_set set(*this, ::mysql_use_result(&handle_));
    if (set.get() == nullptr) {
      if (::mysql_errno(&handle_) != 0) return fail(fault(false, seconds(limits_.read)));
      return mysql_rows{};
    }
    std::vector<std::string> names;
    const unsigned width = ::mysql_num_fields(set.get());
    const MYSQL_FIELD* const fields = ::mysql_fetch_fields(set.get());
    for (unsigned i = 0; i < width; ++i)
      names.emplace_back(fields[i].name == nullptr ? "" : fields[i].name,
                         fields[i].name == nullptr ? 0 : fields[i].name_length);
    mysql_rows rows(std::move(names));
    std::vector<std::optional<std::string_view>> values(width);
    std::size_t bytes = 0;
    while (const MYSQL_ROW row = ::mysql_fetch_row(set.get())) {
      const unsigned long* const lengths = ::mysql_fetch_lengths(set.get());
      for (unsigned i = 0; i < width; ++i) {
        values[i].reset();
        if (row[i] == nullptr) continue;
        values[i] = std::string_view(row[i], lengths[i]);
        bytes += lengths[i];
      }
      bytes += width * sizeof(std::size_t);
      rows.add(values);
      if (bytes > limits_.answer_bytes) {
        broken_ = true;
        return fail(error_code::response_too_large, "An answer of " + mysql_endpoint(settings_) +
                                                        " exceeds " + std::to_string(limits_.answer_bytes) +
                                                        " bytes.");
      }
      if (elapsed() > limits_.answer) {
        broken_ = true;
        return fail(error_code::host_unreachable, "The MySQL server " + mysql_endpoint(settings_) +
                                                      " did not finish an answer within " +
                                                      std::to_string(limits_.answer.count()) + " s.");
      }
      start_wait();
    }
    if (::mysql_errno(&handle_) != 0) return fail(fault(false, seconds(limits_.read)));
    return rows;
  }

 private:
  /// A result set that is given back in any case; a broken connection is cut first, because giving back reads
  /// on to the end of the answer.
  class result_set {
   public:
    result_set(impl& owner, MYSQL_RES* set) : owner_(owner), set_(set) {}
    ~result_set() {
      if (set_ == nullptr) return;
      if (owner_.broken_) owner_.hang_up();
      ::mysql_free_result(set_);
    }
    result_set(const result_set&) = delete;
    result_set& operator=(const result_set&) = delete;
    MYSQL_RES* get() const { return set_; }

   private:
    impl& owner_;
    MYSQL_RES* set_;
  };

  static std::chrono::seconds seconds(std::chrono::seconds limit) {
    return std::max(limit, std::chrono::seconds{1});
  }

  /// The host; empty when the library would take it for something else than one name (a list, a connection string).
  std::string one_host() const {
    std::string host = host_of(settings_);
    for (const char c : host)
      if (std::isalnum(static_cast<unsigned char>(c)) == 0 &&
          std::string_view("-._:%").find(c) == std::string_view::npos)
        return "";
    return host;
  }

  static bool to_file(const std::string& text, memory_file& file) {
    if (text.empty()) return true;
    auto made = memory_file::make(text);
    if (made) file = std::move(*made);
    return made.has_value();
  }

  void set_options(const std::string& ca, const std::string& certificate, const std::string& key,
                   const std::string& fingerprint) {
    const auto set = [this](mysql_option option, const void* value) {
      ::mysql_options(&handle_, option, value);
    };
    const unsigned connect = static_cast<unsigned>(seconds(limits_.connect).count());
    const unsigned read = static_cast<unsigned>(seconds(limits_.read).count());
    const unsigned write = static_cast<unsigned>(seconds(limits_.write).count());
    set(MYSQL_OPT_CONNECT_TIMEOUT, &connect);
    set(MYSQL_OPT_READ_TIMEOUT, &read);
    set(MYSQL_OPT_WRITE_TIMEOUT, &write);
    const unsigned tcp = MYSQL_PROTOCOL_TCP;  // "localhost" would be a Unix socket
    set(MYSQL_OPT_PROTOCOL, &tcp);
    const unsigned no_files = 0;
    set(MYSQL_OPT_LOCAL_INFILE, &no_files);
    // A bound for one row; the library tells a longer one as a lost connection.
    const unsigned long largest_packet = 256ul << 20;
    set(MYSQL_OPT_MAX_ALLOWED_PACKET, &largest_packet);
    set(MYSQL_SET_CHARSET_NAME, "utf8mb4");
    // Not mysql_clear_password and the like, which hand the password to whoever asks.
    set(MARIADB_OPT_RESTRICTED_AUTH, "mysql_native_password,caching_sha2_password");
    if (!settings_.tls.enabled) return;

    set(MARIADB_OPT_TLS_VERSION, "TLSv1.2,TLSv1.3");
    set(MYSQL_OPT_SSL_CA, ca.c_str());
    if (!certificate.empty()) set(MYSQL_OPT_SSL_CERT, certificate.c_str());
    if (!key.empty()) set(MYSQL_OPT_SSL_KEY, key.c_str());
    if (fingerprint.empty()) {
      // Demands TLS, a trusted chain and the host name. (MYSQL_OPT_SSL_ENFORCE does not demand anything of a
      // server that says it has no TLS: it would get the login in plain text.)
      const my_bool yes = 1;
      set(MYSQL_OPT_SSL_VERIFY_SERVER_CERT, &yes);
    } else {
      // The library can compare the certificate with the host name only. This one was verified with the name
      // that the user gave; demanding it also demands TLS, and the chain is verified once more.
      set(MARIADB_OPT_TLS_PEER_FP, fingerprint.c_str());
    }
  }

  void start_clock() { started_ = waiting_since_ = std::chrono::steady_clock::now(); }
  void start_wait() { waiting_since_ = std::chrono::steady_clock::now(); }
  std::chrono::steady_clock::duration elapsed() const { return std::chrono::steady_clock::now() - started_; }

  /// What the library knows of the last error; `limit` is the time limit that it was under.
  failure fault(bool during_login, std::chrono::seconds limit) {
    mysql_fault told{::mysql_errno(&handle_), ::mysql_error(&handle_), during_login, {}};
    // The library tells a time-out as a lost connection; only the clock knows.
    const auto waited = std::chrono::steady_clock::now() - waiting_since_;
    const bool lost = told.code == CR_SERVER_LOST || told.code == CR_CONN_HOST_ERROR ||
                      told.code == CR_CONNECTION_ERROR || told.code == CR_SSL_CONNECTION_ERROR;
    if (lost && waited >= limit) told.waited = limit;
    failure explained = explain_mysql_fault(told, settings_);
    // Errors that the server tells leave the session as it was; those of the library end it.
    if (told.code == 0 || is_library_error(told.code)) broken_ = true;
    return explained;
  }

  void hang_up() {
    const auto socket = static_cast<int>(::mysql_get_socket(&handle_));
    if (socket >= 0) ::shutdown(socket, SHUT_RDWR);
  }

  const connection_settings settings_;
  const mysql_limits limits_;
  MYSQL handle_{};
  bool open_ = false;
  bool broken_ = false;
  std::chrono::steady_clock::time_point started_;
  std::chrono::steady_clock::time_point waiting_since_;
};

mysql_session::mysql_session(std::unique_ptr<impl> implementation) : impl_(std::move(implementation)) {}
mysql_session::~mysql_session() = default;

result<std::unique_ptr<mysql_session>> mysql_session::connect(const connection_settings& settings,
                                                              mysql_limits limits) {
  auto implementation = std::make_unique<impl>(settings, limits);
  if (auto connected = implementation->connect(); !connected)
    return tl::unexpected(std::move(connected).error());
  return std::unique_ptr<mysql_session>(new mysql_session(std::move(implementation)));
}

result<mysql_rows> mysql_session::query(const std::string& sql) { return impl_->query(sql); }

result<void> mysql_session::use(const std::string& target) {
  auto used = impl_->query("USE " + quote_sql_name(target));
  if (!used) return tl::unexpected(std::move(used).error());
  return {};
}

}  // namespace psource
