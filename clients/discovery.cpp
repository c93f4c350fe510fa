// Discovery: the statements, and what is read out of their answers.
#include "clients/discovery.hpp"

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <limits>
#include <map>
#include <optional>
#include <set>
#include <utility>

#include "protocol/vitess/internal_tables.hpp"

namespace psource {
namespace {

std::string text_or_empty(const mysql_rows& rows, std::size_t row, std::size_t column) {
  return std::string(rows.at(row, column).value_or(std::string_view{}));
}

tl::unexpected<failure> malformed(const std::string& what, std::string detail = {}) {
  return fail(error_code::response_malformed,
              "The server's answer to " + what +
                  " has a form that this program does not know. Is the MySQL port that "
                  "of a Vitess or "
                  "PlanetScale branch?",
              std::move(detail));
}

template <class Number>
std::optional<Number> parse_number(std::string_view text) {
  Number value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size() || text.empty()) return std::nullopt;
  return value;
}

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return out;
}

/// Whether `word` (lower case) is one of the words of `text`: "VIRTUAL GENERATED INVISIBLE".
bool has_word(std::string_view text, std::string_view word) {
  const std::string all = lower(text);
  std::size_t begin = 0;
  while (begin < all.size()) {
    const std::size_t end = std::min(all.find(' ', begin), all.size());
    if (std::string_view(all).substr(begin, end - begin) == word) return true;
    begin = end + 1;
  }
  return false;
}

// --- keys

struct index_columns {
  bool unique = false;
  /// No part can be NULL.
  bool not_null = true;
  /// A part is an expression, which has no column name.
  bool functional = false;
  std::map<std::uint64_t, std::string> by_position;

  /// No two rows have the same values in it.
  bool tells_rows_apart() const { return unique && not_null && !by_position.empty(); }

  std::vector<std::string> names() const {
    std::vector<std::string> out;
    for (const auto& [position, name] : by_position) out.push_back(name);
    return out;
  }
};

/// Vitess' price of a type in a key, by which it chooses among unique keys (its GetPKEquivalentColumns).
int key_price(const std::string& column_type) {
  static constexpr std::array<std::pair<std::string_view, int>, 21> prices{{
      {"enum", 0},      {"tinyint", 1}, {"year", 2},       {"smallint", 3}, {"date", 4},
      {"mediumint", 5}, {"time", 6},    {"int", 7},        {"set", 8},      {"timestamp", 9},
      {"bigint", 10},   {"float", 11},  {"double", 12},    {"decimal", 13}, {"datetime", 14},
      {"binary", 30},   {"char", 31},   {"varbinary", 60}, {"varchar", 61}, {"tinyblob", 80},
      {"tinytext", 81},
  }};
  const std::string name = lower(column_type.substr(0, column_type.find_first_of("( ")));
  for (const auto& [type, price] : prices)
    if (type == name) return price;
  return 1000;
}

using index_map = std::map<std::string, index_columns>;

/// The unique key by which Vitess orders a copy of a table without primary key; empty when there is none, or
/// when its order cannot be told by column names.
std::vector<std::string> cheapest_unique_key(const table_definition& table, const index_map& indexes) {
  const index_columns* best = nullptr;
  std::pair<int, std::size_t> best_price;
  for (const auto& [name, index] : indexes) {
    if (!index.tells_rows_apart()) continue;
    int price = 0;
    for (const auto& [position, column] : index.by_position)
      if (const auto* definition = table.find(column)) price += key_price(definition->column_type);
    const std::pair<int, std::size_t> candidate{price, index.by_position.size()};
    if (best == nullptr || candidate < best_price) {
      best = &index;
      best_price = candidate;
    }
  }
  if (best == nullptr || best->functional) return {};
  return best->names();
}

/// The unique key of exactly these columns; empty when there is none.
std::vector<std::string> unique_key_of(const std::set<std::string>& columns, const index_map& indexes) {
  for (const auto& [name, index] : indexes) {
    const auto names = index.names();
    if (index.tells_rows_apart() && !index.functional && std::set<std::string>(names.begin(), names.end()) == columns) return names;
  }
  return {};
}

