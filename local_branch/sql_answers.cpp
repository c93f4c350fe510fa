// A little reader of the few SQL statements that sources send.
#include "local_branch/sql_answers.hpp"

#include <algorithm>
#include <charconv>
#include <chrono>
#include <ctime>
#include <map>

namespace psource::local_branch {
namespace {

std::string lower(std::string text) {
  for (char& c : text)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return text;
}

std::string upper(std::string text) {
  for (char& c : text)
    if (c >= 'a' && c <= 'z') c = static_cast<char>(c - 'a' + 'A');
  return text;
}

/// A piece of SQL. Words are in lower case unless they were quoted.
struct token {
  enum class kind : std::uint8_t { word, text, symbol } what = kind::word;
  std::string value;
  bool is(const char* expected) const { return what != kind::text && value == expected; }
};

std::vector<token> tokens_of(const std::string& sql) {
  std::vector<token> out;
  const auto is_word = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '@' || c == '$';
  };
  for (std::size_t i = 0; i < sql.size();) {
    const char c = sql[i];
    if (c == ' ' || c == '\t' || c == '\n' || c == '\r') {
      ++i;
    } else if (sql.compare(i, 2, "/*") == 0) {
      const auto end = sql.find("*/", i + 2);
      i = end == std::string::npos ? sql.size() : end + 2;
    } else if (c == '\'' || c == '"' || c == '`') {
      token t;
      t.what = c == '`' ? token::kind::word : token::kind::text;
      for (++i; i < sql.size(); ++i) {
        if (c != '`' && sql[i] == '\\' && i + 1 < sql.size()) {
          t.value += sql[++i];
        } else if (sql[i] == c) {
          if (i + 1 >= sql.size() || sql[i + 1] != c) break;
          t.value += sql[++i];
        } else {
          t.value += sql[i];
        }
      }
      ++i;
      out.push_back(std::move(t));
    } else if (is_word(c)) {
      const std::size_t begin = i;
      while (i < sql.size() && is_word(sql[i])) ++i;
      out.push_back({token::kind::word, lower(sql.substr(begin, i - begin))});
    } else {
      out.push_back({token::kind::symbol, std::string(1, c)});
      ++i;
    }
  }
  while (!out.empty() && out.back().is(";")) out.pop_back();
  return out;
}

bool begins_at(const std::vector<token>& tokens, std::size_t at, std::initializer_list<const char*> words) {
  if (tokens.size() < at + words.size()) return false;
  for (const char* word : words)
    if (!tokens[at++].is(word)) return false;
  return true;
}

bool begins(const std::vector<token>& tokens, std::initializer_list<const char*> words) {
  return begins_at(tokens, 0, words);
}

mysql_error refuse(unsigned code, const char* state, std::string message) {
  return {code, state, std::move(message)};
}

/// Seconds since 1970 as MySQL prints a DATETIME in UTC.
std::string utc_text(std::chrono::system_clock::time_point when, bool microseconds) {
  const auto since = std::chrono::duration_cast<std::chrono::microseconds>(when.time_since_epoch()).count();
  const std::time_t seconds = since / 1'000'000;
  std::tm parts{};
  gmtime_r(&seconds, &parts);
  char text[64];
  std::string out(text, std::strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S", &parts));
  if (microseconds) {
    std::string fraction = std::to_string(since % 1'000'000);
    out += "." + std::string(6 - fraction.size(), '0') + fraction;
  }
  return out;
}

using cell = std::optional<std::string>;
using record = std::map<std::string, cell>;

/// One column of the answer and where it comes from: its name, and a field of `record`.
struct selected {
  std::string title;
  std::string field;
};

/// "select a, t.b as c from …" → its columns, and the number of the token behind them (FROM).
std::optional<std::vector<selected>> read_columns(const std::vector<token>& tokens, std::size_t& at) {
  std::vector<selected> out;
  while (at < tokens.size() && !tokens[at].is("from")) {
    selected column;
    std::vector<std::string> name;
    while (at < tokens.size() && !tokens[at].is(",") && !tokens[at].is("from") && !tokens[at].is("as")) {
      if (tokens[at].what == token::kind::text) return std::nullopt;
      name.push_back(tokens[at++].value);
    }
    if (name.empty()) return std::nullopt;
    // "x", "t.x", or "x title"; without a title of its own a column shows information_schema's name, in upper
    // case
    column.field = lower(name.size() >= 3 && name[1] == "." ? name[2] : name[0]);
    column.title = name.size() == 2 || name.size() == 4 ? name.back() : upper(column.field);
    if (name.size() > 4) return std::nullopt;
    if (at < tokens.size() && tokens[at].is("as")) {
      ++at;
      if (at < tokens.size()) column.title = tokens[at++].value;
    }
    out.push_back(std::move(column));
    if (at < tokens.size() && tokens[at].is(",")) ++at;
  }
  if (at >= tokens.size() || out.empty()) return std::nullopt;
  return out;
}

cell null_if_empty(const std::string& text) { return text.empty() ? cell() : cell(text); }

std::string data_type_of(const std::string& column_type) {
  return column_type.substr(0, column_type.find_first_of("( "));
}

std::string key_of(const table_schema& schema, std::size_t number) {
  if (std::find(schema.primary_key.begin(), schema.primary_key.end(), number) != schema.primary_key.end())
    return "PRI";
  for (const auto& index : schema.indexes)
    if (!index.columns.empty() && index.columns.front() == number)
      return index.unique && index.columns.size() == 1 ? "UNI" : "MUL";
  return "";
}

/// Numbers of its tables, in the order of names.
std::vector<std::size_t> sorted_tables(const keyspace& ks) {
  std::vector<std::size_t> out;
  const auto& tables = ks.tables();
  for (std::size_t t = 0; t < tables.size(); ++t) out.push_back(t);
  std::sort(out.begin(), out.end(),
            [&](std::size_t a, std::size_t b) { return tables[a].schema.name < tables[b].schema.name; });
  return out;
}

void put_table(record& out, const keyspace& ks, const table& t) {
  out["table_schema"] = ks.name();
  out["table_catalog"] = "def";
  out["table_name"] = t.schema.name;
  out["table_type"] = t.schema.kind == table_kind::view ? "VIEW" : "BASE TABLE";
  out["table_comment"] = t.schema.comment;
  // MySQL's guess is one shard's.
  out["table_rows"] = t.schema.kind == table_kind::view
                          ? cell()
                          : cell(std::to_string(t.row_count / static_cast<std::int64_t>(std::max<std::size_t>(
                                                                  ks.serving_shards().size(), 1))));
}

void put_column(record& out, const table_schema& schema, std::size_t number) {
  const auto& c = schema.columns[number];
  out["column_name"] = c.name;
  out["ordinal_position"] = std::to_string(number + 1);
  out["column_type"] = c.column_type;
  out["data_type"] = data_type_of(c.column_type);
  out["is_nullable"] = c.nullable ? "YES" : "NO";
  out["character_set_name"] = null_if_empty(c.character_set);
  out["collation_name"] = null_if_empty(c.collation);
  out["column_key"] = key_of(schema, number);
  out["extra"] = c.extra;
  out["generation_expression"] = c.generation_expression;
}

void put_index(std::vector<record>& out, const record& of_table, const table_schema& schema,
               const std::string& name, bool unique, const std::vector<std::size_t>& columns) {
  for (std::size_t i = 0; i < columns.size(); ++i) {
    record r = of_table;
    const auto& c = schema.columns[columns[i]];
    r["index_name"] = name;
    r["non_unique"] = unique ? "0" : "1";
    r["seq_in_index"] = std::to_string(i + 1);
    r["column_name"] = c.name;
    r["nullable"] = c.nullable ? "YES" : "";
    r["index_type"] = "BTREE";
    r["sub_part"] = cell();
    r["expression"] = cell();
    out.push_back(std::move(r));
  }
}

}  // namespace

struct sql_answers::place {
  const keyspace* ks = nullptr;
  /// As the target names it; empty when it names none.
  std::string shard_name;
  std::string tablet_type = "primary";
  const shard* where = nullptr;
};

sql_answers::sql_answers(const branch& source, std::set<int> tablet_types)
    : source_(source), tablet_types_(std::move(tablet_types)) {}

sql_answers::place sql_answers::resolve(const std::string& target) const {
  place out;
  const auto type = target.find('@');
  if (type != std::string::npos) out.tablet_type = lower(target.substr(type + 1));
  const std::string name = target.substr(0, type);
  const auto split = name.find_first_of("/:");
  out.ks = source_.find(name.substr(0, split));
  if (out.ks == nullptr || split == std::string::npos) return out;
  out.shard_name = name.substr(split + 1);
  out.where = out.ks->find_shard(out.shard_name);
  return out;
}

bool sql_answers::known_target(const std::string& target) const { return resolve(target).ks != nullptr; }

std::optional<mysql_error> sql_answers::no_tablet(const std::string& target) const {
  const auto at = resolve(target);
  if (at.ks == nullptr || at.shard_name.empty() || (at.where != nullptr && at.where->serving)) return std::nullopt;
  return refuse(1105, "HY000",
                "target: " + at.ks->name() + "." + at.shard_name + "." + at.tablet_type +
                    ": no healthy tablet available for 'keyspace:\"" + at.ks->name() + "\" shard:\"" + at.shard_name +
                    "\" tablet_type:" + upper(at.tablet_type) + "'");
}

mysql_reply sql_answers::shards() const {
  mysql_result out;
  out.columns = {"Shards"};
  for (const auto& [name, ks] : source_.keyspaces())
    for (const shard* s : ks->serving_shards()) out.rows.push_back({name + "/" + s->name()});
  return out;
}

mysql_reply sql_answers::keyspaces() const {
  mysql_result out;
  out.columns = {"Database"};
  for (const auto& entry : source_.keyspaces()) out.rows.push_back({entry.first});
  return out;
}

mysql_reply sql_answers::tablets() const {
  mysql_result out;
  out.columns = {"Cell",  "Keyspace", "Shard",    "TabletType",
                 "State", "Alias",    "Hostname", "PrimaryTermStartTime"};
  std::size_t number = 100;
  for (const auto& [name, ks] : source_.keyspaces()) {
    for (const shard* s : ks->serving_shards()) {
      for (const int type : tablet_types_) {
        std::string digits = std::to_string(number + static_cast<std::size_t>(type) - 1);
        const char* word = type == 1 ? "PRIMARY" : type == 2 ? "REPLICA" : "RDONLY";
        out.rows.push_back({"zone1", name, s->name(), word, "SERVING",
                            "zone1-" + std::string(digits.size() < 10 ? 10 - digits.size() : 0, '0') + digits,
                            "localhost", type == 1 ? "2026-01-01T00:00:00Z" : ""});
      }
      number += 100;
    }
  }
  return out;
}

mysql_reply sql_answers::positions(const std::string& target) const {
  auto at = resolve(target);
  if (at.ks != nullptr && at.where == nullptr) {
    const auto serving = at.ks->serving_shards();
    if (serving.size() == 1) at.where = serving.front();
  }
  if (at.where == nullptr)
    return refuse(1105, "HY000",
                  "VT09006: a keyspace and a shard must be chosen first, as with USE `ks/-80`");
  std::string executed;
  std::string purged;
  {
    std::shared_lock lock(at.where->mutex());
    purged = at.where->purged().to_string(",\n");
    executed = at.where->executed(at.where->log_size()).to_string(",\n");
  }
  mysql_result out;
  out.columns = {"@@global.gtid_purged", "@@global.gtid_executed"};
  out.rows.push_back({std::move(purged), std::move(executed)});
  return out;
}

/// "select 0, `a`, cast(`b` as binary) from `t` where `id` = 7 union all select 1, …" on one shard: values as a copy has
/// them, and no row for a key that is not there. A real branch gives texts in UTF-8 unless their bytes are asked for; this one
/// converts nothing, and refuses texts of other character sets without the cast.
mysql_reply sql_answers::rows_by_key(const std::string& target, const std::string& sql) const {
  const auto unsupported = [](const std::string& why) {
    return refuse(1235, "42000", "this branch answers only selects of rows by their key: " + why);
  };
  const auto at = resolve(target);
  if (at.where == nullptr) return unsupported("no shard is chosen, as with USE `ks/-80`");
  const keyspace& ks = *at.ks;
  if (ks.recorded()) return unsupported("a recording has no rows to look up");
  const auto tokens = tokens_of(sql);
  mysql_result out;
  std::size_t i = 0;
  const auto take = [&](const char* word) { return i < tokens.size() && tokens[i].is(word) && ++i > 0; };
  for (bool first = true; i < tokens.size(); first = false) {
    if (!first && !(take("union") && take("all"))) return unsupported("what follows the first select");
    if (!take("select") || i >= tokens.size()) return unsupported("select is missing");
    std::vector<std::string> names{tokens[i++].value};
    std::vector<bool> as_bytes{false};
    while (take(",") && i < tokens.size()) {
      as_bytes.push_back(begins_at(tokens, i, {"cast", "("}));
      if (as_bytes.back()) i += 2;
      if (i >= tokens.size()) return unsupported("a column is missing");
      names.push_back(tokens[i++].value);
      if (as_bytes.back() && !(take("as") && take("binary") && take(")"))) return unsupported("another cast than to binary");
    }
    if (!take("from") || i >= tokens.size()) return unsupported("from is missing");
    const auto number = ks.find_table(tokens[i++].value);
    if (!number || !ks.tables()[*number].rows)
      return refuse(1146, "42S02", "Table '" + tokens[i - 1].value + "' doesn't exist");
    if (!take("where") || !take("id") || !take("=")) return unsupported("where `id` = … is missing");
    const bool negative = take("-");
    std::int64_t id = 0;
    if (i >= tokens.size()) return unsupported("the key is missing");
    const std::string& digits = tokens[i++].value;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), id);
    if (error != std::errc() || end != digits.data() + digits.size())
      return unsupported("a key that is no number");
    if (negative) id = -id;
    if (first) out.columns = names;
    if (names.size() != out.columns.size())
      return refuse(1222, "21000", "The used SELECT statements have a different number of columns");
    std::shared_lock lock(at.where->mutex());
    const std::size_t ddls = at.where->ddls_of(*number, at.where->log_size());
    std::vector<std::size_t> wanted;
    for (std::size_t n = 1; n < names.size(); ++n) {
      const auto& columns = ks.tables()[*number].schema_after(ddls).columns;
      const auto found =
          std::find_if(columns.begin(), columns.end(), [&](const column& c) { return c.name == names[n]; });
      if (found == columns.end())
        return refuse(1054, "42S22", "Unknown column '" + names[n] + "' in 'field list'");
      if (!as_bytes[n] && !found->character_set.empty() && found->character_set.rfind("utf8", 0) != 0)
        return unsupported("`" + found->name + "` is not in UTF-8, and its bytes are not asked for");
      wanted.push_back(static_cast<std::size_t>(found - columns.begin()));
    }
    const std::optional<std::uint32_t> version = at.where->version_of(*number, id);
    if (!version) continue;
    byte_buffer buffer;
    const auto values = read_row(at.where->make_row(buffer, *number, ddls, id, *version, row_text::mysql));
    std::vector<cell> row{names.front()};
    for (const auto n : wanted) row.push_back((*values)[n]);
    out.rows.push_back(std::move(row));
  }
  return out;
}

