// The one owner of standard output.
#include "clients/stdout_writer.hpp"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <utility>
#include <vector>

namespace psource {
namespace {

constexpr std::size_t buffers_per_call = 16;
constexpr int wanted_pipe_size = 1 << 20;

int interrupt_signal() { return SIGRTMIN + 3; }
extern "C" void do_nothing(int) {}

class descriptor_file final : public output_file {
 public:
  explicit descriptor_file(int fd) : fd_(fd) {
    struct stat info {};
    if (fstat(fd_, &info) == 0 && S_ISFIFO(info.st_mode)) {
      fcntl(fd_, F_SETPIPE_SZ, wanted_pipe_size);  // Only a matter of speed.
    }
    // Without SA_RESTART, so that the signal ends a blocked write, which then tells how much it wrote.
    struct sigaction action {};
    action.sa_handler = do_nothing;
    sigemptyset(&action.sa_mask);
    sigaction(interrupt_signal(), &action, nullptr);
    // write_at_once() runs on threads of others: EPIPE has to arrive as an error there too.
    std::signal(SIGPIPE, SIG_IGN);
  }

  ssize_t write_at_once(const char* bytes, std::size_t size) override {
    // A terminal, an old kernel or a file system may not know how to tell; then the thread does all.
    if (!can_tell_) return -EAGAIN;
    const iovec part{const_cast<char*>(bytes), size};  // It is only read.
    const ssize_t n = pwritev2(fd_, &part, 1, -1, RWF_NOWAIT);
    if (n >= 0) return n;
    if (errno == EOPNOTSUPP || errno == ENOSYS || errno == EINVAL) can_tell_ = false;
    return errno == EOPNOTSUPP || errno == ENOSYS || errno == EINVAL ? -EAGAIN : -errno;
  }

  ssize_t writev(const iovec* parts, int count) override {
    const ssize_t n = ::writev(fd_, parts, count);
    return n < 0 ? -errno : n;
  }

  void wait_writable() override {
    pollfd p{fd_, POLLOUT, 0};
    poll(&p, 1, -1);
  }

  void take_back(std::size_t bytes) override {
    struct stat info {};
    const auto cut = static_cast<off_t>(bytes);
    const off_t end = lseek(fd_, 0, SEEK_CUR);
    // Whoever else has written behind it keeps what he wrote.
    if (fstat(fd_, &info) != 0 || !S_ISREG(info.st_mode) || info.st_size != end || end < cut) return;
    if (ftruncate(fd_, end - cut) == 0) lseek(fd_, end - cut, SEEK_SET);
  }

  void interrupt(pthread_t writer) override { pthread_kill(writer, interrupt_signal()); }

 private:
  const int fd_;
  bool can_tell_ = true;  // Only write_at_once() looks at it, one call at a time.
};

// Signals belong to other threads.
void keep_signals_away() {
  sigset_t mask;
  sigfillset(&mask);
  sigdelset(&mask, interrupt_signal());
  for (int fault : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT}) {
    sigdelset(&mask, fault);
  }
  pthread_sigmask(SIG_SETMASK, &mask, nullptr);
}

}  // namespace

failure output_failure(int error) {
  failure f;
  f.detail = std::strerror(error);
  if (error == EPIPE) {
    f.code = error_code::output_closed;
    f.message = "Nobody reads standard output any more.";
  } else {
    f.code = error_code::output_failed;
    f.message = "Standard output cannot be written: " + f.detail + ".";
  }
  return f;
}

std::unique_ptr<output_file> open_output_file(int fd) { return std::make_unique<descriptor_file>(fd); }

stdout_writer::stdout_writer(std::unique_ptr<output_file> file, std::shared_ptr<output_listener> listener)
    : file_(std::move(file)),
      listener_(std::move(listener)) {
  thread_ = std::thread([this] { run(); });
}

stdout_writer::~stdout_writer() {
  if (thread_.joinable()) {
    // Nobody is left to hear it.
    static_cast<void>(close(std::chrono::milliseconds(0)));
  }
}

