// The model of a branch.
#include "local_branch/branch.hpp"

#include <algorithm>
#include <iterator>

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
    : owner_(owner),
      name_(std::move(name)),
      number_(number),
      whole_(true),
      keys_{owner.layout().begin_of(number), owner.layout().begin_of(number + 1)},
      sources_{std::move(server_uuid)} {}

shard::shard(keyspace& owner, std::string name, std::size_t number, std::string server_uuid, key_range keys)
    : owner_(owner),
      name_(std::move(name)),
      number_(number),
      whole_(false),
      keys_(keys),
      sources_{std::move(server_uuid)} {}

bool shard::holds(std::int64_t id) const {
  const auto& layout = owner_.layout();
  return whole_ ? layout.shard_of(id) == number_ : keys_.contains(layout.key_of(id));
}

std::int64_t shard::next_id(std::int64_t after) const {
  if (whole_) return owner_.layout().next(number_, after);
  do ++after;
  while (!holds(after));
  return after;
}

std::int64_t shard::id_near(std::int64_t run) const {
  const auto& layout = owner_.layout();
  if (whole_) return layout.id_in_run(number_, run);
  return next_id(run * layout.run_length());
}

shard::id_walk::id_walk(const shard& of, std::int64_t after)
    : shard_(of), run_(after / of.owner_.layout().run_length() - 1) {
  do next();
  while (id_ <= after);
}

void shard::id_walk::take_run() {
  const auto& layout = shard_.owner_.layout();
  const std::size_t first = layout.number_of(shard_.keys_.begin);
  const std::size_t last = layout.number_of(shard_.keys_.end - 1);
  while (at_ == ids_.size()) {
    ids_.clear();
    at_ = 0;
    ++run_;
    for (std::size_t number = first; number <= last; ++number) {
      const std::int64_t id = layout.id_in_run(number, run_);
      if (shard_.keys_.contains(layout.key_of(id))) ids_.push_back(id);
    }
    std::sort(ids_.begin(), ids_.end());
  }
  id_ = ids_[at_++];
}

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

std::optional<std::uint32_t> shard::version_of(std::size_t t, std::int64_t id) const {
  if (const auto* state = tables_[t].find(id))
    return state->present ? std::optional<std::uint32_t>(state->version) : std::nullopt;
  const bool from_start = is_original(t, id) && !tables_[t].emptied;
  return from_start ? std::optional<std::uint32_t>(0) : std::nullopt;
}

bool shard::is_original(std::size_t t, std::int64_t id) const {
  return id >= 1 && id <= owner_.tables()[t].row_count && holds(id);
}

std::size_t shard::ddls_of(std::size_t t, std::size_t count) const {
  const auto& done = tables_[t].ddls;
  for (auto at = done.rbegin(); at != done.rend(); ++at)
    if (at->since < count) return at->number;
  return 0;
}

const table_schema& shard::schema_of(std::size_t t, std::size_t count) const {
  return owner_.tables()[t].schema_after(ddls_of(t, count));
}

std::string_view shard::make_row(byte_buffer& room, std::size_t t, std::size_t ddls, std::int64_t id,
                                 std::uint32_t version, row_text text) const {
  const auto& definition = owner_.tables()[t];
  room.clear();
  char* const at = room.reserve(definition.rows->max_size());
  const char* const end = definition.rows->write(at, id, version, text);
  const std::string_view made(at, static_cast<std::size_t>(end - at));
  if (ddls == 0) return made;
  std::size_t written = 0;
  for (const auto* state = tables_[t].find(id); state != nullptr; state = state->older.get())
    if (state->present && state->version == version) written = state->ddls;
  const std::string original(made);  // the room is written anew
  append_row_after(room, definition.ddls[ddls - 1], original, id, version, written);
  return room.view();
}

bool shard::alter(std::size_t t, std::size_t number, std::int64_t time_ns) {
  std::unique_lock lock(mutex_);
  const std::size_t had = ddls_of(t, log_.size());
  if (!serving || had >= number) return false;
  const auto& ddls = owner_.tables()[t].ddls;
  for (std::size_t n = had; n < number; ++n)
    if (ddls[n].empties) empty(t);
  tables_[t].ddls.push_back({log_.size(), number});
  transaction statement;
  statement.time_ns = time_ns;
  statement.ddl_table = t;
  statement.ddl_number = number;
  commit(std::move(statement));
  // What the tablet writes for itself when it has read the columns anew.
  for (int i = 0; i < 2; ++i) {
    transaction reload;
    reload.time_ns = time_ns;
    commit(std::move(reload));
  }
  return true;
}

