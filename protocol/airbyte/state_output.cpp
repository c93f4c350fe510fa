// Writes states by concatenation: the ledger calls this every few seconds for every table.
#include "protocol/airbyte/state_output.hpp"

#include "protocol/airbyte/json_text.hpp"
#include "protocol/airbyte/state_packing.hpp"
#include "protocol/base64.hpp"

namespace psource {

namespace {

constexpr std::size_t overhead = 64;  // of a shard: keys, quotes and a number

void append_shard_start(std::string& out, std::string_view shard) {
  if (out.back() != '{') out += ',';
  append_json_string(out, shard);
  out += ":{";
}

void append_cursor(std::string& out, std::string_view cursor) {
  // Base64 needs no escapes.
  out += R"("cursor":")";
  out += cursor;
  out += '"';
}

// The same cursor in parts: base64 of a whole cursor hides repetitions and hexadecimal digits from zlib,
// which makes packed states a quarter larger.
void append_cursor_parts(std::string& out, std::string_view text) {
  const auto cursor = table_cursor::decode_base64(text);
  if (!cursor) return append_cursor(out, text);
  out += R"("position":)";
  append_json_string(out, cursor->position);
  if (cursor->last_known_pk.empty()) return;
  out += R"(,"last_known_pk":")";
  append_base64(out, cursor->last_known_pk);
  out += '"';
}

template <class AppendCursor>
std::string body_of(const std::vector<encoded_shard>& shards,
                    const std::optional<full_refresh_mark>& full_refresh, AppendCursor append) {
  std::size_t size = 128;
  for (const auto& entry : shards) size += entry.shard.size() + entry.cursor.size() + entry.since.size() + overhead;
  std::string out;
  out.reserve(size);
  out += R"({"shards":{)";
  for (const auto& entry : shards) {
    append_shard_start(out, entry.shard);
    append(out, entry.cursor);
    if (entry.cdc_cursor) out += R"(,"cdc_cursor":)" + std::to_string(*entry.cdc_cursor);
    if (!entry.since.empty()) {
      out += R"(,"since":)";
      append_json_string(out, entry.since);
    }
    out += '}';
  }
  out += '}';
  if (full_refresh) {
    out += R"(,"full_refresh":{"generation_id":)" + std::to_string(full_refresh->generation_id) +
           R"(,"sync_id":)" + std::to_string(full_refresh->sync_id) + R"(,"done":)" +
           (full_refresh->done ? "true}" : "false}");
  }
  return out + '}';
}

}  // namespace

std::string stream_state_json(const std::vector<encoded_shard>& shards,
                              const std::optional<full_refresh_mark>& full_refresh) {
  auto plain = body_of(shards, full_refresh, append_cursor);
  if (plain.size() <= state_packing_threshold) return plain;
  return R"({"packed":")" + pack_state(body_of(shards, full_refresh, append_cursor_parts)) + "\"}";
}

std::string stream_state_json(const saved_stream_state& state) {
  std::vector<std::string> cursors;
  cursors.reserve(state.shards.size());
  std::vector<encoded_shard> shards;
  shards.reserve(state.shards.size());
  for (const auto& [name, saved] : state.shards) {
    cursors.push_back(saved.cursor.encode_base64());
    shards.push_back({name.str(), cursors.back(), saved.cdc_cursor, saved.since});
  }
  return stream_state_json(shards, state.full_refresh);
}

}  // namespace psource
