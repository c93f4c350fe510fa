// Everything a stream reader thinks: from the bytes of one VStream call to batches of JSON lines and cursor moves.
//
// Pure: no actor, no network, no thread. A session outlives reconnects: begin_attempt() always tells from where the next
// attempt has to start. Rows are passed on as they come, whatever the size of a transaction; only cursors wait for its
// end. Not thread-safe; one owner.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "clients/vstream.hpp"
#include "protocol/failure.hpp"
#include "protocol/mapping/record_encoder.hpp"
#include "protocol/vitess/event_assembler.hpp"
#include "protocol/vitess/gtid_set.hpp"
#include "protocol/vitess/request.hpp"
#include "protocol/vitess/response_decoder.hpp"
#include "protocol/vitess/row_lookup.hpp"
#include "sync/batch.hpp"
#include "sync/clock.hpp"

namespace psource {

/// What a stream is for; decides where it ends and what it delivers.
enum class stream_kind : std::uint8_t {
  catch_up,   ///< Tables with a position: binary log until the stop positions are contained.
  copy,       ///< One incremental table on one shard: copy, with the changes that happen meanwhile.
  full_copy,  ///< One full-refresh table on one shard: copied rows only.
};

/// What was made last of a FIELD event of one table, for all of its shards: the sessions of a table are many, and its shape
/// is the same nearly everywhere. Thread-safe.
class shared_shape {
 public:
  struct entry {
    /// Of the FIELD event, without what tells its shard.
    std::string bytes;
    std::shared_ptr<const std::vector<wire_column>> columns;
    /// Shareable.
    record_encoder encoder;
  };
  /// What was kept, where it is of this event; else nothing.
  std::shared_ptr<const entry> find(const std::string& bytes) const;
  void keep(std::shared_ptr<const entry> made);

 private:
  mutable std::mutex mutex_;
  std::shared_ptr<const entry> last_;
};

/// One table of a session.
struct session_table {
  stream_index stream = 0;
  /// Shared with the plan; outlives the session.
  std::shared_ptr<const stream_shape> shape;
  /// The same for all sessions of the table, as is `encoder`. May be empty: then nothing is shared.
  std::shared_ptr<shared_shape> shared;
  encoder_options encoder;
  /// Delete records are wanted (the configured schema has `_ab_cdc_deleted_at`, and capture_deletes is on).
  bool deletes = true;
  /// A copy cut in the middle can go on from its last primary key (docs/design.md, "What is read").
  bool resumable = true;
  /// In a catch-up: the table is not copied yet. Its changes since the copy that was broken off are delivered, and its
  /// cursors say so: they have `since` instead of a position, from which the stream starts.
  bool uncopied = false;
  /// Where it stands on each of the session's shards.
  std::map<shard_name, shard_cursor> cursors;

  /// From where a catch-up of the table starts; empty = there is no such position.
  const std::string& start_of(const shard_cursor& cursor) const { return uncopied ? cursor.since : cursor.position; }
};

struct session_spec {
  stream_kind kind = stream_kind::catch_up;
  keyspace_name keyspace;
  tablet_type tablet = tablet_type::primary;
  std::string cells;
  std::vector<shard_name> shards;
  std::vector<session_table> tables;
  /// The position to reach, for each shard that was peeked at. A shard that is not in the stream yet comes with the
  /// reshard of those that are; one without a stop has nothing to reach.
  std::map<shard_name, gtid_set> stops;
  /// Of shards that a reshard has taken out of the stream, before their stops could be seen there. They hold again when
  /// the reshard turns out to have been undone.
  std::map<shard_name, gtid_set> left_stops;
  /// Those of `shards` that did not serve any more when the read was planned: they lead to the shards that have stops.
  std::vector<shard_name> old_shards;
  /// With old shards, where the configuration selects only some of those that come in their place: rows of new shards
  /// that overlap none of these are left out. Empty = all are wanted.
  std::vector<shard_name> wanted;
  /// All shards of one table whose reshard was undone (plan_again() of planner.hpp).
  bool rejoined = false;
  /// A copy after one that was broken off when it had delivered rows: it ends at the `since` of its cursor, so that what
  /// was deleted meanwhile is told after it.
  bool settles_at_since = false;
  /// With old shards: their journals are older than this second (server time). Whoever brings transactions of an old shard
  /// from then on is behind its journal, and never comes to the new shards.
  std::optional<std::int64_t> journals_before_seconds;
  /// Old shards whose part of the tables is read anew by this session: their cursors go when its first ones come.
  std::vector<shard_name> replaces;
  /// All shards that come in their place, this session's included.
  std::vector<shard_name> replacements;
  /// Replicas may hold GTIDs of their own that the peek saw and this tablet never sends: a transaction committed at or
  /// after this second (server time) ends their stream as well. Of a primary, the stop is in doubt then (stream_session::is_overdue()).
  std::optional<std::int64_t> stop_commit_seconds;
  /// A further catch-up of tables that had reached their stop before: they stay complete when it is cut off.
  bool additional = false;

