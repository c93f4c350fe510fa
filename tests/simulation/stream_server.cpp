// Implementation of stream_server.hpp.
#include "tests/simulation/stream_server.hpp"

#include <algorithm>
#include <cstdlib>
#include <set>
#include <stdexcept>
#include <utility>

#include "vtgate.pb.h"

namespace psource::simulation {

namespace {

constexpr int status_cancelled = 1;
constexpr int status_internal = 13;

// The first value of a lastpk's row.
std::optional<model_row> key_of(const query::QueryResult& lastpk) {
  const auto& row = lastpk.rows(0);
  return model_row{std::atoll(row.values().substr(0, static_cast<std::size_t>(row.lengths(0))).c_str()), 0,
                   0};
}

void fill(query::Row* row, const model_row& values, const table_shape& shape) {
  std::string bytes;
  for (const auto& column : shape) {
    const auto value = column.value(values);
    row->add_lengths(value ? static_cast<std::int64_t>(value->size()) : -1);
    if (value) bytes += *value;
  }
  row->set_values(bytes);
}

// Counted for as long as anybody holds it: in the transport, in a message or in a session. Every other one is cut into pieces,
// as gRPC cuts them: anywhere.
class served_response final : public response_bytes {
 public:
  served_response(std::string bytes, std::shared_ptr<response_account> account)
      : bytes_(std::move(bytes)), account_(std::move(account)) {
    const std::size_t piece = bytes_.size() % 2 == 0 ? bytes_.size() : 1 + bytes_.size() % 251;
    std::vector<std::string_view> pieces;
    for (std::size_t at = 0; at < bytes_.size(); at += piece)
      pieces.push_back(std::string_view(bytes_).substr(at, piece));
    set(std::move(pieces));
  }
  ~served_response() override { account_->bytes -= size() + response_overhead; }

