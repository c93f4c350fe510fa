// The queue of CAF's workers: who wakes a worker may be the last one to use it.
#include "actors/scheduling.hpp"

#include <doctest/doctest.h>

#include <caf/actor_system.hpp>
#include <caf/actor_system_config.hpp>
#include <caf/event_based_actor.hpp>
#include <caf/scheduler/coordinator.hpp>
#include <caf/send.hpp>
#include <condition_variable>
#include <mutex>
#include <thread>

using namespace psource;

namespace {

// Holds one thread between the queue's lock and the worker's waking, until the scheduler waits for it.
struct gate {
  std::mutex mutex;
  std::condition_variable changed;
  bool reached = false;
  bool open = false;
  bool passed = false;

  void pass() {
    std::unique_lock<std::mutex> lock(mutex);
    reached = true;
    changed.notify_all();
    changed.wait(lock, [this] { return open; });
    passed = true;
  }
  void await_reached() {
    std::unique_lock<std::mutex> lock(mutex);
    changed.wait(lock, [this] { return reached; });
  }
  void let_pass() {
    std::lock_guard<std::mutex> lock(mutex);
    open = true;
    changed.notify_all();
  }
  bool is_passed() {
    std::lock_guard<std::mutex> lock(mutex);
    return passed;
  }
};

gate the_gate;
thread_local bool is_held = false;

struct gatekeeper {
  static void before_wake() {
    if (is_held) the_gate.pass();
  }
  static void wait_for_wakers() {
    the_gate.let_pass();
    std::this_thread::yield();
  }
};

// With an argument: without one CAF binds a null reference.
caf::behavior until_told(caf::event_based_actor* self, int word) {
  return {[self, word](int told) {
    if (told == word) self->quit();
  }};
}

}  // namespace

TEST_CASE("the actor system waits for a thread from outside that has still to wake the worker of its last job") {
  std::thread outside;
  {
    caf::actor_system_config config;
    config.load<caf::scheduler::coordinator<unlocked_sharing<gatekeeper>>>();
    config.set("scheduler.max-threads", std::size_t{1});
    caf::actor_system system(config);
    // Lazily: they have no job before they are told something.
    auto last = system.spawn<caf::lazy_init>(until_told, 1);
    auto other = system.spawn<caf::lazy_init>(until_told, 1);
    outside = std::thread([last] {
      is_held = true;
      caf::anon_send(last, 1);
    });
    the_gate.await_reached();
    // This wakes the worker, which finds both jobs: then no actor is left.
    caf::anon_send(other, 1);
  }
  const bool waited = the_gate.is_passed();
  the_gate.let_pass();
  outside.join();
  CHECK(waited);
}