mysql_reply sql_answers::from_information_schema(const std::string& sql) const {
  const auto unsupported = [&](const std::string& why) {
    return refuse(1235, "42000", "this branch answers only simple questions to information_schema: " + why);
  };
  const auto tokens = tokens_of(sql);
  std::size_t at = 1;
  const auto columns = read_columns(tokens, at);
  if (!columns) return unsupported("the list of columns");
  bool tables = false;
  bool of_columns = false;
  bool statistics = false;
  const keyspace* ks = nullptr;
  bool named = false;
  // Conditions field = 'text' besides the keyspace's; they are taken as joined by AND.
  std::map<std::string, std::string> conditions;
  for (; at + 2 < tokens.size(); ++at) {
    if (tokens[at].is("information_schema") && tokens[at + 1].is(".")) {
      const std::string name = lower(tokens[at + 2].value);
      tables = tables || name == "tables";
      of_columns = of_columns || name == "columns";
      statistics = statistics || name == "statistics";
    }
    if (tokens[at].what != token::kind::word || !tokens[at + 1].is("=") ||
        tokens[at + 2].what != token::kind::text)
      continue;
    if (tokens[at].is("table_schema")) {
      named = true;
      ks = source_.find(tokens[at + 2].value);
    } else {
      conditions[lower(tokens[at].value)] = tokens[at + 2].value;
    }
  }
  if (!named) return unsupported("table_schema = '…' is missing");
  if (!tables && !of_columns && !statistics) return unsupported("tables, columns and statistics only");
  std::vector<record> records;
  if (ks != nullptr) {
    for (const std::size_t t : sorted_tables(*ks)) {
      const table_schema& schema = ks->schema_now(t);
      record of_table;
      put_table(of_table, *ks, ks->tables()[t]);
      if (statistics) {
        if (schema.kind == table_kind::view) continue;
        // As MySQL sorts them: by the names of the keys.
        std::map<std::string, std::pair<bool, std::vector<std::size_t>>> keys;
        if (!schema.primary_key.empty()) keys["PRIMARY"] = {true, schema.primary_key};
        for (const auto& index : schema.indexes) keys[index.name] = {index.unique, index.columns};
        for (const auto& [name, key] : keys)
          put_index(records, of_table, schema, name, key.first, key.second);
      } else if (of_columns) {
        for (std::size_t i = 0; i < schema.columns.size(); ++i) {
          record r = of_table;
          put_column(r, schema, i);
          records.push_back(std::move(r));
        }
      } else {
        records.push_back(std::move(of_table));
      }
    }
  }
  mysql_result out;
  for (const auto& column : *columns) out.columns.push_back(column.title);
  for (const auto& r : records) {
    const bool meets = std::all_of(conditions.begin(), conditions.end(), [&](const auto& condition) {
      const auto found = r.find(condition.first);
      return found != r.end() && found->second == condition.second;
    });
    if (!meets) continue;
    std::vector<cell> row;
    for (const auto& column : *columns) {
      const auto found = r.find(column.field);
      if (found == r.end())
        return refuse(1054, "42S22", "Unknown column '" + column.field + "' in 'field list'");
      row.push_back(found->second);
    }
    out.rows.push_back(std::move(row));
  }
  return out;
}

