// Implementation of coordinator.hpp.
#include "actors/coordinator.hpp"

#include <algorithm>
#include <caf/actor_clock.hpp>
#include <caf/actor_system.hpp>
#include <caf/send.hpp>
#include <utility>

#include "sync/branch_questions.hpp"

namespace psource {

namespace {

// Monitored: the coordinator hears of their deaths. Linked: should it die itself, of a fault, they do as well; nobody else
// would stop them, and the actor system waits for them.
constexpr auto with_me = caf::monitored + caf::linked;

// Before planning again, after so many rounds without success: 1, 2, 4 and 8 s.
std::chrono::seconds replan_delay(unsigned rounds) { return std::chrono::seconds(1U << std::min(rounds - 1, 3U)); }

}  // namespace

void coordinator_state::begin(sync_plan& plan) {
  std::vector<emitter_stream> streams;
  for (const auto& planned : plan.streams) {
    emitter_stream stream;
    stream.ledger = planned.ledger;
    stream.incremental = planned.mode == sync_mode::incremental;
    if (planned.copies > 0) stream.row_estimate = planned.row_estimate;
    stream.state_first = stream.incremental && plan.states_first;
    streams.push_back(std::move(stream));
  }
  parts.counters->tables = plan.streams.size();
  parts.emitting.infos = std::move(plan.infos);
  parts.emitting.warnings = std::move(plan.warnings);
  out = self->spawn<with_me>(emitter, coordinator_actor(self), parts.out, parts.clock, parts.counters, parts.emitting,
                             std::move(streams));
  if (parts.on_emitter) parts.on_emitter(out);
  for (const auto& planned : plan.streams)
    if (!planned.problem)
      say(log_level::info, planned.id.to_string() + " (" + to_string(planned.mode) + "): shards to copy " +
                               std::to_string(planned.copies) + ", to resume " + std::to_string(planned.resumes) +
                               ", to catch up " + std::to_string(planned.catch_ups) + ", with nothing new " +
                               std::to_string(planned.up_to_date) + ".");
  schedule = std::make_unique<sync_schedule>(plan, parts.limits);
  if (parts.on_start) parts.on_start(out);
}

void coordinator_state::say(log_level level, const std::string& text) {
  self->send(out, log_atom::value, static_cast<std::uint8_t>(level), text);
}

bool coordinator_state::is_older(steady_time moment, std::chrono::milliseconds age) const {
  return self->home_system().clock().now() - moment >= age;
}

void coordinator_state::watch() {
  self->delayed_send(coordinator_actor(self), parts.refresh_interval, watch_atom::value);
  if (!finishing && asking == inquiry::none && parts.questions && !schedule->copies_done() &&
      !schedule->held_shards().empty())
    begin_inquiry(inquiry::refresh);
}

void coordinator_state::tick() {
  self->delayed_send(coordinator_actor(self), parts.readers.watch_interval, tick_atom::value);
  for (const auto& [id, reader] : readers) self->send(reader, watch_atom::value);
}

void coordinator_state::look_again_after(std::chrono::milliseconds pause) {
  if (!std::exchange(looking, true)) self->delayed_send(coordinator_actor(self), pause, look_atom::value);
}

void coordinator_state::look_at_streams() {
  looking = false;
  if (finishing || schedule->waiting() == 0) {
    width.forget();
    return;
  }
  const std::size_t before = width.now();
  // A stream that is over keeps its place until its batches are written, but has no call any more.
  const std::size_t fed = parts.client->fed_calls() + parts.counters->unwritten;
  look_again_after(width.look(self->home_system().clock().now(), fed, schedule->running() >= before, schedule->done()));
  if (width.now() == before) return;
  parts.client->expect_calls(width.now());
  say(log_level::debug, "Up to " + std::to_string(width.now()) + " streams at once from here on.");
  start_tasks();
}

void coordinator_state::begin_inquiry(inquiry why) {
  asking = why;
  // Traffic is switched to new shards in steps: each further round waits longer.
  if (why == inquiry::plan && schedule->rounds() > 0)
    self->delayed_send(coordinator_actor(self), replan_delay(schedule->rounds()), plan_atom::value);
  else
    list_serving();
}

void coordinator_state::list_serving() {
  schedule->begin_listing();
  parts.questions->ask_serving([boss = coordinator_actor(self)](result<std::vector<shard_id>> listed) {
    caf::anon_send(boss, serving_atom::value, std::make_shared<const result<std::vector<shard_id>>>(std::move(listed)));
  });
}

// What has to be asked before the read can go on, or end.
void coordinator_state::inquire_if_due() {
  if (finishing || asking != inquiry::none) return;
  const bool can_ask = parts.questions && parts.planned_from;
  if (!can_ask) {
    schedule->fail_unplanned("There is nobody to ask.");
    schedule->trust_ends();
  }
  if (can_ask && schedule->plan_is_due()) {
    begin_inquiry(inquiry::plan);
  } else if (can_ask && schedule->ends_unconfirmed()) {
    if (schedule->idle()) begin_inquiry(inquiry::confirm);
  } else if (can_ask && schedule->copies_wait() && is_older(last_listing, parts.listing_interval)) {
    // A reshard may have replaced shards since they were listed; a copy of an old one would be stale.
    begin_inquiry(inquiry::before_copies);
  } else if (schedule->copies_done() && schedule->holds_tables()) {
    // Tables that are done have waited while others were copied. After the last copy they catch up once more, if that
    // took long.
    if (can_ask && is_older(last_peek, parts.refresh_interval) && !schedule->held_shards().empty())
      begin_inquiry(inquiry::refresh);
    else
      schedule->release();
  }
}

void coordinator_state::take_serving(const result<std::vector<shard_id>>& listed) {
  last_listing = self->home_system().clock().now();
  if (!listed) {
    // Whoever cannot answer proves nothing.
    switch (std::exchange(asking, inquiry::none)) {
      case inquiry::plan:
        planning_failed(listed.error());
        break;
      case inquiry::confirm:
        schedule->trust_ends();
        break;
      case inquiry::refresh:
        last_peek = last_listing;
        say(log_level::warn, "The shards' present positions could not be asked again: " + listed.error().message);
        break;
      default:
        break;
    }
    start_tasks();
    return;
  }
  const std::set<shard_id> shards(listed->begin(), listed->end());
  schedule->drop_unserved(shards);
  schedule->confirm_ends(shards);
  serving.clear();
  for (const auto& id : *listed) serving[id.keyspace].push_back(id.shard);
  switch (asking) {
    case inquiry::refresh: {
      std::vector<shard_id> held;
      // An old shard's position leads nowhere.
      for (const auto& id : schedule->held_shards())
        if (shards.count(id) > 0) held.push_back(id);
      ask_stops(std::move(held), longest_peek);
      break;
    }
    case inquiry::plan:
      ask_stops_of_plan();
      break;
    default:
      asking = inquiry::none;
  }
  start_tasks();
}

void coordinator_state::ask_stops(std::vector<shard_id> shards, std::chrono::milliseconds limit) {
  parts.questions->ask_stops(
      std::move(shards), limit, [boss = coordinator_actor(self)](result<std::map<shard_id, gtid_set>> stops) {
        caf::anon_send(boss, stops_atom::value,
                       std::make_shared<const result<std::map<shard_id, gtid_set>>>(std::move(stops)));
      });
}

void coordinator_state::take_stops(const result<std::map<shard_id, gtid_set>>& stops) {
  const inquiry why = std::exchange(asking, inquiry::none);
  last_peek = self->home_system().clock().now();
  if (why == inquiry::plan) {
    if (stops)
      plan_unplanned(*stops);
    else
      planning_failed(stops.error());
  } else if (stops) {
    schedule->refresh(*stops, parts.clock->server_microseconds() / 1'000'000);
  } else {
    say(log_level::warn, "The shards' present positions could not be asked again: " + stops.error().message);
  }
  start_tasks();
}

void coordinator_state::planning_failed(const failure& why) {
  schedule->planning_failed(why);
  if (schedule->plan_is_due())
    say(log_level::warn, "Tables could not be planned again: " + why.message + " Trying again in " +
                             std::to_string(replan_delay(schedule->rounds()).count()) + " s.");
}

void coordinator_state::ask_stops_of_plan() {
  const auto selected = select_shards(parts.planned_from->config, serving);
  if (!selected) {
    asking = inquiry::none;
    schedule->fail_unplanned(selected.error().message);
    return;
  }
  std::vector<shard_id> shards;
  std::set<keyspace_name> keyspaces;
  for (const auto& [stream, cursors] : schedule->unplanned())
    keyspaces.insert(parts.planned_from->streams[stream].id.keyspace);
  for (const auto& keyspace : keyspaces)
    for (const auto& shard : selected->at(keyspace)) shards.push_back({keyspace, shard});
  ask_stops(std::move(shards), schedule->rounds() == 0 ? first_peek : longest_peek);
}

void coordinator_state::plan_unplanned(const std::map<shard_id, gtid_set>& stops) {
  plan_input input = *parts.planned_from;
  input.serving = serving;
  input.stops = stops;
  input.peek_seconds = parts.clock->server_microseconds() / 1'000'000;
  auto plan = plan_again(std::move(input), schedule->unplanned());
  if (!plan) {
    schedule->fail_unplanned(plan.error().message);
    return;
  }
  for (const auto& text : plan->infos) say(log_level::info, text);
  for (const auto& text : plan->warnings) say(log_level::warn, text);
  for (const auto& planned : plan->streams)
    self->send(out, plan_atom::value, planned.table.stream,
               std::make_shared<const std::map<shard_name, shard_cursor>>(planned.ledger.cursors));
  schedule->adopt(*plan);
}

void coordinator_state::start_tasks() {
  inquire_if_due();
  if (!finishing) {
    for (auto& task : schedule->start(asking != inquiry::before_copies, width.now())) give_to_reader(std::move(task));
  }
  for (const auto& reader : resting) self->send(reader, stop_atom::value);
  resting.clear();
  if (!finishing && width.moves() && schedule->waiting() > 0) look_again_after(stream_width::between);
  parts.counters->running = schedule->running();
  parts.counters->waiting = schedule->waiting();
  parts.counters->done = schedule->done();
  tell_results();
  finish_if_idle();
}

// A reader that has just ended another stream takes the next one: a new actor, and the end of the old one, cost more than
// a short stream.
void coordinator_state::give_to_reader(scheduled_task&& task) {
  auto figures = parts.counters->streams.add(shard_id{task.spec.keyspace, task.spec.shards.front()}.to_string());
  const std::size_t at_once = std::min(width.now(), schedule->running() + schedule->waiting());
  auto given = std::make_shared<reader_task>(reader_task{task.id, std::move(task.spec), std::move(figures),
                                                         batch_size_for(at_once, parts.large_batches)});
  stream_reader_actor& reader = readers[task.id];
  if (resting.empty()) {
    reader = self->spawn<with_me>(stream_reader, std::move(given), parts.clock, parts.client, parts.questions,
                                  parts.readers, out, coordinator_actor(self));
    return;
  }
  reader = std::move(resting.back());
  resting.pop_back();
  self->send(reader, task_atom::value, std::move(given));
}

void coordinator_state::rest(task_id id) {
  if (auto reader = readers.extract(id)) resting.push_back(std::move(reader.mapped()));
}

void coordinator_state::tell_results() {
  for (const auto& text : schedule->take_warnings()) say(log_level::warn, text);
  for (auto& what : schedule->take_failures())
    self->send(out, error_atom::value, std::make_shared<const failure>(std::move(what)));
  for (const auto& verdict : schedule->take_verdicts())
    self->send(out, verdict_atom::value, verdict.stream, verdict.complete);
}

void coordinator_state::finish_if_idle() {
  const bool idle = finishing ? readers.empty() : schedule->idle() && asking == inquiry::none && !schedule->holds_tables();
  if (!idle || over) return;
  over = true;
  self->send(out, finish_atom::value);
}

void coordinator_state::task_done(task_id id, tables_ptr tables) {
  rest(id);
  schedule->finished(id, std::move(*tables));
  start_tasks();
}

void coordinator_state::task_failed(task_id id, const failure& why, tables_ptr tables) {
  rest(id);
  schedule->failed(id, why, std::move(*tables));
  start_tasks();
}

void coordinator_state::task_stopped(task_id id) {
  readers.erase(id);
  schedule->abandoned(id);
  start_tasks();
}

void coordinator_state::reader_is_gone(const caf::actor_addr& who) {
  // A reader that ended in order is forgotten by now; one that is still listed died of a fault of this program.
  for (const auto& [task, reader] : readers) {
    if (reader.address() != who) continue;
    const task_id id = task;
    readers.erase(id);
    const failure why{error_code::internal, "A stream reader ended unexpectedly.", {}, std::nullopt};
    const auto running = schedule->running_tasks().find(id);
    auto tables = std::make_shared<std::vector<session_table>>();
    if (running != schedule->running_tasks().end()) *tables = running->second.tables;
    task_failed(id, why, std::move(tables));
    return;
  }
}

void coordinator_state::emitter_is_gone() {
  if (!outcome.output_problem && !outcome.complete)
    outcome.output_problem = failure{error_code::internal, "The emitter ended unexpectedly.", {}, std::nullopt};
  stop_readers();
  end();
}

void coordinator_state::stop_readers() {
  if (std::exchange(finishing, true)) return;
  for (const auto& [id, reader] : readers) self->send(reader, stop_atom::value);
}

void coordinator_state::output_broke(const failure& why) {
  outcome.output_problem = why;
  stop_readers();
  finish_if_idle();
}

void coordinator_state::stop(int signal) {
  if (outcome.signal == 0) outcome.signal = signal;
  stop_readers();
  finish_if_idle();
}

void coordinator_state::all_written() {
  outcome.complete =
      !schedule->any_failed() && schedule->idle() && outcome.signal == 0 && !outcome.output_problem;
  end();
}

void coordinator_state::end() {
  if (auto tell = std::exchange(parts.on_end, nullptr)) tell(outcome);
  self->quit();
}

coordinator_actor::behavior_type coordinator(coordinator_actor::stateful_pointer<coordinator_state> self,
                                             engine_parts parts, std::shared_ptr<sync_plan> plan) {
  self->state.parts = std::move(parts);
  self->state.width = stream_width(self->state.parts.width, self->state.parts.limits.max_streams);
  self->state.parts.client->expect_calls(self->state.width.now());
  self->set_default_handler(caf::drop);
  // It does not die with those that it is linked to: what their deaths mean is the next handler's business.
  self->set_exit_handler([](caf::exit_msg&) {});
  self->set_down_handler([self](caf::down_msg& down) {
    if (self->state.out && down.source == self->state.out.address()) {
      self->state.emitter_is_gone();
      return;
    }
    // Without a reason it has quit, and so has told how it ended.
    if (down.reason) self->state.reader_is_gone(down.source);
  });
  self->state.last_peek = self->state.last_listing = self->home_system().clock().now();
  const auto& planned_from = self->state.parts.planned_from;
  if (planned_from && planned_from->listed_at) self->state.last_listing = *planned_from->listed_at;
  self->state.begin(*plan);
  self->delayed_send(coordinator_actor(self), self->state.parts.refresh_interval, watch_atom::value);
  self->delayed_send(coordinator_actor(self), self->state.parts.readers.watch_interval, tick_atom::value);
  return {
      [self](start_atom) { self->state.start_tasks(); },
      [self](done_atom, task_id id, const tables_ptr& tables) { self->state.task_done(id, tables); },
      [self](failed_atom, task_id id, const failure_ptr& why, const tables_ptr& tables) {
        self->state.task_failed(id, *why, tables);
      },
      [self](stopped_atom, task_id id) { self->state.task_stopped(id); },
      [self](broken_atom, const failure_ptr& why) { self->state.output_broke(*why); },
      [self](finish_atom) { self->state.all_written(); },
      [self](watch_atom) { self->state.watch(); },
      [self](tick_atom) { self->state.tick(); },
      [self](look_atom) { self->state.look_at_streams(); },
      [self](serving_atom, const serving_answer_ptr& serving) { self->state.take_serving(*serving); },
      [self](plan_atom) { self->state.list_serving(); },
      [self](stops_atom, const stops_answer_ptr& stops) { self->state.take_stops(*stops); },
      [self](stop_atom, int signal) { self->state.stop(signal); },
  };
}

}  // namespace psource
