// Finds and copies what a JSON string holds as it is: printable ASCII without quotes and backslashes.
//
// 16 bytes at a time with the vector instructions that every x86-64 (SSE2) and every 64-bit ARM (NEON) has, so nothing is
// chosen at run time; 8 bytes at a time elsewhere.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#if defined(__SSE2__)
#include <emmintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

namespace psource {

/// The character stands for itself, in one byte.
inline bool is_plain(unsigned char c) { return c >= 0x20 && c < 0x80 && c != '"' && c != '\\'; }

/// True when any of 8 bytes is not plain.
inline bool needs_escape(std::uint64_t word) {
  constexpr std::uint64_t ones = 0x0101010101010101u;
  constexpr std::uint64_t highs = 0x8080808080808080u;
  // The quote and the blank change places: so the quote is next to what is below 0x20.
  const std::uint64_t swapped = word ^ (ones * ('"' ^ ' '));
  const std::uint64_t backslash = word ^ (ones * '\\');
  // A byte is below n when subtracting n borrows from its high bit; borrows run upwards only, so the lowest
  // hit is true.
  const std::uint64_t hits = ((swapped - ones * 0x21) | (backslash - ones) | word) & highs;
  return hits != 0;
}

/// Writes behind the copied bytes at most; copy_plain() needs so much room beyond the text.
constexpr std::size_t plain_slack = 16;

namespace plain_text {

/// The same without vector instructions; copy_plain() falls back to it, and tests compare the two.
inline std::size_t copy_by_words(char* to, const unsigned char* from, std::size_t size) {
  std::size_t at = 0;
  for (; size - at >= 8; at += 8) {
    std::uint64_t word = 0;
    std::memcpy(&word, from + at, 8);
    if (needs_escape(word)) break;
    std::memcpy(to + at, &word, 8);
  }
  for (; at != size && is_plain(from[at]); ++at) to[at] = static_cast<char>(from[at]);
  return at;
}

/// Copies fewer than 16 bytes, all of them or as far as they are plain.
inline std::size_t copy_short(char* to, const unsigned char* from, std::size_t size) {
  if (size >= 8) {
    // Two words that may overlap.
    std::uint64_t first = 0;
    std::uint64_t last = 0;
    std::memcpy(&first, from, 8);
    std::memcpy(&last, from + size - 8, 8);
    if (!needs_escape(first) && !needs_escape(last)) {
      std::memcpy(to, &first, 8);
      std::memcpy(to + size - 8, &last, 8);
      return size;
    }
  } else if (size >= 4) {
    std::uint32_t first = 0;
    std::uint32_t last = 0;
    std::memcpy(&first, from, 4);
    std::memcpy(&last, from + size - 4, 4);
    if (!needs_escape(std::uint64_t{first} | std::uint64_t{last} << 32)) {
      std::memcpy(to, &first, 4);
      std::memcpy(to + size - 4, &last, 4);
      return size;
    }
  }
  std::size_t at = 0;
  for (; at != size && is_plain(from[at]); ++at) to[at] = static_cast<char>(from[at]);
  return at;
}

}  // namespace plain_text

/// Copies plain bytes up to the first one that is not, or to the end; returns how many. `to` needs room for
/// size + plain_slack bytes; what is behind the copied ones is undefined.
inline std::size_t copy_plain(char* to, const unsigned char* from, std::size_t size) {
#if defined(__SSE2__)
  const __m128i quote_to_blank = _mm_set1_epi8('"' ^ ' ');
  const __m128i behind = _mm_set1_epi8(0x21);
  const __m128i backslash = _mm_set1_epi8('\\');
  // One bit for each byte that is not plain: its sign. The quote and the blank change places, so that the quote is next to what
  // is below 0x20; bytes from 0x80 on are negative before, and stay so because the subtraction saturates.
  const auto hits = [&](__m128i bytes) {
    const __m128i found = _mm_or_si128(_mm_subs_epi8(_mm_xor_si128(bytes, quote_to_blank), behind),
                                       _mm_cmpeq_epi8(bytes, backslash));
    return static_cast<unsigned>(_mm_movemask_epi8(found));
  };
  std::size_t at = 0;
  for (; size - at >= 16; at += 16) {
    const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + at));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to + at), bytes);
    const unsigned found = hits(bytes);
    if (found != 0) return at + static_cast<std::size_t>(__builtin_ctz(found));
  }
  const std::size_t left = size - at;
  if (left == 0) return size;
  if (at == 0) return plain_text::copy_short(to, from, size);
  // The last 16 bytes: those that were copied before are copied again.
  const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + size - 16));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(to + size - 16), bytes);
  const unsigned found = hits(bytes);
  return found == 0 ? size : size - 16 + static_cast<std::size_t>(__builtin_ctz(found));
#elif defined(__aarch64__)
  const auto hits = [](uint8x16_t bytes) {
    const uint8x16_t found =
        vorrq_u8(vcltq_s8(vreinterpretq_s8_u8(bytes), vdupq_n_s8(0x20)),
                 vorrq_u8(vceqq_u8(bytes, vdupq_n_u8('"')), vceqq_u8(bytes, vdupq_n_u8('\\'))));
    // Four bits for each byte.
    return vget_lane_u64(vreinterpret_u64_u8(vshrn_n_u16(vreinterpretq_u16_u8(found), 4)), 0);
  };
  std::size_t at = 0;
  for (; size - at >= 16; at += 16) {
    const uint8x16_t bytes = vld1q_u8(from + at);
    vst1q_u8(reinterpret_cast<std::uint8_t*>(to + at), bytes);
    const std::uint64_t found = hits(bytes);
    if (found != 0) return at + static_cast<std::size_t>(__builtin_ctzll(found)) / 4;
  }
  const std::size_t left = size - at;
  if (left == 0) return size;
  if (at == 0) return plain_text::copy_short(to, from, size);
  const uint8x16_t bytes = vld1q_u8(from + size - 16);
  vst1q_u8(reinterpret_cast<std::uint8_t*>(to + size - 16), bytes);
  const std::uint64_t found = hits(bytes);
  return found == 0 ? size : size - 16 + static_cast<std::size_t>(__builtin_ctzll(found)) / 4;
#else
  return plain_text::copy_by_words(to, from, size);
#endif
}

}  // namespace psource
