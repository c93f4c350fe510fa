// Writes the body of a STREAM state.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "protocol/airbyte/state_input.hpp"
#include "protocol/vitess/cursor.hpp"

namespace psource {

/// A shard's part of a state. The views must stay valid during the call only.
struct shard_entry {
  table_cursor_view cursor;
  std::optional<std::int64_t> cdc_cursor;
  /// saved_shard::since.
  std::string_view since = {};
};

/// States above this many bytes are packed.
constexpr std::size_t state_packing_threshold = 64 * 1024;

/// {"shards":{...}} with `full_refresh` and `records` (of this run so far) where given; above state_packing_threshold {"packed":"<base64 of
/// zlib>"} around the same object with each `cursor` taken apart into `position` and `last_known_pk`
/// (base64), which zlib packs better. Shards are written in the given order. Pure.
std::string stream_state_json(const std::vector<shard_entry>& shards,
                              const std::optional<full_refresh_mark>& full_refresh = std::nullopt,
                              std::optional<std::uint64_t> records = std::nullopt);

/// The same for a whole saved state, for states that go back unchanged.
std::string stream_state_json(const saved_stream_state& state);

}  // namespace psource
