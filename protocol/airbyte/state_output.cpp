// Writes states by concatenation: the ledger calls this every few seconds for every table.
#include "protocol/airbyte/state_output.hpp"

#include "protocol/airbyte/json_text.hpp"
#include "protocol/airbyte/state_packing.hpp"
#include "protocol/base64.hpp"

namespace psource {

namespace {

constexpr std::size_t overhead = 64;  // of a shard: keys, quotes and a number

// Bytes that a shard has at least in the plain form.
std::size_t least_size(const shard_entry& entry) {
  const table_cursor_view& cursor = entry.cursor;
  const std::size_t encoded =
      cursor.shard.size() + cursor.keyspace.size() + cursor.position.size() + cursor.last_known_pk.size();
  return cursor.shard.size() + encoded / 3 * 4 + entry.since.size();
}

void append_cursor(std::string& out, const table_cursor_view& cursor) {
  // Base64 needs no escapes.
  out += R"("cursor":")";
  cursor.append_base64_to(out);
  out += '"';
}

// The same cursor in parts: base64 of a whole cursor hides repetitions and hexadecimal digits from zlib,
// which makes packed states a quarter larger.
void append_cursor_parts(std::string& out, const table_cursor_view& cursor) {
  out += R"("position":)";
  append_json_string(out, cursor.position);
  if (cursor.last_known_pk.empty()) return;
  out += R"(,"last_known_pk":")";
  append_base64(out, cursor.last_known_pk);
  out += '"';
}

template <class AppendCursor>
std::string body_of(const std::vector<shard_entry>& shards, const std::optional<full_refresh_mark>& full_refresh,
                    std::optional<std::uint64_t> records, std::size_t size, AppendCursor append) {
  std::string out;
  out.reserve(size);
  out += R"({"shards":{)";
  for (const auto& entry : shards) {
    if (out.back() != '{') out += ',';
    append_json_string(out, entry.cursor.shard);
    out += ":{";
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
  if (records) out += R"(,"records":)" + std::to_string(*records);
  return out + '}';
}

}  // namespace

std::string stream_state_json(const std::vector<shard_entry>& shards, const std::optional<full_refresh_mark>& full_refresh,
                              std::optional<std::uint64_t> records) {
  std::size_t least = 0;
  for (const auto& entry : shards) least += least_size(entry);
  const std::size_t size = least + shards.size() * overhead + 128;
  if (least <= state_packing_threshold) {
    auto plain = body_of(shards, full_refresh, records, size, append_cursor);
    if (plain.size() <= state_packing_threshold) return plain;
  }
  return R"({"packed":")" + pack_state(body_of(shards, full_refresh, records, size, append_cursor_parts)) + "\"}";
}

std::string stream_state_json(const saved_stream_state& state) {
  std::vector<shard_entry> shards;
  shards.reserve(state.shards.size());
  for (const auto& [name, saved] : state.shards) {
    shards.push_back({saved.cursor.view(), saved.cdc_cursor, saved.since});
    // The key tells which shard it is.
    shards.back().cursor.shard = name.str();
  }
  return stream_state_json(shards, state.full_refresh);
}

}  // namespace psource
