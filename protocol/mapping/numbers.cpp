// Hand-written scans: these texts are short, and a general parser would cost more than the rest of the row.
#include "protocol/mapping/numbers.hpp"

#include <charconv>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <system_error>
#include <type_traits>

namespace psource {
namespace {

using digits::is_digit;

/// The shortest digits of a float that has no fraction, and zeros for the rest of them. std::to_chars(fixed) would write all
/// digits of the binary value: 99999997952 for 1e11.
char* write_whole(char* to, float value) {
  char text[32];
  const char* const end = std::to_chars(text, text + sizeof text, value, std::chars_format::scientific).ptr;
  const char* from = text;
  if (*from == '-') *to++ = *from++;
  const char* const first = to;
  for (; *from != 'e'; ++from)
    if (*from != '.') *to++ = *from;
  int exponent = 0;
  std::from_chars(from + 2, end, exponent);  // behind "e+"
  while (to - first <= exponent) *to++ = '0';
  return to;
}

template <class Float>
void append_shortest(text_buffer& out, Float value) {
  const Float size = std::fabs(value);
  char* to = out.reserve(64);
  if (size == 0 || (size >= Float(1e-5) && size < Float(1e15))) {
    if constexpr (std::is_same_v<Float, float>)
      if (size >= 16777216.0F) return out.finish(write_whole(to, value));
    out.finish(std::to_chars(to, to + 64, value, std::chars_format::fixed).ptr);
    return;
  }
  char* const end = std::to_chars(to, to + 64, value, std::chars_format::scientific).ptr;
  // to_chars writes e+38 and e-05: JSON allows it, but e38 and e-5 are shorter.
  char* from = to;
  while (from != end && *from != 'e') ++from;
  char* write = from + 1;
  ++from;
  if (*from == '-') *write++ = '-';
  ++from;
  while (from + 1 != end && *from == '0') ++from;
  while (from != end) *write++ = *from++;
  out.finish(write);
}

template <class Float>
outcome append_float_text(text_buffer& out, std::string_view text) {
  Float value = 0;
  const char* const end = text.data() + text.size();
  const auto parsed = std::from_chars(text.data(), end, value, std::chars_format::general);
  if (text.empty() || parsed.ec != std::errc() || parsed.ptr != end || !std::isfinite(value))
    return outcome::impossible;
  append_shortest(out, value);
  return outcome::exact;
}

}  // namespace

outcome append_integer(text_buffer& out, std::string_view text) {
  char* const end = write_integer(out.reserve(text.size()), text);
  if (end == nullptr) return outcome::impossible;
  out.finish(end);
  return outcome::exact;
}

outcome append_boolean(text_buffer& out, std::string_view text) {
  if (!text.empty() && text.front() == '-') text.remove_prefix(1);
  if (text.empty()) return outcome::impossible;
  bool any = false;
  for (char c : text) {
    if (!is_digit(c)) return outcome::impossible;
    any = any || c != '0';
  }
  out.append(any ? "true" : "false");
  return outcome::exact;
}

outcome append_decimal(text_buffer& out, std::string_view text) {
  const bool negative = !text.empty() && text.front() == '-';
  if (negative) text.remove_prefix(1);
  const auto point = text.find('.');
  std::string_view whole = text.substr(0, point);
  const std::string_view fraction =
      point == std::string_view::npos ? std::string_view() : text.substr(point + 1);
  if (whole.empty() && fraction.empty()) return outcome::impossible;
  bool any = false;
  for (char c : whole) {
    if (!is_digit(c)) return outcome::impossible;
    any = any || c != '0';
  }
  for (char c : fraction) {
    if (!is_digit(c)) return outcome::impossible;
    any = any || c != '0';
  }
  while (!whole.empty() && whole.front() == '0') whole.remove_prefix(1);
  char* to = out.reserve(whole.size() + fraction.size() + 3);
  if (negative && any) *to++ = '-';
  if (whole.empty()) *to++ = '0';
  if (!whole.empty()) std::memcpy(to, whole.data(), whole.size());
  to += whole.size();
  if (!fraction.empty()) {
    *to++ = '.';
    std::memcpy(to, fraction.data(), fraction.size());
    to += fraction.size();
  }
  out.finish(to);
  return outcome::exact;
}

outcome append_float32(text_buffer& out, std::string_view text) {
  return append_float_text<float>(out, text);
}
outcome append_float64(text_buffer& out, std::string_view text) {
  return append_float_text<double>(out, text);
}
void append_number(text_buffer& out, float value) { append_shortest(out, value); }
void append_number(text_buffer& out, double value) { append_shortest(out, value); }

outcome append_bits(text_buffer& out, std::string_view bytes) {
  if (bytes.empty() || bytes.size() > 8) return outcome::impossible;
  std::uint64_t value = 0;
  for (char c : bytes) value = (value << 8) | static_cast<unsigned char>(c);
  char* to = out.reserve(24);
  out.finish(std::to_chars(to, to + 24, value).ptr);
  return outcome::exact;
}

outcome append_bit_boolean(text_buffer& out, std::string_view bytes) {
  if (bytes.empty() || bytes.size() > 8) return outcome::impossible;
  bool any = false;
  for (char c : bytes) any = any || c != 0;
  out.append(any ? "true" : "false");
  return outcome::exact;
}

outcome append_vector(text_buffer& out, std::string_view bytes) {
  if (bytes.size() % 4 != 0) return outcome::impossible;
  out.push('[');
  for (std::size_t i = 0; i < bytes.size(); i += 4) {
    std::uint32_t bits = 0;
    for (std::size_t k = 4; k-- > 0;) bits = (bits << 8) | static_cast<unsigned char>(bytes[i + k]);
    float value = 0;
    std::memcpy(&value, &bits, sizeof value);
    if (!std::isfinite(value)) return outcome::impossible;
    if (i != 0) out.push(',');
    append_number(out, value);
  }
  out.push(']');
  return outcome::exact;
}

}  // namespace psource
