// Reads the configuration key by key and collects every problem, so that a user corrects them in one go.
#include "protocol/airbyte/config.hpp"

#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <limits>
#include <optional>
#include <utility>

#include "protocol/airbyte/json_text.hpp"
#include "protocol/airbyte/messages.hpp"
#include "protocol/base64.hpp"
#include "protocol/vitess/gtid_set.hpp"

namespace psource {
namespace {

constexpr const char* planetscale_cells = "planetscale_operator_default";
constexpr std::size_t max_shown = 80;
// Durations end in time_points of nanoseconds. Some give a very large number for "never".
constexpr std::int64_t max_seconds = 1'000'000'000;

bool is_space(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && is_space(text.front())) text.remove_prefix(1);
  while (!text.empty() && is_space(text.back())) text.remove_suffix(1);
  return text;
}

// The parts of "a, b," without blanks and without empty parts: views of `text`, which therefore is no
// temporary.
std::vector<std::string_view> comma_list(std::string&& text) = delete;
std::vector<std::string_view> comma_list(std::string_view text) {
  std::vector<std::string_view> parts;
  while (!text.empty()) {
    const auto comma = text.find(',');
    const auto part = trimmed(text.substr(0, comma));
    if (!part.empty()) parts.push_back(part);
    text.remove_prefix(comma == std::string_view::npos ? text.size() : comma + 1);
  }
  return parts;
}

bool has_control_character(std::string_view text) {
  return std::any_of(text.begin(), text.end(), [](char c) {
    const auto byte = static_cast<unsigned char>(c);
    return byte < 0x20 || byte == 0x7f;
  });
}

bool is_printable_ascii(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) {
    const auto byte = static_cast<unsigned char>(c);
    return byte >= 0x20 && byte <= 0x7e;
  });
}

// Forms that replace the line breaks of a PEM text: "\n" in two characters, or blanks.
std::string repaired_pem(std::string_view text) {
  std::string pem;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && i + 1 < text.size() && (text[i + 1] == 'n' || text[i + 1] == 'r')) {
      if (text[i + 1] == 'n') pem.push_back('\n');
      ++i;
    } else if (text[i] != '\r') {
      pem.push_back(text[i]);
    }
  }
  pem = std::string(trimmed(pem));
  if (pem.find('\n') == std::string::npos) {
    bool in_label = false;
    for (std::size_t i = 0; i < pem.size(); ++i) {
      if (pem.compare(i, 5, "-----") == 0) {
        in_label = !in_label;
        i += 4;
      } else if (pem[i] == ' ' && !in_label) {
        pem[i] = '\n';
      }
    }
  }
  if (!pem.empty()) pem.push_back('\n');
  return pem;
}

class config_reader {
 public:
  explicit config_reader(const rapidjson::Value& root) : root_(root), hide_(secrets_in(root)) {}

  config_result read() {
    read_connection();
    read_tls();
    read_selection();
    read_behavior();
    check_together();
    if (!problems_.empty()) return tl::unexpected<std::vector<failure>>(std::move(problems_));
    return std::move(config_);
  }

 private:
  // The secrets as they are given, whether they are valid or not.
  static std::vector<std::string> secrets_in(const rapidjson::Value& root) {
    const auto text_in = [](const rapidjson::Value& object, std::string_view key) {
      const auto* value = object.IsObject() ? find_member(object, key) : nullptr;
      return value != nullptr && value->IsString() ? std::string(text_of(*value)) : std::string();
    };
    source_config given;
    given.username = text_in(root, "username");
    given.password = text_in(root, "password");
    if (const auto* tls = find_member(root, "tls")) given.tls.client_key = text_in(*tls, "client_key");
    return secrets_of(given);
  }

  // What the user wrote, for a message: never a secret, which may have got into the wrong field. Whatever stands before an @ may
  // be a password, too, of the address of a database.
  std::string shown(std::string_view text) const {
    if (text.find('@') != std::string_view::npos) return "a text with an @";
    const std::string hidden = hide_(text);
    return '"' + hidden.substr(0, max_shown) + (hidden.size() > max_shown ? "...\"" : "\"");
  }

