// Implementation of engine_run.hpp.
#include "tests/simulation/engine_run.hpp"

#include <algorithm>
#include <caf/actor_ostream.hpp>
#include <caf/actor_system.hpp>
#include <caf/actor_system_config.hpp>
#include <caf/scheduler/test_coordinator.hpp>
#include <caf/send.hpp>
#include <chrono>

namespace psource::simulation {

namespace {

constexpr std::uint64_t most_steps = 400'000;
constexpr std::int64_t second_us = 1'000'000;
// Twelve streams in turn that each wait five minutes five times, for positions that never come, take five hours.
constexpr std::int64_t longest_run_us = 8 * 3600 * second_us;
constexpr std::int64_t heartbeat_us = 5 * second_us;
constexpr std::int64_t tablet_search_us = 90 * second_us;

class simulated_clock final : public sync_clock {
 public:
  explicit simulated_clock(const simulated_time& time) : time_(time) {}
  std::int64_t wall_milliseconds() const override { return time_.now_us / 1000; }
  std::int64_t server_microseconds() const override { return time_.now_us; }

 private:
  const simulated_time& time_;
};

class output_bridge final : public output_listener {
 public:
  emitter_actor target;
  void on_written(std::uint64_t ticket) override { caf::anon_send(target, written_atom::value, ticket); }
  void on_failed(failure what) override {
    caf::anon_send(target, broken_atom::value, std::make_shared<const failure>(std::move(what)));
  }
};

caf::actor_system_config& testing_policy(caf::actor_system_config& config) {
  config.set("scheduler.policy", caf::atom("testing"));
  return config;
}

}  // namespace

void scripted_questions::ask_positions(const shard_id& shard, tablet_type,
                                       std::function<void(result<server_positions>)> answer) {
  ++asked;
  pending_.push_back([this, name = shard.shard.str(), answer = std::move(answer)](bool fails) {
    const auto* shard = branch_.find(name);
    if (fails || shard == nullptr) {
      answer(fail(error_code::query_failed, "The question was not answered."));
      return;
    }
    server_positions positions;
    positions.executed = *gtid_set::parse_position(shard->position_text(shard->log.size()));
    if (shard->purged != 0) positions.purged = *gtid_set::parse_position(shard->position_text(shard->purged));
    answer(std::move(positions));
  });
}

void scripted_questions::ask_serving(std::function<void(result<std::vector<shard_id>>)> answer) {
  ++asked;
  pending_.push_back([this, answer = std::move(answer)](bool fails) {
    if (fails) {
      answer(fail(error_code::query_failed, "The question was not answered."));
      return;
    }
    std::vector<shard_id> serving;
    for (const auto* shard : branch_.serving())
      serving.push_back({keyspace_name(keyspace), shard_name(shard->name)});
    answer(std::move(serving));
  });
}

void scripted_questions::ask_stops(std::vector<shard_id> shards, std::chrono::milliseconds /*limit*/,
                                   std::function<void(result<std::map<shard_id, gtid_set>>)> answer) {
  ++asked;
  pending_.push_back([this, shards = std::move(shards), answer = std::move(answer)](bool fails) {
    std::map<shard_id, gtid_set> stops;
    for (const auto& id : shards) {
      const auto* shard = branch_.find(id.shard.str());
      // A peek at a shard that does not serve any more fails as a whole.
      if (shard == nullptr || !shard->serving) fails = true;
      if (fails) continue;
      stops[id] = *gtid_set::parse_position(shard->position_text(shard->visible));
      if (on_settled) on_settled(shard->name, stops[id].to_position());
    }
    if (fails)
      answer(fail(error_code::query_failed, "The question was not answered."));
    else
      answer(std::move(stops));
  });
}

void scripted_questions::ask_rows(row_lookup, std::function<void(result<looked_up_rows>)> answer) {
  ++asked;
  pending_.push_back([answer = std::move(answer)](bool) {
    answer(fail(error_code::query_failed, "The model's changes are always whole."));
  });
}

void scripted_questions::answer(bool fails) {
  const auto next = std::move(pending_.front());
  pending_.pop_front();
  next(fails);
}

struct engine_run::machine {
  caf::actor_system_config config;
  caf::actor_system system;
  caf::scheduler::test_coordinator& scheduler;
  std::size_t actors_before;
  std::shared_ptr<output_bridge> bridge = std::make_shared<output_bridge>();
  coordinator_actor boss;

