// Messages, the specification and the redactor.
#include <doctest/doctest.h>
#include <rapidjson/document.h>

#include <functional>
#include <set>
#include <string>
#include <vector>

#include "protocol/airbyte/config.hpp"
#include "protocol/airbyte/json_text.hpp"
#include "protocol/airbyte/messages.hpp"
#include "protocol/airbyte/spec.hpp"

using namespace psource;

namespace {

const stream_id orders{keyspace_name("customer"), table_name("orders")};
const redactor nothing;
constexpr epoch_milliseconds now{1767225600123};

rapidjson::Document parsed(const std::string& line) {
  REQUIRE(line.size() > 1);
  REQUIRE(line.back() == '\n');
  REQUIRE(line.find('\n') == line.size() - 1);
  REQUIRE(line.find('\r') == std::string::npos);
  rapidjson::Document document;
  document.Parse<rapidjson::kParseValidateEncodingFlag>(line.c_str(), line.size());
  REQUIRE_FALSE(document.HasParseError());
  return document;
}

std::string message_of(const std::string& log) { return parsed(log)["log"]["message"].GetString(); }

}  // namespace

TEST_CASE("every message has exactly the form of the protocol") {
  CHECK(log_line(log_level::info, "hello", nothing) ==
        "{\"type\":\"LOG\",\"log\":{\"level\":\"INFO\",\"message\":\"hello\"}}\n");
  CHECK(connection_status_line(true, "fine", nothing) ==
        "{\"type\":\"CONNECTION_STATUS\",\"connectionStatus\":{\"status\":\"SUCCEEDED\",\"message\":\"fine\"}"
        "}\n");
  CHECK(
      connection_status_line(false, "bad", nothing) ==
      "{\"type\":\"CONNECTION_STATUS\",\"connectionStatus\":{\"status\":\"FAILED\",\"message\":\"bad\"}}\n");
  CHECK(state_line(orders, R"({"shards":{}})", 12) ==
        "{\"type\":\"STATE\",\"state\":{\"type\":\"STREAM\",\"stream\":{\"stream_descriptor\":{\"name\":"
        "\"orders\","
        "\"namespace\":\"customer\"},\"stream_state\":{\"shards\":{}}},\"sourceStats\":{\"recordCount\":12.0}"
        "}}\n");
  CHECK(
      stream_status_line(orders, stream_status::started, now) ==
      "{\"type\":\"TRACE\",\"trace\":{\"type\":\"STREAM_STATUS\",\"emitted_at\":1767225600123,\"stream_"
      "status\":"
      "{\"stream_descriptor\":{\"name\":\"orders\",\"namespace\":\"customer\"},\"status\":\"STARTED\"}}}\n");
  CHECK(estimate_line(orders, 5, now) ==
        "{\"type\":\"TRACE\",\"trace\":{\"type\":\"ESTIMATE\",\"emitted_at\":1767225600123,\"estimate\":{"
        "\"type\":"
        "\"STREAM\",\"name\":\"orders\",\"namespace\":\"customer\",\"row_estimate\":5}}}\n");
  failure lost{error_code::position_lost, "Gone.", "purged", orders};
  CHECK(
      trace_error_line(lost, now, nothing) ==
      "{\"type\":\"TRACE\",\"trace\":{\"type\":\"ERROR\",\"emitted_at\":1767225600123,\"error\":{\"message\":"
      "\"Gone.\",\"internal_message\":\"position_lost: purged\",\"failure_type\":\"config_error\","
      "\"stream_descriptor\":{\"name\":\"orders\",\"namespace\":\"customer\"}}}}\n");
  const auto plain =
      parsed(trace_error_line({error_code::stream_broken, "Cut.", "", std::nullopt}, now, nothing));
  CHECK(plain["trace"]["error"]["failure_type"] == "transient_error");
  CHECK_FALSE(plain["trace"]["error"].HasMember("stream_descriptor"));
}

