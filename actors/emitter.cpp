// Implementation of emitter.hpp.
#include "actors/emitter.hpp"

#include <algorithm>
#include <caf/actor_clock.hpp>
#include <caf/actor_system.hpp>
#include <utility>

#include "sync/test_faults.hpp"

namespace psource {

namespace {
// The platform posts all recent states in one request of at most 10 MiB.
constexpr std::size_t large_states = 5'000'000;
}  // namespace

steady_time emitter_state::now() const { return self->home_system().clock().now(); }
epoch_milliseconds emitter_state::wall() const { return epoch_milliseconds(clock->wall_milliseconds()); }

void emitter_state::write_line(std::string line) {
  if (broken) return;
  write(output_bytes(std::make_shared<const std::string>(std::move(line))), {});
}

void emitter_state::write(output_bytes bytes, unwritten what) {
  const std::uint64_t ticket = what.ticket = next_ticket++;
  pending.push_back(std::move(what));
  if (out->write(std::move(bytes), ticket)) written_up_to(ticket);
}

void emitter_state::give_back(unwritten&& what) {
  what.written->clear();
  if (what.returned->put(std::move(what.written))) self->send(what.reader, written_atom::value);
}

void emitter_state::write_state(stream_index stream) {
  write_line(ledger->take_state(stream, now()));
  if (ledger->newest_states_bytes() > large_states && !std::exchange(told_large_states, true))
    log(log_level::warn,
        "The states of this connection have more than 5 MB together; the platform refuses more than 10 MiB. Split the "
        "tables over several connections.");
}

void emitter_state::tell_running(stream_index stream) {
  if (std::exchange(streams[stream].running_told, true)) return;
  write_line(stream_status_line(ledger->id(stream), stream_status::running, wall()));
}

void emitter_state::begin(const std::vector<emitter_stream>& planned) {
  std::vector<ledger_stream> ledgers;
  for (const auto& stream : planned) {
    ledgers.push_back(stream.ledger);
    streams.push_back({stream.incremental, false, false});
  }
  ledger = std::make_unique<cursor_ledger>(std::move(ledgers), settings.checkpoints, now());
  for (stream_index i = 0; i < planned.size(); ++i) {
    write_line(stream_status_line(ledger->id(i), stream_status::started, wall()));
    if (planned[i].row_estimate)
      write_line(estimate_line(ledger->id(i), *planned[i].row_estimate, wall()));
  }
  for (const auto& text : settings.infos) log(log_level::info, text);
  for (const auto& text : settings.warnings) log(log_level::warn, text);
  for (stream_index i = 0; i < planned.size(); ++i)
    if (planned[i].state_first) write_state(i);
}

void emitter_state::take_batch(batch_ptr filled, returned_batches_ptr returned, const stream_reader_actor& reader) {
  for (const auto& warning : filled->warnings) {
    if (std::find(told.begin(), told.end(), warning) != told.end()) continue;
    told.push_back(warning);
    log(log_level::warn, warning);
  }
  for (const auto& count : filled->counts) {
    if (ledger->begin_records(count.stream) && !broken) write_state(count.stream);
    tell_running(count.stream);
    counters->records.fetch_add(count.records, std::memory_order_relaxed);
  }
  counters->bytes.fetch_add(filled->lines.size(), std::memory_order_relaxed);
  ledger->book(*filled);
  if (broken || filled->lines.empty()) {
    give_back({0, std::move(filled), std::move(returned), reader});
    return;
  }
  if (test_faults::is(test_faults::fault::state_before_records))
    for (const auto& count : filled->counts) write_state(count.stream);
  // The lines stay inside the batch; the output shares its ownership.
  output_bytes lines(filled, filled->lines.view());
  counters->unwritten.fetch_add(1, std::memory_order_relaxed);
  write(std::move(lines), {0, std::move(filled), std::move(returned), reader});
}

void emitter_state::written_up_to(std::uint64_t ticket) {
  while (!pending.empty() && pending.front().ticket <= ticket) {
    auto entry = std::move(pending.front());
    pending.pop_front();
    if (entry.written) {
      counters->unwritten.fetch_sub(1, std::memory_order_relaxed);
      give_back(std::move(entry));
    }
  }
  quit_when_written();
}

void emitter_state::output_broke(const failure_ptr& why) {
  if (std::exchange(broken, true)) return;
  pending.clear();
  self->send(coordinator, broken_atom::value, why);
  quit_when_written();
}

void emitter_state::judge(stream_index stream, bool complete) {
  if (std::exchange(streams[stream].over, true)) return;
  tell_running(stream);
  if (complete) ledger->finish_full_refresh(stream);
  // A stream that never had a cursor has no state to give back: {} would wipe what the platform holds.
  if (complete || !ledger->cursors(stream).empty()) write_state(stream);
  write_line(stream_status_line(ledger->id(stream), complete ? stream_status::complete : stream_status::incomplete,
                                wall()));
  counters->tables_done.fetch_add(1, std::memory_order_relaxed);
  log(log_level::info, ledger->id(stream).to_string() + (complete ? " is complete: " : " is INCOMPLETE: ") +
                           std::to_string(ledger->total_records(stream)) + " records.");
}

void emitter_state::write_due_states() {
  self->delayed_send(emitter_actor(self), settings.watch_interval, watch_atom::value);
  for (const auto stream : ledger->due(now()))
    if (!streams[stream].over) write_state(stream);
}

void emitter_state::finish() {
  for (stream_index i = 0; i < streams.size(); ++i)
    if (!streams[i].over) judge(i, false);
  finishing = true;
  quit_when_written();
}

void emitter_state::quit_when_written() {
  if (!finishing || (!broken && !pending.empty())) return;
  finishing = false;
  self->send(coordinator, finish_atom::value);
  self->quit();
}

void emitter_state::log(log_level level, const std::string& text) {
  if (level > settings.level) return;
  write_line(log_line(level, text, settings.hide));
}

void emitter_state::trace(const failure& what) { write_line(trace_error_line(what, wall(), settings.hide)); }

emitter_actor::behavior_type emitter(emitter_actor::stateful_pointer<emitter_state> self,
                                     coordinator_actor coordinator, std::shared_ptr<output> out,
                                     std::shared_ptr<const sync_clock> clock, std::shared_ptr<run_counters> counters,
                                     emitter_settings settings, std::vector<emitter_stream> streams) {
  auto& state = self->state;
  state.coordinator = std::move(coordinator);
  state.out = std::move(out);
  state.clock = std::move(clock);
  state.counters = std::move(counters);
  state.settings = std::move(settings);
  self->set_default_handler(caf::drop);
  state.begin(streams);
  self->delayed_send(emitter_actor(self), state.settings.watch_interval, watch_atom::value);
  return {
      [self](batch_atom, batch_ptr& filled, returned_batches_ptr& returned, const stream_reader_actor& reader) {
        self->state.take_batch(std::move(filled), std::move(returned), reader);
      },
      [self](written_atom, std::uint64_t ticket) { self->state.written_up_to(ticket); },
      [self](broken_atom, const failure_ptr& why) { self->state.output_broke(why); },
      [self](verdict_atom, stream_index stream, bool complete) { self->state.judge(stream, complete); },
      [self](plan_atom, stream_index stream, const cursors_ptr& cursors) { self->state.ledger->go_back(stream, *cursors); },
      [self](error_atom, const failure_ptr& what) { self->state.trace(*what); },
      [self](log_atom, std::uint8_t level, const std::string& text) {
        self->state.log(static_cast<log_level>(level), text);
      },
      [self](watch_atom) { self->state.write_due_states(); },
      [self](finish_atom) { self->state.finish(); },
  };
}

}  // namespace psource
