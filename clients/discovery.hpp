// What the MySQL port tells about a branch: shards, tablets, tables, columns and keys, clocks and positions.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "clients/mysql_port.hpp"
#include "protocol/failure.hpp"
#include "protocol/names.hpp"
#include "protocol/vitess/columns.hpp"
#include "protocol/vitess/tablet_type.hpp"

namespace psource {

// All functions that take a mysql_port pass its errors on, and add response_malformed for answers of another
// shape.

/// The shards that serve, of all keyspaces, as the session's tablet type (PRIMARY by default) sees them; in
/// the server's order. The session must not target a shard.
result<std::vector<shard_id>> list_shards(mysql_port& session);

/// One tablet as vtgate sees it.
struct tablet_info {
  std::string cell;
  keyspace_name keyspace;
  shard_name shard;
  /// "PRIMARY", "REPLICA", "RDONLY", or another word of Vitess.
  std::string type;
  /// "SERVING", "NOT_SERVING".
  std::string state;
};

/// All tablets. The session must not target a shard.
result<std::vector<tablet_info>> list_tablets(mysql_port& session);

/// The base tables of a keyspace by name (byte order), with columns, keys and row estimates (one shard's
/// guess times `shard_count`). Views, sequences and Vitess' own tables are left out. Two queries, whatever
/// the number of tables; answers above vtgate's row limit are asked for again as an OLAP workload, which has
/// none. An unknown keyspace has no tables.
result<std::vector<table_definition>> list_tables(mysql_port& session, const keyspace_name& keyspace,
                                                  std::size_t shard_count);

/// The server's clock in microseconds since 1970 (UTC).
result<std::int64_t> server_clock_micros(mysql_port& session);

/// How long an answer is under way: the least of up to three times that `SELECT 1` took (vtgate answers it itself; a ping
/// might be answered by what stands before it). Nothing when it was not answered: nobody's read depends on it.
std::optional<std::chrono::microseconds> round_trip(mysql_port& session);

/// GTID sets of one MySQL server as it writes them, without line breaks.
struct shard_gtids {
  /// Transactions whose binlogs are gone.
  std::string purged;
  std::string executed;
};

/// Asks one tablet of the shard. Leaves the session with the keyspace as its target.
result<shard_gtids> shard_positions(mysql_port& session, const shard_id& shard, tablet_type type);

// The pure halves of the functions above.

/// The two statements of list_tables().
std::string columns_query(const keyspace_name& keyspace);
std::string indexes_query(const keyspace_name& keyspace);

result<std::vector<shard_id>> parse_shards(const mysql_rows& rows);
result<std::vector<tablet_info>> parse_tablets(const mysql_rows& rows);
/// `columns` and `indexes` are the answers to columns_query() and indexes_query(), in any order of tables.
result<std::vector<table_definition>> assemble_tables(const keyspace_name& keyspace,
                                                      const mysql_rows& columns, const mysql_rows& indexes,
                                                      std::size_t shard_count);
/// "2026-11-23 08:30:00.123456" -> microseconds since 1970.
result<std::int64_t> parse_utc_timestamp(std::string_view text);

}  // namespace psource
