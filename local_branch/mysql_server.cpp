// The server side of the MySQL protocol: sockets and TLS, packets, handshake, commands, result sets.
#include "local_branch/mysql_server.hpp"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cctype>
#include <cerrno>
#include <cstring>
#include <exception>
#include <list>
#include <mutex>
#include <string_view>
#include <system_error>
#include <thread>
#include <utility>

namespace psource::local_branch {
namespace {

// Protocol::CapabilityFlags
constexpr std::uint32_t long_password = 0x1;
constexpr std::uint32_t long_flag = 0x4;
constexpr std::uint32_t connect_with_db = 0x8;
constexpr std::uint32_t protocol_41 = 0x200;
constexpr std::uint32_t capability_ssl = 0x800;
constexpr std::uint32_t transactions = 0x2000;
constexpr std::uint32_t secure_connection = 0x8000;
constexpr std::uint32_t plugin_auth = 0x80000;
constexpr std::uint32_t connect_attributes = 0x100000;
constexpr std::uint32_t plugin_auth_lenenc_data = 0x200000;

constexpr std::uint8_t utf8mb4 = 45;
constexpr std::uint16_t status_autocommit = 2;
constexpr std::size_t scramble_size = 20;
constexpr std::size_t max_chunk = 0xFFFFFF;
/// Nobody who is not logged in yet gets to make the server keep more than this.
constexpr std::size_t max_login_packet = 64 * 1024;
constexpr std::size_t max_packet = 64 * 1024 * 1024;
constexpr std::size_t max_connections = 512;
/// Time for the whole of one read while a client logs in.
constexpr timeval login_patience{10, 0};
const char* const native_password = "mysql_native_password";

class file_descriptor {
 public:
  explicit file_descriptor(int fd = -1) : fd_(fd) {}
  ~file_descriptor() { reset(); }
  file_descriptor(file_descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  file_descriptor& operator=(file_descriptor&& other) noexcept {
    reset();
    fd_ = std::exchange(other.fd_, -1);
    return *this;
  }
  int get() const { return fd_; }
  void reset() {
    if (fd_ >= 0) ::close(fd_);
    fd_ = -1;
  }

 private:
  int fd_;
};

struct free_ssl {
  void operator()(SSL* ssl) const { SSL_free(ssl); }
  void operator()(SSL_CTX* context) const { SSL_CTX_free(context); }
};

/// Bytes to and from one client, plain or TLS; every function answers false when the connection is of no more
/// use.
class transport {
 public:
  explicit transport(int fd) : fd_(fd) {}

  bool start_tls(SSL_CTX* context) {
    ssl_.reset(SSL_new(context));
    return ssl_ && SSL_set_fd(ssl_.get(), fd_) == 1 && SSL_accept(ssl_.get()) == 1;
  }

  bool read(char* to, std::size_t size) {
    while (size > 0) {
      ssize_t got = 0;
      if (ssl_)
        got = SSL_read(ssl_.get(), to, static_cast<int>(std::min<std::size_t>(size, 1 << 20)));
      else
        got = ::recv(fd_, to, size, 0);
      if (got < 0 && !ssl_ && errno == EINTR) continue;
      if (got <= 0) return false;
      to += got;
      size -= static_cast<std::size_t>(got);
    }
    return true;
  }

  bool write(std::string_view bytes) {
    while (!bytes.empty()) {
      ssize_t put = 0;
      if (ssl_)
        put = SSL_write(ssl_.get(), bytes.data(),
                        static_cast<int>(std::min<std::size_t>(bytes.size(), 1 << 20)));
      else
        put = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (put < 0 && !ssl_ && errno == EINTR) continue;
      if (put <= 0) return false;
      bytes.remove_prefix(static_cast<std::size_t>(put));
    }
    return true;
  }

