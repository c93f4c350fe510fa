// What can go wrong, as values: one code per kind of fault, and the sentence that the user reads.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <tl/expected.hpp>
#include <utility>

#include "protocol/names.hpp"

namespace psource {

/// One code per kind of fault. failure_class_of() says what Airbyte does about each.
enum class error_code : std::uint8_t {
  config_invalid,          ///< A key of the configuration is missing or has an impossible value.
  input_unreadable,        ///< A file given on the command line cannot be read or is not JSON.
  catalog_invalid,         ///< The configured catalog does not have the form of the Airbyte protocol.
  state_invalid,           ///< The state file has none of the forms of docs/state.md.
  host_unreachable,        ///< Name look-up or connection failed.
  tls_failed,              ///< The TLS handshake failed, or one side speaks TLS and the other does not.
  credentials_refused,     ///< User name or password is wrong, or lacks a right.
  keyspace_unknown,        ///< The branch has no such keyspace.
  shard_unknown,           ///< The keyspace has no such shard.
  tablet_type_missing,     ///< No tablet of the chosen type serves a shard.
  vstream_unavailable,     ///< The server answers, but does not offer VStream.
  table_missing,           ///< A configured table does not exist.
  schema_incompatible,     ///< Vitess cannot match binlog events with the table's present columns.
  position_lost,           ///< The binlogs that the saved position needs are gone.
  position_foreign,        ///< The saved position is not one of this server's.
  lastpk_refused,          ///< The saved primary key of a half copy no longer fits the table.
  shards_changed,          ///< The saved shards no longer match: the keyspace has to be planned again.
  row_image_incomplete,    ///< A row event leaves columns out (binlog_row_image is not FULL).
  response_malformed,      ///< Bytes from the server break the protocol.
  response_too_large,      ///< One response exceeds the receive limit.
  copy_time_limit,         ///< The server ended a copy at its own time limit.
  stream_stalled,          ///< A stream brought nothing new for timeout_seconds.
  stream_failed,           ///< The server ended a stream with an error that nobody knows; it may be one table's.
  stream_broken,           ///< The connection or the stream ended early.
  query_failed,            ///< A question over the MySQL port failed.
  output_closed,           ///< Nobody reads standard output any more (EPIPE).
  output_failed,           ///< Standard output cannot be written (disk full, input/output error).
  interrupted,             ///< A signal asked the run to end.
  internal,                ///< A fault of this program.
};

/// Airbyte's failure_type: config_error is not retried by the platform, the others are.
enum class failure_class : std::uint8_t { config_error, transient_error, system_error };

/// The class of a code; total.
failure_class failure_class_of(error_code code);
/// "config_error", "transient_error" or "system_error": the words of the Airbyte protocol.
const char* to_string(failure_class value);
/// The code's own name, for logs and tests: "position_lost".
const char* to_string(error_code code);

/// A fault on its way to the user.
struct failure {
  error_code code = error_code::internal;
  /// Whole sentences for the user: what happened, where, what to do. Never contains a secret.
  std::string message;
  /// What the server or library said, word for word; may be empty.
  std::string detail;
  /// The table that the fault belongs to, when it belongs to one.
  std::optional<stream_id> stream;
};

template <class T>
using result = tl::expected<T, failure>;

inline tl::unexpected<failure> fail(error_code code, std::string message, std::string detail = {}) {
  return tl::unexpected<failure>(failure{code, std::move(message), std::move(detail), std::nullopt});
}
inline tl::unexpected<failure> fail(failure f) { return tl::unexpected<failure>(std::move(f)); }

}  // namespace psource
