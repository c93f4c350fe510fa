// The grammar of a VStream: tells what each event means for rows and cursors, and where a cursor may move.
//
//   binlog phase  BEGIN (FIELD | ROW)* VGTID COMMIT  |  VGTID (DDL | OTHER)
//   copy, table   BEGIN FIELD VGTID?  (BEGIN? ROW* VGTID COMMIT)*  BEGIN VGTID COMMIT
//   copy, end     COPY_COMPLETED(shard) … COPY_COMPLETED(all shards)
//   any time      HEARTBEAT
// Named exceptions, each seen on a real server or reported for one:
//   empty copy            BEGIN FIELD BEGIN VGTID COMMIT: two BEGINs, one COMMIT
//   commit without VGTID  an empty or non-transactional transaction; the position stays as it was
//   BEGIN repeated        a tablet failed in the middle of a transaction, which now starts again; its rows come twice
//   rows without BEGIN    an internal restart of a copy
//   ROLLBACK              never sent by supported servers; harmless while the transaction has shown no row
// Anything else that would lose rows in silence (statement-based DML, ROLLBACK after rows) is an error.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "protocol/failure.hpp"
#include "protocol/vitess/response_decoder.hpp"
#include "protocol/vitess/vgtid.hpp"

namespace psource {

/// What an event means to the reader of a stream.
enum class stream_step : std::uint8_t {
  nothing,         ///< Nothing to do.
  heartbeat,       ///< vtgate is alive; no progress.
  fields,          ///< event.field_event describes the rows that follow.
  rows,            ///< event.row_event holds rows to deliver now.
  boundary,        ///< A transaction, a statement or a batch of a copy is complete: take_position() tells where.
  copy_completed,  ///< event.keyspace and event.shard have been copied (both empty: the whole stream has).
};

class event_assembler {
 public:
  /// Takes the next event of the stream. Errors: response_malformed with the sentence for the user.
  result<stream_step> feed(const raw_event& event);

  /// After `boundary`: the last VGTID since the boundary before, or no shards when the server sent none.
  result<vgtid> take_position();

  /// The last VGTID since the boundary before, without taking it: where copied rows are, whose boundary is still to come.
  /// Never null; valid until the next feed() or take_position().
  result<const vgtid*> pending_position();

  /// Commits of this shard, since the start or since its last VGTID, that came without one.
  std::uint64_t commits_without_vgtid(std::string_view shard) const;

  /// The stream has left this shard, between two transactions. Should it come back, that is at a new position.
  void forget(std::string_view shard);

  /// Rows of an unfinished transaction have been passed on.
  bool inside_transaction() const;

 private:
  struct shard_state {
    std::string keyspace;
    std::string shard;
    bool open = false;
    bool rows_seen = false;
    std::uint64_t commits_without_vgtid = 0;
    // The first of them. A tablet that fails makes vtgate send them again, from this one on.
    std::string first_without_vgtid;
  };
  static void count_commit(shard_state& state, const raw_event& event, bool has_vgtid);
  shard_state& state_of(const raw_event& event);

  // Few: one shard per stream, more only across a reshard.
  std::vector<shard_state> shards_;
  std::string pending_vgtid_;
  bool has_pending_vgtid_ = false;
  // What the bytes say; absent until it is needed.
  std::optional<vgtid> pending_position_;
};

}  // namespace psource
