// Asks where each shard stands now: the stop positions of a sync.
#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "clients/vstream.hpp"
#include "protocol/failure.hpp"
#include "protocol/names.hpp"
#include "protocol/vitess/tablet_type.hpp"

namespace psource {

struct peek_options {
  tablet_type type = tablet_type::primary;
  /// Comma list of cells; empty = vtgate's own.
  std::string cells;
  /// Tables whose rows the server may send meanwhile; they are not looked at. Empty = none.
  std::vector<table_name> tables;
  /// While no message at all has come, not even a heartbeat, the limit is this one where it is shorter.
  std::chrono::milliseconds silence = std::chrono::milliseconds::max();
  /// Looked at several times a second while the peek waits: true = give up now. May be empty.
  std::function<bool()> given_up;
};

/// Why a peek failed. `end` is how the stream ended, word for word, when a stream did end.
struct peek_failure {
  failure what;
  std::optional<stream_end> end;
  /// Shards without an answer when the peek gave up, in order.
  std::vector<shard_name> missing;
};

/// Turns the end of a stream into what the user is told. `context` says what was tried, for the sentence.
using end_classifier = std::function<failure(const stream_end& end, const std::string& context)>;

/// Each shard's current position. Streams "current" with up to 64 shards a call, all calls at the same time;
/// a shard's position is its first gtid that is no longer "current". All calls are cancelled before it
/// returns (their ends may come later). Ask only for shards that serve: an old shard answers with a position
/// that cannot be used. Blocking, at most `limit` (vtgate itself looks for a tablet for 90 s); not from a
/// listener or an actor. Errors: interrupted when it was given up, stream_stalled when the time is over, response_malformed, what `classify`
/// says of a stream that ended, or stream_broken without a classifier.
tl::expected<std::map<shard_id, std::string>, peek_failure> peek_positions(
    vstream_client& client, const keyspace_name& keyspace, const std::vector<shard_name>& shards,
    const peek_options& options, std::chrono::milliseconds limit, const end_classifier& classify = {});

}  // namespace psource
