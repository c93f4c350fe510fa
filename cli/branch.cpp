// Implementation of branch.hpp.
#include "cli/branch.hpp"

#include <algorithm>

#include "clients/discovery.hpp"
#include "clients/peek.hpp"
#include "protocol/vitess/request.hpp"
#include "sync/classify.hpp"

namespace psource::cli {

result<shards_by_keyspace> serving_shards(mysql_port& session) {
  auto listed = list_shards(session);
  if (!listed) return fail(std::move(listed.error()));
  shards_by_keyspace serving;
  for (auto& id : *listed) serving[id.keyspace].push_back(id.shard);
  return serving;
}

result<std::map<stream_id, table_definition>> all_tables(mysql_port& session, const source_config& config,
                                                         const shards_by_keyspace& serving) {
  std::map<stream_id, table_definition> tables;
  for (const auto& keyspace : config.keyspaces) {
    const auto shards = serving.find(keyspace);
    auto listed = list_tables(session, keyspace, shards == serving.end() ? 1 : shards->second.size());
    if (!listed) return fail(std::move(listed.error()));
    for (auto& table : *listed) {
      const stream_id id = table.id;
      tables.emplace(id, std::move(table));
    }
  }
  return tables;
}

std::vector<stream_id> names_of(const std::map<stream_id, table_definition>& tables) {
  std::vector<stream_id> names;
  for (const auto& [id, table] : tables) names.push_back(id);
  return names;
}

std::optional<std::string> shared_name_warning(const std::map<stream_id, table_definition>& tables) {
  constexpr std::size_t most_named = 5;
  std::map<table_name, std::vector<keyspace_name>> keyspaces;
  for (const auto& [id, table] : tables) keyspaces[id.table].push_back(id.keyspace);
  std::string text;
  std::string others;
  std::size_t count = 0;
  for (const auto& [name, owners] : keyspaces) {
    if (owners.size() < 2) continue;
    if (count++ == 0) {
      text = "The table name " + name.str() + " exists in several keyspaces (";
      for (std::size_t i = 0; i < owners.size(); ++i) text += (i == 0 ? "" : ", ") + owners[i].str();
      text += ")";
    } else if (count <= most_named) {
      others += (others.empty() ? "" : ", ") + name.str();
    }
  }
  if (count == 0) return std::nullopt;
  if (count > 1) text += ", and " + std::to_string(count - 1) + " more as well (" + others + (count > most_named ? ", …)" : ")");
  return text +
         ". Set the connection's destination namespace to \"Source-defined\" (or a custom format with "
         "${SOURCE_NAMESPACE}), or their rows land in one table.";
}

result<std::map<shard_id, gtid_set>> peek_all(vstream_client& client, const source_config& config,
                                              const shards_by_keyspace& shards, const std::vector<stream_id>& tables,
                                              std::chrono::milliseconds limit,
                                              const std::function<bool()>& given_up, std::chrono::milliseconds silence) {
  std::map<shard_id, gtid_set> positions;
  const auto deadline = std::chrono::steady_clock::now() + limit;
  for (const auto& [keyspace, names] : shards) {
    if (names.empty()) continue;
    peek_options options;
    options.type = config.tablets;
    options.cells = config.cells;
    options.given_up = given_up;
    options.silence = silence;
    const auto table = std::find_if(tables.begin(), tables.end(), [&k = keyspace](const stream_id& id) {
      return id.keyspace == k && can_be_streamed(id.table);
    });
    if (table != tables.end()) options.tables.push_back(table->table);
    const stream_place place{{keyspace, names.front()}, config.tablets, false};
    const auto left =
        std::chrono::duration_cast<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
    auto found = peek_positions(client, keyspace, names, options, std::max(left, std::chrono::milliseconds(1)),
                                [&place](const stream_end& end, const std::string&) {
                                  failure what = classify_stream_end(end, place);
                                  // The table is in the server's words only, and nobody asked for its rows.
                                  what.stream.reset();
                                  return what;
                                });
    if (!found) return fail(std::move(found.error().what));
    for (auto& [shard, text] : *found) {
      auto position = gtid_set::parse_position(text);
      if (!position)
        return fail(error_code::response_malformed,
                    "The server's position of " + shard.to_string() + " cannot be understood: " + text + ".");
      positions.emplace(shard, std::move(*position));
    }
  }
  return positions;
}

}  // namespace psource::cli
