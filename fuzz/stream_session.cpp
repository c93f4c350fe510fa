// The whole way of a stream: responses to records, cursors and states. Input: two bytes of options, then
// responses, each a varint length and a serialized vtgate.VStreamResponse.
#include "sync/stream_session.hpp"

#include <google/protobuf/stubs/logging.h>

#include <map>

#include "fuzz/fuzz.hpp"
#include "protocol/airbyte/state_input.hpp"
#include "sync/cursor_ledger.hpp"

using namespace psource;

namespace {

class fixed_clock final : public sync_clock {
 public:
  std::int64_t wall_milliseconds() const override { return 1'700'000'000'000; }
  std::int64_t server_microseconds() const override { return 1'700'000'000'000'000; }
};

struct known_table {
  const char* keyspace;
  const char* name;
  // Columns and types; the first `keys` are the primary key.
  std::vector<std::pair<const char*, const char*>> columns;
  std::size_t keys;
};

// The tables of the recordings (tests/data/recordings), so that their bytes find something to match.
const std::vector<known_table>& known_tables() {
  static const std::vector<known_table> tables{
      {"unsharded",
       "alltypes",
       {{"id", "int"},
        {"t", "tinyint"},
        {"tu", "tinyint unsigned"},
        {"t1", "tinyint(1)"},
        {"sm", "smallint"},
        {"md", "mediumint"},
        {"i", "int"},
        {"iu", "int unsigned"},
        {"bi", "bigint"},
        {"bu", "bigint unsigned"},
        {"f", "float"},
        {"d", "double"},
        {"dc", "decimal(20,5)"},
        {"dc0", "decimal(10,0)"},
        {"dt", "date"},
        {"dtm", "datetime"},
        {"dtm6", "datetime(6)"},
        {"ts", "timestamp"},
        {"ts3", "timestamp(3)"},
        {"tm", "time"},
        {"tm6", "time(6)"},
        {"y", "year"},
        {"c", "char(5)"},
        {"vc", "varchar(20)"},
        {"vcl", "varchar(20)"},
        {"tx", "text"},
        {"bn", "binary(4)"},
        {"vb", "varbinary(10)"},
        {"bl", "blob"},
        {"b1", "bit(1)"},
        {"b9", "bit(9)"},
        {"e", "enum('x','y,z','q''t')"},
        {"s", "set('a','b','c')"},
        {"j", "json"},
        {"g", "geometry"},
        {"vec", "vector(3)"}},
       1},
      {"unsharded", "empty_u", {{"id", "int"}, {"v", "text"}}, 1},
      {"unsharded", "sbtest", {{"id", "int"}, {"k", "int"}, {"c", "char(120)"}, {"pad", "char(60)"}}, 1},
      {"unsharded", "nopk", {{"a", "int"}, {"b", "varchar(10)"}}, 0},
      {"sharded",
       "customers",
       {{"id", "bigint unsigned"},
        {"name", "varchar(64)"},
        {"email", "varchar(128)"},
        {"created_at", "datetime(6)"}},
       1},
      {"sharded",
       "orders",
       {{"customer_id", "bigint unsigned"},
        {"order_no", "int"},
        {"total", "decimal(12,2)"},
        {"status", "enum('new','paid','it''s, late')"},
        {"tags", "set('a','b','c d')"},
        {"meta", "json"}},
       2},
      {"sharded", "empty_t", {{"id", "bigint unsigned"}, {"v", "varchar(10)"}}, 1},
      {"sharded", "customers.odd", {{"id", "bigint unsigned"}}, 1},
  };
  return tables;
}

constexpr const char* start = "MySQL56/00000000-0000-0000-0000-000000000001:1-5";

session_table table_of(const known_table& known, stream_index stream, unsigned options) {
  auto shape = std::make_shared<stream_shape>();
  shape->id = {keyspace_name(known.keyspace), table_name(known.name)};
  shape->table.id = shape->id;
  for (const auto& [name, type] : known.columns) {
    shape->table.columns.push_back({name, type, true, "", "", false, false});
    shape->selected.emplace_back(name);
    if (shape->table.primary_key.size() < known.keys) shape->table.primary_key.emplace_back(name);
  }
  shape->table.copy_order = shape->table.primary_key;
  for (const char* name : {cdc_updated_at, cdc_deleted_at, cdc_cursor, planetscale_metadata})
    shape->selected.emplace_back(name);
  session_table table;
  table.stream = stream;
  table.shape = std::move(shape);
  table.encoder.include_metadata = (options & 8) != 0;
  table.deletes = (options & 16) == 0;
  table.resumable = (options & 32) == 0;
  return table;
}

// Options: bits 0-1 what the stream is for, 2 the keyspace, 3 metadata, 4 no deletes, 5 not resumable, 6 a
// stop that is reached soon; in the second byte bits 0-1 which table is copied, 2 one shard only, 3 looked-up
// rows are gone, 4 attempts begin anew after a failure.
session_spec spec_of(unsigned options, unsigned more) {
  session_spec spec;
  const unsigned kind = options & 3;
  spec.kind = kind == 1 ? stream_kind::copy : kind == 2 ? stream_kind::full_copy : stream_kind::catch_up;
  const bool sharded = (options & 4) != 0;
  spec.keyspace = keyspace_name(sharded ? "sharded" : "unsharded");
  if (!sharded)
    spec.shards = {shard_name("0")};
  else if ((more & 4) != 0)
    spec.shards = {shard_name("-80")};
  else
    spec.shards = {shard_name("-80"), shard_name("80-")};
  unsigned index = 0;
  for (const auto& known : known_tables()) {
    if (spec.keyspace.str() != known.keyspace) continue;
    if (spec.kind != stream_kind::catch_up && index++ != (more & 3)) continue;
    auto table = table_of(known, spec.tables.size(), options);
    for (const auto& shard : spec.shards)
      table.cursors[shard] = {spec.kind == stream_kind::catch_up ? start : "", "", 0};
    spec.tables.push_back(std::move(table));
  }
  for (const auto& shard : spec.shards) {
    const char* stop = (options & 64) != 0 ? "MySQL56/00000000-0000-0000-0000-000000000001:1-9"
                                           : "MySQL56/00000000-0000-0000-0000-00000000000f:1-9";
    spec.stops[shard] = *gtid_set::parse_position(stop);
  }
  return spec;
}

// What the emitter does with a batch, and what the next run makes of the states.
class receiver {
 public:
  explicit receiver(const session_spec& spec) : ledger_(streams_of(spec), {}, {}) {}

