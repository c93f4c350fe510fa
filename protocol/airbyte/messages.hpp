// Airbyte's messages, each as one complete line ending in '\n'. Records are not here: mapping encodes them.
//
// Every text that can hold something from a server passes a redactor. Bytes that are no UTF-8 become U+FFFD.
// All functions are pure and may be called from any thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "protocol/airbyte/catalog.hpp"
#include "protocol/failure.hpp"
#include "protocol/names.hpp"

namespace psource {

/// Milliseconds since 1970, UTC.
using epoch_milliseconds = std::chrono::milliseconds;

enum class log_level : std::uint8_t { fatal, error, warn, info, debug, trace };
enum class stream_status : std::uint8_t { started, running, complete, incomplete };

/// Replaces secrets by "****". Immutable; copies are cheap enough for start-up, share it by reference
/// otherwise.
class redactor {
 public:
  /// Changes nothing.
  redactor() = default;
  /// Secrets shorter than 3 characters are left alone: hiding them would spoil every text and so reveal them.
  /// Of a text of several lines (a PEM key) every longer line is a secret too.
  explicit redactor(std::vector<std::string> secrets);
  std::string operator()(std::string_view text) const;

 private:
  std::vector<std::string> secrets_;  // longest first
};

std::string log_line(log_level level, std::string_view text, const redactor& hide);
std::string connection_status_line(bool succeeded, std::string_view message, const redactor& hide);
std::string spec_line();
std::string catalog_line(const std::vector<discovered_stream>& streams);

/// A STREAM state. `state_json` is the body (stream_state_json()); `records` are those of the stream since
/// its previous state, printed as a number with a decimal point (12.0), as the protocol's schema asks and the
/// reference writers do.
std::string state_line(const stream_id& stream, std::string_view state_json, std::uint64_t records);

/// The class is that of the failure's code; its stream becomes the stream_descriptor; its detail the
/// internal_message.
std::string trace_error_line(const failure& what, epoch_milliseconds emitted_at, const redactor& hide);
std::string stream_status_line(const stream_id& stream, stream_status status, epoch_milliseconds emitted_at);
/// A STREAM estimate.
std::string estimate_line(const stream_id& stream, std::uint64_t rows, epoch_milliseconds emitted_at);

}  // namespace psource
