// Every limit on what comes from outside as bytes: files, saved states, responses of a server. What goes
// beyond one ends with an error that names the place and what was expected. Limits of the transports are
// tested with those: "a response above the limit ends the stream", "a compressed response ends its call and
// is not unpacked" (clients_grpc/), "large answers: a value above 16 MiB, very many rows, and the limit on
// bytes" (mysql/). The table of docs/design.md has them all.
#include <doctest/doctest.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "binlogdata.pb.h"
#include "protocol/airbyte/catalog.hpp"
#include "protocol/airbyte/config.hpp"
#include "protocol/airbyte/json_text.hpp"
#include "protocol/airbyte/state_input.hpp"
#include "protocol/airbyte/state_packing.hpp"
#include "protocol/vitess/cursor.hpp"
#include "tests/support/events.hpp"
#include "tests/sync/fixtures.hpp"

using namespace psource;
using namespace psource::testing;

namespace {

using verdict = std::optional<failure>;

struct limit_case {
  const char* name;
  std::function<verdict()> run;
  /// Empty: it is within the limit.
  std::optional<error_code> code;
  /// All of them are in the message: the place, and what was expected.
  std::vector<std::string> words;
};

const stream_id table{keyspace_name("ks"), table_name("t")};

template <class T>
verdict of(const result<T>& read) {
  if (read) return std::nullopt;
  return read.error();
}

// --- what is read from files

verdict config(const std::string& text) {
  const auto read = parse_config(text);
  if (read) return std::nullopt;
  return summarize(read.error());
}
verdict catalog(const std::string& text) { return of(parse_configured_catalog(text, {table.keyspace})); }
verdict state(const std::string& text) { return of(parse_state(text, {table})); }

std::string config_with(const std::string& member) {
  return R"({"host":"h","database":"ks")" + (member.empty() ? "" : "," + member) + "}";
}
// `inner` goes into the stream's json_schema.
std::string catalog_with(const std::string& inner) {
  return R"({"streams":[{"sync_mode":"incremental","stream":{"name":"t","json_schema":)" + inner + "}}]}";
}
std::string state_with(const std::string& body) {
  return R"({"type":"STREAM","stream":{"stream_descriptor":{"name":"t","namespace":"ks"},"stream_state":)" +
         body + "}}";
}
std::string shard_with(const std::string& member) {
  return state_with(R"({"shards":{"-":{)" + member + "}}}");
}
std::string packed(const std::string& text) {
  return state_with(R"({"packed":")" + pack_state(text) + "\"}");
}

std::string nested(std::size_t depth) { return std::string(depth, '[') + std::string(depth, ']'); }
std::string repeated(std::size_t times, const std::string& text) {
  std::string out;
  out.reserve(times * text.size());
  for (std::size_t i = 0; i < times; ++i) out += text;
  return out;
}

// Text that is too long by one byte. Made once: it is large.
const std::string& too_long() {
  static const std::string text(max_json_bytes + 1, ' ');
  return text;
}

const std::string uuid = "00000000-0000-0000-0000-000000000001";

// A position of a bit more than so many bytes.
std::string long_position(std::size_t bytes) {
  std::string text = "MySQL56/" + uuid;
  for (std::uint64_t n = 1; text.size() <= bytes; n += 2) text += ":" + std::to_string(n);
  return text;
}

std::string saved_key(std::int64_t length, const std::string& values) {
  query::QueryResult key;
  key.add_fields()->set_name("id");
  auto* row = key.add_rows();
  row->add_lengths(length);
  row->set_values(values);
  return table_cursor{shard_name("-"), table.keyspace, "MySQL56/" + uuid + ":1", key.SerializeAsString()}
      .encode_base64();
}

// --- what a server sends

