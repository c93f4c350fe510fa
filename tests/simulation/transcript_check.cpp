// Implementation of transcript_check.hpp.
#include "tests/simulation/transcript_check.hpp"

#include <rapidjson/document.h>
#include <rapidjson/stringbuffer.h>
#include <rapidjson/writer.h>

#include <algorithm>
#include <cstdlib>

#include "query.pb.h"

namespace psource::simulation {

namespace {

constexpr std::int64_t second_us = 1'000'000;
// The emitter looks once a second which states are due; the simulated clock moves in steps of up to a second.
constexpr std::int64_t late_us = 2 * second_us + 1000;

std::string json_of(const rapidjson::Value& value) {
  rapidjson::StringBuffer buffer;
  rapidjson::Writer<rapidjson::StringBuffer> writer(buffer);
  value.Accept(writer);
  return {buffer.GetString(), buffer.GetSize()};
}

std::optional<std::int64_t> key_of(const std::string& bytes) {
  query::QueryResult lastpk;
  if (!lastpk.ParseFromString(bytes) || lastpk.rows_size() != 1) return std::nullopt;
  const auto& row = lastpk.rows(0);
  return std::atoll(row.values().substr(0, static_cast<std::size_t>(row.lengths(0))).c_str());
}

std::string name_of(const told_row& row) {
  return std::to_string(row.id) + (row.deleted ? " deleted " : " ") + "version " +
         std::to_string(row.version) + " cursor " + std::to_string(row.cursor);
}

}  // namespace

transcript_check::transcript_check(branch_model& branch, const settled_positions& settled,
                                   std::vector<configured_stream> streams)
    : branch_(branch), settled_(settled), streams_(std::move(streams)) {
  for (std::size_t i = 0; i < streams_.size(); ++i) {
    tables_.push_back(0);
    for (std::size_t t = 0; t < branch_.tables().size(); ++t)
      if (branch_.tables()[t].name == streams_[i].id.table.str()) tables_.back() = t;
    if (streams_[i].mode == sync_mode::full_refresh) begin_refresh(i);
  }
}

void transcript_check::violate(const std::string& what) {
  violations_.push_back("run " + std::to_string(runs_) + ": " + what);
}

void transcript_check::begin_refresh(std::size_t stream) {
  refresh_complete_.erase(stream);
  refreshed_[stream].clear();
  refresh_from_.erase(stream);
  refresh_blurred_.erase(stream);
}

void transcript_check::run_begins() {
  for (std::size_t i = 0; i < streams_.size(); ++i)
    if (streams_[i].mode == sync_mode::full_refresh) refresh_from_.try_emplace(i, branch_.version());
}

std::optional<std::size_t> transcript_check::find(const std::string& table) const {
  for (std::size_t i = 0; i < streams_.size(); ++i)
    if (streams_[i].id.table.str() == table) return i;
  return std::nullopt;
}

void transcript_check::take(const run_report& report, std::int64_t interval_us, bool lagging) {
  ++runs_;
  interval_us_ = interval_us;
  // Those copies may begin in a later run only.
  for (const auto table : to_be_copied_) branch_.forgive_deletions(table);
  resharded_ = report.resharded;
  // Through undone reshards, too. Where a stream has ended on shards in between, it has to be asked which ones serve.
  bool led_to_others = false;
  for (const auto& call : report.calls)
    for (const auto& start : call.shards)
      led_to_others = led_to_others || leads_through_a_switch(start) ||
                      std::find(report.serving.begin(), report.serving.end(), start.shard) == report.serving.end();
  resharded_ = resharded_ || led_to_others;
  lagging_ = lagging;
  for (std::size_t i = 0; i < streams_.size(); ++i)
    if (lagging_ || resharded_) refresh_blurred_.insert(i);
  restarted_.insert(report.copies_restarted.begin(), report.copies_restarted.end());
  told_.assign(streams_.size(), {});
  run_.assign(streams_.size(), {});
  for (auto& stream : run_) stream.last_state_us = report.started_us;
  run_records_.clear();
  logs_.clear();
  column_warnings_.clear();
  emptied_.clear();
  last_by_place_.clear();
  for (const auto& what : report.violations) violate(what);
  if (report.plan_failure) {
    violate("the plan was refused: " + report.plan_failure->message);
    return;
  }
  // Claims of shards that are gone count until their successors have a state.
  std::size_t delivered_bytes = report.transcript.size();
  std::size_t all_bytes = 0;
  for (const auto& emitted : report.emitted) {
    all_bytes += emitted.bytes.size();
    if (emitted.bytes.empty() || emitted.bytes.back() != '\n')
      violate("a buffer does not end with a whole line");
    for (std::size_t at = 0; at < emitted.bytes.size();) {
      const auto end = emitted.bytes.find('\n', at);
      const std::size_t size = end - at + 1;
      const bool delivered = delivered_bytes >= size;
      delivered_bytes = delivered ? delivered_bytes - size : 0;
      line(emitted.bytes.substr(at, size - 1), emitted.time_us, delivered);
      at = end + 1;
    }
  }
  const bool broke = report.outcome && report.outcome->output_problem;
  if (report.outcome && !broke && all_bytes != report.transcript.size())
    violate("the engine ended before everything was written");
  bool complete = true;
  for (std::size_t i = 0; i < streams_.size(); ++i) {
    check_late(i, report.ended_us);
    for (const auto& row : run_[i].unstated) fold(everything_, row, true);
    if (!report.outcome || broke) continue;
    const auto status = told_[i].status;
    if (status == told_status::complete) to_be_copied_.erase(tables_[i]);
    if (status != told_status::complete && status != told_status::incomplete)
      violate("the stream " + streams_[i].id.to_string() + " has no final status");
    if (status != told_status::complete) complete = false;
    if (status == told_status::incomplete && told_[i].errors == 0 && report.outcome->signal == 0)
      violate("the stream " + streams_[i].id.to_string() + " is INCOMPLETE without an error");
    if (run_[i].counted != 0)
      violate("records of " + streams_[i].id.to_string() + " have no state at its end");
    if (status == told_status::complete && streams_[i].mode == sync_mode::incremental && !report.resharded &&
        !(led_to_others && report.unanswered) && !lagging)
      for (const auto& [id, stop] : report.stops) {
        const auto* shard = branch_.find(id.shard.str());
        const auto stop_index = shard->index_of(*position_set::parse(stop.to_position()));
        const auto found = claims_[i].find(id.shard.str());
        if (found == claims_[i].end() || found->second.lastpk) {
          violate("COMPLETE without a position on shard " + id.shard.str());
          continue;
        }
        for (std::size_t at = found->second.index; stop_index && at < *stop_index; ++at)
          if (shard->log[at].kind != entry_kind::silent && shard->log[at].kind != entry_kind::unsent) {
            violate("the stream " + streams_[i].id.to_string() + " is COMPLETE before its stop on shard " +
                    id.shard.str());
            break;
          }
      }
  }
  if (report.outcome && report.outcome->complete != (complete && !broke && report.outcome->signal == 0))
    violate(std::string("the engine calls the run ") +
            (report.outcome->complete ? "complete" : "incomplete") + ", its streams do not");
}

// The shard serves, and was replaced for a time behind the position.
bool transcript_check::leads_through_a_switch(const opened_call::start& start) const {
  const auto* shard = branch_.find(start.shard);
  const auto position = position_set::parse(start.gtid);
  if (shard == nullptr || !shard->serving || !position) return false;
  const auto index = shard->index_of(*position);
  return index && std::any_of(shard->journals.begin(), shard->journals.end(),
                              [&](const auto& journal) { return *index <= journal.at; });
}

// Only where people are told so may deleted rows stay.
void transcript_check::take_warning(const std::string& text) {
  if (text.rfind("The catalog ", 0) == 0) {
    if (!column_warnings_.insert(text).second) violate("a warning comes twice: " + text);
    bool known = false;
    for (std::size_t i = 0; i < streams_.size(); ++i)
      for (std::size_t ddls = 0; ddls <= branch_.ddls(tables_[i]); ++ddls)
        known = known || warnings_of(i, branch_.shape(tables_[i], ddls)).count(text) > 0;
    if (!known) violate("a warning without a cause: " + text);
    return;
  }
  if (text.find("by a statement that the binary log does not tell") != std::string::npos) {
    for (std::size_t table = 0; table < branch_.tables().size(); ++table)
      if (text.find("Rows of " + std::string(keyspace) + "." + branch_.tables()[table].name + " ") == 0)
        emptied_.insert(table);
    return;
  }
  if (text.find("stay in the destination") == std::string::npos) return;
  for (std::size_t table = 0; table < branch_.tables().size(); ++table)
    if (text.find(std::string(keyspace) + "." + branch_.tables()[table].name + " ") != std::string::npos) {
      branch_.forgive_deletions(table);
      if (text.find("its new shards are copied from the start") != std::string::npos ||
          text.find("is copied again") != std::string::npos)
        to_be_copied_.insert(table);
    }
}

void transcript_check::line(const std::string& text, std::int64_t time_us, bool delivered) {
  rapidjson::Document document;
  document.Parse(text.c_str(), text.size());
  if (document.HasParseError() || !document.IsObject()) {
    violate("a line is no JSON: " + text.substr(0, 200));
    return;
  }
  const std::string type = document["type"].GetString();
  if (type == "LOG") {
    logs_.push_back(document["log"]["message"].GetString());
    take_warning(logs_.back());
    return;
  }
  if (type == "RECORD") {
    const auto& record = document["record"];
    const auto stream = find(record["stream"].GetString());
    if (!stream) return violate("a record of an unknown stream");
    const auto& data = record["data"];
    told_row row;
    row.table = tables_[*stream];
    row.id = data["id"].GetInt64();
    row.version = std::strtoull(data["v"].GetString(), nullptr, 10);
    row.deleted = !data["_ab_cdc_deleted_at"].IsNull();
    row.cursor = data["_ab_cdc_cursor"].GetInt64();
    const std::string updated = data["_ab_cdc_updated_at"].GetString();
    const auto point = updated.find('.');
    row.copied = point != std::string::npos && updated.find_first_of("123456789", point) != std::string::npos;
    check_columns(*stream, row, data);
    take_record(*stream, row, time_us, delivered);
    return;
  }
  if (type == "STATE") {
    const auto& state = document["state"];
    const auto stream = find(state["stream"]["stream_descriptor"]["name"].GetString());
    if (!stream) return violate("a state of an unknown stream");
    take_state(*stream, json_of(state["stream"]["stream_state"]),
               state["sourceStats"]["recordCount"].GetDouble(), text, time_us, delivered);
    return;
  }
  if (type == "TRACE") {
    const auto& trace = document["trace"];
    const std::string kind = trace["type"].GetString();
    if (kind == "STREAM_STATUS") {
      const auto stream = find(trace["stream_status"]["stream_descriptor"]["name"].GetString());
      if (!stream) return violate("a status of an unknown stream");
      take_status(*stream, trace["stream_status"]["status"].GetString(), delivered);
    } else if (kind == "ERROR") {
      logs_.push_back(trace["error"]["message"].GetString());
      if (logs_.back().find("unexpectedly") != std::string::npos) violate("a fault of the program: " + logs_.back());
      if (!trace["error"].HasMember("stream_descriptor")) return;
      const auto stream = find(trace["error"]["stream_descriptor"]["name"].GetString());
      if (stream) ++told_[*stream].errors;
    }
    return;
  }
  violate("a line of an unexpected type: " + type);
}

// What is to be said of a table with these columns.
std::set<std::string> transcript_check::warnings_of(std::size_t stream, const table_shape& shape) const {
  const std::string name = streams_[stream].id.to_string();
  std::string unknown;
  std::string lost;
  std::set<std::string> texts;
  for (const auto& column : shape) {
    const auto* declared = streams_[stream].find(column.name);
    if (declared == nullptr) {
      unknown += (unknown.empty() ? "" : ", ") + column.name;
      continue;
    }
    const bool as_number = declared->schema.find("number") != std::string::npos;
    if (as_number != (std::string(column.type()) == "bigint"))
      texts.insert("The catalog declares column " + column.name + " of " + name + " as " +
                   (as_number ? "number (integer)" : "string") + ", but its type is " + column.type() +
                   ". Its values are delivered in that type's form. Refresh the schema of the connection.");
  }
  for (const auto& property : streams_[stream].properties)
    if (property.name.front() != '_' && std::none_of(shape.begin(), shape.end(), [&](const auto& column) {
          return column.name == property.name;
        }))
      lost += (lost.empty() ? "" : ", ") + property.name;
  if (!unknown.empty())
    texts.insert("The catalog does not select every column of " + name + ". Not delivered: " + unknown + ".");
  if (!lost.empty())
    texts.insert("The catalog has columns that table " + name + " no longer has: " + lost +
                 ". Refresh the schema of the connection.");
  return texts;
}

// When the row was as it was told, or, told as deleted, when it went; null when the shard never held it like that.
static const row_moment* moment_of(const model_shard& shard, const told_row& row) {
  const auto found = shard.history.find({row.table, row.id});
  if (found == shard.history.end()) return nullptr;
  const auto& moments = found->second;
  auto at = std::find_if(moments.begin(), moments.end(), [&](const row_moment& moment) {
    return moment.live && moment.version == row.version;
  });
  if (at != moments.end() && row.deleted) ++at;
  return at == moments.end() ? nullptr : &*at;
}

// How many DDL statements the table may have had when it showed a row: those before its transaction, or before a snapshot
// that has it.
std::set<std::size_t> transcript_check::possible_shapes(const told_row& row) const {
  std::set<std::size_t> shapes;
  for (const auto& shard : branch_.shards()) {
    const row_moment* at = moment_of(*shard, row);
    if (at == nullptr) continue;
    const std::size_t first = shard->ddls_at(row.table, at->index);
    // On a shard that a reshard brought it is older than the log.
    if (!row.copied && (at->index > 0 || row.deleted)) {
      shapes.insert(first);
      continue;
    }
    if (!row.copied) continue;
    const std::size_t last = shard->ddls_at(row.table, shard->log.size());
    for (std::size_t ddls = first; ddls <= last; ++ddls) shapes.insert(ddls);
  }
  return shapes;
}

bool transcript_check::has_columns(std::size_t stream, const told_row& row, const rapidjson::Value& data,
                                   const table_shape& shape) const {
  std::size_t expected = 3;
  for (const auto& column : shape) {
    const auto found = data.FindMember(column.name.c_str());
    if (streams_[stream].find(column.name) == nullptr) {
      if (found != data.MemberEnd()) return false;
      continue;
    }
    if (found == data.MemberEnd()) return false;
    ++expected;
    if (column.kind == column_kind::id || column.kind == column_kind::version) continue;
    const auto value = column.value({row.id, row.version, 0});
    const auto& told = found->value;
    const bool same = !value                               ? told.IsNull()
                      : column.kind == column_kind::number ? told.IsInt64() && std::to_string(told.GetInt64()) == *value
                                                           : told.IsString() && told.GetString() == *value;
    if (!same) return false;
  }
  return data.MemberCount() == expected;
}

// A record has the columns of its transaction or snapshot that the catalog knows, and what is missing or strange was told
// before it.
void transcript_check::check_columns(std::size_t stream, const told_row& row, const rapidjson::Value& data) {
  bool fits = false;
  for (const std::size_t ddls : possible_shapes(row)) {
    const auto& shape = branch_.shape(row.table, ddls);
    if (!has_columns(stream, row, data, shape)) continue;
    fits = true;
    const auto texts = warnings_of(stream, shape);
    if (std::includes(column_warnings_.begin(), column_warnings_.end(), texts.begin(), texts.end())) return;
  }
  violate((fits ? "nothing was told of the columns that a record of " : "columns that the table never had so: a record of ") +
          streams_[stream].id.to_string() + (fits ? " lacks: " : ": ") + name_of(row) + " " + json_of(data));
}

void transcript_check::take_status(std::size_t stream, const std::string& status, bool delivered) {
  auto& told = told_[stream];
  const auto next = status == "STARTED"    ? told_status::started
                    : status == "RUNNING"  ? told_status::running
                    : status == "COMPLETE" ? told_status::complete
                                           : told_status::incomplete;
  const bool fits = next == told_status::started   ? told.status == told_status::none
                    : next == told_status::running ? told.status == told_status::started
                                                   : told.status == told_status::running;
  if (!fits)
    violate("the status " + status + " of " + streams_[stream].id.to_string() + " comes out of order");
  if (next == told_status::complete && !run_[stream].state_was_last)
    violate("COMPLETE of " + streams_[stream].id.to_string() + " without a state directly before");
  told.status = next;
  if (delivered && next == told_status::complete && streams_[stream].mode == sync_mode::full_refresh)
    check_refresh(stream);
}

void transcript_check::take_record(std::size_t stream, const told_row& row, std::int64_t time_us,
                                   bool delivered) {
  auto& told = told_[stream];
  auto& run = run_[stream];
  ++told.records;
  ++run.counted;
  run.state_was_last = false;
  if (!run.oldest_unstated_us) run.oldest_unstated_us = time_us;
  if (told.status != told_status::running)
    violate("a record of " + streams_[stream].id.to_string() + " while not RUNNING");
  check_rising(row);
  if (!delivered) return;
  run_records_.push_back(row);
  if (streams_[stream].mode == sync_mode::full_refresh) {
    refreshed_[stream].push_back(row);
    return;
  }
  check_repetition(stream, row);
  run.unstated.push_back(row);
}

// Strictly rising per table and shard; the rows of one snapshot share a value. Across a reshard at least for
// each key.
void transcript_check::check_rising(const told_row& row) {
  int place = -1;
  if (!resharded_) {
    for (const auto* shard : branch_.serving())
      if (shard->holds(row.id)) place = shard->low;
  } else {
    place = static_cast<int>(branch_model::keyspace_byte(row.id));
  }
  const auto [found, first] = last_by_place_.try_emplace({row.table, place}, row);
  if (first) return;
  told_row& last = found->second;
  const bool same_snapshot = row.copied && last.copied && !row.deleted && !last.deleted;
  // The first rows of a shard that a reshard brings have no position yet; where they come again they say the
  // same.
  const bool same_record =
      resharded_ && row.id == last.id && row.version == last.version && row.deleted == last.deleted;
  if (row.cursor < last.cursor || (row.cursor == last.cursor && !same_snapshot && !same_record))
    violate("cursors do not rise: " + name_of(last) + ", then " + name_of(row));
  last = row;
}

// No change is told again that a state has covered before.
void transcript_check::check_repetition(std::size_t stream, const told_row& row) {
  if (resharded_) return;
  for (const auto& [name, claimed] : claims_[stream]) {
    const auto* shard = branch_.find(name);
    if (shard == nullptr || !shard->serving || !shard->holds(row.id)) continue;
    if (row.copied) {
      // Unless the claimed position is lost with its binary logs.
      if (claimed.index < shard->purged) continue;
      if (!claimed.lastpk || row.id <= *claimed.lastpk)
        violate("a copied row is copied again: " + name_of(row));
      continue;
    }
    const row_moment* at = moment_of(*shard, row);
    if (at == nullptr) continue;
    if (at->index <= claimed.index) violate("a change that a state covers is told again: " + name_of(row));
  }
}

void transcript_check::check_late(std::size_t stream, std::int64_t time_us) {
  const auto& run = run_[stream];
  if (!run.oldest_unstated_us) return;
  const auto due = std::max(*run.oldest_unstated_us, run.last_state_us + interval_us_) + late_us;
  if (time_us > due)
    violate("a state of " + streams_[stream].id.to_string() + " is " +
            std::to_string((time_us - due) / 1000) + " ms late");
}

void transcript_check::take_state(std::size_t stream, const std::string& body, double count,
                                  const std::string& text, std::int64_t time_us, bool delivered) {
  auto& told = told_[stream];
  auto& run = run_[stream];
  ++told.states;
  const auto& id = streams_[stream].id;
  if (told.status == told_status::complete || told.status == told_status::incomplete ||
      told.status == told_status::none)
    violate("a state of " + id.to_string() + " outside of its run");
  if (static_cast<std::uint64_t>(count) != run.counted)
    violate("a state of " + id.to_string() + " counts " + std::to_string(static_cast<std::uint64_t>(count)) +
            " records instead of " + std::to_string(run.counted));
  check_late(stream, time_us);
  run.counted = 0;
  run.oldest_unstated_us.reset();
  run.last_state_us = time_us;
  run.state_was_last = true;
  const auto parsed = parse_stream_state(body, id);
  if (!parsed || !*parsed) {
    violate("a state of " + id.to_string() + " cannot be read back: " + body.substr(0, 300));
    return;
  }
  if (!delivered) return;
  last_state_lines_[stream] = text;
  if (streams_[stream].mode == sync_mode::full_refresh) return;
  for (const auto& row : run.unstated) {
    fold(committed_, row, false);
    fold(everything_, row, false);
  }
  run.unstated.clear();

  auto& claims = claims_[stream];
  claims.clear();
  std::vector<bool> covered(256, false);
  for (const auto& [name, saved] : (*parsed)->shards) {
    const auto* shard = branch_.find(name.str());
    if (shard == nullptr) {
      violate("a state of " + id.to_string() + " names an unknown shard " + name.str());
      continue;
    }
    for (int byte = shard->low; byte < shard->high; ++byte) covered[static_cast<std::size_t>(byte)] = true;
    if (saved.cursor.position.empty()) {
      const auto since = position_set::parse(saved.since);
      const auto caught_up = since ? shard->index_of(*since) : std::nullopt;
      if (caught_up) forgive_emptied(tables_[stream], *shard, *caught_up);
      continue;
    }
    const auto position = position_set::parse(saved.cursor.position);
    const auto index = position ? shard->exact_index_of(*position) : std::nullopt;
    if (!index || settled_.count({name.str(), saved.cursor.position}) == 0) {
      violate("a state of " + id.to_string() +
              " holds a position that is no transaction's end: " + name.str() + " " + saved.cursor.position);
      continue;
    }
    claim claimed;
    claimed.index = *index;
    if (!saved.cursor.last_known_pk.empty()) {
      claimed.lastpk = key_of(saved.cursor.last_known_pk);
      if (!branch_.tables()[tables_[stream]].keyed) violate("a copy without a key is stored as half done");
    }
    claims[name.str()] = claimed;
    forgive_emptied(tables_[stream], *shard, claimed.index);
    check_coverage(stream, *shard, claimed);
  }
  if (std::find(covered.begin() + low_, covered.begin() + high_, false) != covered.begin() + high_)
    violate("a state of " + id.to_string() + " does not list every shard");
}

// What a run has told of and has a state behind is not told again.
void transcript_check::forgive_emptied(std::size_t table, const model_shard& shard, std::size_t index) {
  if (emptied_.count(table) == 0) return;
  for (const auto& [key, moments] : shard.history)
    for (const auto& moment : moments)
      if (key.first == table && moment.index <= index && branch_.was_emptied(moment.version))
        branch_.forgive_deletion(moment.version);
  // And on the shards that have led to it, up to their journals.
  for (const auto& before : branch_.shards())
    for (const auto& journal : before->journals) {
      const auto successor = journal.successors.find(shard.name);
      if (successor != journal.successors.end() && successor->second <= index) forgive_emptied(table, *before, journal.at);
    }
}

bool transcript_check::is_selected(std::int64_t id) const {
  const auto byte = branch_model::keyspace_byte(id);
  return byte >= low_ && byte < high_;
}

// The row is gone after `index` entries, and one of the ways in which it went since it was there last is told by nobody.
bool transcript_check::may_have_gone_untold(const std::vector<row_moment>& moments, std::size_t index) const {
  for (auto at = moments.rbegin(); at != moments.rend(); ++at) {
    if (at->index > index) continue;
    if (at->live) return false;
    if (branch_.deletion_may_be_missed(at->version)) return true;
  }
  return false;
}

// A copy of the table did, on the shard or on one whose journals lead to it.
bool transcript_check::copy_started_over(std::size_t table, const model_shard& shard, std::int64_t id) const {
  return std::any_of(restarted_.begin(), restarted_.end(), [&](const auto& copy) {
    const auto* from = branch_.find(copy.first);
    return copy.second == table && from->holds(id) && branch_.leads_to(*from, shard);
  });
}

// Everything that a state claims was told before it.
void transcript_check::check_coverage(std::size_t stream, const model_shard& shard, const claim& claimed) {
  const std::size_t table = tables_[stream];
  for (const auto& [key, moments] : shard.history) {
    if (key.first != table || (claimed.lastpk && key.second > *claimed.lastpk)) continue;
    const row_moment* truth = shard.at(key, claimed.index);
    if (truth == nullptr) continue;
    const auto found = committed_.find(key);
    const bool known = found != committed_.end();
    const std::string where = streams_[stream].id.to_string() + " row " + std::to_string(key.second) +
                              " on shard " + shard.name + " at entry " + std::to_string(claimed.index);
    // A copy that started over shows some rows as they were later; what happened to them comes again from its
    // position.
    if (branch_.newest_version(key) > truth->version && copy_started_over(table, shard, key.second)) continue;
    if (truth->live) {
      if (!known)
        violate("a state claims a row that was never told: " + where);
      else if (found->second.version < truth->version)
        violate("a state claims version " + std::to_string(truth->version) + " of a row told as " +
                std::to_string(found->second.version) + ": " + where);
    } else if (known && !found->second.deleted && found->second.version < truth->version &&
               !may_have_gone_untold(moments, claimed.index)) {
      violate("a state claims a deletion that was never told: " + where);
    }
  }
}

void transcript_check::fold(std::map<row_key, folded_row>& rows, const told_row& row, bool tail) {
  const folded_row next{row.cursor, row.version, row.deleted, tail};
  const auto [found, first] = rows.try_emplace({row.table, row.id}, next);
  if (first || row.cursor < found->second.cursor) return;
  found->second = next;
}

void transcript_check::check_refresh(std::size_t stream) {
  refresh_complete_.insert(stream);
  const std::size_t table = tables_[stream];
  // Nobody could tell which of them is one too many.
  if (!branch_.tables()[table].keyed) {
    std::set<std::int64_t> told;
    for (const auto& row : run_records_)
      if (row.table == table && !told.insert(row.id).second)
        violate("a full refresh without a key tells row " + std::to_string(row.id) + " twice");
  }
  if (refresh_blurred_.count(stream) > 0) return;
  std::map<std::int64_t, std::set<std::uint64_t>> versions;
  for (const auto& row : refreshed_[stream]) {
    if (row.deleted) violate("a full refresh tells a deletion");
    versions[row.id].insert(row.version);
  }
  for (const auto* shard : branch_.serving())
    for (const auto& [id, row] : shard->rows[table])
      if (is_selected(id) && row.version <= refresh_from_[stream] && versions[id].count(row.version) == 0)
        violate("a full refresh leaves row " + std::to_string(id) + " out");
}

void transcript_check::compare_with_truth() {
  for (std::size_t i = 0; i < streams_.size(); ++i) {
    if (streams_[i].mode != sync_mode::incremental) continue;
    const std::size_t table = tables_[i];
    for (const auto* shard : branch_.serving())
      for (const auto& [key, moments] : shard->history) {
        if (key.first != table || !is_selected(key.second)) continue;
        const row_moment& truth = moments.back();
        const auto check = [&, &key = key, &moments = moments](const std::map<row_key, folded_row>& rows,
                                                               const char* which, bool tolerant) {
          const auto found = rows.find(key);
          const bool has = found != rows.end() && !found->second.deleted;
          const std::string row =
              streams_[i].id.to_string() + " row " + std::to_string(key.second) + " (" + which + ")";
          // Records behind a run's last state repeat with other cursors; within the same second they may win.
          const bool same_second = tolerant && found != rows.end() && found->second.tail &&
                                   found->second.cursor / second_us >= truth.seconds;
          if (truth.live && (!has || found->second.version != truth.version)) {
            if (!same_second)
              violate(row + " is " +
                      (has ? "version " + std::to_string(found->second.version) : std::string("missing")) +
                      " instead of version " + std::to_string(truth.version));
          } else if (!truth.live && has && !may_have_gone_untold(moments, shard->log.size()) && !same_second) {
            violate(row + " is not deleted: version " + std::to_string(found->second.version));
          }
        };
        check(committed_, "covered by states", false);
        check(everything_, "all records", true);
      }
  }
}

void transcript_check::adopt() {
  for (const auto* shard : branch_.serving())
    for (std::size_t table = 0; table < shard->rows.size(); ++table)
      for (const auto& [id, row] : shard->rows[table])
        committed_[{table, id}] = everything_[{table, id}] = {0, row.version, false, false};
}

std::string transcript_check::state_text() const {
  std::string text = "[";
  for (const auto& [stream, line] : last_state_lines_) {
    rapidjson::Document document;
    document.Parse(line.c_str(), line.size());
    text += (text.size() > 1 ? "," : "") + json_of(document["state"]);
  }
  return text + "]";
}

bool transcript_check::all_complete() const {
  return std::all_of(told_.begin(), told_.end(),
                     [](const auto& told) { return told.status == told_status::complete; });
}

}  // namespace psource::simulation
