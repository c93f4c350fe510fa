// Base64 by table. Encoding takes 12 bytes at a time where the processor can shuffle bytes (SSSE3, chosen at run time), because
// columns of megabytes pass through it; else groups of three.
#include "protocol/base64.hpp"

#include <array>
#include <cstddef>
#include <cstdint>

#if defined(__SSE2__)
#include <tmmintrin.h>
#endif

namespace psource {
namespace {

constexpr char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
constexpr std::uint8_t foreign = 0xff;

constexpr std::array<std::uint8_t, 256> make_values() {
  std::array<std::uint8_t, 256> values{};
  for (auto& value : values) value = foreign;
  for (std::uint8_t i = 0; i < 64; ++i) values[static_cast<unsigned char>(alphabet[i])] = i;
  return values;
}
constexpr auto values = make_values();

#if defined(__SSE2__)
// Writes 16 characters for each 12 bytes, as long as 16 bytes can be read; returns how many bytes it used.
//
// The way of W. Mula and D. Lemire, "Faster Base64 Encoding and Decoding using AVX2 Instructions" (2018): each group of three
// bytes becomes four numbers of six bits by multiplications, which are shifts by another distance in each half word; and a
// number becomes its character by what is to be added to it, which is the same for a whole range of numbers.
__attribute__((target("ssse3"))) std::size_t write_by_shuffling(char* to, const unsigned char* from, std::size_t size) {
  // Of the bytes a, b, c of each group: b a c b, so that each number lies within one half word.
  const __m128i spread = _mm_setr_epi8(1, 0, 2, 1, 4, 3, 5, 4, 7, 6, 8, 7, 10, 9, 11, 10);
  // By range: a to z, each of the ten digits, '+', '/', A to Z.
  constexpr char digit = '0' - 52;
  const __m128i to_add = _mm_setr_epi8('a' - 26, digit, digit, digit, digit, digit, digit, digit, digit, digit, digit, '+' - 62,
                                       '/' - 63, 'A', 0, 0);
  std::size_t at = 0;
  for (; size - at >= 16; at += 12, to += 16) {
    const __m128i bytes = _mm_shuffle_epi8(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from + at)), spread);
    const __m128i first_and_third =
        _mm_mulhi_epu16(_mm_and_si128(bytes, _mm_set1_epi32(0x0FC0FC00)), _mm_set1_epi32(0x04000040));
    const __m128i second_and_fourth =
        _mm_mullo_epi16(_mm_and_si128(bytes, _mm_set1_epi32(0x003F03F0)), _mm_set1_epi32(0x01000010));
    const __m128i numbers = _mm_or_si128(first_and_third, second_and_fourth);
    // 0 for letters, 1 to 12 for what is behind them; then 13 for capital letters.
    const __m128i capital = _mm_and_si128(_mm_cmpgt_epi8(_mm_set1_epi8(26), numbers), _mm_set1_epi8(13));
    const __m128i range = _mm_or_si128(_mm_subs_epu8(numbers, _mm_set1_epi8(51)), capital);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm_add_epi8(numbers, _mm_shuffle_epi8(to_add, range)));
  }
  return at;
}
#endif

}  // namespace

void append_base64(std::string& out, std::string_view bytes) {
  const auto start = out.size();
  out.resize(start + (bytes.size() + 2) / 3 * 4);
  write_base64(out.data() + start, bytes);
}

char* write_base64(char* to, std::string_view bytes) {
  const auto* from = reinterpret_cast<const unsigned char*>(bytes.data());
  std::size_t left = bytes.size();
#if defined(__SSE2__)
  static const bool can_shuffle = __builtin_cpu_supports("ssse3") != 0;
  if (can_shuffle && left >= 16) {
    const std::size_t used = write_by_shuffling(to, from, left);
    from += used;
    left -= used;
    to += used / 3 * 4;
  }
#endif
  for (; left >= 3; left -= 3, from += 3, to += 4) {
    const std::uint32_t group = (std::uint32_t{from[0]} << 16) | (std::uint32_t{from[1]} << 8) | from[2];
    to[0] = alphabet[group >> 18];
    to[1] = alphabet[(group >> 12) & 63];
    to[2] = alphabet[(group >> 6) & 63];
    to[3] = alphabet[group & 63];
  }
  if (left == 0) return to;
  const std::uint32_t group = (std::uint32_t{from[0]} << 16) | (left == 2 ? std::uint32_t{from[1]} << 8 : 0);
  to[0] = alphabet[group >> 18];
  to[1] = alphabet[(group >> 12) & 63];
  to[2] = left == 2 ? alphabet[(group >> 6) & 63] : '=';
  to[3] = '=';
  return to + 4;
}

result<std::string> decode_base64(std::string_view text) {
  std::string_view body = text;
  std::size_t padding = 0;
  while (padding < 2 && !body.empty() && body.back() == '=') {
    body.remove_suffix(1);
    ++padding;
  }
  if (body.size() % 4 == 1 || (padding != 0 && (body.size() + padding) % 4 != 0))
    return fail(error_code::state_invalid,
                "A base64 text of " + std::to_string(text.size()) + " characters is incomplete.");
  const auto value_at = [body](std::size_t i) { return std::uint32_t{values[static_cast<unsigned char>(body[i])]}; };
  std::string out(body.size() / 4 * 3, '\0');
  std::size_t i = 0;
  std::size_t written = 0;
  // Groups of four, up to the first foreign character.
  for (; body.size() - i >= 4; i += 4, written += 3) {
    const std::uint32_t group = value_at(i) << 18 | value_at(i + 1) << 12 | value_at(i + 2) << 6 | value_at(i + 3);
    if ((value_at(i) | value_at(i + 1) | value_at(i + 2) | value_at(i + 3)) == foreign) break;
    out[written] = static_cast<char>(group >> 16 & 0xff);
    out[written + 1] = static_cast<char>(group >> 8 & 0xff);
    out[written + 2] = static_cast<char>(group & 0xff);
  }
  out.resize(written);
  std::uint32_t group = 0;
  int bits = 0;
  for (; i < body.size(); ++i) {
    const std::uint32_t value = value_at(i);
    if (value == foreign)
      return fail(error_code::state_invalid,
                  "A base64 text has a character that is not base64 at offset " + std::to_string(i) + ".");
    group = (group << 6) | value;
    bits += 6;
    if (bits >= 8) {
      bits -= 8;
      out.push_back(static_cast<char>((group >> bits) & 0xff));
    }
  }
  if ((group & ((1u << bits) - 1)) != 0)
    return fail(error_code::state_invalid, "A base64 text ends in bits that belong to no byte.");
  return out;
}

}  // namespace psource