std::map<std::string, index_map> read_indexes(const mysql_rows& rows) {
  std::map<std::string, index_map> tables;
  for (std::size_t row = 0; row < rows.size(); ++row) {
    const auto table = rows.at(row, 0);
    const auto index = rows.at(row, 1);
    const auto position = parse_number<std::uint64_t>(rows.at(row, 3).value_or(std::string_view{}));
    if (!table || !index || !position) continue;
    index_columns& entry = tables[std::string(*table)][std::string(*index)];
    entry.unique = rows.at(row, 2) == std::string_view("0");
    if (lower(rows.at(row, 5).value_or(std::string_view{})) == "yes") entry.not_null = false;
    if (const auto column = rows.at(row, 4))
      entry.by_position.emplace(*position, *column);
    else
      entry.functional = true;
  }
  return tables;
}

// --- questions

bool is_row_limit(const failure& f) {
  const std::string text = lower(f.detail);
  return text.find("row count exceeded") != std::string::npos ||
         text.find("row count larger") != std::string::npos;
}

/// vttablet cuts answers off at its max-result-size (10,000 rows by default), unless the workload is OLAP.
result<mysql_rows> query_all_rows(mysql_port& session, const std::string& sql) {
  auto rows = session.query(sql);
  if (rows || !is_row_limit(rows.error())) return rows;
  if (auto set = session.query("SET workload = 'olap'"); !set) return rows;
  rows = session.query(sql);
  if (auto reset = session.query("SET workload = 'oltp'"); !reset && rows)
    return tl::unexpected(reset.error());
  return rows;
}

const char* target_suffix(tablet_type type) {
  switch (type) {
    case tablet_type::primary:
      return "@primary";
    case tablet_type::replica:
      return "@replica";
    case tablet_type::rdonly:
      return "@rdonly";
  }
  return "@primary";
}

std::string without_line_breaks(std::string_view text) {
  std::string out;
  for (const char c : text)
    if (c != '\n' && c != '\r') out.push_back(c);
  return out;
}

bool is_digit(char c) { return c >= '0' && c <= '9'; }

/// Days since 1970-01-01 of a date of the Gregorian calendar (after H. Hinnant's days_from_civil).
std::int64_t days_since_1970(std::int64_t year, std::int64_t month, std::int64_t day) {
  year -= month <= 2 ? 1 : 0;
  const std::int64_t era = year / 400;
  const std::int64_t year_of_era = year - era * 400;
  const std::int64_t day_of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
  return era * 146097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719468;
}

}  // namespace

std::string quote_sql_text(std::string_view text) {
  std::string out = "'";
  for (const char c : text) {
    if (c == '\'' || c == '\\') out.push_back(c == '\'' ? '\'' : '\\');
    if (c == '\0')
      out += "\\0";
    else
      out.push_back(c);
  }
  return out + "'";
}

std::string quote_sql_name(std::string_view name) {
  std::string out = "`";
  for (const char c : name) {
    if (c == '`') out.push_back('`');
    out.push_back(c);
  }
  return out + "`";
}

std::string columns_query(const keyspace_name& keyspace) {
  const std::string ks = quote_sql_text(keyspace.str());
  return "SELECT t.table_name, t.table_type, t.table_rows, t.table_comment, c.column_name, c.column_type, "
         "c.is_nullable, c.character_set_name, c.collation_name, c.extra, c.column_key FROM "
         "information_schema.tables AS t "
         "JOIN information_schema.columns AS c ON c.table_schema = t.table_schema AND c.table_name = "
         "t.table_name "
         "WHERE t.table_schema = " +
         ks + " AND c.table_schema = " + ks + " ORDER BY t.table_name, c.ordinal_position";
}

std::string indexes_query(const keyspace_name& keyspace) {
  return "SELECT table_name, index_name, non_unique, seq_in_index, column_name, nullable "
         "FROM information_schema.statistics WHERE table_schema = " +
         quote_sql_text(keyspace.str()) + " ORDER BY table_name, index_name, seq_in_index";
}

result<std::vector<shard_id>> parse_shards(const mysql_rows& rows) {
  if (rows.width() < 1) return malformed("SHOW VITESS_SHARDS");
  std::vector<shard_id> shards;
  std::set<shard_id> seen;
  for (std::size_t row = 0; row < rows.size(); ++row) {
    const auto text = rows.at(row, 0);
    const auto slash = text ? text->find('/') : std::string_view::npos;
    if (slash == std::string_view::npos || slash == 0 || slash + 1 == text->size())
      return malformed("SHOW VITESS_SHARDS", text ? std::string(*text) : "NULL");
    shard_id id{keyspace_name(text->substr(0, slash)), shard_name(text->substr(slash + 1))};
    if (seen.insert(id).second) shards.push_back(std::move(id));
  }
  return shards;
}