 private:
  int fd_;
  std::unique_ptr<SSL, free_ssl> ssl_;
};

// --- writing fields

void put_int(std::string& out, std::uint64_t value, int bytes) {
  for (int i = 0; i < bytes; ++i) out.push_back(static_cast<char>((value >> (8 * i)) & 0xFF));
}

void put_length(std::string& out, std::uint64_t value) {
  if (value < 251) return put_int(out, value, 1);
  if (value <= 0xFFFF) return out.push_back('\xFC'), put_int(out, value, 2);
  if (value <= 0xFFFFFF) return out.push_back('\xFD'), put_int(out, value, 3);
  out.push_back('\xFE');
  put_int(out, value, 8);
}

void put_text(std::string& out, std::string_view text) {
  put_length(out, text.size());
  out.append(text);
}

// --- reading fields: every function answers false (or nothing) at the end of the packet

class field_reader {
 public:
  explicit field_reader(std::string_view packet) : rest_(packet) {}

  bool integer(std::uint64_t& value, std::size_t bytes) {
    if (rest_.size() < bytes) return false;
    value = 0;
    for (std::size_t i = 0; i < bytes; ++i)
      value |= std::uint64_t{static_cast<unsigned char>(rest_[i])} << (8 * i);
    rest_.remove_prefix(bytes);
    return true;
  }

  bool length(std::uint64_t& value) {
    if (!integer(value, 1)) return false;
    if (value < 251) return true;
    if (value == 0xFC) return integer(value, 2);
    if (value == 0xFD) return integer(value, 3);
    if (value == 0xFE) return integer(value, 8);
    return false;
  }

  bool bytes(std::string_view& value, std::uint64_t count) {
    if (rest_.size() < count) return false;
    value = rest_.substr(0, count);
    rest_.remove_prefix(count);
    return true;
  }

  bool zero_terminated(std::string_view& value) {
    const auto end = rest_.find('\0');
    if (end == std::string_view::npos) return false;
    value = rest_.substr(0, end);
    rest_.remove_prefix(end + 1);
    return true;
  }

  std::string_view rest() const { return rest_; }

 private:
  std::string_view rest_;
};

// --- mysql_native_password

std::string sha1(std::string_view text) {
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
  unsigned size = 0;
  EVP_Digest(text.data(), text.size(), digest.data(), &size, EVP_sha1(), nullptr);
  return std::string(reinterpret_cast<const char*>(digest.data()), size);
}

/// What a client that knows the password answers: SHA1(password) XOR SHA1(scramble + SHA1(SHA1(password))).
std::string native_password_answer(const std::string& password, const std::string& scramble) {
  if (password.empty()) return {};
  std::string answer = sha1(password);
  const std::string mask = sha1(scramble + sha1(answer));
  for (std::size_t i = 0; i < answer.size(); ++i) answer[i] = static_cast<char>(answer[i] ^ mask[i]);
  return answer;
}

bool equal_in_constant_time(std::string_view a, std::string_view b) {
  return a.size() == b.size() && CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;
}

// --- statements

bool is_space(char c) { return std::isspace(static_cast<unsigned char>(c)) != 0; }

/// Takes comments and blanks off the front, blanks and semicolons off the end.
std::string_view trim_statement(std::string_view sql) {
  for (;;) {
    while (!sql.empty() && is_space(sql.front())) sql.remove_prefix(1);
    if (sql.substr(0, 2) == "/*") {
      const auto end = sql.find("*/", 2);
      if (end == std::string_view::npos) return {};
      sql.remove_prefix(end + 2);
    } else if (sql.substr(0, 1) == "#" || sql.substr(0, 3) == "-- ") {
      const auto end = sql.find('\n');
      if (end == std::string_view::npos) return {};
      sql.remove_prefix(end + 1);
    } else {
      break;
    }
  }
  while (!sql.empty() && (is_space(sql.back()) || sql.back() == ';')) sql.remove_suffix(1);
  return sql;
}

/// Takes `word` (upper case) off the front, when it stands there as a whole word.
bool take_word(std::string_view& sql, std::string_view word) {
  if (sql.size() < word.size()) return false;
  for (std::size_t i = 0; i < word.size(); ++i)
    if (std::toupper(static_cast<unsigned char>(sql[i])) != word[i]) return false;
  if (sql.size() > word.size()) {
    const char next = sql[word.size()];
    if (std::isalnum(static_cast<unsigned char>(next)) || next == '_') return false;
  }
  sql.remove_prefix(word.size());
  while (!sql.empty() && is_space(sql.front())) sql.remove_prefix(1);
  return true;
}

/// vtgate knows SET NAMES itself, and no others than these (go/vt/vtgate/engine/set.go of vitessio/vitess). `assignment` is
/// what follows SET.
std::optional<mysql_error> refused_character_set(std::string_view assignment) {
  if (!take_word(assignment, "NAMES") && !take_word(assignment, "CHARSET")) return std::nullopt;
  for (const char* const known : {"UTF8", "UTF8MB4", "LATIN1", "DEFAULT"})
    if (take_word(assignment, known)) return std::nullopt;
  return mysql_error{1235, "42000", "charset/name " + std::string(assignment) + " is not supported"};
}

/// "`a``b`" -> "a`b"; text without back-ticks stays as it is.
std::string unquote_identifier(std::string_view text) {
  if (text.size() < 2 || text.front() != '`' || text.back() != '`') return std::string(text);
  text = text.substr(1, text.size() - 2);
  std::string name;
  for (std::size_t i = 0; i < text.size(); ++i) {
    name.push_back(text[i]);
    if (text[i] == '`' && i + 1 < text.size() && text[i + 1] == '`') ++i;
  }
  return name;
}

// --- one client

class client_session {
 public:
  client_session(int fd, const mysql_server_options& options, const mysql_handler& handler, SSL_CTX* tls,
                 std::uint32_t number)
      : fd_(fd), transport_(fd), options_(options), handler_(handler), tls_(tls), number_(number) {}

