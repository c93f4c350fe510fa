// Actors that die of a fault of this program: whichever it is, the read ends, and says so.
#include <doctest/doctest.h>
#include <unistd.h>

#include <caf/actor_ostream.hpp>
#include <caf/actor_system.hpp>
#include <caf/actor_system_config.hpp>
#include <caf/send.hpp>
#include <condition_variable>
#include <cstdio>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "actors/coordinator.hpp"
#include "actors/engine.hpp"
#include "tests/actors/doubles.hpp"

using namespace psource;
using namespace psource::testing;

namespace {

constexpr auto long_ago = std::chrono::minutes(2);

// What hangs would hang for ever: the actor system waits for its actors.
class watchdog {
 public:
  watchdog() : thread_([this] { watch(); }) {}
  ~watchdog() {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      over_ = true;
    }
    changed_.notify_all();
    thread_.join();
  }

 private:
  void watch() {
    std::unique_lock<std::mutex> lock(mutex_);
    if (changed_.wait_for(lock, std::chrono::seconds(60), [this] { return over_; })) return;
    std::fputs("the actors do not end\n", stderr);
    _exit(1);
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  bool over_ = false;
  std::thread thread_;
};

// One table to be copied; or one to be caught up, and another one to be copied.
sync_plan plan_of(bool with_catch_up) {
  const stream_id ids[] = {{keyspace_name("ks"), table_name("t")}, {keyspace_name("ks"), table_name("u")}};
  const shard_name shard("-");
  sync_plan plan;
  plan.streams.resize(with_catch_up ? 2 : 1);
  for (stream_index i = 0; i < plan.streams.size(); ++i) {
    plan.streams[i].id = plan.streams[i].ledger.id = ids[i];
    auto shape = std::make_shared<stream_shape>();
    shape->id = ids[i];
    session_table table;
    table.stream = i;
    table.shape = std::move(shape);
    table.cursors[shard] = {};
    session_spec spec;
    spec.kind = i == 0 ? stream_kind::copy : stream_kind::catch_up;
    if (i == 1) {
      table.cursors[shard].position = "MySQL56/6ba72fa1-0000-11ee-8000-000000000001:1-10";
      spec.stops[shard] = *gtid_set::parse_position("MySQL56/6ba72fa1-0000-11ee-8000-000000000001:1-20");
    }
    spec.keyspace = ids[i].keyspace;
    spec.shards = {shard};
    spec.tables = {std::move(table)};
    (i == 0 ? plan.copies : plan.catch_ups).push_back(std::move(spec));
  }
  return plan;
}

struct scene {
  watchdog dog;
  std::shared_ptr<questions> asked = std::make_shared<questions>();
  std::shared_ptr<text_output> out = std::make_shared<text_output>();
  std::shared_ptr<silent_client> client = std::make_shared<silent_client>();
  std::shared_ptr<sync_clock> clock = std::make_shared<still_clock>();
  std::shared_ptr<plan_input> input = std::make_shared<plan_input>();

  // Copies begin with a listing.
  scene() { input->listed_at = std::chrono::steady_clock::now() - long_ago; }

  engine_result run() {
    engine_options options;
    options.progress = progress_mode::none;
    return engine(std::move(options)).run(plan_of(false), input, client, asked, out, clock);
  }
};

void check_ended_by_fault(const engine_result& ended, const std::string& message) {
  CHECK_FALSE(ended.complete);
  REQUIRE(ended.output_problem);
  CHECK(ended.output_problem->code == error_code::internal);
  CHECK(ended.output_problem->message == message);
}

}  // namespace

TEST_CASE("a coordinator that dies ends the read, and it is said") {
  scene s;
  s.asked->listings = 0;
  check_ended_by_fault(s.run(), "The coordinator ended unexpectedly.");
}

TEST_CASE("a coordinator that dies takes its readers and the emitter along") {
  scene s;
  // The first listing is answered once the other table's stream is read; then comes the second one.
  s.asked->listings = 1;
  s.asked->postponed = &s.client->on_open;
  bool told = false;
  {
    caf::actor_system_config config;
    caf::actor_system system(config);
    caf::actor_ostream::redirect_all(system, "/dev/null");
    engine_parts parts;
    parts.client = s.client;
    parts.questions = s.asked;
    parts.out = s.out;
    parts.clock = s.clock;
    parts.counters = std::make_shared<run_counters>();
    parts.planned_from = s.input;
    parts.limits.max_streams = 2;
    parts.listing_interval = std::chrono::milliseconds(0);
    parts.on_end = [&told](run_outcome) { told = true; };
    const auto boss = system.spawn(coordinator, std::move(parts), std::make_shared<sync_plan>(plan_of(true)));
    caf::anon_send(boss, start_atom::value);
  }
  CHECK_FALSE(told);
  CHECK(s.asked->listings == -1);
  CHECK(s.client->opened == 1);
  CHECK(s.client->open_calls == 0);
}

TEST_CASE("a reader that dies fails its table, and the read ends in order") {
  scene s;
  s.client->throws = true;
  const auto ended = s.run();
  CHECK_FALSE(ended.complete);
  CHECK_FALSE(ended.output_problem);
  CHECK(s.client->opened == 1);
  CHECK(s.out->text.find("A stream reader ended unexpectedly.") != std::string::npos);
  CHECK(s.out->text.find("INCOMPLETE") != std::string::npos);
}

TEST_CASE("an emitter that dies ends the read, and it is said") {
  scene s;
  s.out->throws = true;
  check_ended_by_fault(s.run(), "The emitter ended unexpectedly.");
}
