// Implementation of engine.hpp: the actor system around the coordinator.
#include "actors/engine.hpp"

#include <caf/actor_ostream.hpp>
#include <caf/actor_system.hpp>
#include <caf/actor_system_config.hpp>
#include <caf/scheduler/coordinator.hpp>
#include <caf/send.hpp>
#include <condition_variable>
#include <mutex>
#include <random>

#include "actors/coordinator.hpp"
#include "actors/progress.hpp"
#include "actors/scheduling.hpp"

namespace psource {

namespace {

// Tells the emitter what the output's thread has to say. The emitter comes after the output, hence the late binding.
class emitter_listener final : public output_listener {
 public:
  void bind(emitter_actor target) {
    std::lock_guard<std::mutex> guard(mutex_);
    target_ = std::move(target);
    // The emitter may have written before it was known here.
    if (last_ticket_ != 0) caf::anon_send(target_, written_atom::value, last_ticket_);
    if (failed_) caf::anon_send(target_, broken_atom::value, failed_);
  }
  void release() {
    std::lock_guard<std::mutex> guard(mutex_);
    target_ = nullptr;
  }
  void log(log_level level, std::string text) {
    std::lock_guard<std::mutex> guard(mutex_);
    if (target_) caf::anon_send(target_, log_atom::value, static_cast<std::uint8_t>(level), std::move(text));
  }
  void on_written(std::uint64_t ticket) override {
    std::lock_guard<std::mutex> guard(mutex_);
    last_ticket_ = ticket;
    if (target_) caf::anon_send(target_, written_atom::value, ticket);
  }
  void on_failed(failure what) override {
    std::lock_guard<std::mutex> guard(mutex_);
    failed_ = std::make_shared<const failure>(std::move(what));
    if (target_) caf::anon_send(target_, broken_atom::value, failed_);
  }

 private:
  std::mutex mutex_;
  emitter_actor target_;
  std::uint64_t last_ticket_ = 0;
  failure_ptr failed_;
};

}  // namespace

struct engine::impl {
  engine_options options;
  std::shared_ptr<emitter_listener> listener = std::make_shared<emitter_listener>();
  std::mutex mutex;
  std::condition_variable changed;
  coordinator_actor coordinator;
  int early_signal = 0;
  std::optional<run_outcome> outcome;
};

engine::engine(engine_options options) : impl_(std::make_unique<impl>()) { impl_->options = std::move(options); }
engine::~engine() = default;

std::shared_ptr<output_listener> engine::listener() { return impl_->listener; }

std::function<void(log_level, std::string)> engine::logger() {
  return [listener = impl_->listener](log_level level, std::string text) { listener->log(level, std::move(text)); };
}

void engine::stop(int signal) {
  std::lock_guard<std::mutex> guard(impl_->mutex);
  impl_->early_signal = signal;
  if (impl_->coordinator) caf::anon_send(impl_->coordinator, stop_atom::value, signal);
}

engine_result engine::run(sync_plan plan, std::shared_ptr<const plan_input> planned_from,
                          std::shared_ptr<vstream_client> client, std::shared_ptr<branch_questions> questions,
                          std::shared_ptr<output> out, std::shared_ptr<const sync_clock> clock) {
  caf::actor_system_config config;
  // In place of CAF's own policies: `stealing` polls.
  config.load<caf::scheduler::coordinator<unlocked_sharing<>>>();
  config.set("scheduler.max-threads", static_cast<std::size_t>(impl_->options.workers));
  config.set("scheduler.max-throughput", std::size_t{64});
  caf::actor_system system(config);
  // CAF's default handlers print to standard output, which belongs to Airbyte's messages. Appending: standard error may be a file,
  // and the same one as standard output.
  caf::actor_ostream::redirect_all(system, "/dev/stderr", caf::actor_ostream::append);

  auto counters = std::make_shared<run_counters>();
  engine_parts parts;
  parts.client = std::move(client);
  parts.planned_from = std::move(planned_from);
  parts.questions = std::move(questions);
  parts.out = std::move(out);
  parts.clock = clock;
  parts.counters = counters;
  parts.readers.max_retries = impl_->options.max_retries;
  parts.readers.timeout = impl_->options.timeout;
  parts.readers.seed = std::random_device{}();
  parts.emitting.checkpoints = impl_->options.checkpoints;
  parts.emitting.hide = impl_->options.hide;
  parts.emitting.level = impl_->options.level;
  parts.limits = {impl_->options.max_streams, impl_->options.max_copies_per_shard, impl_->options.on_lost_position};
  parts.width = width_for(impl_->options.workers);
  parts.on_emitter = [this](emitter_actor emitter) { impl_->listener->bind(std::move(emitter)); };
  parts.on_end = [this](run_outcome outcome) {
    std::lock_guard<std::mutex> guard(impl_->mutex);
    impl_->outcome = std::move(outcome);
    impl_->changed.notify_all();
  };
  progress_actor reporter;
  parts.on_start = [&, counters](const emitter_actor& emitter) {
    if (impl_->options.progress == progress_mode::none) return;
    const bool terminal = impl_->options.progress == progress_mode::terminal;
    std::function<void(const std::string&)> tell;
    if (terminal)
      tell = [](const std::string& text) { std::fprintf(stderr, "\r\033[K%s", text.c_str()); };
    else
      tell = [emitter](const std::string& text) {
        caf::anon_send(emitter, log_atom::value, static_cast<std::uint8_t>(log_level::info), text);
      };
    reporter = system.spawn(progress, counters, clock,
                            terminal ? std::chrono::milliseconds(1000) : std::chrono::milliseconds(60000),
                            std::move(tell));
  };
  auto boss = system.spawn(coordinator, std::move(parts), std::make_shared<sync_plan>(std::move(plan)));
  // A fault in the coordinator must not leave the run without an end. The other actors end with it.
  caf::actor_cast<caf::actor>(boss)->attach_functor([this] {
    std::lock_guard<std::mutex> guard(impl_->mutex);
    if (impl_->outcome) return;
    impl_->outcome.emplace();
    impl_->outcome->output_problem =
        failure{error_code::internal, "The coordinator ended unexpectedly.", {}, std::nullopt};
    impl_->changed.notify_all();
  });
  run_outcome outcome;
  {
    std::unique_lock<std::mutex> lock(impl_->mutex);
    impl_->coordinator = boss;
    caf::anon_send(boss, start_atom::value);
    if (impl_->early_signal != 0) caf::anon_send(boss, stop_atom::value, impl_->early_signal);
    impl_->changed.wait(lock, [this] { return impl_->outcome.has_value(); });
    outcome = *impl_->outcome;
    impl_->coordinator = nullptr;
  }
  if (reporter) caf::anon_send(reporter, stop_atom::value);
  if (impl_->options.progress == progress_mode::terminal) std::fprintf(stderr, "\r\033[K");
  impl_->listener->release();
  return {outcome.complete, outcome.signal, outcome.output_problem};
}

}  // namespace psource