  void run() {
    ::setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &login_patience, sizeof login_patience);
    if (!log_in()) return;
    const timeval forever{0, 0};
    ::setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &forever, sizeof forever);
    std::string command;
    for (;;) {
      sequence_ = 0;
      if (!read_packet(command, max_packet) || !answer(command)) return;
    }
  }

 private:
  // Packets. A payload of 16 MiB - 1 or more goes in several chunks, the last one shorter than that.

  bool read_packet(std::string& payload, std::size_t limit) {
    payload.clear();
    for (;;) {
      std::array<char, 4> header{};
      if (!transport_.read(header.data(), header.size())) return false;
      const auto byte = [&](std::size_t i) { return std::size_t{static_cast<unsigned char>(header[i])}; };
      const std::size_t size = byte(0) | byte(1) << 8 | byte(2) << 16;
      if (byte(3) != sequence_) {
        send_error({1156, "08S01", "Got packets out of order"});
        return false;
      }
      ++sequence_;
      if (payload.size() + size > limit) {
        send_error({1153, "08S01", "Got a packet bigger than 'max_allowed_packet' bytes"});
        return false;
      }
      // Grown as the bytes come, so that a header alone does not make the server allocate.
      for (std::size_t left = size; left > 0;) {
        const std::size_t part = std::min<std::size_t>(left, 256 * 1024);
        const std::size_t before = payload.size();
        payload.resize(before + part);
        if (!transport_.read(payload.data() + before, part)) return false;
        left -= part;
      }
      if (size < max_chunk) return true;
    }
  }

  bool queue_packet(std::string_view payload) {
    for (;;) {
      const std::string_view chunk = payload.substr(0, max_chunk);
      put_int(output_, chunk.size(), 3);
      put_int(output_, sequence_++, 1);
      output_.append(chunk);
      payload.remove_prefix(chunk.size());
      if (output_.size() >= 64 * 1024 && !flush()) return false;
      if (chunk.size() < max_chunk) return true;
    }
  }

  bool flush() {
    const bool ok = transport_.write(output_);
    output_.clear();
    return ok;
  }

  bool send(std::string_view payload) { return queue_packet(payload) && flush(); }

  bool send_ok() {
    std::string packet(3, '\0');  // OK, no rows affected, no insert id
    put_int(packet, status_autocommit, 2);
    put_int(packet, 0, 2);
    return send(packet);
  }

