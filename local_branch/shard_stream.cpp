// One shard's part of a call. The order of events is that of a Vitess 24; see README.md.
#include "local_branch/shard_stream.hpp"

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstring>

#include "local_branch/replay.hpp"
#include "local_branch/row_images.hpp"

namespace psource::local_branch {
namespace {

/// A ROW event holds at most so many bytes of rows, as MySQL's binlog_row_event_max_size has it.
constexpr std::size_t row_event_size = 8000;
/// Flags of a ROW event: always 16; 1 at the end of a statement.
constexpr std::uint64_t row_flags = 16;
constexpr std::uint64_t row_flag_statement_end = 1;

/// gRPC's numbers of the codes that a vttablet uses here.
constexpr int code_unknown = 2;
constexpr int code_internal = 13;

std::int64_t now_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

bool as_integer(std::string_view text, std::int64_t& value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size();
}

/// a > b, by number where both are numbers.
bool greater(const row_values& a, const row_values& b) {
  for (std::size_t i = 0; i < a.size() && i < b.size(); ++i) {
    if (a[i] == b[i]) continue;
    std::int64_t x = 0;
    std::int64_t y = 0;
    if (a[i] && b[i] && as_integer(*a[i], x) && as_integer(*b[i], y)) return x > y;
    return b[i] < a[i];
  }
  return false;
}

row_values key_values(const table_schema& schema, const row_values& row) {
  row_values key;
  for (const auto number : schema.copy_order())
    key.push_back(number < row.size() ? row[number] : std::nullopt);
  return key;
}

bool is_journal(const transaction& t) { return t.journal != nullptr || (t.recorded && t.recorded->journal); }

}  // namespace

shard_stream::shard_stream(vstream_session& session, shard& source, const binlogdata::ShardGtid& begin)
    : session_(session), shard_(source), keyspace_(source.owner()), request_(begin) {
  tail_.text(22, keyspace_.name());
  tail_.text(23, shard_.name());
  gtid_ = request_.gtid();
  for (const auto& entry : request_.table_p_ks()) {
    unfinished u;
    u.table = entry.table_name();
    if (entry.has_lastpk()) {
      u.begun = true;
      u.lastpk = entry.lastpk().SerializeAsString();
    }
    unfinished_.push_back(std::move(u));
  }
  const auto& tables = keyspace_.tables();
  matched_.resize(tables.size());
  not_begun_.resize(tables.size());
  fields_sent_.resize(tables.size());
  for (std::size_t t = 0; t < tables.size(); ++t)
    matched_[t] = tables[t].schema.kind != table_kind::view && session_.matches(tables[t].schema.name);
  partial_images_.resize(tables.size());
  for (std::size_t t = 0; t < tables.size(); ++t)
    for (std::size_t ddls = 0; ddls <= tables[t].ddls.size(); ++ddls)
      if (session_.options_.images.apply_to(tables[t].schema_after(ddls))) partial_images_[t] = true;
  rebuild_entry();
}

stream_status shard_stream::prepare() {
  const bool current = request_.gtid() == "current";
  if (!current && !request_.gtid().empty()) {
    const auto have = gtids::parse(request_.gtid());
    if (!have) return {code_internal, have.error().message};
    std::shared_lock lock(shard_.mutex());
    const auto at = shard_.locate(*have);
    if (!at || !have->contains(shard_.purged())) {
      search();
      return {};
    }
    next_ = *at;
    positioned_ = true;
    past_handover_ = is_past_journal(next_);
    if (!keyspace_.recorded() && !(shard_.executed(next_) == *have)) start_ = *have;
  }
  if (!request_.gtid().empty() && unfinished_.empty()) {
    phase_ = current ? phase::announce : phase::running;
    return {};
  }
  const auto& tables = keyspace_.tables();
  std::shared_lock lock(shard_.mutex());
  for (std::size_t t = 0; t < tables.size(); ++t) {
    const auto& name = tables[t].schema.name;
    if (!matched_[t]) continue;
    if (!session_.tables_to_copy_.empty() && session_.tables_to_copy_.count(name) == 0) continue;
    plan_.push_back(t);
    not_begun_[t] = true;
    for (const auto& entry : unfinished_) {
      if (entry.table != name || !entry.begun) continue;
      query::QueryResult lastpk;
      if (!lastpk.ParseFromString(entry.lastpk) || lastpk.fields_size() == 0)
        return {code_unknown, "lastpk for table " + name + " has no fields defined"};
      if (lastpk.rows_size() != 1) continue;
      const int have = lastpk.rows(0).lengths_size();
      const auto want = shard_.schema_of(t, shard_.log_size()).copy_order().size();
      if (static_cast<std::size_t>(have) != want)
        return {code_unknown,
                "cannot build a row streamer plan for the " + name +
                    " table as a lastpk value was provided and the number of primary key values within it (" +
                    std::to_string(have) +
                    ") does not match the number of primary key columns in the table (" +
                    std::to_string(want) + ")"};
      if (!key_of(entry))
        return {code_unknown, "cannot build a row streamer plan for the " + name +
                                  " table as the lastpk value is not one of its primary key"};
      not_begun_[t] = false;
    }
  }
  lock.unlock();
  std::sort(plan_.begin(), plan_.end(),
            [&](std::size_t a, std::size_t b) { return tables[a].schema.name < tables[b].schema.name; });
  if (current) {
    phase_ = phase::announce;
  } else {
    begin_next_table();
  }
  return {};
}

bool shard_stream::is_past_journal(std::size_t count) const {
  if (shard_.handed_over == nullptr) return false;
  // From the end, where it is: only failovers of the old shard write something behind it.
  for (std::size_t at = shard_.log_size(); at > 0; --at)
    if (is_journal(shard_.at(at - 1))) return at <= count;
  return false;
}

std::optional<row_values> shard_stream::key_of(const unfinished& entry) const {
  query::QueryResult lastpk;
  if (!lastpk.ParseFromString(entry.lastpk) || lastpk.rows_size() != 1) return std::nullopt;
  auto values = read_row(lastpk.rows(0).SerializeAsString());
  if (!values) return std::nullopt;
  if (!keyspace_.recorded()) {
    std::int64_t id = 0;
    // The id is the key, or the first of the columns where a table has no key.
    if (values->empty() || !values->front() || !as_integer(*values->front(), id)) return std::nullopt;
  }
  return values;
}

void shard_stream::fail(const stream_status& why) {
  binlogdata::ShardGtid here;
  here.ParseFromArray(entry_.data(), static_cast<int>(entry_.size()));
  session_.fail_with(session_.tablet_error(shard_, here, why));
}

std::string shard_stream::wire_name(const std::string& name) const {
  return session_.bare_table_names_ ? name : keyspace_.name() + "." + name;
}

void shard_stream::rebuild_entry() {
  entry_.clear();
  entry_.text(1, keyspace_.name());
  entry_.text(2, shard_.name());
  entry_.text(3, gtid_);
  byte_buffer table;
  for (const auto& u : unfinished_) {
    table.clear();
    table.text(1, u.table);
    if (u.begun) table.bytes(3, u.lastpk);
    entry_.bytes(4, table.view());
  }
}

void shard_stream::set_position() {
  if (start_) {
    auto executed = shard_.executed(next_);
    if (executed.contains(*start_)) {
      start_.reset();
    } else {
      executed.merge(*start_);
    }
    gtid_ = executed.to_position();
  } else {
    gtid_ = shard_.position(next_);
  }
  positioned_ = true;
  rebuild_entry();
}

void shard_stream::reset_fields() { std::fill(fields_sent_.begin(), fields_sent_.end(), nullptr); }

void shard_stream::begin_next_table() {
  reset_fields();
  if (plan_at_ == plan_.size()) {
    phase_ = plan_.empty() ? phase::running : phase::copy_completed;
    return;
  }
  if (!positioned_ || keyspace_.recorded()) {
    phase_ = phase::fast_forward;
    snapshot_ = shard_.log_size();
    if (!keyspace_.recorded()) {
      // A copy from the beginning starts behind the journal of a shard that was replaced, and never leaves
      // it.
      past_handover_ = shard_.handed_over != nullptr;
      next_ = snapshot_;
    } else {
      const auto& recorded = shard_.tables()[plan_[plan_at_]].recorded;
      snapshot_ = recorded ? recorded->snapshot : next_;
      if (!positioned_) next_ = snapshot_;
    }
    return;
  }
  phase_ = phase::catch_up;
  until_ = shard_.log_size();
}

bool shard_stream::handing_over() const {
  return at_journal_ || (phase_ == phase::running && !past_handover_ && shard_.handed_over != nullptr &&
                         next_ >= shard_.log_size());
}

bool shard_stream::produce(byte_buffer& out) {
  for (;;) {
    // Whatever it was about to do, a copy included, ends here: vtgate goes on with the successors' positions
    // alone.
    if (at_journal_) return false;
    switch (phase_) {
      case phase::searching:
        return false;
      case phase::announce: {
        std::shared_lock lock(shard_.mutex());
        next_ = shard_.log_size();
        past_handover_ = shard_.handed_over != nullptr;
        set_position();
        session_.append_vgtid(out, *this);
        append_event(out, binlogdata::OTHER, 0, 0, {}, {});
        begin_next_table();
        return true;
      }
      case phase::catch_up:
        if (next_ < until_) {
          if (send_transaction(out)) return true;
          continue;
        }
        phase_ = phase::fast_forward;
        snapshot_ = shard_.log_size();
        reset_fields();
        continue;
      case phase::fast_forward:
        if (positioned_ && next_ < snapshot_) {
          if (send_transaction(out)) return true;
          continue;
        }
        phase_ = phase::table_begin;
        continue;
      case phase::table_begin:
        session_.last_is_copy_ = true;
        send_table_begin(out);
        return true;
      case phase::table_position: {
        session_.last_is_copy_ = true;
        phase_ = phase::table_rows;
        const std::string before = gtid_;
        std::shared_lock lock(shard_.mutex());
        next_ = snapshot_;
        set_position();
        if (gtid_ == before) continue;
        session_.append_vgtid(out, *this);
        return true;
      }
      case phase::table_rows:
        session_.last_is_copy_ = true;
        send_rows(out);
        return true;
      case phase::copy_completed:
        append_event(out, binlogdata::COPY_COMPLETED, 0, 0, {}, {});
        copied_ = true;
        if (session_.copy_complete()) {
          byte_buffer whole;
          whole.number(1, binlogdata::COPY_COMPLETED);
          out.bytes(1, whole.view());
        }
        phase_ = phase::running;
        return true;
      case phase::running:
        if (next_ >= shard_.log_size()) return false;
        if (send_transaction(out)) return true;
        continue;
    }
  }
}

// -- binlog
// ----------------------------------------------------------------------------------------------------------

void shard_stream::append_event(byte_buffer& out, int type, std::int64_t time_ns, std::uint32_t payload_field,
                                std::string_view payload, std::string_view meta) const {
  const auto kind = static_cast<std::uint64_t>(type);
  const auto seconds = static_cast<std::uint64_t>(time_ns / 1'000'000'000);
  const auto now = time_ns == 0 ? 0 : static_cast<std::uint64_t>(now_ns());
  std::size_t size = 1 + varint_size(kind) + tail_.size() + meta.size();
  if (time_ns != 0) size += 1 + varint_size(seconds) + 2 + varint_size(now);
  if (payload_field != 0) size += 1 + varint_size(payload.size()) + payload.size();
  out.varint((1u << 3) | 2u);
  out.varint(size);
  out.number(1, kind);
  out.number(2, seconds);
  if (payload_field != 0) out.bytes(payload_field, payload);
  out.number(20, now);
  out.append(tail_.view());
  out.append(meta);
}

void shard_stream::append_field(byte_buffer& out, const table_schema& schema, std::int64_t time_ns,
                                std::string_view meta) {
  // The binlog's FIELD has the mark only where there are labels, the copy's always.
  const bool labels = time_ns == 0 || schema.has_labels();
  const auto field = field_event(schema, wire_name(schema.name), keyspace_.name(), shard_.name(), labels);
  append_event(out, binlogdata::FIELD, time_ns, 6, field.view(), meta);
}

bool shard_stream::send_transaction(byte_buffer& out) {
  std::shared_lock lock(shard_.mutex());
  const transaction& t = shard_.at(next_);
  if (is_journal(t) && !session_.journals_) {
    ++next_;
    at_journal_ = shard_.handed_over != nullptr && !past_handover_;
    return false;
  }
  session_.last_is_copy_ = false;
  if (t.recorded) {
    send_recorded(out, t);
    return true;
  }
  if (start_ && start_->has(shard_.sources()[t.source], t.number)) {
    ++next_;
    return false;
  }
  if (fails_to_reload(t)) return true;
  send_generated(out, t);
  return true;
}

void shard_stream::send_generated(byte_buffer& out, const transaction& t) {
  byte_buffer meta;
  meta.number(26, t.number - 1);
  meta.number(27, t.number);
  meta.text(28, shard_.sources()[t.source] + ":" + std::to_string(t.number));
  if (t.ddl_number != 0) {
    send_ddl(out, t, meta.view());
    return;
  }
  const std::int64_t time_ns = t.time_ns != 0 ? t.time_ns : 1'000'000'000;
  if (!in_transaction_) append_event(out, binlogdata::BEGIN, time_ns, 0, {}, meta.view());
  in_transaction_ = true;
  if (t.journal != nullptr) append_journal(out, t, time_ns, meta.view());
  append_changes(out, t, meta.view());
  if (change_ < t.changes.size()) return;
  change_ = 0;
  ++next_;
  at_journal_ = t.journal != nullptr && !past_handover_;
  set_position();
  session_.append_vgtid(out, *this);
  append_event(out, binlogdata::COMMIT, time_ns, 0, {}, meta.view());
  in_transaction_ = false;
}

/// A tablet that has not yet read the columns of a DDL ends the streams that come to it, before they hear of it.
bool shard_stream::fails_to_reload(const transaction& t) {
  if (t.ddl_number == 0 || !wanted(t.ddl_table)) return false;
  const auto& table = keyspace_.tables()[t.ddl_table];
  auto& left = *table.ddls[t.ddl_number - 1].reload_failures;
  for (auto now = left.load(); now > 0;) {
    if (!left.compare_exchange_weak(now, now - 1)) continue;
    fail({code_unknown, "stream (at source tablet) error @ " + shard_.position(next_ + 1) +
                            ": in Engine.reload(), reading table " + table.schema.name +
                            ": failed to reload schema after DDL encountered in stream"});
    return true;
  }
  return false;
}

/// Without BEGIN and COMMIT. Who does not read the table is not told the statement.
void shard_stream::send_ddl(byte_buffer& out, const transaction& t, std::string_view meta) {
  ++next_;
  set_position();
  session_.append_vgtid(out, *this);
  const ddl& done = keyspace_.tables()[t.ddl_table].ddls[t.ddl_number - 1];
  if (wanted(t.ddl_table))
    append_event(out, binlogdata::DDL, t.time_ns, 4, done.statement, meta);
  else
    append_event(out, binlogdata::OTHER, t.time_ns, 0, {}, meta);
}

void shard_stream::append_journal(byte_buffer& out, const transaction& t, std::int64_t time_ns,
                                  std::string_view meta) const {
  binlogdata::Journal journal;
  journal.set_id(static_cast<std::int64_t>(hash_of(shard_.name()) >> 1));
  journal.set_migration_type(binlogdata::SHARDS);
  journal.set_local_position(shard_.position(next_));
  for (const shard* successor : t.journal->successors) {
    auto* entry = journal.add_shard_gtids();
    entry->set_keyspace(keyspace_.name());
    entry->set_shard(successor->name());
    std::shared_lock lock(successor->mutex());
    entry->set_gtid(successor->begin_position());
  }
  for (const shard* participant : t.journal->participants) {
    auto* entry = journal.add_participants();
    entry->set_keyspace(keyspace_.name());
    entry->set_shard(participant->name());
  }
  append_event(out, binlogdata::JOURNAL, time_ns, 8, journal.SerializeAsString(), meta);
}

void shard_stream::append_changes(byte_buffer& out, const transaction& t, std::string_view meta) {
  std::size_t sent = 0;
  while (change_ < t.changes.size()) {
    const change& first = t.changes[change_];
    if (!wanted(first.table)) {
      ++change_;
      continue;
    }
    if (sent >= session_.options_.packet_size) return;
    // The columns are those of its time: a transaction before a DDL has the old ones.
    const std::size_t ddls = shard_.ddls_of(first.table, next_);
    const auto& schema = keyspace_.tables()[first.table].schema_after(ddls);
    const table_schema* const shown = shown_schema(first.table, ddls);
    if (shown == nullptr) return;
    if (fields_sent_[first.table] != shown) {
      append_field(out, *shown, t.time_ns, meta);
      fields_sent_[first.table] = shown;
    }
    changes_.clear();
    std::size_t rows = 0;
    bool statement_end = false;
    while (change_ < t.changes.size() && rows < row_event_size && !statement_end) {
      const change& c = t.changes[change_];
      if (c.table != first.table || c.kind != first.kind) break;
      event_.clear();
      const auto image = [&](std::uint32_t version) {
        return shard_.make_row(row_, c.table, ddls, c.id, version, row_text::binlog);
      };
      const std::uint32_t version_before = c.kind == change_kind::update ? c.version - 1 : c.version;
      if (partial_images_[first.table]) {
        std::optional<row_values> before, after;
        if (c.kind != change_kind::insert) before = read_row(image(version_before));
        if (c.kind != change_kind::remove) after = read_row(image(c.version));
        append_row_change(event_, schema, before ? &*before : nullptr, after ? &*after : nullptr,
                          session_.options_.images);
      } else {
        if (c.kind != change_kind::insert) event_.bytes(1, image(version_before));
        if (c.kind != change_kind::remove) event_.bytes(2, image(c.version));
      }
      rows += event_.size();
      changes_.bytes(2, event_.view());
      ++session_.rows_sent_;
      statement_end = c.ends_statement;
      ++change_;
    }
    event_.clear();
    event_.text(1, wire_name(schema.name));
    event_.append(changes_.view());
    event_.text(3, keyspace_.name());
    event_.text(4, shard_.name());
    event_.number(5, row_flags | (statement_end ? row_flag_statement_end : 0));
    append_event(out, binlogdata::ROW, t.time_ns, 5, event_.view(), meta);
    sent += rows;
  }
}

/// The columns that a transaction after `ddls` DDLs of its table is shown with; nullptr when the call has failed: no
/// columns can be told.
const table_schema* shard_stream::shown_schema(std::size_t t, std::size_t ddls) {
  const auto& table = keyspace_.tables()[t];
  const auto& then = table.schema_after(ddls);
  const std::size_t all = shard_.ddls_of(t, shard_.log_size());
  if (session_.options_.schema_versions || all == ddls) return &then;
  const auto& now = table.schema_after(all);
  const auto names = [](const table_schema& schema) {
    std::string out;
    for (const auto& c : schema.columns) out += (out.empty() ? "[" : " ") + c.column_type;
    return out + "]";
  };
  if (then.columns.size() > now.columns.size()) {
    fail({code_unknown, "stream (at source tablet) error @ " + shard_.position(next_ + 1) +
                            ": cannot determine table columns for " + then.name + ": event has " + names(then) +
                            ", schema has " + names(now)});
    return nullptr;
  }
  const auto [at, fresh] = shown_.try_emplace({t, ddls, all}, then);
  auto& columns = at->second.columns;
  if (!fresh) return &at->second;
  const bool fit = std::equal(columns.begin(), columns.end(), now.columns.begin(),
                              [](const column& a, const column& b) { return a.type == b.type; });
  for (std::size_t i = 0; i < columns.size(); ++i) {
    if (fit) {
      columns[i] = now.columns[i];
      continue;
    }
    column by_place;
    by_place.name = "@" + std::to_string(i + 1);
    by_place.type = columns[i].type;
    columns[i] = std::move(by_place);
  }
  return &at->second;
}

void shard_stream::send_recorded(byte_buffer& out, const transaction& t) {
  const auto& events = t.recorded->events;
  in_transaction_ = true;
  std::size_t sent = 0;
  for (; change_ < events.size(); ++change_) {
    const auto& recorded = events[change_];
    if (recorded.event.type() == binlogdata::ROW) {
      const auto number = keyspace_.find_table(recorded.event.row_event().table_name());
      if (!number || !wanted(*number)) continue;
      if (sent >= session_.options_.packet_size) return;
      if (fields_sent_[*number] != recorded.field.get()) {
        binlogdata::VEvent field = recorded.event;
        field.set_type(binlogdata::FIELD);
        field.clear_row_event();
        *field.mutable_field_event() = *recorded.field;
        field.mutable_field_event()->set_table_name(wire_name(recorded.field->table_name()));
        out.bytes(1, field.SerializeAsString());
        fields_sent_[*number] = recorded.field.get();
      }
      binlogdata::VEvent row = recorded.event;
      row.mutable_row_event()->set_table_name(wire_name(row.row_event().table_name()));
      const auto bytes = row.SerializeAsString();
      session_.rows_sent_ += static_cast<std::uint64_t>(row.row_event().row_changes_size());
      out.bytes(1, bytes);
      sent += bytes.size();
      continue;
    }
    if (change_ + 1 == events.size()) {
      ++next_;
      set_position();
      session_.append_vgtid(out, *this);
    }
    out.bytes(1, recorded.event.SerializeAsString());
  }
  change_ = 0;
  in_transaction_ = false;
}

// -- copy
// ------------------------------------------------------------------------------------------------------------

void shard_stream::send_table_begin(byte_buffer& out) {
  const std::size_t t = plan_[plan_at_];
  std::shared_lock lock(shard_.mutex());
  copy_ddls_ = shard_.ddls_of(t, snapshot_);
  copy_schema_ = &keyspace_.tables()[t].schema_after(copy_ddls_);
  const auto& schema = *copy_schema_;
  in_transaction_ = true;
  not_begun_[t] = false;
  append_event(out, binlogdata::BEGIN, 0, 0, {}, {});
  const auto& recorded = shard_.tables()[t].recorded;
  if (recorded) {
    auto field = recorded->field;
    field.set_table_name(wire_name(schema.name));
    append_event(out, binlogdata::FIELD, 0, 6, field.SerializeAsString(), {});
  } else {
    append_field(out, schema, 0, {});
  }
  copy_head_.clear();
  copy_head_.text(1, wire_name(schema.name));
  copy_tail_.clear();
  copy_tail_.text(3, keyspace_.name());
  copy_tail_.text(4, shard_.name());
  copy_tail_.append(tail_.view());
  first_batch_ = true;
  after_id_ = 0;
  recorded_row_ = 0;
  for (const auto& entry : unfinished_) {
    if (entry.table != schema.name || !entry.begun) continue;
    const auto key = key_of(entry);
    if (!key) continue;  // not exactly one row: vttablet logs it and copies from the start
    if (!recorded) {
      as_integer(key->front().value_or("0"), after_id_);
      after_id_ = std::max<std::int64_t>(after_id_, 0);
      continue;
    }
    const auto copied = [&](const std::string& row) {
      const auto values = read_row(row);
      return values && !greater(key_values(schema, *values), *key);
    };
    while (recorded_row_ < recorded->rows.size() && copied(recorded->rows[recorded_row_])) ++recorded_row_;
  }
  phase_ = phase::table_position;
}

void shard_stream::append_copy_row(byte_buffer& out, std::string_view row) {
  ++session_.rows_sent_;
  const std::size_t after = 1 + varint_size(row.size()) + row.size();
  const std::size_t body =
      copy_head_.size() + 1 + varint_size(after) + after + (copy_tail_.size() - tail_.size());
  const std::size_t event = 2 + 1 + varint_size(body) + body + tail_.size();
  char* at = out.reserve(event + 16);
  const auto put = [&at](std::string_view bytes) {
    std::memcpy(at, bytes.data(), bytes.size());
    at += bytes.size();
  };
  *at++ = 0x0a;  // VStreamResponse.events
  at = write_varint(at, event);
  *at++ = 0x08;  // VEvent.type
  *at++ = binlogdata::ROW;
  *at++ = 0x2a;  // VEvent.row_event
  at = write_varint(at, body);
  put(copy_head_.view());
  *at++ = 0x12;  // RowEvent.row_changes
  at = write_varint(at, after);
  *at++ = 0x12;  // RowChange.after
  at = write_varint(at, row.size());
  put(row);
  put(copy_tail_.view());
  out.set_end(at);
}

std::size_t shard_stream::append_generated_rows(byte_buffer& out) {
  const std::size_t t = plan_[plan_at_];
  const auto& definition = keyspace_.tables()[t];
  if (!definition.rows) return 0;
  std::size_t count = 0;
  std::size_t sent = 0;
  std::shared_lock lock(shard_.mutex());
  std::string_view row;
  shard_.scan(t, snapshot_, after_id_, [&](std::int64_t id, std::uint32_t version) {
    row = shard_.make_row(row_, t, copy_ddls_, id, version, row_text::mysql);
    append_copy_row(out, row);
    after_id_ = id;
    ++count;
    sent += row.size();
    return sent < session_.options_.packet_size;
  });
  if (count > 0) {
    const auto values = read_row(row);
    byte_buffer key;
    if (values) append_row(key, key_values(*copy_schema_, *values));
    last_key_row_ = std::string(key.view());
  }
  return count;
}

std::size_t shard_stream::append_recorded_rows(byte_buffer& out) {
  const std::size_t t = plan_[plan_at_];
  const auto& recorded = shard_.tables()[t].recorded;
  if (!recorded) return 0;
  std::size_t count = 0;
  std::size_t sent = 0;
  while (recorded_row_ < recorded->rows.size() && sent < session_.options_.packet_size) {
    const auto& row = recorded->rows[recorded_row_++];
    append_copy_row(out, row);
    ++count;
    sent += row.size();
  }
  if (count > 0) {
    const auto values = read_row(recorded->rows[recorded_row_ - 1]);
    byte_buffer key;
    if (values) append_row(key, key_values(keyspace_.tables()[t].schema, *values));
    last_key_row_ = std::string(key.view());
  }
  return count;
}

void shard_stream::send_rows(byte_buffer& out) {
  const auto& schema = *copy_schema_;
  if (!first_batch_) append_event(out, binlogdata::BEGIN, 0, 0, {}, {});
  in_transaction_ = true;
  const std::size_t count = keyspace_.recorded() ? append_recorded_rows(out) : append_generated_rows(out);
  auto entry = std::find_if(unfinished_.begin(), unfinished_.end(),
                            [&](const unfinished& u) { return u.table == schema.name; });
  if (count == 0) {
    // The end of the table. Of an empty one BEGIN comes a second time, and no COMMIT in between.
    if (first_batch_) append_event(out, binlogdata::BEGIN, 0, 0, {}, {});
    if (entry != unfinished_.end()) {
      std::swap(*entry, unfinished_.back());
      unfinished_.pop_back();
    }
    ++plan_at_;
  } else {
    if (entry == unfinished_.end()) {
      unfinished_.emplace_back();
      entry = std::prev(unfinished_.end());
      entry->table = schema.name;
    }
    entry->begun = true;
    entry->lastpk = std::string(lastpk_result(schema, last_key_row_).view());
    first_batch_ = false;
  }
  rebuild_entry();
  session_.append_vgtid(out, *this);
  append_event(out, binlogdata::COMMIT, 0, 0, {}, {});
  in_transaction_ = false;
  if (count == 0) begin_next_table();
}

}  // namespace psource::local_branch