TEST_CASE("levels and statuses have the protocol's words") {
  const std::vector<std::pair<log_level, std::string>> levels = {
      {log_level::fatal, "FATAL"}, {log_level::error, "ERROR"}, {log_level::warn, "WARN"},
      {log_level::info, "INFO"},   {log_level::debug, "DEBUG"}, {log_level::trace, "TRACE"}};
  for (const auto& [level, word] : levels)
    CHECK(parsed(log_line(level, "", nothing))["log"]["level"] == word.c_str());
  const std::vector<std::pair<stream_status, std::string>> statuses = {
      {stream_status::started, "STARTED"},
      {stream_status::running, "RUNNING"},
      {stream_status::complete, "COMPLETE"},
      {stream_status::incomplete, "INCOMPLETE"}};
  for (const auto& [status, word] : statuses)
    CHECK(parsed(stream_status_line(orders, status, now))["trace"]["stream_status"]["status"] ==
          word.c_str());
}

TEST_CASE("texts are escaped and stay one line, whatever bytes they have (S20)") {
  const std::string odd = "a\"b\\c\nd\re\tf\x01g\x7fh/\xc3\xa9\xf0\x9f\x98\x80";
  CHECK(message_of(log_line(log_level::info, odd, nothing)) == odd);
  const auto table = stream_id{keyspace_name("k\"s"), table_name("t`a\\b\n\xff")};
  const auto state = parsed(state_line(table, "{}", 0));
  CHECK(state["state"]["stream"]["stream_descriptor"]["namespace"] == "k\"s");
  CHECK(state["state"]["stream"]["stream_descriptor"]["name"] == "t`a\\b\n\xef\xbf\xbd");
  // No UTF-8: each such byte becomes the replacement character.
  const std::string fffd = "\xef\xbf\xbd";
  const std::vector<std::pair<std::string, std::string>> rows = {
      {"\xff", fffd},
      {"caf\xe9!", "caf" + fffd + "!"},
      {"\xc0\xaf", fffd + fffd},                        // overlong
      {"\xe0\x80\xaf", fffd + fffd + fffd},             // overlong
      {"\xed\xa0\x80", fffd + fffd + fffd},             // surrogate
      {"\xf4\x90\x80\x80", fffd + fffd + fffd + fffd},  // beyond U+10FFFF
      {"\xf8\x88\x80\x80", fffd + fffd + fffd + fffd},
      {"x\xe2\x82", "x" + fffd + fffd},  // cut
      {"\xf0\x9f\x98", fffd + fffd + fffd},
      {"\x80", fffd},
      {"\xef\xbf\xbf\xf4\x8f\xbf\xbf", "\xef\xbf\xbf\xf4\x8f\xbf\xbf"},
  };
  for (const auto& [text, want] : rows) CHECK(message_of(log_line(log_level::warn, text, nothing)) == want);
  const std::string with_nul("a\0b", 3);
  const auto nul = parsed(log_line(log_level::warn, with_nul, nothing));
  CHECK(std::string(nul["log"]["message"].GetString(), nul["log"]["message"].GetStringLength()) == with_nul);
}

TEST_CASE("long texts are cut below the platform's limit, between two characters") {
  std::string text(39999, 'x');
  for (int i = 0; i < 1000; ++i) text += "\xc3\xa9";
  const auto shown = message_of(log_line(log_level::info, text, nothing));
  CHECK(shown == std::string(39999, 'x') + "... (cut)");
}

