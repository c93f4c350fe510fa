// The state machine behind event_assembler.hpp.
#include "protocol/vitess/event_assembler.hpp"

#include <algorithm>
#include <utility>

namespace psource {

event_assembler::shard_state& event_assembler::state_of(const raw_event& event) {
  for (auto& state : shards_)
    if (state.shard == event.shard && state.keyspace == event.keyspace) return state;
  shards_.push_back({std::string(event.keyspace), std::string(event.shard), false, false, 0, {}});
  return shards_.back();
}

void event_assembler::count_commit(shard_state& state, const raw_event& event, bool has_vgtid) {
  if (has_vgtid) {
    state.commits_without_vgtid = 0;
    return;
  }
  // Servers before v23 do not say which transaction it is.
  const bool again = !event.event_gtid.empty() && state.first_without_vgtid == event.event_gtid;
  if (again) state.commits_without_vgtid = 0;
  if (++state.commits_without_vgtid == 1) state.first_without_vgtid = std::string(event.event_gtid);
}

std::uint64_t event_assembler::commits_without_vgtid(std::string_view shard) const {
  for (const auto& state : shards_)
    if (state.shard == shard) return state.commits_without_vgtid;
  return 0;
}

void event_assembler::forget(std::string_view shard) {
  shards_.erase(std::remove_if(shards_.begin(), shards_.end(), [shard](const auto& state) { return state.shard == shard; }),
                shards_.end());
}

bool event_assembler::inside_transaction() const {
  for (const auto& state : shards_)
    if (state.rows_seen) return true;
  return false;
}

result<stream_step> event_assembler::feed(const raw_event& event) {
  switch (event.type) {
    case event_type::heartbeat:
      return stream_step::heartbeat;
    case event_type::begin: {
      auto& state = state_of(event);
      state.open = true;
      state.rows_seen = false;
      return stream_step::nothing;
    }
    case event_type::field:
      return stream_step::fields;
    case event_type::row:
      state_of(event).rows_seen = true;
      return stream_step::rows;
    case event_type::vgtid:
      pending_vgtid_.assign(event.vgtid.data(), event.vgtid.size());
      has_pending_vgtid_ = true;
      pending_position_.reset();
      return stream_step::nothing;
    case event_type::commit: {
      auto& state = state_of(event);
      state.open = false;
      state.rows_seen = false;
      count_commit(state, event, has_pending_vgtid_);
      return stream_step::boundary;
    }
    case event_type::ddl:
    case event_type::other:
      if (has_pending_vgtid_) state_of(event).commits_without_vgtid = 0;
      return stream_step::boundary;
    case event_type::rollback: {
      auto& state = state_of(event);
      if (state.rows_seen)
        return fail(error_code::response_malformed,
                    "The server rolled back a transaction of " + std::string(event.keyspace) + "/" +
                        std::string(event.shard) + " after sending rows of it.");
      state.open = false;
      return stream_step::nothing;
    }
    case event_type::copy_completed:
      return stream_step::copy_completed;
    case event_type::insert:
    case event_type::replace:
    case event_type::update:
    case event_type::delete_:
    case event_type::set:
      return fail(error_code::row_image_incomplete,
                  "The server's binary log holds statements instead of rows for " + std::string(event.keyspace) +
                      "/" + std::string(event.shard) + "; set binlog_format=ROW.");
    case event_type::unknown:
    case event_type::gtid:
    case event_type::journal:
    case event_type::version:
    case event_type::lastpk:
    case event_type::savepoint:
    case event_type::previous_gtids:
    case event_type::rows_query:
      break;
  }
  // Also event types of later servers: what carries rows or positions is known above, the rest is information.
  return stream_step::nothing;
}

result<const vgtid*> event_assembler::pending_position() {
  if (!pending_position_) {
    auto parsed = has_pending_vgtid_ ? parse_vgtid(pending_vgtid_) : vgtid{};
    if (!parsed) return fail(std::move(parsed.error()));
    pending_position_ = std::move(*parsed);
  }
  return &*pending_position_;
}

result<vgtid> event_assembler::take_position() {
  auto parsed = pending_position();
  has_pending_vgtid_ = false;
  auto position = std::exchange(pending_position_, std::nullopt);
  if (!parsed) return fail(std::move(parsed.error()));
  return std::move(*position);
}

}  // namespace psource
