// Base64 by table; encoding works on whole groups of three bytes because columns of megabytes pass through
// it.
#include "protocol/base64.hpp"

#include <array>
#include <cstddef>
#include <cstdint>

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

}  // namespace

void append_base64(std::string& out, std::string_view bytes) {
  const auto start = out.size();
  out.resize(start + (bytes.size() + 2) / 3 * 4);
  write_base64(out.data() + start, bytes);
}

char* write_base64(char* to, std::string_view bytes) {
  const auto* from = reinterpret_cast<const unsigned char*>(bytes.data());
  std::size_t left = bytes.size();
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
  std::string out;
  out.reserve(body.size() / 4 * 3 + 2);
  std::uint32_t group = 0;
  int bits = 0;
  for (std::size_t i = 0; i < body.size(); ++i) {
    const auto value = values[static_cast<unsigned char>(body[i])];
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
