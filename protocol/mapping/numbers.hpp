// Numbers as MySQL and Vitess write them → numbers as JSON wants them.
#pragma once

#include <string_view>

#include "protocol/mapping/text_buffer.hpp"

namespace psource {

/// Digits with an optional '-'; leading zeros go. More than 20 digits that count are impossible.
outcome append_integer(text_buffer& out, std::string_view text);

/// "0" (any number of zeros) → false, other integers → true.
outcome append_boolean(text_buffer& out, std::string_view text);

/// Every digit is kept but leading zeros; ".5" gets its 0, and "-0.00" loses its sign.
outcome append_decimal(text_buffer& out, std::string_view text);

/// Text of a FLOAT or DOUBLE in any of the usual forms → the shortest text that reads back as the same value
/// of that width. Never NaN or Infinity: these are impossible.
outcome append_float32(text_buffer& out, std::string_view text);
outcome append_float64(text_buffer& out, std::string_view text);

/// The shortest text of a finite value: 0.1, 16777216, 3.4e38. Plain digits from 1e-5 up to 1e15, as MySQL
/// does, else an exponent.
void append_number(text_buffer& out, float value);
void append_number(text_buffer& out, double value);

/// Unsigned big-endian bytes, 1 to 8 of them.
outcome append_bits(text_buffer& out, std::string_view bytes);

/// BIT(1): true when any bit is set.
outcome append_bit_boolean(text_buffer& out, std::string_view bytes);

/// VECTOR: little-endian float32 values → [1,2.5].
outcome append_vector(text_buffer& out, std::string_view bytes);

}  // namespace psource
