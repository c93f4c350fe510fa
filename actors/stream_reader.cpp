// Implementation of stream_reader.hpp.
#include "actors/stream_reader.hpp"

#include <algorithm>
#include <caf/actor_clock.hpp>
#include <caf/actor_system.hpp>
#include <caf/send.hpp>
#include <utility>

#include "protocol/vitess/request.hpp"
#include "sync/classify.hpp"
#include "sync/test_faults.hpp"

namespace psource {

namespace {

// Turns the transport's calls into messages, for as long as the reader listens. Holds the actor weakly enough: a message to
// an actor that is gone is dropped, and the listener goes with its call.
class reader_listener final : public vstream_listener {
 public:
  reader_listener(stream_reader_actor reader, std::uint64_t attempt, std::shared_ptr<const std::atomic<bool>> listening)
      : reader_(std::move(reader)), attempt_(attempt), listening_(std::move(listening)) {}

  void on_ready() override {
    if (*listening_) caf::anon_send(reader_, ready_atom::value, attempt_);
  }
  void on_end(stream_end end) override {
    if (*listening_)
      caf::anon_send(reader_, ended_atom::value, attempt_, std::make_shared<const stream_end>(std::move(end)));
  }

 private:
  stream_reader_actor reader_;
  std::uint64_t attempt_;
  std::shared_ptr<const std::atomic<bool>> listening_;
};

}  // namespace

std::chrono::steady_clock::time_point stream_reader_state::now() const {
  return self->home_system().clock().now();
}

void stream_reader_state::begin(reader_task&& task) {
  id = task.id;
  session = std::make_unique<stream_session>(std::move(task.spec), clock);
  batch_size = task.batch_size;
  if (current) {
    current->clear();
    free.push_back(std::move(current));
  }
  figures = std::move(task.figures);
  // What earlier calls still have to say is not meant for this one.
  ++attempt;
  failures = 0;
  silence = settings.silence;
  advances_at_failure = 0;
  pending_end.reset();
  progress_seen = 0;
  verdict.reset();
  over = false;
}

void stream_reader_state::open() {
  progress_time = heard_time = now();
  blocked = false;
  looking_up = false;
  suspected_at.reset();
  unanswered = 0;
  suspicion.reset();
  progress_at_open = session->progress();
  advances_at_open = session->advances();
  auto request = serialize(session->begin_attempt());
  if (!request) {
    give_up(request.error());
    return;
  }
  listening = std::make_shared<std::atomic<bool>>(true);
  auto listener = std::make_shared<reader_listener>(stream_reader_actor(self), attempt, listening);
  const bool copies = session->spec().kind != stream_kind::catch_up;
  call = client->open(vstream_request{std::move(*request), copies ? completes_copy : nullptr}, std::move(listener));
}

void stream_reader_state::drop_call() {
  if (!call) return;
  *listening = false;
  call.reset();
}

// At most so many batches of this reader are under way; else false, and `written` will tell when another one has come back.
bool stream_reader_state::in_flight_at_most(std::size_t count) {
  for (;;) {
    in_flight -= returned->take(free);
    if (in_flight <= count) return true;
    if (returned->await()) return false;
  }
}

bool stream_reader_state::have_buffer() {
  if (current) return true;
  if (free.empty() && !in_flight_at_most(window - 1)) return false;
  if (free.empty()) {
    current = std::make_shared<batch>();
  } else {
    current = std::move(free.back());
    free.pop_back();
  }
  current->resize(batch_size);
  return true;
}

void stream_reader_state::hand_over() {
  if (!current) return;
  session->seal(*current);
  if (current->empty()) return;
  for (const auto& count : current->counts) figures->records.fetch_add(count.records, std::memory_order_relaxed);
  if (current->newest_commit_seconds > figures->newest_commit_seconds.load(std::memory_order_relaxed))
    figures->newest_commit_seconds.store(current->newest_commit_seconds, std::memory_order_relaxed);
  ++in_flight;
  self->send(emitter, batch_atom::value, std::exchange(current, nullptr), returned, stream_reader_actor(self));
}

void stream_reader_state::run() {
  for (std::size_t handed_over = 0; !over && call && !looking_up;) {
    if (!have_buffer()) {
      blocked = true;
      return;
    }
    if (blocked) {
      // The time that standard output stood still is not the server's.
      blocked = false;
      progress_time = heard_time = now();
    }
    auto step = session->pump(*current);
    if (!step) {
      attempt_failed(step.error());
      return;
    }
    switch (*step) {
      case pump_result::batch_full:
        hand_over();
        // Batches may come back as fast as they go. Going on in a message of its own lets others have their turn, a `stop`
        // for one.
        if (++handed_over == window) {
          self->send(stream_reader_actor(self), ready_atom::value, attempt);
          return;
        }
        break;
      case pump_result::needs_rows:
        look_up();
        return;
      case pump_result::finished:
        if (test_faults::is(test_faults::fault::lost_last_batch)) {
          current->lines.clear();
          current->counts.clear();
        }
        hand_over();
        succeed();
        return;
      case pump_result::needs_input: {
        auto response = call->take();
        if (response) {
          heard_time = now();
          session->feed(std::move(response));
          break;
        }
        // Nothing more for now. Small transactions gather while a batch of this reader is under way.
        if ((!current->empty() || session->has_moves()) && in_flight_at_most(0)) hand_over();
        if (pending_end) {
          const auto end = std::exchange(pending_end, nullptr);
          end_attempt(*end);
        }
        return;
      }
    }
  }
}

void stream_reader_state::go_on() {
  if (!over) {
    run();
  } else if (concluding && in_flight_at_most(0)) {
    concluding = false;
    tell_verdict();
  }
}

void stream_reader_state::look_up() {
  const row_lookup& wanted = session->missing_rows();
  if (!questions) {
    attempt_failed({error_code::row_image_incomplete,
                    "Changes of " + wanted.table.to_string() +
                        " leave unchanged columns out, and there is no MySQL port to look them up. Set "
                        "binlog_row_image=FULL on the database.",
                    {},
                    wanted.table});
    return;
  }
  looking_up = true;
  questions->ask_rows(wanted, [reader = stream_reader_actor(self), asked = attempt](result<looked_up_rows> rows) {
    caf::anon_send(reader, rows_atom::value, asked, std::make_shared<result<looked_up_rows>>(std::move(rows)));
  });
}

void stream_reader_state::take_rows(result<looked_up_rows>& rows) {
  looking_up = false;
  progress_time = heard_time = now();
  if (!rows) {
    attempt_failed(classify_lookup_failure(rows.error(), session->missing_rows().table));
    return;
  }
  session->complete(std::move(*rows));
  run();
}

bool stream_reader_state::is_suspect(std::chrono::steady_clock::time_point time) const {
  if (!session->heard() || unanswered > 0 || (suspected_at && time - *suspected_at < settings.suspicion)) return false;
  if (session->is_overdue()) return true;
  if (time - progress_time < settings.suspicion) return false;
  return session->may_miss_the_stop() || (!suspected_at && session->advances() == advances_at_open);
}

void stream_reader_state::suspect() {
  const session_spec& spec = session->spec();
  // A full refresh goes on by its last key alone: it needs no binary log, and so has no position to lose.
  if (!questions || spec.kind == stream_kind::full_copy) return;
  suspected_at = now();
  progress_at_question = session->progress();
  unanswered = spec.shards.size();
  // The primary is asked whatever is read: it knows which transactions are real and which a replica made up.
  for (const auto& shard : spec.shards)
    questions->ask_positions(
        {spec.keyspace, shard}, tablet_type::primary,
        [reader = stream_reader_actor(self), asked = attempt, shard](result<server_positions> positions) {
          caf::anon_send(reader, positions_atom::value, asked, shard.str(),
                         std::make_shared<const result<server_positions>>(std::move(positions)));
        });
}

void stream_reader_state::take_positions(const shard_name& shard, const result<server_positions>& positions) {
  --unanswered;
  // Whoever cannot answer proves nothing; the time limits go on.
  if (!positions) return;
  const bool still_silent = !blocked && !looking_up && session->progress() == progress_at_question;
  // A position that was lost is none to end at. Replicas may have one that their primary does not know.
  const bool at_start = session->advances() == advances_at_open;
  const bool primary = session->spec().tablet == tablet_type::primary;
  if (at_start && primary && reject_position(shard, *positions)) return;
  if (session->cut_stop(shard, positions->executed) && still_silent) {
    hand_over();
    succeed();
    return;
  }
  if (at_start && !primary) reject_position(shard, *positions);
}

// Whether the stream cannot go on from where it started.
bool stream_reader_state::reject_position(const shard_name& shard, const server_positions& positions) {
  const session_spec& spec = session->spec();
  const std::string where = spec.keyspace.str() + "/" + shard.str();
  for (const auto& table : spec.tables) {
    const auto cursor = table.cursors.find(shard);
    if (cursor == table.cursors.end() || table.start_of(cursor->second).empty()) continue;
    const auto saved = gtid_set::parse_position(table.start_of(cursor->second));
    if (!saved) continue;
    if (!saved->contains(positions.purged)) {
      const failure why{error_code::position_lost,
                        "The binary logs that the saved position of " + where + " needs were purged.",
                        "gtid_purged: " + positions.purged.to_position(),
                        std::nullopt};
      // Replicas may keep their binary logs for longer.
      fail_or_suspect(why);
      return true;
    }
    // Without GTIDs a server has none to tell.
    const bool comparable = !positions.executed.empty() && positions.executed.flavor() == saved->flavor();
    if (comparable && (spec.tablet == tablet_type::primary ? !positions.executed.contains(*saved)
                                                           : !saved->may_come_from(positions.executed))) {
      fail_or_suspect({error_code::position_foreign,
                       "The server of " + where +
                           " has not executed all of the saved position: it belongs to another database, or was lost in "
                           "a failover.",
                       "gtid_executed: " + positions.executed.to_position(),
                       std::nullopt});
      return true;
    }
    // An old shard has no stop: what ends its stream is the journal of the reshard. If the position holds everything
    // that the server has, the journal is behind it and the new shards are never reached from here.
    if (spec.kind == stream_kind::catch_up && spec.is_old(shard) && saved->contains(positions.executed)) {
      attempt_failed({error_code::position_lost,
                      "The saved position of the old shard " + where + " is past the reshard that replaced it.",
                      "gtid_executed: " + positions.executed.to_position(),
                      std::nullopt});
      return true;
    }
  }
  return false;
}

// What the primary says holds for replicas once none of them could serve the position (end_attempt): they may keep their binary logs for
// longer, and may have what a failover lost.
void stream_reader_state::fail_or_suspect(const failure& why) {
  if (session->spec().tablet == tablet_type::primary)
    attempt_failed(why);
  else
    suspicion = why;
}

void stream_reader_state::end_attempt(const stream_end& end) {
  stream_place place;
  place.shard = {session->spec().keyspace,
                 session->spec().shards.empty() ? shard_name() : session->spec().shards.front()};
  place.tablet = session->spec().tablet;
  place.copies = session->spec().kind != stream_kind::catch_up;
  for (const auto& table : session->spec().tables)
    for (const auto& [shard, cursor] : table.cursors)
      place.has_position = place.has_position || !table.start_of(cursor).empty();
  failure why = classify_stream_end(end, place);
  // Where the stream has come further since, or breaks for another reason, the position was not what ended it.
  if (suspicion && may_refuse_the_position(end.message) && session->advances() == advances_at_open) why = *suspicion;
  attempt_failed(why);
}

void stream_reader_state::attempt_failed(const failure& why) {
  if (session->progress() != progress_at_open) silence = settings.silence;
  // What is decoded counts as delivered from here on: the next attempt, or whoever takes the tables over, starts behind it.
  session->abandon_attempt();
  hand_over();
  drop_call();
  pending_end.reset();
  ++attempt;
  if (session->advances() != advances_at_failure) failures = 0;
  advances_at_failure = session->advances();
  ++failures;
  if (!is_retryable(why.code)) {
    give_up(why);
    return;
  }
  if (session->would_repeat_copy()) {
    failure told = why;
    told.message += " A full refresh of this table is not tried again within a read: its copy cannot go on in its middle, and "
                    "started over it would deliver rows twice.";
    give_up(told);
    return;
  }
  if (failures > settings.max_retries) {
    failure told = why;
    // Events that do not match the schema are the same for the next sync.
    if (why.code != error_code::schema_incompatible)
      told.message += " Given up after " + std::to_string(failures) +
                      (failures == 1 ? " attempt" : " attempts in a row") +
                      " without progress; the next sync goes on from the last state.";
    give_up(told);
    return;
  }
  const double jitter = std::uniform_real_distribution<double>(0, 1)(random);
  const auto delay = retry_delay(failures, jitter);
  self->send(emitter, log_atom::value, static_cast<std::uint8_t>(log_level::warn),
             retry_warning(why, delay, failures, settings.max_retries));
  self->delayed_send(stream_reader_actor(self), delay, retry_atom::value, attempt);
}

void stream_reader_state::watch() {
  if (over || !call || blocked || looking_up) return;
  const auto time = now();
  if (session->progress() != progress_seen) {
    progress_seen = session->progress();
    progress_time = time;
  }
  const std::string where = session->spec().keyspace.str() + "/" +
                            (session->spec().shards.empty() ? std::string() : session->spec().shards.front().str());
  const bool began = session->heard();
  if (is_suspect(time)) suspect();
  if (began && time - heard_time >= silence) {
    const auto waited = silence;
    client->reconnect(waited);
    // Heartbeats wait behind the response that is on its way. If the line needs longer for it, the next attempt has to wait
    // longer, or it would never come.
    silence = std::min(2 * silence, std::max(settings.silence, settings.timeout));
    attempt_failed({error_code::stream_broken,
                    "The stream of " + where + " brought nothing for " +
                        std::to_string(std::chrono::duration_cast<std::chrono::seconds>(waited).count()) +
                        " s, not even a heartbeat: the connection is dead, or the line needs longer for one response.",
                    {},
                    std::nullopt});
    return;
  }
  // Heartbeats come while vtgate is still looking for a tablet, too.
  const auto limit = session->progress() != progress_at_open
                         ? settings.timeout
                         : std::max(settings.timeout, settings.first_event_timeout);
  if (time - progress_time >= limit) {
    failure why{error_code::stream_stalled,
                "The stream of " + where + " brought nothing new for " +
                    std::to_string(std::chrono::duration_cast<std::chrono::seconds>(limit).count()) +
                    " s (timeout_seconds). The server may be overloaded, the saved position may no longer be readable, "
                    "or a very large transaction is on its way (vtgate sends it only when it is complete).",
                {},
                std::nullopt};
    attempt_failed(why);
  }
}

void stream_reader_state::succeed() { conclude(); }

void stream_reader_state::give_up(const failure& why) {
  verdict = std::make_shared<const failure>(why);
  conclude();
}

void stream_reader_state::conclude() {
  over = true;
  drop_call();
  // Once told, the coordinator starts another stream. If it were told earlier, a slow standard output would gather the
  // last batches of any number of streams.
  concluding = !in_flight_at_most(0);
  if (!concluding) tell_verdict();
}

void stream_reader_state::tell_verdict() {
  auto tables = std::make_shared<std::vector<session_table>>(session->take_tables());
  // The progress report counts streams as running for as long as their figures are held.
  figures.reset();
  if (verdict)
    self->send(coordinator, failed_atom::value, id, verdict, std::move(tables));
  else
    self->send(coordinator, done_atom::value, id, std::move(tables));
}

void stream_reader_state::stop() {
  if (!over) {
    over = true;
    session->abandon_attempt();
    drop_call();
    hand_over();
    self->send(coordinator, stopped_atom::value, id);
  } else if (std::exchange(concluding, false)) {
    // Standard output may never take what is in flight.
    tell_verdict();
  }
  self->quit();
}

stream_reader_actor::behavior_type stream_reader(stream_reader_actor::stateful_pointer<stream_reader_state> self,
                                                 reader_task_ptr first, std::shared_ptr<const sync_clock> clock,
                                                 std::shared_ptr<vstream_client> client,
                                                 std::shared_ptr<branch_questions> questions, reader_settings settings,
                                                 emitter_actor emitter, coordinator_actor coordinator) {
  auto& state = self->state;
  state.clock = std::move(clock);
  state.client = std::move(client);
  state.questions = std::move(questions);
  state.settings = settings;
  state.emitter = std::move(emitter);
  state.coordinator = std::move(coordinator);
  state.random.seed(static_cast<std::minstd_rand::result_type>(settings.seed + first->id + 1));
  state.begin(std::move(*first));
  self->set_default_handler(caf::drop);
  self->send(stream_reader_actor(self), retry_atom::value, state.attempt);
  return {
      [self](task_atom, const reader_task_ptr& next) {
        self->state.begin(std::move(*next));
        self->state.open();
      },
      [self](retry_atom, std::uint64_t attempt) {
        if (attempt == self->state.attempt && !self->state.over) self->state.open();
      },
      [self](ready_atom, std::uint64_t attempt) {
        if (attempt == self->state.attempt && !self->state.over) self->state.run();
      },
      [self](ended_atom, std::uint64_t attempt, const stream_end_ptr& end) {
        if (attempt != self->state.attempt || self->state.over) return;
        self->state.pending_end = end;
        self->state.run();
      },
      [self](written_atom) { self->state.go_on(); },
      [self](rows_atom, std::uint64_t attempt, const rows_answer_ptr& rows) {
        if (attempt == self->state.attempt && !self->state.over) self->state.take_rows(*rows);
      },
      [self](positions_atom, std::uint64_t attempt, const std::string& shard, const positions_answer_ptr& positions) {
        if (attempt == self->state.attempt && !self->state.over)
          self->state.take_positions(shard_name(shard), *positions);
      },
      [self](watch_atom) { self->state.watch(); },
      [self](stop_atom) { self->state.stop(); },
  };
}

}  // namespace psource
