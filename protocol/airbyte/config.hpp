// The user's configuration: the JSON of --config as one checked value.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "clients/connection.hpp"
#include "protocol/failure.hpp"
#include "protocol/names.hpp"
#include "protocol/vitess/tablet_type.hpp"

namespace psource {

/// What to do when the binlogs that a saved position needs are gone.
enum class lost_position_behavior : std::uint8_t { fail_sync, resync_data };

/// One entry of `shards`: "-80" (keyspace empty: every keyspace that has it) or "customer/-80".
struct shard_selector {
  keyspace_name keyspace;
  shard_name shard;
};

/// Every key of the configuration, checked; what is absent has its default. `password` and `tls.client_key`
/// are secrets: never log this struct (secrets_of() feeds the redactor).
struct source_config {
  std::string host;
  std::uint16_t port = 443;
  /// Never empty: the default is `host`.
  std::string mysql_host;
  std::uint16_t mysql_port = 3306;
  /// At least one, each once, in the order of the configuration.
  std::vector<keyspace_name> keyspaces;
  /// Both may be empty: no authentication.
  std::string username;
  std::string password;
  tls_settings tls;
  /// use_rdonly, else use_replica, else primary.
  tablet_type tablets = tablet_type::primary;
  /// Empty = all shards.
  std::vector<shard_selector> shards;
  /// Comma list for VStreamFlags.cells; empty = vtgate's own choice.
  std::string cells;
  bool include_metadata = false;
  /// Positions to start from where no state says otherwise. Values are canonical positions, never empty.
  std::map<shard_id, std::string> starting_gtids;
  /// Failures in a row without progress that a stream survives.
  std::uint32_t max_retries = 3;
  std::chrono::seconds timeout{300};
  std::size_t max_streams = 64;
  std::size_t max_copies_per_shard = 2;
  std::chrono::seconds checkpoint_interval{30};
  bool capture_deletes = true;
  lost_position_behavior on_lost_position = lost_position_behavior::fail_sync;
  bool do_not_treat_tiny_int_as_boolean = false;
  bool time_as_string = false;
  /// Whole sentences for the log: what was accepted but has no effect.
  std::vector<std::string> warnings;

  /// `shards` is empty or names this shard.
  bool selects(const shard_id& id) const;
};

/// One failure (code config_invalid) per problem; each message names the key, what is expected and what was
/// found, but never the value of a secret.
using config_result = tl::expected<source_config, std::vector<failure>>;

/// Reads the text of a configuration file; unknown keys and nulls are tolerated. Pure.
config_result parse_config(std::string_view json_text);

/// All problems in one failure, one sentence after the other, for CONNECTION_STATUS and TRACE. `problems` is
/// not empty.
failure summarize(const std::vector<failure>& problems);

/// What the clients need to reach the branch. Hosts below .psdb.cloud get HTTP basic, other hosts vtgate's
/// static authentication, and nobody any when the user name is empty.
connection_settings to_connection(const source_config& config);

/// The texts that must not be seen anywhere: the password, also as programs quote it, the authorization header made of it, with
/// and without its padding, and the client key; and a user name that is a PlanetScale password, in the wrong field.
std::vector<std::string> secrets_of(const source_config& config);

/// The host is PlanetScale's (ends in ".psdb.cloud").
bool is_planetscale_host(std::string_view host);

}  // namespace psource
