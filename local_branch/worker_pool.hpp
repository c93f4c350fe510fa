// A few threads that run tasks, at once or at a time.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <functional>
#include <map>
#include <mutex>
#include <thread>
#include <vector>

namespace psource::local_branch {

/// Thread-safe. Tasks that have not begun when stop() is called are dropped.
class worker_pool {
 public:
  using clock = std::chrono::steady_clock;

  explicit worker_pool(std::size_t threads) {
    for (std::size_t i = 0; i < threads; ++i) threads_.emplace_back([this] { work(); });
  }
  ~worker_pool() { stop(); }
  worker_pool(const worker_pool&) = delete;
  worker_pool& operator=(const worker_pool&) = delete;

  void post(std::function<void()> task) { post_at(clock::time_point::min(), std::move(task)); }
  void post_at(clock::time_point when, std::function<void()> task) {
    {
      std::lock_guard lock(mutex_);
      if (stopped_) return;
      tasks_.emplace(when, std::move(task));
    }
    wake_.notify_one();
  }
  /// Returns when no task runs any more. Not from a task.
  void stop() {
    std::multimap<clock::time_point, std::function<void()>> dropped;
    {
      std::lock_guard lock(mutex_);
      stopped_ = true;
      dropped.swap(tasks_);
    }
    wake_.notify_all();
    for (auto& thread : threads_)
      if (thread.joinable()) thread.join();
  }

 private:
  void work() {
    std::unique_lock lock(mutex_);
    while (!stopped_) {
      if (tasks_.empty()) {
        wake_.wait(lock);
        continue;
      }
      const auto first = tasks_.begin();
      if (first->first > clock::now()) {
        const auto when = first->first;
        wake_.wait_until(lock, when);
        continue;
      }
      auto task = std::move(first->second);
      tasks_.erase(first);
      lock.unlock();
      task();
      task = nullptr;  // what it holds is released without the lock
      lock.lock();
    }
  }

  std::mutex mutex_;
  std::condition_variable wake_;
  std::multimap<clock::time_point, std::function<void()>> tasks_;
  bool stopped_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace psource::local_branch
