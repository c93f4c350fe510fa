// Implementation of planner.hpp.
#include "sync/planner.hpp"

#include <algorithm>
#include <set>
#include <tuple>

#include "protocol/mapping/type_table.hpp"
#include "sync/key_range.hpp"

namespace psource {

namespace {

// Whoever serves at the peek has had its journal before: new shards serve only after it.
constexpr std::int64_t journal_grace_seconds = 30;

std::string join(const std::vector<std::string>& parts, const char* separator) {
  std::string text;
  for (const auto& part : parts) text += (text.empty() ? "" : separator) + part;
  return text;
}

std::string names_of(const std::vector<shard_name>& shards) {
  std::vector<std::string> names;
  for (std::size_t i = 0; i < shards.size() && i < 16; ++i) names.push_back(shards[i].str());
  if (shards.size() > 16) names.push_back("…");
  return join(names, ", ");
}

shard_cursor cursor_of(const saved_shard& saved) {
  return {saved.cursor.position, saved.cursor.last_known_pk, saved.cdc_cursor.value_or(0), saved.since};
}

// A catalog stored by planetscale/airbyte-source has neither this source's cursor column nor its types and default cursor.
bool is_refreshed(const configured_stream& configured) {
  return !configured.declares_properties || configured.find(cdc_cursor) != nullptr;
}

session_spec call_for(const plan_input& input, stream_kind kind, const keyspace_name& keyspace) {
  session_spec spec;
  spec.kind = kind;
  spec.keyspace = keyspace;
  spec.tablet = input.config.tablets;
  spec.cells = input.config.cells;
  spec.stop_by_commit_time(input.peek_seconds);
  return spec;
}

// "Refresh and remove records": the destination keeps no rows of earlier generations (Airbyte, resumable refreshes).
bool takes_rows_away(const configured_stream& configured) {
  return configured.generation_id && *configured.generation_id > 0 &&
         configured.minimum_generation_id == configured.generation_id;
}

// From where the changes of the table on the shard have to be delivered; empty = there is no such position.
const std::string& start_of(const saved_shard& saved) {
  return saved.cursor.position.empty() ? saved.since : saved.cursor.position;
}

// Whether a copy can go on above this key: Vitess takes its values by their places, whatever column they were of.
bool goes_on_above(const planned_stream& stream, const std::string& lastpk) {
  const table_definition& table = stream.table.shape->table;
  auto saved = last_key_columns(lastpk);
  auto present = table.copy_order;
  if (table.primary_key.empty()) {
    // Vitess tells the columns of a unique key in the table's order.
    std::sort(saved.begin(), saved.end());
    std::sort(present.begin(), present.end());
  }
  return stream.table.resumable && saved == present;
}

// What the state says is written again as it is.
void keep_cursors(planned_stream& stream, const saved_stream_state& state) {
  for (const auto& [shard, entry] : state.shards) stream.ledger.cursors[shard] = cursor_of(entry);
}

// Plans one stream after the other and gathers the calls.
class planner {
 public:
  explicit planner(const plan_input& input) : input_(input) {}

  result<sync_plan> run();

 private:
  void plan_stream(const configured_stream& configured);
  void plan_missing_table(planned_stream& stream, const configured_stream& configured);
  void keep_saved_cursors(planned_stream& stream);
  void plan_full_refresh(planned_stream& stream, const configured_stream& configured);
  void plan_incremental(planned_stream& stream, const configured_stream& configured);
  void plan_shard(planned_stream& stream, const shard_name& shard, const saved_shard& saved);
  bool follow_old_shards(planned_stream& stream, const std::vector<shard_name>& missing);
  void lose_position(planned_stream& stream, const shard_name& shard, shard_cursor cursor, error_code code,
                     const std::string& why);
  bool is_foreign(const shard_id& shard, const gtid_set& position) const;
  void check_since(const planned_stream& stream, const shard_name& shard, shard_cursor& cursor);
  void add_copy(planned_stream& stream, stream_kind kind, const shard_name& shard, const shard_cursor& cursor);
  void add_catch_up(planned_stream& stream, const shard_name& shard, const shard_cursor& cursor);
  void warn_about_cursor(const configured_stream& configured);
  void warn_about_key(const table_definition& table);
  void warn_about_starts(const keyspace_name& keyspace);
  const saved_stream_state* saved(const stream_id& id) const;
  const std::vector<shard_name>& selected(const keyspace_name& keyspace) const;
  bool serves(const keyspace_name& keyspace, const shard_name& shard) const;

