// Which stream runs when, and what its end means for the tables in it: the coordinator's thinking.
//
// Pure; one owner. Tasks are sessions waiting for their turn: catch-ups first, then copies, at most `max_streams` at
// once and at most `max_copies_per_shard` copies on a shard.
#pragma once

#include <cstdint>
#include <deque>
#include <list>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "protocol/airbyte/config.hpp"
#include "sync/planner.hpp"

namespace psource {

using task_id = std::uint64_t;

struct schedule_limits {
  std::size_t max_streams = 64;
  std::size_t max_copies_per_shard = 2;
  lost_position_behavior on_lost_position = lost_position_behavior::fail_sync;
};

/// A session whose turn has come.
struct scheduled_task {
  task_id id = 0;
  session_spec spec;
};

/// A stream of the catalog that is over.
struct stream_verdict {
  stream_index stream = 0;
  bool complete = false;
};

class sync_schedule {
 public:
  /// Takes the calls out of the plan. Streams without any call, and those with a problem, are over at once.
  sync_schedule(sync_plan& plan, schedule_limits limits);

  /// Tasks to start now. Their streams count as running until finished() or failed() is called with their id. Copies
  /// wait while `copies` is false.
  std::vector<scheduled_task> start(bool copies = true);

  /// Fails the tables of waiting copies whose shard does not serve any more: what it holds is older than what its
  /// successors do, and a position taken there leads nowhere.
  void drop_unserved(const std::set<shard_id>& serving);
  bool copies_wait() const { return !copies_.empty(); }

  /// A session reached its end; `tables` are its final cursors.
  void finished(task_id id, std::vector<session_table> tables);

  /// A session gave up. What still can be read of it is put back into the queue; the rest fails.
  void failed(task_id id, const failure& why, std::vector<session_table> tables);

  /// New stop positions, taken while copies were going on: tables that were done before catch up to them again, so that
  /// their positions do not grow older than the binary logs are kept.
  /// `peek_seconds` is the server's time of the peek, since 1970.
  void refresh(const std::map<shard_id, gtid_set>& stops, std::int64_t peek_seconds);

  /// Incremental tables that wait for the others' copies before they are over; refresh() concerns them.
  bool holds_tables() const;
  /// No copy runs or waits any more; held tables are over unless refresh() is called before release().
  bool copies_done() const { return open_copies_ == 0; }
  /// Ends the hold: tables with nothing left to read are over. Call when copies_done(), after a last refresh().
  void release();
  /// Shards of the tables that are held.
  std::set<shard_id> held_shards() const;

  /// A session ended because it was told to (shutdown): its streams are incomplete, without an error of their own.
  void abandoned(task_id id);

  /// Streams that are over since the last call, in the order of their ends.
  std::vector<stream_verdict> take_verdicts();
  /// Failures to be told (with their stream), and lines for the log, since the last call.
  std::vector<failure> take_failures();
  std::vector<std::string> take_warnings();

  /// Nothing runs and nothing waits.
  bool idle() const { return running_.empty() && catch_ups_.empty() && copies_.empty(); }
  std::size_t running() const { return running_.size(); }
  std::size_t waiting() const { return catch_ups_.size() + copies_.size(); }
  std::size_t done() const { return done_; }
  /// Some stream failed.
  bool any_failed() const { return any_failed_; }
  const std::map<task_id, session_spec>& running_tasks() const { return running_; }

 private:
  struct stream_account {
    std::size_t open = 0;  // tasks running or waiting that hold the stream
    bool failed = false;
    bool told = false;
    // What a catch-up of the stream needs, once it has been read: without cursors, and where it stands on each shard.
    std::optional<session_table> table;
    std::map<shard_name, shard_cursor> settled;
  };
  void enqueue(session_spec spec);
  void fail_table(const session_table& table, const failure& why);
  void close(stream_index stream);
  void settle(const session_spec& spec, const std::vector<session_table>& tables);
  session_spec with_tables(const session_spec& from, std::vector<session_table> tables) const;

  schedule_limits limits_;
  // What all calls have in common; set by the first.
  session_spec pattern_;
  std::size_t open_copies_ = 0;
  std::deque<session_spec> catch_ups_;
  std::list<session_spec> copies_;
  std::map<task_id, session_spec> running_;
  std::map<shard_id, std::size_t> copies_on_shard_;
  std::map<stream_index, stream_account> accounts_;
  // Copies that were already started over, once in a run: again it would end the same way.
  std::set<std::pair<stream_index, shard_name>> restarted_;
  std::vector<stream_verdict> verdicts_;
  std::vector<failure> failures_;
  std::vector<std::string> warnings_;
  task_id next_id_ = 1;
  std::size_t done_ = 0;
  bool any_failed_ = false;
};

}  // namespace psource
