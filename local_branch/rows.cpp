// Rows made up from a seed.
#include "local_branch/rows.hpp"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <limits>

#include "local_branch/shards.hpp"
#include "protocol/vitess/row_view.hpp"

namespace psource::local_branch {
namespace {

constexpr std::size_t c_size = 119;
constexpr std::size_t pad_size = 59;

/// Eight random digits as text. Each byte of `random` becomes byte * 10 / 256, two lanes of four at a time.
inline std::uint64_t eight_digits(std::uint64_t random) {
  constexpr std::uint64_t lanes = 0x00ff00ff00ff00ffu;
  const std::uint64_t even = (((random & lanes) * 10) >> 8) & lanes;
  const std::uint64_t odd = (((random >> 8) & lanes) * 10) & ~lanes;
  return (even | odd) + 0x3030303030303030u;
}

/// Fills whole words of digits from `seed` and puts a dash at every twelfth place. `at` needs room for words
/// * 8 bytes.
inline void write_groups(char* at, std::size_t words, std::size_t size, std::uint64_t seed) {
  for (std::size_t i = 0; i < words; ++i) {
    std::uint64_t x = seed + (i + 1) * 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 32)) * 0xd6e8feb86659fd93u;
    x ^= x >> 29;
    const std::uint64_t digits = eight_digits(x);
    std::memcpy(at + i * 8, &digits, 8);
  }
  for (std::size_t i = 11; i < size; i += 12) at[i] = '-';
}

}  // namespace

sbtest_rows::sbtest_rows(std::uint64_t seed, std::int64_t rows)
    : seed_(seed),
      k_limit_(static_cast<std::uint64_t>(
          std::clamp<std::int64_t>(rows, 1, std::numeric_limits<std::int32_t>::max()))) {}

char* sbtest_rows::write(char* at, std::int64_t id, std::uint32_t version, row_text) const {
  std::uint64_t seed = mix(seed_ ^ (static_cast<std::uint64_t>(id) * 0xa0761d6478bd642fu));
  if (version != 0) seed = mix(seed + version);
  char key[24];
  char* const id_end = std::to_chars(key, key + sizeof key, id).ptr;
  const auto id_size = static_cast<std::size_t>(id_end - key);
  char number[24];
  char* const k_end = std::to_chars(number, number + sizeof number, 1 + scale(seed, k_limit_)).ptr;
  const auto k_size = static_cast<std::size_t>(k_end - number);
  *at++ = 0x0a;  // lengths, packed zigzag
  *at++ = 5;
  *at++ = static_cast<char>(id_size * 2);
  *at++ = static_cast<char>(k_size * 2);
  at = write_varint(at, c_size * 2);
  *at++ = static_cast<char>(pad_size * 2);
  *at++ = 0x12;  // values
  at = write_varint(at, id_size + k_size + c_size + pad_size);
  std::memcpy(at, key, id_size);
  at += id_size;
  std::memcpy(at, number, k_size);
  at += k_size;
  write_groups(at, 15, c_size, seed);
  at += c_size;
  write_groups(at, 8, pad_size, ~seed);
  return at + pad_size;
}

void append_row(byte_buffer& out, const row_values& values) {
  byte_buffer lengths;
  std::size_t size = 0;
  for (const auto& value : values) {
    lengths.varint(value ? static_cast<std::uint64_t>(value->size()) << 1 : 1);  // zigzag; 1 is -1
    if (value) size += value->size();
  }
  if (!lengths.empty()) out.bytes(1, lengths.view());
  if (size == 0) return;
  out.varint((2u << 3) | 2u);
  out.varint(size);
  for (const auto& value : values)
    if (value) out.append(*value);
}

std::optional<row_values> read_row(std::string_view row) {
  row_view view;
  const auto varint = [&row](std::uint64_t& value) {
    value = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
      if (row.empty()) return false;
      const auto byte = static_cast<unsigned char>(row.front());
      row.remove_prefix(1);
      value |= static_cast<std::uint64_t>(byte & 0x7f) << shift;
      if (byte < 0x80) return true;
    }
    return false;
  };
  while (!row.empty()) {
    std::uint64_t tag = 0;
    std::uint64_t size = 0;
    if (!varint(tag) || (tag & 7) != 2 || !varint(size) || size > row.size()) return std::nullopt;
    const auto bytes = row.substr(0, static_cast<std::size_t>(size));
    row.remove_prefix(bytes.size());
    if (tag >> 3 == 1) view.lengths = bytes;
    if (tag >> 3 == 2) view.values = bytes;
  }
  row_values values;
  value_reader reader(view);
  while (reader.next())
    values.push_back(reader.is_null() ? std::nullopt : std::optional<std::string>(reader.value()));
  if (!reader.ok()) return std::nullopt;
  return values;
}

}  // namespace psource::local_branch
