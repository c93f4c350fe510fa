// The discover command: lists the tables of the configured keyspaces as Airbyte streams.
#include "cli/branch.hpp"
#include "cli/command.hpp"
#include "protocol/airbyte/catalog.hpp"
#include "protocol/mapping/type_table.hpp"
#include "sync/planner.hpp"

namespace psource::cli {

namespace {
// The platform keeps a connection's catalog in one message and one row; beyond this it becomes unwieldy.
constexpr std::size_t large_catalog = 8'000'000;
}  // namespace

int run_discover(const command_options& options) {
  auto config = load_config(options);
  if (!config) return report(config.error(), {});
  const redactor hide(secrets_of(*config));
  for (const auto& warning : config->warnings) say(log_level::warn, warning, options, hide);

  auto session = mysql_session::connect(to_connection(*config));
  if (!session) return report(session.error(), hide);
  auto serving = serving_shards(**session);
  if (!serving) return report(serving.error(), hide);
  auto selected = select_shards(*config, *serving);
  if (!selected) return report(selected.error(), hide);
  auto tables = all_tables(**session, *config, *serving);
  if (!tables) return report(tables.error(), hide);
  if (const auto warning = shared_name_warning(*tables)) say(log_level::warn, *warning, options, hide);

  schema_options schema;
  schema.types.tiny_int_as_boolean = !config->do_not_treat_tiny_int_as_boolean;
  schema.types.time_as_string = config->time_as_string;
  schema.include_metadata = config->include_metadata;
  schema.capture_deletes = config->capture_deletes;
  std::vector<discovered_stream> streams;
  for (const auto& [id, table] : *tables) {
    discovered_stream stream;
    stream.id = id;
    stream.json_schema = json_schema(table, schema);
    stream.primary_key = table.identity;
    stream.cursor_field = cdc_cursor;
    stream.is_resumable = copy_is_resumable(table);
    streams.push_back(std::move(stream));
  }
  const std::string line = catalog_line(streams);
  if (line.size() > large_catalog)
    say(log_level::warn,
        "The catalog has " + std::to_string(line.size() / 1'000'000) +
            " MB; platforms have trouble above 8 MB. Configure fewer keyspaces per source.",
        options, hide);
  return write_lines(line) ? exit_done : exit_failed;
}

}  // namespace psource::cli
