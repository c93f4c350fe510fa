// The engine as the commands see it: runs a plan to its end. No CAF header is needed to use it.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "clients/vstream.hpp"
#include "protocol/airbyte/messages.hpp"
#include "sync/branch_questions.hpp"
#include "sync/classify.hpp"
#include "sync/clock.hpp"
#include "sync/cursor_ledger.hpp"
#include "sync/output.hpp"
#include "sync/planner.hpp"

namespace psource {

/// Where progress reports go.
enum class progress_mode : std::uint8_t { none, log_messages, terminal };

struct engine_options {
  unsigned max_retries = 3;
  std::chrono::milliseconds timeout = std::chrono::seconds(300);
  std::size_t max_streams = 64;
  std::size_t max_copies_per_shard = 2;
  lost_position_behavior on_lost_position = lost_position_behavior::fail_sync;
  checkpoint_policy checkpoints;
  log_level level = log_level::info;
  redactor hide;
  progress_mode progress = progress_mode::log_messages;
  /// Worker threads of the actor system, at least 1.
  unsigned workers = 2;
};

struct engine_result {
  /// Every configured stream is complete.
  bool complete = false;
  /// The signal that ended the run; 0 = none.
  int signal = 0;
  std::optional<failure> output_problem;
};

/// Runs one read. Create it, hand its listener to the output, run it once.
class engine {
 public:
  explicit engine(engine_options options);
  ~engine();

  /// What the output has to tell. Valid for the engine's life.
  std::shared_ptr<output_listener> listener();

  /// Writes a LOG message while the engine runs, and drops it before and afterwards. May be kept for longer than the
  /// engine; any thread.
  std::function<void(log_level, std::string)> logger();

  /// Reads until everything planned is delivered or the run was stopped; blocks. After it returned no call of
  /// `client` is open any more as far as the engine is concerned, and everything handed to `out` is written or lost.
  /// `planned_from` is what `plan` was made from; its state is not needed any more.
  engine_result run(sync_plan plan, std::shared_ptr<const plan_input> planned_from, std::shared_ptr<vstream_client> client,
                    std::shared_ptr<branch_questions> questions, std::shared_ptr<output> out,
                    std::shared_ptr<const sync_clock> clock);

  /// Asks the run to end in good order because of a signal. Any thread, any time.
  void stop(int signal);

 private:
  struct impl;
  std::unique_ptr<impl> impl_;
};

}  // namespace psource
