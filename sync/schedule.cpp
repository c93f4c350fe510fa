// Implementation of schedule.hpp.
#include "sync/schedule.hpp"

#include <algorithm>

#include "sync/classify.hpp"
#include "sync/test_faults.hpp"

namespace psource {

namespace {
// Traffic is switched in steps: the shards that are listed may be the old ones for a while.
constexpr unsigned most_rounds = 5;

const char* const lost_advice =
    " Use \"Refresh and remove records\" for this stream, or set invalid_cdc_cursor_position_behavior to \"Re-sync data\".";
const char* const apart_advice =
    " The stream follows old shards through a reshard. If it ends like this with each sync, one of them may stand before a reshard that was "
    "undone and done anew, another behind it: then use \"Refresh and remove records\" for this stream, or set "
    "invalid_cdc_cursor_position_behavior to \"Re-sync data\".";
const char* const unreadable_advice =
    " The stream follows old shards through a reshard. If it ends like this with each sync, they have no tablets any more, or their binary "
    "logs were purged: then use \"Refresh and remove records\" for this stream, or set invalid_cdc_cursor_position_behavior to "
    "\"Re-sync data\".";
const char* const goes_on_next_time = " The next sync goes on with the shards that serve then.";
const char* const starts_over_next_time = " The next sync starts the full refresh over.";

failure with_advice(failure why, const char* advice) {
  why.message += advice;
  return why;
}

// Catch-ups do, and copies that have begun: they bring the changes since then, too.
bool reads_changes(stream_kind kind, const session_table& table) {
  if (kind != stream_kind::copy) return kind == stream_kind::catch_up;
  return std::any_of(table.cursors.begin(), table.cursors.end(),
                     [](const auto& entry) { return !entry.second.lastpk.empty() && !entry.second.position.empty(); });
}

// What shows that the positions, shapes or shards of a stream are not those that it was planned with; and faults of our own. All
// else leaves what was read before as good as it was.
bool needs_another_plan(error_code code) {
  return code == error_code::position_lost || code == error_code::position_foreign || code == error_code::schema_incompatible ||
         code == error_code::shards_changed || code == error_code::internal;
}

// Shards with nothing to read stand where the state says; the others settle when their streams end.
std::map<shard_name, shard_cursor> settled_in(const ledger_stream& ledger) {
  std::map<shard_name, shard_cursor> settled;
  for (const auto& [shard, cursor] : ledger.cursors)
    if (!cursor.position.empty() && cursor.lastpk.empty()) settled[shard] = cursor;
  return settled;
}
}  // namespace

sync_schedule::sync_schedule(sync_plan& plan, schedule_limits limits) : limits_(limits) {
  for (stream_index i = 0; i < plan.streams.size(); ++i) {
    accounts_[i] = {};
    if (plan.streams[i].mode == sync_mode::incremental && plan.streams[i].table.shape) {
      accounts_[i].table = plan.streams[i].table;
      accounts_[i].settled = settled_in(plan.streams[i].ledger);
    }
    if (plan.streams[i].problem) {
      failures_.push_back(*plan.streams[i].problem);
      accounts_[i].failed = true;
      any_failed_ = true;
    }
  }
  for (auto& spec : plan.catch_ups) enqueue(std::move(spec));
  for (auto& spec : plan.copies) enqueue(std::move(spec));
  plan.catch_ups.clear();
  plan.copies.clear();
  for (auto& [stream, account] : accounts_) close(stream);
}

void sync_schedule::enqueue(session_spec spec) {
  for (const auto& table : spec.tables) {
    ++accounts_[table.stream].open;
    for (const auto& [shard, cursor] : table.cursors) accounts_[table.stream].settled.erase(shard);
  }
  if (pattern_.keyspace.empty()) {
    pattern_.keyspace = spec.keyspace;
    pattern_.tablet = spec.tablet;
    pattern_.cells = spec.cells;
  }
  if (spec.kind == stream_kind::catch_up) {
    catch_ups_.push_back(std::move(spec));
  } else {
    ++open_copies_;
    copies_.push_back(std::move(spec));
  }
}

void sync_schedule::settle(const session_spec& spec, const std::vector<session_table>& tables) {
  if (spec.kind == stream_kind::full_copy) return;
  for (const auto& table : tables)
    for (const auto& [shard, cursor] : table.cursors) accounts_[table.stream].settled[shard] = cursor;
}

bool sync_schedule::holds_tables() const {
  return std::any_of(accounts_.begin(), accounts_.end(), [](const auto& entry) {
    const stream_account& account = entry.second;
    return !account.told && account.open == 0 && account.table && !account.failed;
  });
}

std::set<shard_id> sync_schedule::held_shards() const {
  std::set<shard_id> shards;
  for (const auto& [stream, account] : accounts_)
    if (!account.told && account.table && account.unplanned.empty())
      for (const auto& [shard, cursor] : account.settled) shards.insert({account.table->shape->id.keyspace, shard});
  return shards;
}

void sync_schedule::refresh(const std::map<shard_id, gtid_set>& stops, std::int64_t peek_seconds) {
  // As at the start: tables of a shard at the same position share a call.
  std::map<std::pair<shard_id, std::string>, session_spec> calls;
  for (const auto& [stream, account] : accounts_) {
    if (account.told || account.failed || !account.table || !account.unplanned.empty()) continue;
    for (const auto& [shard, cursor] : account.settled) {
      const shard_id id{account.table->shape->id.keyspace, shard};
      const auto stop = stops.find(id);
      if (stop == stops.end()) continue;
      const auto here = gtid_set::parse_position(cursor.position);
      if (!here || here->empty() || here->contains(stop->second)) continue;
      session_spec& call = calls[{id, cursor.position}];
      if (call.tables.empty()) {
        call = pattern_;
        call.kind = stream_kind::catch_up;
        call.keyspace = id.keyspace;
        call.shards = {shard};
        call.stops[shard] = stop->second;
        call.additional = true;
        call.stop_by_commit_time(peek_seconds);
      }
      session_table table = *account.table;
      table.cursors[shard] = cursor;
      call.tables.push_back(std::move(table));
    }
  }
  for (auto& [key, call] : calls) enqueue(std::move(call));
}

void sync_schedule::release() {
  for (auto& [stream, account] : accounts_)
    if (account.open == 0 && !account.told && account.unplanned.empty()) {
      account.told = true;
      verdicts_.push_back({stream, !account.failed});
    }
}

void sync_schedule::drop_unserved(const std::set<shard_id>& serving) {
  for (auto at = copies_.begin(); at != copies_.end();) {
    const shard_id shard{at->keyspace, at->shards.front()};
    if (serving.count(shard) > 0) {
      ++at;
      continue;
    }
    const session_table table = std::move(at->tables.front());
    const bool incremental = at->kind == stream_kind::copy;
    at = copies_.erase(at);
    --open_copies_;
    failure why{error_code::shards_changed,
                "The shard " + shard.to_string() + " was replaced by others before " + table.shape->id.to_string() +
                    " was copied from it.",
                {},
                table.shape->id};
    if (!incremental || !set_aside(table, why)) {
      why.message += incremental ? goes_on_next_time : starts_over_next_time;
      fail_table(table, why);
    }
    --accounts_[table.stream].open;
    close(table.stream);
  }
}

void sync_schedule::begin_listing() {
  for (auto& [place, end] : unconfirmed_) end.listed = true;
}

void sync_schedule::confirm_ends(const std::set<shard_id>& serving) {
  for (auto at = unconfirmed_.begin(); at != unconfirmed_.end();) {
    const auto& [shard, stream] = at->first;
    stream_account& account = accounts_[stream];
    const auto settled = account.settled.find(shard.shard);
    if (!at->second.listed) {
      ++at;
      continue;
    }
    // Catching up further, it is judged when that is over.
    if (settled == account.settled.end() && account.open > 0 && !account.failed) {
      ++at;
      continue;
    }
    // What has failed is judged elsewhere.
    if (serving.count(shard) == 0 && !account.failed && account.table && settled != account.settled.end()) {
      session_table table = *account.table;
      const auto& since = at->second.copied_since;
      table.cursors[shard.shard] = since ? shard_cursor{{}, {}, settled->second.cdc_cursor, *since} : settled->second;
      const std::string name = table.shape->id.to_string();
      const failure why{error_code::shards_changed,
                        since ? "The shard " + shard.to_string() + " was replaced by others around the time when " + name +
                                    " was copied from it."
                              : "The shard " + shard.to_string() + ", to which a reshard has led the stream of " + name +
                                    ", was replaced by others again.",
                        {},
                        table.shape->id};
      if (!set_aside(table, why)) fail_table(table, why);
      account.settled.erase(settled);
    }
    at = unconfirmed_.erase(at);
  }
}

bool sync_schedule::set_aside(const session_table& table, const failure& why) {
  stream_account& account = accounts_[table.stream];
  if (account.failed || !account.table || account.rounds >= most_rounds) return false;
  for (const auto& [shard, cursor] : table.cursors) account.unplanned[shard] = cursor;
  if (!account.set_aside_because) {
    account.set_aside_because = why;
    warnings_.push_back(why.message + " The table " + table.shape->id.to_string() +
                        " is planned again when the other streams are over.");
  }
  return true;
}

bool sync_schedule::plan_is_due() const {
  return idle() && std::any_of(accounts_.begin(), accounts_.end(),
                               [](const auto& entry) { return !entry.second.unplanned.empty(); });
}

standing_cursors sync_schedule::unplanned() const {
  standing_cursors standing;
  for (const auto& [stream, account] : accounts_) {
    if (account.unplanned.empty()) continue;
    standing[stream] = account.settled;
    for (const auto& [shard, cursor] : account.unplanned) standing[stream][shard] = cursor;
  }
  return standing;
}

unsigned sync_schedule::rounds() const {
  unsigned most = 0;
  for (const auto& [stream, account] : accounts_)
    if (!account.unplanned.empty()) most = std::max(most, account.rounds);
  return most;
}

void sync_schedule::adopt(sync_plan& plan) {
  for (auto& planned : plan.streams) {
    stream_account& account = accounts_[planned.table.stream];
    account.unplanned.clear();
    account.set_aside_because.reset();
    account.settled = settled_in(planned.ledger);
    ++account.rounds;
    if (planned.problem) fail_table(planned.table, *planned.problem);
  }
  for (auto& spec : plan.catch_ups) enqueue(std::move(spec));
  for (auto& spec : plan.copies) enqueue(std::move(spec));
  for (const auto& planned : plan.streams) close(planned.table.stream);
}

void sync_schedule::planning_failed(const failure& why) {
  if (!may_pass(why) || rounds() + 1 >= most_rounds) return fail_unplanned(why.message);
  for (auto& [stream, account] : accounts_)
    if (!account.unplanned.empty()) ++account.rounds;
}

void sync_schedule::fail_unplanned(const std::string& why) {
  for (auto& [stream, account] : accounts_) {
    if (account.unplanned.empty()) continue;
    failure told = *account.set_aside_because;
    told.message += " It could not be planned again: " + why + goes_on_next_time;
    fail_table(*account.table, told);
    close(stream);
  }
}

std::vector<scheduled_task> sync_schedule::start(bool copies, std::size_t at_once) {
  const std::size_t places = std::min(at_once, limits_.max_streams);
  std::vector<scheduled_task> tasks;
  const auto run = [&](session_spec spec) {
    const task_id id = next_id_++;
    running_[id] = spec;
    tasks.push_back({id, std::move(spec)});
  };
  // Copies may hold every place for days; the tables that wait for them must keep up with the binary logs.
  const auto most = [&] { return places + (catch_ups_.front().additional ? 1 : 0); };
  while (!catch_ups_.empty() && running_.size() < most()) {
    run(std::move(catch_ups_.front()));
    catch_ups_.pop_front();
  }
  for (auto at = copies_.begin(); copies && at != copies_.end() && running_.size() < places;) {
    auto& on_shard = copies_on_shard_[{at->keyspace, at->shards.front()}];
    if (on_shard >= limits_.max_copies_per_shard) {
      ++at;
      continue;
    }
    ++on_shard;
    run(std::move(*at));
    at = copies_.erase(at);
  }
  return tasks;
}

session_spec sync_schedule::with_tables(const session_spec& from, std::vector<session_table> tables) const {
  session_spec spec = from;
  // A reshard may have changed the shards under way: the cursors tell which ones they are now.
  if (spec.kind == stream_kind::catch_up && !tables.empty()) {
    std::vector<shard_name> now;
    for (const auto& [shard, cursor] : tables.front().cursors) now.push_back(shard);
    spec.go_on_with(std::move(now));
  }
  spec.tables = std::move(tables);
  return spec;
}

void sync_schedule::close(stream_index stream) {
  stream_account& account = accounts_[stream];
  if (account.open != 0 || account.told || !account.unplanned.empty()) return;
  // While others are copied for hours, a table that is done has to be able to catch up again; and ends have to be
  // confirmed.
  if (account.table && !account.failed && (open_copies_ > 0 || !unconfirmed_.empty())) return;
  account.told = true;
  verdicts_.push_back({stream, !account.failed});
}

std::optional<session_spec> sync_schedule::take_running(task_id id) {
  const auto found = running_.find(id);
  if (found == running_.end()) return std::nullopt;
  session_spec spec = std::move(found->second);
  running_.erase(found);
  ++done_;
  if (spec.kind != stream_kind::catch_up) {
    --copies_on_shard_[{spec.keyspace, spec.shards.front()}];
    --open_copies_;
  }
  return spec;
}

void sync_schedule::finished(task_id id, std::vector<session_table> tables) {
  auto taken = take_running(id);
  if (!taken) return;
  session_spec spec = std::move(*taken);
  settle(spec, tables);
  if (spec.kind == stream_kind::copy) {
    const session_table& began = spec.tables.front();
    const shard_cursor& from = began.cursors.at(spec.shards.front());
    unconfirmed_[{{spec.keyspace, spec.shards.front()}, began.stream}] = {from.lastpk.empty() ? from.since : from.position};
    // The snapshot of a lagging replica may be older than the peek: the rest comes from the binary log.
    const auto& cursor = tables.front().cursors.begin()->second;
    const auto stop = spec.stops.find(spec.shards.front());
    const auto here = gtid_set::parse_position(cursor.position);
    if (stop != spec.stops.end() && here && !here->contains(stop->second)) {
      session_spec rest = with_tables(spec, tables);
      rest.kind = stream_kind::catch_up;
      rest.shards = spec.shards;
      enqueue(std::move(rest));
    }
  }
  if (spec.kind == stream_kind::catch_up)
    for (const auto& table : tables)
      for (const auto& [shard, cursor] : table.cursors) {
        // What was only followed across a reshard is copied now from where it has come to.
        if (table.uncopied)
          enqueue(copy_of(spec, table, shard, cursor));
        // Shards with a stop served when the call was planned, and were reached as they were then.
        else if (spec.stops.count(shard) == 0 && spec.left_stops.count(shard) == 0 &&
                 !test_faults::is(test_faults::fault::ended_in_between))
          unconfirmed_[{{spec.keyspace, shard}, table.stream}] = {};
      }
  for (const auto& table : spec.tables) {
    --accounts_[table.stream].open;
    close(table.stream);
  }
}

// The same table of one of the call's shards, copied from the start.
session_spec sync_schedule::copy_of(const session_spec& from, const session_table& table, const shard_name& shard,
                                    shard_cursor cursor) {
  session_spec copy;
  copy.kind = from.kind == stream_kind::full_copy ? stream_kind::full_copy : stream_kind::copy;
  copy.keyspace = from.keyspace;
  copy.tablet = from.tablet;
  copy.cells = from.cells;
  copy.stop_commit_seconds = from.stop_commit_seconds;
  copy.wanted = from.wanted;
  copy.shards = {shard};
  // The other shards of the call are none of its business.
  if (const auto stop = from.stops.find(shard); stop != from.stops.end()) copy.stops.insert(*stop);
  copy.settles_at_since = !cursor.since.empty();
  session_table own = table;
  own.uncopied = false;
  own.cursors.clear();
  own.cursors[shard] = std::move(cursor);
  copy.tables = {std::move(own)};
  return copy;
}

void sync_schedule::abandoned(task_id id) {
  const auto spec = take_running(id);
  if (!spec) return;
  for (const auto& table : spec->tables) {
    --accounts_[table.stream].open;
    accounts_[table.stream].failed = true;
  }
  any_failed_ = true;
}

void sync_schedule::fail_table(const session_table& table, const failure& why) {
  failure own = why;
  own.stream = table.shape->id;
  stream_account& account = accounts_[table.stream];
  if (!account.failed) failures_.push_back(std::move(own));
  account.failed = true;
  account.unplanned.clear();
  any_failed_ = true;
}

void sync_schedule::failed(task_id id, failure why, std::vector<session_table> tables) {
  auto spec = take_running(id);
  if (!spec) return;
  std::vector<stream_index> held;
  for (const auto& table : spec->tables) held.push_back(table.stream);
  failed_call call{std::move(*spec), std::move(why), std::move(tables)};
  judge(call);
  for (const auto stream : held) {
    --accounts_[stream].open;
    close(stream);
  }
}

void sync_schedule::judge(failed_call& call) {
  const auto& [spec, why, tables] = call;
  if (spec.additional && !needs_another_plan(why.code)) {
    warnings_.push_back(why.message + " The tables of this stream had reached the position at which the read began; what "
                                      "came after it is left to the next one.");
    settle(spec, tables);
    return;
  }
  if (const loss lost = what_is_lost(call); lost != loss::none) {
    lose(call, lost);
    return;
  }
  if (why.code == error_code::shards_changed) {
    for (const auto& table : tables)
      if (spec.kind == stream_kind::full_copy)
        fail_table(table, with_advice(why, starts_over_next_time));
      else if (!set_aside(table, why))
        fail_table(table, with_advice(why, goes_on_next_time));
    return;
  }
  const bool refused = why.code == error_code::lastpk_refused;
  if (refused && spec.kind == stream_kind::copy && !tables.empty() &&
      restarted_.count({tables.front().stream, spec.shards.front()}) == 0) {
    warnings_.push_back(why.message + " The copy of " + tables.front().shape->id.to_string() + " starts over.");
    start_over(call, tables.front());
    return;
  }
  if (tables.size() > 1) {
    narrow_down(call);
    return;
  }
  // A refused key: a copy that started over once; and a full refresh, which would deliver rows twice.
  for (const auto& table : tables) fail_table(table, refused ? with_advice(why, " The next sync starts the copy over.") : why);
}

sync_schedule::loss sync_schedule::what_is_lost(const failed_call& call) const {
  const session_spec& spec = call.spec;
  const failure& why = call.why;
  const auto& tables = call.tables;
  if (tables.empty()) return loss::none;
  // One shard of a merge that was undone stands before its journal, another behind it: alone the first one's stream
  // fails, and together it waits for the other for ever. Where the merge was done anew since, its shards are old ones.
  const bool waits_for_another =
      why.code == error_code::stream_stalled && (spec.rejoined || !spec.old_shards.empty()) &&
      std::count_if(spec.shards.begin(), spec.shards.end(),
                    [&](const shard_name& shard) { return tables.front().cursors.count(shard) > 0; }) > 1;
  const bool stays_refused = why.code == error_code::shards_changed && spec.rejoined &&
                             accounts_.at(tables.front().stream).rounds >= most_rounds;
  // Where nothing was undone it may as well have met a slow server.
  if (waits_for_another || stays_refused) return spec.rejoined ? loss::undone : loss::apart;
  const bool stays_on_old_shards = std::any_of(tables.begin(), tables.end(), [&](const session_table& table) {
    return std::any_of(table.cursors.begin(), table.cursors.end(), [&](const auto& entry) { return spec.is_old(entry.first); });
  });
  // Whether the binary logs of an old shard are gone nobody tells: the MySQL port leads to shards that serve. The stream finds no
  // tablet then, as it does while those of the shard are down.
  if (stays_on_old_shards && may_refuse_the_position(why.detail)) return loss::unreadable;
  // Old events that no longer fit a table are lost for good as well, and so are old shards that cannot be followed: the
  // next plan would be the same, unless the stream has left them behind.
  const bool lost = why.code == error_code::position_lost || why.code == error_code::position_foreign ||
                    (why.code == error_code::schema_incompatible && tables.size() == 1 && reads_changes(spec.kind, tables.front())) ||
                    (why.code == error_code::shards_changed && stays_on_old_shards);
  return lost ? loss::position : loss::none;
}

void sync_schedule::lose(failed_call& call, loss what) {
  failure& why = call.why;
  if (what == loss::undone) {
    why.detail = why.message;
    why.message = "The saved positions of the keyspace " + call.spec.keyspace.str() +
                  " do not lead through a reshard that was undone: one shard stands before it, another behind it.";
  }
  const char* const advice = what == loss::unreadable ? unreadable_advice : what == loss::apart ? apart_advice : lost_advice;
  for (const auto& table : call.tables) {
    // What is not copied yet has no position to lose.
    if (!table.uncopied && limits_.on_lost_position != lost_position_behavior::resync_data) {
      fail_table(table, with_advice(why, advice));
      continue;
    }
    warnings_.push_back(why.message + " The table " + table.shape->id.to_string() +
                        " is copied again; rows deleted meanwhile stay in the destination.");
    start_over(call, table);
  }
}

void sync_schedule::start_over(const failed_call& call, const session_table& table) {
  const session_spec& spec = call.spec;
  std::vector<shard_name> gone;
  std::int64_t newest = 0;
  for (const auto& [shard, cursor] : table.cursors) {
    // An old shard does not serve any more, nor does one that came and went since: their rows are in the shards that
    // the stream was to reach.
    const bool old = !spec.old_shards.empty() && spec.stops.count(shard) == 0;
    if (old) {
      gone.push_back(shard);
      newest = std::max(newest, cursor.cdc_cursor);
    } else if (restarted_.insert({table.stream, shard}).second) {
      // A refused primary key leaves the position good.
      const bool known = call.why.code == error_code::lastpk_refused;
      enqueue(copy_of(spec, table, shard, {{}, {}, cursor.cdc_cursor, known ? cursor.position : std::string()}));
    } else {
      fail_table(table, call.why);
    }
  }
  if (gone.empty()) return;
  std::vector<shard_name> born;
  for (const auto& [shard, stop] : spec.stops)
    if (table.cursors.count(shard) == 0) born.push_back(shard);
  if (born.empty()) fail_table(table, call.why);
  for (const auto& shard : born) {
    session_spec again = copy_of(spec, table, shard, {{}, {}, newest});
    again.replaces = gone;
    again.replacements = born;
    enqueue(std::move(again));
  }
}

void sync_schedule::narrow_down(failed_call& call) {
  const session_spec& spec = call.spec;
  const failure& why = call.why;
  const bool old_events = why.code == error_code::schema_incompatible && spec.kind == stream_kind::catch_up;
  std::vector<session_table> rest;
  bool named = false;
  for (auto& table : call.tables) {
    if (why.stream && *why.stream == table.shape->id) {
      // Alone it is judged by itself.
      if (old_events && limits_.on_lost_position == lost_position_behavior::resync_data)
        enqueue(with_tables(spec, {table}));
      else
        fail_table(table, old_events ? with_advice(why, lost_advice) : why);
      named = true;
    } else {
      rest.push_back(std::move(table));
    }
  }
  const bool of_one_table = why.code == error_code::schema_incompatible || why.code == error_code::stream_failed ||
                            why.code == error_code::table_missing ||
                            why.code == error_code::row_image_incomplete ||
                            why.code == error_code::response_malformed ||
                            why.code == error_code::response_too_large;
  if (named) {
    enqueue(with_tables(spec, std::move(rest)));
  } else if (of_one_table) {
    const auto half = static_cast<std::ptrdiff_t>(rest.size() / 2);
    enqueue(with_tables(spec, std::vector<session_table>(rest.begin(), rest.begin() + half)));
    enqueue(with_tables(spec, std::vector<session_table>(rest.begin() + half, rest.end())));
  } else {
    for (const auto& table : rest) fail_table(table, why);
  }
}

std::vector<stream_verdict> sync_schedule::take_verdicts() {
  std::vector<stream_verdict> taken;
  taken.swap(verdicts_);
  return taken;
}
std::vector<failure> sync_schedule::take_failures() {
  std::vector<failure> taken;
  taken.swap(failures_);
  return taken;
}
std::vector<std::string> sync_schedule::take_warnings() {
  std::vector<std::string> taken;
  taken.swap(warnings_);
  return taken;
}

}  // namespace psource
