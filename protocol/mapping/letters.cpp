// Implementation of letters.hpp.
//
// The check is the one of J. Keiser and D. Lemire, "Validating UTF-8 in less than one instruction per byte" (2020): three
// tables, looked up by half bytes, say of each pair of neighbours which errors it may be part of; an error is what all three
// agree on. What they cannot see are the third and fourth bytes of a character, which are counted from its first one.
#include "protocol/mapping/letters.hpp"

#include <cstdint>

#if defined(__SSE2__)
#include <tmmintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

namespace psource {

#if defined(__SSE2__) || defined(__aarch64__)
namespace {

// Errors that a pair of bytes may be; a bit each.
constexpr std::uint8_t too_short = 1;      // a first byte, and no continuation behind it
constexpr std::uint8_t too_long = 2;       // ASCII, and a continuation behind it
constexpr std::uint8_t overlong_3 = 4;     // E0 80 to E0 9F
constexpr std::uint8_t too_large = 8;      // F4 90 and above
constexpr std::uint8_t surrogate = 16;     // ED A0 to ED BF
constexpr std::uint8_t overlong_2 = 32;    // C0, C1
constexpr std::uint8_t beyond_f4 = 64;     // F5 and above with 80 to 8F behind it; and F0 80 to F0 8F, which is overlong
constexpr std::uint8_t two_continuations = 128;  // right only as third and fourth bytes
// Whatever the lower half of the first byte is.
constexpr std::uint8_t any = too_short | too_long | two_continuations;

alignas(16) constexpr std::uint8_t by_first_high[16] = {
    too_long,
    too_long,
    too_long,
    too_long,
    too_long,
    too_long,
    too_long,
    too_long,
    two_continuations,
    two_continuations,
    two_continuations,
    two_continuations,
    too_short | overlong_2,
    too_short,
    too_short | overlong_3 | surrogate,
    too_short | too_large | beyond_f4,
};
alignas(16) constexpr std::uint8_t by_first_low[16] = {
    any | overlong_3 | overlong_2 | beyond_f4,
    any | overlong_2,
    any,
    any,
    any | too_large,
    any | too_large | beyond_f4,
    any | too_large | beyond_f4,
    any | too_large | beyond_f4,
    any | too_large | beyond_f4,
    any | too_large | beyond_f4,
    any | too_large | beyond_f4,
    any | too_large | beyond_f4,
    any | too_large | beyond_f4,
    any | too_large | beyond_f4 | surrogate,
    any | too_large | beyond_f4,
    any | too_large | beyond_f4,
};
constexpr std::uint8_t continuation = too_long | overlong_2 | two_continuations;
alignas(16) constexpr std::uint8_t by_second_high[16] = {
    too_short,
    too_short,
    too_short,
    too_short,
    too_short,
    too_short,
    too_short,
    too_short,
    continuation | overlong_3 | beyond_f4,
    continuation | overlong_3 | too_large,
    continuation | surrogate | too_large,
    continuation | surrogate | too_large,
    too_short,
    too_short,
    too_short,
    too_short,
};

// Without the first bytes of a character that goes on behind `size`.
std::size_t whole_characters(const unsigned char* text, std::size_t size) {
  for (std::size_t back = 1; back <= 3 && back <= size; ++back) {
    const unsigned char c = text[size - back];
    if (c < 0x80) return size;
    if (c < 0xC0) continue;
    const std::size_t length = c < 0xE0 ? 2 : c < 0xF0 ? 3 : 4;
    return length > back ? size - back : size;
  }
  return size;
}

#if defined(__SSE2__)
__attribute__((target("ssse3"))) std::size_t copy_checked(char* to, const unsigned char* from, std::size_t size) {
  const auto load = [](const void* at) { return _mm_loadu_si128(static_cast<const __m128i*>(at)); };
  const __m128i first_high = load(by_first_high);
  const __m128i first_low = load(by_first_low);
  const __m128i second_high = load(by_second_high);
  const __m128i low_half = _mm_set1_epi8(0x0F);
  __m128i before = _mm_setzero_si128();
  std::size_t at = 0;
  for (; size - at >= 16; at += 16) {
    const __m128i bytes = load(from + at);
    // ASCII that needs an escape. Bytes from 0x80 on are not below 0x20 when their signs do not count.
    const __m128i escapes = _mm_or_si128(
        _mm_cmpeq_epi8(_mm_min_epu8(bytes, _mm_set1_epi8(0x1F)), bytes),
        _mm_or_si128(_mm_cmpeq_epi8(bytes, _mm_set1_epi8('"')), _mm_cmpeq_epi8(bytes, _mm_set1_epi8('\\'))));
    const __m128i one_back = _mm_alignr_epi8(bytes, before, 15);
    const __m128i pairs = _mm_and_si128(
        _mm_shuffle_epi8(first_high, _mm_and_si128(_mm_srli_epi16(one_back, 4), low_half)),
        _mm_and_si128(_mm_shuffle_epi8(first_low, _mm_and_si128(one_back, low_half)),
                      _mm_shuffle_epi8(second_high, _mm_and_si128(_mm_srli_epi16(bytes, 4), low_half))));
    // The high bit is set where a third or a fourth byte has to be.
    const __m128i third = _mm_subs_epu8(_mm_alignr_epi8(bytes, before, 14), _mm_set1_epi8(0xE0 - 0x80));
    const __m128i fourth = _mm_subs_epu8(_mm_alignr_epi8(bytes, before, 13), _mm_set1_epi8(0xF0 - 0x80));
    const __m128i later = _mm_and_si128(_mm_or_si128(third, fourth), _mm_set1_epi8(static_cast<char>(0x80)));
    const __m128i errors = _mm_or_si128(escapes, _mm_xor_si128(later, pairs));
    if (_mm_movemask_epi8(_mm_cmpeq_epi8(errors, _mm_setzero_si128())) != 0xFFFF) break;
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to + at), bytes);
    before = bytes;
  }
  return whole_characters(from, at);
}
#else
std::size_t copy_checked(char* to, const unsigned char* from, std::size_t size) {
  const uint8x16_t first_high = vld1q_u8(by_first_high);
  const uint8x16_t first_low = vld1q_u8(by_first_low);
  const uint8x16_t second_high = vld1q_u8(by_second_high);
  const uint8x16_t low_half = vdupq_n_u8(0x0F);
  uint8x16_t before = vdupq_n_u8(0);
  std::size_t at = 0;
  for (; size - at >= 16; at += 16) {
    const uint8x16_t bytes = vld1q_u8(from + at);
    const uint8x16_t escapes =
        vorrq_u8(vcltq_u8(bytes, vdupq_n_u8(0x20)),
                 vorrq_u8(vceqq_u8(bytes, vdupq_n_u8('"')), vceqq_u8(bytes, vdupq_n_u8('\\'))));
    const uint8x16_t one_back = vextq_u8(before, bytes, 15);
    const uint8x16_t pairs = vandq_u8(
        vqtbl1q_u8(first_high, vshrq_n_u8(one_back, 4)),
        vandq_u8(vqtbl1q_u8(first_low, vandq_u8(one_back, low_half)), vqtbl1q_u8(second_high, vshrq_n_u8(bytes, 4))));
    const uint8x16_t third = vqsubq_u8(vextq_u8(before, bytes, 14), vdupq_n_u8(0xE0 - 0x80));
    const uint8x16_t fourth = vqsubq_u8(vextq_u8(before, bytes, 13), vdupq_n_u8(0xF0 - 0x80));
    const uint8x16_t later = vandq_u8(vorrq_u8(third, fourth), vdupq_n_u8(0x80));
    if (vmaxvq_u8(vorrq_u8(escapes, veorq_u8(later, pairs))) != 0) break;
    vst1q_u8(reinterpret_cast<std::uint8_t*>(to + at), bytes);
    before = bytes;
  }
  return whole_characters(from, at);
}
#endif

}  // namespace
#endif

std::size_t copy_letters(char* to, const unsigned char* from, std::size_t size) {
#if defined(__SSE2__)
  static const bool has_shuffle = __builtin_cpu_supports("ssse3") != 0;
  return has_shuffle ? copy_checked(to, from, size) : 0;
#elif defined(__aarch64__)
  return copy_checked(to, from, size);
#else
  static_cast<void>(to), static_cast<void>(from), static_cast<void>(size);
  return 0;
#endif
}

}  // namespace psource
