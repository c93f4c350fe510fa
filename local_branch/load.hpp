// Writes to a branch while it serves: the changes of --write-rate.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <thread>
#include <vector>

#include "local_branch/branch.hpp"

namespace psource::local_branch {

/// Makes up transactions: 60 % updates, 20 % inserts, 20 % deletes, 1 to 20 row changes (or `rows` of them)
/// in one shard, now and then in two tables. What they change follows from the seed alone, whatever the pace.
/// One thread at a time; the only writer.
class transaction_source {
 public:
  transaction_source(branch& target, std::uint64_t seed, std::size_t rows = 0);

  /// Writes one transaction of at most `most` row changes; returns how many it had (0: there is nothing to
  /// write to).
  std::size_t write(std::int64_t time_ns, std::size_t most);

 private:
  struct table_state {
    std::vector<std::int64_t> inserted;
    std::vector<std::int64_t> removed;
    std::int64_t last_id = 0;
  };
  struct target {
    shard* where = nullptr;
    /// Numbers of the tables that have rows.
    std::vector<std::size_t> tables;
    std::map<std::size_t, table_state> states;
  };

  std::uint64_t random() { return mix(seed_ + ++drawn_); }
  std::size_t below(std::size_t limit) { return static_cast<std::size_t>(scale(random(), limit)); }
  table_state& state_of(target& t, std::size_t table);
  std::int64_t existing(target& t, std::size_t table, const shard::writer& writer);
  void follow_reshards();
  std::size_t write(target& t, std::int64_t time_ns, std::size_t most);
  std::size_t statement(target& t, std::size_t table, shard::writer& writer, std::size_t rows);

  const std::uint64_t seed_;
  const std::size_t rows_;
  std::uint64_t drawn_ = 0;
  std::vector<target> targets_;
};

/// A thread that writes at a rate, and whenever it is told to.
class load_writer {
 public:
  /// Row changes per second over all shards (0: only bursts); total 0 = without end; transaction_rows as in
  /// transaction_source.
  /// `on_total` is called once, on the writing thread, when the total is reached.
  load_writer(branch& target, std::uint64_t seed, double rate, std::uint64_t total,
              std::size_t transaction_rows = 0, std::function<void()> on_total = {});
  ~load_writer();
  load_writer(const load_writer&) = delete;
  load_writer& operator=(const load_writer&) = delete;

  /// Row changes so far. Thread-safe.
  std::uint64_t written() const;
  /// Writes so many row changes more, as fast as it can, and returns when they are there, or when stop() was called.
  /// They do not count for the rate or the total. From any thread.
  void burst(std::uint64_t changes);
  /// Ends after the transaction that is being written. May be repeated.
  void stop();

 private:
  void run();
  /// How many row changes may be written now.
  std::uint64_t allowed(std::chrono::steady_clock::time_point begin) const;

  transaction_source source_;
  const double rate_;
  const std::uint64_t total_;
  const std::function<void()> on_total_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  bool stop_ = false;
  std::uint64_t written_ = 0;
  /// Of written_, those of the rate; and what bursts still have to write.
  std::uint64_t paced_ = 0;
  std::uint64_t burst_left_ = 0;
  std::thread thread_;
};

}  // namespace psource::local_branch
