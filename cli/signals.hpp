// SIGINT and SIGTERM during a read: end in good order, but end. docs/design.md, "Failure".
#pragma once

#include <atomic>
#include <functional>
#include <mutex>
#include <thread>

namespace psource::cli {

/// While it lives, the two signals are blocked in this thread and all that it starts, and a thread waits for them. The
/// first signal goes to the handler, or ends the process at once while there is no handler; a second signal, and 10 s
/// without an end, end the process at once, too.
class signal_watch {
 public:
  signal_watch();
  /// Signals have their default meaning again afterwards.
  ~signal_watch();
  signal_watch(const signal_watch&) = delete;
  signal_watch& operator=(const signal_watch&) = delete;

  /// Who is told of the first signal, on the watch's thread. An empty handler = nobody.
  void on_signal(std::function<void(int)> handler);

 private:
  void run();
  std::mutex mutex_;
  std::function<void(int)> handler_;
  std::atomic<bool> over_{false};
  std::thread thread_;
};

/// As PID 1 (in a container without a shell around it) the kernel ignores SIGINT and SIGTERM where nothing handles them:
/// makes them end the process, with 128 + signal. Elsewhere it does nothing. Call it first in main.
void die_as_init();

/// Ends the process by this signal, so that the parent sees it; as PID 1, where that has no effect, with 128 + signal.
[[noreturn]] void die_by(int signal);

}  // namespace psource::cli