  void problem(std::string_view key, std::string_view expected, std::string_view found) {
    std::string message = "Configuration: `" + std::string(key) + "` must be " + std::string(expected);
    if (!found.empty()) message += ", but is " + std::string(found);
    problems_.push_back({error_code::config_invalid, hide_(message + "."), {}, std::nullopt});
  }

  // "tls.mode" of a nested object has `name` "tls.mode" and is looked up as "mode".
  std::optional<std::string> text(const rapidjson::Value& object, std::string_view key,
                                  std::string_view name) {
    const auto* value = find_member(object, key);
    if (value == nullptr) return std::nullopt;
    if (value->IsString()) return std::string(text_of(*value));
    problem(name, "a string", kind_of(*value));
    return std::nullopt;
  }
  std::optional<std::string> text(std::string_view key) { return text(root_, key, key); }

  void flag(const rapidjson::Value& object, std::string_view key, std::string_view name, bool& into) {
    const auto* value = find_member(object, key);
    if (value == nullptr) return;
    if (value->IsBool())
      into = value->GetBool();
    else
      problem(name, "true or false", value->IsString() ? shown(text_of(*value)) : kind_of(*value));
  }
  void flag(std::string_view key, bool& into) { flag(root_, key, key, into); }

  template <class Number>
  void number(std::string_view key, std::int64_t low, std::int64_t high, Number& into) {
    const auto* value = find_member(root_, key);
    if (value == nullptr) return;
    const std::string expected = "a whole number from " + std::to_string(low) + " to " + std::to_string(high);
    std::optional<std::int64_t> found;
    if (value->IsInt64()) {
      found = value->GetInt64();
    } else if (value->IsDouble() && std::abs(value->GetDouble()) < 1e15 &&
               std::floor(value->GetDouble()) == value->GetDouble()) {
      found = static_cast<std::int64_t>(value->GetDouble());  // 300.0 is an integer to JSON schema
    }
    if (found && *found >= low && *found <= high) {
      into = static_cast<Number>(*found);
      return;
    }
    problem(key, expected,
            value->IsNumber()   ? to_json(*value)
            : value->IsString() ? shown(text_of(*value))
                                : kind_of(*value));
  }

  void seconds(std::string_view key, std::chrono::seconds& into) {
    std::int64_t count = into.count();
    number(key, 1, max_seconds, count);
    into = std::chrono::seconds(count);
  }

  void host(std::string_view key, bool required, std::string& into) {
    const auto found = text(key);
    auto name = trimmed(found ? std::string_view(*found) : std::string_view());
    // An IPv6 address as URLs have it.
    if (name.size() > 2 && name.front() == '[' && name.back() == ']') name = name.substr(1, name.size() - 2);
    if (name.empty()) {
      const auto* value = find_member(root_, key);
      if (required && (value == nullptr || value->IsString()))
        problem(key, "a host name", value ? "empty" : "missing");
      return;
    }
    if (name.find('@') != std::string_view::npos)
      return problem(key, "a host name without user and password", shown(name));
    if (name.find("://") != std::string_view::npos || name.find('/') != std::string_view::npos)
      return problem(key, "a host name without scheme and path", shown(name));
    if (std::count(name.begin(), name.end(), ':') == 1)
      return problem(key, "a host name without port (ports have the keys `port` and `mysql_port`)",
                     shown(name));
    if (!is_printable_ascii(name) || name.find_first_of(" ,[]") != std::string_view::npos)
      return problem(key, "one host name", shown(name));
    into = std::string(name);
  }

  void read_connection() {
    host("host", true, config_.host);
    host("mysql_host", false, config_.mysql_host);
    if (config_.mysql_host.empty()) config_.mysql_host = config_.host;
    number("port", 1, 65535, config_.port);
    number("mysql_port", 1, 65535, config_.mysql_port);
    config_.username = text("username").value_or("");
    config_.password = text("password").value_or("");
    const std::string cells = text("cells").value_or("");
    for (const auto cell : comma_list(cells)) {
      if (!config_.cells.empty()) config_.cells += ',';
      config_.cells += cell;
    }
    if (config_.cells.empty() && is_planetscale_host(config_.host)) config_.cells = planetscale_cells;
  }