  bool send_error(const mysql_error& error) {
    std::string packet(1, '\xFF');
    put_int(packet, error.code, 2);
    packet += '#';
    std::string state = error.sqlstate;
    state.resize(5, '0');
    packet += state;
    packet += error.message.substr(0, 4096);
    return send(packet);
  }

  bool queue_eof() {
    std::string packet(1, '\xFE');
    put_int(packet, 0, 2);
    put_int(packet, status_autocommit, 2);
    return queue_packet(packet);
  }

  // Handshake.

  bool send_greeting() {
    std::array<unsigned char, scramble_size> random{};
    if (RAND_bytes(random.data(), static_cast<int>(random.size())) != 1) return false;
    // The scramble travels as zero-terminated text.
    for (const unsigned char c : random) scramble_.push_back(static_cast<char>(c % 127 + 1));

    capabilities_ = long_password | long_flag | connect_with_db | protocol_41 | transactions |
                    secure_connection | plugin_auth | connect_attributes | plugin_auth_lenenc_data;
    if (tls_ != nullptr) capabilities_ |= capability_ssl;
    std::string packet;
    put_int(packet, 10, 1);
    packet += "8.4.6-Vitess";
    packet += '\0';
    put_int(packet, number_, 4);
    packet += scramble_.substr(0, 8);
    packet += '\0';
    put_int(packet, capabilities_ & 0xFFFF, 2);
    put_int(packet, utf8mb4, 1);
    put_int(packet, status_autocommit, 2);
    put_int(packet, capabilities_ >> 16, 2);
    put_int(packet, scramble_size + 1, 1);
    packet.append(10, '\0');
    packet += scramble_.substr(8);
    packet += '\0';
    packet += native_password;
    packet += '\0';
    return send(packet);
  }

  bool bad_handshake() {
    send_error({1043, "08S01", "Bad handshake"});
    return false;
  }

  bool log_in() {
    std::string packet;
    if (!send_greeting() || !read_packet(packet, max_login_packet)) return false;
    std::uint64_t flags = 0;
    field_reader head(packet);
    if (!head.integer(flags, 4) || (flags & protocol_41) == 0) return bad_handshake();
    if ((flags & capability_ssl) != 0) {
      if (tls_ == nullptr || packet.size() != 32) return bad_handshake();
      if (!transport_.start_tls(tls_) || !read_packet(packet, max_login_packet)) return false;
    }
    return check_login(packet);
  }

  bool check_login(const std::string& packet) {
    if (options_.login_seen) options_.login_seen();
    field_reader reader(packet);
    std::uint64_t flags = 0;
    std::uint64_t size = 0;
    std::string_view ignored, user, auth_answer, database, plugin;
    if (!reader.integer(flags, 4) || (flags & protocol_41) == 0 || !reader.bytes(ignored, 28) ||
        !reader.zero_terminated(user))
      return bad_handshake();
    flags &= capabilities_;
    if ((flags & plugin_auth_lenenc_data) != 0) {
      if (!reader.length(size) || !reader.bytes(auth_answer, size)) return bad_handshake();
    } else if ((flags & secure_connection) != 0) {
      if (!reader.integer(size, 1) || !reader.bytes(auth_answer, size)) return bad_handshake();
    } else if (!reader.zero_terminated(auth_answer)) {
      return bad_handshake();
    }
    if ((flags & connect_with_db) != 0 && !reader.rest().empty() && !reader.zero_terminated(database))
      return bad_handshake();
    if ((flags & plugin_auth) != 0 && !reader.rest().empty() && !reader.zero_terminated(plugin))
      plugin = reader.rest();

    std::string answer(auth_answer);
    const std::string user_name(user);
    target_ = std::string(database);
    if (!plugin.empty() && plugin != native_password) {
      std::string change(1, '\xFE');
      change += native_password;
      change += '\0';
      change += scramble_;
      change += '\0';
      if (!send(change) || !read_packet(answer, max_login_packet)) return false;
    }
    if (!options_.username.empty()) {
      const bool right_answer =
          equal_in_constant_time(answer, native_password_answer(options_.password, scramble_));
      if (!right_answer || user_name != options_.username) {
        send_error({1045, "28000", "Access denied for user '" + user_name.substr(0, 80) + "'"});
        return false;
      }
    }
    return send_ok();
  }

