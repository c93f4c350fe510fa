// The writer of standard output against real pipes and against system calls that fail.
#include "clients/stdout_writer.hpp"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

using namespace psource;
using namespace std::chrono_literals;

namespace {

constexpr std::chrono::seconds patience{30};

class recording_listener final : public output_listener {
 public:
  void on_written(std::uint64_t ticket) override {
    std::lock_guard<std::mutex> lock(mutex_);
    written_.push_back(ticket);
    out_of_order_ = out_of_order_ || !failures_.empty();
    changed_.notify_all();
  }
  void on_failed(failure what) override {
    std::lock_guard<std::mutex> lock(mutex_);
    failures_.push_back(std::move(what));
    changed_.notify_all();
  }
  bool wait_written(std::size_t n) {
    std::unique_lock<std::mutex> lock(mutex_);
    return changed_.wait_for(lock, patience, [&] { return written_.size() >= n; });
  }
  bool wait_failed() {
    std::unique_lock<std::mutex> lock(mutex_);
    return changed_.wait_for(lock, patience, [&] { return !failures_.empty(); });
  }
  std::vector<std::uint64_t> written() const {
    std::lock_guard<std::mutex> lock(mutex_);
    return written_;
  }
  std::vector<failure> failures() const {
    std::lock_guard<std::mutex> lock(mutex_);
    return failures_;
  }
  bool out_of_order() const {
    std::lock_guard<std::mutex> lock(mutex_);
    return out_of_order_;
  }

 private:
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::uint64_t> written_;
  std::vector<failure> failures_;
  bool out_of_order_ = false;
};

// What a scripted file got and did. Outlives the file.
struct file_log {
  std::mutex mutex;
  std::condition_variable changed;
  std::string bytes;
  int calls = 0;
  /// What write_at_once() takes at most; nothing = it cannot tell.
  std::optional<std::size_t> at_once;
  int calls_at_once = 0;
  int most_parts = 0;
  int waits = 0;
  std::size_t taken_back = 0;
  int interrupts = 0;
  bool blocked = false;
  bool gate_open = true;
};

// Each call of writev is answered by a function of its number: bytes to take at most (>= 0), or -errno.
class scripted_file final : public output_file {
 public:
  using answer = std::function<ssize_t(int call, std::size_t offered)>;
  scripted_file(std::shared_ptr<file_log> log, answer a) : log_(std::move(log)), answer_(std::move(a)) {}

  ssize_t write_at_once(const char* bytes, std::size_t size) override {
    std::lock_guard<std::mutex> lock(log_->mutex);
    if (!log_->at_once) return -EAGAIN;
    log_->calls_at_once += 1;
    const std::size_t taken = std::min(size, *log_->at_once);
    log_->bytes.append(bytes, taken);
    return taken == 0 ? -EAGAIN : static_cast<ssize_t>(taken);
  }

  ssize_t writev(const iovec* parts, int count) override {
    std::unique_lock<std::mutex> lock(log_->mutex);
    log_->blocked = !log_->gate_open;
    log_->changed.notify_all();
    log_->changed.wait(lock, [&] { return log_->gate_open || log_->interrupts > 0; });
    if (!log_->gate_open) {
      return -EINTR;
    }
    log_->most_parts = std::max(log_->most_parts, count);
    std::size_t offered = 0;
    for (int i = 0; i < count; ++i) {
      offered += parts[i].iov_len;
    }
    const ssize_t n = answer_(log_->calls++, offered);
    std::size_t left = n < 0 ? 0 : static_cast<std::size_t>(n);
    for (int i = 0; i < count && left > 0; ++i) {
      const std::size_t part = std::min(left, parts[i].iov_len);
      log_->bytes.append(static_cast<const char*>(parts[i].iov_base), part);
      left -= part;
    }
    return n;
  }
  void wait_writable() override {
    std::lock_guard<std::mutex> lock(log_->mutex);
    log_->waits += 1;
  }
  void take_back(std::size_t bytes) override {
    std::lock_guard<std::mutex> lock(log_->mutex);
    log_->taken_back += bytes;
  }
  void interrupt(pthread_t) override {
    std::lock_guard<std::mutex> lock(log_->mutex);
    log_->interrupts += 1;
    log_->changed.notify_all();
  }

