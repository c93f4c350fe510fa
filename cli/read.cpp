// The read command: plans what is to be read, runs the engine, and ends as Airbyte expects.
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <thread>

#include "actors/engine.hpp"
#include "cli/branch.hpp"
#include "cli/command.hpp"
#include "cli/grpc_log.hpp"
#include "cli/signals.hpp"
#include "clients/discovery.hpp"
#include "clients/processors.hpp"
#include "clients/question_worker.hpp"
#include "clients/server_clock.hpp"
#include "clients/stdout_writer.hpp"
#include "clients/tls_probe.hpp"
#include "protocol/airbyte/state_input.hpp"
#include "sync/branch_questions.hpp"
#include "sync/classify.hpp"

namespace psource::cli {

namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr seconds tls_wait{5};

// Streams wait for these answers, and so does the end of the run.
mysql_limits question_limits() {
  mysql_limits limits;
  limits.connect = limits.read = limits.write = seconds(10);
  limits.answer = seconds(60);
  return limits;
}

struct inputs {
  source_config config;
  std::vector<configured_stream> streams;
  saved_state state;
};

result<inputs> load_inputs(const command_options& options, source_config config) {
  inputs in;
  in.config = std::move(config);
  auto catalog = read_input_file("--catalog", options.catalog_file);
  if (!catalog) return fail(std::move(catalog.error()));
  auto streams = parse_configured_catalog(*catalog, in.config.keyspaces);
  if (!streams) return fail(std::move(streams.error()));
  in.streams = std::move(*streams);
  std::string text;
  if (options.state_file && !options.state_file->empty()) {
    auto state = read_input_file("--state", *options.state_file);
    if (!state) return fail(std::move(state.error()));
    text = std::move(*state);
  }
  std::vector<stream_id> ids;
  for (const auto& stream : in.streams) ids.push_back(stream.id);
  auto state = parse_state(text, ids);
  if (!state) return fail(std::move(state.error()));
  in.state = std::move(*state);
  return in;
}

struct prepared {
  plan_input input;
  std::shared_ptr<grpc_vstream_client> client;
  std::shared_ptr<const sync_clock> clock;
};

// gRPC tells all faults of TLS alike, some of them as a connection that breaks. A handshake of our own names
// them.
failure with_tls_fault_named(failure why, const connection_settings& connection) {
  if (why.code != error_code::tls_failed && why.code != error_code::host_unreachable &&
      why.code != error_code::stream_broken)
    return why;
  auto probe = probe_tls(connection.host, connection.port, connection.tls, tls_wait);
  if (probe) return why;
  // What gRPC says of a broken stream is more than that there is no connection now.
  const bool names_it = probe.error().code == error_code::tls_failed ||
                        (probe.error().code == error_code::host_unreachable && why.code != error_code::stream_broken);
  return names_it ? std::move(probe.error()) : why;
}

// Everything that is asked before the first stream: blocking, and before the actor system exists. Another attempt after one that
// failed asks for everything again (the shards may be others by then), but keeps the client.
result<void> ask_branch(prepared& ready, const connection_settings& connection, unsigned attempt,
                        const command_options& options, const redactor& hide) {
  plan_input& input = ready.input;
  auto session = mysql_session::connect(connection);
  if (!session) return fail(std::move(session.error()));
  // Before the peek, which may take a minute and more.
  input.listed_at = std::chrono::steady_clock::now();
  auto serving = serving_shards(**session);
  if (!serving) return fail(std::move(serving.error()));
  input.serving = std::move(*serving);
  auto shards = select_shards(input.config, input.serving);
  if (!shards) return fail(std::move(shards.error()));
  auto tables = all_tables(**session, input.config, input.serving);
  if (!tables) return fail(std::move(tables.error()));
  input.tables = std::move(*tables);

  // Only keyspaces with a configured stream need a peek.
  std::size_t calls = 0;
  for (auto& [keyspace, names] : *shards) {
    const auto wanted =
        std::count_if(input.streams.begin(), input.streams.end(),
                      [&k = keyspace](const auto& stream) { return stream.id.keyspace == k; });
    if (wanted == 0) names.clear();
    calls += names.size() * static_cast<std::size_t>(wanted);
  }
  if (!ready.client) {
    const std::size_t streams = std::max<std::size_t>(1, std::min(calls, input.config.max_streams));
    // A MySQL port elsewhere says nothing about the line to the VStream port.
    const auto line = connection.mysql_host == connection.host ? round_trip(**session) : std::nullopt;
    auto client = grpc_vstream_client::make(connection, plan_channels(static_cast<unsigned>(streams), line));
    if (!client) return fail(std::move(client.error()));
    ready.client = std::move(*client);
  }

  std::size_t shard_count = 0;
  for (const auto& [keyspace, names] : *shards) shard_count += names.size();
  say(log_level::info,
      "Reading " + std::to_string(input.streams.size()) + " tables from " + std::to_string(shard_count) +
          " shards; asking where each shard stands.",
      options, hide);
  const bool last = attempt > input.config.max_retries;
  auto stops = peek_all(*ready.client, input.config, *shards, names_of(input.tables),
                        attempt == 1 && !last ? first_peek : longest_peek);
  if (!stops) return fail(last ? with_tls_fault_named(std::move(stops.error()), connection) : std::move(stops.error()));
  input.stops = std::move(*stops);
  // After the peek: what is copied from here on is not older than the stop positions.
  auto now = server_clock_micros(**session);
  if (!now) {
    // The session was idle meanwhile, for longer than some proxies allow.
    session = mysql_session::connect(connection);
    if (!session) return fail(std::move(session.error()));
    now = server_clock_micros(**session);
  }
  if (!now) return fail(std::move(now.error()));
  input.peek_seconds = *now / 1'000'000;
  ready.clock = std::make_shared<server_clock>(*now);
  for (const auto& shard : shards_to_ask(input)) {
    // Who cannot answer proves nothing.
    if (auto told = ask_server_positions(**session, shard, tablet_type::primary)) input.primaries[shard] = std::move(*told);
  }
  return {};
}

// A failover, a restart of vtgate or the moment in which a reshard switches traffic shall not end a read that has only begun.
result<prepared> prepare(inputs in, const command_options& options, const redactor& hide) {
  prepared ready;
  ready.input.config = std::move(in.config);
  ready.input.streams = std::move(in.streams);
  ready.input.state = std::move(in.state);
  const unsigned retries = ready.input.config.max_retries;
  const connection_settings connection = to_connection(ready.input.config);
  for (unsigned attempt = 1;; ++attempt) {
    auto asked = ask_branch(ready, connection, attempt, options, hide);
    if (asked) return ready;
    if (!may_pass(asked.error()) || attempt > retries) {
      failure why = std::move(asked.error());
      if (attempt > 1) why.message += " Given up after " + std::to_string(attempt) + " attempts.";
      return fail(std::move(why));
    }
    const auto delay = retry_delay(attempt, 0.5);
    say(log_level::warn, retry_warning(asked.error(), delay, attempt, retries), options, hide);
    std::this_thread::sleep_for(delay);
  }
}

engine_options options_of(const source_config& config, const command_options& options, const redactor& hide) {
  engine_options engine;
  engine.max_retries = config.max_retries;
  engine.timeout = config.timeout;
  engine.max_streams = config.max_streams;
  engine.max_copies_per_shard = config.max_copies_per_shard;
  engine.on_lost_position = config.on_lost_position;
  engine.checkpoints.with_records = config.checkpoint_interval;
  engine.level = options.level;
  engine.hide = hide;
  // See "Actors" in docs/design.md.
  engine.workers = std::max(usable_processors(), 2U);
  switch (options.progress) {
    case progress_choice::automatic:
      engine.progress = isatty(STDERR_FILENO) != 0 ? progress_mode::terminal : progress_mode::log_messages;
      break;
    case progress_choice::always:
      engine.progress = progress_mode::terminal;
      break;
    case progress_choice::never:
      engine.progress = progress_mode::none;
      break;
  }
  return engine;
}

}  // namespace