  // Commands.

  bool answer(const std::string& command) {
    if (command.empty()) return send_error({1047, "08S01", "Unknown command"});
    const std::string_view body = std::string_view(command).substr(1);
    switch (static_cast<unsigned char>(command[0])) {
      case 0x01:  // COM_QUIT
        return false;
      case 0x02:  // COM_INIT_DB
        target_ = std::string(body);
        return send_ok();
      case 0x03:  // COM_QUERY
        return answer_query(body);
      case 0x0e:  // COM_PING
        return send_ok();
      default:
        return send_error({1047, "08S01", "Unknown command"});
    }
  }

  bool answer_query(std::string_view sql) {
    std::string_view rest = trim_statement(sql);
    if (rest.empty()) return send_error({1065, "42000", "Query was empty"});
    if (take_word(rest, "USE")) {
      if (rest.empty()) return send_error({1064, "42000", "USE needs a keyspace"});
      target_ = unquote_identifier(rest);
      return send_ok();
    }
    if (take_word(rest, "SET")) {
      if (const auto refused = refused_character_set(rest)) return send_error(*refused);
      return send_ok();
    }
    for (const char* const word : {"BEGIN", "START", "COMMIT", "ROLLBACK"})
      if (take_word(rest, word)) return send_ok();

    mysql_reply reply = mysql_error{1105, "HY000", "the query handler failed"};
    try {
      reply = handler_(target_, std::string(rest));
    } catch (const std::exception& e) {
      // A handler that throws is a fault of this program; the client and the other connections must not feel
      // more.
      reply = mysql_error{1105, "HY000", std::string("the query handler failed: ") + e.what()};
    }
    if (const auto* error = std::get_if<mysql_error>(&reply)) return send_error(*error);
    return send_result(std::get<mysql_result>(reply));
  }

  bool send_result(const mysql_result& table) {
    if (table.columns.empty()) return send_ok();
    std::string packet;
    put_length(packet, table.columns.size());
    if (!queue_packet(packet)) return false;
    for (const auto& name : table.columns) {
      packet.clear();
      put_text(packet, "def");
      put_text(packet, "");  // schema
      put_text(packet, "");  // table
      put_text(packet, "");  // original table
      put_text(packet, name);
      put_text(packet, name);
      put_length(packet, 0x0c);
      put_int(packet, utf8mb4, 2);
      put_int(packet, 0xFFFF, 4);  // display width
      put_int(packet, 0xFD, 1);    // VAR_STRING
      put_int(packet, 0, 2);       // flags
      put_int(packet, 0, 1);       // decimals
      put_int(packet, 0, 2);
      if (!queue_packet(packet)) return false;
    }
    if (!queue_eof()) return false;
    for (const auto& row : table.rows) {
      packet.clear();
      for (std::size_t i = 0; i < table.columns.size(); ++i) {
        if (i < row.size() && row[i])
          put_text(packet, *row[i]);
        else
          packet += '\xFB';
      }
      if (!queue_packet(packet)) return false;
    }
    return queue_eof() && flush();
  }