 private:
  const std::shared_ptr<file_log> log_;
  const answer answer_;
};

ssize_t take_all(int, std::size_t offered) { return static_cast<ssize_t>(offered); }

output_bytes bytes_of(std::string text) {
  return output_bytes(std::make_shared<const std::string>(std::move(text)));
}

struct pipe_pair {
  pipe_pair() {
    int fds[2];
    REQUIRE(pipe2(fds, O_CLOEXEC) == 0);
    reading = fds[0];
    writing = fds[1];
  }
  ~pipe_pair() {
    close_reading();
    close_writing();
  }
  void close_reading() {
    if (reading >= 0) {
      close(std::exchange(reading, -1));
    }
  }
  void close_writing() {
    if (writing >= 0) {
      close(std::exchange(writing, -1));
    }
  }
  int reading = -1;
  int writing = -1;
};

std::string read_all(int fd) {
  std::string text;
  char buffer[65536];
  for (ssize_t n; (n = read(fd, buffer, sizeof buffer)) > 0;) {
    text.append(buffer, static_cast<std::size_t>(n));
  }
  return text;
}

}  // namespace

TEST_CASE("buffers come out of a pipe in order, and each ticket is told once, where it was not written at once") {
  pipe_pair pipe;
  std::string received;
  std::thread reader([&] { received = read_all(pipe.reading); });
  auto listener = std::make_shared<recording_listener>();
  std::string expected;
  std::vector<std::uint64_t> tickets;
  std::vector<std::uint64_t> at_once;
  std::weak_ptr<const std::string> released;
  {
    stdout_writer writer(open_output_file(pipe.writing), listener);
    for (std::uint64_t i = 0; i < 500; ++i) {
      std::string line(i % 7 * 3'000, static_cast<char>('a' + i % 26));  // Some are empty.
      expected += line;
      auto buffer = std::make_shared<const std::string>(std::move(line));
      released = buffer;
      if (writer.write(output_bytes(std::move(buffer)), i)) {
        CHECK(released.expired());
        CHECK(listener->written().size() + at_once.size() == i);  // All that came before.
        at_once.push_back(i);
      }
      tickets.push_back(i);
    }
    CHECK(writer.close(patience).has_value());
    CHECK(released.expired());
    CHECK(writer.queued_bytes() == 0);
    CHECK(writer.bytes_written() == expected.size());
    writer.write(bytes_of("late"), 501);
  }
  pipe.close_writing();
  reader.join();
  CHECK(received == expected);
  std::vector<std::uint64_t> known = listener->written();
  CHECK(std::is_sorted(known.begin(), known.end()));
  known.insert(known.end(), at_once.begin(), at_once.end());
  std::sort(known.begin(), known.end());
  CHECK(known == tickets);
  CHECK(listener->failures().empty());
}

TEST_CASE("what the system takes without waiting is written at once, and not told again") {
  auto log = std::make_shared<file_log>();
  log->at_once = 1000;
  auto listener = std::make_shared<recording_listener>();
  stdout_writer writer(std::make_unique<scripted_file>(log, take_all), listener);
  CHECK(writer.write(bytes_of("one\n"), 1));
  CHECK(writer.write(bytes_of("two\n"), 2));
  CHECK(writer.queued_bytes() == 0);
  CHECK(writer.bytes_written() == 8);
  CHECK(writer.close(patience).has_value());
  CHECK(log->bytes == "one\ntwo\n");
  CHECK(log->calls == 0);
  CHECK(listener->written().empty());
}

TEST_CASE("what is taken in part goes on behind that part, and nothing overtakes what is queued") {
  auto log = std::make_shared<file_log>();
  log->at_once = 5;
  log->gate_open = false;
  auto listener = std::make_shared<recording_listener>();
  stdout_writer writer(std::make_unique<scripted_file>(log, take_all), listener);
  CHECK_FALSE(writer.write(bytes_of("0123456789"), 1));
  CHECK(writer.queued_bytes() == 5);
  CHECK_FALSE(writer.write(bytes_of("abc"), 2));
  CHECK(writer.queued_bytes() == 8);
  CHECK(listener->written().empty());
  {
    std::lock_guard<std::mutex> lock(log->mutex);
    CHECK(log->calls_at_once == 1);
    log->gate_open = true;
    log->changed.notify_all();
  }
  REQUIRE(listener->wait_written(2));
  CHECK(writer.close(patience).has_value());
  CHECK(listener->written() == std::vector<std::uint64_t>{1, 2});
  CHECK(log->bytes == "0123456789abc");
  CHECK(writer.bytes_written() == 13);
}

TEST_CASE("a pipe is widened") {
  pipe_pair pipe;
  auto file = open_output_file(pipe.writing);
  CHECK(fcntl(pipe.writing, F_GETPIPE_SZ) > 65536);
}

TEST_CASE("nobody reads: a quiet failure, and no signal") {
  pipe_pair pipe;
  pipe.close_reading();
  auto listener = std::make_shared<recording_listener>();
  stdout_writer writer(open_output_file(pipe.writing), listener);
  writer.write(bytes_of("line\n"), 1);
  REQUIRE(listener->wait_failed());
  writer.write(bytes_of("more\n"), 2);
  const auto closed = writer.close(patience);
  REQUIRE_FALSE(closed.has_value());
  CHECK(closed.error().code == error_code::output_closed);
  REQUIRE(listener->failures().size() == 1);
  CHECK(listener->failures()[0].code == error_code::output_closed);
  CHECK(listener->written().empty());
  CHECK(writer.queued_bytes() == 0);
}

TEST_CASE("a blocked pipe does not outlive the limit of close()") {
  pipe_pair pipe;
  auto listener = std::make_shared<recording_listener>();
  stdout_writer writer(open_output_file(pipe.writing), listener);
  constexpr std::size_t size = 3 << 20;
  writer.write(bytes_of(std::string(size, 'x')), 1);
  const auto closed = writer.close(50ms);
  REQUIRE_FALSE(closed.has_value());
  CHECK(closed.error().code == error_code::output_failed);
  CHECK(writer.bytes_written() > 0);
  CHECK(writer.bytes_written() + writer.queued_bytes() == size);
  CHECK(listener->written().empty());
  pipe.close_writing();
  CHECK(read_all(pipe.reading).size() == writer.bytes_written());  // The count is exact.
}

TEST_CASE("the destructor ends a blocked writer") {
  pipe_pair pipe;
  auto listener = std::make_shared<recording_listener>();
  {
    stdout_writer writer(open_output_file(pipe.writing), listener);
    writer.write(bytes_of(std::string(3 << 20, 'x')), 1);
  }
  CHECK(listener.use_count() == 1);
}

TEST_CASE("a non-blocking pipe is waited for") {
  pipe_pair pipe;
  REQUIRE(fcntl(pipe.writing, F_SETFL, O_NONBLOCK) == 0);
  std::string received;
  auto listener = std::make_shared<recording_listener>();
  stdout_writer writer(open_output_file(pipe.writing), listener);
  const std::string text(5 << 20, 'y');
  writer.write(bytes_of(text), 1);
  std::thread reader([&] { received = read_all(pipe.reading); });
  CHECK(writer.close(patience).has_value());
  pipe.close_writing();
  reader.join();
  CHECK(received == text);
}

TEST_CASE("short writes, EINTR and EAGAIN lose and repeat nothing") {
  auto log = std::make_shared<file_log>();
  auto listener = std::make_shared<recording_listener>();
  stdout_writer writer(
      std::make_unique<scripted_file>(log,
                                      [](int call, std::size_t offered) -> ssize_t {
                                        switch (call % 4) {
                                          case 0:
                                            return -EINTR;
                                          case 1:
                                            return -EAGAIN;
                                          default:
                                            return static_cast<ssize_t>(std::min<std::size_t>(
                                                offered, static_cast<std::size_t>(call % 13 + 1)));
                                        }
                                      }),
      listener);
  std::string expected;
  std::vector<std::uint64_t> tickets;
  for (std::uint64_t i = 0; i < 60; ++i) {
    std::string line = "line " + std::to_string(i * i * i) + "\n";
    expected += line;
    writer.write(bytes_of(line), i + 100);
    tickets.push_back(i + 100);
  }
  CHECK(writer.close(patience).has_value());
  CHECK(log->bytes == expected);
  CHECK(listener->written() == tickets);
  CHECK(log->waits > 0);
}

TEST_CASE("many buffers go out with one call, 16 at most") {
  auto log = std::make_shared<file_log>();
  log->gate_open = false;
  auto listener = std::make_shared<recording_listener>();
  stdout_writer writer(std::make_unique<scripted_file>(
                           log, [](int, std::size_t offered) { return static_cast<ssize_t>(offered); }),
                       listener);
  writer.write(bytes_of("0"), 0);
  {
    std::unique_lock<std::mutex> lock(log->mutex);
    REQUIRE(log->changed.wait_for(lock, patience, [&] { return log->blocked; }));
  }
  for (std::uint64_t i = 1; i <= 40; ++i) {
    writer.write(bytes_of("x"), i);
  }
  CHECK(writer.queued_bytes() == 41);
  CHECK(writer.bytes_written() == 0);
  {
    std::lock_guard<std::mutex> lock(log->mutex);
    log->gate_open = true;
    log->changed.notify_all();
  }
  REQUIRE(listener->wait_written(41));
  CHECK(log->calls == 4);  // 1, 16, 16, 8
  CHECK(log->most_parts == 16);
  CHECK(writer.close(patience).has_value());
}

TEST_CASE("after a failure nothing more is written") {
  int error = 0;
  error_code code{};
  SUBCASE("EPIPE") {
    error = EPIPE;
    code = error_code::output_closed;
  }
  SUBCASE("disk full") {
    error = ENOSPC;
    code = error_code::output_failed;
  }
  SUBCASE("input/output error") {
    error = EIO;
    code = error_code::output_failed;
  }
  SUBCASE("takes nothing and says nothing") {
    error = 0;
    code = error_code::output_failed;
  }
  auto log = std::make_shared<file_log>();
  auto listener = std::make_shared<recording_listener>();
  stdout_writer writer(std::make_unique<scripted_file>(log,
                                                       [error](int call, std::size_t) -> ssize_t {
                                                         // Would go on, were it asked again.
                                                         return call == 1 ? -error : 3;
                                                       }),
                       listener);
  writer.write(bytes_of("0123456789"), 1);
  REQUIRE(listener->wait_failed());
  writer.write(bytes_of("abc"), 2);
  const auto closed = writer.close(patience);
  REQUIRE_FALSE(closed.has_value());
  CHECK(closed.error().code == code);
  CHECK(log->bytes == "012");
  CHECK(log->calls == 2);
  CHECK(listener->written().empty());
  CHECK(listener->failures().size() == 1);
  CHECK_FALSE(listener->out_of_order());
}

TEST_CASE("the beginning of a line that cannot be finished is taken back") {
  std::size_t room = 0;
  std::size_t half = 0;
  SUBCASE("in the first line") { room = half = 3; }
  SUBCASE("in a later line") {
    room = 8;
    half = 2;
  }
  SUBCASE("in the second buffer") {
    room = 15;
    half = 3;
  }
  SUBCASE("at the end of a line") { room = 6; }
  SUBCASE("at the end of a buffer") { room = 12; }
  auto log = std::make_shared<file_log>();
  log->gate_open = false;
  auto listener = std::make_shared<recording_listener>();
  stdout_writer writer(std::make_unique<scripted_file>(log,
                                                       [room](int call, std::size_t offered) -> ssize_t {
                                                         if (call == 0) return static_cast<ssize_t>(offered);
                                                         if (call > 1) return -ENOSPC;
                                                         return static_cast<ssize_t>(std::min(offered, room));
                                                       }),
                       listener);
  writer.write(bytes_of("line0\n"), 0);
  {
    std::unique_lock<std::mutex> lock(log->mutex);
    REQUIRE(log->changed.wait_for(lock, patience, [&] { return log->blocked; }));
  }
  writer.write(bytes_of("line1\nline2\n"), 1);
  writer.write(bytes_of("line3\nline4\n"), 2);
  {
    std::lock_guard<std::mutex> lock(log->mutex);
    log->gate_open = true;
    log->changed.notify_all();
  }
  REQUIRE(listener->wait_failed());
  CHECK_FALSE(writer.close(patience).has_value());
  CHECK(log->bytes.size() == 6 + room);
  CHECK(log->taken_back == half);
}

TEST_CASE("a file that cannot grow ends behind a whole line") {
  char name[] = "/tmp/psource-output-XXXXXX";
  const int fd = mkstemp(name);
  REQUIRE(fd >= 0);
  unlink(name);
  // Stands for a full disk: the file may have so many bytes, and a write beyond them fails.
  rlimit before{};
  REQUIRE(getrlimit(RLIMIT_FSIZE, &before) == 0);
  const rlimit small{1000, before.rlim_max};
  REQUIRE(setrlimit(RLIMIT_FSIZE, &small) == 0);
  auto listener = std::make_shared<recording_listener>();
  {
    stdout_writer writer(open_output_file(fd), listener);
    for (std::uint64_t i = 0; i < 20; ++i) writer.write(bytes_of(std::string(90, 'a') + "\n"), i);
    CHECK(listener->wait_failed());
    CHECK_FALSE(writer.close(patience).has_value());
  }
  CHECK(setrlimit(RLIMIT_FSIZE, &before) == 0);
  CHECK(lseek(fd, 0, SEEK_END) == 10 * 91);
  close(fd);
}

TEST_CASE("a listener may write from its callbacks") {
  class echo final : public output_listener {
   public:
    void on_written(std::uint64_t ticket) override {
      if (ticket < 100) {
        writer->write(bytes_of("."), ticket + 1);
      } else {
        std::lock_guard<std::mutex> lock(mutex);
        done = true;
        changed.notify_all();
      }
    }
    void on_failed(failure) override {}
    stdout_writer* writer = nullptr;
    std::mutex mutex;
    std::condition_variable changed;
    bool done = false;
  };
  auto log = std::make_shared<file_log>();
  auto listener = std::make_shared<echo>();
  stdout_writer writer(std::make_unique<scripted_file>(
                           log, [](int, std::size_t offered) { return static_cast<ssize_t>(offered); }),
                       listener);
  listener->writer = &writer;
  writer.write(bytes_of("."), 1);
  std::unique_lock<std::mutex> lock(listener->mutex);
  CHECK(listener->changed.wait_for(lock, patience, [&] { return listener->done; }));
}
