// Saved state: the text of --state in every form that platforms and older connectors hand back.
// docs/state.md.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "protocol/failure.hpp"
#include "protocol/names.hpp"
#include "protocol/vitess/cursor.hpp"

namespace psource {

struct saved_shard {
  table_cursor cursor;
  /// The largest _ab_cdc_cursor given out for this table and shard; absent in the states of older connectors.
  std::optional<std::int64_t> cdc_cursor;
  /// Where the first copy began that may have delivered rows, while `cursor` says that the copy has not begun
  /// (docs/state.md); empty = no copy did. A position that can be parsed.
  std::string since = {};
};

/// Marks a state as that of a full refresh; it counts only for the same generation and the same sync.
struct full_refresh_mark {
  std::int64_t generation_id = 0;
  std::int64_t sync_id = 0;
  /// The refresh reached its end.
  bool done = false;

  friend bool operator==(const full_refresh_mark& a, const full_refresh_mark& b) {
    return a.generation_id == b.generation_id && a.sync_id == b.sync_id && a.done == b.done;
  }
};

struct saved_stream_state {
  /// Never empty.
  std::map<shard_name, saved_shard> shards;
  std::optional<full_refresh_mark> full_refresh;
  /// Came from the untyped state of planetscale/airbyte-source.
  bool from_legacy = false;
};

struct saved_state {
  /// Only streams with a state; a stream of the catalog that is missing here starts from nothing.
  std::map<stream_id, saved_stream_state> streams;
  /// At least one LEGACY state was read, whatever its streams: see docs/state.md on the first STREAM state.
  bool from_legacy = false;
  /// Whole sentences for the log: what was tolerated.
  std::vector<std::string> warnings;
};

/// Reads the text of the state file; empty text = no file. `configured` are the streams of the configured
/// catalog, which say what a state without namespace belongs to (two that fit are an error). States of
/// streams that are not configured are dropped with a warning. Errors: code state_invalid, naming stream and
/// shard.
result<saved_state> parse_state(std::string_view text, const std::vector<stream_id>& configured);

/// The inverse of stream_state_json() for one stream_state body, plain or packed; nullopt when it has no
/// shards.
result<std::optional<saved_stream_state>> parse_stream_state(std::string_view json_text,
                                                             const stream_id& stream);

}  // namespace psource
