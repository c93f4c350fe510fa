// The table of configuration keys and what is printed from it: the JSON schema of `spec` and the reference
// table.
#include "protocol/airbyte/spec.hpp"

#include <string_view>

#include "protocol/airbyte/json_text.hpp"

namespace psource {
namespace {

config_key key(std::string path, std::string title, std::string type, std::string description) {
  config_key made;
  made.path = std::move(path);
  made.title = std::move(title);
  made.type = std::move(type);
  made.description = std::move(description);
  return made;
}

std::vector<config_key> make_keys() {
  std::vector<config_key> keys;
  const auto add = [&keys](config_key made) -> config_key& { return keys.emplace_back(std::move(made)); };

  auto& host = add(
      key("host", "Host", "string",
          "Host name of the database. For PlanetScale it ends in .psdb.cloud; for a Vitess of your own it "
          "is the host of vtgate."));
  host.required = true;
  host.example = R"("aws.connect.psdb.cloud")";

  auto& database =
      add(key("database", "Database", "string",
              "The keyspace to read, or several separated by commas. Each becomes a namespace. For "
              "PlanetScale this is the database name unless you have made keyspaces of your own."));
  database.required = true;
  database.example = R"("customer, commerce")";

  auto& username =
      add(key("username", "Username", "string",
              "User name of the PlanetScale password, or of vtgate's static authentication. Empty for a "
              "vtgate without authentication."));
  username.always_show = true;

  auto& password = add(key("password", "Password", "string", "The password that belongs to the user name."));
  password.secret = true;
  password.always_show = true;

  add(key("use_replica", "Use replica", "boolean", "Read from replica tablets instead of the primary."))
      .default_json = "false";
  add(key("use_rdonly", "Use rdonly", "boolean",
          "Read from rdonly (batch) tablets, where the branch has them. Comes before \"Use replica\"."))
      .default_json = "false";

  auto& shards =
      add(key("shards", "Shards", "string",
              "Read these shards only, separated by commas. A bare name counts in every keyspace that has "
              "it; keyspace/shard names one. Empty: all shards."));
  shards.example = R"("-80, customer/80-")";

  add(key("include_metadata", "Include metadata", "boolean",
          "Adds a column `_planetscale_metadata` to each table: an object with `vgtid_position` (the "
          "position in the "
          "binlog), `extracted_at` (nanoseconds) and `sequence_number` (rises with each row of a stream)."))
      .default_json = "false";

  auto& gtids =
      add(key("starting_gtids", "Starting GTIDs", "string",
              "Positions from which tables are read that have no saved state yet, instead of copying them: "
              "JSON of the form {\"keyspace\": {\"shard\": \"MySQL56/uuid:1-5\"}}."));
  gtids.default_json = R"("")";
  gtids.example =
      R"x("{\"customer\": {\"-80\": \"MySQL56/16cec08d-f91b-11ee-8afb-aacaf4984ae5:1-5639808\"}}")x";
  gtids.multiline = true;

  auto& retries = add(key("max_retries", "Max retries", "integer",
                          "How many failures in a row, without any progress in between, a stream survives."));
  retries.default_json = "3";
  retries.minimum = "0";
  retries.maximum = "2147483647";

  auto& timeout =
      add(key("timeout_seconds", "Timeout (in seconds)", "integer",
              "A stream that brings nothing new for so long is given up and tried again. It does not limit "
              "the length of a sync."));
  timeout.default_json = "300";
  timeout.minimum = "1";
  timeout.maximum = "1000000000";

  add(key("use_gtid_with_table_pks", "Use GTID with table primary keys", "boolean",
          "Has no effect any more: an interrupted copy always goes on from position and primary key."))
      .default_json = "false";

  add(key("options", "Customize serialization", "object", "How some types are written."));
  add(key("options.do_not_treat_tiny_int_as_boolean", "Do not treat tinyint(1) as boolean", "boolean",
          "If enabled, columns of type tinyint(1) are integers, not booleans."))
      .default_json = "false";
  add(key("options.time_as_string", "TIME as plain text", "boolean",
          "If enabled, columns of type TIME are strings as MySQL writes them, with the full range from "
          "-838:59:59 to "
          "838:59:59; otherwise times of day, and values outside 00:00:00 to 23:59:59 become null."))
      .default_json = "false";

  auto& port =
      add(key("port", "Port", "integer", "gRPC port: 443 for PlanetScale, vtgate's --grpc-port otherwise."));
  port.default_json = "443";
  port.minimum = "1";
  port.maximum = "65535";

  add(key("mysql_host", "MySQL host", "string",
          "Host of the MySQL protocol where it is another one. Empty: the same host."));

  auto& mysql_port =
      add(key("mysql_port", "MySQL port", "integer",
              "Port of the MySQL protocol: 3306 for PlanetScale, vtgate's --mysql-server-port otherwise."));
  mysql_port.default_json = "3306";
  mysql_port.minimum = "1";
  mysql_port.maximum = "65535";

  add(key("tls", "TLS", "object", "Encryption of both ports. PlanetScale needs it."));
  add(key("tls.mode", "Mode", "string",
          "verify: encrypted, and the server's certificate is checked. disabled: plain text."))
      .allowed = {R"("verify")", R"("disabled")"};
  auto& ca =
      add(key("tls.ca_certificate", "CA certificate", "string",
              "PEM text of the authority that signed the server's certificate. Empty: the system's roots."));
  ca.multiline = true;
  ca.secret = true;
  auto& certificate = add(key("tls.client_certificate", "Client certificate", "string",
                              "PEM text of the certificate (chain) that the server asks of clients."));
  certificate.multiline = true;
  certificate.secret = true;
  auto& client_key =
      add(key("tls.client_key", "Client key", "string", "PEM text of the client certificate's private key."));
  client_key.multiline = true;
  client_key.secret = true;
  add(key("tls.server_name", "Server name", "string",
          "Name that the server's certificate must have. Empty: the host name."));

  add(key("cells", "Cells", "string",
          "Cells or cell alias in which vtgate looks for tablets, separated by commas. Empty: "
          "planetscale_operator_default for PlanetScale hosts, vtgate's own cell otherwise."));

  auto& streams = add(key("max_streams", "Streams at once", "integer",
                          "At most so many streams are open at the same time over all shards and tables; fewer while few keep the "
                          "processors busy."));
  streams.default_json = "64";
  streams.minimum = "1";
  streams.maximum = "10000";

  auto& copies = add(key("max_copies_per_shard", "Copies per shard", "integer",
                         "How many tables are copied from one shard at the same time."));
  copies.default_json = "2";
  copies.minimum = "1";
  copies.maximum = "1000";

  auto& checkpoint = add(key("checkpoint_interval_seconds", "Checkpoint interval (in seconds)", "integer",
                             "While a table's records flow its state is written this often."));
  checkpoint.default_json = "30";
  checkpoint.minimum = "1";
  checkpoint.maximum = "1000000000";

  add(key("capture_deletes", "Capture deletes", "boolean",
          "If enabled, deleted rows are sent with `_ab_cdc_deleted_at` set. If not, neither they nor that "
          "column are."))
      .default_json = "true";

  auto& lost = add(
      key("invalid_cdc_cursor_position_behavior", "Invalid CDC position behavior", "string",
          "When the binlogs that a saved position needs are gone: fail the sync, or copy the table again."));
  lost.default_json = R"("Fail sync")";
  lost.allowed = {R"("Fail sync")", R"("Re-sync data")"};
  return keys;
}

std::string_view parent_of(std::string_view path) {
  const auto dot = path.rfind('.');
  return dot == std::string_view::npos ? std::string_view() : path.substr(0, dot);
}

std::string_view name_of_key(std::string_view path) {
  const auto dot = path.rfind('.');
  return dot == std::string_view::npos ? path : path.substr(dot + 1);
}

std::string json_string(std::string_view text) {
  std::string out;
  append_json_string(out, text);
  return out;
}

std::string properties_below(const std::vector<config_key>& keys, std::string_view parent);

// What a mode of `tls` offers besides the mode itself.
std::string tls_variant(const std::vector<config_key>& keys, std::string_view mode, std::string_view title,
                        std::string_view description, bool with_details) {
  std::string out =
      R"({"title":)" + json_string(title) + R"(,"type":"object","description":)" + json_string(description) +
      R"(,"required":["mode"],"additionalProperties":true,"properties":{)" +
      R"("mode":{"type":"string","title":"Mode","const":)" + json_string(mode) + R"(,"order":0})";
  if (with_details) {
    auto others = keys;
    for (auto entry = others.begin(); entry != others.end();)
      entry = entry->path == "tls.mode" ? others.erase(entry) : entry + 1;
    out += "," + properties_below(others, "tls");
  }
  return out + "}}";
}

std::string schema_of(const std::vector<config_key>& keys, const config_key& entry, int order) {
  std::string out = R"({"title":)" + json_string(entry.title) + R"(,"description":)" +
                    json_string(entry.description) + R"(,"type":)" + json_string(entry.type) +
                    R"(,"order":)" + std::to_string(order);
  if (!entry.allowed.empty()) {
    out += R"(,"enum":[)";
    for (std::size_t i = 0; i < entry.allowed.size(); ++i) out += (i == 0 ? "" : ",") + entry.allowed[i];
    out += "]";
  }
  if (!entry.default_json.empty()) out += R"(,"default":)" + entry.default_json;
  if (!entry.minimum.empty()) out += R"(,"minimum":)" + entry.minimum;
  if (!entry.maximum.empty()) out += R"(,"maximum":)" + entry.maximum;
  if (!entry.example.empty()) out += R"(,"examples":[)" + entry.example + "]";
  if (entry.secret) out += R"(,"airbyte_secret":true)";
  if (entry.multiline) out += R"(,"multiline":true)";
  if (entry.always_show) out += R"(,"always_show":true)";
  if (entry.path == "tls") {
    out += R"(,"oneOf":[)" +
           tls_variant(keys, "verify", "Verify the certificate",
                       "Encrypted; the server's certificate is checked.", true) +
           "," +
           tls_variant(keys, "disabled", "Disabled", "Plain text; for a vtgate in a network of your own.",
                       false) +
           "]";
  } else if (entry.type == "object") {
    out += R"(,"additionalProperties":true,"properties":{)" + properties_below(keys, entry.path) + "}";
  }
  return out + "}";
}

// "name":{schema}, ... of the keys directly below `parent`, without the braces around.
std::string properties_below(const std::vector<config_key>& keys, std::string_view parent) {
  std::string out;
  // 0 is the mode's place in the variants of `tls`.
  int order = parent == "tls" ? 1 : 0;
  for (const auto& entry : keys) {
    if (parent_of(entry.path) != parent) continue;
    if (!out.empty()) out += ",";
    out += json_string(name_of_key(entry.path)) + ":" + schema_of(keys, entry, order++);
  }
  return out;
}

std::string table_cell(std::string text) {
  std::string out;
  for (const char c : text) {
    if (c == '|') out += '\\';
    out += c == '\n' ? ' ' : c;
  }
  return out;
}

}  // namespace

const std::vector<config_key>& config_keys() {
  static const std::vector<config_key> keys = make_keys();
  return keys;
}

std::string connection_specification() {
  const auto& keys = config_keys();
  std::string required;
  for (const auto& entry : keys)
    if (entry.required) required += (required.empty() ? "" : ",") + json_string(entry.path);
  return R"({"$schema":"http://json-schema.org/draft-07/schema#","title":"PlanetScale Source Spec","type":"object",)"
         R"("required":[)" +
         required + R"(],"additionalProperties":true,"properties":{)" + properties_below(keys, "") + "}}";
}

std::string connector_specification() {
  return R"({"protocol_version":"0.2.0","documentationUrl":"https://planetscale.com/docs/integrations/airbyte",)"
         R"("supportsIncremental":true,"supported_destination_sync_modes":["append","overwrite","append_dedup"],)"
         R"("connectionSpecification":)" +
         connection_specification() + "}";
}

std::string config_reference_markdown() {
  std::string out = "| Key | Type | Default | Meaning |\n|---|---|---|---|\n";
  for (const auto& entry : config_keys()) {
    std::string type = entry.type;
    if (!entry.allowed.empty()) {
      type.clear();
      for (const auto& value : entry.allowed)
        type += (type.empty() ? "" : " or ") + std::string("`") + value + "`";
    }
    if (!entry.minimum.empty()) type += ", " + entry.minimum + " to " + entry.maximum;
    if (entry.secret) type += ", secret";
    const std::string fallback = entry.required               ? "required"
                                 : entry.path == "tls.mode"   ? "`\"verify\"`"
                                 : entry.default_json.empty() ? "–"
                                                              : "`" + entry.default_json + "`";
    out += "| `" + entry.path + "` | " + table_cell(type) + " | " + table_cell(fallback) + " | " +
           table_cell(entry.description) + " |\n";
  }
  return out;
}

}  // namespace psource