result<std::vector<tablet_info>> parse_tablets(const mysql_rows& rows) {
  if (rows.width() < 5) return malformed("SHOW VITESS_TABLETS");
  std::vector<tablet_info> tablets;
  for (std::size_t row = 0; row < rows.size(); ++row)
    tablets.push_back({text_or_empty(rows, row, 0), keyspace_name(text_or_empty(rows, row, 1)),
                       shard_name(text_or_empty(rows, row, 2)), text_or_empty(rows, row, 3),
                       text_or_empty(rows, row, 4)});
  return tablets;
}

result<std::vector<table_definition>> assemble_tables(const keyspace_name& keyspace,
                                                      const mysql_rows& columns, const mysql_rows& indexes,
                                                      std::size_t shard_count) {
  const std::string what = "the question for the columns of keyspace \"" + keyspace.str() + "\"";
  if (columns.width() < 11) return malformed(what);
  if (indexes.width() < 6)
    return malformed("the question for the keys of keyspace \"" + keyspace.str() + "\"");

  std::map<std::string, table_definition> tables;
  std::map<std::string, std::set<std::string>> seen;
  std::map<std::string, std::set<std::string>> marked;
  for (std::size_t row = 0; row < columns.size(); ++row) {
    const auto name = columns.at(row, 0);
    const auto column_name = columns.at(row, 4);
    if (!name || name->empty() || !column_name) return malformed(what, "a table or column without a name");
    if (columns.at(row, 1) != std::string_view("BASE TABLE") || is_internal_table(*name)) continue;
    // Vitess knows a sequence by this word in its table's comment.
    if (text_or_empty(columns, row, 3).find("vitess_sequence") != std::string::npos) continue;

    const std::string key(*name);
    const auto [entry, is_new] = tables.try_emplace(key);
    table_definition& table = entry->second;
    if (is_new) {
      table.id = {keyspace, table_name(key)};
      if (const auto guess = parse_number<std::uint64_t>(columns.at(row, 2).value_or(std::string_view{}))) {
        const std::uint64_t shards = std::max<std::size_t>(shard_count, 1);
        const bool fits = *guess <= std::numeric_limits<std::uint64_t>::max() / shards;
        table.row_estimate = fits ? *guess * shards : std::numeric_limits<std::uint64_t>::max();
      }
    }
    // Servers with several databases behind one keyspace may tell a table more than once.
    if (!seen[key].insert(std::string(*column_name)).second) continue;
    column_definition column;
    column.name = std::string(*column_name);
    column.column_type = text_or_empty(columns, row, 5);
    column.nullable = lower(columns.at(row, 6).value_or(std::string_view{})) != "no";
    column.character_set = text_or_empty(columns, row, 7);
    column.collation = text_or_empty(columns, row, 8);
    const std::string extra = text_or_empty(columns, row, 9);
    column.generated =
        has_word(extra, "generated");  // not DEFAULT_GENERATED, which is an expression as default
    column.invisible = has_word(extra, "invisible");
    if (lower(columns.at(row, 10).value_or(std::string_view{})) == "pri") marked[key].insert(column.name);
    table.columns.push_back(std::move(column));
  }

  const auto keys = read_indexes(indexes);
  std::vector<table_definition> result;
  for (auto& [name, table] : tables) {
    if (const auto found = keys.find(name); found != keys.end()) {
      if (const auto primary = found->second.find("PRIMARY"); primary != found->second.end()) {
        table.primary_key = primary->second.names();
        for (const auto& column : table.primary_key)
          if (table.find(column) == nullptr)
            return malformed(what, "table " + name + " has a key over an unknown column " + column);
      }
      table.copy_order =
          table.primary_key.empty() ? cheapest_unique_key(table, found->second) : table.primary_key;
      table.identity = table.primary_key.empty() ? unique_key_of(marked[name], found->second) : table.primary_key;
    }
    result.push_back(std::move(table));
  }
  return result;
}

