// The check command: tries both ports with the configuration and says in one sentence what is wrong.
#include <algorithm>
#include <chrono>
#include <set>

#include "cli/branch.hpp"
#include "cli/command.hpp"
#include "cli/grpc_log.hpp"
#include "clients/discovery.hpp"
#include "clients/tls_probe.hpp"
#include "sync/planner.hpp"

namespace psource::cli {

namespace {

using std::chrono::seconds;

// A server that accepts and never answers has to end `check` within 30 s in all.
constexpr seconds mysql_wait{8};
constexpr seconds tls_wait{5};
constexpr seconds silence_wait{12};
// Peeks of 44 s were seen at users'.
constexpr seconds peek_wait{60};

// vtgate looks 90 s for a tablet before it says so; the MySQL port knows at once.
result<void> check_tablets(mysql_port& session, const source_config& config, const shards_by_keyspace& shards) {
  auto tablets = list_tablets(session);
  if (!tablets || tablets->empty()) return {};  // Not every edge answers this question.
  const std::string wanted = config.tablets == tablet_type::primary   ? "PRIMARY"
                             : config.tablets == tablet_type::replica ? "REPLICA"
                                                                      : "RDONLY";
  std::set<shard_id> served;
  std::set<keyspace_name> known;
  for (const auto& tablet : *tablets) {
    known.insert(tablet.keyspace);
    if (tablet.type == wanted && tablet.state == "SERVING") served.insert({tablet.keyspace, tablet.shard});
  }
  for (const auto& [keyspace, names] : shards)
    for (const auto& shard : names)
      if (known.count(keyspace) > 0 && served.count({keyspace, shard}) == 0)
        return fail(error_code::tablet_type_missing, "The shard " + keyspace.str() + "/" + shard.str() + " has no serving " +
                                                         wanted + " tablet. Change `use_replica` or `use_rdonly`.");
  return {};
}

result<void> check_branch(const source_config& config, const command_options& options, const redactor& hide) {
  const connection_settings connection = to_connection(config);
  mysql_limits limits;
  limits.connect = mysql_wait;
  limits.read = mysql_wait;
  limits.write = mysql_wait;
  limits.answer = mysql_wait;
  auto session = mysql_session::connect(connection, limits);
  if (!session) return fail(std::move(session.error()));
  auto serving = serving_shards(**session);
  if (!serving) return fail(std::move(serving.error()));
  auto shards = select_shards(config, *serving);
  if (!shards) return fail(std::move(shards.error()));
  auto tablets = check_tablets(**session, config, *shards);
  if (!tablets) return tablets;
  auto tables = all_tables(**session, config, *serving);
  if (!tables) return fail(std::move(tables.error()));
  if (const auto warning = shared_name_warning(*tables)) say(log_level::warn, *warning, options, hide);

  auto probe = probe_tls(connection.host, connection.port, connection.tls, tls_wait);
  if (!probe) return fail(std::move(probe.error()));
  std::size_t count = 0;
  for (const auto& [keyspace, names] : *shards) count += names.size();
  auto client = grpc_vstream_client::make(connection, plan_channels(static_cast<unsigned>(count / 64 + 1)));
  if (!client) return fail(std::move(client.error()));
  const auto began = std::chrono::steady_clock::now();
  auto positions = peek_all(**client, config, *shards, names_of(*tables), peek_wait, {}, silence_wait);
  const auto waited = std::chrono::duration_cast<seconds>(std::chrono::steady_clock::now() - began);
  (*client)->wait_until_idle(seconds(2));
  if (!positions) {
    failure why = std::move(positions.error());
    if (why.code == error_code::stream_stalled)
      why.message = "The server at " + connection.host + ":" + std::to_string(connection.port) +
                    " did not tell the shards' positions within " + std::to_string(waited.count()) +
                    " s. Check `host`, `port` (vtgate's gRPC port), `cells`, and that the tablets are healthy.";
    return fail(std::move(why));
  }
  return {};
}

}  // namespace

int run_check(const command_options& options) {
  auto config = load_config(options);
  if (!config) {
    if (config.error().code != error_code::config_invalid) return report(config.error(), {});
    return write_lines(connection_status_line(false, config.error().message, {})) ? exit_done : exit_failed;
  }
  const redactor hide(secrets_of(*config));
  for (const auto& warning : config->warnings) say(log_level::warn, warning, options, hide);
  grpc_log transport(options, hide);
  auto checked = check_branch(*config, options, hide);
  transport.say_all();
  const std::string message = checked ? std::string() : checked.error().message;
  return write_lines(connection_status_line(checked.has_value(), message, hide)) ? exit_done : exit_failed;
}

}  // namespace psource::cli
