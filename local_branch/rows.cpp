// Rows made up from a seed.
#include "local_branch/rows.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstring>
#include <limits>

#include "local_branch/shards.hpp"
#include "protocol/vitess/row_view.hpp"

namespace psource::local_branch {
namespace {

constexpr std::size_t group_size = 12;  // eleven digits and a dash
constexpr std::size_t groups = 4096;
constexpr std::size_t c_size = 10 * group_size - 1;
constexpr std::size_t pad_size = 5 * group_size - 1;

/// Groups of random digits, from which a row takes what stands at a place of its own: making digits for each row took a
/// third of a stream's time, and one stream was no faster than the connector that read it. A whole c begins at each of
/// `groups` places.
constexpr auto stock = [] {
  std::array<char, groups * group_size + c_size> text{};
  std::uint64_t random = 0x9e3779b97f4a7c15u;
  for (std::size_t i = 0; i < text.size(); ++i) {
    random ^= random << 13;
    random ^= random >> 7;
    random ^= random << 17;
    text[i] = i % group_size == group_size - 1 ? '-' : static_cast<char>('0' + (random >> 32) % 10);
  }
  return text;
}();

/// The text that begins at one of the places.
inline const char* stock_at(std::uint64_t random) { return stock.data() + random % groups * group_size; }

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
  std::memcpy(at, stock_at(seed), c_size);
  at += c_size;
  std::memcpy(at, stock_at(seed / groups), pad_size);
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
