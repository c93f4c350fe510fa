// Implementation of cursor_ledger.hpp.
#include "sync/cursor_ledger.hpp"

#include <algorithm>

#include "protocol/airbyte/messages.hpp"
#include "sync/test_faults.hpp"

namespace psource {

cursor_ledger::cursor_ledger(std::vector<ledger_stream> streams, checkpoint_policy policy, steady_time now)
    : policy_(policy) {
  for (auto& stream : streams) {
    stream_book book;
    book.id = std::move(stream.id);
    book.cursors = std::move(stream.cursors);
    book.beginnings = std::move(stream.beginnings);
    book.full_refresh = stream.full_refresh;
    book.last_state = now;
    books_.push_back(std::move(book));
  }
}

bool cursor_ledger::begin_records(stream_index stream) {
  stream_book& book = books_[stream];
  if (book.beginnings.empty()) return false;
  for (auto& [shard, since] : book.beginnings) {
    const auto cursor = book.cursors.find(shard);
    // A reshard may have taken the shard away, and its copy may have told where it stands.
    if (cursor == book.cursors.end() || !cursor->second.position.empty() || !cursor->second.since.empty()) continue;
    cursor->second.since = std::move(since);
    book.moved = true;
  }
  book.beginnings.clear();
  return true;
}

void cursor_ledger::go_back(stream_index stream, const std::map<shard_name, shard_cursor>& planned) {
  stream_book& book = books_[stream];
  for (const auto& [shard, cursor] : planned) {
    const auto here = book.cursors.find(shard);
    if (here == book.cursors.end() || here->second.position.empty() || !cursor.position.empty() || cursor.since.empty()) continue;
    here->second.position.clear();
    here->second.lastpk.clear();
    here->second.since = book.beginnings[shard] = cursor.since;
    book.moved = true;
  }
}

void cursor_ledger::book(const batch& written) {
  for (const auto& count : written.counts) {
    books_[count.stream].records += count.records;
    books_[count.stream].total += count.records;
  }
  for (const auto& removal : written.removals) {
    stream_book& book = books_[removal.stream];
    const auto gone = book.cursors.find(removal.shard);
    if (gone != book.cursors.end())
      for (const auto& shard : removal.successors) {
        auto& cursor = book.cursors[shard];
        cursor.cdc_cursor = std::max(cursor.cdc_cursor, gone->second.cdc_cursor);
      }
    book.cursors.erase(removal.shard);
    book.moved = true;
  }
  for (const auto& move : written.moves) {
    stream_book& book = books_[move.stream];
    const auto [cursor, is_new] = book.cursors.try_emplace(move.shard, move.cursor);
    if (!is_new && cursor->second == move.cursor) continue;
    cursor->second = move.cursor;
    book.moved = true;
  }
}

std::vector<stream_index> cursor_ledger::due(steady_time now) const {
  std::vector<stream_index> streams;
  for (stream_index i = 0; i < books_.size(); ++i) {
    const stream_book& book = books_[i];
    const auto age = now - book.last_state;
    if ((book.records > 0 && age >= policy_.with_records) || (book.moved && age >= policy_.without_records))
      streams.push_back(i);
  }
  return streams;
}

std::string cursor_ledger::take_state(stream_index stream, steady_time now) {
  stream_book& book = books_[stream];
  std::vector<shard_entry> shards;
  shards.reserve(book.cursors.size());
  for (const auto& [name, cursor] : book.cursors) {
    shard_entry shard{{name.str(), book.id.keyspace.str(), cursor.position, cursor.lastpk}, std::nullopt};
    if (cursor.cdc_cursor != 0) shard.cdc_cursor = cursor.cdc_cursor;
    if (cursor.position.empty() && !test_faults::is(test_faults::fault::forgotten_beginning)) shard.since = cursor.since;
    shards.push_back(shard);
  }
  // A copy that cannot go on from its middle has no other cursor until its end. Platforms take two equal states with records
  // between them for a fault of the source, so these tell how far it is.
  const bool repeats = book.written && !book.moved && book.records > 0;
  std::string line = state_line(
      book.id, stream_state_json(shards, book.full_refresh, repeats ? std::optional(book.total) : std::nullopt), book.records);
  states_bytes_ += line.size() - book.state_bytes;
  book.state_bytes = line.size();
  book.records = 0;
  book.moved = false;
  book.written = true;
  book.last_state = now;
  return line;
}

bool cursor_ledger::changed(stream_index stream) const {
  return books_[stream].records > 0 || books_[stream].moved;
}
void cursor_ledger::finish_full_refresh(stream_index stream) {
  stream_book& book = books_[stream];
  if (!book.full_refresh) return;
  book.full_refresh->done = true;
  book.moved = true;
}
std::uint64_t cursor_ledger::total_records(stream_index stream) const { return books_[stream].total; }
const stream_id& cursor_ledger::id(stream_index stream) const { return books_[stream].id; }
const std::map<shard_name, shard_cursor>& cursor_ledger::cursors(stream_index stream) const {
  return books_[stream].cursors;
}

}  // namespace psource