int run_read(const command_options& options) {
  auto config = load_config(options);
  if (!config) return report(config.error(), {});
  const redactor hide(secrets_of(*config));
  for (const auto& warning : config->warnings) say(log_level::warn, warning, options, hide);
  signal_watch signals;
  auto in = load_inputs(options, std::move(*config));
  if (!in) return report(in.error(), hide);
  if (options.state_file && options.state_file->empty())
    say(log_level::warn, "The option --state names no file: everything is read as if there were no state.", options, hide);
  for (const auto& warning : in->state.warnings) say(log_level::warn, warning, options, hide);
  grpc_log transport(options, hide);
  auto ready = prepare(std::move(*in), options, hide);
  transport.say_all();
  if (!ready) return report(ready.error(), hide);
  auto plan = make_plan(ready->input);
  if (!plan) return report(plan.error(), hide);
  // What the plan took over is not kept twice: states of many shards are large.
  ready->input.state = {};
  ready->input.stops.clear();
  ready->input.primaries.clear();
  const auto input = std::make_shared<const plan_input>(std::move(ready->input));

  engine_result ended;
  {
    engine run(options_of(input->config, options, hide));
    transport.send_to(run.logger());
    auto writer = std::make_shared<stdout_writer>(open_output_file(STDOUT_FILENO), run.listener());
    signals.on_signal([&run](int signal) { run.stop(signal); });
    const auto peek = [input, client = ready->client](const std::vector<shard_id>& wanted, milliseconds limit,
                                                      const std::function<bool()>& given_up) {
      shards_by_keyspace shards;
      for (const auto& id : wanted) shards[id.keyspace].push_back(id.shard);
      return peek_all(*client, input->config, shards, names_of(input->tables), limit, given_up);
    };
    auto questions = std::make_shared<question_worker>(to_connection(input->config), question_limits(), peek);
    ended = run.run(std::move(*plan), input, ready->client, questions, writer, ready->clock);
    signals.on_signal([](int) {});
    // The engine has seen everything written, or that nothing can be.
    (void)writer->close(milliseconds(ended.output_problem ? 0 : 1000));
  }
  ready->client->wait_until_idle(seconds(5));
  if (ended.signal != 0) die_by(ended.signal);
  if (ended.output_problem && ended.output_problem->code == error_code::internal)
    return report(*ended.output_problem, hide);
  if (ended.output_problem) tell_unwritten(*ended.output_problem);
  return ended.complete ? exit_done : exit_failed;
}

}  // namespace psource::cli
