// How CAF's workers get their jobs.
#pragma once

#include <atomic>
#include <caf/policy/work_sharing.hpp>
#include <mutex>
#include <thread>

namespace psource {

/// What unlocked_sharing does where a test may look on.
struct no_onlooker {
  /// A job lies in the queue, and the worker for it is about to be woken.
  static void before_wake() {}
  /// The scheduler goes as soon as everybody has woken its worker.
  static void wait_for_wakers() { std::this_thread::yield(); }
};

/// CAF's policy `sharing` (one queue for all workers, nobody polls), but that a worker is woken once the queue's lock is
/// free. CAF wakes it inside the lock: where both threads run on one processor, the woken one waits for the lock at once,
/// and has to be woken again. For caf::scheduler::coordinator, whose threads call these functions
/// (caf/policy/unprofiled.hpp).
template <class Onlooker = no_onlooker>
class unlocked_sharing : public caf::policy::work_sharing {
 public:
  /// Other threads than the workers wake actors, too, and outlive the system. Once the lock is free another worker may run
  /// the job, the last actor end, and the system with it, while the thread that brought the job has still to wake one:
  /// inside the lock, that would keep the system from ending. So what it uses waits for it. Before the lock is free
  /// nothing ends: the job is an actor that lives, and the system waits for that.
  struct coordinator_data : caf::policy::work_sharing::coordinator_data {
    using caf::policy::work_sharing::coordinator_data::coordinator_data;
    ~coordinator_data() {
      while (waking.load(std::memory_order_acquire) != 0) Onlooker::wait_for_wakers();
    }
    /// Threads between the lock and the end of their last use of this. Raised inside the lock, which the scheduler's end
    /// takes after them: it does not miss one.
    std::atomic<unsigned> waking{0};
  };

  template <class Coordinator>
  void central_enqueue(Coordinator* self, caf::resumable* job) {
    queue_type one;
    one.push_back(job);
    auto& shared = d(self);
    {
      std::lock_guard<std::mutex> guard(shared.lock);
      shared.queue.splice(shared.queue.end(), one);
      shared.waking.fetch_add(1, std::memory_order_relaxed);
    }
    Onlooker::before_wake();
    shared.cv.notify_one();
    shared.waking.fetch_sub(1, std::memory_order_release);
  }
  template <class Worker>
  void external_enqueue(Worker* self, caf::resumable* job) {
    central_enqueue(self->parent(), job);
  }
  template <class Worker>
  void internal_enqueue(Worker* self, caf::resumable* job) {
    central_enqueue(self->parent(), job);
  }
  template <class Worker>
  void resume_job_later(Worker* self, caf::resumable* job) {
    central_enqueue(self->parent(), job);
  }
};

}  // namespace psource
