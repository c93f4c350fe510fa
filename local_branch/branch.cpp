// The model of a branch.
#include "local_branch/branch.hpp"

#include <algorithm>

#include "local_branch/replay.hpp"

namespace psource::local_branch {
namespace {

std::string uuid_of(std::uint64_t seed) {
  std::uint64_t words[2] = {mix(seed), mix(~seed)};
  std::string hex;
  for (const auto word : words)
    for (int shift = 60; shift >= 0; shift -= 4) hex += "0123456789abcdef"[(word >> shift) & 15];
  hex[12] = '1';  // a UUID of version 1, as MySQL makes them
  hex[16] = "89ab"[words[1] & 3];
  for (const std::size_t at : {20, 16, 12, 8}) hex.insert(at, 1, '-');
  return hex;
}

}  // namespace

std::uint64_t hash_of(std::string_view text) {
  std::uint64_t hash = 0xcbf29ce484222325u;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  return mix(hash);
}

// -- shard
// -----------------------------------------------------------------------------------------------------------

shard::shard(keyspace& owner, std::string name, std::size_t number, std::string server_uuid)
    : owner_(owner), name_(std::move(name)), number_(number), sources_{std::move(server_uuid)} {}

gtids shard::executed(std::size_t count) const {
  if (count > 0 && log_[count - 1].recorded) {
    auto parsed = gtids::parse(log_[count - 1].recorded->position);
    return parsed ? *parsed : gtids();
  }
  gtids out;
  if (auto parsed = gtids::parse(initial_position)) out = *parsed;
  // Each source's transactions lie together, numbered from 1.
  for (std::size_t end = count; end > 0;) {
    const auto& last = log_[end - 1];
    out.add(sources_[last.source], 1, last.number);
    end -= static_cast<std::size_t>(last.number);
  }
  return out;
}

std::string shard::position(std::size_t count) const {
  if (count == 0) return initial_position;
  if (log_[count - 1].recorded) return log_[count - 1].recorded->position;
  return executed(count).to_position();
}

std::optional<std::size_t> shard::locate(const gtids& have) const {
  const std::size_t size = log_.size();
  if (!executed(size).contains(have)) {
    // A recording begins in the middle of a log: what came before is executed too.
    auto before = gtids::parse(initial_position);
    if (size > 0 || !before || !before->contains(have)) return std::nullopt;
  }
  std::size_t at = 0;
  while (at < size) {
    const auto& t = log_[at];
    if (t.recorded) {
      auto position = gtids::parse(t.recorded->position);
      if (position && !have.contains(*position)) return at;
    } else if (!have.has(sources_[t.source], t.number)) {
      return at;
    }
    ++at;
  }
  return size;
}

void shard::append(transaction t) {
  {
    std::unique_lock lock(mutex_);
    if (!t.recorded) {
      t.source = static_cast<std::uint32_t>(sources_.size() - 1);
      t.number = log_.empty() || log_.back().source != t.source ? 1 : log_.back().number + 1;
    }
    log_.push_back(std::move(t));
    size_.store(log_.size(), std::memory_order_release);
  }
  notify();
}

void shard::subscribe(std::weak_ptr<commit_listener> listener) {
  std::lock_guard lock(listeners_mutex_);
  listeners_.erase(
      std::remove_if(listeners_.begin(), listeners_.end(), [](const auto& l) { return l.expired(); }),
      listeners_.end());
  listeners_.push_back(std::move(listener));
}

void shard::notify() {
  std::vector<std::shared_ptr<commit_listener>> alive;
  {
    std::lock_guard lock(listeners_mutex_);
    alive.reserve(listeners_.size());
    for (const auto& listener : listeners_)
      if (auto held = listener.lock()) alive.push_back(std::move(held));
  }
  for (const auto& listener : alive) listener->on_commit();
}

// -- shard::writer
// ---------------------------------------------------------------------------------------------------

bool shard::writer::exists(std::size_t t, std::int64_t id) const {
  if (const auto* state = shard_.tables_[t].find(id)) return state->present;
  return id >= 1 && id <= shard_.owner_.tables()[t].row_count &&
         shard_.owner_.layout().shard_of(id) == shard_.number_;
}

void shard::writer::set(std::size_t t, std::int64_t id, std::uint32_t version, bool present) {
  auto& changed = shard_.tables_[t].changed;
  auto [at, fresh] = changed.try_emplace(id);
  auto& state = at->second;
  if (!fresh) {
    auto older = std::make_unique<shard_table::row_state>();
    older->since = state.since;
    older->version = state.version;
    older->present = state.present;
    older->older = std::move(state.older);
    state.older = std::move(older);
  }
  state.since = shard_.log_.size();
  state.version = version;
  state.present = present;
}

void shard::writer::add(change_kind kind, std::size_t t, std::int64_t id, std::uint32_t version) {
  changes_.push_back({id, version, static_cast<std::uint16_t>(t), kind, false});
}

bool shard::writer::insert(std::size_t t, std::int64_t id) {
  if (exists(t, id)) return false;
  const auto* state = shard_.tables_[t].find(id);
  const std::uint32_t version = state != nullptr ? state->version + 1 : 0;
  add(change_kind::insert, t, id, version);
  set(t, id, version, true);
  return true;
}

bool shard::writer::update(std::size_t t, std::int64_t id) {
  if (!exists(t, id)) return false;
  const auto* state = shard_.tables_[t].find(id);
  const std::uint32_t version = (state != nullptr ? state->version : 0) + 1;
  add(change_kind::update, t, id, version);
  set(t, id, version, true);
  return true;
}

bool shard::writer::remove(std::size_t t, std::int64_t id) {
  if (!exists(t, id)) return false;
  const auto* state = shard_.tables_[t].find(id);
  const std::uint32_t version = state != nullptr ? state->version : 0;
  add(change_kind::remove, t, id, version);
  set(t, id, version, false);
  return true;
}

void shard::writer::end_statement() {
  if (!changes_.empty()) changes_.back().ends_statement = true;
}

// -- keyspace
// --------------------------------------------------------------------------------------------------------

keyspace::keyspace(std::string name, std::uint64_t seed, std::size_t shards)
    : name_(std::move(name)), seed_(mix(seed ^ hash_of(name_))), layout_(seed_, shards), recorded_(false) {
  add_shards(shard_names(shards));
  // What a server does before anybody reads from it: an empty transaction, so that no position is ever empty.
  for (const auto& s : shards_) s->append({});
}

keyspace::keyspace(std::string name, std::uint64_t seed, const std::vector<std::string>& shards)
    : name_(std::move(name)),
      seed_(mix(seed ^ hash_of(name_))),
      layout_(seed_, std::max<std::size_t>(shards.size(), 1)),
      recorded_(true) {
  add_shards(shards);
}

void keyspace::add_shards(const std::vector<std::string>& names) {
  for (std::size_t i = 0; i < names.size(); ++i)
    shards_.push_back(std::make_unique<shard>(*this, names[i], i, uuid_of(seed_ ^ hash_of(names[i]))));
}

shard* keyspace::find_shard(const std::string& name) const {
  for (const auto& s : shards_)
    if (s->name() == name) return s.get();
  return nullptr;
}

std::optional<std::size_t> keyspace::find_table(const std::string& name) const {
  for (std::size_t i = 0; i < tables_.size(); ++i)
    if (tables_[i].schema.name == name) return i;
  return std::nullopt;
}

void keyspace::add_table(table t) {
  tables_.push_back(std::move(t));
  for (const auto& s : shards_) s->tables().resize(tables_.size());
}

void keyspace::add_sbtest_tables(std::size_t count, std::int64_t rows) {
  for (std::size_t i = 1; i <= count; ++i) {
    table t;
    t.schema = sbtest_schema("sbtest" + std::to_string(i));
    t.rows = std::make_unique<sbtest_rows>(mix(seed_ ^ hash_of(t.schema.name)), rows);
    t.row_count = rows;
    t.writable = true;
    add_table(std::move(t));
  }
}

void keyspace::add_internal_tables() {
  const auto like = sbtest_schema("sbtest1");
  table put_aside;
  put_aside.schema = sbtest_schema("_vt_hld_6ace8bcef73211ea87e9f875a4d24e90_20260101000000_");
  put_aside.rows = std::make_unique<sbtest_rows>(seed_, 1);
  add_table(std::move(put_aside));
  table sequence;
  sequence.schema.name = "sbtest_seq";
  sequence.schema.kind = table_kind::sequence;
  sequence.schema.comment = "vitess_sequence";
  for (const char* name : {"id", "next_id", "cache"}) {
    column c = like.columns[0];
    c.name = name;
    if (c.name != "id") {
      c.flags = flag_number;
      c.nullable = true;
    }
    sequence.schema.columns.push_back(std::move(c));
  }
  sequence.schema.primary_key = {0};
  add_table(std::move(sequence));
  table view;
  view.schema.name = "sbtest_view";
  view.schema.kind = table_kind::view;
  view.schema.comment = "VIEW";
  view.schema.columns = {like.columns[0], like.columns[1]};
  add_table(std::move(view));
}

// -- branch
// ----------------------------------------------------------------------------------------------------------

keyspace* branch::find(const std::string& name) const {
  const auto found = keyspaces_.find(name);
  return found == keyspaces_.end() ? nullptr : found->second.get();
}

keyspace* branch::add(std::string name, std::size_t shards) {
  if (find(name) != nullptr) return nullptr;
  auto made = std::make_unique<keyspace>(name, seed_, shards);
  return (keyspaces_[std::move(name)] = std::move(made)).get();
}

keyspace* branch::add(std::string name, const std::vector<std::string>& shards) {
  if (find(name) != nullptr) return nullptr;
  auto made = std::make_unique<keyspace>(name, seed_, shards);
  return (keyspaces_[std::move(name)] = std::move(made)).get();
}

}  // namespace psource::local_branch
