// One read of the real engine (coordinator, readers, emitter, ledger, planner, sessions) on a fake clock and
// schedule.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "actors/coordinator.hpp"
#include "protocol/airbyte/state_input.hpp"
#include "sync/planner.hpp"
#include "tests/simulation/branch_model.hpp"
#include "tests/simulation/random.hpp"
#include "tests/simulation/scripted_output.hpp"
#include "tests/simulation/stream_server.hpp"

namespace psource::simulation {

/// The simulated time: microseconds since 1970, never at a whole second (so that a commit time, which is one,
/// tells a change from a copied row).
struct simulated_time {
  std::int64_t now_us = 1'700'000'000'000'137;
  std::int64_t seconds() const { return now_us / 1'000'000; }
};

/// What goes wrong, and how often: per mille of the driver's steps unless it says otherwise.
struct chaos {
  // Of the streams.
  unsigned cut = 0;
  unsigned restart = 0;
  unsigned mute = 0;
  unsigned heartbeats_only = 0;
  /// A server before v23: its events do not name their transaction.
  bool old_server = false;
  /// Percent of calls that never say COPY_COMPLETED.
  unsigned hide_copy_completed = 0;
  /// Percent of calls that end before their first event.
  unsigned refuse = 0;
  /// Streams are cut, restarted, muted or refused at most so often.
  unsigned faults = 0;
  // Of the database.
  unsigned write = 0;
  unsigned writes = 0;
  std::uint32_t padding = 0;
  /// Schema changes, and how many at most.
  unsigned alter = 0;
  unsigned alters = 0;
  unsigned fail_over = 0;
  unsigned purge = 0;
  unsigned reshard = 0;
  /// Reshards at most.
  unsigned reshards = 0;
  /// Also while tables are copied.
  bool reshard_copies = false;
  // Of the MySQL port: there is none; percent of questions that fail.
  bool no_questions = false;
  unsigned question_fails = 0;
  // Of the output: percent of the steps in which it may write at all.
  unsigned output_speed = 100;
  std::size_t output_bytes = 1 << 20;
  /// See scripted_output.
  std::optional<std::size_t> output_at_once;
  std::optional<std::size_t> break_at;
  bool disk_full = false;
  // Of the process.
  std::optional<std::uint64_t> kill_at_step;
  std::optional<std::uint64_t> stop_at_step;
};

struct run_settings {
  std::vector<configured_stream> streams;
  source_config config;
  /// What is handed to --state.
  std::string state_text;
  /// While copies go on for longer, tables that are done catch up again.
  std::chrono::milliseconds refresh_interval = std::chrono::hours(1);
  /// So many streams run at once before it is known how fast they are; not set = max_streams, always.
  std::optional<std::size_t> streams_at_least;
  /// What batches that are larger, because few streams run, may take together.
  std::size_t large_batches = 0;
  /// How far calls read ahead: as the real transport does.
  transport_limits transport;
  /// Replicas: the peek sees more than the tablets that stream.
  bool lagging = false;
  /// With lagging: the tablet that was peeked at has transactions of its own, which the one that streams never sends.
  bool errant = false;
  /// Primaries: the peek sees transactions that the next primary never gets.
  bool lost = false;
  chaos trouble;
  /// Sees each call when it is opened; may end it.
  std::function<void(class engine_run&, served_call&)> on_call;
  /// Looks at the running engine after each step; may act.
  std::function<void(class engine_run&)> on_step;
  /// Changes the plan's input before planning.
  std::function<void(plan_input&)> on_plan;
};

/// The MySQL port in a simulation: answers from the branch model, when the driver says so.
class scripted_questions final : public branch_questions {
 public:
  explicit scripted_questions(branch_model& branch) : branch_(branch) {}

  void ask_positions(const shard_id& shard, tablet_type tablet,
                     std::function<void(result<server_positions>)> answer) override;
  void ask_serving(std::function<void(result<std::vector<shard_id>>)> answer) override;
  void ask_stops(std::vector<shard_id> shards, std::chrono::milliseconds limit,
                 std::function<void(result<std::map<shard_id, gtid_set>>)> answer) override;
  void ask_rows(row_lookup lookup, std::function<void(result<looked_up_rows>)> answer) override;

  bool waiting() const { return !pending_.empty(); }
  /// Answers the oldest question, with a failure if told so.
  void answer(bool fails);
  /// Forgets the questions of a process that is dead.
  void close() { pending_.clear(); }

  std::uint64_t asked = 0;
  /// Told of each position that an answer gives.
  std::function<void(const std::string& shard, const std::string& gtid)> on_settled;

