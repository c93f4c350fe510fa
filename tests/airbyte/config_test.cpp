// The configuration: what loads, what is refused and in which words, and what the clients get of it.
#include <doctest/doctest.h>

#include <algorithm>
#include <functional>
#include <string>
#include <vector>

#include "protocol/airbyte/config.hpp"
#include "protocol/airbyte/spec.hpp"

using namespace psource;

namespace {

const std::string uuid = "16cec08d-f91b-11ee-8afb-aacaf4984ae5";

// A configuration with `more` members added to the four that everybody has.
std::string with(const std::string& more) {
  return R"({"host":"aws.connect.psdb.cloud","database":"customer","username":"u1","password":"pscale_pw_x")" +
         (more.empty() ? "" : "," + more) + "}";
}

source_config loaded(const std::string& text) {
  const auto config = parse_config(text);
  if (!config) {
    for (const auto& problem : config.error()) MESSAGE(problem.message);
  }
  REQUIRE_MESSAGE(config.has_value(), text);
  return *config;
}

std::vector<std::string> problems(const std::string& text) {
  const auto config = parse_config(text);
  std::vector<std::string> messages;
  if (config) return messages;
  for (const auto& problem : config.error()) {
    CHECK(problem.code == error_code::config_invalid);
    CHECK(problem.message.back() == '.');
    messages.push_back(problem.message);
  }
  return messages;
}

std::string all_problems(const std::string& text) {
  std::string all;
  for (const auto& message : problems(text)) all += message + "\n";
  return all;
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("the smallest configuration has the documented defaults") {
  const auto config = loaded(with(""));
  CHECK(config.host == "aws.connect.psdb.cloud");
  CHECK(config.port == 443);
  CHECK(config.mysql_host == config.host);
  CHECK(config.mysql_port == 3306);
  CHECK(config.keyspaces == std::vector<keyspace_name>{keyspace_name("customer")});
  CHECK(config.username == "u1");
  CHECK(config.password == "pscale_pw_x");
  CHECK(config.tls.enabled);
  CHECK(config.tablets == tablet_type::primary);
  CHECK(config.shards.empty());
  CHECK(config.cells == "planetscale_operator_default");
  CHECK_FALSE(config.include_metadata);
  CHECK(config.starting_gtids.empty());
  CHECK(config.max_retries == 3);
  CHECK(config.timeout == std::chrono::seconds(300));
  CHECK(config.max_streams == 64);
  CHECK(config.max_copies_per_shard == 2);
  CHECK(config.checkpoint_interval == std::chrono::seconds(30));
  CHECK(config.capture_deletes);
  CHECK(config.on_lost_position == lost_position_behavior::fail_sync);
  CHECK_FALSE(config.do_not_treat_tiny_int_as_boolean);
  CHECK_FALSE(config.time_as_string);
  CHECK(config.warnings.empty());
}

TEST_CASE("configurations of the older connector load unchanged") {
  const auto full =
      loaded(with(R"("shards":"-80,80-","use_replica":true,"use_rdonly":false,"include_metadata":true,
      "starting_gtids":"{\"customer\": {\"-80\": \"MySQL56/16cec08d-f91b-11ee-8afb-aacaf4984ae5:1-5\"}}",
      "max_retries":7,"timeout_seconds":1800,"use_gtid_with_table_pks":true,
      "options":{"storage":"HTTPS","do_not_treat_tiny_int_as_boolean":true})"));
  CHECK(full.shards.size() == 2);
  CHECK(full.tablets == tablet_type::replica);
  CHECK(full.include_metadata);
  CHECK(full.starting_gtids.at({keyspace_name("customer"), shard_name("-80")}) == "MySQL56/" + uuid + ":1-5");
  CHECK(full.max_retries == 7);
  CHECK(full.timeout == std::chrono::minutes(30));
  CHECK(full.do_not_treat_tiny_int_as_boolean);

  // Nulls are absent keys, empty texts are no choice, unknown keys do not matter.
  const auto empty = loaded(with(R"("shards":"","starting_gtids":"","use_replica":null,"use_rdonly":null,
      "max_retries":null,"timeout_seconds":null,"options":null,"tls":null,"port":null,"mysql_host":"",
      "cells":null,"invalid_cdc_cursor_position_behavior":null,"__injected":{"a":[1,{"b":null}]},"sslmode":7)"));
  CHECK(empty.shards.empty());
  CHECK(empty.max_retries == 3);
  CHECK(loaded(with(R"("options":{},"max_retries":0,"timeout_seconds":1)")).max_retries == 0);
  CHECK(loaded(with(R"("timeout_seconds":300.0)")).timeout == std::chrono::seconds(300));
  CHECK(loaded(with(R"("starting_gtids":"{}")")).starting_gtids.empty());
  CHECK(loaded(with(R"("starting_gtids":"null")")).starting_gtids.empty());
  // The rdonly tablets come first when both are asked for.
  CHECK(loaded(with(R"("use_replica":true,"use_rdonly":true)")).tablets == tablet_type::rdonly);
  CHECK(loaded(with(R"("use_rdonly":true)")).tablets == tablet_type::rdonly);
  CHECK(loaded("\xef\xbb\xbf" + with("")).host == "aws.connect.psdb.cloud");
}

TEST_CASE("a list of shards may have blanks and a trailing comma, and no shard is named \"\" (S12)") {
  const auto config =
      loaded(with(R"("database":"customer,commerce","shards":" -80, 80-,, customer/-40 ,-80,")"));
  REQUIRE(config.shards.size() == 3);
  CHECK(config.shards[0].shard == shard_name("-80"));
  CHECK(config.shards[0].keyspace.empty());
  CHECK(config.shards[1].shard == shard_name("80-"));
  CHECK(config.shards[2].keyspace == keyspace_name("customer"));
  CHECK(config.shards[2].shard == shard_name("-40"));
  const auto chosen = [&config](const char* keyspace, const char* shard) {
    return config.selects({keyspace_name(keyspace), shard_name(shard)});
  };
  CHECK(chosen("customer", "-80"));
  CHECK(chosen("commerce", "80-"));
  CHECK(chosen("customer", "-40"));
  CHECK_FALSE(chosen("commerce", "-40"));
  CHECK_FALSE(chosen("customer", ""));
  CHECK_FALSE(chosen("customer", "0"));
  CHECK(loaded(with(R"("shards":" , ,")")).shards.empty());
  CHECK(loaded(with(R"("shards":" , ,")")).selects({keyspace_name("x"), shard_name("-")}));
  CHECK(loaded(with(R"("shards":["-80","80-, a0-"])")).shards.size() == 3);
}

TEST_CASE("several keyspaces are a list, each once") {
  const auto config = loaded(with(R"("database":" a , a_etl,,x_a, a ")"));
  CHECK(config.keyspaces ==
        std::vector<keyspace_name>{keyspace_name("a"), keyspace_name("a_etl"), keyspace_name("x_a")});
}

TEST_CASE("starting positions come as text or object and are brought into canonical form (S17)") {
  const std::string object =
      R"("starting_gtids":{"customer":{"-80":"MySQL56/)" + uuid + R"(:4-5:1-3","80-":"","a":null},"b":null})";
  const auto config = loaded(with(object));
  REQUIRE(config.starting_gtids.size() == 1);
  CHECK(config.starting_gtids.begin()->second == "MySQL56/" + uuid + ":1-5");
  CHECK(config.warnings.empty());
  // As MySQL prints gtid_executed: without flavor, with a line break behind the comma.
  CHECK(loaded(with(R"("starting_gtids":{"customer":{"-":")" + uuid +
                    R"(:1-5,\nb13c2fe0-f91a-11ee-aa81-6251c27c9c24:1"}})"))
            .starting_gtids.begin()
            ->second == "MySQL56/" + uuid + ":1-5,b13c2fe0-f91a-11ee-aa81-6251c27c9c24:1");
  const auto other = loaded(with(R"("starting_gtids":{"elsewhere":{"-":")" + uuid + R"(:1"}})"));
  REQUIRE(other.warnings.size() == 1);
  CHECK(contains(other.warnings[0], "\"elsewhere\""));
  CHECK(contains(all_problems(with(R"("starting_gtids":"{\"customer\": ")")), "line 1, column"));
  CHECK(contains(all_problems(with(R"("starting_gtids":"MySQL56/x")")),
                 "`starting_gtids` must be JSON of the form"));
  CHECK(contains(all_problems(with(R"("starting_gtids":{"customer":{"-80":"current"}})")), "customer/-80"));
  CHECK(contains(all_problems(with(R"("starting_gtids":{"customer":{"-80":5}})")), "customer/-80"));
  CHECK(contains(all_problems(with(R"("starting_gtids":{"customer":[]})")), "\"customer\""));
}

TEST_CASE("every key refuses what it cannot be, by name, with what is expected and what was found") {
  struct row {
    std::string more;
    std::string key;
    std::string part;
  };
  const std::vector<row> rows = {
      {R"("port":0)", "port", "from 1 to 65535, but is 0"},
      {R"("port":65536)", "port", "but is 65536"},
      {R"("port":"443")", "port", "but is \"443\""},
      {R"("port":443.5)", "port", "but is 443.5"},
      {R"("port":123456789012345678901234567890)", "port", "whole number"},
      {R"("port":1e300)", "port", "whole number"},
      {R"("port":true)", "port", "but is a boolean"},
      {R"("mysql_port":-1)", "mysql_port", "but is -1"},
      {R"("mysql_host":"h:3306")", "mysql_host", "without port"},
      {R"("host":"https://aws.connect.psdb.cloud")", "host", "without scheme"},
      {R"("host":"aws.connect.psdb.cloud:443")", "host", "`port`"},
      {R"("host":"a b")", "host", "one host name"},
      {R"("host":5)", "host", "but is a number"},
      {R"("host":[])", "host", "but is an array"},
      {R"("host":" ")", "host", "but is empty"},
      {R"("database":"")", "database", "but is empty"},
      {R"("database":" , ")", "database", "but is empty"},
      {R"("database":{})", "database", "but is an object"},
      {R"("database":"a/b")", "database", "but is \"a/b\""},
      {R"("username":7)", "username", "but is a number"},
      {R"("username":"")", "username", "but is empty"},
      {R"("password":"")", "password", "but is empty"},
      {R"("password":[1])", "password", "but is an array"},
      {R"("use_replica":"yes")", "use_replica", "true or false, but is \"yes\""},
      {R"("use_rdonly":1)", "use_rdonly", "but is a number"},
      {R"("include_metadata":{})", "include_metadata", "but is an object"},
      {R"("capture_deletes":"false")", "capture_deletes", "true or false"},
      {R"("use_gtid_with_table_pks":0)", "use_gtid_with_table_pks", "true or false"},
      {R"("shards":5)", "shards", "a string, but is a number"},
      {R"("shards":[5])", "shards", "a list with a number"},
      {R"("shards":"a/b/c")", "shards", "\"a/b/c\""},
      {R"("shards":"/-80")", "shards", "\"/-80\""},
      {R"("shards":"customer/")", "shards", "\"customer/\""},
      {R"("shards":"other/-80")", "shards", "keyspaces in `database` (customer)"},
      {R"("max_retries":-1)", "max_retries", "from 0"},
      {R"("timeout_seconds":0)", "timeout_seconds", "from 1"},
      {R"("timeout_seconds":9223372036854775807)", "timeout_seconds", "from 1"},
      {R"("checkpoint_interval_seconds":0)", "checkpoint_interval_seconds", "from 1"},
      {R"("max_streams":0)", "max_streams", "from 1"},
      {R"("max_copies_per_shard":0)", "max_copies_per_shard", "from 1"},
      {R"("cells":5)", "cells", "a string"},
      {R"("options":"Public Web")", "options", "an object, but is a string"},
      {R"("options":{"time_as_string":"no"})", "options.time_as_string", "but is \"no\""},
      {R"("options":{"do_not_treat_tiny_int_as_boolean":3})", "options.do_not_treat_tiny_int_as_boolean",
       "a number"},
      {R"("invalid_cdc_cursor_position_behavior":"resync")", "invalid_cdc_cursor_position_behavior",
       "\"Fail sync\" or \"Re-sync data\", but is \"resync\""},
      {R"("tls":true)", "tls", "an object"},
      {R"("tls":{"mode":"off"})", "tls.mode", "\"verify\" or \"disabled\", but is \"off\""},
      {R"("tls":{"mode":5})", "tls.mode", "a string"},
      {R"("tls":{"mode":"disabled"})", "tls.mode", "for a PlanetScale host"},
      {R"("tls":{"ca_certificate":"/etc/ca.pem"})", "tls.ca_certificate", "PEM text"},
      {R"("tls":{"client_certificate":"-----BEGIN CERTIFICATE-----\nAA\n-----END CERTIFICATE-----"})",
       "tls.client_key", "pair"},
      {R"("tls":{"client_key":"-----BEGIN PRIVATE KEY-----\nAA\n-----END PRIVATE KEY-----"})",
       "tls.client_certificate", "pair"},
      {R"("tls":{"server_name":[]})", "tls.server_name", "a string"},
  };
  for (const auto& row : rows) {
    CAPTURE(row.more);
    // The later of two equal keys counts.
    const auto found = problems(with(row.more));
    REQUIRE(found.size() == 1);
    CHECK(contains(found[0], "`" + row.key + "` must be "));
    CHECK_MESSAGE(contains(found[0], row.part), found[0]);
  }
}

TEST_CASE("numbers may be what the specification says, to both ends") {
  unsigned numbers = 0;
  for (const auto& key : config_keys()) {
    if (key.type != "integer") continue;
    ++numbers;
    const auto fits = [&](std::int64_t value) {
      return parse_config(with("\"" + key.path + "\":" + std::to_string(value))).has_value();
    };
    CAPTURE(key.path);
    CHECK(fits(std::stoll(key.minimum)));
    CHECK(fits(std::stoll(key.maximum)));
    CHECK_FALSE(fits(std::stoll(key.minimum) - 1));
    CHECK_FALSE(fits(std::stoll(key.maximum) + 1));
  }
  CHECK(numbers >= 7);
}

TEST_CASE("all problems are told at once") {
  const auto found = problems(
      R"({"port":"x","use_replica":"y","options":{"time_as_string":1},"max_streams":0,"tls":{"mode":"z"}})");
  std::string all;
  for (const auto& message : found) all += message;
  CHECK(found.size() == 7);
  for (const char* key : {"`host`", "`database`", "`port`", "`use_replica`", "`options.time_as_string`",
                          "`max_streams`", "`tls.mode`"})
    CHECK(contains(all, key));
  const auto parsed = parse_config("{}");
  REQUIRE_FALSE(parsed.has_value());
  const auto summary = summarize(parsed.error());
  CHECK(summary.code == error_code::config_invalid);
  CHECK(summary.message ==
        "Configuration: `host` must be a host name, but is missing. Configuration: `database` must be a "
        "keyspace "
        "name or several, separated by commas, but is missing.");
}

TEST_CASE("an IPv6 address may stand in brackets") {
  CHECK(loaded(R"({"host":"[::1]","database":"ks","username":"","password":""})").host == "::1");
  CHECK(loaded(R"({"host":"h","mysql_host":" [fe80::1] ","database":"ks","username":"","password":""})").mysql_host == "fe80::1");
}

TEST_CASE("problems never show a secret") {
  const std::string secret = "s3cr3t-value";
  const std::vector<std::string> texts = {
      with(R"("host":"u:s3cr3t-value@h")"),
      with(R"("host":"mysql://u:s3cr3t-value@h/db")"),
      with(R"("password":["s3cr3t-value"])"),
      with(R"("password":"s3cr3t-value\u0007")"),
      with(R"("tls":{"client_key":"s3cr3t-value"})"),
      with(R"("tls":{"client_key":["s3cr3t-value"]})"),
      R"({"password":"s3cr3t-value","host":"h","database":"d"})",
      R"({"password":"s3cr3t-value" "host":"h"})",
      R"({"password":"s3cr3t-value)",
  };
  for (const auto& text : texts) {
    CAPTURE(text);
    const auto all = all_problems(text);
    CHECK_FALSE(all.empty());
    CHECK_FALSE(contains(all, secret));
  }
}

TEST_CASE("authentication and cells follow the host") {
  const auto edge = loaded(with(""));
  CHECK(to_connection(edge).auth == grpc_auth::basic_header);
  CHECK(to_connection(edge).password == "pscale_pw_x");

  const auto vtgate =
      loaded(R"({"host":"127.0.0.1","port":15991,"mysql_port":15306,"mysql_host":" db ","database":"ks",
      "username":"vt","password":"pw","tls":{"mode":"disabled"},"cells":" zone1 ,zone2,"})");
  const auto settings = to_connection(vtgate);
  CHECK(settings.auth == grpc_auth::username_password);
  CHECK(settings.host == "127.0.0.1");
  CHECK(settings.port == 15991);
  CHECK(settings.mysql_host == "db");
  CHECK(settings.mysql_port == 15306);
  CHECK(settings.username == "vt");
  CHECK_FALSE(settings.tls.enabled);
  CHECK(vtgate.cells == "zone1,zone2");

  const auto open = loaded(R"({"host":"::1","database":"ks","username":"","password":""})");
  CHECK(to_connection(open).auth == grpc_auth::none);
  CHECK(open.cells.empty());
  CHECK(open.tls.enabled);
  CHECK(loaded(R"({"host":"h","database":"ks"})").username.empty());
  for (const char* empty : {R"("cells":"")", R"("cells":" , ")"})
    CHECK(loaded(with(empty)).cells == "planetscale_operator_default");

  CHECK(contains(all_problems(R"({"host":"h","database":"ks","password":"x"})"), "`username` must be"));
  CHECK(contains(all_problems(R"({"host":"h","database":"ks","username":"ü"})"), "printable ASCII"));
  CHECK(all_problems(with(R"("password":"pässword")")).empty());
  CHECK(contains(all_problems(with(R"("username":"a:b")")), "without a colon"));

  for (const char* host : {"aws.connect.psdb.cloud", "X.PSDB.CLOUD", "a.psdb.cloud."})
    CHECK(is_planetscale_host(host));
  for (const char* host : {"psdb.cloud", ".psdb.cloud", "apsdb.cloud", "a.psdb.cloud.example", "", "."})
    CHECK_FALSE(is_planetscale_host(host));
}

TEST_CASE("PEM texts survive forms that lose their line breaks") {
  const std::string want = "-----BEGIN CERTIFICATE-----\nAAAA\nBBBB\n-----END CERTIFICATE-----\n";
  const std::vector<std::string> texts = {
      R"(-----BEGIN CERTIFICATE-----\nAAAA\nBBBB\n-----END CERTIFICATE-----\n)",
      R"(-----BEGIN CERTIFICATE-----\r\nAAAA\r\nBBBB\r\n-----END CERTIFICATE-----\r\n)",
      R"(-----BEGIN CERTIFICATE----- AAAA BBBB -----END CERTIFICATE-----)",
      R"(  -----BEGIN CERTIFICATE-----\\nAAAA\\nBBBB\\n-----END CERTIFICATE-----\\n)",
  };
  for (const auto& text : texts) {
    CAPTURE(text);
    CHECK(loaded(with(R"("tls":{"mode":"verify","ca_certificate":")" + text + "\"}")).tls.ca_certificate ==
          want);
  }
  const auto pair =
      loaded(with(R"("tls":{"client_certificate":"-----BEGIN CERTIFICATE-----\nAA\n-----END CERTIFICATE-----",
      "client_key":"-----BEGIN EC PRIVATE KEY-----\nBB\n-----END EC PRIVATE KEY-----","server_name":" x "})"));
  CHECK(pair.tls.server_name == "x");
  CHECK(contains(pair.tls.client_key, "EC PRIVATE KEY"));
}

TEST_CASE("secrets are listed for the redactor") {
  const auto secrets = secrets_of(loaded(with("")));
  const auto listed = [&secrets](const char* text) {
    return std::find(secrets.begin(), secrets.end(), text) != secrets.end();
  };
  CHECK(listed("pscale_pw_x"));
  CHECK(listed("dTE6cHNjYWxlX3B3X3g="));
  CHECK(listed("dTE6cHNjYWxlX3B3X3g"));
  const auto odd = secrets_of(loaded(R"({"host":"h","database":"ks","username":"u","password":"a\"b\\c"})"));
  CHECK(std::find(odd.begin(), odd.end(), R"(a"b\c)") != odd.end());
  CHECK(std::find(odd.begin(), odd.end(), R"(a\"b\\c)") != odd.end());
  CHECK(secrets_of(loaded(R"({"host":"h","database":"ks"})")).empty());
  const auto swapped = secrets_of(loaded(R"({"host":"h","database":"ks","username":"pscale_pw_y","password":"u"})"));
  CHECK(std::find(swapped.begin(), swapped.end(), "pscale_pw_y") != swapped.end());
}

TEST_CASE("texts that are no configuration end in one sentence with line and column") {
  CHECK(contains(all_problems("{\n  \"host\": \"h\",\n  \"port\" 443\n}"), "(line 3, column 10)"));
  CHECK(contains(all_problems(""), "is empty"));
  CHECK(contains(all_problems(" \n "), "is empty"));
  CHECK(contains(all_problems("[]"), "must be a JSON object, but is an array"));
  CHECK(contains(all_problems("null"), "but is null"));
  CHECK(contains(all_problems(with("") + with("")), "goes on behind"));
  CHECK(contains(all_problems("{\"host\":\"\xff\"}"), "Invalid encoding"));
  CHECK(contains(all_problems(R"({"host":"\ud83d"})"), "surrogate pair"));
  CHECK(contains(all_problems(R"({"host":"\ude00"})"), "half a surrogate pair (line 1, column 10)"));
  CHECK(contains(all_problems(R"({"host":"\\\uDC00\\"})"), "half a surrogate pair (line 1, column 12)"));
  CHECK(loaded(with(R"("note":"\ud83d\ude00\\ude00\ud7ff\uD83D\uDE00")")).port == 443);
  CHECK(contains(all_problems(std::string("{\"host\":\"a\0b\"}", 14)), "line 1"));
  CHECK(contains(all_problems(R"({"port":1e999})"), "line 1"));
  CHECK(
      contains(all_problems(std::string(400000, '[')), "nests deeper than 100 levels (line 1, column 101)"));
  std::string deep = "{\"x\":";
  for (int i = 0; i < 400000; ++i) deep += "{\"a\":[";
  CHECK(contains(all_problems(deep), "nests deeper"));
  // Brackets inside of strings are no nesting.
  CHECK(loaded(with(R"("note":"\")" + std::string(1000, '[') + "\"")).port == 443);
  const auto whole = with(R"("shards":"-80","tls":{"mode":"verify"},"starting_gtids":{"customer":{"-":""}})");
  for (std::size_t size = 0; size < whole.size(); ++size) {
    CAPTURE(size);
    CHECK(problems(whole.substr(0, size)).size() == 1);
  }
}

TEST_CASE("wrong kinds of values everywhere never crash and always name the key") {
  const std::vector<std::string> keys = {"host",
                                         "database",
                                         "username",
                                         "password",
                                         "port",
                                         "mysql_host",
                                         "mysql_port",
                                         "tls",
                                         "shards",
                                         "use_replica",
                                         "use_rdonly",
                                         "include_metadata",
                                         "starting_gtids",
                                         "max_retries",
                                         "timeout_seconds",
                                         "use_gtid_with_table_pks",
                                         "cells",
                                         "max_streams",
                                         "max_copies_per_shard",
                                         "checkpoint_interval_seconds",
                                         "capture_deletes",
                                         "invalid_cdc_cursor_position_behavior",
                                         "options"};
  const std::vector<std::string> values = {"\"\\u0000\"", "-1.5", "18446744073709551616", "true", "[[]]",
                                           "{\"\":{}}",   "\"x\""};
  for (const auto& key : keys) {
    for (const auto& value : values) {
      const auto text = with("\"" + key + "\":" + value);
      CAPTURE(text);
      for (const auto& message : problems(text)) {
        // A password or keyspace that is no longer there may make another key's rule fail as well.
        CHECK(contains(message, "Configuration: `"));
      }
    }
    CHECK(contains(all_problems(with("\"" + key + "\":-1.5")), "`" + key + "`"));
  }
}