void shard::empty(std::size_t t) {
  auto& table = tables_[t];
  if (!table.emptied) table.emptied = log_.size();
  for (auto& [id, state] : table.changed)
    if (state.present) state.replace(log_.size(), state.version, false, state.ddls);
}

void shard::commit(transaction t) {
  if (!t.recorded) {
    t.source = static_cast<std::uint32_t>(sources_.size() - 1);
    t.number = log_.empty() || log_.back().source != t.source ? 1 : log_.back().number + 1;
  }
  log_.push_back(std::move(t));
  size_.store(log_.size(), std::memory_order_release);
}

void shard::append(transaction t) {
  {
    std::unique_lock lock(mutex_);
    commit(std::move(t));
  }
  notify();
}

void shard::fail_over() {
  {
    std::unique_lock lock(mutex_);
    sources_.push_back(uuid_of(hash_of(sources_.back()) + sources_.size()));
    commit({});
  }
  notify();
}

void shard::purge(std::size_t keep, std::chrono::milliseconds search) {
  std::unique_lock lock(mutex_);
  purged_ = std::max(purged_, log_.size() - std::min(keep, log_.size()));
  search_ms_.store(search.count());
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
  return shard_.version_of(t, id).has_value();
}

void shard::writer::set(std::size_t t, std::int64_t id, std::uint32_t version, bool present) {
  auto& changed = shard_.tables_[t].changed;
  auto [at, fresh] = changed.try_emplace(id);
  const std::size_t here = shard_.log_.size();
  const auto ddls = static_cast<std::uint16_t>(shard_.ddls_of(t, here));
  if (fresh)
    at->second = {here, version, present, ddls, nullptr};
  else
    at->second.replace(here, version, present, ddls);
}

void shard::writer::add(change_kind kind, std::size_t t, std::int64_t id, std::uint32_t version) {
  changes_.push_back({id, version, static_cast<std::uint16_t>(t), kind, false});
}

bool shard::writer::insert(std::size_t t, std::int64_t id) {
  if (exists(t, id)) return false;
  const auto* state = shard_.tables_[t].find(id);
  // A row from the start that went when the table was emptied comes back as another.
  const std::uint32_t version = state != nullptr ? state->version + 1 : shard_.is_original(t, id) ? 1 : 0;
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
  for (const auto& s : shards_) planned_.push_back(s.get());
}

std::vector<shard*> keyspace::serving_shards() const {
  std::shared_lock lock(topology_);
  std::vector<shard*> out;
  for (const auto& s : shards_)
    if (s->serving) out.push_back(s.get());
  return out;
}

std::vector<shard*> keyspace::readable_shards() const {
  std::shared_lock lock(topology_);
  std::vector<shard*> out;
  for (const auto& s : shards_)
    if (find_held(s->name()) == s.get()) out.push_back(s.get());
  return out;
}

shard* keyspace::find_shard(const std::string& name) const {
  std::shared_lock lock(topology_);
  return find_held(name);
}

shard* keyspace::find_held(const std::string& name) const {
  shard* found = nullptr;
  for (const auto& s : shards_) {
    if (s->name() != name || s->gone) continue;
    found = s.get();
    if (s->serving) break;
  }
  return found;
}

result<const handover*> keyspace::plan_reshard(const std::vector<std::string>& from,
                                               const std::vector<std::string>& to, bool keep_old) {
  const auto refuse = [this](const std::string& why) {
    return fail(error_code::config_invalid, "The keyspace " + name_ + " cannot be resharded: " + why + ".");
  };
  if (recorded_) return refuse("it is a recording");
  // The same keys have to be covered once by each side.
  using ranges = std::map<std::uint32_t, std::uint32_t>;
  const auto cover = [](const std::vector<std::string>& names) -> std::optional<ranges> {
    ranges out;
    for (const auto& name : names) {
      const auto range = parse_key_range(name);
      if (!range || !out.emplace(range->begin, range->end).second) return std::nullopt;
    }
    for (auto at = out.begin(); at != out.end();) {
      const auto after = std::next(at);
      if (after == out.end() || at->second < after->first) {
        ++at;
      } else if (at->second == after->first) {
        at->second = after->second;
        out.erase(after);
      } else {
        return std::nullopt;
      }
    }
    return out;
  };
  const auto old_keys = cover(from);
  const auto new_keys = cover(to);
  if (!old_keys || !new_keys || from.empty() || *old_keys != *new_keys)
    return refuse("the new shards do not cover the old ones");
  auto made = std::make_unique<handover>();
  made->keep_old = keep_old;
  std::vector<shard*> next = planned_;
  for (const auto& name : from) {
    const auto found =
        std::find_if(next.begin(), next.end(), [&](const shard* s) { return s->name() == name; });
    if (found == next.end()) return refuse("there is no shard " + name + " to take");
    made->participants.push_back(*found);
    next.erase(found);
  }
  for (const auto& name : to) {
    const std::size_t number = shards_.size();
    shards_.push_back(std::make_unique<shard>(
        *this, name, number, uuid_of(seed_ ^ hash_of(name) ^ mix(number)), *parse_key_range(name)));
    shard& born = *shards_.back();
    born.serving = false;
    born.gone = true;
    born.tables().resize(tables_.size());
    made->successors.push_back(&born);
    next.push_back(&born);
  }
  planned_ = std::move(next);
  handovers_.push_back(std::move(made));
  return handovers_.back().get();
}

