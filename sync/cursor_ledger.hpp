// The emitter's book: what has been written of each Airbyte stream, and which STATE may follow it.
//
// The rules (docs/state.md): a state never holds a cursor whose records are not written before it; it lists every shard
// of the table; its record count is exact since that table's last state; states follow each other at least every
// checkpoint interval while records flow, and differ if records stand between them. Pure; one owner.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "protocol/airbyte/state_output.hpp"
#include "protocol/names.hpp"
#include "sync/batch.hpp"

namespace psource {

/// A moment on a steady clock.
using steady_time = std::chrono::steady_clock::time_point;

/// What the ledger knows of a stream at the start.
struct ledger_stream {
  stream_id id;
  /// Every shard of the table, with the cursor that the run starts from.
  std::map<shard_name, shard_cursor> cursors;
  /// Marks the states of a full refresh.
  std::optional<full_refresh_mark> full_refresh;
  /// The `since` of shards whose copies have not begun, from the table's first record on (docs/state.md, "When").
  std::map<shard_name, std::string> beginnings = {};
};

/// The checkpoint intervals: with records, and for a position that moves without any.
struct checkpoint_policy {
  std::chrono::milliseconds with_records = std::chrono::seconds(30);
  std::chrono::milliseconds without_records = std::chrono::minutes(10);
};

class cursor_ledger {
 public:
  cursor_ledger(std::vector<ledger_stream> streams, checkpoint_policy policy, steady_time now);

  /// Records of a stream are about to be written. True where a state has to be written before them: before the first ones, if
  /// copies are among what is read, as it tells from where on changes must be delivered should those be broken off; and after
  /// go_back().
  bool begin_records(stream_index stream);

  /// The stream was planned again, from these cursors. Shards that are read anew from their `since` stand there from now on,
  /// and a state has to say so before the next records, which may be older than where the shards stood.
  void go_back(stream_index stream, const std::map<shard_name, shard_cursor>& planned);

  /// Books a batch whose lines are about to be written before anything that is asked of the ledger later.
  void book(const batch& written);

  /// Streams whose next state is due.
  std::vector<stream_index> due(steady_time now) const;

  /// The complete STATE line of a stream, with its count; starts the next count and interval.
  std::string take_state(stream_index stream, steady_time now);

  /// The state would say something new: records or cursors have moved since the last one.
  bool changed(stream_index stream) const;

  /// Marks a full refresh as done; its next state says so.
  void finish_full_refresh(stream_index stream);

  /// Bytes of the newest states of all streams together: what the platform may post in one request.
  std::size_t newest_states_bytes() const { return states_bytes_; }
  std::uint64_t total_records(stream_index stream) const;
  const stream_id& id(stream_index stream) const;
  std::size_t size() const { return books_.size(); }
  /// Where the stream stands now, shard by shard.
  const std::map<shard_name, shard_cursor>& cursors(stream_index stream) const;

 private:
  struct stream_book {
    stream_id id;
    std::map<shard_name, shard_cursor> cursors;
    std::map<shard_name, std::string> beginnings;
    std::optional<full_refresh_mark> full_refresh;
    std::uint64_t records = 0;
    std::uint64_t total = 0;
    /// The body of the next state differs from that of the last one.
    bool moved = false;
    /// There has been a state in this run.
    bool written = false;
    std::size_t state_bytes = 0;
    steady_time last_state;
  };

  std::vector<stream_book> books_;
  checkpoint_policy policy_;
  std::size_t states_bytes_ = 0;
};

}  // namespace psource
