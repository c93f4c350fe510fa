// Decides what a read does: which tables are copied, resumed or caught up on which shards, in which calls.
//
// Pure. The rules are those of docs/design.md, section 3 ("What is read, and in which order") and docs/state.md.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "protocol/airbyte/catalog.hpp"
#include "protocol/airbyte/config.hpp"
#include "protocol/airbyte/state_input.hpp"
#include "protocol/vitess/columns.hpp"
#include "protocol/vitess/gtid_set.hpp"
#include "sync/branch_questions.hpp"
#include "sync/cursor_ledger.hpp"
#include "sync/stream_session.hpp"

namespace psource {

/// Everything that is known before the first stream is opened.
struct plan_input {
  source_config config;
  std::vector<configured_stream> streams;
  saved_state state;
  /// All serving shards of each configured keyspace, whatever `shards` selects.
  std::map<keyspace_name, std::vector<shard_name>> serving;
  /// When that was asked; nothing = just now.
  std::optional<std::chrono::steady_clock::time_point> listed_at;
  std::map<stream_id, table_definition> tables;
  /// Each selected serving shard's position, peeked at before.
  std::map<shard_id, gtid_set> stops;
  /// What the primaries of the shards_to_ask() say of their binary logs; those that did not answer are not there.
  std::map<shard_id, server_positions> primaries;
  /// Seconds since 1970 on the server when the peek was done.
  std::int64_t peek_seconds = 0;
};

/// One stream of the configured catalog, with all that reading it needs.
struct planned_stream {
  stream_id id;
  sync_mode mode = sync_mode::incremental;
  /// Session data shared by all its sessions; `cursors` is empty here.
  session_table table;
  ledger_stream ledger;
  std::optional<std::uint64_t> row_estimate;
  /// Shards by what is done with them, for the opening log line.
  std::size_t copies = 0;
  std::size_t resumes = 0;
  std::size_t catch_ups = 0;
  std::size_t up_to_date = 0;
  /// Why the stream cannot be read; it ends INCOMPLETE.
  std::optional<failure> problem;
};

struct sync_plan {
  /// In the catalog's order: stream_index counts here.
  std::vector<planned_stream> streams;
  /// Calls that start from positions; they come first.
  std::vector<session_spec> catch_ups;
  /// One table on one shard each; tables of one shard follow each other.
  std::vector<session_spec> copies;
  /// A STREAM state of every incremental stream has to be written before any record (start from LEGACY state).
  bool states_first = false;
  std::vector<std::string> infos;
  std::vector<std::string> warnings;
};

/// Shards whose saved positions the stops alone cannot judge, once they are peeked at: a replica may lag behind a position that
/// was read before; and where a copy was broken off, the binary logs since its beginning may be gone.
std::vector<shard_id> shards_to_ask(const plan_input& input);

/// Makes the plan. Errors are those that end the whole read: nothing left to read (config_error), no serving shard.
/// What concerns one stream is in planned_stream::problem.
result<sync_plan> make_plan(const plan_input& input);

/// Where streams of a running read stand, shard by shard.
using standing_cursors = std::map<stream_index, std::map<shard_name, shard_cursor>>;

/// Plans streams of a running read again because their shards were replaced: from their cursors, as the next read would
/// from their states. `input` is what the read was planned from, with the serving shards, stops and peek_seconds of now;
/// its state is ignored. The result has the streams of `standing` only, whose session_table::stream count in
/// input.streams; its copies say which shards of `standing` they replace. Errors as those of make_plan().
result<sync_plan> plan_again(plan_input input, const standing_cursors& standing);

/// The serving shards that the configuration selects. shard_unknown for an entry of `shards` that no keyspace has,
/// keyspace_unknown for a configured keyspace without shards; both name what exists.
result<std::map<keyspace_name, std::vector<shard_name>>> select_shards(
    const source_config& config, const std::map<keyspace_name, std::vector<shard_name>>& serving);

/// A copy of this table can go on from its last primary key. False for tables without key, and for keys with FLOAT,
/// DOUBLE, ENUM, SET or JSON columns: Vitess's resume condition loses or repeats rows there.
bool copy_is_resumable(const table_definition& table);

}  // namespace psource
