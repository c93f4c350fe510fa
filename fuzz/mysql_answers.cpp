// Answers of the MySQL port. Input: a first byte (number of columns left out), then rows as lines of cells
// divided by tabs ("\N" is NULL); a line "--" divides the answer for columns from that for keys.
#include "clients/discovery.hpp"
#include "fuzz/fuzz.hpp"
#include "protocol/airbyte/messages.hpp"
#include "protocol/mapping/type_table.hpp"
#include "protocol/vitess/internal_tables.hpp"

using namespace psource;

namespace {

mysql_rows read_rows(fuzz::input& in, std::size_t width) {
  mysql_rows rows(std::vector<std::string>(width, "c"));
  while (!in.empty()) {
    auto line = in.until('\n');
    if (line == "--") break;
    std::vector<std::optional<std::string_view>> cells;
    for (;;) {
      const auto end = line.find('\t');
      const auto cell = line.substr(0, end);
      cells.push_back(cell == "\\N" ? std::nullopt : std::optional<std::string_view>(cell));
      if (end == std::string_view::npos) break;
      line.remove_prefix(end + 1);
    }
    rows.add(cells);
  }
  return rows;
}

// What MySQL makes of a quoted name: the inverse of quote_sql_name().
std::string unquoted(std::string_view quoted) {
  FUZZ_CHECK(quoted.size() >= 2 && quoted.front() == '`' && quoted.back() == '`');
  quoted = quoted.substr(1, quoted.size() - 2);
  std::string name;
  for (std::size_t i = 0; i < quoted.size(); ++i) {
    // A back-tick inside always comes twice, or the name would end there.
    if (quoted[i] == '`') FUZZ_CHECK(++i < quoted.size() && quoted[i] == '`');
    name += quoted[i];
  }
  return name;
}

// The inverse of quote_sql_text() under MySQL's default sql_mode; the literal must end at its last quote.
std::string text_behind(std::string_view quoted) {
  FUZZ_CHECK(quoted.size() >= 2 && quoted.front() == '\'' && quoted.back() == '\'');
  quoted = quoted.substr(1, quoted.size() - 2);
  std::string text;
  for (std::size_t i = 0; i < quoted.size(); ++i) {
    if (quoted[i] == '\'') {
      FUZZ_CHECK(++i < quoted.size() && quoted[i] == '\'');
    } else if (quoted[i] == '\\') {
      FUZZ_CHECK(++i < quoted.size());
      const auto known = std::string_view("0nrtZb").find(quoted[i]);
      if (known != std::string_view::npos) {
        text += std::string_view("\0\n\r\t\x1a\b", 6)[known];
        continue;
      }
    }
    text += quoted[i];
  }
  return text;
}

void check_tables(const std::vector<table_definition>& tables) {
  std::vector<discovered_stream> streams;
  for (const auto& table : tables) {
    FUZZ_CHECK(!table.id.table.empty() && !table.columns.empty() && !is_internal_table(table.id.table.str()));
    for (const auto& column : table.primary_key) FUZZ_CHECK(table.find(column) != nullptr);
    for (const auto& column : table.identity) FUZZ_CHECK(table.find(column) != nullptr);
    discovered_stream stream;
    stream.id = table.id;
    stream.json_schema = json_schema(table, {});
    stream.primary_key = table.identity;
    FUZZ_CHECK(fuzz::is_json(stream.json_schema));
    streams.push_back(std::move(stream));
  }
  FUZZ_CHECK(fuzz::is_message(catalog_line(streams)));
}

}  // namespace

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  fuzz::input in(data, size);
  const std::size_t fewer = in.byte() % 4;
  const auto all = in.rest();
  const auto columns = read_rows(in, 11 - fewer);
  const auto indexes = read_rows(in, 6 - fewer);
  if (const auto tables = assemble_tables(keyspace_name("ks"), columns, indexes, 3)) {
    FUZZ_CHECK(fewer == 0);
    check_tables(*tables);
  } else {
    FUZZ_CHECK(fuzz::is_message(trace_error_line(tables.error(), epoch_milliseconds(1), {})));
  }
  if (const auto shards = parse_shards(columns))
    for (const auto& shard : *shards) FUZZ_CHECK(!shard.keyspace.empty() && !shard.shard.empty());
  if (const auto tablets = parse_tablets(columns)) FUZZ_CHECK(tablets->size() == columns.size());

  const auto line = all.substr(0, all.find('\n'));
  if (const auto micros =
          parse_utc_timestamp(line))  // years 0000 to 9999, a day 31 in a short month included
    FUZZ_CHECK(*micros >= -62'167'305'600'000'000 && *micros < 253'402'387'200'000'000);
  FUZZ_CHECK(unquoted(quote_sql_name(line)) == line);
  FUZZ_CHECK(text_behind(quote_sql_text(line)) == line);
  return 0;
}
