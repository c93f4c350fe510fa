// Builds the one request of a VStream call.
#include "protocol/vitess/request.hpp"

#include <algorithm>

#include "vtgate.pb.h"

namespace psource {
namespace {

// A regular expression that no table name matches.
constexpr char match_nothing[] = "/^$/";

// An exact name needs a filter: without one the first binlog row of the table ends the stream.
std::string select_all_from(const table_name& table) {
  std::string sql = "select * from `";
  for (char c : table.str()) {
    if (c == '`') {
      sql += '`';
    }
    sql += c;
  }
  sql += '`';
  return sql;
}

failure table_failure(const stream_request& request, const table_name& table, error_code code,
                      std::string message) {
  failure f;
  f.code = code;
  f.message = std::move(message);
  f.stream = stream_id{request.keyspace, table};
  return f;
}

}  // namespace

bool can_be_streamed(const table_name& table) { return !table.empty() && table.str().front() != '/'; }

result<std::string> serialize(const stream_request& request) {
  vtgate::VStreamRequest out;
  out.set_tablet_type(static_cast<topodata::TabletType>(request.type));

  for (const shard_start& start : request.shards) {
    binlogdata::ShardGtid* shard = out.mutable_vgtid()->add_shard_gtids();
    shard->set_keyspace(request.keyspace.str());
    shard->set_shard(start.shard.str());
    shard->set_gtid(start.gtid);
    for (const table_start& table : start.tables) {
      binlogdata::TableLastPK* entry = shard->add_table_p_ks();
      entry->set_table_name(table.table.str());
      if (table.lastpk.empty()) {
        continue;  // An absent lastpk is what says "from the start"; an empty one is an error to Vitess.
      }
      query::QueryResult* lastpk = entry->mutable_lastpk();
      if (!lastpk->ParseFromString(table.lastpk) || lastpk->fields_size() == 0 || lastpk->rows_size() != 1) {
        return fail(table_failure(request, table.table, error_code::state_invalid,
                                  "The saved primary key of table " + table.table.str() + " on shard " +
                                      start.shard.str() + " is not readable."));
      }
    }
  }

  for (const table_name& table : request.tables) {
    if (!can_be_streamed(table)) {
      return fail(
          table_failure(request, table, error_code::table_missing,
                        "Vitess takes the table name \"" + table.str() +
                            "\" for a regular expression, so this table cannot be streamed. Rename it or "
                            "deselect it."));
    }
    binlogdata::Rule* rule = out.mutable_filter()->add_rules();
    rule->set_match(table.str());
    rule->set_filter(select_all_from(table));
  }
  if (request.tables.empty()) {
    out.mutable_filter()->add_rules()->set_match(match_nothing);
  }

  vtgate::VStreamFlags* flags = out.mutable_flags();
  flags->set_heartbeat_interval(
      static_cast<std::uint32_t>(std::clamp<std::int64_t>(request.heartbeat.count(), 1, 3600)));
  flags->set_cells(request.cells);
  flags->set_exclude_keyspace_from_table_name(true);
  return out.SerializeAsString();
}

}  // namespace psource
