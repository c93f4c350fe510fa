// Which stream runs when, and what its end means for the tables in it: the coordinator's thinking.
//
// Pure; one owner. Tasks are sessions waiting for their turn: catch-ups first, then copies, at most `max_streams` at
// once and at most `max_copies_per_shard` copies on a shard.
#pragma once

#include <cstdint>
#include <deque>
#include <limits>
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

  /// Tasks to start now, so that at most `at_once` run, and never more than `max_streams`. Their streams count as running until
  /// finished() or failed() is called with their id. Copies wait while `copies` is false.
  std::vector<scheduled_task> start(bool copies = true, std::size_t at_once = std::numeric_limits<std::size_t>::max());

  /// Takes copies that wait out of the queue when their shard does not serve any more: what it holds is older than what
  /// its successors do, and a position taken there leads nowhere. Incremental tables are planned again, full refreshes
  /// fail.
  void drop_unserved(const std::set<shard_id>& serving);
  bool copies_wait() const { return !copies_.empty(); }

  /// A session reached its end; `tables` are its final cursors.
  void finished(task_id id, std::vector<session_table> tables);

  /// A session gave up. What still can be read of it is put back into the queue; the rest fails.
  void failed(task_id id, failure why, std::vector<session_table> tables);

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

  // A copy that begins after its shard was replaced ends at a position that leads nowhere, without an error. And a stream
  // that a reshard has led to other shards has none of what came after that reshard was undone. So tables that were read
  // like that are held until the shards were listed again after the last copy's end.

  /// The serving shards are about to be asked for: what was read by now is what the answer tells about.
  void begin_listing();
  /// The answer: ends at shards that serve are good. The tables of the others are planned again. Where they were copied
  /// from such a shard that means anew, because nobody can tell whether the copy began before the reshard: old shards are
  /// written to by the workflow that leads back.
  void confirm_ends(const std::set<shard_id>& serving);
  /// Copies are over, and some shards where tables have ended have not been listed since.
  bool ends_unconfirmed() const { return open_copies_ == 0 && !unconfirmed_.empty(); }
  /// The shards cannot be listed: what is over counts as good.
  void trust_ends() { unconfirmed_.clear(); }

  // Tables that cannot go on as planned, because shards were replaced under them, are planned again when everything else
  // is over (plan_again() of planner.hpp).

  /// Nothing runs and nothing waits but tables that have to be planned again.
  bool plan_is_due() const;
  /// Their cursors on all shards.
  standing_cursors unplanned() const;
  /// How often the one that was planned most often was planned again.
  unsigned rounds() const;
  /// Takes the calls out of the new plan of these tables.
  void adopt(sync_plan& plan);
  /// They cannot be planned: they fail for the reason that set them aside, and this one (a whole sentence).
  void fail_unplanned(const std::string& why);
  /// What planning asks for could not be had. Where that may pass, it uses up one of their rounds, and plan_is_due() stays true; else,
  /// and after the last round, they fail.
  void planning_failed(const failure& why);

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
    // Where it stands on shards from which it cannot go on as planned; empty = it can.
    std::map<shard_name, shard_cursor> unplanned;
    std::optional<failure> set_aside_because;
    unsigned rounds = 0;
  };
  /// A call that has failed: what it was to do, why it ended, and its tables where they stand now.
  struct failed_call {
    session_spec spec;
    failure why;
    std::vector<session_table> tables;
  };
  /// What a failed call tells of its positions.
  enum class loss : std::uint8_t {
    none,
    position,    ///< they cannot be read from any more
    apart,       ///< shards of a merge may stand on both sides of a reshard that was undone
    undone,      ///< they do
    unreadable,  ///< an old shard has no tablet, and perhaps no binary logs
  };
  /// Takes the call out of those that run.
  std::optional<session_spec> take_running(task_id id);
  void judge(failed_call& call);
  loss what_is_lost(const failed_call& call) const;
  /// Copies the tables again where that is wanted, else they fail.
  void lose(failed_call& call, loss what);
  void start_over(const failed_call& call, const session_table& table);
  /// Takes the table that the error names out of the call; when it names none, halves the call until it is alone.
  void narrow_down(failed_call& call);
  void enqueue(session_spec spec);
  void fail_table(const session_table& table, const failure& why);
  bool set_aside(const session_table& table, const failure& why);
  static session_spec copy_of(const session_spec& from, const session_table& table, const shard_name& shard,
                              shard_cursor cursor);
  void close(stream_index stream);
  void settle(const session_spec& spec, const std::vector<session_table>& tables);
  session_spec with_tables(const session_spec& from, std::vector<session_table> tables) const;

  schedule_limits limits_;
  // What all calls have in common (keyspace, tablet, cells); set by the first.
  session_spec pattern_;
  std::size_t open_copies_ = 0;
  std::deque<session_spec> catch_ups_;
  std::list<session_spec> copies_;
  std::map<task_id, session_spec> running_;
  std::map<shard_id, std::size_t> copies_on_shard_;
  std::map<stream_index, stream_account> accounts_;
  // A copy that is over, or a catch-up that has ended on a shard that it was led to, until confirm_ends().
  struct unconfirmed_end {
    // Of a copy: a position from before it.
    std::optional<std::string> copied_since;
    // It was over when the shards were asked for.
    bool listed = false;
  };
  std::map<std::pair<shard_id, stream_index>, unconfirmed_end> unconfirmed_;
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