bool stdout_writer::write(output_bytes bytes, std::uint64_t ticket) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (failed_ || closing_) {
    return false;
  }
  std::size_t done = 0;
  if (queue_.empty() && !busy_ && bytes.size() > 0) {
    // A failure is left to the thread, which meets it again.
    const ssize_t n = file_->write_at_once(bytes.view().data(), bytes.size());
    done = n > 0 ? std::min(static_cast<std::size_t>(n), bytes.size()) : 0;
  }
  written_ += done;
  if (done != 0 && done == bytes.size()) {
    return true;
  }
  if (queue_.empty()) {
    front_written_ = done;
  }
  queued_ += bytes.size() - done;
  queue_.push_back(item{std::move(bytes), ticket});
  work_.notify_one();
  return false;
}

std::size_t stdout_writer::queued_bytes() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return queued_;
}

std::uint64_t stdout_writer::bytes_written() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return written_;
}

result<void> stdout_writer::close(std::chrono::milliseconds limit) {
  {
    std::unique_lock<std::mutex> lock(mutex_);
    closing_ = true;
    work_.notify_one();
    if (!stopped_.wait_for(lock, limit, [this] { return finished_; })) {
      abandoned_ = true;
      work_.notify_one();
      // Again and again, because a signal that comes just before the write blocks is lost.
      while (!finished_) {
        file_->interrupt(thread_.native_handle());
        stopped_.wait_for(lock, std::chrono::milliseconds(10), [this] { return finished_; });
      }
    }
  }
  thread_.join();
  if (failed_) {
    return fail(*failed_);
  }
  if (queued_ != 0) {
    return fail(error_code::output_failed, "Standard output did not take the last " +
                                               std::to_string(queued_) +
                                               " bytes in time; its last line may be cut.");
  }
  return {};
}

void stdout_writer::run() {
  keep_signals_away();
  while (write_some()) {
  }
  std::lock_guard<std::mutex> lock(mutex_);
  finished_ = true;
  stopped_.notify_all();
}

// One call of writev and what follows from it. False when the thread should end.
bool stdout_writer::write_some() {
  std::array<iovec, buffers_per_call> parts;
  int count = 0;
  std::size_t offered = 0;
  {
    std::unique_lock<std::mutex> lock(mutex_);
    busy_ = false;
    work_.wait(lock, [this] { return !queue_.empty() || closing_; });
    busy_ = true;
    if (abandoned_ || queue_.empty()) {
      return false;
    }
    std::size_t skip = front_written_;
    for (const item& i : queue_) {
      if (static_cast<std::size_t>(count) == parts.size()) {
        break;
      }
      // writev does not write to it.
      parts[static_cast<std::size_t>(count)].iov_base = const_cast<char*>(i.bytes.view().data() + skip);
      parts[static_cast<std::size_t>(count)].iov_len = i.bytes.size() - skip;
      offered += i.bytes.size() - skip;
      skip = 0;
      ++count;
    }
  }

  ssize_t n = 0;
  if (offered > 0) {
    n = file_->writev(parts.data(), count);
  }
  if (n == -EINTR) {
    return true;
  }
  if (n == -EAGAIN || n == -EWOULDBLOCK) {
    file_->wait_writable();
    return true;
  }
  if (n < 0 || (n == 0 && offered > 0) || static_cast<std::size_t>(n) > offered) {
    fail_with(output_failure(n < 0 ? static_cast<int>(-n) : EIO));
    return false;
  }

  std::vector<std::uint64_t> tickets;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    std::size_t left = static_cast<std::size_t>(n);
    queued_ -= left;
    written_ += left;
    for (int i = 0; i < count; ++i) {
      const std::size_t rest = queue_.front().bytes.size() - front_written_;
      if (rest > left) {
        front_written_ += left;
        break;
      }
      left -= rest;
      front_written_ = 0;
      tickets.push_back(queue_.front().ticket);
      queue_.pop_front();
    }
  }
  for (std::uint64_t ticket : tickets) {
    listener_->on_written(ticket);
  }
  return true;
}

void stdout_writer::fail_with(failure what) {
  std::size_t half_line = 0;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (front_written_ > 0) {
      const std::string_view bytes = queue_.front().bytes.view();
      const auto end = bytes.rfind('\n', front_written_ - 1);
      half_line = front_written_ - (end == std::string_view::npos ? 0 : end + 1);
    }
    failed_ = what;
    queue_.clear();
    queued_ = 0;
    front_written_ = 0;
  }
  if (half_line > 0) file_->take_back(half_line);
  listener_->on_failed(std::move(what));
}

}  // namespace psource
