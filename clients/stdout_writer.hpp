// The one owner of standard output: a thread that writes finished lines with writev.
#pragma once

#include <pthread.h>
#include <sys/types.h>
#include <sys/uio.h>

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "protocol/failure.hpp"
#include "sync/output.hpp"

namespace psource {

/// The system calls of the writer, so that tests can make them fail. All but interrupt() and write_at_once() run on the
/// writer's thread, and never two of them at the same time.
class output_file {
 public:
  virtual ~output_file() = default;
  /// As writev() for one buffer, but -EAGAIN where that would block, and where it cannot be told. Runs on the thread of
  /// stdout_writer::write().
  virtual ssize_t write_at_once(const char* bytes, std::size_t size) = 0;
  /// As writev(2), but returns -errno instead of setting errno. May block.
  virtual ssize_t writev(const iovec* parts, int count) = 0;
  /// Waits until a write could succeed or something interrupts; called after -EAGAIN.
  virtual void wait_writable() = 0;
  /// Takes the last `bytes` bytes back, which were the beginning of a line that cannot be finished. Only a regular
  /// file can do so.
  virtual void take_back(std::size_t bytes) = 0;
  /// Makes a blocked writev() or wait_writable() of that thread return soon. May be called again and again.
  virtual void interrupt(pthread_t writer) = 0;
};

/// The real calls on a descriptor, which is not closed at the end. Widens a pipe to 1 MiB where the system
/// allows it. Takes the signal SIGRTMIN+3 for interrupt(), and ignores SIGPIPE.
std::unique_ptr<output_file> open_output_file(int fd);

/// What an errno of a write to standard output means: output_closed (EPIPE) or output_failed.
failure output_failure(int error);

/// Writes buffers, each of whole lines, in order: at once while nothing is queued and the system takes them without
/// blocking, which spares two hops between threads for each; else on a thread of its own. Handles short writes, EINTR and
/// EAGAIN; EPIPE is output_closed, any other error output_failed. After a failure nothing more is written, so what was
/// written ends where the failure hit; a file (on a disk that is full, say) then ends behind the last whole line.
class stdout_writer final : public output {
 public:
  /// Starts the thread. The listener is kept until the thread ended.
  stdout_writer(std::unique_ptr<output_file> file, std::shared_ptr<output_listener> listener);
  /// As close() with no time left.
  ~stdout_writer() override;
  stdout_writer(const stdout_writer&) = delete;
  stdout_writer& operator=(const stdout_writer&) = delete;

  bool write(output_bytes bytes, std::uint64_t ticket) override;
  /// Bytes queued and not written yet. Any thread.
  std::size_t queued_bytes() const;

  /// Bytes written so far. Any thread.
  std::uint64_t bytes_written() const;

  /// Writes what is queued, ends the thread and waits for it; buffers that come later are dropped. When
  /// `limit` passes first, the write under way is interrupted, possibly inside a line, and the rest is
  /// dropped. Error: the failure that the listener heard, or output_failed when the time was over. Blocking;
  /// once, and not from the listener.
  result<void> close(std::chrono::milliseconds limit);

 private:
  struct item {
    output_bytes bytes;
    std::uint64_t ticket = 0;
  };
  void run();
  bool write_some();
  void fail_with(failure what);

  const std::unique_ptr<output_file> file_;
  const std::shared_ptr<output_listener> listener_;

  mutable std::mutex mutex_;
  std::condition_variable work_;     // There is something to write, or the end has come.
  std::condition_variable stopped_;  // The thread is done.
  std::deque<item> queue_;
  std::size_t front_written_ = 0;  // Bytes of queue_.front() that are out already.
  std::size_t queued_ = 0;
  std::uint64_t written_ = 0;
  bool busy_ = false;       // The thread is writing, or has not told yet what it wrote.
  bool closing_ = false;    // No more buffers; end when the queue is empty.
  bool abandoned_ = false;  // End now.
  bool finished_ = false;
  std::optional<failure> failed_;
  std::thread thread_;
};

}  // namespace psource