const handover* keyspace::add_handover(handover made) {
  handovers_.push_back(std::make_unique<handover>(std::move(made)));
  return handovers_.back().get();
}

bool keyspace::reshard(const handover& plan) {
  {
    std::unique_lock topology(topology_);
    std::vector<std::unique_lock<std::shared_mutex>> locks;
    for (shard* old : plan.participants) {
      locks.emplace_back(old->mutex());
      if (!old->serving) return false;
    }
    for (shard* born : plan.successors) {
      locks.emplace_back(born->mutex());
      for (const shard* old : plan.participants) {
        for (std::size_t t = 0; t < tables_.size(); ++t) {
          if (const auto had = old->ddls_of(t, old->log_.size()); had > born->ddls_of(t, 1))
            born->tables_[t].ddls.push_back({0, had});
          if (old->tables_[t].emptied) born->tables_[t].emptied = 0;
          for (const auto& [id, state] : old->tables_[t].changed) {
            if (!born->holds(id)) continue;
            auto& here = born->tables_[t].changed[id];
            here.version = state.version;
            here.present = state.present;
            here.ddls = state.ddls;
          }
        }
      }
      // Where streams begin, and what the switch itself writes behind it.
      for (int i = 0; i < 3; ++i) born->commit({});
      born->gone = false;
      born->serving = true;
    }
    for (shard* old : plan.participants) {
      old->serving = false;
      if (!plan.keep_old) old->gone = true;
      old->handed_over = &plan;
      transaction journal;
      journal.journal = &plan;
      old->commit(std::move(journal));
    }
  }
  for (shard* old : plan.participants) old->notify();
  return true;
}

result<std::size_t> keyspace::plan_ddl(std::size_t t, const ddl_change& change) {
  auto& target = tables_[t];
  if (recorded_ || !target.rows)
    return fail(error_code::config_invalid,
                "The table " + target.schema.name + " has no rows that a DDL could change.");
  const ddl* const previous = target.ddls.empty() ? nullptr : &target.ddls.back();
  auto made = make_ddl(target.schema, previous, target.ddls.size() + 1, change);
  if (!made) return tl::unexpected(std::move(made.error()));
  target.ddls.push_back(std::move(*made));
  return target.ddls.size();
}

bool keyspace::alter(std::size_t t, std::size_t number, const std::string& only_shard,
                     std::int64_t time_ns) {
  std::vector<shard*> altered;
  {
    // No reshard comes in between.
    std::shared_lock topology(topology_);
    for (const auto& s : shards_)
      if ((only_shard.empty() || s->name() == only_shard) && s->alter(t, number, time_ns))
        altered.push_back(s.get());
  }
  for (shard* s : altered) s->notify();
  return !altered.empty();
}

const table_schema& keyspace::schema_now(std::size_t t) const {
  std::shared_lock topology(topology_);
  for (const auto& s : shards_) {
    if (!s->serving) continue;
    std::shared_lock lock(s->mutex());
    return s->schema_of(t, s->log_size());
  }
  return tables_[t].schema;
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

void keyspace::add_keyless_table(std::int64_t rows) {
  table t;
  t.schema = sbtest_schema("keyless");
  t.schema.primary_key.clear();
  t.schema.columns[0].flags = flag_not_null | flag_no_default | flag_number;
  t.rows = std::make_unique<sbtest_rows>(mix(seed_ ^ hash_of(t.schema.name)), rows);
  t.row_count = rows;
  t.writable = true;
  add_table(std::move(t));
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