  int fd_;
  transport transport_;
  const mysql_server_options& options_;
  const mysql_handler& handler_;
  SSL_CTX* tls_;
  std::uint32_t number_;
  std::uint32_t capabilities_ = 0;
  std::uint8_t sequence_ = 0;
  std::string scramble_;
  std::string output_;
  std::string target_;
};

std::string last_openssl_error() {
  std::array<char, 256> text{};
  ERR_error_string_n(ERR_get_error(), text.data(), text.size());
  ERR_clear_error();
  return text.data();
}

int no_passphrase(char*, int, int, void*) { return 0; }

result<std::unique_ptr<SSL_CTX, free_ssl>> make_tls(const mysql_server_options& options) {
  std::unique_ptr<SSL_CTX, free_ssl> context;
  if (options.tls_cert_file.empty() && options.tls_key_file.empty()) return context;
  if (options.tls_cert_file.empty() || options.tls_key_file.empty())
    return fail(error_code::config_invalid, "TLS needs both a certificate file and a key file.");
  context.reset(SSL_CTX_new(TLS_server_method()));
  if (!context) return fail(error_code::internal, "OpenSSL could not be set up.", last_openssl_error());
  SSL_CTX_set_min_proto_version(context.get(), options.tls_old ? TLS1_VERSION : TLS1_2_VERSION);
  // OpenSSL counts the signatures of versions before 1.2 as broken: they exist at security level 0 only.
  if (options.tls_old && (SSL_CTX_set_max_proto_version(context.get(), TLS1_1_VERSION) != 1 ||
                          SSL_CTX_set_cipher_list(context.get(), "ALL:@SECLEVEL=0") != 1))
    return fail(error_code::config_invalid, "This OpenSSL does not speak TLS 1.1.", last_openssl_error());
  // An encrypted key must be an error, not a question on the terminal.
  SSL_CTX_set_default_passwd_cb(context.get(), no_passphrase);
  if (SSL_CTX_use_certificate_chain_file(context.get(), options.tls_cert_file.c_str()) != 1)
    return fail(error_code::config_invalid,
                "The certificate file " + options.tls_cert_file + " cannot be used.", last_openssl_error());
  if (SSL_CTX_use_PrivateKey_file(context.get(), options.tls_key_file.c_str(), SSL_FILETYPE_PEM) != 1 ||
      SSL_CTX_check_private_key(context.get()) != 1)
    return fail(error_code::config_invalid, "The key file " + options.tls_key_file + " cannot be used.",
                last_openssl_error());
  if (!options.tls_client_ca_file.empty()) {
    if (SSL_CTX_load_verify_locations(context.get(), options.tls_client_ca_file.c_str(), nullptr) != 1)
      return fail(error_code::config_invalid,
                  "The certificate file " + options.tls_client_ca_file + " cannot be used.",
                  last_openssl_error());
    SSL_CTX_set_verify(context.get(), SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nullptr);
  }
  return context;
}

/// A signal must reach the program's own threads; and writing through OpenSSL to a closed connection raises
/// SIGPIPE, which stays pending for ever in a thread that blocks it.
void block_all_signals() {
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, nullptr);
}

}  // namespace

void serve_mysql_client(int socket, const mysql_server_options& options, const mysql_handler& handler) {
  client_session(socket, options, handler, nullptr, 1).run();
}

class mysql_server::impl {
 public:
  impl(mysql_server_options options, mysql_handler handler)
      : options_(std::move(options)), handler_(std::move(handler)) {}

  ~impl() { stop(); }

