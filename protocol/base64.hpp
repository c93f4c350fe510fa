// Standard base64 (RFC 4648, with padding) for binary columns, cursors and packed states.
#pragma once

#include <string>
#include <string_view>

#include "protocol/failure.hpp"

namespace psource {

/// Appends the base64 form of `bytes` to `out`: 4 characters for every 3 bytes, padded with '='. Never fails.
void append_base64(std::string& out, std::string_view bytes);

/// Writes the base64 form to memory that has room for (bytes.size() + 2) / 3 * 4 characters; returns its end.
/// Never fails.
char* write_base64(char* to, std::string_view bytes);

/// The bytes behind `text`. Padding may be left out at the end; a line break or any other foreign character,
/// and non-zero bits behind the last byte, are refused (code state_invalid; the message names the offset).
result<std::string> decode_base64(std::string_view text);

}  // namespace psource
