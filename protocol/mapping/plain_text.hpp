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

/// What vector instructions take at once.
constexpr std::size_t block_size = 16;

#if defined(__SSE2__) || defined(__aarch64__)
constexpr bool has_blocks = true;

/// 16 bytes of text. Sets of its bytes are masks: bit `bits` × i stands for byte i.
class block {
 public:
#if defined(__SSE2__)
  using mask = std::uint32_t;
  static constexpr unsigned bits = 1;

  explicit block(const unsigned char* from) : bytes_(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from))) {}
  void store(char* to) const { _mm_storeu_si128(reinterpret_cast<__m128i*>(to), bytes_); }
  /// Those that are not plain. The quote and the blank change places, so that the quote is next to what is below 0x20; bytes
  /// from 0x80 on are negative before, and stay so because the subtraction saturates.
  mask special() const {
    const __m128i swapped = _mm_xor_si128(bytes_, _mm_set1_epi8('"' ^ ' '));
    const __m128i found = _mm_or_si128(_mm_subs_epi8(swapped, _mm_set1_epi8(0x21)),
                                       _mm_cmpeq_epi8(bytes_, _mm_set1_epi8('\\')));
    return static_cast<mask>(_mm_movemask_epi8(found));
  }
  mask beyond_ascii() const { return static_cast<mask>(_mm_movemask_epi8(bytes_)); }

 private:
  __m128i bytes_;
#else
  using mask = std::uint64_t;
  static constexpr unsigned bits = 4;

  explicit block(const unsigned char* from) : bytes_(vld1q_u8(from)) {}
  void store(char* to) const { vst1q_u8(reinterpret_cast<std::uint8_t*>(to), bytes_); }
  /// Those that are not plain.
  mask special() const {
    return mask_of(vorrq_u8(vcltq_s8(vreinterpretq_s8_u8(bytes_), vdupq_n_s8(0x20)),
                            vorrq_u8(vceqq_u8(bytes_, vdupq_n_u8('"')), vceqq_u8(bytes_, vdupq_n_u8('\\')))));
  }
  mask beyond_ascii() const { return mask_of(vcltq_s8(vreinterpretq_s8_u8(bytes_), vdupq_n_s8(0))); }

 private:
  static mask mask_of(uint8x16_t found) {
    return vget_lane_u64(vreinterpret_u64_u8(vshrn_n_u16(vreinterpretq_u16_u8(found), 4)), 0) & 0x1111111111111111u;
  }
  uint8x16_t bytes_;
#endif

 public:
  /// The first byte of a set that is not empty.
  static std::size_t first(mask set) { return static_cast<std::size_t>(__builtin_ctzll(set)) / bits; }
};

/// Copies text block by block, `most` bytes at most (whole blocks, or all of `size`), and has `write(to, byte)` write each byte
/// that is not plain and return the end; returns how many bytes it took. It reads a block further than it takes, and so leaves
/// the last ones of `size`. With `Ascii`, it stops before the first byte beyond ASCII. `to` needs room for what is written, and
/// for a block more. Takes nothing where there are no vector instructions.
template <bool Ascii, class Write>
std::size_t copy_blocks(char*& to, const unsigned char* from, std::size_t size, std::size_t most, Write write) {
  std::size_t at = 0;
  while (size - at >= 2 * block_size && at < most) {
    const block text(from + at);
    text.store(to);
    block::mask special = text.special();
    std::size_t end = block_size;
    if (Ascii) {
      if (const block::mask beyond = text.beyond_ascii(); beyond != 0) {
        end = block::first(beyond);
        special &= (block::mask{1} << end * block::bits) - 1;
      }
    }
    std::size_t taken = 0;
    for (; special != 0; special &= special - 1) {
      const std::size_t next = block::first(special);
      to = write(to + (next - taken), from[at + next]);
      taken = next + 1;
      block(from + at + taken).store(to);
    }
    to += end - taken;
    at += end;
    if (end != block_size) break;
  }
  return at;
}
#else
constexpr bool has_blocks = false;
template <bool Ascii, class Write>
std::size_t copy_blocks(char*&, const unsigned char*, std::size_t, std::size_t, Write) {
  return 0;
}
#endif

}  // namespace plain_text

/// Copies plain bytes up to the first one that is not, or to the end; returns how many. `to` needs room for
/// size + plain_slack bytes; what is behind the copied ones is undefined.
inline std::size_t copy_plain(char* to, const unsigned char* from, std::size_t size) {
#if defined(__SSE2__) || defined(__aarch64__)
  using plain_text::block;
  using plain_text::block_size;
  std::size_t at = 0;
  for (; size - at >= block_size; at += block_size) {
    const block text(from + at);
    text.store(to + at);
    const block::mask special = text.special();
    if (special != 0) return at + block::first(special);
  }
  if (at == size) return size;
  if (at == 0) return plain_text::copy_short(to, from, size);
  // The last bytes: those that were copied before are copied again.
  at = size - block_size;
  const block text(from + at);
  text.store(to + at);
  const block::mask special = text.special();
  return special == 0 ? size : at + block::first(special);
#else
  return plain_text::copy_by_words(to, from, size);
#endif
}

}  // namespace psource
