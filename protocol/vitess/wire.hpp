// The few pieces of Protobuf's wire format that the in-place decoder needs.
#pragma once

#include <cstdint>
#include <string_view>

namespace psource::wire {

/// Reads a varint of at most ten bytes; moves `at` behind it. False when it is cut off or too long.
inline bool read_varint(const char*& at, const char* end, std::uint64_t& value) {
  if (at == end) return false;
  auto byte = static_cast<unsigned char>(*at++);
  if (byte < 0x80) {
    value = byte;
    return true;
  }
  std::uint64_t result = byte & 0x7f;
  // Two bytes are the rule for what is longer than one: lengths of rows and of their events.
  if (at != end && static_cast<unsigned char>(*at) < 0x80) {
    value = result | static_cast<std::uint64_t>(static_cast<unsigned char>(*at++)) << 7;
    return true;
  }
  for (unsigned shift = 7; shift < 70; shift += 7) {
    if (at == end) return false;
    byte = static_cast<unsigned char>(*at++);
    if (shift == 63 && byte > 1) return false;
    result |= static_cast<std::uint64_t>(byte & 0x7f) << shift;
    if (byte < 0x80) {
      value = result;
      return true;
    }
  }
  return false;
}

/// Reads a length and that many bytes.
inline bool read_bytes(const char*& at, const char* end, std::string_view& value) {
  std::uint64_t size = 0;
  if (!read_varint(at, end, size) || size > static_cast<std::uint64_t>(end - at)) return false;
  value = std::string_view(at, static_cast<std::size_t>(size));
  at += size;
  return true;
}

constexpr std::uint32_t varint_type = 0;
constexpr std::uint32_t bytes_type = 2;

/// Field number and wire type in one, as they stand on the wire: for a switch.
constexpr std::uint32_t key(std::uint32_t field, std::uint32_t type) { return field << 3 | type; }

/// Reads a key; field 0 and numbers above 2^29 - 1 are malformed.
inline bool read_key(const char*& at, const char* end, std::uint32_t& key) {
  std::uint64_t read = 0;
  if (!read_varint(at, end, read) || read > 0xffffffffu) return false;
  key = static_cast<std::uint32_t>(read);
  return key >= 8;
}

/// Skips a field's value. Groups (types 3 and 4) are not part of proto3 and count as malformed.
inline bool skip(const char*& at, const char* end, std::uint32_t type) {
  std::uint64_t number = 0;
  std::string_view bytes;
  switch (type) {
    case 0:
      return read_varint(at, end, number);
    case 1:
      if (end - at < 8) return false;
      at += 8;
      return true;
    case 2:
      return read_bytes(at, end, bytes);
    case 5:
      if (end - at < 4) return false;
      at += 4;
      return true;
    default:
      return false;
  }
}

}  // namespace psource::wire