result<std::int64_t> parse_utc_timestamp(std::string_view text) {
  const auto wrong = [&] { return malformed("the question for its clock", std::string(text)); };
  constexpr std::string_view form = "0000-00-00 00:00:00";
  if (text.size() < form.size()) return wrong();
  for (std::size_t i = 0; i < form.size(); ++i)
    if (form[i] == '0' ? !is_digit(text[i]) : text[i] != form[i]) return wrong();
  const auto number = [&](std::size_t at, std::size_t length) {
    return parse_number<std::int64_t>(text.substr(at, length)).value_or(0);
  };
  const std::int64_t month = number(5, 2), day = number(8, 2);
  const std::int64_t hour = number(11, 2), minute = number(14, 2), second = number(17, 2);
  if (month < 1 || month > 12 || day < 1 || day > 31 || hour > 23 || minute > 59 || second > 60)
    return wrong();
  std::int64_t micros = 0;
  if (std::string_view fraction = text.substr(form.size()); !fraction.empty()) {
    if (fraction.front() != '.' || fraction.size() < 2 || fraction.size() > 7) return wrong();
    for (std::size_t i = 1; i < 7; ++i) {
      const char c = i < fraction.size() ? fraction[i] : '0';
      if (!is_digit(c)) return wrong();
      micros = micros * 10 + (c - '0');
    }
  }
  const std::int64_t seconds =
      ((days_since_1970(number(0, 4), month, day) * 24 + hour) * 60 + minute) * 60 + second;
  return seconds * 1'000'000 + micros;
}

result<std::vector<shard_id>> list_shards(mysql_port& session) {
  return session.query("SHOW VITESS_SHARDS").and_then([](const mysql_rows& rows) {
    return parse_shards(rows);
  });
}

result<std::vector<tablet_info>> list_tablets(mysql_port& session) {
  return session.query("SHOW VITESS_TABLETS").and_then([](const mysql_rows& rows) {
    return parse_tablets(rows);
  });
}

result<std::vector<table_definition>> list_tables(mysql_port& session, const keyspace_name& keyspace,
                                                  std::size_t shard_count) {
  const auto columns = query_all_rows(session, columns_query(keyspace));
  if (!columns) return tl::unexpected(columns.error());
  const auto indexes = query_all_rows(session, indexes_query(keyspace));
  if (!indexes) return tl::unexpected(indexes.error());
  return assemble_tables(keyspace, *columns, *indexes, shard_count);
}

result<std::int64_t> server_clock_micros(mysql_port& session) {
  const auto rows = session.query("SELECT utc_timestamp(6)");
  if (!rows) return tl::unexpected(rows.error());
  return parse_utc_timestamp(rows->at(0, 0).value_or(std::string_view{}));
}

std::optional<std::chrono::microseconds> round_trip(mysql_port& session) {
  using std::chrono::microseconds;
  // On a longer line what disturbs one answer matters little, and each costs time.
  constexpr microseconds long_line{10'000};
  std::optional<microseconds> least;
  for (int i = 0; i < 3 && (!least || *least < long_line); ++i) {
    const auto begin = std::chrono::steady_clock::now();
    if (!session.query("SELECT 1")) return std::nullopt;
    const auto taken = std::chrono::duration_cast<microseconds>(std::chrono::steady_clock::now() - begin);
    least = least ? std::min(*least, taken) : taken;
  }
  return least;
}

result<shard_gtids> shard_positions(mysql_port& session, const shard_id& shard, tablet_type type) {
  if (auto used = session.use(shard.keyspace.str() + ":" + shard.shard.str() + target_suffix(type)); !used)
    return tl::unexpected(used.error());
  const auto rows = session.query("SELECT @@global.gtid_purged, @@global.gtid_executed");
  // SHOW VITESS_… fails in a session that targets a shard.
  const auto back = session.use(shard.keyspace.str());
  if (!rows) return tl::unexpected(rows.error());
  if (!back) return tl::unexpected(back.error());
  const auto purged = rows->at(0, 0);
  const auto executed = rows->at(0, 1);
  if (!purged || !executed) return malformed("the question for the GTID sets of " + shard.to_string());
  return shard_gtids{without_line_breaks(*purged), without_line_breaks(*executed)};
}

}  // namespace psource
