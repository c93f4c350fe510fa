// The STREAM READER: drives one stream session after another, each over one VStream call, reconnecting from its last
// complete cursors.
#pragma once

#include <atomic>
#include <caf/stateful_actor.hpp>
#include <caf/typed_event_based_actor.hpp>
#include <chrono>
#include <memory>
#include <optional>
#include <random>
#include <vector>

#include "actors/interfaces.hpp"
#include "clients/vstream.hpp"
#include "sync/run_counters.hpp"
#include "sync/stream_session.hpp"

namespace psource {

/// Limits of a reader; the same for all.
struct reader_settings {
  /// Failures in a row without progress that are survived.
  unsigned max_retries = 3;
  /// Without progress for so long, while data was wanted, an attempt counts as failed.
  std::chrono::milliseconds timeout = std::chrono::seconds(300);
  /// Before the first event vtgate may look for a tablet for 90 s.
  std::chrono::milliseconds first_event_timeout = std::chrono::seconds(100);
  /// Not even a heartbeat for so long: the connection is dead, whatever `timeout` says; or a single response takes longer.
  std::chrono::milliseconds silence = std::chrono::seconds(60);
  /// Nothing but heartbeats for so long from a position: ask the shard whether it still has the binary logs.
  std::chrono::milliseconds suspicion = std::chrono::seconds(10);
  /// How often the reader looks at its clock.
  std::chrono::milliseconds watch_interval = std::chrono::seconds(5);
  /// Seeds the jitter of the back-off.
  std::uint64_t seed = 0;
};

/// One stream to read.
struct reader_task {
  task_id id = 0;
  session_spec spec;
  std::shared_ptr<stream_progress> figures;
  /// Bytes of its batches.
  std::size_t batch_size = batch::capacity;
};

struct stream_reader_state {
  static inline const char* name = "stream_reader";

  explicit stream_reader_state(stream_reader_actor::pointer self) : self(self) {}

  /// The actor that this state belongs to.
  stream_reader_actor::pointer self;
  task_id id = 0;
  std::unique_ptr<stream_session> session;
  std::shared_ptr<const sync_clock> clock;
  std::shared_ptr<vstream_client> client;
  /// May be empty: then nothing can be asked.
  std::shared_ptr<branch_questions> questions;
  reader_settings settings;
  emitter_actor emitter;
  coordinator_actor coordinator;
  std::shared_ptr<stream_progress> figures;
  std::size_t batch_size = batch::capacity;

  /// The running call; none while waiting for a retry.
  std::unique_ptr<vstream_call> call;
  /// False once the running call was dropped: nobody has to be woken for what it still has to say.
  std::shared_ptr<std::atomic<bool>> listening;
  /// Counts attempts, so that what an earlier call still has to say is not mistaken for this one's.
  std::uint64_t attempt = 0;
  /// Failures since a cursor moved.
  unsigned failures = 0;
  /// reader_settings::silence, twice as long after each attempt that it ended without progress, up to the timeout.
  std::chrono::milliseconds silence{0};
  std::uint64_t advances_at_failure = 0;

  /// Buffers that are free; at most `window` exist.
  std::vector<batch_ptr> free;
  /// Where the emitter puts what is written.
  returned_batches_ptr returned = std::make_shared<returned_batches>();
  /// The batch that is being filled.
  batch_ptr current;
  /// Buffers handed over and not taken back; those that are written may lie in `returned`.
  std::size_t in_flight = 0;
  /// An end that came while responses were still to be read.
  stream_end_ptr pending_end;
  /// Waiting for rows that were asked for.
  bool looking_up = false;
  /// When the shard was last asked in this attempt why it is silent.
  std::optional<std::chrono::steady_clock::time_point> suspected_at;
  /// The session's progress then.
  std::uint64_t progress_at_question = 0;
  /// Questions of this attempt without an answer yet.
  std::size_t unanswered = 0;
  /// What an answer told, where that is no proof yet.
  std::optional<failure> suspicion;
  /// The session's progress when this attempt began.
  std::uint64_t progress_at_open = 0;
  /// The session's advances when this attempt began.
  std::uint64_t advances_at_open = 0;
  /// Waiting for the emitter to give a buffer back: the server is not to blame for the silence.
  bool blocked = false;
  /// Nothing more is to be read for this task.
  bool over = false;
  /// Over, and waiting for the last batches to be written before the coordinator is told.
  bool concluding = false;
  /// Why it gave up; empty = it reached its end.
  failure_ptr verdict;

  // For the watch: when the session last made progress, and when anything came.
  std::chrono::steady_clock::time_point progress_time;
  std::chrono::steady_clock::time_point heard_time;
  std::uint64_t progress_seen = 0;
  std::minstd_rand random;

  static constexpr std::size_t window = 2;

  /// Takes up a task, its call not opened yet. Only at the start, or when the last one was told.
  void begin(reader_task&& task);
  /// Opens the call for the current attempt.
  void open();
  /// Reads, decodes and hands over until input or buffers run out.
  void run();
  /// A batch has come back that was waited for.
  void go_on();
  void take_rows(result<looked_up_rows>& rows);
  void take_positions(const shard_name& shard, const result<server_positions>& positions);
  void end_attempt(const stream_end& end);
  void attempt_failed(const failure& why);
  void watch();
  void stop();

 private:
  void hand_over();
  void look_up();
  bool is_suspect(std::chrono::steady_clock::time_point time) const;
  void suspect();
  bool reject_position(const shard_name& shard, const server_positions& positions);
  void fail_or_suspect(const failure& why);
  bool in_flight_at_most(std::size_t count);
  bool have_buffer();
  void drop_call();
  void succeed();
  void give_up(const failure& why);
  void conclude();
  void tell_verdict();
  std::chrono::steady_clock::time_point now() const;
};

/// Spawned by the coordinator with its first task. Tells the coordinator `done`, `failed` or `stopped` for each task, exactly
/// one of them, once; then waits for the next one, or to be stopped. Quits when it is stopped.
stream_reader_actor::behavior_type stream_reader(stream_reader_actor::stateful_pointer<stream_reader_state> self,
                                                 reader_task_ptr first, std::shared_ptr<const sync_clock> clock,
                                                 std::shared_ptr<vstream_client> client,
                                                 std::shared_ptr<branch_questions> questions, reader_settings settings,
                                                 emitter_actor emitter, coordinator_actor coordinator);

}  // namespace psource