// Feeds one response to a stream of ks/- that reads the table.
verdict response(std::string bytes) {
  session_spec spec;
  spec.kind = stream_kind::catch_up;
  spec.keyspace = table.keyspace;
  spec.shards = {shard_name("-")};
  spec.stops[shard_name("-")] = gtids(server + "1-9");
  auto read = session_table_of(0, simple_table("t"));
  read.cursors[shard_name("-")] = {server + "1-5", {}, 0};
  spec.tables.push_back(std::move(read));
  stream_session session(std::move(spec), std::make_shared<fake_clock>());
  session.begin_attempt();
  session.feed(buffer(std::move(bytes)));
  batch out;
  return of(session.pump(out));
}

// A transaction with one row; `change` spoils it.
verdict row_with(const std::function<void(query::Row&)>& change) {
  event_script script;
  script.begin(100).field("t").insert("t", "1", "a", 100);
  change(*script.last()->mutable_row_event()->mutable_row_changes(0)->mutable_after());
  return response(script.take());
}

verdict fields_with(int columns) {
  event_script script;
  script.begin(100).field("t");
  auto* fields = script.last()->mutable_field_event();
  while (fields->fields_size() > columns) fields->mutable_fields()->RemoveLast();
  while (fields->fields_size() < columns) {
    auto* added = fields->add_fields();
    added->set_name("c" + std::to_string(fields->fields_size()));
    added->set_type(query::INT64);
    added->set_column_type("bigint");
  }
  return response(script.take());
}

verdict vgtid_with(const std::function<void(binlogdata::VGtid&)>& change) {
  event_script script;
  script.begin(100).vgtid(server + "1-6");
  change(*script.last()->mutable_vgtid());
  script.commit(100);
  return response(script.take());
}

// A length-delimited field with a short value.
std::string field(int number, const std::string& value) {
  std::string key(1, static_cast<char>(number << 3 | 2));
  if (number > 15) key = {static_cast<char>((number << 3 | 2) | 0x80), static_cast<char>(number >> 4)};
  return key + static_cast<char>(value.size()) + value;
}
// A number as eleven bytes, of which ten are allowed.
const std::string eleven_bytes = std::string(10, '\xff') + '\x01';

std::string begin_and_fields() {
  event_script script;
  return script.begin(100).field("t").take();
}
// A ROW event of the table whose RowEvent ends with these bytes.
std::string rows_that_end_with(const std::string& bytes) {
  return begin_and_fields() + field(1, std::string("\x08\x0c", 2) + field(5, field(1, "t") + bytes) +
                                           field(22, "ks") + field(23, "-"));
}

constexpr auto malformed = error_code::response_malformed;

}  // namespace

