// How CAF's workers get their jobs.
#pragma once

#include <caf/policy/work_sharing.hpp>
#include <mutex>

namespace psource {

/// CAF's policy `sharing` (one queue for all workers, nobody polls), but that a worker is woken once the queue's lock is
/// free. CAF wakes it inside the lock: where both threads run on one processor, the woken one waits for the lock at once,
/// and has to be woken again. For caf::scheduler::coordinator, whose threads call these functions
/// (caf/policy/unprofiled.hpp).
class unlocked_sharing : public caf::policy::work_sharing {
 public:
  template <class Coordinator>
  void central_enqueue(Coordinator* self, caf::resumable* job) {
    queue_type one;
    one.push_back(job);
    auto& shared = d(self);
    {
      std::lock_guard<std::mutex> guard(shared.lock);
      shared.queue.splice(shared.queue.end(), one);
    }
    shared.cv.notify_one();
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
