// Implementation of branch_model.hpp.
#include "tests/simulation/branch_model.hpp"

#include <algorithm>
#include <cstdio>
#include <cstdlib>

namespace psource::simulation {

std::string position_set::text() const {
  std::string text;
  for (const auto& [server, number] : last) {
    text +=
        (text.empty() ? "MySQL56/" : ",") + server + (number == 1 ? ":1" : ":1-" + std::to_string(number));
  }
  return text;
}

std::optional<position_set> position_set::parse(std::string_view text) {
  constexpr std::string_view flavor = "MySQL56/";
  if (text.substr(0, flavor.size()) != flavor) return std::nullopt;
  text.remove_prefix(flavor.size());
  position_set set;
  while (!text.empty()) {
    const auto comma = text.find(',');
    const std::string_view part = text.substr(0, comma);
    text.remove_prefix(comma == std::string_view::npos ? text.size() : comma + 1);
    const auto colon = part.find(':');
    if (colon == std::string_view::npos) return std::nullopt;
    std::string_view range = part.substr(colon + 1);
    if (range == "1") {
      set.last[std::string(part.substr(0, colon))] = 1;
      continue;
    }
    if (range.substr(0, 2) != "1-") return std::nullopt;
    set.last[std::string(part.substr(0, colon))] =
        std::strtoull(std::string(range.substr(2)).c_str(), nullptr, 10);
  }
  return set;
}

bool position_set::contains(const position_set& other) const {
  return std::all_of(other.last.begin(), other.last.end(), [this](const auto& entry) {
    const auto found = last.find(entry.first);
    return found != last.end() && found->second >= entry.second;
  });
}

std::string model_row::value() const {
  std::string text = std::to_string(version);
  if (padding > 0) text += "-" + std::string(padding, 'x');
  return text;
}

std::optional<std::string> model_column::value(const model_row& row) const {
  switch (kind) {
    case column_kind::id:
      return std::to_string(row.id);
    case column_kind::version:
      return row.value();
    case column_kind::number:
      if (row.version >= born) return std::to_string(row.version * 1000 + born);
      return std::nullopt;
    case column_kind::text:
      if (row.version >= born) return std::to_string(born) + " of " + std::to_string(row.version);
      return std::nullopt;
  }
  return std::nullopt;
}

const char* model_column::type() const {
  switch (kind) {
    case column_kind::id:
    case column_kind::number:
      return "bigint";
    case column_kind::version:
    case column_kind::text:
      break;
  }
  return "text";
}

table_shape plain_shape() { return {{"id", column_kind::id, 0}, {"v", column_kind::version, 0}}; }

std::size_t model_shard::ddls_at(std::size_t table, std::size_t index) const {
  const auto after = ddls[table].upper_bound(index);
  return after == ddls[table].begin() ? 0 : std::prev(after)->second;
}

std::optional<std::size_t> model_shard::index_of(const position_set& position) const {
  if (!position.contains(start) || !this->position(log.size()).contains(position)) return std::nullopt;
  std::size_t index = 0;
  while (index < log.size() && position.contains(log[index].position)) ++index;
  return index;
}

std::optional<std::size_t> model_shard::exact_index_of(const position_set& position) const {
  const auto index = index_of(position);
  if (!index || !(this->position(*index) == position)) return std::nullopt;
  return index;
}

const row_moment* model_shard::at(const row_key& key, std::size_t index) const {
  const auto found = history.find(key);
  if (found == history.end()) return nullptr;
  const row_moment* last = nullptr;
  for (const auto& moment : found->second) {
    if (moment.index > index) break;
    last = &moment;
  }
  return last;
}

bool model_shard::holds(std::int64_t id) const {
  const auto byte = branch_model::keyspace_byte(id);
  return byte >= low && byte < high;
}

branch_model::branch_model(std::vector<model_table> tables, const std::vector<int>& boundaries,
                           chance_source& chance)
    : tables_(std::move(tables)), ddls_(tables_.size()), chance_(chance) {
  int low = 0;
  for (std::size_t i = 0; i <= boundaries.size(); ++i) {
    const int high = i < boundaries.size() ? boundaries[i] : 256;
    auto shard = std::make_unique<model_shard>();
    shard->name = shard_name_of(low, high);
    shard->low = low;
    shard->high = high;
    shard->server = new_server();
    shard->start.last[shard->server] = 10;
    shard->start_text = shard->start.text();
    shard->rows.resize(tables_.size());
    shard->ddls.resize(tables_.size());
    shards_.push_back(std::move(shard));
    low = high;
  }
}

std::string branch_model::new_server() {
  // The first digits are by chance, so that a failover's UUID sorts before or after its predecessor's.
  char text[48];
  std::snprintf(text, sizeof(text), "%08x-0000-11ee-8000-%012x",
                static_cast<unsigned>(chance_.below(0x7fffffff)), ++servers_);
  return text;
}

std::string branch_model::shard_name_of(int low, int high) {
  const auto hex = [](int value) {
    char text[16];
    std::snprintf(text, sizeof(text), "%02x", static_cast<unsigned>(value));
    return std::string(text);
  };
  return (low == 0 ? "" : hex(low)) + "-" + (high == 256 ? "" : hex(high));
}

std::vector<model_shard*> branch_model::serving() const {
  std::vector<model_shard*> result;
  for (const auto& shard : shards_)
    if (shard->serving) result.push_back(shard.get());
  return result;
}

model_shard* branch_model::find(std::string_view name) const {
  // A split and a merge back give a name twice: the last one is meant.
  for (auto at = shards_.rbegin(); at != shards_.rend(); ++at)
    if ((*at)->name == name) return at->get();
  return nullptr;
}

void branch_model::fill(std::size_t table, std::int64_t id, std::uint32_t padding) {
  for (auto* shard : serving()) {
    if (!shard->holds(id) || shard->rows[table].count(id) > 0) continue;
    const model_row row{id, ++version_, padding};
    shard->rows[table][id] = row;
    shard->history[{table, id}].push_back({0, row.version, true, 0, padding});
  }
}

log_entry& branch_model::append(model_shard& shard, entry_kind kind, std::int64_t seconds) {
  log_entry entry;
  entry.kind = kind;
  entry.seconds = seconds;
  entry.position = shard.position(shard.log.size());
  entry.gtid = shard.server + ":" + std::to_string(++entry.position.last[shard.server]);
  entry.position_text = entry.position.text();
  shard.log.push_back(std::move(entry));
  if (!shard.lagging) shard.visible = shard.log.size();
  return shard.log.back();
}

void branch_model::apply(model_shard& shard, log_entry& entry, std::size_t table,
                         std::optional<model_row> before, std::optional<model_row> after) {
  const std::size_t index = shard.log.size();
  if (before && (!after || after->id != before->id)) {
    shard.rows[table].erase(before->id);
    shard.history[{table, before->id}].push_back({index, ++version_, false, entry.seconds, 0});
  }
  if (after) {
    shard.rows[table][after->id] = *after;
    shard.history[{table, after->id}].push_back({index, after->version, true, entry.seconds, after->padding});
  }
  entry.changes.push_back({table, before, after});
}

void branch_model::put(model_shard& shard, std::int64_t seconds, const std::vector<row_key>& keys,
                       std::uint32_t padding) {
  log_entry& entry = append(shard, entry_kind::rows, seconds);
  for (const auto& [table, id] : keys) {
    const auto found = shard.rows[table].find(id);
    std::optional<model_row> before;
    if (found != shard.rows[table].end()) before = found->second;
    apply(shard, entry, table, before, model_row{id, ++version_, padding});
  }
}

void branch_model::remove(model_shard& shard, std::int64_t seconds, const row_key& key) {
  const model_row before = shard.rows[key.first].at(key.second);
  apply(shard, append(shard, entry_kind::rows, seconds), key.first, before, std::nullopt);
}

void branch_model::change_key(model_shard& shard, std::int64_t seconds, const row_key& key,
                              std::int64_t new_id) {
  const model_row before = shard.rows[key.first].at(key.second);
  apply(shard, append(shard, entry_kind::rows, seconds), key.first, before, model_row{new_id, ++version_, 0});
}

void branch_model::write_something(std::int64_t seconds, const write_options& options) {
  const auto shards = serving();
  model_shard& shard = *shards[chance_.below(shards.size())];
  const auto kind = chance_.below(100);
  if (kind < 12) {
    append(shard, entry_kind::silent, seconds);
    return;
  }
  if (kind < 20) {
    append(shard, entry_kind::statement, seconds);
    return;
  }
  if (kind < 25) append(shard, entry_kind::unsent, seconds);
  log_entry& entry = append(shard, entry_kind::rows, seconds);
  const std::size_t changes = chance_.percent(10) ? 0 : 1 + chance_.below(4);
  for (std::size_t i = 0; i < changes; ++i) {
    const std::size_t table = chance_.below(tables_.size());
    auto& rows = shard.rows[table];
    const auto what = chance_.below(10);
    if (what < 4 || rows.empty()) {
      std::int64_t id = chance_.between(1, options.ids);
      if (!shard.holds(id)) continue;
      const auto found = rows.find(id);
      std::optional<model_row> before;
      if (found != rows.end()) before = found->second;
      apply(shard, entry, table, before, model_row{id, ++version_, options.padding});
      continue;
    }
    const model_row before =
        std::next(rows.begin(), static_cast<std::ptrdiff_t>(chance_.below(rows.size())))->second;
    if (what < 7) {
      apply(shard, entry, table, before, model_row{before.id, ++version_, options.padding});
    } else if (what < 9) {
      apply(shard, entry, table, before, std::nullopt);
    } else if (tables_[table].keyed) {
      // The same keyspace id, so that the row stays on its shard.
      const std::int64_t id = before.id % 256 + 256 * chance_.between(0, 3);
      if (id == 0 || rows.count(id) > 0) continue;
      apply(shard, entry, table, before, model_row{id, ++version_, 0});
    }
  }
}

bool branch_model::leads_to(const model_shard& from, const model_shard& to) const {
  std::set<const model_shard*> seen{&from};
  std::vector<const model_shard*> left{&from};
  while (!left.empty()) {
    const model_shard* shard = left.back();
    left.pop_back();
    if (shard == &to) return true;
    for (const auto& journal : shard->journals)
      for (const auto& [name, start] : journal.successors)
        if (const auto* next = find(name); seen.insert(next).second) left.push_back(next);
  }
  return false;
}

std::uint64_t branch_model::newest_version(const row_key& key) const {
  std::uint64_t newest = 0;
  for (const auto& shard : shards_)
    if (const auto found = shard->history.find(key); found != shard->history.end())
      newest = std::max(newest, found->second.back().version);
  return newest;
}

const table_shape& branch_model::shape(std::size_t table, std::size_t ddls) const {
  return ddls == 0 ? tables_[table].shape : ddls_[table][ddls - 1].shape;
}

const table_shape& branch_model::shape_now(std::size_t table) const {
  const auto* first = serving().front();
  return shape(table, first->ddls_at(table, first->log.size()));
}

bool branch_model::alter(model_shard& shard, std::size_t table, std::int64_t seconds) {
  const std::size_t had = shard.ddls_at(table, shard.log.size());
  if (had == ddls_[table].size()) return false;
  log_entry& entry = append(shard, entry_kind::ddl, seconds);
  entry.table = table;
  entry.ddl = had + 1;
  const std::size_t index = shard.log.size();
  shard.ddls[table][index] = had + 1;
  if (!ddls_[table][had].empties) return true;
  for (const auto& [id, row] : shard.rows[table]) {
    emptied_.insert(++version_);
    shard.history[{table, id}].push_back({index, version_, false, seconds, 0});
  }
  shard.rows[table].clear();
  return true;
}

void branch_model::alter_up_to_date(model_shard& shard, std::int64_t seconds) {
  for (std::size_t table = 0; table < tables_.size(); ++table)
    while (alter(shard, table, seconds)) continue;
}

model_ddl branch_model::some_ddl(std::size_t table) {
  model_ddl made;
  made.shape = shape(table, ddls_[table].size());
  auto& columns = made.shape;
  const std::string name = "`" + tables_[table].name + "`";
  made.statement = "alter table " + name;
  std::vector<std::size_t> own;
  for (std::size_t i = 0; i < columns.size(); ++i)
    if (columns[i].kind == column_kind::number || columns[i].kind == column_kind::text) own.push_back(i);
  const auto what = chance_.below(100);
  const auto place = [&] { return columns.begin() + static_cast<std::ptrdiff_t>(chance_.below(columns.size() + 1)); };
  if (what < 12) {
    made.statement = "truncate table " + name;
    made.empties = true;
  } else if (what < 30) {
    const auto from = columns.begin() + static_cast<std::ptrdiff_t>(chance_.below(columns.size()));
    const model_column moved = *from;
    columns.erase(from);
    columns.insert(place(), moved);
  } else if (what < 55 || own.empty()) {
    const auto kind = chance_.percent(50) ? column_kind::number : column_kind::text;
    const std::uint64_t born = ++version_;
    columns.insert(place(), {"c" + std::to_string(born), kind, born});
  } else {
    const std::size_t at = own[chance_.below(own.size())];
    model_column& column = columns[at];
    if (what < 70)
      columns.erase(columns.begin() + static_cast<std::ptrdiff_t>(at));
    else if (what < 85)
      column.name = "r" + std::to_string(++version_);
    else
      column.kind = column.kind == column_kind::number ? column_kind::text : column_kind::number;
  }
  return made;
}

void branch_model::alter_something(std::int64_t seconds) {
  const std::size_t table = chance_.below(tables_.size());
  const auto shards = serving();
  // As a change rolls over the shards, some have it later.
  if (chance_.percent(60) && alter(*shards[chance_.below(shards.size())], table, seconds)) return;
  plan_ddl(table, some_ddl(table));
  for (auto* shard : shards)
    if (chance_.percent(80)) alter(*shard, table, seconds);
}

void branch_model::purge(model_shard& shard, std::size_t keep) {
  shard.purged = std::max(shard.purged, shard.log.size() - std::min(keep, shard.log.size()));
}

void branch_model::fail_over(model_shard& shard) { shard.server = new_server(); }

void branch_model::reshard(const std::vector<model_shard*>& old, const std::vector<int>& boundaries,
                           std::int64_t seconds) {
  // Shards that become one have the same columns.
  for (auto* shard : old) alter_up_to_date(*shard, seconds);
  model_journal journal;
  for (const auto* shard : old) journal.participants.push_back(shard->name);
  int low = old.front()->low;
  std::vector<std::unique_ptr<model_shard>> next;
  for (std::size_t i = 0; i <= boundaries.size(); ++i) {
    const int high = i < boundaries.size() ? boundaries[i] : old.back()->high;
    auto shard = std::make_unique<model_shard>();
    shard->name = shard_name_of(low, high);
    shard->low = low;
    shard->high = high;
    shard->server = new_server();
    // What the reshard's own copy wrote is in the start position.
    shard->start.last[shard->server] = static_cast<std::uint64_t>(chance_.between(1, 20));
    shard->start_text = shard->start.text();
    shard->rows.resize(tables_.size());
    shard->ddls.resize(tables_.size());
    for (std::size_t table = 0; table < tables_.size(); ++table)
      if (!ddls_[table].empty()) shard->ddls[table][0] = ddls_[table].size();
    for (const auto* parent : old)
      for (const auto& [key, moments] : parent->history) {
        if (!shard->holds(key.second)) continue;
        row_moment last = moments.back();
        last.index = 0;
        shard->history[key].push_back(last);
        if (last.live) shard->rows[key.first][key.second] = parent->rows[key.first].at(key.second);
      }
    journal.successors[shard->name] = 0;
    next.push_back(std::move(shard));
    low = high;
  }
  for (auto* shard : old) end_with_journal(*shard, journal, seconds);
  for (auto& shard : next) {
    // The first that a stream hears of a new shard may be rows.
    log_entry& first =
        append(*shard, chance_.percent(50) ? entry_kind::rows : entry_kind::statement, seconds);
    for (std::size_t table = 0; first.kind == entry_kind::rows && table < tables_.size(); ++table)
      if (!shard->rows[table].empty() && chance_.percent(50)) {
        const model_row before = shard->rows[table].begin()->second;
        apply(*shard, first, table, before, model_row{before.id, ++version_, 0});
      }
    shards_.push_back(std::move(shard));
  }
}

void branch_model::end_with_journal(model_shard& shard, model_journal journal, std::int64_t seconds) {
  journal.at = shard.log.size();
  shard.journals.push_back(std::move(journal));
  append(shard, entry_kind::journal, seconds);
  // What the old shard still writes to itself lies past the journal.
  append(shard, entry_kind::statement, seconds);
  shard.serving = false;
  shard.lagging = false;
  shard.visible = shard.log.size();
}

// What the workflow that leads back has written to an old shard: its rows are those of the shards that replaced it.
void branch_model::follow(model_shard& old, const std::vector<model_shard*>& from, std::int64_t seconds) {
  alter_up_to_date(old, seconds);
  for (const auto* shard : from)
    for (const auto& [key, moments] : shard->history) {
      if (!old.holds(key.second)) continue;
      auto& rows = old.rows[key.first];
      const auto here = rows.find(key.second);
      std::optional<model_row> before;
      if (here != rows.end()) before = here->second;
      std::optional<model_row> now;
      if (moments.back().live) now = shard->rows[key.first].at(key.second);
      const bool same = before ? now && now->version == before->version : !now;
      // It is the same change: what was told of it there, and when it was, holds here.
      const row_moment& told = moments.back();
      if (!same) {
        apply(old, append(old, entry_kind::rows, seconds), key.first, before, now);
        row_moment& here_too = old.history.at(key).back();
        here_too.version = told.version;
        here_too.seconds = told.seconds;
      } else if (const auto known = old.history.find(key);
                 !now && known != old.history.end() && known->second.back().version != told.version) {
        // It came and went meanwhile.
        known->second.push_back({old.log.size(), told.version, false, told.seconds, 0});
      }
    }
}

void branch_model::switch_back(model_shard& old, std::int64_t seconds) {
  const model_journal undone = old.journals.back();
  std::vector<model_shard*> from;
  for (const auto& [name, start] : undone.successors) from.push_back(find(name));
  model_journal back;
  for (auto* shard : from) {
    back.participants.push_back(shard->name);
    alter_up_to_date(*shard, seconds);
  }
  for (const auto& name : undone.participants) {
    model_shard& shard = *find(name);
    follow(shard, from, seconds);
    back.successors[name] = shard.log.size();
    shard.serving = true;
    // What the switch itself writes: by it a stream hears of the shard.
    append(shard, entry_kind::statement, seconds);
  }
  for (auto* shard : from) end_with_journal(*shard, back, seconds);
}

bool branch_model::undo_something(std::int64_t seconds) {
  for (const auto& old : shards_) {
    if (old->serving || old->journals.empty()) continue;
    const auto& successors = old->journals.back().successors;
    const bool all_serve = std::all_of(successors.begin(), successors.end(),
                                       [this](const auto& successor) { return find(successor.first)->serving; });
    if (!all_serve || chance_.percent(50)) continue;
    switch_back(*old, seconds);
    return true;
  }
  return false;
}

const char* branch_model::reshard_something(std::int64_t seconds) {
  auto shards = serving();
  std::sort(shards.begin(), shards.end(), [](const auto* a, const auto* b) { return a->low < b->low; });
  if (chance_.percent(60) && undo_something(seconds)) return "undone reshards";
  const std::size_t at = chance_.below(shards.size());
  if (chance_.percent(50)) {
    model_shard* shard = shards[at];
    const int middle = (shard->low + shard->high) / 2;
    if (shard->high - shard->low < 32 || find(shard_name_of(shard->low, middle)) != nullptr ||
        find(shard_name_of(middle, shard->high)) != nullptr)
      return nullptr;
    reshard({shard}, {middle}, seconds);
    return "splits";
  }
  if (at + 1 >= shards.size()) return nullptr;
  if (find(shard_name_of(shards[at]->low, shards[at + 1]->high)) != nullptr) return nullptr;
  reshard({shards[at], shards[at + 1]}, {}, seconds);
  return "merges";
}

std::string branch_model::describe() const {
  static const char* const kinds[] = {"rows", "silent", "statement", "unsent", "DDL", "JOURNAL"};
  std::string text;
  for (const auto& shard : shards_) {
    text += "shard " + shard->name + (shard->serving ? "" : " (old)") + " from " + shard->start_text +
            ", visible " + std::to_string(shard->visible) + ", purged " + std::to_string(shard->purged) +
            "\n";
    for (std::size_t i = 0; i < shard->log.size(); ++i) {
      const auto& entry = shard->log[i];
      text += "  " + std::to_string(i + 1) + " " + std::to_string(entry.seconds % 10'000'000) + " " +
              kinds[static_cast<int>(entry.kind)] + " " + entry.position_text + ":";
      if (entry.kind == entry_kind::ddl) {
        text += " " + ddl(entry.table, entry.ddl).statement + ":";
        for (const auto& column : shape(entry.table, entry.ddl)) text += " " + column.name + " " + column.type();
      }
      for (const auto& change : entry.changes) {
        text += " " + tables_[change.table].name;
        if (change.before)
          text += " -" + std::to_string(change.before->id) + "@" + std::to_string(change.before->version);
        if (change.after)
          text += " +" + std::to_string(change.after->id) + "@" + std::to_string(change.after->version);
      }
      text += "\n";
    }
  }
  return text;
}

void branch_model::forgive_deletions(std::size_t table) {
  for (const auto& shard : shards_)
    for (const auto& [key, moments] : shard->history)
      if (key.first == table && !moments.empty() && !moments.back().live) missed_deletions_.insert(moments.back().version);
}

}  // namespace psource::simulation
