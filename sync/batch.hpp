// What a stream reader hands to the emitter: finished JSON lines, and where the cursors stand after them.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "protocol/mapping/text_buffer.hpp"
#include "protocol/names.hpp"

namespace psource {

/// Index of an Airbyte stream in the configured catalog's order.
using stream_index = std::size_t;

/// Where one table stands on one shard. Mirrors psdbconnect.TableCursor (docs/state.md).
struct shard_cursor {
  /// "MySQL56/…"; empty = the copy has not begun (or has to start over).
  std::string position;
  /// Serialized query.QueryResult of the last copied primary key; empty unless a copy is under way.
  std::string lastpk;
  /// The largest `_ab_cdc_cursor` given out for this table and shard; 0 = none yet.
  std::int64_t cdc_cursor = 0;
  /// Only where `position` is empty: no row of the copy was delivered that is older than this position. Whoever copies the
  /// table anew delivers the changes since then as well, or deletions would be missed. Empty = nothing was delivered.
  std::string since = {};

  friend bool operator==(const shard_cursor& a, const shard_cursor& b) {
    return a.position == b.position && a.lastpk == b.lastpk && a.cdc_cursor == b.cdc_cursor && a.since == b.since;
  }
};

struct record_count {
  stream_index stream = 0;
  std::uint64_t records = 0;
};

/// The cursor of one table and shard that holds once the batch's lines (and all before) are written.
struct cursor_move {
  stream_index stream = 0;
  shard_name shard;
  shard_cursor cursor;
};

/// A table's shard that a reshard has replaced by others.
struct shard_removal {
  stream_index stream = 0;
  shard_name shard;
  /// Shards that are listed as not begun until their own cursors come.
  std::vector<shard_name> successors;
};

/// One unit on its way from a reader to standard output. Owned by one side at a time: the reader fills it, the emitter
/// writes it and gives it back.
struct batch {
  /// Whole RECORD lines. At most `most` bytes, but for a single larger record.
  text_buffer lines;
  std::vector<record_count> counts;
  std::vector<shard_removal> removals;
  std::vector<cursor_move> moves;
  /// For people: what the user should know, once each.
  std::vector<std::string> warnings;
  /// Commit time of the newest transaction in it, seconds since 1970; 0 = none.
  std::int64_t newest_commit_seconds = 0;

  /// Of a batch where many streams run.
  static constexpr std::size_t capacity = 128 * 1024;
  /// Bytes of all batches together where few streams run.
  static constexpr std::size_t all_of_few = std::size_t{4} << 20;
  /// Bytes of `lines`; clear() leaves it.
  std::size_t most = capacity;
  /// Conversions reserve a little more than they write.
  static constexpr std::size_t slack = 8 * 1024;

  /// For lines of so many bytes from here on, with room for them. Only of an empty batch.
  void resize(std::size_t bytes) {
    most = bytes;
    if (lines.capacity() < most + slack || lines.capacity() > 2 * most) reserve();
  }
  bool empty() const { return lines.empty() && moves.empty() && removals.empty() && warnings.empty(); }
  /// For the next lines. One record may have made it much larger than the others; that memory is not kept.
  void clear() {
    lines.clear();
    if (lines.capacity() > 2 * most) reserve();
    counts.clear();
    removals.clear();
    moves.clear();
    warnings.clear();
    newest_commit_seconds = 0;
  }
  /// Room for as many lines as it takes. Forgets those that it has.
  void reserve() {
    lines.release();
    lines.reserve(most + slack);
  }
  void count(stream_index stream, std::uint64_t records) {
    for (auto& entry : counts)
      if (entry.stream == stream) {
        entry.records += records;
        return;
      }
    counts.push_back({stream, records});
  }
};

/// Bytes of a batch where so many streams run at once: larger ones are handed from thread to thread less often, as long as
/// all of them (two for each stream) stay below `all`; at least batch::capacity, at most four times that. Pure.
inline std::size_t batch_size_for(std::size_t streams, std::size_t all = batch::all_of_few) {
  return std::clamp(all / (2 * std::max<std::size_t>(1, streams)), batch::capacity, 4 * batch::capacity);
}

}  // namespace psource