TEST_CASE("secrets are hidden in every text that passes") {
  const redactor hide({"hunter2", "hunter2-long", "ab",
                       "-----BEGIN KEY-----\nQUJDREVGR0hJSktMTU5P\nshort\n-----END KEY-----\n"});
  CHECK(hide("password hunter2, hunter2-long, hunter22 and ab") == "password ****, ****, ****2 and ab");
  CHECK(hide("hunterhunter2hunter2") == "hunter********");
  CHECK(hide("") == "");
  CHECK(hide("line QUJDREVGR0hJSktMTU5P short -----BEGIN KEY-----") == "line **** short -----BEGIN KEY-----");
  for (const auto& line :
       {log_line(log_level::error, "denied: hunter2", hide),
        connection_status_line(false, "denied: hunter2", hide),
        trace_error_line({error_code::credentials_refused, "denied: hunter2", "using hunter2", std::nullopt},
                         now, hide)}) {
    CHECK(line.find("hunter2") == std::string::npos);
    CHECK(line.find("****") != std::string::npos);
  }
  const auto config =
      parse_config(R"({"host":"a.psdb.cloud","database":"d","username":"user","password":"pw\"x"})");
  REQUIRE(config.has_value());
  const redactor of_config(secrets_of(*config));
  CHECK(of_config("authorization: Basic dXNlcjpwdyJ4 and pw\"x") == "authorization: Basic **** and ****");
}

TEST_CASE("the specification is one line of JSON (S13, S14)") {
  const auto line = parsed(spec_line());
  CHECK(line["type"] == "SPEC");
  const auto& schema = line["spec"]["connectionSpecification"];
  CHECK(schema["type"] == "object");
  CHECK(schema["additionalProperties"] == true);
  CHECK(schema["properties"]["password"]["airbyte_secret"] == true);
  CHECK(spec_line().find("\"airbyte_secret\":false") == std::string::npos);
  CHECK(line["spec"]["protocol_version"] == "0.2.0");
}

TEST_CASE("the specification keeps to the rules of Airbyte's acceptance tests (S14)") {
  rapidjson::Document schema;
  const auto text = connection_specification();
  schema.Parse(text.c_str(), text.size());
  REQUIRE_FALSE(schema.HasParseError());

  const std::set<std::string> forbidden = {
      "not",  "anyOf", "patternProperties", "prefixItems",       "allOf", "if",
      "then", "else",  "dependentSchemas",  "dependentRequired", "$ref"};
  const std::set<std::string> secret_names = {
      "password",           "key",         "token",       "secret",
      "access_token",       "certificate", "credentials", "ca_certificate",
      "client_certificate", "client_key"};
  const std::function<void(const rapidjson::Value&, const std::string&)> visit_schema =
      [&](const rapidjson::Value& node, const std::string& place) {
        CAPTURE(place);
        REQUIRE(node.IsObject());
        CHECK_FALSE(node.ObjectEmpty());
        for (const auto& member : node.GetObject()) CHECK(forbidden.count(member.name.GetString()) == 0);
        if (node.HasMember("additionalProperties")) CHECK(node["additionalProperties"] == true);
        if (node.HasMember("type")) CHECK(node["type"].IsString());
        if (node.HasMember("enum")) {
          std::set<std::string> seen;
          for (const auto& value : node["enum"].GetArray()) CHECK(seen.insert(value.GetString()).second);
        }
        if (node.HasMember("properties")) {
          REQUIRE_FALSE(node["properties"].ObjectEmpty());
          std::set<int> orders_seen;
          for (const auto& property : node["properties"].GetObject()) {
            const std::string name = property.name.GetString();
            REQUIRE(property.value.HasMember("order"));
            CHECK(orders_seen.insert(property.value["order"].GetInt()).second);
            CHECK(property.value.HasMember("title"));
            if (secret_names.count(name) != 0) CHECK(property.value.HasMember("airbyte_secret"));
            visit_schema(property.value, place + "." + name);
          }
        }
        if (node.HasMember("oneOf")) {
          CHECK(node["type"] == "object");
          std::set<std::string> modes;
          for (const auto& variant : node["oneOf"].GetArray()) {
            int constants = 0;
            for (const auto& property : variant["properties"].GetObject())
              if (property.value.HasMember("const")) ++constants;
            CHECK(constants == 1);
            const auto& mode = variant["properties"]["mode"];
            CHECK(modes.insert(mode["const"].GetString()).second);
            CHECK_FALSE(mode.HasMember("default"));
            CHECK_FALSE(mode.HasMember("enum"));
            visit_schema(variant, place + ".oneOf");
          }
          CHECK(modes.size() == 2);
        }
      };
  visit_schema(schema, "");

  // No key is required that the older connector did not require.
  const std::set<std::string> required_before = {"host", "database", "username", "password"};
  for (const auto& name : schema["required"].GetArray()) CHECK(required_before.count(name.GetString()) == 1);
  // And every key of the older connector is there with its type.
  const std::vector<std::pair<const char*, const char*>> before = {{"host", "string"},
                                                                   {"shards", "string"},
                                                                   {"database", "string"},
                                                                   {"username", "string"},
                                                                   {"password", "string"},
                                                                   {"use_replica", "boolean"},
                                                                   {"use_rdonly", "boolean"},
                                                                   {"include_metadata", "boolean"},
                                                                   {"starting_gtids", "string"},
                                                                   {"max_retries", "integer"},
                                                                   {"timeout_seconds", "integer"},
                                                                   {"use_gtid_with_table_pks", "boolean"},
                                                                   {"options", "object"}};
  for (const auto& [property, type] : before) {
    const std::string name = property;
    CAPTURE(name);
    REQUIRE(schema["properties"].HasMember(name));
    CHECK(schema["properties"][name]["type"] == type);
  }
  const auto& verify = schema["properties"]["tls"]["oneOf"][0]["properties"];
  CHECK(verify["client_key"]["airbyte_secret"] == true);
  for (const char* pem : {"ca_certificate", "client_certificate", "client_key"})
    CHECK(verify[pem]["multiline"] == true);
}

