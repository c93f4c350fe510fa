// The configuration. Input: the text of a configuration file.
#include "protocol/airbyte/config.hpp"

#include "fuzz/fuzz.hpp"
#include "protocol/airbyte/messages.hpp"
#include "protocol/vitess/gtid_set.hpp"

using namespace psource;

namespace {

// A password that no other part of a text has by chance.
constexpr std::string_view secret = "s3cr3t-0f-the-fuzzer";

bool shows_secret(const std::string& text) { return text.find(secret) != std::string::npos; }

// The secret is the password's value and stands nowhere else.
bool password_is_secret(std::string_view text) {
  if (text.find(secret) == std::string_view::npos || text.find(secret) != text.rfind(secret)) return false;
  rapidjson::Document document;
  if (!fuzz::parse(document, text) || !document.IsObject()) return false;
  const auto found = document.FindMember("password");
  return found != document.MemberEnd() && found->value.IsString() && found->value.GetString() == secret;
}

}  // namespace

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text = fuzz::input(data, size).rest();
  const auto config = parse_config(text);
  const bool hides = password_is_secret(text);
  if (!config) {
    FUZZ_CHECK(!config.error().empty());
    for (const auto& problem : config.error()) {
      FUZZ_CHECK(problem.code == error_code::config_invalid && problem.message.size() > 1);
      if (hides) FUZZ_CHECK(!shows_secret(problem.message) && !shows_secret(problem.detail));
    }
    const auto summary = summarize(config.error());
    FUZZ_CHECK(fuzz::is_message(trace_error_line(summary, epoch_milliseconds(1), {})));
    FUZZ_CHECK(fuzz::is_message(connection_status_line(false, summary.message, {})));
    return 0;
  }
  FUZZ_CHECK(!config->keyspaces.empty() && !config->host.empty() && !config->mysql_host.empty());
  FUZZ_CHECK(config->port != 0 && config->mysql_port != 0);
  FUZZ_CHECK(config->max_streams > 0 && config->max_copies_per_shard > 0);
  FUZZ_CHECK(config->timeout.count() > 0 && config->checkpoint_interval.count() > 0);
  for (const auto& [shard, position] : config->starting_gtids) {
    const auto set = gtid_set::parse_position(position);
    FUZZ_CHECK(set && !set->empty() && set->to_position() == position);
    config->selects(shard);
  }
  FUZZ_CHECK(to_connection(*config).host == config->host);
  const redactor hide(secrets_of(*config));
  for (const auto& warning : config->warnings)
    FUZZ_CHECK(fuzz::is_message(log_line(log_level::warn, warning, hide)));
  FUZZ_CHECK(config->password.size() < 3 ||
             hide("x " + config->password + " y").find(config->password) == std::string::npos ||
             config->password.find('*') != std::string::npos);
  if (hides) FUZZ_CHECK(!shows_secret(log_line(log_level::info, text, hide)));
  return 0;
}