  void take(const session_spec& spec, const batch& got) {
    std::map<stream_index, std::uint64_t> counted;
    const std::string_view lines = got.lines.view();
    for (std::size_t at = 0; at < lines.size();) {
      const auto end = lines.find('\n', at);
      FUZZ_CHECK(end != std::string_view::npos);
      const auto line = lines.substr(at, end - at);
      at = end + 1;
      rapidjson::Document document;
      FUZZ_CHECK(fuzz::parse(document, line));
      const auto& record = document["record"];
      FUZZ_CHECK(document["type"] == "RECORD" && record["data"].IsObject() &&
                 record["namespace"] == spec.keyspace.str());
      bool known = false;
      for (const auto& table : spec.tables)
        if (record["stream"] == table.shape->id.table.str()) known = ++counted[table.stream] > 0;
      FUZZ_CHECK(known);
    }
    for (const auto& entry : got.counts) {
      FUZZ_CHECK(counted[entry.stream] == entry.records);
      counted.erase(entry.stream);
    }
    FUZZ_CHECK(counted.empty());
    for (const auto& warning : got.warnings) FUZZ_CHECK(!warning.empty());
    for (const auto& removal : got.removals) newest_.erase({removal.stream, removal.shard});
    for (const auto& move : got.moves) {
      // Cursors of records only ever rise.
      auto& newest = newest_[{move.stream, move.shard}];
      FUZZ_CHECK(move.cursor.cdc_cursor >= newest);
      newest = move.cursor.cdc_cursor;
    }
    ledger_.book(got);
    for (stream_index i = 0; i < ledger_.size(); ++i)
      if (ledger_.changed(i)) check_state(i);
  }

