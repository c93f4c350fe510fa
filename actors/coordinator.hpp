// The COORDINATOR: starts streams when their turn comes, judges their ends, and decides when the read is over.
#pragma once

#include <caf/stateful_actor.hpp>
#include <caf/typed_event_based_actor.hpp>
#include <functional>
#include <map>
#include <memory>
#include <optional>

#include "actors/emitter.hpp"
#include "actors/interfaces.hpp"
#include "actors/stream_reader.hpp"
#include "sync/run_counters.hpp"
#include "sync/schedule.hpp"
#include "sync/stream_width.hpp"

namespace psource {

/// How a read ended.
struct run_outcome {
  /// Every configured stream is complete.
  bool complete = false;
  /// The signal that ended it; 0 = none.
  int signal = 0;
  /// Standard output could not be written.
  std::optional<failure> output_problem;
};

/// Everything that the coordinator needs besides its plan. Shared with the actors that it spawns.
struct engine_parts {
  std::shared_ptr<vstream_client> client;
  /// May be empty: then readers cannot ask (docs/design.md, "Failure").
  std::shared_ptr<branch_questions> questions;
  std::shared_ptr<output> out;
  std::shared_ptr<const sync_clock> clock;
  std::shared_ptr<run_counters> counters;
  reader_settings readers;
  emitter_settings emitting;
  schedule_limits limits;
  width_settings width;
  /// Bytes that the batches of all streams may have together, where few run: larger ones than those of many.
  std::size_t large_batches = batch::all_of_few;
  /// What the plan was made from, without its state: tables whose shards are replaced are planned again from it. May be
  /// empty: then they fail.
  std::shared_ptr<const plan_input> planned_from;
  /// While copies go on for longer than this, tables that are done catch up again: binary logs are kept for days only.
  std::chrono::milliseconds refresh_interval = std::chrono::hours(1);
  /// Copies only start on shards that were seen serving within this time.
  std::chrono::milliseconds listing_interval = std::chrono::minutes(1);
  /// Told once the emitter exists, so that the output's listener can reach it.
  std::function<void(emitter_actor)> on_emitter;
  /// Told once the emitter exists, before anything is read. May be empty.
  std::function<void(emitter_actor)> on_start;
  /// Called once, at the end, on an actor's thread.
  std::function<void(run_outcome)> on_end;
};

/// Why the branch is being asked something. One inquiry at a time.
enum class inquiry : std::uint8_t {
  none,
  before_copies,  ///< Copies wait until it is known which shards serve.
  refresh,        ///< Tables that are done catch up to fresh stop positions.
  confirm,        ///< Copies are over: did their shards still serve?
  plan,           ///< Tables whose shards were replaced are planned again.
};

struct coordinator_state {
  static inline const char* name = "coordinator";

  explicit coordinator_state(coordinator_actor::pointer self) : self(self) {}

  coordinator_actor::pointer self;
  engine_parts parts;
  std::unique_ptr<sync_schedule> schedule;
  stream_width width{{}, 0};
  emitter_actor out;
  /// Those that read.
  std::map<task_id, stream_reader_actor> readers;
  /// Those whose streams have ended, until start_tasks() has a new one for them or lets them go.
  std::vector<stream_reader_actor> resting;
  run_outcome outcome;
  bool finishing = false;
  bool over = false;
  inquiry asking = inquiry::none;
  /// A look at the streams is under way.
  bool looking = false;
  steady_time last_peek;
  steady_time last_listing;
  /// The listing that the inquiry began with.
  std::map<keyspace_name, std::vector<shard_name>> serving;

  void begin(sync_plan& plan);
  void start_tasks();
  void reader_is_gone(const caf::actor_addr& who);
  void emitter_is_gone();
  void task_done(task_id id, tables_ptr tables);
  void task_failed(task_id id, const failure& why, tables_ptr tables);
  void task_stopped(task_id id);
  void output_broke(const failure& why);
  void stop(int signal);
  void all_written();
  void watch();
  void tick();
  void look_at_streams();
  void take_serving(const result<std::vector<shard_id>>& serving);
  void take_stops(const result<std::map<shard_id, gtid_set>>& stops);
  void list_serving();

 private:
  void stop_readers();
  void give_to_reader(scheduled_task&& task);
  void rest(task_id id);
  void look_again_after(std::chrono::milliseconds pause);
  void tell_results();
  void say(log_level level, const std::string& text);
  bool is_older(steady_time moment, std::chrono::milliseconds age) const;
  void begin_inquiry(inquiry why);
  void inquire_if_due();
  void ask_stops(std::vector<shard_id> shards, std::chrono::milliseconds limit);
  void ask_stops_of_plan();
  void planning_failed(const failure& why);
  void plan_unplanned(const std::map<shard_id, gtid_set>& stops);
  void finish_if_idle();
  void end();
};

coordinator_actor::behavior_type coordinator(coordinator_actor::stateful_pointer<coordinator_state> self,
                                             engine_parts parts, std::shared_ptr<sync_plan> plan);

}  // namespace psource