  void read_tls() {
    const auto* tls = find_member(root_, "tls");
    if (tls == nullptr) return;
    if (!tls->IsObject()) return problem("tls", "an object with the key `mode`", kind_of(*tls));
    if (const auto mode = text(*tls, "mode", "tls.mode"); mode && *mode != "verify") {
      if (*mode == "disabled")
        config_.tls.enabled = false;
      else
        problem("tls.mode", "\"verify\" or \"disabled\"", shown(*mode));
    }
    pem(*tls, "ca_certificate", "CERTIFICATE-----", config_.tls.ca_certificate);
    pem(*tls, "client_certificate", "CERTIFICATE-----", config_.tls.client_certificate);
    pem(*tls, "client_key", "PRIVATE KEY-----", config_.tls.client_key);
    const auto server_name = text(*tls, "server_name", "tls.server_name");
    config_.tls.server_name = server_name ? std::string(trimmed(*server_name)) : "";
    if (config_.tls.client_certificate.empty() != config_.tls.client_key.empty())
      problem(config_.tls.client_key.empty() ? "tls.client_key" : "tls.client_certificate",
              "given together with its other half (certificate and key make a pair)", "missing");
  }

  void pem(const rapidjson::Value& tls, std::string_view key, std::string_view label, std::string& into) {
    const std::string name = "tls." + std::string(key);
    const auto found = text(tls, key, name);
    if (!found || trimmed(*found).empty()) return;
    auto repaired = repaired_pem(*found);
    if (repaired.find("-----BEGIN ") == std::string::npos || repaired.find(label) == std::string::npos)
      return problem(name, "a PEM text with the line -----BEGIN ... " + std::string(label), "another text");
    into = std::move(repaired);
  }

  bool configured(const keyspace_name& keyspace) const {
    return std::find(config_.keyspaces.begin(), config_.keyspaces.end(), keyspace) != config_.keyspaces.end();
  }

  std::string keyspace_list() const {
    std::string list;
    for (const auto& keyspace : config_.keyspaces) list += (list.empty() ? "" : ", ") + keyspace.str();
    return list;
  }

  void read_selection() {
    const auto database = text("database").value_or("");
    for (const auto name : comma_list(database)) {
      if (has_control_character(name) || name.find('/') != std::string_view::npos)
        problem("database", "a keyspace name or several, separated by commas", shown(name));
      else if (!configured(keyspace_name(name)))
        config_.keyspaces.emplace_back(name);
    }
    const auto* value = find_member(root_, "database");
    if (comma_list(database).empty() && (value == nullptr || value->IsString()))
      problem("database", "a keyspace name or several, separated by commas", value ? "empty" : "missing");
    read_shards();
    bool use_replica = false;
    bool use_rdonly = false;
    flag("use_replica", use_replica);
    flag("use_rdonly", use_rdonly);
    config_.tablets = use_rdonly    ? tablet_type::rdonly
                      : use_replica ? tablet_type::replica
                                    : tablet_type::primary;
    read_starting_gtids();
  }

  void read_shards() {
    const auto* value = find_member(root_, "shards");
    if (value == nullptr) return;
    if (value->IsArray()) {
      for (const auto& entry : value->GetArray()) {
        if (!entry.IsString())
          problem("shards", "a list of shard names", "a list with " + std::string(kind_of(entry)));
        else
          for (const auto name : comma_list(text_of(entry))) add_shard(name);
      }
    } else if (const auto list = text("shards")) {
      for (const auto name : comma_list(*list)) add_shard(name);
    }
  }

  void add_shard(std::string_view entry) {
    const auto slash = entry.find('/');
    shard_selector selector;
    if (slash != std::string_view::npos) selector.keyspace = keyspace_name(trimmed(entry.substr(0, slash)));
    selector.shard = shard_name(trimmed(slash == std::string_view::npos ? entry : entry.substr(slash + 1)));
    if (selector.shard.empty() || (slash != std::string_view::npos && selector.keyspace.empty()) ||
        selector.shard.str().find('/') != std::string::npos || has_control_character(entry))
      return problem("shards", "shard names such as -80 or keyspace/-80, separated by commas", shown(entry));
    if (!selector.keyspace.empty() && !config_.keyspaces.empty() && !configured(selector.keyspace))
      return problem("shards", "shards of the keyspaces in `database` (" + keyspace_list() + ")",
                     shown(entry));
    const bool known =
        std::any_of(config_.shards.begin(), config_.shards.end(), [&](const shard_selector& other) {
          return other.keyspace == selector.keyspace && other.shard == selector.shard;
        });
    if (!known) config_.shards.push_back(std::move(selector));
  }