TEST_CASE("beyond each limit there is an error that names the place and what was expected") {
  // One deeper, or one more, than is allowed; and, where that tells something, as much as is allowed.
  const std::vector<limit_case> cases = {
      {"configuration: depth",
       [] { return config(nested(101)); },
       error_code::config_invalid,
       {"the configuration", "deeper than 100 levels", "line 1, column 101"}},
      {"configuration: as deep as allowed",
       [] { return config(config_with("\"x\":" + nested(99))); },
       std::nullopt,
       {}},
      {"catalog: depth",
       [] { return catalog(nested(101)); },
       error_code::catalog_invalid,
       {"the configured catalog", "deeper than 100 levels", "line 1, column 101"}},
      {"catalog: as deep as allowed",
       [] { return catalog(catalog_with("{\"x\":" + nested(95) + "}")); },
       std::nullopt,
       {}},
      {"state: depth",
       [] { return state(nested(101)); },
       error_code::state_invalid,
       {"the state file", "deeper than 100 levels", "line 1, column 101"}},
      {"packed state: depth",
       [] { return state(packed(nested(101))); },
       error_code::state_invalid,
       {"the stream \"ks.t\"", "deeper than 100 levels", "line 1, column 101"}},

      {"configuration: size",
       [] { return config(too_long()); },
       error_code::config_invalid,
       {"the configuration", "268435457 bytes", "at most 268435456"}},
      {"catalog: size",
       [] { return catalog(too_long()); },
       error_code::catalog_invalid,
       {"the configured catalog", "268435457 bytes", "at most 268435456"}},
      {"state: size",
       [] { return state(too_long()); },
       error_code::state_invalid,
       {"the state file", "268435457 bytes", "at most 268435456"}},
      {"packed state: size when unpacked",
       [] { return state(packed(std::string(max_unpacked_state + 1, ' '))); },
       error_code::state_invalid,
       {"the stream \"ks.t\"", "unpacks to more than 64 MiB"}},

      {"configuration: values",
       [] { return config("[" + repeated(max_json_elements, "0,") + "0]"); },
       error_code::config_invalid,
       {"the configuration", "more than 20000000 values", "line 1, column 40000001"}},
      {"catalog: streams",
       [] { return catalog("{\"streams\":[" + repeated(max_json_elements, "0,") + "0]}"); },
       error_code::catalog_invalid,
       {"the configured catalog", "more than 20000000 values"}},
      {"catalog: columns",
       [] {
         return catalog(
             catalog_with("{\"properties\":{" + repeated(max_json_elements, "\"\":0,") + "\"\":0}}"));
       },
       error_code::catalog_invalid,
       {"the configured catalog", "more than 20000000 values"}},
      {"state: shards",
       [] {
         return state(state_with("{\"shards\":{" + repeated(max_json_elements, "\"\":0,") + "\"\":0}}"));
       },
       error_code::state_invalid,
       {"the state file", "more than 20000000 values"}},
      {"state: messages",
       [] { return state(repeated(max_json_values + 1, "null\n")); },
       error_code::state_invalid,
       {"the state file", "more than 100000 values"}},
      {"state: as many messages as allowed",
       [] { return state(repeated(max_json_values, "null\n")); },
       std::nullopt,
       {}},

      {"configuration: a number",
       [] { return config(config_with("\"timeout_seconds\":1000000001")); },
       error_code::config_invalid,
       {"`timeout_seconds`", "from 1 to 1000000000", "1000000001"}},
      {"state: _ab_cdc_cursor",
       [] { return state(shard_with("\"cdc_cursor\":9000000000000000001")); },
       error_code::state_invalid,
       {"the stream \"ks.t\"", "the shard \"-\"", "`cdc_cursor`"}},
      {"state: a position",
       [] { return state(shard_with("\"position\":\"" + long_position(4 << 20) + "\"")); },
       error_code::state_invalid,
       {"the stream \"ks.t\"", "the shard \"-\"", "at most 4 MiB of text"}},
      {"state: a last key that is shorter than its lengths",
       [] { return state(shard_with("\"cdc_cursor\":5,\"cursor\":\"" + saved_key(2, "1") + "\"")); },
       error_code::state_invalid,
       {"the stream \"ks.t\"", "the shard \"-\"", "shorter than its lengths say"}},
      {"state: a last key that is longer than its lengths",
       [] { return state(shard_with("\"cdc_cursor\":5,\"cursor\":\"" + saved_key(1, "12") + "\"")); },
       error_code::state_invalid,
       {"the stream \"ks.t\"", "the shard \"-\"", "longer than its lengths say"}},
      {"state: a last key as it has to be",
       [] { return state(shard_with("\"cursor\":\"" + saved_key(1, "1") + "\"")); },
       std::nullopt,
       {}},

      {"FIELD: columns",
       [] { return fields_with(4097); },
       malformed,
       {"table t", "4097 columns", "MySQL allows 4096"}},
      {"FIELD: as many columns as allowed", [] { return fields_with(4096); }, std::nullopt, {}},
      {"FIELD: no columns",
       [] { return fields_with(0); },
       malformed,
       {"table ks.t", "0 columns", "1 to 4096"}},

      {"row: fewer lengths than columns",
       [] { return row_with([](query::Row& row) { row.mutable_lengths()->RemoveLast(); }); },
       malformed,
       {"table ks.t", "fewer values than the table has columns"}},
      {"row: more lengths than columns",
       [] { return row_with([](query::Row& row) { row.add_lengths(-1); }); },
       malformed,
       {"table ks.t", "more values than the table has columns"}},
      {"row: lengths beyond the values",
       [] { return row_with([](query::Row& row) { row.set_lengths(1, 2); }); },
       malformed,
       {"table ks.t", "broken"}},
      {"row: a length of 2^62",
       [] { return row_with([](query::Row& row) { row.set_lengths(0, std::int64_t{1} << 62); }); },
       malformed,
       {"table ks.t", "broken"}},
      {"row: a negative length that is not NULL",
       [] { return row_with([](query::Row& row) { row.set_lengths(0, -2); }); },
       malformed,
       {"table ks.t", "broken"}},
      {"row: values beyond the lengths",
       [] { return row_with([](query::Row& row) { row.mutable_values()->append("x"); }); },
       malformed,
       {"table ks.t", "broken"}},
      {"row: lengths that add up", [] { return row_with([](query::Row&) {}); }, std::nullopt, {}},

      {"number of eleven bytes: an event's length",
       [] { return response("\x0a" + eleven_bytes); },
       malformed,
       {"the stream ks/-", "not a whole VStreamResponse"}},
      {"number of eleven bytes: in an event",
       [] { return response(field(1, "\x10" + eleven_bytes)); },
       malformed,
       {"the stream ks/-", "not a whole VStreamResponse"}},
      {"number of eleven bytes: in a ROW event",
       [] { return response(rows_that_end_with("\x12" + eleven_bytes)); },
       malformed,
       {"ks.t", "not a whole RowEvent"}},
      {"number of eleven bytes: a row's length",
       [] {
         return response(rows_that_end_with(field(2, field(2, field(1, eleven_bytes) + field(2, "1a")))));
       },
       malformed,
       {"table ks.t", "broken"}},
      {"number of eleven bytes: in a VGTID",
       [] { return response(field(1, "\x08\x0f" + field(7, "\x0a" + eleven_bytes)) + field(1, "\x08\x03")); },
       malformed,
       {"A VGTID event", "cannot be decoded"}},
      {"a length beyond the response",
       [] {
         return response(
             "\x0a\x05"
             "abc");
       },
       malformed,
       {"the stream ks/-", "not a whole VStreamResponse"}},
      {"a bitmap of more bits than it has",
       [] {
         event_script script;
         script.begin(100).field("t").insert("t", "1", "a", 100);
         script.last()->mutable_row_event()->mutable_row_changes(0)->mutable_data_columns()->set_count(9);
         return response(script.take());
       },
       malformed,
       {"ks.t", "not a whole RowEvent"}},

      {"VGTID: a position",
       [] {
         return vgtid_with(
             [](binlogdata::VGtid& told) { told.mutable_shard_gtids(0)->set_gtid(long_position(4 << 20)); });
       },
       malformed,
       {"ks/-", "at most 4 MiB of text"}},
      {"VGTID: a shard twice",
       [] {
         return vgtid_with([](binlogdata::VGtid& told) { *told.add_shard_gtids() = told.shard_gtids(0); });
       },
       malformed,
       {"the shard ks/-", "twice"}},
      {"VGTID: a last key that does not fit its lengths",
       [] {
         return vgtid_with([](binlogdata::VGtid& told) {
           auto* progress = told.mutable_shard_gtids(0)->add_table_p_ks();
           progress->set_table_name("t");
           progress->mutable_lastpk()->add_fields()->set_name("id");
           auto* row = progress->mutable_lastpk()->add_rows();
           row->add_lengths(2);
           row->set_values("1");
         });
       },
       malformed,
       {"primary key of t", "shard ks/-", "shorter than its lengths say"}},
  };
  for (const auto& c : cases) {
    const verdict found = c.run();
    REQUIRE_MESSAGE(found.has_value() == c.code.has_value(), c.name,
                    (found ? ": " + found->message : std::string()));
    if (!found) continue;
    CHECK_MESSAGE(to_string(found->code) == std::string(to_string(*c.code)), c.name);
    CHECK_MESSAGE(found->message.back() == '.', c.name);
    CHECK_MESSAGE(found->message.size() < 1000, c.name);
    for (const auto& words : c.words)
      CHECK_MESSAGE(found->message.find(words) != std::string::npos, c.name, ": ",
                    found->message.substr(0, 400));
  }
}
