// Columns that come, go and change, and tables that are emptied.
#include "local_branch/ddl.hpp"

#include <algorithm>
#include <charconv>
#include <limits>
#include <utility>

#include "local_branch/rows.hpp"
#include "local_branch/shards.hpp"

namespace psource::local_branch {
namespace {

std::optional<std::size_t> find_column(const table_schema& schema, const std::string& name) {
  const auto found = std::find_if(schema.columns.begin(), schema.columns.end(),
                                  [&](const column& c) { return c.name == name; });
  if (found == schema.columns.end()) return std::nullopt;
  return static_cast<std::size_t>(found - schema.columns.begin());
}

/// N of "varchar(N)"; nothing for another text.
std::optional<std::size_t> varchar_length(std::string_view type) {
  constexpr std::string_view begin = "varchar(";
  if (type.substr(0, begin.size()) != begin || type.back() != ')') return std::nullopt;
  const std::string digits(type.substr(begin.size(), type.size() - begin.size() - 1));
  if (digits.empty() || digits.size() > 4 || digits.find_first_not_of("0123456789") != std::string::npos)
    return std::nullopt;
  return std::stoul(digits);
}

/// A nullable column of one of the types that a DDL can give.
std::optional<column> column_of(const std::string& name, const std::string& type) {
  column out;
  out.name = name;
  out.column_type = type;
  if (type == "int" || type == "bigint") {
    out.type = type == "int" ? 263 : 265;
    out.length = type == "int" ? 11 : 20;
    out.flags = flag_number;
    return out;
  }
  const auto length = varchar_length(type);
  if (!length) return std::nullopt;
  out.type = 6165;
  out.length = static_cast<std::uint32_t>(*length) * 4;
  out.charset = 255;
  out.character_set = "utf8mb4";
  out.collation = "utf8mb4_0900_ai_ci";
  return out;
}

/// Takes a column out of a key's numbers.
void forget_column(std::vector<std::size_t>& key, std::size_t number) {
  key.erase(std::remove(key.begin(), key.end(), number), key.end());
  for (auto& n : key)
    if (n > number) --n;
}

void drop_column(ddl& out, std::size_t number) {
  const auto at = static_cast<std::ptrdiff_t>(number);
  out.schema.columns.erase(out.schema.columns.begin() + at);
  out.sources.erase(out.sources.begin() + at);
  forget_column(out.schema.primary_key, number);
  auto& indexes = out.schema.indexes;
  for (auto& index : indexes) forget_column(index.columns, number);
  const auto empty = [](const index& i) { return i.columns.empty(); };
  indexes.erase(std::remove_if(indexes.begin(), indexes.end(), empty), indexes.end());
}

/// Puts the last column at `place`.
void move_last(ddl& out, std::size_t place) {
  auto& columns = out.schema.columns;
  std::rotate(columns.begin() + static_cast<std::ptrdiff_t>(place), std::prev(columns.end()), columns.end());
  auto& sources = out.sources;
  std::rotate(sources.begin() + static_cast<std::ptrdiff_t>(place), std::prev(sources.end()), sources.end());
  const std::size_t last = columns.size() - 1;
  const auto renumber = [&](std::vector<std::size_t>& key) {
    for (auto& n : key) n = n == last ? place : n + (n >= place ? 1 : 0);
  };
  renumber(out.schema.primary_key);
  for (auto& index : out.schema.indexes) renumber(index.columns);
}

/// "name [type] [first | after column]", taken apart. The texts are as they were given.
struct column_words {
  std::string name, type, place;
};

column_words split(const std::string& text) {
  column_words out;
  std::string* const parts[] = {&out.name, &out.type};
  std::size_t part = 0;
  for (std::size_t at = 0; at < text.size();) {
    const auto end = std::min(text.find(' ', at), text.size());
    const std::string word = text.substr(at, end - at);
    if (part > 0 && (word == "first" || word == "after" || part == 2)) {
      out.place = text.substr(at);
      break;
    }
    *parts[part++] = word;
    at = end + 1;
  }
  return out;
}

/// The number of the column that a new one would have at such a place; nothing when there is no such place.
std::optional<std::size_t> place_of(const table_schema& schema, const std::string& place) {
  if (place == "first") return 0;
  constexpr std::string_view after = "after ";
  if (place.compare(0, after.size(), after) != 0) return std::nullopt;
  const auto found = find_column(schema, place.substr(after.size()));
  return found ? std::optional<std::size_t>(*found + 1) : std::nullopt;
}

/// The column as MySQL's grammar has it.
std::string definition_of(const column& c) {
  return "`" + c.name + "` " + c.column_type + (c.nullable ? "" : " not null");
}

std::string create_statement(const table_schema& schema) {
  std::string out = "create table `" + schema.name + "` (";
  for (const auto& c : schema.columns) out += definition_of(c) + ", ";
  out += "primary key (";
  for (std::size_t i = 0; i < schema.primary_key.size(); ++i)
    out += (i == 0 ? "`" : ",`") + schema.columns[schema.primary_key[i]].name + "`";
  return out + "))";
}

using refusal = std::optional<std::string>;

/// "first" or "after …" of a column that is the last one now.
refusal put_in_place(ddl& out, const std::string& place) {
  if (place.empty()) return std::nullopt;
  const auto number = place_of(out.schema, place);
  if (!number || *number >= out.schema.columns.size()) return "there is no place \"" + place + "\"";
  // Rows of a table without a key are found by their first column.
  if (*number == 0 && out.schema.primary_key.empty()) return "its first column has to stay";
  move_last(out, *number);
  return std::nullopt;
}

refusal add_column(ddl& out, const ddl_change& change, std::size_t number) {
  const auto words = split(change.column);
  if (find_column(out.schema, words.name)) return "it has the column " + words.name + " already";
  auto added = column_of(words.name, words.type);
  if (words.name.empty() || !added) return "\"add\" takes a name and int, bigint or varchar(N)";
  out.statement += "add column `" + words.name + "` " + words.type;
  if (!words.place.empty()) out.statement += " " + words.place;
  out.schema.columns.push_back(std::move(*added));
  out.sources.push_back({std::nullopt, number, {}});
  return put_in_place(out, words.place);
}

refusal modify_column(ddl& out, const ddl_change& change, std::size_t number) {
  const auto words = split(change.column);
  if (words.type.empty() && words.place.empty()) return "\"modify\" takes a name and a type or a place";
  column changed = out.schema.columns[number];
  column_source source = out.sources[number];
  if (!words.type.empty()) {
    auto typed = column_of(words.name, words.type);
    if (!typed) return "\"modify\" takes a name and int, bigint or varchar(N)";
    changed = std::move(*typed);
    source.casts.push_back(words.type);
  }
  out.statement += "modify column " + definition_of(changed);
  if (words.place.empty()) {
    out.schema.columns[number] = std::move(changed);
    out.sources[number] = std::move(source);
    return std::nullopt;
  }
  out.statement += " " + words.place;
  if (words.place == "after " + words.name) return "there is no place \"" + words.place + "\"";
  // Its indexes go with it.
  auto& columns = out.schema.columns;
  const auto at = static_cast<std::ptrdiff_t>(number);
  columns.erase(columns.begin() + at);
  out.sources.erase(out.sources.begin() + at);
  const std::size_t last = columns.size();
  const auto renumber = [&](std::vector<std::size_t>& key) {
    for (auto& n : key) n = n == number ? last : n - (n > number ? 1 : 0);
  };
  renumber(out.schema.primary_key);
  for (auto& index : out.schema.indexes) renumber(index.columns);
  columns.push_back(std::move(changed));
  out.sources.push_back(std::move(source));
  return put_in_place(out, words.place);
}

/// What a MySQL without strict mode makes of a value when its column becomes another type.
std::string cast_value(const std::string& value, const std::string& type) {
  if (const auto length = varchar_length(type)) return value.substr(0, *length);
  std::int64_t number = 0;
  const auto parsed = std::from_chars(value.data(), value.data() + value.size(), number);
  if (parsed.ec == std::errc::result_out_of_range) number = std::numeric_limits<std::int64_t>::max();
  if (type == "int")
    number = std::clamp<std::int64_t>(number, std::numeric_limits<std::int32_t>::min(),
                                      std::numeric_limits<std::int32_t>::max());
  return std::to_string(number);
}

}  // namespace

result<ddl> make_ddl(const table_schema& schema, const ddl* previous, std::size_t number,
                     const ddl_change& change) {
  ddl out;
  out.schema = previous != nullptr ? previous->schema : schema;
  if (previous != nullptr) {
    out.sources = previous->sources;
  } else {
    for (std::size_t i = 0; i < schema.columns.size(); ++i) out.sources.push_back({i, 0, {}});
  }
  out.empties = change.empties();
  out.reload_failures = std::make_unique<std::atomic<std::uint64_t>>(change.reload_failures);
  out.statement = "alter table `" + schema.name + "` ";
  const auto checked = [&](const refusal& why) -> result<ddl> {
    if (!why) return std::move(out);
    return fail(error_code::config_invalid,
                "The table " + schema.name + " cannot be altered: " + *why + ".");
  };
  switch (change.kind) {
    case ddl_kind::add:
      return checked(add_column(out, change, number));
    case ddl_kind::truncate:
      out.statement = "truncate table `" + schema.name + "`";
      return checked(std::nullopt);
    case ddl_kind::drop_table:
      // MySQL writes it anew.
      out.statement = "DROP TABLE `" + schema.name + "` /* generated by server */";
      return checked(std::nullopt);
    case ddl_kind::create_table:
      if (schema.primary_key.empty()) return checked("it has no primary key");
      out.statement = create_statement(out.schema);
      return checked(std::nullopt);
    default:
      break;
  }
  const std::string name = split(change.column).name;
  const auto found = find_column(out.schema, name);
  if (!found) return checked("it has no column " + name);
  // Rows are found by it.
  const auto& source = out.sources[*found];
  if ((source.made && *source.made == 0) ||
      std::count(out.schema.primary_key.begin(), out.schema.primary_key.end(), *found) > 0)
    return checked("the column " + name + " is its key");
  if (change.kind == ddl_kind::modify) return checked(modify_column(out, change, *found));
  if (change.kind == ddl_kind::drop) {
    drop_column(out, *found);
    out.statement += "drop column `" + name + "`";
    return checked(std::nullopt);
  }
  if (change.new_name.empty() || find_column(out.schema, change.new_name))
    return checked("the column " + name + " cannot have the name \"" + change.new_name + "\"");
  out.schema.columns[*found].name = change.new_name;
  out.statement += "rename column `" + name + "` to `" + change.new_name + "`";
  return checked(std::nullopt);
}

void append_row_after(byte_buffer& out, const ddl& now, std::string_view made, std::int64_t id,
                      std::uint32_t version, std::size_t written) {
  auto values = read_row(made).value_or(row_values());
  row_values row;
  for (const auto& source : now.sources) {
    if (source.made) {
      row.push_back(*source.made < values.size() ? std::move(values[*source.made]) : std::nullopt);
    } else if (written < source.added_by) {
      row.emplace_back(std::nullopt);
    } else {
      const auto random = mix((static_cast<std::uint64_t>(id) << 20) ^ version ^ mix(source.added_by));
      row.emplace_back(std::to_string(1 + scale(random, 1'000'000)));
    }
    if (row.back())
      for (const auto& type : source.casts) row.back() = cast_value(*row.back(), type);
  }
  append_row(out, row);
}

}  // namespace psource::local_branch