TEST_CASE("the defaults and examples of the specification load") {
  const std::string base = R"("host":"a.psdb.cloud","database":"customer","username":"u","password":"p")";
  std::string defaults = base;
  for (const auto& key : config_keys()) {
    if (key.path.find('.') != std::string::npos) continue;
    if (!key.default_json.empty()) defaults += ",\"" + key.path + "\":" + key.default_json;
    if (!key.example.empty()) {
      const auto text = "{" + base + ",\"" + key.path + "\":" + key.example + "}";
      CAPTURE(text);
      CHECK(parse_config(text).has_value());
    }
    for (const auto& value : key.allowed) {
      const auto text = "{" + base + ",\"" + key.path + "\":" + value + "}";
      CAPTURE(text);
      CHECK(parse_config(text).has_value());
    }
    for (const auto& value : {key.minimum, key.maximum}) {
      if (value.empty()) continue;
      const auto text = "{" + base + ",\"" + key.path + "\":" + value + "}";
      CAPTURE(text);
      CHECK(parse_config(text).has_value());
    }
  }
  const auto with_defaults = parse_config("{" + defaults + "}");
  const auto without = parse_config("{" + base + "}");
  REQUIRE(with_defaults.has_value());
  REQUIRE(without.has_value());
  CHECK(with_defaults->port == without->port);
  CHECK(with_defaults->mysql_port == without->mysql_port);
  CHECK(with_defaults->max_retries == without->max_retries);
  CHECK(with_defaults->timeout == without->timeout);
  CHECK(with_defaults->max_streams == without->max_streams);
  CHECK(with_defaults->max_copies_per_shard == without->max_copies_per_shard);
  CHECK(with_defaults->checkpoint_interval == without->checkpoint_interval);
  CHECK(with_defaults->capture_deletes == without->capture_deletes);
  CHECK(with_defaults->on_lost_position == without->on_lost_position);
  CHECK(with_defaults->include_metadata == without->include_metadata);
  CHECK(with_defaults->tablets == without->tablets);
}

TEST_CASE("the reference lists every key once") {
  const auto table = config_reference_markdown();
  for (const auto& key : config_keys()) {
    CAPTURE(key.path);
    const auto row = "\n| `" + key.path + "` |";
    CHECK(table.find(row) != std::string::npos);
    CHECK(table.find(row) == table.rfind(row));
    CHECK_FALSE(key.description.empty());
  }
}
