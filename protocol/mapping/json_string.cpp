// Eight bytes at a time while nothing needs care, one character at a time else.
#include "protocol/mapping/json_string.hpp"

#include <cstring>

namespace psource {
namespace {

constexpr char hex_digits[] = "0123456789abcdef";
constexpr char replacement[] = "\xEF\xBF\xBD";

char* write_escape(char* to, unsigned char c) {
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
      std::memcpy(to, "\\u00", 4);
      to[4] = hex_digits[c >> 4];
      to[5] = hex_digits[c & 15];
      return to + 6;
  }
  to[0] = '\\';
  to[1] = letter;
  return to + 2;
}

bool plain(unsigned char c) { return c >= 0x20 && c != '"' && c != '\\'; }

}  // namespace

std::size_t utf8_length(const unsigned char* text, const unsigned char* end) {
  const auto left = end - text;
  if (left <= 0) return 0;
  const unsigned char first = text[0];
  if (first < 0x80) return 1;
  const auto continues = [](unsigned char c) { return (c & 0xC0) == 0x80; };
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
  if (code_point < 0x80 && !plain(static_cast<unsigned char>(code_point)))
    return write_escape(to, static_cast<unsigned char>(code_point));
  return write_utf8(to, code_point);
}

outcome append_escaped(text_buffer& out, std::string_view text) {
  const auto* from = reinterpret_cast<const unsigned char*>(text.data());
  const auto* const end = from + text.size();
  outcome done = outcome::exact;
  // One step writes at most 6 bytes for one that it reads, so with 16 spare bytes checked before each careful
  // step the fast copies below always have room.
  constexpr std::size_t spare = 16;
  char* to = out.reserve(text.size() + spare);
  while (from != end) {
    while (end - from >= 8) {
      std::uint64_t word = 0;
      std::memcpy(&word, from, 8);
      if (needs_escape(word)) break;
      std::memcpy(to, &word, 8);
      from += 8;
      to += 8;
    }
    if (from == end) break;
    const std::size_t need = static_cast<std::size_t>(end - from) + spare;
    if (static_cast<std::size_t>(out.limit() - to) < need) to = out.reserve_at(to, need);
    // At most 8 characters with care before the fast way is tried again; within them each may grow.
    unsigned char c = *from;
    while (c < 0x80 && plain(c)) {
      *to++ = static_cast<char>(c);
      if (++from == end) {
        out.finish(to);
        return done;
      }
      c = *from;
    }
    if (c < 0x80) {
      to = write_escape(to, c);
      ++from;
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