 private:
  const std::string bytes_;
  const std::shared_ptr<response_account> account_;
};

// vtgate looks for a tablet that can serve a position until it gives up; it does not say why none could.
stream_end no_tablet_for(const std::string& shard) {
  return {status_cancelled,
          "failed to find a PRIMARY tablet for VStream in ks/" + shard +
              " within the zone1 cell(s): context has expired",
          false};
}

void describe(query::Field* field, const model_column& column, bool keyed) {
  const bool number = std::string(column.type()) == "bigint";
  field->set_name(column.name);
  field->set_type(number ? query::INT64 : query::TEXT);
  field->set_column_type(column.type());
  field->set_charset(number ? 63 : 255);
  if (column.kind == column_kind::id) field->set_flags(keyed ? 3 : 1);
}

}  // namespace

served_call::served_call(branch_model& branch, chance_source& chance, const vstream_request& asked_for,
                         std::shared_ptr<vstream_listener> listener, const transport_limits& limits,
                         std::shared_ptr<response_account> held)
    : branch_(branch),
      chance_(chance),
      listener_(std::move(listener)),
      held_(std::move(held)),
      limits_(limits),
      is_last_(asked_for.is_last) {
  vtgate::VStreamRequest request;
  if (!request.ParseFromString(asked_for.bytes)) throw std::logic_error("a request that is none");
  for (const auto& rule : request.filter().rules()) {
    request_.tables.push_back(rule.match());
    for (std::size_t i = 0; i < branch_.tables().size(); ++i)
      if (branch_.tables()[i].name == rule.match()) tables_.push_back(i);
  }
  for (const auto& start : request.vgtid().shard_gtids()) {
    opened_call::start asked;
    asked.shard = start.shard();
    asked.gtid = start.gtid();
    shard_cursor_model at;
    at.shard = branch_.find(start.shard());
    if (at.shard == nullptr) {
      verdict_ = stream_end{9, "shard provided in VGTID, " + start.shard() + ", not found in the ks keyspace",
                            false};
      request_.shards.push_back(asked);
      continue;
    }
    if (start.table_p_ks_size() > 1) throw std::logic_error("the model copies one table per call");
    if (start.table_p_ks_size() == 1) {
      asked.copy = true;
      at.copying = true;
      if (start.table_p_ks(0).has_lastpk()) {
        at.lastpk = key_of(start.table_p_ks(0).lastpk());
        asked.lastpk = start.table_p_ks(0).lastpk().SerializeAsString();
      }
    }
    if (!start.gtid().empty()) {
      const auto position = position_set::parse(start.gtid());
      if (position) at.index = at.shard->index_of(*position);
      // vtgate looks for a tablet that has the position until it gives up.
      if (!at.index || *at.index < at.shard->purged) verdict_ = no_tablet_for(asked.shard);
    } else if (!asked.copy) {
      throw std::logic_error("a stream needs a position or a table to copy");
    }
    at.told = at.index;
    at.asked = start.gtid();
    request_.shards.push_back(asked);
    streams_.push_back(at);
  }
  resume_ = std::make_shared<const call_checkpoint>(call_checkpoint{streams_, {}});
}

response_buffer served_call::take() {
  if (on_take) on_take();
  response_buffer response;
  if (dropped_ || ready_.empty()) {
    told_ready_ = false;
  } else {
    response = std::move(ready_.front());
    ready_.pop_front();
    ready_bytes_ -= response->size() + response_overhead;
  }
  // Whoever found nothing waits for the next response: that is not read ahead.
  if (!reading_ && (response == nullptr || reads_ahead())) {
    reading_ = true;
    last_was_read_ = false;
  }
  return response;
}

bool served_call::reads_ahead() const {
  return !last_was_read_ && may_read_ahead(limits_, ready_bytes_, held_->bytes);
}

void served_call::drop() {
  dropped_ = true;
  ready_.clear();
  ready_bytes_ = 0;
}

std::optional<stream_end> served_call::verdict() {
  if (!reading_) return std::nullopt;
  if (cut_) return cut_;
  if (verdict_ && outbox_.empty()) return verdict_;
  return std::nullopt;
}

bool served_call::can_send() {
  if (ended_ || dropped_ || cut_ || !reading_) return false;
  while (outbox_.empty() && !verdict_)
    if (!generate()) break;
  return !outbox_.empty();
}

void served_call::send(std::size_t events) {
  vtgate::VStreamResponse response;
  std::vector<std::pair<std::string, std::string>> settled;
  for (; events > 0 && !outbox_.empty(); --events) {
    out_event& next = outbox_.front();
    *response.add_events() = std::move(next.event);
    ++events_sent_;
    if (next.checkpoint) resume_ = std::move(next.checkpoint);
    settled.insert(settled.end(), next.settles.begin(), next.settles.end());
    outbox_.pop_front();
    if (outbox_.empty() && events > 1 && !verdict_) generate();
  }
  if (on_settled)
    for (const auto& [shard, gtid] : settled) on_settled(shard, gtid);
  hand_out(response.SerializeAsString());
}

void served_call::hand_out(std::string bytes) {
  const std::size_t size = bytes.size() + response_overhead;
  held_->grow(size);
  ready_.push_back(std::make_shared<const served_response>(std::move(bytes), held_));
  ready_bytes_ += size;
  last_was_read_ = is_last_ != nullptr && is_last_(*ready_.back());
  reading_ = reads_ahead();
  if (!std::exchange(told_ready_, true)) listener_->on_ready();
}

void served_call::send_heartbeat() {
  vtgate::VStreamResponse response;
  response.add_events()->set_type(binlogdata::HEARTBEAT);
  hand_out(response.SerializeAsString());
}

void served_call::end(int status, std::string message) {
  if (ended_) return;
  if (!reading_ && !dropped_) {
    if (!cut_) cut_ = stream_end{status, std::move(message), false};
    // Whatever else it would have kept back.
    mute = false;
    only_heartbeats_until_us = 0;
    return;
  }
  ended_ = true;
  auto listener = std::move(listener_);
  listener->on_end({status, std::move(message), false});
}

void served_call::end_dropped() {
  if (std::exchange(ended_, true)) return;
  auto listener = std::move(listener_);
  listener->on_end({status_cancelled, "CANCELLED", true});
}

void served_call::restart() {
  // A VGTID and its COMMIT leave together.
  if (!outbox_.empty() && !outbox_.front().first_of_chunk &&
      (outbox_.front().event.type() == binlogdata::COMMIT ||
       outbox_.front().event.type() == binlogdata::OTHER ||
       outbox_.front().event.type() == binlogdata::DDL))
    return;
  outbox_.clear();
  streams_ = resume_->shards;
  // vtgate knows of a shard what its VGTIDs told, not what came without one.
  for (auto& at : streams_) at.index = at.told;
  copies_completed_ = resume_->copies_completed;
  snapshots_.clear();
  batch_open_.clear();
  fields_sent_.clear();
  verdict_.reset();
  for (const auto& at : streams_)
    if (at.index && *at.index < at.shard->purged) verdict_ = no_tablet_for(at.shard->name);
}

binlogdata::VEvent& served_call::add(binlogdata::VEventType type, const shard_cursor_model& at,
                                     std::int64_t seconds) {
  outbox_.emplace_back();
  auto& event = outbox_.back().event;
  event.set_type(type);
  event.set_timestamp(seconds);
  event.set_keyspace(keyspace);
  event.set_shard(at.shard->name);
  return event;
}

void served_call::add_field(const shard_cursor_model& at, std::size_t table, std::size_t ddls) {
  auto* field = add(binlogdata::FIELD, at, 0).mutable_field_event();
  field->set_table_name(branch_.tables()[table].name);
  field->set_keyspace(keyspace);
  field->set_shard(at.shard->name);
  for (const auto& column : branch_.shape(table, ddls))
    describe(field->add_fields(), column, branch_.tables()[table].keyed);
}

void served_call::add_vgtid(shard_cursor_model& at) {
  at.told = at.index;
  auto* vgtid = add(binlogdata::VGTID, at, 0).mutable_vgtid();
  auto& event = outbox_.back();
  // The order of the list means nothing, and changes.
  const std::size_t first = chance_.below(streams_.size());
  for (std::size_t i = 0; i < streams_.size(); ++i) {
    const auto& stream = streams_[(first + i) % streams_.size()];
    auto* entry = vgtid->add_shard_gtids();
    entry->set_keyspace(keyspace);
    entry->set_shard(stream.shard->name);
    if (stream.told) {
      entry->set_gtid(stream.shard->position_text(*stream.told));
      event.settles.emplace_back(stream.shard->name, entry->gtid());
    } else {
      entry->set_gtid(stream.asked);
    }
    if (!stream.copying) continue;
    auto* progress = entry->add_table_p_ks();
    progress->set_table_name(branch_.tables()[tables_.front()].name);
    if (!stream.lastpk) continue;
    auto* lastpk = progress->mutable_lastpk();
    const bool keyed = branch_.tables()[tables_.front()].keyed;
    const auto columns = plain_shape();
    describe(lastpk->add_fields(), columns[0], keyed);
    if (keyed) {
      const std::string id = std::to_string(stream.lastpk->id);
      auto* row = lastpk->add_rows();
      row->add_lengths(static_cast<std::int64_t>(id.size()));
      row->set_values(id);
    } else {
      describe(lastpk->add_fields(), columns[1], keyed);
      fill(lastpk->add_rows(), *stream.lastpk, columns);
    }
  }
}

// Marks the events since `first` as one piece that nothing comes between.
void served_call::finish_chunk(std::size_t first) {
  if (first >= outbox_.size()) return;
  outbox_[first].first_of_chunk = true;
  // The positions hold with the last event: COMMIT, OTHER or DDL.
  auto& last = outbox_.back();
  for (std::size_t i = first; i + 1 < outbox_.size(); ++i) {
    last.settles.insert(last.settles.end(), outbox_[i].settles.begin(), outbox_[i].settles.end());
    if (!outbox_[i].snapshot) outbox_[i].settles.clear();
  }
  if (last.event.type() == binlogdata::COMMIT || last.event.type() == binlogdata::OTHER ||
      last.event.type() == binlogdata::DDL)
    last.checkpoint = std::make_shared<const call_checkpoint>(call_checkpoint{streams_, copies_completed_});
}

// Tables whose copy has not begun show nothing.
bool served_call::shows(const shard_cursor_model& at, std::size_t table) const {
  return std::find(tables_.begin(), tables_.end(), table) != tables_.end() && (!at.copying || at.lastpk);
}

void served_call::log_events(shard_cursor_model& at, const log_entry& entry) {
  const std::size_t first = outbox_.size();
  ++*at.index;
  switch (entry.kind) {
    case entry_kind::unsent:
    case entry_kind::journal:
      return;
    case entry_kind::statement:
      add_vgtid(at);
      add(binlogdata::OTHER, at, entry.seconds);
      break;
    case entry_kind::ddl:
      add_vgtid(at);
      if (shows(at, entry.table))
        add(binlogdata::DDL, at, entry.seconds).set_statement(branch_.ddl(entry.table, entry.ddl).statement);
      else
        add(binlogdata::OTHER, at, entry.seconds);
      break;
    case entry_kind::silent:
      if (chance_.percent(70)) add(binlogdata::BEGIN, at, entry.seconds);
      add(binlogdata::COMMIT, at, entry.seconds);
      // vtgate knows of no new position: it would stream this transaction again.
      outbox_[first].first_of_chunk = true;
      tell_gtid(first, entry);
      return;
    case entry_kind::rows: {
      add(binlogdata::BEGIN, at, entry.seconds);
      binlogdata::RowEvent* row_event = nullptr;
      std::size_t row_table = 0;
      for (const auto& change : entry.changes) {
        if (!shows(at, change.table)) continue;
        const std::size_t ddls = at.shard->ddls_at(change.table, *at.index);
        const auto [sent, fresh] = fields_sent_.try_emplace({at.shard->name, change.table}, ddls);
        if (fresh || std::exchange(sent->second, ddls) != ddls) {
          add_field(at, change.table, ddls);
          row_event = nullptr;
        }
        if (row_event == nullptr || row_table != change.table || chance_.percent(30)) {
          row_event = add(binlogdata::ROW, at, entry.seconds).mutable_row_event();
          row_event->set_table_name(branch_.tables()[change.table].name);
          row_event->set_keyspace(keyspace);
          row_event->set_shard(at.shard->name);
          row_table = change.table;
        }
        auto* row_change = row_event->add_row_changes();
        const auto& shape = branch_.shape(change.table, ddls);
        if (change.before) fill(row_change->mutable_before(), *change.before, shape);
        if (change.after) fill(row_change->mutable_after(), *change.after, shape);
      }
      add_vgtid(at);
      add(binlogdata::COMMIT, at, entry.seconds);
      break;
    }
  }
  tell_gtid(first, entry);
  finish_chunk(first);
}

void served_call::tell_gtid(std::size_t first, const log_entry& entry) {
  if (hide_event_gtid) return;
  for (std::size_t i = first; i < outbox_.size(); ++i) outbox_[i].event.set_event_gtid(entry.gtid);
}

void served_call::take_snapshot(shard_cursor_model& at) {
  const std::size_t first = outbox_.size();
  const bool moved = !at.index || *at.index != at.shard->visible;
  at.index = at.shard->visible;
  const std::size_t table = tables_.front();
  if (on_snapshot) on_snapshot(*at.shard, table, *at.index, !at.lastpk);
  auto& rows = snapshots_[at.shard->name];
  rows.clear();
  for (const auto& [key, moments] : at.shard->history) {
    if (key.first != table || (at.lastpk && key.second <= at.lastpk->id)) continue;
    const row_moment* now = at.shard->at(key, *at.index);
    if (now == nullptr || !now->live) continue;
    rows.push_back({key.second, now->version, now->padding});
  }
  add(binlogdata::BEGIN, at, 0);
  const std::size_t ddls = at.shard->ddls_at(table, *at.index);
  snapshot_ddls_[at.shard->name] = ddls;
  add_field(at, table, ddls);
  if (moved) {
    add_vgtid(at);
    outbox_.back().snapshot = true;
    // From here on vtgate resumes at the snapshot's position, with the table still to be copied.
    outbox_.back().checkpoint =
        std::make_shared<const call_checkpoint>(call_checkpoint{streams_, copies_completed_});
  }
  outbox_[first].first_of_chunk = true;
  batch_open_[at.shard->name] = true;
}

void served_call::copy_rows(shard_cursor_model& at) {
  const std::size_t first = outbox_.size();
  auto& rows = snapshots_[at.shard->name];
  const std::size_t table = tables_.front();
  if (rows.empty()) {
    // Also after an empty snapshot, whose BEGIN nobody has closed.
    batch_open_.erase(at.shard->name);
    snapshots_.erase(at.shard->name);
    at.copying = false;
    at.lastpk.reset();
    fields_sent_.clear();
    add(binlogdata::BEGIN, at, 0);
    add_vgtid(at);
    add(binlogdata::COMMIT, at, 0);
    finish_chunk(first);
    if (hide_copy_completed) return;
    add(binlogdata::COPY_COMPLETED, at, 0);
    copies_completed_.push_back(at.shard->name);
    outbox_.back().first_of_chunk = true;
    if (copies_completed_.size() == streams_.size()) {
      outbox_.emplace_back();
      outbox_.back().event.set_type(binlogdata::COPY_COMPLETED);
      outbox_.back().first_of_chunk = true;
    }
    return;
  }
  if (!std::exchange(batch_open_[at.shard->name], false)) add(binlogdata::BEGIN, at, 0);
  for (std::size_t n = 1 + chance_.below(4); n > 0 && !rows.empty(); --n) {
    auto* row = add(binlogdata::ROW, at, 0).mutable_row_event();
    row->set_table_name(branch_.tables()[table].name);
    row->set_keyspace(keyspace);
    row->set_shard(at.shard->name);
    at.lastpk = rows.front();
    fill(row->add_row_changes()->mutable_after(), rows.front(),
         branch_.shape(table, snapshot_ddls_[at.shard->name]));
    rows.pop_front();
  }
  add_vgtid(at);
  add(binlogdata::COMMIT, at, 0);
  finish_chunk(first);
}

bool served_call::generate_from(shard_cursor_model& at) {
  if (at.journal) return false;
  if (at.copying && snapshots_.count(at.shard->name) > 0) {
    copy_rows(at);
    return true;
  }
  // A replica that lags behind the asked position sends nothing until it is there.
  if (at.index && *at.index < at.shard->visible) {
    for (std::size_t i = 0; i < at.shard->journals.size(); ++i) {
      if (at.shard->journals[i].at != *at.index) continue;
      at.journal = i;
      fail_participants();
      return swap_resharded();
    }
    log_events(at, at.shard->log[*at.index]);
    return true;
  }
  if (at.index && *at.index > at.shard->visible) return false;
  if (!at.copying) return false;
  take_snapshot(at);
  return true;
}

// A journal names shards that this call does not have: vtgate refuses to go on, also where another shard of the call
// would become one of them.
void served_call::fail_participants() {
  for (const auto& at : streams_) {
    if (!at.journal) continue;
    for (const auto& name : at.at_journal()->participants) {
      const bool here = std::any_of(streams_.begin(), streams_.end(),
                                    [&name](const auto& stream) { return stream.shard->name == name; });
      if (!here)
        verdict_ = stream_end{
            status_internal,
            "not all journaling participants are in the stream: journal: [...], stream: [...]", false};
    }
  }
}

bool served_call::swap_resharded() {
  if (verdict_) return false;
  for (const auto& at : streams_) {
    if (!at.journal) continue;
    const auto participants = at.at_journal()->participants;
    const auto successors = at.at_journal()->successors;
    const bool all = std::all_of(participants.begin(), participants.end(), [&](const std::string& name) {
      return std::any_of(streams_.begin(), streams_.end(), [&](const auto& stream) {
        return stream.shard->name == name && stream.journal && stream.at_journal()->successors == successors;
      });
    });
    if (!all) continue;
    streams_.erase(std::remove_if(streams_.begin(), streams_.end(),
                                  [&](const auto& stream) {
                                    return std::find(participants.begin(), participants.end(),
                                                     stream.shard->name) != participants.end();
                                  }),
                   streams_.end());
    for (const auto& [name, start] : successors) {
      shard_cursor_model born;
      born.shard = branch_.find(name);
      born.index = born.told = start;
      streams_.push_back(born);
    }
    return true;
  }
  return false;
}

bool served_call::generate() {
  const std::size_t first = streams_.empty() ? 0 : chance_.below(streams_.size());
  for (std::size_t i = 0; i < streams_.size(); ++i) {
    if (generate_from(streams_[(first + i) % streams_.size()])) return true;
    if (verdict_) return false;
  }
  return false;
}

std::unique_ptr<vstream_call> stream_server::open(vstream_request request,
                                                  std::shared_ptr<vstream_listener> listener) {
  class handle final : public vstream_call {
   public:
    explicit handle(std::shared_ptr<served_call> call) : call_(std::move(call)) {}
    ~handle() override { call_->drop(); }
    response_buffer take() override { return call_->take(); }
    void cancel() override { call_->drop(); }

   private:
    std::shared_ptr<served_call> call_;
  };
  auto call = std::make_shared<served_call>(branch_, chance_, request, std::move(listener), limits_, held_);
  if (closed) return std::make_unique<handle>(std::move(call));
  calls_.push_back(call);
  if (on_open) on_open(*call);
  return std::make_unique<handle>(std::move(call));
}

std::size_t stream_server::fed_calls() const {
  return static_cast<std::size_t>(std::count_if(calls_.begin(), calls_.end(), [](const auto& call) { return call->fed(); }));
}

void stream_server::tidy() {
  calls_.erase(std::remove_if(calls_.begin(), calls_.end(), [](const auto& call) { return !call->open(); }),
               calls_.end());
}

}  // namespace psource::simulation
