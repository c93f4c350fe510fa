// Many bytes at a time while nothing needs care (plain_text.hpp, letters.hpp), one character at a time else.
#include "protocol/mapping/json_string.hpp"

#include <algorithm>
#include <array>
#include <cstring>

#include "protocol/mapping/letters.hpp"
#include "protocol/mapping/plain_text.hpp"

namespace psource {
namespace {

constexpr char replacement[] = "\xEF\xBF\xBD";

/// How an ASCII character stands in a JSON string; the text is copied whole.
struct escape {
  char text[7] = {};
  std::uint8_t length = 0;
};

constexpr std::array<escape, 128> make_escapes() {
  constexpr char hex_digits[] = "0123456789abcdef";
  std::array<escape, 128> all{};
  for (unsigned c = 0; c < 128; ++c) {
    escape& one = all[c];
    char letter = 0;
    switch (c) {
      case '"':
      case '\\':
        letter = static_cast<char>(c);
        break;
      case '\b':
        letter = 'b';
        break;
      case '\f':
        letter = 'f';
        break;
      case '\n':
        letter = 'n';
        break;
      case '\r':
        letter = 'r';
        break;
      case '\t':
        letter = 't';
        break;
      default:
        break;
    }
    if (letter != 0) {
      one.text[0] = '\\';
      one.text[1] = letter;
      one.length = 2;
    } else if (c < 0x20) {
      const char code[] = {'\\', 'u', '0', '0', hex_digits[c >> 4], hex_digits[c & 15]};
      for (unsigned i = 0; i < 6; ++i) one.text[i] = code[i];
      one.length = 6;
    } else {
      one.text[0] = static_cast<char>(c);
      one.length = 1;
    }
  }
  return all;
}

constexpr std::array<escape, 128> escapes = make_escapes();

constexpr std::size_t longest_escape = 6;

/// Of an ASCII character. Writes a byte or two more than count.
char* write_escape(char* to, unsigned char c) {
  const escape& one = escapes[c];
  std::memcpy(to, one.text, sizeof one.text);
  return to + one.length;
}

bool continues(unsigned char c) { return (c & 0xC0) == 0x80; }

}  // namespace

std::size_t utf8_length(const unsigned char* text, const unsigned char* end) {
  const auto left = end - text;
  if (left <= 0) return 0;
  const unsigned char first = text[0];
  if (first < 0x80) return 1;
  if (first < 0xC2) return 0;
  if (first < 0xE0) return left >= 2 && continues(text[1]) ? 2 : 0;
  if (first < 0xF0) {
    if (left < 3 || !continues(text[1]) || !continues(text[2])) return 0;
    if (first == 0xE0 && text[1] < 0xA0) return 0;   // longer than needed
    if (first == 0xED && text[1] >= 0xA0) return 0;  // surrogates
    return 3;
  }
  if (first > 0xF4 || left < 4 || !continues(text[1]) || !continues(text[2]) || !continues(text[3])) return 0;
  if (first == 0xF0 && text[1] < 0x90) return 0;
  if (first == 0xF4 && text[1] >= 0x90) return 0;  // above U+10FFFF
  return 4;
}

char* write_utf8(char* to, std::uint32_t c) {
  if (c > 0x10FFFF || (c >= 0xD800 && c < 0xE000)) c = 0xFFFD;
  if (c < 0x80) {
    *to++ = static_cast<char>(c);
  } else if (c < 0x800) {
    *to++ = static_cast<char>(0xC0 | (c >> 6));
    *to++ = static_cast<char>(0x80 | (c & 0x3F));
  } else if (c < 0x10000) {
    *to++ = static_cast<char>(0xE0 | (c >> 12));
    *to++ = static_cast<char>(0x80 | ((c >> 6) & 0x3F));
    *to++ = static_cast<char>(0x80 | (c & 0x3F));
  } else {
    *to++ = static_cast<char>(0xF0 | (c >> 18));
    *to++ = static_cast<char>(0x80 | ((c >> 12) & 0x3F));
    *to++ = static_cast<char>(0x80 | ((c >> 6) & 0x3F));
    *to++ = static_cast<char>(0x80 | (c & 0x3F));
  }
  return to;
}

char* write_escaped(char* to, std::uint32_t code_point) {
  if (code_point >= 0x80) return write_utf8(to, code_point);
  const escape& one = escapes[code_point];
  std::memcpy(to, one.text, one.length);
  return to + one.length;
}

outcome append_escaped(text_buffer& out, std::string_view text) {
  const auto* from = reinterpret_cast<const unsigned char*>(text.data());
  const auto* const end = from + text.size();
  outcome done = outcome::exact;
  // One character with care writes at most 8 bytes, of which at most 6 count.
  constexpr std::size_t spare = plain_slack + 8;
  char* to = out.reserve(text.size() + spare);
  // Where many letters at once were tried without success, they are not for so many bytes: twice as many each time.
  constexpr std::ptrdiff_t shortest_pause = 16;
  constexpr std::ptrdiff_t longest_pause = 256;
  std::ptrdiff_t pause = shortest_pause;
  const unsigned char* next_try = from;
  for (;;) {
    const std::size_t copied = copy_plain(to, from, static_cast<std::size_t>(end - from));
    from += copied;
    to += copied;
    if (from == end) break;
    do {
      const auto left = static_cast<std::size_t>(end - from);
      const std::size_t need = left + spare;
      if (static_cast<std::size_t>(out.limit() - to) < need) to = out.reserve_at(to, need);
      const unsigned char c = *from;
      if (c < 0x80) {
        // Where one has to be escaped, there are mostly more. In small steps, so that little more is reserved than is written.
        constexpr std::size_t step = 16 * plain_text::block_size;
        if (plain_text::has_blocks && left >= 2 * plain_text::block_size) {
          to = out.reserve_at(to, left + step * longest_escape + spare);
          from += plain_text::copy_blocks<true>(to, from, left, step, write_escape);
          continue;
        }
        to = write_escape(to, c);
        ++from;
        continue;
      }
      if (from >= next_try) {
        const std::size_t letters = copy_letters(to, from, left);
        from += letters;
        to += letters;
        next_try = from + pause;
        if (letters != 0) {
          pause = shortest_pause;
          continue;
        }
        pause = std::min(2 * pause, longest_pause);
      }
      // Letters of two and of three bytes are most of what comes here; utf8_length() knows all.
      if (left >= 2 && c >= 0xC2 && c < 0xE0 && continues(from[1])) {
        std::memcpy(to, from, 2);
        to += 2;
        from += 2;
        continue;
      }
      if (left >= 3 && c > 0xE0 && c < 0xF0 && c != 0xED && continues(from[1]) && continues(from[2])) {
        std::memcpy(to, from, 3);
        to += 3;
        from += 3;
        continue;
      }
      const std::size_t length = utf8_length(from, end);
      if (length == 0) {
        std::memcpy(to, replacement, 3);
        to += 3;
        ++from;
        done = outcome::repaired;
        continue;
      }
      for (std::size_t i = 0; i < length; ++i) to[i] = static_cast<char>(from[i]);
      to += length;
      from += length;
    } while (from != end && !is_plain(*from));
    if (from == end) break;
  }
  out.finish(to);
  return done;
}

std::string quoted_json(std::string_view text) {
  text_buffer out;
  out.push('"');
  append_escaped(out, text);
  out.push('"');
  return std::string(out.view());
}

}  // namespace psource