mysql_reply sql_answers::answer(const std::string& target, const std::string& sql) const {
  if (!target.empty() && !known_target(target))
    return refuse(1049, "42000", "VT05003: unknown database '" + target + "' in vschema");
  // A session with a shard talks to one of its tablets, whatever it asks.
  if (auto refused = no_tablet(target)) return std::move(*refused);
  const auto tokens = tokens_of(sql);
  if (tokens.size() > 1 && tokens[0].is("show") && tokens[1].value.rfind("vitess_", 0) == 0 &&
      resolve(target).where != nullptr)  // a session with a shard talks to its MySQL
    return refuse(1064, "42000", "You have an error in your SQL syntax near '" + tokens[1].value + "'");
  if (begins(tokens, {"show", "vitess_shards"})) return shards();
  if (begins(tokens, {"show", "vitess_tablets"})) return tablets();
  if (begins(tokens, {"show", "vitess_keyspaces"}) || begins(tokens, {"show", "keyspaces"}) ||
      begins(tokens, {"show", "databases"}))
    return keyspaces();
  if (begins(tokens, {"select", "@@global", ".", "gtid_purged"})) return positions(target);
  if (begins(tokens, {"select", "utc_timestamp"})) {
    const bool micro = tokens.size() > 3 && tokens[3].is("6");
    mysql_result out;
    out.columns = {micro ? "utc_timestamp(6)" : "utc_timestamp()"};
    out.rows.push_back({utc_text(std::chrono::system_clock::now(), micro)});
    return out;
  }
  if (begins(tokens, {"select", "1"}) && tokens.size() == 2) return mysql_result{{"1"}, {{std::string("1")}}};
  if (begins(tokens, {"select"}) &&
      std::any_of(tokens.begin(), tokens.end(), [](const token& t) { return t.is("information_schema"); }))
    return from_information_schema(sql);
  // The connector numbers the rows that it looks up from 0.
  if (tokens.size() > 2 && tokens[0].is("select") && tokens[1].is("0") && tokens[2].is(","))
    return rows_by_key(target, sql);
  return refuse(1235, "42000",
                "this branch answers only what a source asks of it; not: " + sql.substr(0, 200));
}

}  // namespace psource::local_branch
