// Builds the one request of a VStream call: which shards from which positions, and which tables.
#pragma once

#include <chrono>
#include <string>
#include <vector>

#include "protocol/failure.hpp"
#include "protocol/names.hpp"
#include "protocol/vitess/tablet_type.hpp"

namespace psource {

/// A table that is still to be copied on a shard, wholly or from a primary key on.
struct table_start {
  table_name table;
  /// Serialized query.QueryResult with the fields and the one row of the last key; empty = copy from the
  /// start.
  std::string lastpk;
};

/// Where a shard's stream starts. Empty gtid = copy; "current" = the present position; else exclusive: what
/// the set does not contain is sent. Copies list their tables here, so that each VGTID tells what is still
/// pending.
struct shard_start {
  shard_name shard;
  std::string gtid;
  std::vector<table_start> tables;
};

struct stream_request {
  keyspace_name keyspace;
  tablet_type type = tablet_type::primary;
  /// Comma list of cells; empty = vtgate's own.
  std::string cells;
  std::vector<shard_start> shards;
  /// The tables whose rows are wanted. Empty = no rows at all, positions only.
  std::vector<table_name> tables;
  /// vtgate sends a heartbeat when it had nothing else to send for so long. Whole seconds, at least 1.
  std::chrono::seconds heartbeat{5};
};

/// Vitess takes a name that starts with "/" for a regular expression, so such a table cannot be asked for.
bool can_be_streamed(const table_name& table);

/// The bytes of the vtgate.VStreamRequest. Errors: table_missing with `stream` set for a table that cannot be
/// streamed, state_invalid with `stream` set for a lastpk that is no query.QueryResult of one row with its
/// fields. Pure; any thread.
result<std::string> serialize(const stream_request& request);

}  // namespace psource
