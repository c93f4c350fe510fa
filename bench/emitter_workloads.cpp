// The emitter: a batch's way from its message to the output and back to its reader, without decoding and without writing.
#include <caf/actor_system.hpp>
#include <caf/actor_system_config.hpp>
#include <caf/scheduler/test_coordinator.hpp>
#include <memory>

#include "actors/emitter.hpp"
#include "bench/fixed_clock.hpp"
#include "bench/workloads.hpp"

namespace psource::bench {
namespace {

/// Takes everything at once, as /dev/null does.
struct null_output final : output {
  bool write(output_bytes bytes, std::uint64_t) override {
    taken += bytes.size();
    return true;
  }
  std::size_t taken = 0;
};

/// An emitter on the calling thread: messages wait until they are run.
class lone_emitter {
 public:
  explicit lone_emitter(std::size_t streams) : system_(config_.use()), jobs_(scheduler_of(system_)) {
    std::vector<emitter_stream> planned(streams);
    for (std::size_t i = 0; i < streams; ++i) {
      planned[i].ledger.id = {keyspace_name("bench"), table_name("sbtest" + std::to_string(i + 1))};
      planned[i].ledger.cursors[shard_name("-")] = {};
    }
    actor_ = system_.spawn(emitter, coordinator_actor(), out_, std::make_shared<fixed_clock>(), std::make_shared<run_counters>(),
                           emitter_settings(), std::move(planned));
    jobs_.run();
  }
  ~lone_emitter() {
    caf::anon_send_exit(actor_, caf::exit_reason::kill);
    jobs_.run();
    jobs_.clock().cancel_all();
  }

  /// A reader's next batch: written, booked and back again.
  void take(stream_index stream, std::int64_t number) {
    if (free_.empty()) free_.push_back(std::make_shared<batch>());
    auto filled = std::move(free_.back());
    free_.pop_back();
    filled->lines.append("{\"type\":\"RECORD\"}\n");
    filled->count(stream, 300);
    filled->moves.push_back({stream, shard_name("-"), {"MySQL56/4a5687a2-e851-1de6-b82e-3773aeb608b7:1-9", {}, number, {}}});
    caf::anon_send(actor_, batch_atom::value, std::move(filled), returned_, stream_reader_actor());
    jobs_.run();
    returned_->take(free_);
  }

  std::size_t taken() const { return out_->taken; }

 private:
  struct testing_config : caf::actor_system_config {
    testing_config& use() {
      set("scheduler.policy", caf::atom("testing"));
      return *this;
    }
  };
  static caf::scheduler::test_coordinator& scheduler_of(caf::actor_system& system) {
    return dynamic_cast<caf::scheduler::test_coordinator&>(system.scheduler());
  }

  testing_config config_;
  caf::actor_system system_;
  caf::scheduler::test_coordinator& jobs_;
  std::shared_ptr<null_output> out_ = std::make_shared<null_output>();
  returned_batches_ptr returned_ = std::make_shared<returned_batches>();
  std::vector<batch_ptr> free_;
  emitter_actor actor_;
};

workload emitting(std::string name, std::size_t streams, std::size_t batches) {
  const auto emitting = std::make_shared<lone_emitter>(streams);
  const auto number = std::make_shared<std::int64_t>(0);
  const auto run = [=] {
    for (std::size_t i = 0; i < batches; ++i) emitting->take(i % streams, ++*number);
    return emitting->taken();
  };
  return {std::move(name), batches, 0, run, "batch"};
}

}  // namespace

std::vector<workload> emitter_workloads() {
  return {emitting("batches_of_1_stream", 1, 1000), emitting("batches_of_64_streams", 64, 1000)};
}

}  // namespace psource::bench
