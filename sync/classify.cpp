// The table of texts behind classify.hpp.
#include "sync/classify.hpp"

#include <algorithm>
#include <array>
#include <initializer_list>
#include <string_view>

namespace psource {

namespace {

// Numbers of gRPC status codes (grpc.io, "Status codes").
constexpr int status_ok = 0;
constexpr int status_unknown = 2;
constexpr int status_invalid_argument = 3;
constexpr int status_deadline_exceeded = 4;
constexpr int status_permission_denied = 7;
constexpr int status_unimplemented = 12;
constexpr int status_internal = 13;
constexpr int status_unavailable = 14;
constexpr int status_unauthenticated = 16;

bool has(std::string_view text, std::initializer_list<std::string_view> needles) {
  return std::any_of(needles.begin(), needles.end(),
                     [text](std::string_view needle) { return text.find(needle) != std::string_view::npos; });
}

// The message of a server may be some KiB long; people need its end, where the cause stands, or what stands before the stack
// trace of a panic. It is cut between two words: half a secret would not be recognised as one when the line is masked.
std::string shorten(std::string text) {
  constexpr std::size_t limit = 600;
  if (const auto trace = text.find(". Stack-trace:"); trace != std::string::npos) {
    text.erase(trace);
    text.erase(text.find_last_not_of(" \r\n") + 1);
  }
  if (text.size() <= limit) return text;
  const auto word = text.find(' ', text.size() - limit);
  return "…" + (word == std::string::npos ? std::string() : text.substr(word));
}

// Syntax error, unknown column, unknown table, what vtgate does not support.
bool never_answered(const failure& why) {
  constexpr std::array numbers{"1054", "1064", "1109", "1146", "1235"};
  return why.code == error_code::query_failed && std::any_of(numbers.begin(), numbers.end(), [&why](const std::string& number) {
           return why.detail.rfind(number + ":", 0) == 0 || why.detail.find("(errno " + number + ")") != std::string::npos;
         });
}

// "table customers is not present in the database" → customers
std::string table_in(const std::string& text, std::string_view before, std::string_view after) {
  const auto start = text.find(before);
  if (start == std::string::npos) return {};
  const auto from = start + before.size();
  const auto end = after.empty() ? text.find_first_of(" ,:;", from) : text.find(after, from);
  if (end == std::string::npos && !after.empty()) return {};
  std::string name = text.substr(from, end == std::string::npos ? end : end - from);
  if (name.find(' ') != std::string::npos) return {};
  return name;
}

bool found_no_tablet(std::string_view text) { return has(text, {"failed to find a"}) && has(text, {"tablet for VStream"}); }
bool has_not_executed_the_position(std::string_view text) { return has(text, {"GTIDSet Mismatch"}); }

}  // namespace

bool may_refuse_the_position(std::string_view text) { return found_no_tablet(text) || has_not_executed_the_position(text); }

failure classify_stream_end(const stream_end& end, const stream_place& place) {
  const std::string& text = end.message;
  const std::string where = place.shard.to_string();
  const auto make = [&](error_code code, std::string message) {
    return failure{code, std::move(message), text, std::nullopt};
  };
  const auto of_table = [&](error_code code, const std::string& table, std::string message) {
    failure problem = make(code, std::move(message));
    if (!table.empty()) problem.stream = stream_id{place.shard.keyspace, table_name(table)};
    return problem;
  };

  if (end.status_code == status_ok)
    return make(error_code::stream_broken, "The server closed the stream of " + where + " before its end was reached.");
  if (end.status_code == status_unauthenticated || end.status_code == status_permission_denied)
    return make(error_code::credentials_refused,
                "The server refused the user name or password for " + where + " (" + shorten(text) +
                    "). Check `username` and `password`, and that they may read this branch.");
  // gRPC's own words, of the client's side.
  if (end.status_code == status_unimplemented && has(text, {"Compression algorithm"}))
    return make(error_code::vstream_unavailable,
                "The server compresses its responses (" + shorten(text) +
                    "), which it was not asked for. Look for a proxy before vtgate that does it.");
  if (end.status_code == status_unimplemented)
    return make(error_code::vstream_unavailable,
                "The server at this host and port does not offer VStream. Check `host` and `port` (vtgate's gRPC port), "
                "and that the branch has VStream enabled.");
  if (has(text, {"larger than max", "message size"}))
    return make(error_code::response_too_large,
                "A response of " + where + " is larger than the connector or the server allows (" + shorten(text) +
                    "). A single row of this size cannot be read. Raise --grpc-max-message-size of vtgate and vttablet if "
                    "that is the limit, or deselect the table.");
  if (has(text, {"purged required binary logs", "errno 1236", "errno 1789", "binary logs have been purged"}))
    return make(error_code::position_lost,
                "The binary logs that the saved position of " + where + " needs were purged.");
  if (has_not_executed_the_position(text))
    return make(error_code::stream_broken,
                "The " + std::string(to_string(place.tablet)) + " tablet of " + where +
                    " has not executed all of the position that the stream starts from: it lags behind, or the position "
                    "was lost in a failover. If this stays, use \"Refresh and remove records\" for the stream.");
  if (has(text, {"not all journaling participants"}))
    return make(error_code::shards_changed, "The keyspace " + place.shard.keyspace.str() +
                                                " was resharded and its shards have to be read together from now on.");
  if (has(text, {"shard provided in VGTID"}))
    return make(place.has_position && !place.copies ? error_code::position_lost : error_code::shards_changed,
                "The shard " + where + " no longer exists: the keyspace was resharded and the old shard removed.");
  if (has(text, {"node doesn't exist: keyspaces/"}))
    return make(error_code::keyspace_unknown,
                "The branch has no keyspace \"" + place.shard.keyspace.str() + "\". Check `database`.");
  if (has(text, {"could not decode position", "unknown GTIDSet flavor"}))
    return make(error_code::position_foreign, "The server does not understand the saved position of " + where + ".");
  if (found_no_tablet(text)) {
    // A position that the server cannot serve (purged, or not its own) ends in this text, too.
    // With a position that was read before it is an outage until the binary logs are known to be gone; so is a shard without a
    // primary, while one without replicas may never have had any.
    const bool is_choice = place.tablet != tablet_type::primary;
    return make(place.has_position || !is_choice ? error_code::stream_broken : error_code::tablet_type_missing,
                "No " + std::string(to_string(place.tablet)) + " tablet of " + where + " could serve the stream. " +
                    (is_choice ? "Check `use_replica` and `use_rdonly` against the tablets of the branch"
                               : "The shard may be failing over; if this stays, check `cells`") +
                    (place.has_position ? "; or the saved position can no longer be read there." : "."));
  }
  if (has(text, {"is not present in the database"})) {
    const std::string table = table_in(text, "table ", " is not present");
    return of_table(error_code::table_missing, table,
                    "The table " + place.shard.keyspace.str() + "." + table + " does not exist on " + where +
                        ". Refresh the connection's schema and deselect it.");
  }
  // The last one: Vitess 21 and older.
  if (has(text, {"has no fields defined", "cannot build a row streamer plan", "lastpk value was provided",
                 "primary key values don't match length", "invalid lastpk value for column"})) {
    return of_table(error_code::lastpk_refused, table_in(text, "lastpk for table ", {}),
                    "The server refuses to resume a copy on " + where + ": the primary key has changed.");
  }
  if (has(text, {"partial row image encountered", "minimal binlog_row_image is not supported"}))
    return make(error_code::row_image_incomplete,
                "Changes on " + where +
                    " leave out columns that Vitess needs (binlog_row_image=MINIMAL, on the server or in a session of it). Set "
                    "binlog_row_image=FULL on the database.");
  if (has(text, {"failed to reload schema after DDL"}))
    return make(error_code::stream_broken, "The server was reloading the schema of " + where + " after a DDL.");
  if (has(text, {"cannot determine table columns for ", "unknown table ", "cannot use column names in vstream filter",
                 "failed to build table replication plan", " not found in table "})) {
    std::string table = table_in(text, "cannot determine table columns for ", ":");
    for (const char* before : {"replication plan for table ", "unknown table ", " not found in table "})
      if (table.empty()) table = table_in(text, before, {});
    return of_table(error_code::schema_incompatible, table,
                    "Vitess cannot match older changes on " + where + " with the present columns of " +
                        (table.empty() ? std::string("the table") : place.shard.keyspace.str() + "." + table) +
                        ". --track-schema-versions of vttablet prevents this.");
  }
  if (has(text, {"errno 3024", "maximum statement execution time exceeded"}))
    return make(error_code::copy_time_limit, "The server ended the copy query of " + where + " at its time limit.");
  if (end.status_code == status_unavailable || end.status_code == status_deadline_exceeded) {
    const auto unreachable = [&] {
      return make(error_code::host_unreachable, "No VStream connection for " + where + " (" + shorten(text) +
                                                    "). Check `host` and `port` (the port of gRPC, not of MySQL).");
    };
    // It names the host, which may be called anything.
    if (has(text, {"DNS resolution failed"})) return unreachable();
    // gRPC's own words. vtgate's name keyspaces and tablets, which may be called anything, too.
    if (!has(text, {"target: ", "vttablet: "}) && has(text, {"SSL", "TLS", "ssl", "handshake", "certificate"}))
      return make(error_code::tls_failed, "The TLS handshake for " + where + " failed (" + shorten(text) + ").");
    if (has(text, {"failed to connect to all addresses"})) return unreachable();
    return make(error_code::stream_broken, "The connection of " + where + " broke (" + shorten(text) + ").");
  }
  if (end.status_code == status_unknown && has(text, {"Stream removed"}))
    return make(error_code::stream_broken, "The connection of " + where + " broke (" + shorten(text) + ").");
  // Errors of vttablet; all other ends are the transport's, or the server's as a whole.
  const bool of_server = end.status_code == status_unknown || end.status_code == status_invalid_argument ||
                         end.status_code == status_internal;
  return make(of_server && !has(text, {"throttled"}) ? error_code::stream_failed : error_code::stream_broken,
              "The stream of " + where + " ended with: " + shorten(text) + ".");
}

failure classify_lookup_failure(failure why, const stream_id& table) {
  const bool lasts = why.code == error_code::response_malformed || why.code == error_code::response_too_large ||
                     why.code == error_code::credentials_refused || why.code == error_code::config_invalid ||
                     why.code == error_code::internal || never_answered(why);
  if (lasts)
    why.code = error_code::row_image_incomplete;
  else if (why.code != error_code::host_unreachable && why.code != error_code::tls_failed)
    why.code = error_code::stream_broken;
  why.stream = table;
  why.message = "Changes of " + table.to_string() +
                " leave unchanged columns out, and looking them up failed: " + why.message +
                (lasts ? " Set binlog_row_image=FULL on the database." : "");
  return why;
}

bool is_retryable(error_code code) {
  switch (code) {
    case error_code::host_unreachable:
    case error_code::stream_failed:
    case error_code::stream_broken:
    case error_code::stream_stalled:
    case error_code::copy_time_limit:
    case error_code::response_malformed:
    case error_code::tablet_type_missing:
    case error_code::schema_incompatible:  // a replica's schema cache lags behind a DDL for a moment
    case error_code::tls_failed:  // also a connection that is reset during the handshake
      return true;
    default:
      return false;
  }
}

bool may_pass(const failure& why) {
  return is_retryable(why.code) || (why.code == error_code::query_failed && !never_answered(why));
}

std::chrono::milliseconds retry_delay(unsigned attempt, double jitter) {
  constexpr double first = 1000.0;
  constexpr double longest = 60000.0;
  double delay = first;
  for (unsigned i = 1; i < attempt && delay < longest; ++i) delay *= 6;
  delay = std::min(delay, longest);
  return std::chrono::milliseconds(static_cast<std::int64_t>(delay * (0.5 + jitter / 2)));
}

std::string retry_warning(const failure& why, std::chrono::milliseconds delay, unsigned attempt, unsigned most) {
  return why.message + " Trying again in " + std::to_string(delay.count()) + " ms (" + std::to_string(attempt) + " of " +
         std::to_string(most) + ").";
}

}  // namespace psource