  machine()
      : system(testing_policy(config)),
        scheduler(dynamic_cast<caf::scheduler::test_coordinator&>(system.scheduler())),
        actors_before(system.registry().running()) {
    caf::actor_ostream::redirect_all(system, "/dev/stderr");
    // What outlives its run is a finding of the simulation, not a reason to hang.
    system.await_actors_before_shutdown(false);
  }

  void run_one(chance_source& chance) {
    auto& jobs = scheduler.jobs;
    if (jobs.size() > 1)
      std::rotate(jobs.begin(), jobs.begin() + static_cast<std::ptrdiff_t>(chance.below(jobs.size())),
                  jobs.end());
    scheduler.run_once();
  }

  // Overtakes what the actor has in its mailbox: it does nothing any more.
  template <class Handle>
  static void kill_now(const Handle& who) {
    caf::anon_send<caf::message_priority::high>(caf::actor_cast<caf::actor>(who),
                                                caf::exit_msg{who.address(), caf::exit_reason::kill});
  }

  // SIGKILL: nothing is said any more.
  void kill() {
    using boss_type = caf::stateful_actor<coordinator_state, coordinator_actor::base>;
    auto* body = dynamic_cast<boss_type*>(caf::actor_cast<caf::abstract_actor*>(boss));
    for (const auto& [id, reader] : body->state.readers) kill_now(reader);
    kill_now(boss);
    // One that has not begun yet does so first, and then has an emitter.
    while (scheduler.has_job()) scheduler.run_once();
    if (bridge->target) kill_now(bridge->target);
    while (scheduler.has_job()) scheduler.run_once();
  }
};

engine_run::engine_run(branch_model& branch, simulated_time& time, settled_positions& settled,
                       chance_source& chance, run_settings settings)
    : branch_(branch), time_(time), settled_(settled), chance_(chance), settings_(std::move(settings)) {}

engine_run::~engine_run() = default;

run_report engine_run::run() {
  report_.started_us = time_.now_us;
  for (auto& shard : branch_.shards()) {
    shard->lagging = settings_.lagging && shard->serving;
    if (!shard->lagging) {
      shard->visible = shard->log.size();
    } else {
      const std::size_t behind = chance_.below(4);
      shard->visible = shard->log.size() > behind ? shard->log.size() - behind : 0;
    }
  }
  plan_input input;
  input.config = settings_.config;
  input.config.keyspaces = {keyspace_name(keyspace)};
  if (settings_.lagging) input.config.tablets = tablet_type::replica;
  input.streams = settings_.streams;
  std::vector<stream_id> ids;
  for (const auto& stream : input.streams) ids.push_back(stream.id);
  auto state = parse_state(settings_.state_text, ids);
  if (!state) {
    report_.plan_failure = state.error();
    return std::move(report_);
  }
  input.state = std::move(*state);
  for (const auto* shard : branch_.serving()) {
    const shard_id id{keyspace_name(keyspace), shard_name(shard->name)};
    input.serving[id.keyspace].push_back(id.shard);
    report_.serving.push_back(shard->name);
    journals_[shard->name] = shard->journals.size();
    if (!input.config.selects(id)) continue;
    const std::size_t seen = shard->visible + chance_.below(shard->log.size() - shard->visible + 1);
    input.stops[id] = *gtid_set::parse_position(shard->position_text(seen));
    settled_.emplace(shard->name, input.stops[id].to_position());
    const auto see_too_much = [&](const char* gtids, const char* what) {
      if (!chance_.percent(60)) return;
      input.stops[id] = *gtid_set::parse_position(shard->position_text(seen) + gtids);
      ++report_.troubles[what];
    };
    if (settings_.errant) see_too_much(",ffffffff-0000-11ee-8000-000000000000:1-3", "positions with errant GTIDs");
    if (settings_.lost)
      see_too_much(",eeeeeeee-0000-11ee-8000-000000000000:1-3", "positions of which a failover loses a part");
  }
  for (std::size_t t = 0; t < branch_.tables().size(); ++t) {
    auto definition = definition_of(branch_.tables()[t], branch_.shape_now(t));
    input.tables[definition.id] = std::move(definition);
  }
  input.peek_seconds = time_.seconds();
  if (settings_.on_plan) settings_.on_plan(input);
  report_.stops = input.stops;
  auto plan = make_plan(input);
  input.state = {};
  if (!plan) {
    report_.plan_failure = plan.error();
    return std::move(report_);
  }

  copies_planned_ = !plan->copies.empty();
  machine_ = std::make_unique<machine>();
  server_ = std::make_shared<stream_server>(branch_, chance_, settings_.transport);
  out_ = std::make_shared<scripted_output>(machine_->bridge, time_.now_us);
  const chaos& trouble = settings_.trouble;
  out_->at_once = trouble.output_at_once;
  out_->break_at = trouble.break_at;
  if (trouble.disk_full)
    out_->break_with = {
        error_code::output_failed, "Standard output cannot be written: no space left on device.", {}, {}};
  server_->on_open = [this](served_call& call) {
    report_.calls.push_back(call.request());
    call.opened_us = call.last_sent_us = time_.now_us;
    call.on_settled = [this](const std::string& shard, const std::string& gtid) {
      settled_.emplace(shard, gtid);
    };
    call.on_snapshot = [this](const model_shard& shard, std::size_t table, std::size_t, bool from_start) {
      // A copy that starts over ends where the first one began: no deletion is missed in between.
      if (from_start) report_.copies_restarted.emplace(shard.name, table);
    };
    call.hide_event_gtid = settings_.trouble.old_server;
    call.hide_copy_completed = chance_.percent(settings_.trouble.hide_copy_completed);
    if (call.hide_copy_completed) ++report_.troubles["COPY_COMPLETED that never comes"];
    if (settings_.on_call) settings_.on_call(*this, call);
    if (call.open() && report_.faults < settings_.trouble.faults &&
        chance_.percent(settings_.trouble.refuse)) {
      ++report_.faults;
      ++report_.troubles["streams refused"];
      call.end(14, "upstream connect error or disconnect/reset before headers");
    }
  };

  engine_parts parts;
  parts.client = server_;
  parts.planned_from = std::make_shared<const plan_input>(input);
  parts.out = out_;
  questions_ = std::make_shared<scripted_questions>(branch_);
  questions_->on_settled = [this](const std::string& shard, const std::string& gtid) {
    settled_.emplace(shard, gtid);
  };
  if (!trouble.no_questions) parts.questions = questions_;
  report_.unanswered = trouble.no_questions;
  parts.refresh_interval = settings_.refresh_interval;
  parts.clock = std::make_shared<simulated_clock>(time_);
  parts.counters = std::make_shared<run_counters>();
  parts.readers.max_retries = input.config.max_retries;
  parts.readers.timeout = input.config.timeout;
  parts.readers.seed = 1;
  parts.emitting.checkpoints.with_records = input.config.checkpoint_interval;
  parts.limits = {input.config.max_streams, input.config.max_copies_per_shard, input.config.on_lost_position};
  parts.large_batches = settings_.large_batches;
  parts.width.least = settings_.streams_at_least.value_or(input.config.max_streams);
  parts.on_emitter = [this](emitter_actor emitter) { machine_->bridge->target = std::move(emitter); };
  parts.on_end = [this](run_outcome outcome) {
    if (report_.outcome) report_.violations.push_back("the engine ended twice");
    report_.outcome = std::move(outcome);
  };
  machine_->boss =
      machine_->system.spawn(coordinator, std::move(parts), std::make_shared<sync_plan>(std::move(*plan)));
  caf::anon_send(machine_->boss, start_atom::value);

  while (!report_.outcome && !report_.killed) {
    if (kill_now_ || (trouble.kill_at_step && report_.steps >= *trouble.kill_at_step)) {
      report_.killed = true;
      break;
    }
    if (trouble.stop_at_step && report_.steps == *trouble.stop_at_step) stop(15);
    if (report_.steps >= most_steps || time_.now_us - report_.started_us > longest_run_us || !one_step()) {
      report_.violations.push_back("the engine does not end: " + std::to_string(report_.steps) + " steps, " +
                                   std::to_string((time_.now_us - report_.started_us) / second_us) + " s");
      break;
    }
    ++report_.steps;
    check_memory();
    if (settings_.on_step) settings_.on_step(*this);
  }

  report_.ended_us = time_.now_us;
  for (const auto& [name, journals] : journals_)
    report_.resharded = report_.resharded || branch_.find(name)->journals.size() != journals;
  const bool ended = report_.outcome.has_value();
  if (ended) {
    // Everything is said: the rest is for the actors to go.
    run_ready_actors();
    for (const auto& call : server_->calls())
      if (call->open() && !call->dropped())
        report_.violations.push_back("a call is still open after the end");
    machine_->boss = nullptr;
    machine_->bridge->target = nullptr;
    if (machine_->system.registry().running() != machine_->actors_before)
      report_.violations.push_back("an actor is left over after the end");
  }
  report_.transcript = out_->transcript();
  report_.emitted = out_->emitted();
  out_->close();
  server_->closed = true;
  questions_->close();
  if (!ended) machine_->kill();
  for (const auto& call : server_->calls()) {
    call->drop();
    call->end_dropped();
  }
  while (machine_->scheduler.has_job()) machine_->scheduler.run_once();
  server_->calls().clear();
  machine_->scheduler.clock().cancel_all();
  machine_.reset();
  return std::move(report_);
}

void engine_run::stop(int signal) {
  report_.stopped = true;
  caf::anon_send(machine_->boss, stop_atom::value, signal);
}

void engine_run::run_ready_actors() {
  while (machine_->scheduler.has_job()) machine_->run_one(chance_);
}

bool engine_run::one_step() {
  trouble_a_call();
  write();
  if (questions_->waiting() && chance_.percent(20)) {
    answer_question();
    return true;
  }
  const std::size_t first = chance_.below(16);
  for (std::size_t i = 0; i < 4; ++i) {
    // Jobs are tried first in half of the steps.
    static constexpr unsigned char order[16][4] = {{0, 1, 2, 3}, {0, 1, 3, 2}, {0, 2, 1, 3}, {0, 2, 3, 1},
                                                   {0, 3, 1, 2}, {0, 3, 2, 1}, {0, 1, 2, 3}, {0, 2, 1, 3},
                                                   {1, 0, 2, 3}, {1, 2, 0, 3}, {1, 3, 0, 2}, {2, 0, 1, 3},
                                                   {2, 1, 3, 0}, {3, 0, 1, 2}, {3, 2, 1, 0}, {1, 0, 3, 2}};
    switch (order[first][i]) {
      case 0:
        if (machine_->scheduler.has_job()) {
          machine_->run_one(chance_);
          return true;
        }
        break;
      case 1:
        if (!server_stands_still && serve_one()) return true;
        break;
      case 2:
        if (!output_stands_still && out_->can_write() && chance_.percent(settings_.trouble.output_speed)) {
          out_->write_some(1 + chance_.below(settings_.trouble.output_bytes));
          return true;
        }
        break;
      case 3:
        if (!output_stands_still && out_->can_tell() && chance_.percent(settings_.trouble.output_speed)) {
          out_->tell_written();
          return true;
        }
        break;
    }
  }
  if (questions_->waiting()) {
    answer_question();
    return true;
  }
  return advance();
}

void engine_run::answer_question() {
  const bool fails = chance_.percent(settings_.trouble.question_fails);
  if (fails) ++report_.troubles["questions without an answer"];
  report_.unanswered = report_.unanswered || fails;
  questions_->answer(fails);
}

bool engine_run::serve_one() {
  auto& calls = server_->calls();
  if (calls.empty()) return false;
  const std::size_t first = chance_.below(calls.size());
  for (std::size_t i = 0; i < calls.size(); ++i) {
    const auto call = calls[(first + i) % calls.size()];
    if (call->dropped()) {
      call->end_dropped();
      server_->tidy();
      return true;
    }
    if (call->mute || call->only_heartbeats_until_us > time_.now_us) continue;
    if (call->can_send()) {
      call->send(events_per_response != 0 ? events_per_response : 1 + chance_.below(8));
      call->last_sent_us = time_.now_us;
      return true;
    }
    if (const auto verdict = call->verdict()) {
      const bool searches = verdict->message.find("failed to find a") != std::string::npos;
      if (searches && time_.now_us - call->opened_us < tablet_search_us) continue;
      call->end(verdict->status_code, verdict->message);
      server_->tidy();
      return true;
    }
  }
  return false;
}

void engine_run::trouble_a_call() {
  const chaos& trouble = settings_.trouble;
  auto& calls = server_->calls();
  if (trouble.faults <= report_.faults || calls.empty()) return;
  const auto call = calls[chance_.below(calls.size())];
  if (!call->open() || call->dropped()) return;
  if (chance_.permille(trouble.cut)) {
    static const stream_end ends[] = {{14, "connection reset by peer", false},
                                      {2,
                                       "target: ks.-80.primary: vttablet: rpc error: code = Unknown desc = "
                                       "stream (at source tablet) error @ x: EOF",
                                       false},
                                      {13, "vstreamer has been fully throttled for longer than 10m0s", false},
                                      {1, "vstream is being stopped", false},
                                      {0, "", false},
                                      {2,
                                       "vttablet: rpc error: code = Unknown desc = in Engine.reload(), reading table "
                                       "t0: failed to reload schema after DDL encountered in stream",
                                       false},
                                      {2,
                                       "task error: Query execution was interrupted, maximum statement "
                                       "execution time exceeded (errno 3024)",
                                       false}};
    const auto& end = ends[chance_.below(std::size(ends))];
    ++report_.faults;
    ++report_.troubles["streams cut"];
    call->end(end.status_code, end.message);
    server_->tidy();
  } else if (chance_.permille(trouble.restart)) {
    ++report_.faults;
    ++report_.troubles["tablets that fail under a stream"];
    call->restart();
  } else if (chance_.permille(trouble.mute)) {
    ++report_.faults;
    ++report_.troubles["streams that fall silent"];
    call->mute = true;
  } else if (chance_.permille(trouble.heartbeats_only)) {
    ++report_.faults;
    ++report_.troubles["streams with heartbeats only"];
    call->only_heartbeats_until_us = time_.now_us + chance_.between(1, 400) * second_us;
  }
}

void engine_run::write() {
  const chaos& trouble = settings_.trouble;
  if (settings_.lagging)
    for (const auto& shard : branch_.shards())
      if (shard->visible < shard->log.size() && chance_.permille(50)) ++shard->visible;
  if (writes_ < trouble.writes && chance_.permille(trouble.write)) {
    ++writes_;
    branch_.write_something(time_.seconds(), {40, chance_.percent(30) ? trouble.padding : 0});
  }
  if (alters_ < trouble.alters && chance_.permille(trouble.alter)) {
    ++alters_;
    ++report_.troubles["schema changes"];
    branch_.alter_something(time_.seconds());
  }
  if (chance_.permille(trouble.fail_over)) {
    const auto serving = branch_.serving();
    branch_.fail_over(*serving[chance_.below(serving.size())]);
    ++report_.troubles["failovers"];
  }
  if (trouble.purge > 0 && chance_.permille(trouble.purge)) {
    const auto& shards = branch_.shards();
    branch_.purge(*shards[chance_.below(shards.size())], chance_.below(4));
    ++report_.troubles["purged binary logs"];
  }
  if (reshards_ < trouble.reshards && (trouble.reshard_copies || !copies_planned_) &&
      chance_.permille(trouble.reshard)) {
    ++reshards_;
    if (const char* what = branch_.reshard_something(time_.seconds())) ++report_.troubles[what];
  }
}

bool engine_run::advance() {
  auto& clock = machine_->scheduler.clock();
  if (clock.schedule().empty()) return false;
  auto wait = clock.schedule().begin()->first - clock.current_time;
  if (wait.count() < 0) wait = decltype(wait)::zero();
  if (wait > std::chrono::milliseconds(1) && chance_.percent(30))
    wait = std::chrono::milliseconds(
        chance_.between(1, std::chrono::duration_cast<std::chrono::milliseconds>(wait).count()));
  machine_->scheduler.advance_time(wait);
  time_.now_us += std::chrono::duration_cast<std::chrono::microseconds>(wait).count();
  for (const auto& call : server_->calls()) {
    if (!call->open() || call->dropped() || call->mute || !call->reading() || call->ready_bytes() > 0) continue;
    if (server_stands_still || time_.now_us - call->last_sent_us < heartbeat_us) continue;
    call->last_sent_us = time_.now_us;
    call->send_heartbeat();
  }
  return true;
}

memory_bound bound_of(const transport_limits& transport, std::size_t large_batches, std::size_t streams,
                      std::size_t largest_response, std::size_t largest_record) {
  memory_bound bound;
  // Of a call one response is beyond what all may read ahead: the one that was being read when they came to it, or that is read because
  // nothing was left.
  bound.response_bytes = transport.read_ahead_of_all + streams * largest_response;
  // Two batches of each reader, whatever number it takes for its own.
  bound.record_bytes = large_batches + streams * 2 * std::max(batch::capacity, largest_record);
  return bound;
}

void engine_run::check_memory() {
  const response_account& held = server_->held();
  const std::size_t responses = held.bytes;
  const std::size_t records = out_->queued_record_bytes();
  report_.largest_response = held.largest;
  report_.most_held_bytes = std::max(report_.most_held_bytes, responses + records);
  if (responses <= report_.most_response_bytes && records <= report_.most_queued_bytes) return;
  // One more: tables that are done catch up although copies hold every place.
  const std::size_t streams = settings_.config.max_streams + 1;
  const memory_bound bound =
      bound_of(settings_.transport, settings_.large_batches, streams, held.largest, out_->largest_record());
  const auto within = [&](std::size_t bytes, std::size_t& most, std::size_t allowed, const char* what) {
    const std::size_t before = std::exchange(most, std::max(most, bytes));
    if (before <= allowed && bytes > allowed)
      report_.violations.push_back(std::string(what) + " take " + std::to_string(bytes) + " bytes with " +
                                   std::to_string(streams) + " streams at once, where " + std::to_string(allowed) +
                                   " are allowed");
  };
  within(responses, report_.most_response_bytes, bound.response_bytes, "responses");
  within(records, report_.most_queued_bytes, bound.record_bytes, "unwritten records");
}

table_definition definition_of(const model_table& table, const table_shape& shape) {
  table_definition definition;
  definition.id = {keyspace_name(keyspace), table_name(table.name)};
  for (const auto& column : shape) {
    const bool text = std::string(column.type()) == "text";
    definition.columns.push_back({column.name, column.type(), column.kind != column_kind::id, text ? "utf8mb4" : "",
                                  text ? "utf8mb4_0900_ai_ci" : "", false, false});
  }
  if (table.keyed) definition.primary_key = definition.copy_order = {"id"};
  return definition;
}

std::vector<declared_property> properties_of(const table_shape& shape) {
  std::vector<declared_property> properties;
  for (const auto& column : shape)
    properties.push_back({column.name, property_schema(parse_column_type(column.type()), true, {})});
  for (const char* name : {cdc_updated_at, cdc_deleted_at, cdc_cursor}) properties.push_back({name, "{}"});
  return properties;
}

configured_stream configured(const model_table& table, sync_mode mode) {
  configured_stream stream;
  stream.id = {keyspace_name(keyspace), table_name(table.name)};
  stream.mode = mode;
  stream.destination_sync_mode = mode == sync_mode::incremental ? "append_dedup" : "overwrite";
  stream.properties = properties_of(table.shape);
  return stream;
}

}  // namespace psource::simulation
