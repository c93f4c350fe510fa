// Implementation of signals.hpp.
#include "cli/signals.hpp"

#include <csignal>
#include <ctime>
#include <pthread.h>
#include <unistd.h>

#include <utility>

namespace psource::cli {

namespace {

constexpr int grace_seconds = 10;

sigset_t watched() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGINT);
  sigaddset(&set, SIGTERM);
  // Wakes the watch's own thread at the end.
  sigaddset(&set, SIGUSR2);
  return set;
}

}  // namespace

void die_as_init() {
  if (getpid() != 1) return;
  struct sigaction action {};
  action.sa_handler = [](int signal) { _exit(128 + signal); };
  sigemptyset(&action.sa_mask);
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
}

void die_by(int signal) {
  struct sigaction action {};
  action.sa_handler = SIG_DFL;
  sigaction(signal, &action, nullptr);
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, signal);
  pthread_sigmask(SIG_UNBLOCK, &set, nullptr);
  raise(signal);
  // The kernel ignores default dispositions for PID 1.
  _exit(128 + signal);
}

signal_watch::signal_watch() {
  const sigset_t set = watched();
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
  thread_ = std::thread([this] { run(); });
}

signal_watch::~signal_watch() {
  over_ = true;
  pthread_kill(thread_.native_handle(), SIGUSR2);
  thread_.join();
  const sigset_t set = watched();
  pthread_sigmask(SIG_UNBLOCK, &set, nullptr);
}

void signal_watch::on_signal(std::function<void(int)> handler) {
  std::lock_guard<std::mutex> guard(mutex_);
  handler_ = std::move(handler);
}

void signal_watch::run() {
  const sigset_t set = watched();
  int first = 0;
  timespec deadline{};
  for (;;) {
    int signal = 0;
    if (first == 0) {
      if (sigwait(&set, &signal) != 0) continue;
    } else {
      timespec now{};
      clock_gettime(CLOCK_MONOTONIC, &now);
      timespec left{deadline.tv_sec - now.tv_sec, 0};
      if (left.tv_sec <= 0) die_by(first);
      signal = sigtimedwait(&set, nullptr, &left);
      if (signal < 0) continue;
    }
    if (signal == SIGUSR2) {
      if (over_) return;
      continue;
    }
    if (first != 0) die_by(signal);
    first = signal;
    clock_gettime(CLOCK_MONOTONIC, &deadline);
    deadline.tv_sec += grace_seconds;
    std::lock_guard<std::mutex> guard(mutex_);
    if (!handler_) die_by(signal);
    handler_(signal);
  }
}

}  // namespace psource::cli