  result<void> start() {
    auto tls = make_tls(options_);
    if (!tls) return tl::unexpected(std::move(tls).error());
    tls_ = std::move(*tls);

    const std::string where = options_.listen + ":" + std::to_string(options_.port);
    addrinfo hints{};
    hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE;
    hints.ai_socktype = SOCK_STREAM;
    addrinfo* found = nullptr;
    if (::getaddrinfo(options_.listen.c_str(), std::to_string(options_.port).c_str(), &hints, &found) != 0)
      return fail(error_code::config_invalid, "\"" + options_.listen + "\" is not an address to listen on.");
    const std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> address(found, &::freeaddrinfo);
    listener_ = file_descriptor(::socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    wake_ = file_descriptor(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    const int yes = 1;
    if (listener_.get() < 0 || wake_.get() < 0 ||
        ::setsockopt(listener_.get(), SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes) != 0 ||
        ::bind(listener_.get(), address->ai_addr, address->ai_addrlen) != 0 ||
        ::listen(listener_.get(), 128) != 0)
      return fail(error_code::config_invalid, "The MySQL port cannot listen on " + where + ".",
                  std::strerror(errno));

    sockaddr_storage bound{};
    socklen_t size = sizeof bound;
    if (::getsockname(listener_.get(), reinterpret_cast<sockaddr*>(&bound), &size) != 0)
      return fail(error_code::internal, "The MySQL port cannot be told.", std::strerror(errno));
    port_ = ntohs(bound.ss_family == AF_INET6 ? reinterpret_cast<const sockaddr_in6&>(bound).sin6_port
                                              : reinterpret_cast<const sockaddr_in&>(bound).sin_port);
    accepting_ = std::thread([this] { accept_loop(); });
    return {};
  }

  void stop() {
    stopping_ = true;
    if (accepting_.joinable()) {
      const std::uint64_t one = 1;
      // An eventfd of which nobody reads takes one number always.
      (void)!::write(wake_.get(), &one, sizeof one);
      accepting_.join();
    }
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      for (auto& c : connections_) ::shutdown(c.fd.get(), SHUT_RDWR);
    }
    for (auto& c : connections_)
      if (c.thread.joinable()) c.thread.join();
    connections_.clear();
    listener_.reset();
  }

  std::uint16_t port() const { return port_; }

 private:
  struct connection {
    file_descriptor fd;
    std::thread thread;
    std::atomic<bool> finished{false};
  };

  void accept_loop() {
    block_all_signals();
    std::uint32_t number = 0;
    int pause_ms = -1;  // set when descriptors ran out: the backlog would keep poll() from waiting
    while (!stopping_) {
      std::array<pollfd, 2> waiting{pollfd{wake_.get(), POLLIN, 0}, pollfd{listener_.get(), POLLIN, 0}};
      ::poll(waiting.data(), pause_ms < 0 ? 2 : 1, pause_ms);
      pause_ms = -1;
      if (stopping_) return;
      reap();
      file_descriptor fd(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
      if (fd.get() < 0) {
        if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) pause_ms = 100;
        continue;
      }
      const int yes = 1;
      ::setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
      serve(std::move(fd), ++number);
    }
  }

  void serve(file_descriptor fd, std::uint32_t number) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (connections_.size() >= max_connections) return;
    auto& c = connections_.emplace_back();
    c.fd = std::move(fd);
    try {
      c.thread = std::thread([this, &c, number] {
        try {
          client_session(c.fd.get(), options_, handler_, tls_.get(), number).run();
        } catch (const std::exception&) {
          // Out of memory for one client ends that client only.
        }
        // The peer sees the end now; the number stays taken until reap(), so that stop() cannot hit another's
        // socket.
        ::shutdown(c.fd.get(), SHUT_RDWR);
        c.finished = true;
      });
    } catch (const std::system_error&) {
      connections_.pop_back();
    }
  }

  void reap() {
    const std::lock_guard<std::mutex> lock(mutex_);
    for (auto it = connections_.begin(); it != connections_.end();) {
      if (!it->finished) {
        ++it;
        continue;
      }
      it->thread.join();
      it = connections_.erase(it);
    }
  }

  const mysql_server_options options_;
  const mysql_handler handler_;
  std::unique_ptr<SSL_CTX, free_ssl> tls_;
  file_descriptor listener_;
  file_descriptor wake_;
  std::uint16_t port_ = 0;
  std::atomic<bool> stopping_{false};
  std::thread accepting_;
  std::mutex mutex_;
  std::list<connection> connections_;
};

mysql_server::mysql_server(std::unique_ptr<impl> implementation) : impl_(std::move(implementation)) {}
mysql_server::~mysql_server() = default;

result<std::unique_ptr<mysql_server>> mysql_server::start(mysql_server_options options,
                                                          mysql_handler handler) {
  auto implementation = std::make_unique<impl>(std::move(options), std::move(handler));
  if (auto started = implementation->start(); !started) return tl::unexpected(std::move(started).error());
  return std::unique_ptr<mysql_server>(new mysql_server(std::move(implementation)));
}

std::uint16_t mysql_server::port() const { return impl_->port(); }
void mysql_server::stop() { impl_->stop(); }

}  // namespace psource::local_branch