  /// Sets stop_commit_seconds. `peek_seconds`: the server's time of the peek, since 1970.
  void stop_by_commit_time(std::int64_t peek_seconds);
  /// One of old_shards.
  bool is_old(const shard_name& shard) const {
    return std::find(old_shards.begin(), old_shards.end(), shard) != old_shards.end();
  }
  /// A reshard has made these the stream's shards.
  void go_on_with(std::vector<shard_name> now);
};

/// A copy's end comes alone, or behind a last position. Larger responses are not looked at for it: they would be read twice.
constexpr std::size_t largest_copy_end = 4096;

/// Whether a copy most likely ends with this response: a small one that tells that it is complete. For vstream_request::is_last.
bool completes_copy(const response_bytes& response);

/// Why pump() returned.
enum class pump_result : std::uint8_t {
  needs_input,  ///< The response is used up: feed() the next one.
  batch_full,   ///< Hand the batch over and call pump() again with an empty one.
  needs_rows,   ///< Some changes came incomplete: look up missing_rows(), give them to complete(), then pump() again.
  finished,     ///< The stream's end is reached; nothing more is to be read.
};

class stream_session {
 public:
  stream_session(session_spec spec, std::shared_ptr<const sync_clock> clock);

  /// The request for the next attempt: from the last complete cursors. Forgets half-received transactions and shapes.
  stream_request begin_attempt();

  /// This attempt is over before its end: makes tables() and seal() tell cursors that hold without it.
  void abandon_attempt();

  /// Gives the next response. Only when pump() has said needs_input (or at the start of an attempt).
  void feed(response_buffer response);

  /// Decodes and encodes into `out` until it is full, the response is used up or the end is reached. A failure ends
  /// this attempt: what `out` holds already is whole and may be written.
  result<pump_result> pump(batch& out);

  /// After needs_rows: the rows to look up, by primary key, on the shard that the changes came from.
  const row_lookup& missing_rows() const { return lookup_; }

  /// The answer to missing_rows(), one entry per key. A row that is gone is skipped: its delete follows.
  void complete(looked_up_rows rows);

  /// Adds the cursors that hold now to `out`: call before handing a batch over, also when it holds no line.
  void seal(batch& out);

  /// The cursors that hold now, per table of the spec.
  const std::vector<session_table>& tables() const { return spec_.tables; }
  /// The same at the end of the session, which must not be used any more.
  std::vector<session_table> take_tables() { return std::move(spec_.tables); }
  const session_spec& spec() const { return spec_; }

  /// Grows with every row, boundary and completed copy, not with heartbeats: what "progress" means for time-outs.
  std::uint64_t progress() const { return progress_; }
  /// Grows only when a cursor moves: what the next attempt does not have to repeat. A transaction that breaks its stream
  /// each time brings rows, but gets nowhere.
  std::uint64_t advances() const { return advances_; }
  /// Another attempt would deliver the rows of this one again, from the first on: a full refresh of a table whose copy cannot
  /// go on in its middle.
  bool would_repeat_copy() const;
  /// The stop may hold GTIDs that never come: a replica's own, or lost in a failover since the peek. The shard's primary has to be
  /// asked (cut_stop) where the stream is silent, or overdue.
  bool may_miss_the_stop() const;
  /// Transactions have come that were committed long after the peek (session_spec::stop_commit_seconds), and the stop is not reached.
  /// Never of replicas: that is the end of theirs.
  bool is_overdue() const;
  /// The shard's primary has executed so much: what else the stop holds is not waited for any more. True where the end is
  /// reached without it. Only while no response is being pumped.
  bool cut_stop(const shard_name& shard, const gtid_set& executed);
  /// Some message, a heartbeat included, has come in this attempt.
  bool heard() const { return heard_; }
  /// seal() would add something.
  bool has_moves() const { return moved_; }

