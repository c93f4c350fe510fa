// Numbers as MySQL and Vitess write them → numbers as JSON wants them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

#include "protocol/mapping/text_buffer.hpp"

namespace psource {

namespace digits {

inline bool is_digit(char c) { return static_cast<unsigned char>(c - '0') < 10; }

/// Copies a word from one place of both texts; not 0 when one of its bytes is no digit.
template <class Word>
Word copy_word(char* to, const char* from, std::size_t at) {
  constexpr Word ones = static_cast<Word>(0x0101010101010101u);
  Word word = 0;
  std::memcpy(&word, from + at, sizeof word);
  std::memcpy(to + at, &word, sizeof word);
  const Word values = word ^ (ones * '0');
  // Above 9, adding 6 reaches the upper half of the byte.
  return (values | (values + ones * 6)) & (ones * 0xF0);
}

/// 18446744073709551615
constexpr std::size_t most = 20;

/// Copies at most `most` bytes; false when one of them is no digit. In words that may overlap.
inline bool copy(char* to, const char* from, std::size_t size) {
  if (size >= 8) {
    std::uint64_t bad = copy_word<std::uint64_t>(to, from, 0) | copy_word<std::uint64_t>(to, from, size - 8);
    if (size > 16) bad |= copy_word<std::uint64_t>(to, from, 8);
    return bad == 0;
  }
  if (size >= 4)
    return (copy_word<std::uint32_t>(to, from, 0) | copy_word<std::uint32_t>(to, from, size - 4)) == 0;
  bool good = true;
  for (std::size_t at = 0; at < size; ++at) {
    good = good && is_digit(from[at]);
    to[at] = from[at];
  }
  return good;
}

}  // namespace digits

/// Digits with an optional '-'; leading zeros go. Writes at most text.size() bytes to `to` and returns their end; null
/// when it is impossible: anything else, or more than 20 digits that count.
inline char* write_integer(char* to, std::string_view text) {
  const char* from = text.data();
  const char* const end = from + text.size();
  const bool negative = from != end && *from == '-';
  if (negative) ++from;
  if (from == end) return nullptr;
  while (from + 1 != end && *from == '0') ++from;
  const auto count = static_cast<std::size_t>(end - from);
  if (count > digits::most) return nullptr;
  if (negative && !(count == 1 && *from == '0')) *to++ = '-';
  return digits::copy(to, from, count) ? to + count : nullptr;
}

/// The same at the end of `out`.
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
