// Columns that come and go.
#include "local_branch/ddl.hpp"

#include <algorithm>
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

/// A nullable column of one of the types that a DDL can add.
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
  constexpr std::string_view begin = "varchar(";
  if (type.compare(0, begin.size(), begin) != 0 || type.back() != ')') return std::nullopt;
  const std::string digits = type.substr(begin.size(), type.size() - begin.size() - 1);
  if (digits.empty() || digits.size() > 4 || digits.find_first_not_of("0123456789") != std::string::npos)
    return std::nullopt;
  out.type = 6165;
  out.length = static_cast<std::uint32_t>(std::stoul(digits)) * 4;
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

}  // namespace

result<ddl> make_ddl(const table_schema& schema, const ddl* previous, std::size_t number,
                     const ddl_change& change) {
  ddl out;
  out.schema = previous != nullptr ? previous->schema : schema;
  if (previous != nullptr) {
    out.sources = previous->sources;
  } else {
    for (std::size_t i = 0; i < schema.columns.size(); ++i) out.sources.push_back({i, 0});
  }
  const auto refuse = [&](const std::string& why) {
    return fail(error_code::config_invalid, "The table " + schema.name + " cannot be altered: " + why + ".");
  };
  const std::string alter = "alter table `" + schema.name + "` ";
  if (!change.add.empty()) {
    const auto space = change.add.find(' ');
    const std::string name = change.add.substr(0, space);
    const std::string type = space == std::string::npos ? std::string() : change.add.substr(space + 1);
    if (find_column(out.schema, name)) return refuse("it has the column " + name + " already");
    auto added = column_of(name, type);
    if (name.empty() || !added) return refuse("\"add\" takes a name and int, bigint or varchar(N)");
    out.schema.columns.push_back(std::move(*added));
    out.sources.push_back({std::nullopt, number});
    out.statement = alter + "add column `" + name + "` " + type;
    return out;
  }
  const std::string& name = change.drop.empty() ? change.rename_from : change.drop;
  const auto found = find_column(out.schema, name);
  if (!found) return refuse("it has no column " + name);
  // Rows are found by it.
  if (*found == 0 || std::count(out.schema.primary_key.begin(), out.schema.primary_key.end(), *found) > 0)
    return refuse("the column " + name + " is its key");
  if (!change.drop.empty()) {
    drop_column(out, *found);
    out.statement = alter + "drop column `" + name + "`";
    return out;
  }
  if (change.rename_to.empty() || find_column(out.schema, change.rename_to))
    return refuse("the column " + name + " cannot have the name \"" + change.rename_to + "\"");
  out.schema.columns[*found].name = change.rename_to;
  out.statement = alter + "rename column `" + name + "` to `" + change.rename_to + "`";
  return out;
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
  }
  append_row(out, row);
}

}  // namespace psource::local_branch
