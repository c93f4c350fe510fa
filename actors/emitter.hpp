// The EMITTER: the one place that decides what standard output says, and in which order.
#pragma once

#include <caf/stateful_actor.hpp>
#include <caf/typed_event_based_actor.hpp>
#include <deque>
#include <memory>
#include <vector>

#include "actors/interfaces.hpp"
#include "sync/clock.hpp"
#include "sync/cursor_ledger.hpp"
#include "sync/output.hpp"
#include "sync/run_counters.hpp"

namespace psource {

/// What the emitter needs to know of a stream besides its ledger.
struct emitter_stream {
  ledger_stream ledger;
  bool incremental = true;
  /// Rows that a copy is expected to bring; told as an ESTIMATE when known.
  std::optional<std::uint64_t> row_estimate;
  /// Write a state before any record (docs/state.md, "When").
  bool state_first = false;
};

struct emitter_settings {
  checkpoint_policy checkpoints;
  redactor hide;
  /// LOG lines above this level are dropped.
  log_level level = log_level::info;
  std::chrono::milliseconds watch_interval = std::chrono::seconds(1);
  /// What planning has to say. Told before the first state: that no longer has the positions that a warning is about, so the next
  /// read would not warn again.
  std::vector<std::string> infos;
  std::vector<std::string> warnings;
};

struct emitter_state {
  static inline const char* name = "emitter";

  explicit emitter_state(emitter_actor::pointer self) : self(self) {}

  emitter_actor::pointer self;
  coordinator_actor coordinator;
  std::shared_ptr<output> out;
  std::shared_ptr<const sync_clock> clock;
  std::shared_ptr<run_counters> counters;
  emitter_settings settings;
  std::unique_ptr<cursor_ledger> ledger;

  struct stream_book {
    bool incremental = true;
    bool running_told = false;
    bool over = false;
  };
  std::vector<stream_book> streams;

  /// Handed to the output and not written yet, in order; `written` is empty for lines of the emitter's own.
  struct unwritten {
    std::uint64_t ticket = 0;
    batch_ptr written;
    returned_batches_ptr returned;
    stream_reader_actor reader;
  };
  std::deque<unwritten> pending;
  std::uint64_t next_ticket = 1;
  /// Nothing can be written any more.
  bool broken = false;
  bool finishing = false;
  bool told_large_states = false;
  /// Warnings that were told already.
  std::vector<std::string> told;

  /// Statuses STARTED, estimates, and the states that have to come first.
  void begin(const std::vector<emitter_stream>& planned);
  void take_batch(batch_ptr filled, returned_batches_ptr returned, const stream_reader_actor& reader);
  void written_up_to(std::uint64_t ticket);
  void output_broke(const failure_ptr& why);
  void judge(stream_index stream, bool complete);
  void write_due_states();
  void finish();
  void log(log_level level, const std::string& text);
  void trace(const failure& what);

 private:
  void write_line(std::string line);
  /// `what` is to be done once they are written; its ticket is given here.
  void write(output_bytes bytes, unwritten what);
  void give_back(unwritten&& what);
  void write_state(stream_index stream);
  void tell_running(stream_index stream);
  void quit_when_written();
  epoch_milliseconds wall() const;
  steady_time now() const;
};

/// Spawned once; quits after `finish` once everything is written (or nothing can be), and then tells the coordinator.
emitter_actor::behavior_type emitter(emitter_actor::stateful_pointer<emitter_state> self,
                                     coordinator_actor coordinator, std::shared_ptr<output> out,
                                     std::shared_ptr<const sync_clock> clock, std::shared_ptr<run_counters> counters,
                                     emitter_settings settings, std::vector<emitter_stream> streams);

}  // namespace psource