  void read_starting_gtids() {
    constexpr const char* expected =
        "JSON of the form {\"keyspace\": {\"shard\": \"MySQL56/uuid:1-5\"}}, as a string or an object";
    const auto* value = find_member(root_, "starting_gtids");
    if (value == nullptr) return;
    rapidjson::Document parsed;
    if (value->IsString()) {
      if (trimmed(text_of(*value)).empty()) return;
      auto document = parse_json(text_of(*value), error_code::config_invalid, "`starting_gtids`");
      if (!document)
        return problem("starting_gtids", expected, "not: " + without_period(document.error().message));
      parsed = std::move(*document);
      if (parsed.IsNull()) return;
      value = &parsed;
    }
    if (!value->IsObject()) return problem("starting_gtids", expected, kind_of(*value));
    for (const auto& keyspace : value->GetObject()) {
      const keyspace_name name(text_of(keyspace.name));
      if (keyspace.value.IsNull()) continue;
      if (!keyspace.value.IsObject()) {
        problem("starting_gtids", expected, "something else at \"" + name.str() + "\"");
        continue;
      }
      if (!config_.keyspaces.empty() && !configured(name)) {
        config_.warnings.push_back("The configuration's `starting_gtids` has positions for the keyspace " +
                                   shown(name.str()) +
                                   ", which `database` does not name; they have no effect.");
      }
      for (const auto& shard : keyspace.value.GetObject()) {
        const shard_id id{name, shard_name(trimmed(text_of(shard.name)))};
        if (shard.value.IsNull()) continue;
        if (!shard.value.IsString()) {
          problem("starting_gtids", expected, "something else at \"" + id.to_string() + "\"");
          continue;
        }
        const auto position = gtid_set::parse_position(text_of(shard.value));
        if (!position)
          problem("starting_gtids", "a GTID position for " + id.to_string(), shown(text_of(shard.value)));
        else if (!position->empty())
          config_.starting_gtids[id] = position->to_position();
      }
    }
  }

  static std::string without_period(std::string text) {
    if (!text.empty() && text.back() == '.') text.pop_back();
    return text;
  }

  void read_behavior() {
    flag("include_metadata", config_.include_metadata);
    // For the sake of old configurations; the program always works that way.
    bool always = true;
    flag("use_gtid_with_table_pks", always);
    flag("capture_deletes", config_.capture_deletes);
    number("max_retries", 0, std::numeric_limits<std::int32_t>::max(), config_.max_retries);
    seconds("timeout_seconds", config_.timeout);
    number("max_streams", 1, 10000, config_.max_streams);
    number("max_copies_per_shard", 1, 1000, config_.max_copies_per_shard);
    seconds("checkpoint_interval_seconds", config_.checkpoint_interval);
    if (const auto choice = text("invalid_cdc_cursor_position_behavior"); choice && !choice->empty()) {
      if (*choice == "Re-sync data")
        config_.on_lost_position = lost_position_behavior::resync_data;
      else if (*choice != "Fail sync")
        problem("invalid_cdc_cursor_position_behavior", "\"Fail sync\" or \"Re-sync data\"", shown(*choice));
    }
    if (const auto* options = find_member(root_, "options")) {
      if (!options->IsObject()) return problem("options", "an object", kind_of(*options));
      flag(*options, "do_not_treat_tiny_int_as_boolean", "options.do_not_treat_tiny_int_as_boolean",
           config_.do_not_treat_tiny_int_as_boolean);
      flag(*options, "time_as_string", "options.time_as_string", config_.time_as_string);
    }
  }