  const plan_input& input_;
  sync_plan plan_;
  std::map<keyspace_name, std::vector<shard_name>> selected_;
  std::set<keyspace_name> starts_looked_at_;
  // Tables of a shard at the same position share a call.
  std::map<std::tuple<keyspace_name, shard_name, std::string>, session_spec> by_position_;
  std::map<std::string, session_spec> by_old_positions_;
  std::map<std::pair<keyspace_name, shard_name>, std::vector<session_spec>> copies_;
};

const saved_stream_state* planner::saved(const stream_id& id) const {
  const auto found = input_.state.streams.find(id);
  return found == input_.state.streams.end() ? nullptr : &found->second;
}

bool planner::serves(const keyspace_name& keyspace, const shard_name& shard) const {
  const auto found = input_.serving.find(keyspace);
  return found != input_.serving.end() && std::find(found->second.begin(), found->second.end(), shard) != found->second.end();
}

const std::vector<shard_name>& planner::selected(const keyspace_name& keyspace) const {
  static const std::vector<shard_name> none;
  const auto found = selected_.find(keyspace);
  return found == selected_.end() ? none : found->second;
}

result<sync_plan> planner::run() {
  auto chosen = select_shards(input_.config, input_.serving);
  if (!chosen) return fail(std::move(chosen.error()));
  selected_ = std::move(*chosen);
  if (input_.streams.empty())
    return fail(error_code::catalog_invalid, "The configured catalog selects no stream: there is nothing to read.");
  for (const auto& configured : input_.streams) plan_stream(configured);

  const bool any_table = std::any_of(input_.streams.begin(), input_.streams.end(),
                                     [&](const auto& stream) { return input_.tables.count(stream.id) > 0; });
  if (!any_table) {
    // Tables of a keyspace that is not configured may well exist.
    for (const auto& stream : plan_.streams)
      if (stream.problem && stream.problem->code == error_code::keyspace_unknown) return fail(*stream.problem);
    return fail(error_code::table_missing,
                "None of the configured tables exists any more (" + input_.streams.front().id.to_string() +
                    (input_.streams.size() > 1 ? ", …" : "") + "). Refresh the connection's schema.");
  }
  plan_.states_first = input_.state.from_legacy;
  for (auto& [key, spec] : by_old_positions_) plan_.catch_ups.push_back(std::move(spec));
  for (auto& [key, spec] : by_position_) plan_.catch_ups.push_back(std::move(spec));
  // Round robin over the shards, so that each has something to do from the start. Those that need the binary log since an earlier
  // read come first: it is kept for days, and the others may take as long.
  for (auto& [shard, specs] : copies_)
    std::stable_partition(specs.begin(), specs.end(), [](const session_spec& spec) {
      const shard_cursor& cursor = spec.tables.front().cursors.begin()->second;
      return spec.settles_at_since || (spec.kind == stream_kind::copy && !cursor.lastpk.empty());
    });
  for (std::size_t round = 0;; ++round) {
    bool any = false;
    for (auto& [shard, specs] : copies_) {
      if (round >= specs.size()) continue;
      plan_.copies.push_back(std::move(specs[round]));
      any = true;
    }
    if (!any) break;
  }
  return std::move(plan_);
}

void planner::plan_stream(const configured_stream& configured) {
  planned_stream stream;
  stream.id = configured.id;
  stream.mode = configured.mode;
  stream.ledger.id = configured.id;
  stream.table.stream = plan_.streams.size();
  if (configured.mode == sync_mode::full_refresh) {
    full_refresh_mark mark;
    mark.generation_id = configured.generation_id.value_or(-1);
    mark.sync_id = configured.sync_id.value_or(-1);
    stream.ledger.full_refresh = mark;
  }
  const auto table = input_.tables.find(configured.id);
  if (table == input_.tables.end()) {
    plan_missing_table(stream, configured);
    plan_.streams.push_back(std::move(stream));
    return;
  }
  auto shape = std::make_shared<stream_shape>();
  shape->id = configured.id;
  shape->table = table->second;
  // The destination goes by the key that the user chose: where it changes, the row under the old one has to be taken away.
  if (shape->table.identity.empty())
    for (const auto& path : configured.primary_key)
      if (path.size() == 1 && shape->table.find(path.front()) != nullptr) shape->table.identity.push_back(path.front());
  const bool refreshed = is_refreshed(configured);
  for (const auto& property : configured.properties) {
    shape->selected.push_back(property.name);
    if (refreshed) shape->declared.emplace(property.name, declared_type_of(property.schema));
  }
  stream.row_estimate = table->second.row_estimate;
  stream.table.shape = shape;
  stream.table.shared = std::make_shared<shared_shape>();
  stream.table.encoder.types.tiny_int_as_boolean = !input_.config.do_not_treat_tiny_int_as_boolean;
  stream.table.encoder.types.time_as_string = input_.config.time_as_string;
  stream.table.encoder.include_metadata = input_.config.include_metadata;
  stream.table.deletes = input_.config.capture_deletes && configured.mode == sync_mode::incremental;
  stream.table.resumable = copy_is_resumable(table->second);
  warn_about_cursor(configured);
  warn_about_key(shape->table);
  if (selected(configured.id.keyspace).empty()) {
    stream.problem = failure{error_code::shard_unknown,
                             "The configuration's `shards` leaves no shard of the keyspace \"" +
                                 configured.id.keyspace.str() + "\" to read " + configured.id.to_string() + " from.",
                             {},
                             configured.id};
    keep_saved_cursors(stream);
  } else if (configured.mode == sync_mode::full_refresh) {
    plan_full_refresh(stream, configured);
  } else {
    plan_incremental(stream, configured);
  }
  plan_.streams.push_back(std::move(stream));
}

// A platform takes rows with the same key for one, and refuses a key that is null.
void planner::warn_about_key(const table_definition& table) {
  if (input_.config.time_as_string) return;
  for (const auto& name : table.row_key()) {
    const column_definition* column = table.find(name);
    if (column == nullptr || (column->column_type != "time" && column->column_type.rfind("time(", 0) != 0)) continue;
    plan_.warnings.push_back("The key of " + table.id.to_string() + " has the TIME column " + name +
                             ": times that are negative or beyond a day are delivered as null, so that rows lose their keys. Set "
                             "options.time_as_string to deliver them as they are.");
  }
}

void planner::warn_about_cursor(const configured_stream& configured) {
  if (configured.mode != sync_mode::incremental || configured.destination_sync_mode != "append_dedup") return;
  if (configured.cursor_field.empty() || configured.cursor_field == std::vector<std::string>{cdc_cursor}) return;
  plan_.warnings.push_back("The stream " + configured.id.to_string() + " is deduplicated by the cursor field \"" +
                           join(configured.cursor_field, ".") +
                           "\", which does not tell newer rows from older ones. " +
                           (is_refreshed(configured) ? "Set" : "Refresh the connection's schema, then set") +
                           " the stream's cursor field to \"" + cdc_cursor +
                           "\" in the connection's schema settings, or over Airbyte's API where they do not let you.");
}

// Once for a keyspace: its tables share their shards.
void planner::warn_about_starts(const keyspace_name& keyspace) {
  if (!starts_looked_at_.insert(keyspace).second) return;
  for (const auto& [shard, position] : input_.config.starting_gtids)
    if (shard.keyspace == keyspace && !serves(keyspace, shard.shard))
      plan_.warnings.push_back("The configuration's `starting_gtids` has a position for the shard " + shard.to_string() +
                               ", which does not exist (any more); it has no effect.");
}

void planner::plan_missing_table(planned_stream& stream, const configured_stream& configured) {
  keep_saved_cursors(stream);
  if (selected_.count(configured.id.keyspace) == 0) {
    // Nobody has looked whether there is such a table.
    stream.problem = failure{error_code::keyspace_unknown,
                             "The configuration's `database` does not name the keyspace of the stream " + configured.id.to_string() +
                                 ". Add it there, or refresh the connection's schema and deselect the stream.",
                             {},
                             configured.id};
    return;
  }
  const std::string sentence = "The table " + configured.id.to_string() +
                               " does not exist (any more). Refresh the connection's schema and deselect it.";
  // COMPLETE without records would empty the destination's table.
  if (configured.mode == sync_mode::full_refresh || takes_rows_away(configured))
    stream.problem = failure{error_code::table_missing, sentence, {}, configured.id};
  else
    plan_.warnings.push_back(sentence + (saved(stream.id) != nullptr ? " Its saved state is kept." : ""));
}

// Of an incremental stream that is not read: they are written again as they are.
void planner::keep_saved_cursors(planned_stream& stream) {
  if (stream.mode != sync_mode::incremental) return;
  const auto* state = saved(stream.id);
  // What a full refresh left is no position to catch up from, and must not be given back as one.
  if (state != nullptr && !state->full_refresh) keep_cursors(stream, *state);
}

void planner::plan_full_refresh(planned_stream& stream, const configured_stream& configured) {
  const auto* state = saved(configured.id);
  const bool identified = configured.generation_id && configured.sync_id;
  const bool resumes = state != nullptr && state->full_refresh && identified &&
                       state->full_refresh->generation_id == *configured.generation_id &&
                       state->full_refresh->sync_id == *configured.sync_id;
  if (state != nullptr && !state->full_refresh)
    plan_.infos.push_back("Full refresh of " + configured.id.to_string() + " ignores the saved incremental state.");
  if (resumes) {
    const auto any_delivered = [&](const auto& condition) {
      return std::any_of(state->shards.begin(), state->shards.end(), [&](const auto& entry) {
        return !entry.second.cursor.position.empty() && condition(entry.first, entry.second.cursor.last_known_pk);
      });
    };
    const bool replaced =
        any_delivered([&](const shard_name& shard, const std::string&) { return !serves(configured.id.keyspace, shard); });
    const bool all_read = std::all_of(state->shards.begin(), state->shards.end(), [](const auto& entry) {
      return !entry.second.cursor.position.empty() && entry.second.cursor.last_known_pk.empty();
    });
    // Finished is finished, on whatever shards the rows are by now; also when the read was killed before it said so.
    if (state->full_refresh->done || (all_read && replaced)) {
      stream.ledger.full_refresh->done = true;
      stream.up_to_date = state->shards.size();
      return keep_cursors(stream, *state);
    }
    const std::string table = configured.id.to_string();
    // Rows of a shard that was replaced were delivered: those that replace it would tell them again.
    if (replaced)
      stream.problem = failure{error_code::shards_changed,
                               "The keyspace " + configured.id.keyspace.str() + " was resharded while " + table +
                                   " was being copied. The next sync starts the full refresh over.",
                               {},
                               configured.id};
    else if (any_delivered([&](const shard_name&, const std::string& key) { return !key.empty() && !goes_on_above(stream, key); }))
      stream.problem = failure{error_code::lastpk_refused,
                               "The primary key of " + table +
                                   " was changed while it was being copied. The next sync starts the full refresh over.",
                               {},
                               configured.id};
    if (stream.problem) return keep_cursors(stream, *state);
  }
  for (const auto& shard : selected(configured.id.keyspace)) {
    shard_cursor cursor;
    if (state != nullptr) {
      const auto found = state->shards.find(shard);
      if (found != state->shards.end()) {
        cursor.cdc_cursor = found->second.cdc_cursor.value_or(0);
        if (resumes) {
          cursor.position = found->second.cursor.position;
          cursor.lastpk = found->second.cursor.last_known_pk;
        }
      }
    }
    if (!cursor.position.empty() && cursor.lastpk.empty()) {
      ++stream.up_to_date;
      stream.ledger.cursors[shard] = cursor;
      continue;
    }
    add_copy(stream, stream_kind::full_copy, shard, cursor);
  }
}

void planner::plan_incremental(planned_stream& stream, const configured_stream& configured) {
  const saved_stream_state* state = saved(stream.id);
  if (state != nullptr && state->full_refresh) {
    plan_.infos.push_back("Incremental read of " + stream.id.to_string() + " ignores the saved full-refresh state.");
    state = nullptr;
  }
  const bool anew = state != nullptr && state->from_legacy && takes_rows_away(configured);
  if (anew) {
    plan_.warnings.push_back("The destination takes the rows of " + stream.id.to_string() +
                             " away that were delivered before, and its saved state, from which only changes would come, is an untyped one, "
                             "out of which a platform cannot take single tables. The table is copied anew.");
    state = nullptr;
  }
  if (state == nullptr && !anew) warn_about_starts(stream.id.keyspace);
  std::vector<shard_name> missing;
  for (const auto& shard : selected(stream.id.keyspace)) {
    if (state != nullptr) {
      const auto found = state->shards.find(shard);
      if (found != state->shards.end()) {
        plan_shard(stream, shard, found->second);
        continue;
      }
    } else if (!anew) {
      const auto start = input_.config.starting_gtids.find({stream.id.keyspace, shard});
      if (start != input_.config.starting_gtids.end()) {
        saved_shard given;
        given.cursor = table_cursor{shard, stream.id.keyspace, start->second, {}};
        plan_.infos.push_back("The table " + stream.id.to_string() + " on shard " + shard.str() +
                              " starts from the position given in `starting_gtids`; what is older is not copied.");
        plan_shard(stream, shard, given);
        continue;
      }
    }
    missing.push_back(shard);
  }
  if (state != nullptr && follow_old_shards(stream, missing)) return;
  for (const auto& shard : missing) {
    shard_cursor cursor;
    // A shard born in a reshard goes on above the cursors of the shards it comes from.
    const auto range = key_range_of(shard);
    if (state != nullptr && range)
      for (const auto& [name, entry] : state->shards) {
        const auto other = key_range_of(name);
        if (other && range->overlaps(*other)) cursor.cdc_cursor = std::max(cursor.cdc_cursor, entry.cdc_cursor.value_or(0));
      }
    add_copy(stream, stream_kind::copy, shard, cursor);
  }
}

void planner::plan_shard(planned_stream& stream, const shard_name& shard, const saved_shard& saved) {
  shard_cursor cursor = cursor_of(saved);
  if (cursor.position.empty() || (!cursor.lastpk.empty() && (!saved.cdc_cursor || !goes_on_above(stream, cursor.lastpk)))) {
    if (saved.cdc_cursor && !cursor.position.empty()) cursor.since = cursor.position;
    if (!cursor.lastpk.empty()) {
      const char* const why = !saved.cdc_cursor         ? "its state is from a connector that drops changes there."
                              : !stream.table.resumable ? "the table's key does not allow to resume."
                                                        : "the table's primary key has changed.";
      plan_.infos.push_back("The half copy of " + stream.id.to_string() + " on shard " + shard.str() + " starts over: " + why);
    }
    cursor.position.clear();
    cursor.lastpk.clear();
    check_since(stream, shard, cursor);
    add_copy(stream, stream_kind::copy, shard, cursor);
    return;
  }
  const auto position = gtid_set::parse_position(cursor.position);
  const auto stop = input_.stops.find({stream.id.keyspace, shard});
  if (!position) {
    lose_position(stream, shard, cursor, error_code::position_foreign, "it cannot be understood");
    return;
  }
  if (is_foreign({stream.id.keyspace, shard}, *position)) {
    lose_position(stream, shard, cursor, error_code::position_foreign,
                  "the server has not executed all of it: it belongs to another database, or was lost in a failover");
    return;
  }
  if (!cursor.lastpk.empty()) {
    add_copy(stream, stream_kind::copy, shard, cursor);
    return;
  }
  if (stop != input_.stops.end() && position->contains(stop->second)) {
    ++stream.up_to_date;
    stream.ledger.cursors[shard] = cursor;
    return;
  }
  add_catch_up(stream, shard, cursor);
}

// The shard's servers have not executed all of it. A replica may merely lag behind: there the primary's word counts.
bool planner::is_foreign(const shard_id& shard, const gtid_set& position) const {
  const auto stop = input_.stops.find(shard);
  if (stop == input_.stops.end() || stop->second.contains(position)) return false;
  if (input_.config.tablets == tablet_type::primary) return true;
  const auto primary = input_.primaries.find(shard);
  return primary != input_.primaries.end() && !position.may_come_from(primary->second.executed);
}

// A copy that was broken off has delivered rows; where it began has to be a position of this server, its binary log still there.
void planner::check_since(const planned_stream& stream, const shard_name& shard, shard_cursor& cursor) {
  if (cursor.since.empty()) return;
  const shard_id id{stream.id.keyspace, shard};
  const auto since = gtid_set::parse_position(cursor.since);
  const auto primary = input_.primaries.find(id);
  const bool told = primary != input_.primaries.end();
  const bool foreign = since && is_foreign(id, *since);
  // Replicas may keep their binary logs for longer.
  const bool purged =
      since && told && input_.config.tablets == tablet_type::primary && !since->contains(primary->second.purged);
  if (since && !purged && !foreign) return;
  const std::string copy = "The copy of " + stream.id.to_string() + " on shard " + shard.str();
  if (foreign && !purged && since->flavor() == gtid_flavor::mysql56) {
    // What a failover has lost of it never happened on this server; all that it has done since the rest comes from there.
    const gtid_set kept = since->common_with(told ? primary->second.executed : input_.stops.at(id));
    if (!kept.empty()) {
      cursor.since = kept.to_position();
      plan_.warnings.push_back(copy + " starts over, and the server has not executed all of the position at which it began first. Rows of "
                                      "transactions that a failover has lost stay in the destination.");
      return;
    }
  }
  cursor.since.clear();
  plan_.warnings.push_back(copy + (purged ? " starts over, and the binary logs since it began first were purged."
                                          : " starts over, and the server does not know the position at which it began first.") +
                           " Rows that were delivered then and are deleted by now stay in the destination.");
}

void planner::lose_position(planned_stream& stream, const shard_name& shard, shard_cursor cursor, error_code code,
                            const std::string& why) {
  const std::string where = stream.id.to_string() + " on shard " + shard.str();
  if (input_.config.on_lost_position == lost_position_behavior::resync_data) {
    plan_.warnings.push_back("The saved position of " + where + " cannot be used (" + why +
                             "); the table is copied again there. Rows deleted meanwhile stay in the destination.");
    add_copy(stream, stream_kind::copy, shard, {{}, {}, cursor.cdc_cursor});
    return;
  }
  stream.ledger.cursors[shard] = cursor;
  if (!stream.problem)
    stream.problem = failure{code,
                             "The saved position of " + where + " cannot be used: " + why +
                                 ". Use \"Refresh and remove records\" for this stream, or set "
                                 "invalid_cdc_cursor_position_behavior to \"Re-sync data\".",
                             cursor.position,
                             stream.id};
}

// Shards of the saved state that no longer serve: their positions lead to the shards that replaced them, as long as
// vtgate still knows them. True when all missing shards are fed that way.
bool planner::follow_old_shards(planned_stream& stream, const std::vector<shard_name>& missing) {
  const saved_stream_state& state = *saved(stream.id);
  const auto serving = input_.serving.find(stream.id.keyspace);
  std::vector<shard_name> old;
  // Each old shard has a position to start from; and each was copied completely.
  bool can_follow = true;
  bool copied = true;
  for (const auto& [shard, entry] : state.shards) {
    if (serves(stream.id.keyspace, shard)) {
      const auto& chosen = selected(stream.id.keyspace);
      if (std::find(chosen.begin(), chosen.end(), shard) == chosen.end())
        plan_.warnings.push_back("The shard " + shard.str() + " of the saved state of " + stream.id.to_string() +
                                 " is not among the configured `shards`; its position is dropped.");
      continue;
    }
    const auto range = key_range_of(shard);
    const bool replaced = range && std::any_of(missing.begin(), missing.end(), [&](const shard_name& name) {
                            const auto other = key_range_of(name);
                            return other && other->overlaps(*range);
                          });
    if (!replaced) {
      plan_.warnings.push_back("The saved state of " + stream.id.to_string() + " names the shard \"" + shard.str() +
                               "\", which the keyspace does not have; it is ignored.");
      continue;
    }
    old.push_back(shard);
    // A half copy of the older connector has dropped changes.
    if (start_of(entry).empty() || (!entry.cursor.last_known_pk.empty() && !entry.cdc_cursor)) can_follow = false;
    if (entry.cursor.position.empty() || !entry.cursor.last_known_pk.empty()) copied = false;
  }
  if (old.empty()) return false;
  // Every key of the missing shards has to come from an old one.
  std::vector<key_range> given;
  for (const auto& parent : old) given.push_back(*key_range_of(parent));
  for (const auto& name : missing) {
    const auto range = key_range_of(name);
    if (!range) return false;
    can_follow = can_follow && cover_together(given, *range);
  }
  if (!can_follow) {
    plan_.warnings.push_back("The keyspace " + stream.id.keyspace.str() + " was resharded before " +
                             stream.id.to_string() +
                             " was copied completely: its new shards are copied from the start. Rows that were "
                             "delivered before and are deleted by now stay in the destination.");
    return false;
  }
  std::string key = stream.id.keyspace.str();
  session_table table = stream.table;
  table.uncopied = !copied;
  for (const auto& shard : old) {
    const saved_shard& entry = state.shards.at(shard);
    const std::string& start = start_of(entry);
    shard_cursor& cursor = table.cursors[shard];
    cursor.cdc_cursor = entry.cdc_cursor.value_or(0);
    (copied ? cursor.position : cursor.since) = start;
    stream.ledger.cursors[shard] = cursor;
    key += "|" + shard.str() + "=" + start;
  }
  const bool all_selected = serving != input_.serving.end() && selected(stream.id.keyspace).size() == serving->second.size();
  if (!all_selected)
    for (const auto& name : missing) key += "|" + name.str();
  auto [call, fresh] = by_old_positions_.try_emplace(key);
  if (fresh) {
    call->second = call_for(input_, stream_kind::catch_up, stream.id.keyspace);
    call->second.shards = old;
    call->second.old_shards = old;
    if (!all_selected) call->second.wanted = missing;
    call->second.journals_before_seconds = input_.peek_seconds + journal_grace_seconds;
    for (const auto& name : missing) {
      const auto stop = input_.stops.find({stream.id.keyspace, name});
      if (stop != input_.stops.end()) call->second.stops[name] = stop->second;
    }
  }
  call->second.tables.push_back(std::move(table));
  stream.catch_ups += old.size();
  plan_.infos.push_back("The keyspace " + stream.id.keyspace.str() + " was resharded: " + stream.id.to_string() +
                        " goes on from the old shards " + names_of(old) + " to " + names_of(missing) +
                        (copied ? "." : ", and is then copied from those: its copy had not ended."));
  return true;
}

void planner::add_copy(planned_stream& stream, stream_kind kind, const shard_name& shard, const shard_cursor& cursor) {
  session_spec spec = call_for(input_, kind, stream.id.keyspace);
  spec.shards = {shard};
  spec.settles_at_since = !cursor.since.empty();
  session_table table = stream.table;
  table.cursors[shard] = cursor;
  const auto stop = input_.stops.find({stream.id.keyspace, shard});
  if (stop != input_.stops.end()) {
    spec.stops[shard] = stop->second;
    // Should this copy be broken off: its rows will be newer than the peek.
    if (kind == stream_kind::copy && cursor.lastpk.empty() && cursor.since.empty())
      table.cursors[shard].since = stream.ledger.beginnings[shard] = stop->second.to_position();
  }
  stream.ledger.cursors[shard] = cursor;
  spec.tables.push_back(std::move(table));
  ++(cursor.lastpk.empty() ? stream.copies : stream.resumes);
  copies_[{stream.id.keyspace, shard}].push_back(std::move(spec));
}

void planner::add_catch_up(planned_stream& stream, const shard_name& shard, const shard_cursor& cursor) {
  auto [call, fresh] = by_position_.try_emplace({stream.id.keyspace, shard, cursor.position});
  if (fresh) {
    call->second = call_for(input_, stream_kind::catch_up, stream.id.keyspace);
    call->second.shards = {shard};
    const auto stop = input_.stops.find({stream.id.keyspace, shard});
    if (stop != input_.stops.end()) call->second.stops[shard] = stop->second;
  }
  session_table table = stream.table;
  table.cursors[shard] = cursor;
  stream.ledger.cursors[shard] = cursor;
  call->second.tables.push_back(std::move(table));
  ++stream.catch_ups;
}

// A stream of one shard alone does not pass the journal of a merge, also when the merge was undone and the shard serves again:
// all shards of such a stream are read in one call.
void join_catch_ups(sync_plan& plan, const std::set<stream_index>& streams) {
  std::map<stream_index, session_spec> joined;
  std::vector<session_spec> calls;
  for (auto& call : plan.catch_ups) {
    std::vector<session_table> others;
    for (auto& table : call.tables) {
      if (streams.count(table.stream) == 0) {
        others.push_back(std::move(table));
        continue;
      }
      auto [entry, fresh] = joined.try_emplace(table.stream, call);
      session_spec& together = entry->second;
      if (fresh) {
        together.tables = {table};
        together.rejoined = true;
        continue;
      }
      together.shards.insert(together.shards.end(), call.shards.begin(), call.shards.end());
      together.stops.insert(call.stops.begin(), call.stops.end());
      together.tables.front().cursors.insert(table.cursors.begin(), table.cursors.end());
    }
    call.tables = std::move(others);
    if (!call.tables.empty()) calls.push_back(std::move(call));
  }
  for (auto& [stream, call] : joined) {
    plan.streams[stream].catch_ups = 1;
    calls.push_back(std::move(call));
  }
  plan.catch_ups = std::move(calls);
}

}  // namespace

std::vector<shard_id> shards_to_ask(const plan_input& input) {
  const bool primary = input.config.tablets == tablet_type::primary;
  std::set<shard_id> shards;
  for (const auto& [id, state] : input.state.streams) {
    if (state.full_refresh) continue;
    for (const auto& [name, saved] : state.shards) {
      // A half copy may have to start over.
      const bool has_beginning = !saved.since.empty() || !saved.cursor.last_known_pk.empty();
      const auto stop = input.stops.find({id.keyspace, name});
      if (stop == input.stops.end() || shards.count(stop->first) > 0 || (primary && !has_beginning)) continue;
      // Positions may be long, and most of them need no look here.
      const auto position = gtid_set::parse_position(start_of(saved));
      if (position && (primary || !stop->second.contains(*position))) shards.insert(stop->first);
    }
  }
  return {shards.begin(), shards.end()};
}

result<sync_plan> make_plan(const plan_input& input) { return planner(input).run(); }

result<sync_plan> plan_again(plan_input input, const standing_cursors& standing) {
  std::vector<configured_stream> streams;
  std::vector<stream_index> numbers;
  input.state = {};
  // Those whose shards all serve: the reshard that their streams met was undone, or is about to be seen. In numbers of `streams`.
  std::set<stream_index> back;
  for (const auto& [stream, cursors] : standing) {
    configured_stream configured = input.streams[stream];
    // What there was to say about it was said.
    configured.cursor_field.clear();
    saved_stream_state& state = input.state.streams[configured.id];
    const auto serving = input.serving.find(configured.id.keyspace);
    const bool all_serve =
        serving != input.serving.end() && std::all_of(cursors.begin(), cursors.end(), [&](const auto& entry) {
          return std::find(serving->second.begin(), serving->second.end(), entry.first) != serving->second.end();
        });
    if (all_serve) back.insert(streams.size());
    for (const auto& [shard, cursor] : cursors) {
      saved_shard& saved = state.shards[shard];
      saved = {{shard, configured.id.keyspace, cursor.position, cursor.lastpk}, cursor.cdc_cursor, cursor.since};
      // No copy leads through a reshard: begun anew, it ends where the half one began.
      if (all_serve && !cursor.lastpk.empty())
        saved = {{shard, configured.id.keyspace, {}, {}}, cursor.cdc_cursor, cursor.position};
    }
    streams.push_back(std::move(configured));
    numbers.push_back(stream);
  }
  input.streams = std::move(streams);
  auto plan = make_plan(input);
  if (!plan) return plan;
  join_catch_ups(*plan, back);
  for (auto& stream : plan->streams) stream.table.stream = numbers[stream.table.stream];
  for (auto& call : plan->catch_ups)
    for (auto& table : call.tables) table.stream = numbers[table.stream];
  for (auto& call : plan->copies) {
    session_table& table = call.tables.front();
    const auto& ledger = plan->streams[table.stream].ledger.cursors;
    table.stream = numbers[table.stream];
    for (const auto& [shard, cursor] : standing.at(table.stream))
      if (ledger.count(shard) == 0) call.replaces.push_back(shard);
    if (call.replaces.empty()) continue;
    for (const auto& [shard, cursor] : ledger)
      if (standing.at(table.stream).count(shard) == 0) call.replacements.push_back(shard);
  }
  return plan;
}

result<std::map<keyspace_name, std::vector<shard_name>>> select_shards(
    const source_config& config, const std::map<keyspace_name, std::vector<shard_name>>& serving) {
  std::map<keyspace_name, std::vector<shard_name>> chosen;
  for (const auto& keyspace : config.keyspaces) {
    const auto found = serving.find(keyspace);
    if (found == serving.end() || found->second.empty()) {
      std::vector<std::string> known;
      for (const auto& [name, shards] : serving)
        if (!shards.empty()) known.push_back(name.str());
      return fail(error_code::keyspace_unknown, "The branch has no keyspace \"" + keyspace.str() +
                                                    "\" with serving shards. Check `database`; the branch has: " +
                                                    (known.empty() ? "none" : join(known, ", ")) + ".");
    }
    auto& shards = chosen[keyspace];
    for (const auto& shard : found->second)
      if (config.selects({keyspace, shard})) shards.push_back(shard);
  }
  for (const auto& selector : config.shards) {
    bool known = false;
    for (const auto& [keyspace, shards] : chosen)
      if (selector.keyspace.empty() || selector.keyspace == keyspace)
        known = known || std::find(shards.begin(), shards.end(), selector.shard) != shards.end();
    if (known) continue;
    std::vector<shard_name> existing;
    for (const auto& keyspace : config.keyspaces)
      for (const auto& shard : serving.at(keyspace)) existing.push_back(shard);
    return fail(error_code::shard_unknown,
                "The configured shard \"" +
                    (selector.keyspace.empty() ? "" : selector.keyspace.str() + "/") + selector.shard.str() +
                    "\" does not exist. Check `shards`; the branch has: " + names_of(existing) + ".");
  }
  return chosen;
}

bool copy_is_resumable(const table_definition& table) {
  if (table.copy_order.empty()) return false;
  for (const auto& name : table.copy_order) {
    const column_definition* column = table.find(name);
    if (column == nullptr || !is_found_by_its_text(column->column_type)) return false;
  }
  return true;
}

}  // namespace psource
