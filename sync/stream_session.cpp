// Implementation of stream_session.hpp.
#include "sync/stream_session.hpp"

#include <algorithm>
#include <map>
#include <utility>

#include "protocol/vitess/cursor.hpp"
#include "protocol/vitess/ddl.hpp"
#include "sync/key_range.hpp"
#include "sync/test_faults.hpp"

namespace psource {

namespace {

constexpr std::size_t no_table = static_cast<std::size_t>(-1);

// MySQL writes binlog times in whole seconds. A delete sorts before the other changes of its second, so that a row that
// moves between two shards within it does not end up deleted.
constexpr std::int64_t micros_per_second = 1'000'000;
constexpr std::int64_t change_offset = 500'000;
// The end of the year 9999; what a server tells beyond that is no time.
constexpr std::int64_t latest_commit_seconds = 253'402'300'799;

bool bit_is_set(std::string_view bits, std::int64_t index) {
  return (static_cast<unsigned char>(bits[static_cast<std::size_t>(index / 8)]) >> (index % 8)) & 1;
}

// Vitess makes paths of shards' names; a state could not tell others from those of another keyspace.
bool can_be_shard(const shard_name& name) {
  return !name.empty() && std::none_of(name.str().begin(), name.str().end(),
                                       [](char c) { return c == '/' || (c >= 0 && c <= ' ') || c == 0x7f; });
}

// A text that is no position must not get into a state, where the next run would stumble over it.
result<gtid_set> position_of(const shard_progress& told) {
  auto position = gtid_set::parse_position(told.gtid);
  if (!position)
    return fail(error_code::response_malformed,
                "The server tells a position of " + told.id.to_string() + " that is none: " + position.error().message);
  return position;
}

// The earlier one of a copy's first position and a present one: a tablet that lags behind tells rows as of its own. The present
// one where they have nothing in common.
std::string held_by_both(const std::string& first, const std::string& now) {
  const auto then = gtid_set::parse_position(first);
  const auto here = gtid_set::parse_position(now);
  if (!then || !here) return now;
  if (here->contains(*then)) return first;
  const gtid_set common = then->common_with(*here);
  return common.empty() ? now : common.to_position();
}

bool leaves_out(const row_change_view& change) {
  for (std::int64_t i = 0; i < change.data_columns_count; ++i)
    if (!bit_is_set(change.data_columns, i)) return true;
  for (std::int64_t i = 0; i < change.json_partial_count; ++i)
    if (bit_is_set(change.json_partial_values, i)) return true;
  return false;
}
// The after image leaves columns out (binlog_row_image=NOBLOB) or gives JSON as an expression over the old value. Short
// enough to be inlined: hardly any row has such lists.
bool is_incomplete(const row_change_view& change) {
  const bool may_be = (change.data_columns_count | change.json_partial_count) != 0;
  return may_be && change.after.present && leaves_out(change);
}

}  // namespace

bool completes_copy(const response_bytes& response) {
  if (response.size() > largest_copy_end) return false;
  event_reader events;
  events.begin(response.begin(), response.end());
  raw_event event;
  while (events.next(event))
    if (event.type == event_type::copy_completed) return true;
  return false;
}

void session_spec::stop_by_commit_time(std::int64_t peek_seconds) {
  // By then everything from before the peek has come.
  constexpr std::int64_t grace_seconds = 30;
  stop_commit_seconds = peek_seconds + grace_seconds;
}

void session_spec::go_on_with(std::vector<shard_name> now) {
  const auto move = [](std::map<shard_name, gtid_set>& from, std::map<shard_name, gtid_set>& to, const shard_name& shard) {
    if (auto stop = from.extract(shard)) to.insert(std::move(stop));
  };
  for (const auto& shard : shards)
    if (std::find(now.begin(), now.end(), shard) == now.end()) move(stops, left_stops, shard);
  for (const auto& shard : now) move(left_stops, stops, shard);
  shards = std::move(now);
}

std::shared_ptr<const shared_shape::entry> shared_shape::find(const std::string& bytes) const {
  std::shared_ptr<const entry> last;
  {
    std::lock_guard<std::mutex> guard(mutex_);
    last = last_;
  }
  return last && last->bytes == bytes ? last : nullptr;
}

void shared_shape::keep(std::shared_ptr<const entry> made) {
  // The one before goes after the mutex is released.
  std::lock_guard<std::mutex> guard(mutex_);
  last_.swap(made);
}

stream_session::stream_session(session_spec spec, std::shared_ptr<const sync_clock> clock)
    : spec_(std::move(spec)), clock_(std::move(clock)) {
  for (const auto& name : spec_.shards) {
    shard_slots shard;
    shard.shard = name;
    shard.tables.resize(spec_.tables.size());
    if (spec_.kind == stream_kind::copy) {
      // Rows of it were delivered before.
      const shard_cursor& cursor = spec_.tables.front().cursors[name];
      if (spec_.settles_at_since) shard.first_snapshot = cursor.since;
      if (!cursor.lastpk.empty()) shard.first_snapshot = cursor.position;
    }
    shards_.push_back(std::move(shard));
  }
  reindex();
}

stream_request stream_session::begin_attempt() {
  assembler_ = {};
  response_.reset();
  events_.clear();
  in_rows_ = false;
  has_change_ = false;
  lookup_answered_ = false;
  heard_ = false;
  without_rows_yet_.clear();
  drop_provisional();
  stream_request request;
  request.keyspace = spec_.keyspace;
  request.type = spec_.tablet;
  request.cells = spec_.cells;
  for (const auto& table : spec_.tables) request.tables.push_back(table.shape->id.table);
  for (auto& shard : shards_) {
    shard.copied = false;
    shard.copy_rows_seen = false;
    shard.position.reset();
    shard.unsettled = true;
    shard.lastpks.clear();
    for (auto& slot : shard.tables) {
      slot.encoder.reset();
      slot.snapshot_cursor = 0;
    }
    shard_start start;
    start.shard = shard.shard;
    for (const auto& table : spec_.tables) {
      const auto found = table.cursors.find(shard.shard);
      const shard_cursor none;
      const shard_cursor& cursor = found == table.cursors.end() ? none : found->second;
      if (spec_.kind == stream_kind::catch_up) {
        start.gtid = table.start_of(cursor);
      } else {
        const bool resumes = table.resumable && !cursor.lastpk.empty();
        // A full refresh only wants the rows that are left; an incremental copy also the changes since its snapshot.
        start.gtid = resumes && spec_.kind == stream_kind::copy ? cursor.position : std::string();
        start.tables.push_back({table.shape->id.table, resumes ? cursor.lastpk : std::string()});
      }
    }
    shard.gtid = start.gtid;
    if (spec_.kind == stream_kind::copy && start.gtid.empty() && !shard.first_snapshot.empty()) shard.restarted = true;
    request.shards.push_back(std::move(start));
  }
  return request;
}

void stream_session::feed(response_buffer response) {
  response_ = std::move(response);
  events_.begin(response_->begin(), response_->end());
  emitted_at_ = std::max(emitted_at_, clock_->wall_milliseconds());
  heard_ = true;
}

result<pump_result> stream_session::pump(batch& out) {
  if (finished_) return pump_result::finished;
  for (;;) {
    if (in_rows_) {
      auto step = take_rows(out);
      if (!step) return fail(std::move(step.error()));
      if (*step != pump_result::needs_input) return *step;
      in_rows_ = false;
    }
    if (!response_ || !events_.next(event_)) break;
    auto step = take_event(event_, out);
    if (!step) return fail(std::move(step.error()));
    if (*step) {
      if (**step == pump_result::finished) let_go_of_response();
      return **step;
    }
  }
  if (!events_.ok())
    return fail(error_code::response_malformed, "A response of the stream " + spec_.keyspace.str() + "/" +
                                                    (spec_.shards.empty() ? "" : spec_.shards.front().str()) +
                                                    " cannot be decoded: it is not a whole VStreamResponse.");
  let_go_of_response();
  return pump_result::needs_input;
}

stream_session::shard_slots* stream_session::find_shard(std::string_view shard) {
  const auto found = index_.find(shard);
  return found == index_.end() ? nullptr : &shards_[found->second];
}

// After every change of what shards_ holds.
void stream_session::reindex() {
  index_.clear();
  for (std::size_t i = 0; i < shards_.size(); ++i) index_.emplace(shards_[i].shard.str(), i);
}

// What a VGTID tells of each shard, in the order of shards_; nothing where it does not list one.
std::vector<const shard_progress*> stream_session::told_of(const vgtid& position) const {
  std::vector<const shard_progress*> told(shards_.size(), nullptr);
  for (const auto& progress : position.shards) {
    if (progress.id.keyspace != spec_.keyspace) continue;
    const auto found = index_.find(progress.id.shard.str());
    if (found != index_.end() && told[found->second] == nullptr) told[found->second] = &progress;
  }
  return told;
}

// A strange shard in the key range of one that is read was brought by a reshard: a catch-up goes on with it, a copy cannot.
// Nothing when it is of no concern.
result<stream_session::shard_slots*> stream_session::find_or_adopt(std::string_view shard) {
  if (shard_slots* known = find_shard(shard)) return known;
  const shard_name name{std::string(shard)};
  const auto range = key_range_of(name);
  const bool related = range && std::any_of(shards_.begin(), shards_.end(), [&range](const shard_slots& known) {
    const auto other = key_range_of(known.shard);
    return other && other->overlaps(*range);
  });
  if (!related) return static_cast<shard_slots*>(nullptr);
  if (spec_.kind != stream_kind::catch_up) return fail(resharded_under_copy());
  shards_.push_back(born(name));
  shards_.back().provisional = true;
  index_.emplace(name.str(), shards_.size() - 1);
  return &shards_.back();
}

// A new shard that the configuration does not select.
bool stream_session::is_unwanted(std::string_view shard) const {
  if (spec_.wanted.empty()) return false;
  if (index_.find(shard) != index_.end()) return false;
  const auto range = key_range_of(shard_name{std::string(shard)});
  return range && std::none_of(spec_.wanted.begin(), spec_.wanted.end(), [&range](const shard_name& wanted) {
           const auto other = key_range_of(wanted);
           return !other || other->overlaps(*range);
         });
}

failure stream_session::resharded_under_copy() const {
  return {error_code::shards_changed,
          "The keyspace " + spec_.keyspace.str() + " was resharded while " +
              spec_.tables.front().shape->id.to_string() + " was being copied.",
          {},
          std::nullopt};
}

// A shard that comes by a reshard: its records have to sort after those of the shards it comes from.
stream_session::shard_slots stream_session::born(const shard_name& shard) const {
  shard_slots slots;
  slots.shard = shard;
  slots.tables.resize(spec_.tables.size());
  const auto range = key_range_of(shard);
  for (std::size_t i = 0; i < spec_.tables.size(); ++i)
    for (const auto& [name, parent] : spec_.tables[i].cursors) {
      const auto parent_range = key_range_of(name);
      if (!range || !parent_range || range->overlaps(*parent_range))
        slots.tables[i].provisional.cdc_cursor = std::max(slots.tables[i].provisional.cdc_cursor, parent.cdc_cursor);
    }
  return slots;
}

// The attempt ended before a VGTID listed the shard: its rows come again, with cursors above those already given out.
void stream_session::drop_provisional() {
  for (const auto& shard : shards_) {
    if (!shard.provisional) continue;
    const auto range = key_range_of(shard.shard);
    for (std::size_t i = 0; i < spec_.tables.size(); ++i)
      for (auto& [name, parent] : spec_.tables[i].cursors) {
        const auto parent_range = key_range_of(name);
        if (range && parent_range && range->overlaps(*parent_range))
          parent.cdc_cursor = std::max(parent.cdc_cursor, shard.tables[i].provisional.cdc_cursor);
      }
    for (auto& known : shards_)
      for (auto& slot : known.tables) slot.dirty = slot.dirty || !known.provisional;
    moved_ = true;
  }
  shards_.erase(std::remove_if(shards_.begin(), shards_.end(), [](const auto& shard) { return shard.provisional; }),
                shards_.end());
  reindex();
}

void stream_session::abandon_attempt() {
  drop_provisional();
  let_go_of_response();
}

// Its memory counts where calls read ahead.
void stream_session::let_go_of_response() {
  events_.clear();
  response_.reset();
}

// The position of the snapshot whose first row is about to be delivered; a VGTID tells it before the rows.
result<void> stream_session::remember_snapshot() {
  if (spec_.kind != stream_kind::copy) return {};
  auto pending = assembler_.pending_position();
  if (!pending) return fail(std::move(pending.error()));
  const shard_progress* told = (*pending)->find({spec_.keyspace, rows_shard_->shard});
  std::string here = rows_shard_->gtid;
  if (told != nullptr && !told->gtid.empty() && told->gtid != "current") {
    auto position = position_of(*told);
    if (!position) return fail(std::move(position.error()));
    here = told->gtid;
  }
  std::string& first = rows_shard_->first_snapshot;
  if (first.empty())
    first = here;
  else if (!here.empty())
    first = held_by_both(first, here);
  // From its first row on: the next state may be written before the next position comes.
  shard_cursor& cursor = cursor_of(*rows_shard_, rows_table_);
  if (cursor.position.empty() && !first.empty()) cursor.since = first;
  return {};
}

shard_cursor& stream_session::cursor_of(shard_slots& shard, std::size_t table) {
  return shard.provisional ? shard.tables[table].provisional : spec_.tables[table].cursors[shard.shard];
}

std::size_t stream_session::find_table(std::string_view sent) const {
  const auto find = [this](std::string_view name) {
    for (std::size_t i = 0; i < spec_.tables.size(); ++i)
      if (spec_.tables[i].shape->id.table.str() == name) return i;
    return no_table;
  };
  const std::size_t exact = find(sent);
  return exact != no_table ? exact : find(without_keyspace(sent, spec_.keyspace));
}

result<std::optional<pump_result>> stream_session::take_event(const raw_event& event, batch& out) {
  auto step = assembler_.feed(event);
  if (!step) return fail(std::move(step.error()));
  switch (*step) {
    case stream_step::nothing:
    case stream_step::heartbeat:
      break;
    case stream_step::fields: {
      auto taken = take_fields(event, out);
      if (!taken) return fail(std::move(taken.error()));
      break;
    }
    case stream_step::rows: {
      auto started = start_rows(event);
      if (!started) return fail(std::move(started.error()));
      break;
    }
    case stream_step::boundary: {
      if (event.type == event_type::ddl) {
        warn_of_lost_rows(event, out);
        // Its position came before it, and holds only with the rows that follow, up to a COMMIT.
        if (begins_transaction(event.statement)) {
          without_rows_yet_.emplace(event.shard);
          break;
        }
      }
      if (!without_rows_yet_.empty()) without_rows_yet_.erase(std::string(event.shard));
      auto end = take_boundary(out);
      if (!end) return fail(std::move(end.error()));
      if (*end) {
        finished_ = true;
        return std::optional<pump_result>(pump_result::finished);
      }
      break;
    }
    case stream_step::copy_completed: {
      ++progress_;
      if (spec_.kind == stream_kind::catch_up) break;
      // An empty keyspace and shard means all shards of the call.
      for (auto& shard : shards_)
        if (event.shard.empty() || shard.shard.str() == event.shard) {
          if (shard.gtid.empty())
            return fail(error_code::response_malformed, "The copy of " + spec_.tables.front().shape->id.to_string() +
                                                            " on shard " + shard.shard.str() +
                                                            " was completed without a position.");
          shard.copied = true;
          settle_cursors(shard, true);
        }
      const bool all = std::all_of(shards_.begin(), shards_.end(), [](const auto& shard) { return shard.copied; });
      if (all) {
        finished_ = true;
        return std::optional<pump_result>(pump_result::finished);
      }
      break;
    }
  }
  return std::optional<pump_result>();
}

result<void> stream_session::take_fields(const raw_event& event, batch& out) {
  auto shape = shape_of_field_event(event.field_event);
  const std::size_t table = shape ? find_table(shape->table) : no_table;
  const auto shared = table == no_table ? nullptr : spec_.tables[table].shared;
  auto known = shared ? shared->find(shape->bytes) : nullptr;
  std::optional<field_event> fields;
  // Events of other tables have to be whole, too.
  if (!known) {
    auto parsed = parse_field_event(event.field_event);
    if (!parsed) return fail(std::move(parsed.error()));
    fields = std::move(*parsed);
  }
  if (table == no_table || is_unwanted(event.shard)) return {};
  auto found = find_or_adopt(event.shard);
  if (!found) return fail(std::move(found.error()));
  shard_slots* shard = *found;
  if (shard == nullptr) return {};
  // A tablet failed in the first batch: the server begins the copy anew, and tells no deletion of the rows so far.
  if (spec_.kind == stream_kind::copy && shard->copy_rows_seen && shard->lastpks.empty()) shard->restarted = true;
  slot& target = shard->tables[table];
  if (test_faults::is(test_faults::fault::columns_of_before) && target.encoder) return {};
  if (known) {
    target.encoder.emplace(known->encoder.another());
    target.columns = known->columns;
  } else {
    auto encoder = record_encoder::compile(*spec_.tables[table].shape, *fields, spec_.tables[table].encoder);
    if (!encoder) return fail(std::move(encoder.error()));
    target.encoder.emplace(std::move(*encoder));
    target.columns = std::make_shared<const std::vector<wire_column>>(std::move(fields->columns));
    if (shared && target.encoder->shareable())
      shared->keep(std::make_shared<const shared_shape::entry>(
          shared_shape::entry{std::move(shape->bytes), target.columns, target.encoder->another()}));
  }
  for (const auto& warning : target.encoder->warnings()) out.warnings.push_back(warning);
  target.snapshot_cursor = 0;
  return {};
}

result<void> stream_session::start_rows(const raw_event& event) {
  rows_ = row_event_reader(event.row_event);
  // Without its name it would count as another table's, and be left out.
  if (!rows_.ok())
    return fail(error_code::response_malformed, "A ROW event of " + spec_.keyspace.str() + "/" +
                                                    std::string(event.shard) +
                                                    " cannot be decoded: it is not a whole RowEvent.");
  rows_cursor_ = nullptr;
  rows_table_ = find_table(rows_.table_name());
  // Rows of other tables (sidecar heartbeats, say) are none of ours.
  if (rows_table_ == no_table || is_unwanted(event.shard)) return {};
  auto found = find_or_adopt(event.shard);
  if (!found) return fail(std::move(found.error()));
  rows_shard_ = *found;
  if (rows_shard_ == nullptr)
    return fail(error_code::response_malformed,
                "The stream of " + spec_.keyspace.str() + " brought rows of the shard \"" + std::string(event.shard) +
                    "\", which it was not asked for.");
  if (!rows_shard_->tables[rows_table_].encoder)
    return fail(error_code::response_malformed,
                "Rows of " + spec_.tables[rows_table_].shape->id.to_string() + " on shard " + std::string(event.shard) +
                    " came before their FIELD event.");
  if (event.timestamp < 0 || event.timestamp > latest_commit_seconds)
    return fail(error_code::response_malformed, "Rows of " + spec_.tables[rows_table_].shape->id.to_string() +
                                                    " on shard " + std::string(event.shard) +
                                                    " have an impossible commit time (" +
                                                    std::to_string(event.timestamp) + " s).");
  // A full refresh wants each row once: what has a commit time comes from the binary log.
  if (spec_.kind == stream_kind::full_copy && event.timestamp != 0) return {};
  if (spec_.tables[rows_table_].encoder.include_metadata) {
    if (!event.event_gtid.empty()) {
      row_position_ = "MySQL56/" + std::string(event.event_gtid);
    } else {
      // A copy tells its snapshot's position before the rows, in a VGTID that is not complete yet.
      auto pending = assembler_.pending_position();
      if (!pending) return fail(std::move(pending.error()));
      const shard_progress* here = (*pending)->find({spec_.keyspace, rows_shard_->shard});
      row_position_ = here != nullptr && !here->gtid.empty() ? here->gtid : rows_shard_->gtid;
    }
  }
  if (test_faults::is(test_faults::fault::cursor_inside_transaction) && spec_.kind == stream_kind::catch_up) {
    const auto here = gtid_set::parse_position(rows_shard_->gtid + "," + std::string(event.event_gtid));
    if (here) rows_shard_->gtid = here->to_position();
    rows_shard_->position.reset();
    settle_cursors(*rows_shard_, true);
  }
  rows_context_ = {};
  rows_context_.emitted_at_ms = emitted_at_;
  rows_context_.position = row_position_;
  rows_context_.extracted_at_ns = emitted_at_ * 1'000'000;
  rows_context_.updated_at_micros = event.timestamp * micros_per_second;
  in_rows_ = true;
  has_change_ = false;
  return {};
}

result<pump_result> stream_session::take_rows(batch& out) {
  auto step = take_changes(out);
  if (records_ == 0) return step;
  rows_shard_->tables[rows_table_].dirty = true;
  moved_ = true;
  out.count(spec_.tables[rows_table_].stream, std::exchange(records_, 0));
  out.newest_commit_seconds = std::max(out.newest_commit_seconds, event_.timestamp);
  return step;
}

result<pump_result> stream_session::take_changes(batch& out) {
  record_encoder& encoder = *rows_shard_->tables[rows_table_].encoder;
  const std::size_t room = encoder.room();
  for (;;) {
    // Also those of the events behind this one that are like it: what start_rows() found out holds for them.
    if (!has_change_ && !rows_.next(change_) && !(rows_.ok() && events_.next_alike(change_))) {
      if (!rows_.ok())
        return fail(error_code::response_malformed, "A ROW event of " +
                                                        spec_.tables[rows_table_].shape->id.to_string() +
                                                        " cannot be decoded: it is not a whole RowEvent.");
      return pump_result::needs_input;
    }
    has_change_ = true;
    const std::optional<looked_up_row>* whole = nullptr;
    std::size_t size = change_.before.values.size() + change_.after.values.size();
    if (is_incomplete(change_)) {
      if (!lookup_answered_) {
        auto gathered = gather_lookup();
        if (!gathered) return fail(std::move(gathered.error()));
        return pump_result::needs_rows;
      }
      whole = &looked_up_[next_looked_up_];
      if (*whole) size += (*whole)->values.size();
    }
    if (!out.lines.empty() && out.lines.size() + 2 * size + room > out.most) return pump_result::batch_full;
    if (rows_cursor_ == nullptr)
      if (auto begun = begin_records(); !begun) return fail(std::move(begun.error()));
    // Nearly every row of a copy; finding that out in take_change() costs a few per cent of such a row.
    const bool inserted = change_.after.present && !change_.before.present && whole == nullptr;
    auto taken = inserted ? append(encoder, change_.after, false, event_.timestamp == 0, out)
                          : take_change(encoder, change_, whole, out);
    if (!taken) return fail(std::move(taken.error()));
    if (whole != nullptr && ++next_looked_up_ == looked_up_.size()) lookup_answered_ = false;
    has_change_ = false;
    ++progress_;
  }
}

result<void> stream_session::gather_lookup() {
  const session_table& table = spec_.tables[rows_table_];
  const slot& target = rows_shard_->tables[rows_table_];
  const auto& definition = table.shape->table;
  const auto incomplete = [&](const char* why) {
    return fail(failure{error_code::row_image_incomplete,
                        "Changes of " + table.shape->id.to_string() +
                            " leave unchanged columns out (binlog_row_image=NOBLOB or MINIMAL, or partial JSON), and " + why +
                            ". Set binlog_row_image=FULL and binlog_row_value_options='' on the database.",
                        {},
                        table.shape->id});
  };
  lookup_ = {};
  lookup_.table = table.shape->id;
  lookup_.shard = rows_shard_->shard;
  std::vector<std::size_t> key_positions;
  for (std::size_t i = 0; i < target.columns->size(); ++i)
    lookup_.columns.push_back({(*target.columns)[i].name, !target.encoder->character_set(i).empty()});
  for (const auto& name : definition.primary_key) {
    const auto at = std::find_if(lookup_.columns.begin(), lookup_.columns.end(),
                                 [&name](const row_lookup::column& column) { return column.name == name; });
    if (at == lookup_.columns.end()) return incomplete("the primary key is not among them");
    const auto position = static_cast<std::size_t>(at - lookup_.columns.begin());
    key_positions.push_back(position);
    const column_definition* known = definition.find(name);
    // WHERE f = 3.99 finds no FLOAT: the row would count as gone, and its change would be skipped.
    const wire_column& key = (*target.columns)[position];
    if (!is_found_by_its_text(key.column_type) ||
        (known != nullptr && !is_found_by_its_text(known->column_type)))
      return incomplete("a row cannot be looked up by a key with FLOAT, DOUBLE, ENUM, SET or JSON columns");
    std::string character_set = target.encoder->character_set(position);
    if (character_set.empty() && known != nullptr) character_set = known->character_set;
    lookup_.key.push_back({name, key.type, std::move(character_set)});
  }
  if (key_positions.empty()) return incomplete("a table without a primary key has nothing to look them up by");
  // This change and the incomplete ones that follow in the same event.
  row_event_reader rest = rows_;
  row_change_view change = change_;
  do {
    if (!is_incomplete(change)) continue;
    for (const auto position : key_positions)
      if (static_cast<std::int64_t>(position) < change.data_columns_count &&
          !bit_is_set(change.data_columns, static_cast<std::int64_t>(position)))
        return incomplete("the primary key is not among them");
    std::vector<std::string> key(key_positions.size());
    value_reader values(change.after);
    for (std::size_t column = 0; values.next(); ++column)
      for (std::size_t k = 0; k < key_positions.size(); ++k)
        if (key_positions[k] == column) key[k] = std::string(values.value());
    lookup_.keys.push_back(std::move(key));
  } while (rest.next(change));
  return {};
}

void stream_session::complete(looked_up_rows rows) {
  rows.resize(lookup_.keys.size());
  looked_up_ = std::move(rows);
  next_looked_up_ = 0;
  lookup_answered_ = true;
}

// Before the first record of a ROW event, and of those that are alike.
result<void> stream_session::begin_records() {
  rows_cursor_ = &cursor_of(*rows_shard_, rows_table_);
  if (event_.timestamp != 0) return {};
  const slot& target = rows_shard_->tables[rows_table_];
  if (target.snapshot_cursor == 0)
    if (auto begun = begin_snapshot(); !begun) return begun;
  rows_context_.cdc_cursor = std::max(target.snapshot_cursor, rows_cursor_->cdc_cursor);
  rows_context_.updated_at_micros = target.snapshot_cursor;
  return {};
}

// Where a copied row stands among the changes: one moment for all of a snapshot.
result<void> stream_session::begin_snapshot() {
  const session_table& table = spec_.tables[rows_table_];
  slot& target = rows_shard_->tables[rows_table_];
  const bool again = std::exchange(rows_shard_->copy_rows_seen, true);
  // vtgate resumes a copy by itself when its query is cut off. Where that loses rows, the copy has to start over.
  if (again && !table.resumable)
    return fail(failure{error_code::copy_time_limit,
                        "The server cut the copy of " + table.shape->id.to_string() + " on shard " +
                            rows_shard_->shard.str() +
                            ", which cannot be resumed: the table has no primary key that allows it.",
                        {},
                        table.shape->id});
  target.snapshot_cursor = std::max(rows_cursor_->cdc_cursor + 1, clock_->server_microseconds());
  return remember_snapshot();
}

result<void> stream_session::append(record_encoder& encoder, const row_view& row, bool deleted, bool as_copied,
                                    batch& out) {
  record_context& context = rows_context_;
  context.copied = as_copied;
  context.deleted = deleted;
  if (event_.timestamp != 0)
    context.cdc_cursor =
        std::max(rows_cursor_->cdc_cursor + 1, context.updated_at_micros + (deleted ? 0 : change_offset));
  context.sequence = ++sequence_;
  auto appended = encoder.append_record(out.lines, row, context);
  if (!appended) {
    if (!appended.error().stream) appended.error().stream = spec_.tables[rows_table_].shape->id;
    return appended;
  }
  rows_cursor_->cdc_cursor = context.cdc_cursor;
  ++records_;
  return appended;
}

result<void> stream_session::take_change(record_encoder& encoder, const row_change_view& change,
                                         const std::optional<looked_up_row>* whole, batch& out) {
  const session_table& table = spec_.tables[rows_table_];
  const bool copied = event_.timestamp == 0;
  const bool deletes = table.deletes && encoder.delivers_deletes();
  if (change.after.present) {
    if (change.before.present && deletes && !encoder.same_key(change.before, change.after))
      if (auto done = append(encoder, change.before, true, copied, out); !done) return done;
    if (whole == nullptr) return append(encoder, change.after, false, copied, out);
    // What was looked up has the form of a copy's values. A row that is gone by now is skipped: its delete follows.
    if (*whole) return append(encoder, (*whole)->view(), false, true, out);
    return {};
  }
  if (change.before.present) {
    if (deletes) return append(encoder, change.before, true, copied, out);
    return {};
  }
  return fail(error_code::response_malformed,
              "A row change of " + table.shape->id.to_string() + " has neither a before nor an after image.");
}

// The binary log has no row events for what a TRUNCATE or a DROP takes away, and for what a RENAME brings.
void stream_session::warn_of_lost_rows(const raw_event& event, batch& out) {
  if (test_faults::is(test_faults::fault::emptied_untold)) return;
  for (const auto& name : tables_losing_rows(event.statement)) {
    const std::size_t table = find_table(name);
    if (table == no_table) continue;
    // The same words for each shard: they are told once.
    out.warnings.push_back("Rows of " + spec_.tables[table].shape->id.to_string() +
                           " were removed in the source by a statement that the binary log does not tell row by row "
                           "(TRUNCATE, DROP, CREATE or RENAME TABLE, or partitions): they stay in the destination, and "
                           "rows that came in their place are missing there. Use \"Refresh and remove records\" for this "
                           "stream.");
  }
}

result<bool> stream_session::take_boundary(batch& out) {
  ++progress_;
  auto position = assembler_.take_position();
  if (!position) return fail(std::move(position.error()));
  auto& listed = position->shards;
  if (!spec_.wanted.empty())
    listed.erase(std::remove_if(listed.begin(), listed.end(),
                                [this](const auto& progress) {
                                  const bool unwanted = is_unwanted(progress.id.shard.str());
                                  if (unwanted) left_out_.insert(progress.id.shard);
                                  return unwanted;
                                }),
                 listed.end());
  if (!listed.empty()) {
    auto taken = take_positions(*position);
    if (!taken) return fail(std::move(taken.error()));
    // Listed and not provisional, or neither: then the shards are those that are known.
    auto told = told_of(*position);
    std::size_t expected = 0;
    bool same_shards = true;
    for (std::size_t i = 0; i < shards_.size(); ++i) {
      if (!shards_[i].provisional) ++expected;
      same_shards = same_shards && shards_[i].provisional == (told[i] == nullptr);
    }
    if (!same_shards || listed.size() != expected) {
      auto followed = follow_reshard(*position, out);
      if (!followed) return fail(std::move(followed.error()));
      told = told_of(*position);
    }
    for (std::size_t i = 0; i < shards_.size(); ++i) {
      shard_slots& shard = shards_[i];
      const shard_progress* now = told[i];
      if (now == nullptr || now->gtid == "current" || without_rows_yet_.count(shard.shard.str()) > 0) continue;
      if (shard.gtid != now->gtid) {
        shard.gtid = now->gtid;
        shard.position.reset();
        shard.unsettled = true;
      }
      if (spec_.kind == stream_kind::catch_up) {
        // Every VGTID lists all shards of the call; one of them has moved.
        if (shard.unsettled) settle_cursors(shard, true);
        continue;
      }
      // The entry of a table is gone once its copy is done; without lastpk it has not begun.
      const table_progress* entry = now->find(spec_.tables.front().shape->id.table);
      shard.copied = entry == nullptr;
      shard.lastpks.clear();
      if (entry != nullptr && !entry->lastpk.empty()) {
        if (auto same = check_key(shard, entry->lastpk); !same) return fail(std::move(same.error()));
        shard.lastpks[spec_.tables.front().shape->id.table] = entry->lastpk;
      }
      settle_cursors(shard, shard.copied);
    }
  }
  if (spec_.kind == stream_kind::catch_up) {
    if (auto fine = check_old_shard(); !fine) return fail(std::move(fine.error()));
    if (spec_.stop_commit_seconds && event_.timestamp >= *spec_.stop_commit_seconds)
      if (shard_slots* shard = find_shard(event_.shard)) shard->past_grace = true;
    return at_stop();
  }
  return std::all_of(shards_.begin(), shards_.end(), [](const auto& shard) { return shard.copied; });
}

// A copy that went on above a key of other columns, or in another order, has left rows out.
result<void> stream_session::check_key(const shard_slots& shard, const std::string& told) const {
  const session_table& table = spec_.tables.front();
  const std::string& known = table.cursors.at(shard.shard).lastpk;
  if (!table.resumable || known.empty() || are_of_same_columns(known, told)) return {};
  return fail(failure{error_code::lastpk_refused,
                      "The primary key of " + table.shape->id.to_string() + " has changed in the middle of its copy on shard " +
                          shard.shard.str() + ".",
                      {},
                      table.shape->id});
}

// Old shards are written to after their journals, by the workflow that leads back: such changes are none of ours.
result<void> stream_session::check_old_shard() const {
  if (!spec_.journals_before_seconds || event_.timestamp < *spec_.journals_before_seconds) return {};
  const shard_name old(event_.shard);
  if (!spec_.is_old(old)) return {};
  return fail(error_code::position_lost, "The saved position of the old shard " + spec_.keyspace.str() + "/" +
                                             old.str() + " is past the reshard that replaced it.");
}

// Before anything moves.
result<void> stream_session::take_positions(const vgtid& position) {
  for (const auto& progress : position.shards) {
    if (progress.id.keyspace != spec_.keyspace) continue;
    shard_slots* known = find_shard(progress.id.shard.str());
    if (known == nullptr && !can_be_shard(progress.id.shard))
      return fail(error_code::response_malformed,
                  "The server tells a position of a shard with an impossible name: " + progress.id.to_string() + ".");
    // Only a copy begins without one.
    if (progress.gtid.empty() && spec_.kind == stream_kind::catch_up)
      return fail(error_code::response_malformed, "The server tells no position of " + progress.id.to_string() + ".");
    if (progress.gtid == "current" || (known != nullptr && known->position && known->gtid == progress.gtid)) continue;
    auto parsed = position_of(progress);
    if (!parsed) return fail(std::move(parsed.error()));
    if (known == nullptr || without_rows_yet_.count(progress.id.shard.str()) > 0) continue;
    known->unsettled = known->unsettled || known->gtid != progress.gtid;
    known->gtid = progress.gtid;
    known->position = std::move(*parsed);
  }
  return {};
}

// A reshard that is undone leads back to a shard whose position claims what was left out meanwhile: once `shards` selects
// that part as well, nobody would bring it.
result<void> stream_session::check_left_out(const vgtid& position) const {
  for (const auto& progress : position.shards) {
    const shard_name& name = progress.id.shard;
    const auto known = index_.find(name.str());
    if (progress.id.keyspace != spec_.keyspace || (known != index_.end() && !shards_[known->second].provisional)) continue;
    const auto range = key_range_of(name);
    const auto lost = std::find_if(left_out_.begin(), left_out_.end(), [&range](const shard_name& left_out) {
      const auto other = key_range_of(left_out);
      return !range || !other || other->overlaps(*range);
    });
    if (lost == left_out_.end()) continue;
    return fail(error_code::position_lost,
                "A reshard of the keyspace " + spec_.keyspace.str() + " was undone: the stream was led back to the shard " +
                    name.str() + ", after the changes of the shard " + lost->str() +
                    ", which `shards` does not select, had been left out.");
  }
  return {};
}

result<void> stream_session::follow_reshard(const vgtid& position, batch& out) {
  if (spec_.kind != stream_kind::catch_up) return fail(resharded_under_copy());
  if (auto whole = check_left_out(position); !whole) return fail(std::move(whole.error()));
  // Before the parents' cursors go.
  std::map<shard_name, shard_slots> fresh;
  for (const auto& progress : position.shards)
    if (progress.id.keyspace == spec_.keyspace && find_shard(progress.id.shard.str()) == nullptr)
      fresh.emplace(progress.id.shard, born(progress.id.shard));
  for (const auto& shard : shards_) {
    if (shard.provisional || position.find({spec_.keyspace, shard.shard}) != nullptr) continue;
    assembler_.forget(shard.shard.str());
    for (auto& table : spec_.tables) {
      out.removals.push_back({table.stream, shard.shard, {}});
      table.cursors.erase(shard.shard);
    }
  }
  // New shards of another reshard, whose own VGTID is still to come.
  std::vector<shard_slots> unlisted;
  for (auto& shard : shards_)
    if (shard.provisional && position.find({spec_.keyspace, shard.shard}) == nullptr)
      unlisted.push_back(std::move(shard));
  std::vector<shard_slots> next;
  for (const auto& progress : position.shards) {
    if (progress.id.keyspace != spec_.keyspace) continue;
    shard_slots* known = find_shard(progress.id.shard.str());
    const bool is_new = known == nullptr || known->provisional;
    next.push_back(known != nullptr ? std::move(*known) : std::move(fresh.at(progress.id.shard)));
    if (!is_new) continue;
    next.back().provisional = false;
    for (std::size_t i = 0; i < spec_.tables.size(); ++i)
      spec_.tables[i].cursors[progress.id.shard].cdc_cursor = next.back().tables[i].provisional.cdc_cursor;
  }
  for (auto& shard : unlisted) next.push_back(std::move(shard));
  shards_ = std::move(next);
  reindex();
  rows_shard_ = nullptr;
  std::vector<shard_name> now;
  for (const auto& shard : shards_)
    if (!shard.provisional) now.push_back(shard.shard);
  spec_.go_on_with(std::move(now));
  moved_ = true;
  return {};
}

// Where the copy of a shard stands. One that started over goes back to where rows were delivered first, for good: those that were
// told then above the keys of now, and are deleted since, no other stream would tell of.
std::string stream_session::copied_up_to(const shard_slots& shard) {
  if (!shard.restarted) return shard.gtid;
  return held_by_both(shard.first_snapshot, shard.gtid);
}

void stream_session::settle_cursors(shard_slots& shard, bool complete) {
  shard.unsettled = false;
  for (std::size_t i = 0; i < spec_.tables.size(); ++i) {
    session_table& table = spec_.tables[i];
    shard_cursor& cursor = table.cursors[shard.shard];
    const shard_cursor before = cursor;
    cursor.since.clear();
    if (table.uncopied) {
      cursor.position.clear();
      cursor.since = shard.gtid;
    } else if (complete) {
      cursor.position = copied_up_to(shard);
      cursor.lastpk.clear();
    } else {
      const auto lastpk = shard.lastpks.find(table.shape->id.table);
      // Not begun, or a copy that cannot be resumed: stored as not begun, or a kill now would skip rows.
      const bool resumes = table.resumable && lastpk != shard.lastpks.end();
      cursor.position = resumes ? copied_up_to(shard) : std::string();
      if (test_faults::is(test_faults::fault::skipped_pending_table) && !resumes) cursor.position = shard.gtid;
      cursor.lastpk = resumes ? lastpk->second : std::string();
      if (!resumes && spec_.kind == stream_kind::copy)
        cursor.since = shard.first_snapshot.empty() ? before.since : shard.first_snapshot;
    }
    // Behind the stop only rows of the copy count: its catch-up may move on before the same row breaks it each time.
    if ((complete || spec_.kind == stream_kind::catch_up || cursor.lastpk != before.lastpk || !shard.past_stop) &&
        !(cursor == before))
      ++advances_;
    shard.tables[i].dirty = true;
  }
  if (!complete && !shard.past_stop) shard.past_stop = !is_before_stop(shard);
  moved_ = true;
}

// False also where there is no stop.
bool stream_session::is_before_stop(const shard_slots& shard) const {
  const auto stop = spec_.stops.find(shard.shard);
  return stop != spec_.stops.end() && shard.position && !shard.position->contains(stop->second);
}

bool stream_session::at_stop() {
  for (const auto& [name, stop] : spec_.stops) {
    // A shard that is not in the stream yet comes with the reshard of those that are.
    shard_slots* shard = find_shard(name.str());
    if (shard == nullptr) return false;
    if (shard->past_grace && spec_.tablet != tablet_type::primary) continue;
    if (!shard->position) {
      auto here = gtid_set::parse_position(shard->gtid);
      if (!here) return false;
      shard->position = std::move(*here);
    }
    if (test_faults::is(test_faults::fault::equality_at_stop)) {
      if (*shard->position != stop) return false;
      continue;
    }
    const std::uint64_t missing = stop.missing_from(*shard->position);
    if (missing != 0 && missing > assembler_.commits_without_vgtid(name.str())) return false;
  }
  return true;
}

bool stream_session::would_repeat_copy() const {
  return spec_.kind == stream_kind::full_copy && !spec_.tables.front().resumable &&
         std::any_of(shards_.begin(), shards_.end(), [](const auto& shard) { return shard.copy_rows_seen; });
}

bool stream_session::may_miss_the_stop() const {
  // Old shards have no stop: what ends their streams is the journal of the reshard.
  return spec_.kind == stream_kind::catch_up && std::none_of(spec_.shards.begin(), spec_.shards.end(),
                                                              [this](const shard_name& shard) { return spec_.is_old(shard); });
}

bool stream_session::is_overdue() const {
  return may_miss_the_stop() && std::any_of(shards_.begin(), shards_.end(), [](const auto& shard) { return shard.past_grace; });
}

bool stream_session::cut_stop(const shard_name& name, const gtid_set& executed) {
  const shard_slots* shard = find_shard(name.str());
  const auto stop = spec_.stops.find(name);
  if (!may_miss_the_stop() || shard == nullptr || shard->provisional || stop == spec_.stops.end()) return false;
  if (executed.empty() || executed.flavor() != stop->second.flavor()) return false;
  stop->second = stop->second.common_with(executed);
  return at_stop();
}

void stream_session::seal(batch& out) {
  if (!moved_) return;
  moved_ = false;
  for (const auto& shard : spec_.replaces)
    for (const auto& table : spec_.tables) out.removals.push_back({table.stream, shard, spec_.replacements});
  spec_.replaces.clear();
  for (auto& shard : shards_)
    for (std::size_t i = 0; i < spec_.tables.size(); ++i) {
      if (!shard.tables[i].dirty || shard.provisional) continue;
      shard.tables[i].dirty = false;
      session_table& table = spec_.tables[i];
      out.moves.push_back({table.stream, shard.shard, table.cursors[shard.shard]});
    }
}

}  // namespace psource