  // Rules that need several keys.
  void check_together() {
    const auto given = [this](const char* key) {
      const auto* value = find_member(root_, key);
      return value == nullptr || value->IsString();
    };
    if (is_planetscale_host(config_.host)) {
      if (config_.username.empty() && given("username"))
        problem("username", "the user name of a PlanetScale password", "empty");
      if (config_.password.empty() && given("password"))
        problem("password", "the password of that user", "empty");
      if (!config_.tls.enabled) problem("tls.mode", "\"verify\" for a PlanetScale host", "\"disabled\"");
    } else if (config_.username.empty() && !config_.password.empty() && given("username")) {
      problem("username", "given together with `password` (or both left empty)", "empty");
    }
    // The two ways to send them: a header of base64, or gRPC metadata as they are. MySQL takes any but NUL.
    const bool as_metadata = !is_planetscale_host(config_.host);
    if (as_metadata ? !is_printable_ascii(config_.username) : has_control_character(config_.username))
      problem("username", "printable ASCII text", "a text with other characters");
    if (as_metadata ? !is_printable_ascii(config_.password) : has_control_character(config_.password))
      problem("password", "printable ASCII text", "a text with other characters");
    if (!as_metadata && config_.username.find(':') != std::string::npos)
      problem("username", "a name without a colon", "a text with one");
  }

  const rapidjson::Value& root_;
  const redactor hide_;
  source_config config_;
  std::vector<failure> problems_;
};

}  // namespace

bool is_planetscale_host(std::string_view host) {
  constexpr std::string_view suffix = ".psdb.cloud";
  while (!host.empty() && host.back() == '.') host.remove_suffix(1);
  if (host.size() <= suffix.size()) return false;
  const auto end = host.substr(host.size() - suffix.size());
  return std::equal(end.begin(), end.end(), suffix.begin(), [](char a, char b) {
    return (a >= 'A' && a <= 'Z' ? static_cast<char>(a - 'A' + 'a') : a) == b;
  });
}

bool source_config::selects(const shard_id& id) const {
  return shards.empty() || std::any_of(shards.begin(), shards.end(), [&id](const shard_selector& entry) {
           return entry.shard == id.shard && (entry.keyspace.empty() || entry.keyspace == id.keyspace);
         });
}

config_result parse_config(std::string_view json_text) {
  const auto document = parse_json(json_text, error_code::config_invalid, "the configuration");
  if (!document) return tl::unexpected<std::vector<failure>>({document.error()});
  if (!document->IsObject())
    return tl::unexpected<std::vector<failure>>(
        {{error_code::config_invalid,
          "The configuration must be a JSON object, but is " + std::string(kind_of(*document)) + ".",
          {},
          std::nullopt}});
  return config_reader(*document).read();
}

failure summarize(const std::vector<failure>& problems) {
  failure all{problems.empty() ? error_code::internal : problems.front().code, {}, {}, std::nullopt};
  for (const auto& problem : problems) {
    all.message += (all.message.empty() ? "" : " ") + problem.message;
    if (!problem.detail.empty()) all.detail += (all.detail.empty() ? "" : "\n") + problem.detail;
  }
  return all;
}

connection_settings to_connection(const source_config& config) {
  connection_settings settings;
  settings.host = config.host;
  settings.port = config.port;
  settings.mysql_host = config.mysql_host;
  settings.mysql_port = config.mysql_port;
  settings.username = config.username;
  settings.password = config.password;
  settings.tls = config.tls;
  settings.auth = config.username.empty()            ? grpc_auth::none
                  : is_planetscale_host(config.host) ? grpc_auth::basic_header
                                                     : grpc_auth::username_password;
  return settings;
}

std::vector<std::string> secrets_of(const source_config& config) {
  std::vector<std::string> secrets;
  // A PlanetScale password that got into the wrong field.
  if (config.username.rfind("pscale_pw_", 0) == 0) secrets.push_back(config.username);
  if (!config.password.empty()) {
    secrets.push_back(config.password);
    // As programs quote it in their messages.
    std::string quoted;
    append_json_string(quoted, config.password);
    secrets.push_back(quoted.substr(1, quoted.size() - 2));
    std::string header;
    append_base64(header, config.username + ":" + config.password);
    secrets.push_back(header);
    while (!header.empty() && header.back() == '=') header.pop_back();
    secrets.push_back(std::move(header));
  }
  if (!config.tls.client_key.empty()) secrets.push_back(config.tls.client_key);
  return secrets;
}

}  // namespace psource
