// What check, discover and read ask the branch before any stream is opened.
#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "clients/grpc_vstream.hpp"
#include "clients/mysql_session.hpp"
#include "protocol/airbyte/config.hpp"
#include "protocol/failure.hpp"
#include "protocol/vitess/columns.hpp"
#include "protocol/vitess/gtid_set.hpp"

namespace psource::cli {

using shards_by_keyspace = std::map<keyspace_name, std::vector<shard_name>>;

/// The serving shards of every keyspace of the branch.
result<shards_by_keyspace> serving_shards(mysql_port& session);

/// The tables of the configured keyspaces, by name.
result<std::map<stream_id, table_definition>> all_tables(mysql_port& session, const source_config& config,
                                                         const shards_by_keyspace& serving);

std::vector<stream_id> names_of(const std::map<stream_id, table_definition>& tables);

/// What to say where several keyspaces share table names: destinations may put both into one table. Names the first few.
std::optional<std::string> shared_name_warning(const std::map<stream_id, table_definition>& tables);

/// The present position of every given shard. Blocking, at most `limit` for all, and no longer than a moment once
/// `given_up` (if there is one) says true; `silence` as in peek_options. Each keyspace's call names one of
/// `tables`, because that is the form that servers are known to answer.
result<std::map<shard_id, gtid_set>> peek_all(vstream_client& client, const source_config& config,
                                              const shards_by_keyspace& shards, const std::vector<stream_id>& tables,
                                              std::chrono::milliseconds limit,
                                              const std::function<bool()>& given_up = {},
                                              std::chrono::milliseconds silence = std::chrono::milliseconds::max());

}  // namespace psource::cli
