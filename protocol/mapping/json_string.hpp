// Text into JSON strings: escaping and UTF-8 checks in one pass.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "protocol/mapping/text_buffer.hpp"

namespace psource {

/// Appends the characters of a UTF-8 text as they stand between the quotes of a JSON string. Each byte that
/// is not part of valid UTF-8 becomes U+FFFD (outcome::repaired). Never outcome::impossible.
outcome append_escaped(text_buffer& out, std::string_view text);

/// The same with the quotes, as a string of its own.
std::string quoted_json(std::string_view text);

/// Length of the valid UTF-8 sequence at `text` (1 to 4); 0 when there is none.
std::size_t utf8_length(const unsigned char* text, const unsigned char* end);

/// Writes a code point as UTF-8 (at most 4 bytes), returns the end. Surrogates and values above U+10FFFF
/// become U+FFFD.
char* write_utf8(char* to, std::uint32_t code_point);

/// Writes one code point as it stands in a JSON string (at most 6 bytes), returns the end. Like write_utf8
/// otherwise.
char* write_escaped(char* to, std::uint32_t code_point);

}  // namespace psource
