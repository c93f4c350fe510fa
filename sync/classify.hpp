// From the words of servers to failures: one function for stream ends, one for what may be tried again.
//
// The texts come from Vitess 18 to 24 and MySQL (docs/troubleshooting.md lists them by message).
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

#include "clients/vstream.hpp"
#include "protocol/failure.hpp"
#include "protocol/vitess/tablet_type.hpp"

namespace psource {

/// Where a stream was when it ended; goes into the sentence.
struct stream_place {
  shard_id shard;
  tablet_type tablet = tablet_type::primary;
  /// The request had a position (not a copy from the start, not "current").
  bool has_position = false;
  /// The stream copies a table: what it has lost is copied again elsewhere, a position is not needed for that.
  bool copies = false;
};

/// Whether a stream's last words (stream_end::message, or failure::detail of what classify_stream_end() made of it) are that the server
/// found no tablet for it, or one that has not executed its position: also what it says where the binary logs that the position needs are gone.
bool may_refuse_the_position(std::string_view text);

/// What a stream's end means. Total: an unknown text becomes stream_broken with the server's words.
failure classify_stream_end(const stream_end& end, const stream_place& place);

/// What it means that incomplete rows of a table could not be looked up over the MySQL port: row_image_incomplete when
/// asking again would end the same way (credentials, columns or tables that are not there, an answer that is none), else
/// something to be tried again.
failure classify_lookup_failure(failure why, const stream_id& table);

/// Trying again may help: the reader reconnects, with back-off.
bool is_retryable(error_code code);

/// The same for any question, of the MySQL port too: is_retryable(), or query_failed with another error than those of a
/// statement that the server will never answer (syntax, an unknown column or table, what it does not support).
bool may_pass(const failure& why);

/// How long to wait before attempt `attempt` (1 = the first retry): 1 s, 6 s, 36 s and 60 s from then on, between half and all of
/// it by `jitter` in [0, 1). The first retry is for connections that break, three together outlive a failover that nobody planned
/// (about half a minute; vtgate answers at once meanwhile).
std::chrono::milliseconds retry_delay(unsigned attempt, double jitter);

/// What to say before that: why, when, and the how-manieth of how many retries it is.
std::string retry_warning(const failure& why, std::chrono::milliseconds delay, unsigned attempt, unsigned most);

}  // namespace psource