 private:
  static std::vector<ledger_stream> streams_of(const session_spec& spec) {
    std::vector<ledger_stream> streams;
    for (const auto& table : spec.tables) streams.push_back({table.shape->id, table.cursors, std::nullopt});
    return streams;
  }

  // A state that this program writes is one that it reads: whatever a server said, the next run can begin.
  void check_state(stream_index stream) {
    const std::string line = ledger_.take_state(stream, {});
    FUZZ_CHECK(fuzz::is_message(line));
    const auto read = parse_state(line, {ledger_.id(stream)});
    if (!read) std::fprintf(stderr, "%s\n%s", read.error().message.c_str(), line.c_str());
    FUZZ_CHECK(read.has_value());
    const auto found = read->streams.find(ledger_.id(stream));
    const auto& cursors = ledger_.cursors(stream);
    FUZZ_CHECK((found == read->streams.end()) == cursors.empty());
    for (const auto& [shard, cursor] : cursors) {
      const auto saved = found->second.shards.find(shard);
      FUZZ_CHECK(saved != found->second.shards.end());
      FUZZ_CHECK(saved->second.cursor.last_known_pk.empty() == cursor.lastpk.empty());
    }
  }

  cursor_ledger ledger_;
  std::map<std::pair<stream_index, shard_name>, std::int64_t> newest_;
};

looked_up_rows rows_for(const row_lookup& missing, bool gone) {
  // The question is asked in SQL, whatever the key's bytes are.
  const auto query = lookup_query(missing);
  if (!query) FUZZ_CHECK(query.error().code == error_code::response_malformed);
  looked_up_rows rows(missing.keys.size());
  if (!gone)
    for (auto& row : rows) {
      row.emplace();
      for (std::size_t i = 0; i < missing.columns.size(); ++i)
        row->add(i % 2 == 0 ? std::optional<std::string_view>("1") : std::nullopt);
    }
  return rows;
}

}  // namespace

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  // Damaged bytes are the rule here: no word about them on stderr.
  static const google::protobuf::LogSilencer quiet;
  fuzz::input in(data, size);
  const unsigned options = in.byte();
  const unsigned more = in.byte();
  static const auto clock = std::make_shared<fixed_clock>();
  auto spec = spec_of(options, more);
  if (spec.tables.empty()) return 0;
  receiver output(spec);
  stream_session session(std::move(spec), clock);
  FUZZ_CHECK(serialize(session.begin_attempt()));
  bool finished = false;
  while (!finished && !in.empty()) {
    session.feed(std::make_shared<const whole_response>(std::string(in.sized())));
    batch out;
    for (bool more_to_do = true; more_to_do;) {
      const auto step = session.pump(out);
      if (!step) {
        FUZZ_CHECK(!step.error().message.empty());
        // What was whole before the failure is written; then a new attempt, or none.
        session.seal(out);
        output.take(session.spec(), out);
        if ((more & 16) == 0) return 0;
        const auto request = serialize(session.begin_attempt());
        FUZZ_CHECK(request.has_value());
        out.clear();
        break;
      }
      switch (*step) {
        case pump_result::needs_rows:
          session.complete(rows_for(session.missing_rows(), (more & 8) != 0));
          break;
        case pump_result::batch_full:
        case pump_result::needs_input:
        case pump_result::finished:
          FUZZ_CHECK(*step != pump_result::batch_full || !out.lines.empty());
          session.seal(out);
          output.take(session.spec(), out);
          out.clear();
          more_to_do = *step == pump_result::batch_full;
          finished = *step == pump_result::finished;
          break;
      }
    }
  }
  return 0;
}