 private:
  struct slot {
    std::optional<record_encoder> encoder;
    std::shared_ptr<const std::vector<wire_column>> columns;
    // One `_ab_cdc_cursor` for all rows of a snapshot; chosen at the first copied row after a FIELD event.
    std::int64_t snapshot_cursor = 0;
    bool dirty = false;
    // Where the table stands on a shard that no VGTID has listed yet; see shard_slots::provisional.
    shard_cursor provisional;
  };
  struct shard_slots {
    shard_name shard;
    // What the server said last; the tables' own cursors are derived from it.
    std::string gtid;
    // The same as a set; absent until it is needed.
    std::optional<gtid_set> position;
    std::map<table_name, std::string> lastpks;
    bool copied = false;
    // Rows of this attempt's copy were seen.
    bool copy_rows_seen = false;
    // The position of the first snapshot whose rows were delivered. A copy that starts over settles there: what was
    // deleted since would never be told otherwise.
    std::string first_snapshot;
    // The copy started over after rows of the first snapshot were delivered.
    bool restarted = false;
    // The first rows of a shard that a reshard brings come before the VGTID that lists it. Until then it has no position,
    // so its cursors must not be seen outside.
    bool provisional = false;
    // A transaction committed after the grace period of stop_commit_seconds was seen.
    bool past_grace = false;
    // A copy has come to the stop position: its catch-up counts as progress no longer.
    bool past_stop = false;
    // The server has told another position since the cursors were settled last.
    bool unsettled = true;
    std::vector<slot> tables;
  };

  result<std::optional<pump_result>> take_event(const raw_event& event, batch& out);
  result<void> take_fields(const raw_event& event, batch& out);
  result<void> start_rows(const raw_event& event);
  result<pump_result> take_rows(batch& out);
  result<pump_result> take_changes(batch& out);
  result<void> begin_records();
  result<void> begin_snapshot();
  result<void> append(record_encoder& encoder, const row_view& row, bool deleted, bool as_copied, batch& out);
  result<void> take_change(record_encoder& encoder, const row_change_view& change,
                           const std::optional<looked_up_row>* whole, batch& out);
  result<void> gather_lookup();
  void warn_of_lost_rows(const raw_event& event, batch& out);
  result<bool> take_boundary(batch& out);
  result<void> check_key(const shard_slots& shard, const std::string& told) const;
  result<void> check_old_shard() const;
  result<void> check_left_out(const vgtid& position) const;
  result<void> take_positions(const vgtid& position);
  result<void> follow_reshard(const vgtid& position, batch& out);
  void settle_cursors(shard_slots& shard, bool complete);
  static std::string copied_up_to(const shard_slots& shard);
  bool is_before_stop(const shard_slots& shard) const;
  bool at_stop();
  shard_slots* find_shard(std::string_view shard);
  void reindex();
  std::vector<const shard_progress*> told_of(const vgtid& position) const;
  result<shard_slots*> find_or_adopt(std::string_view shard);
  failure resharded_under_copy() const;
  bool is_unwanted(std::string_view shard) const;
  shard_slots born(const shard_name& shard) const;
  void drop_provisional();
  void let_go_of_response();
  result<void> remember_snapshot();
  shard_cursor& cursor_of(shard_slots& shard, std::size_t table);
  std::size_t find_table(std::string_view sent) const;

  session_spec spec_;
  std::shared_ptr<const sync_clock> clock_;
  std::vector<shard_slots> shards_;
  // Where in shards_ each is: a call may have a thousand.
  std::map<std::string, std::size_t, std::less<>> index_;
  // New shards of which nothing is delivered (session_spec::wanted).
  std::set<shard_name> left_out_;
  // Shards in the middle of a CREATE TABLE … SELECT: what VGTIDs tell of them holds only with its rows.
  std::set<std::string> without_rows_yet_;

  event_assembler assembler_;
  response_buffer response_;
  event_reader events_;
  raw_event event_;

  row_event_reader rows_;
  bool in_rows_ = false;
  shard_slots* rows_shard_ = nullptr;
  std::size_t rows_table_ = 0;
  // The cursor that the rows move; looked up at the first of them.
  shard_cursor* rows_cursor_ = nullptr;
  row_change_view change_;
  bool has_change_ = false;
  // What all records of the event say, and of those that are alike.
  record_context rows_context_;
  std::string row_position_;
  // Records of this take_rows().
  std::uint64_t records_ = 0;

  // Incomplete changes of the ROW event under way, and what the database said their rows are now.
  row_lookup lookup_;
  looked_up_rows looked_up_;
  std::size_t next_looked_up_ = 0;
  bool lookup_answered_ = false;

  bool finished_ = false;
  bool moved_ = false;
  bool heard_ = false;
  std::uint64_t progress_ = 0;
  std::uint64_t advances_ = 0;
  std::int64_t emitted_at_ = 0;
  std::int64_t sequence_ = 0;
};

}  // namespace psource