 private:
  branch_model& branch_;
  std::deque<std::function<void(bool)>> pending_;
};

/// A position that the server has told of, and whose transaction was complete.
using settled_positions = std::set<std::pair<std::string, std::string>>;

struct run_report {
  /// The plan itself was refused.
  std::optional<failure> plan_failure;
  std::optional<run_outcome> outcome;
  bool killed = false;
  bool stopped = false;
  bool resharded = false;
  /// A question had no answer, or there was nobody to ask.
  bool unanswered = false;
  std::uint64_t steps = 0;
  /// Of streams, of which there is a limited number in a run.
  unsigned faults = 0;
  /// Everything that went wrong, by kind, in words.
  std::map<std::string, std::uint64_t> troubles;
  std::string transcript;
  std::vector<emitted_bytes> emitted;
  std::int64_t started_us = 0;
  std::int64_t ended_us = 0;
  /// Every call, in order.
  std::vector<opened_call> calls;
  std::map<shard_id, gtid_set> stops;
  /// Shards that served at planning.
  std::vector<std::string> serving;
  /// Copies (shard, table) that started over: they end at the position where the first attempt began.
  std::set<std::pair<std::string, std::size_t>> copies_restarted;
  /// What was seen while it ran.
  std::vector<std::string> violations;
  /// At one time: records that were handed over and not written, and responses that were sent and not used up.
  std::size_t most_queued_bytes = 0;
  std::size_t most_response_bytes = 0;
  /// Both together.
  std::size_t most_held_bytes = 0;
  /// With its overhead.
  std::size_t largest_response = 0;
};

/// What may be in flight at one time: the bound of docs/design.md, section 2, without its base: what all calls read ahead (4 MiB), what
/// batches may be larger where few streams run (4 MiB), and streams × (2 × 128 KiB + largest response). The second response that is allowed to
/// a stream there is on its way then, in gRPC's buffers.
struct memory_bound {
  std::size_t response_bytes = 0;
  std::size_t record_bytes = 0;

  std::size_t bytes() const { return response_bytes + record_bytes; }
};

/// `largest_response` with its overhead; `largest_record`: a record that is larger than a batch makes its batch as large. Pure.
memory_bound bound_of(const transport_limits& transport, std::size_t large_batches, std::size_t streams,
                      std::size_t largest_response, std::size_t largest_record);

class engine_run {
 public:
  engine_run(branch_model& branch, simulated_time& time, settled_positions& settled, chance_source& chance,
             run_settings settings);
  ~engine_run();

  /// Plans and runs until the engine has ended, was killed, or does not end.
  run_report run();

  // For scenarios.
  branch_model& branch() { return branch_; }
  stream_server& server() { return *server_; }
  scripted_output& out() { return *out_; }
  simulated_time& time() { return time_; }
  std::uint64_t step() const { return report_.steps; }
  /// Calls opened so far.
  std::size_t calls() const { return report_.calls.size(); }
  std::int64_t elapsed_seconds() const { return (time_.now_us - report_.started_us) / 1'000'000; }
  void stop(int signal);
  /// All other actors have their turns, also in the middle of one's own (served_call::on_take).
  void run_ready_actors();
  /// Nothing is written while true.
  bool output_stands_still = false;
  /// Streams send nothing while true.
  bool server_stands_still = false;
  /// Events in a response; 0 = by chance.
  std::size_t events_per_response = 0;
  void kill() { kill_now_ = true; }

 private:
  struct machine;

  bool one_step();
  void answer_question();
  bool serve_one();
  void trouble_a_call();
  void write();
  bool advance();
  // That what is in flight keeps to its bound_of().
  void check_memory();

  branch_model& branch_;
  simulated_time& time_;
  settled_positions& settled_;
  chance_source& chance_;
  run_settings settings_;
  run_report report_;
  std::unique_ptr<machine> machine_;
  std::shared_ptr<stream_server> server_;
  std::shared_ptr<scripted_questions> questions_;
  std::shared_ptr<scripted_output> out_;
  unsigned writes_ = 0;
  unsigned alters_ = 0;
  unsigned reshards_ = 0;
  // How often each shard that served at planning had been replaced by then.
  std::map<std::string, std::size_t> journals_;
  bool kill_now_ = false;
  bool copies_planned_ = false;
};

/// The definition of a model's table with these columns as discovery would find it.
table_definition definition_of(const model_table& table, const table_shape& shape);
/// What a catalog has of a table with these columns.
std::vector<declared_property> properties_of(const table_shape& shape);
/// The stream of a model's table, with the columns that it was made with, in a configured catalog.
configured_stream configured(const model_table& table, sync_mode mode = sync_mode::incremental);

}  // namespace psource::simulation
