// Which shards a keyspace has, and which of them a row belongs to.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace psource::local_branch {

/// The names that Vitess gives to `count` shards of equal key ranges: 1 "-"; 2 "-80", "80-"; 1024 "-0040" …
/// "ffc0-". `count` must be in 1 … 65,536.
std::vector<std::string> shard_names(std::size_t count);

/// A piece of the space of keyspace ids, as 65536ths of it: begin <= key < end.
struct key_range {
  std::uint32_t begin = 0;
  std::uint32_t end = 65536;
  bool contains(std::uint32_t key) const { return begin <= key && key < end; }
};

/// Reads "-", "-80", "40-80", "ffc0-" (up to four digits on each side); nullopt for any other text and for
/// empty ranges.
std::optional<key_range> parse_key_range(std::string_view name);

/// Spreads ids over shards. Every run of `shards` neighbouring ids has one id on each shard, in an order that
/// a hash of the run decides: so a shard's ids can be walked in order without looking at the others',
/// whatever their number.
class row_layout {
 public:
  row_layout(std::uint64_t seed, std::size_t shards);

  /// Where an id lies in the space of keyspace ids: within the equal range that has the number shard_of(id).
  /// So ranges can be split and merged.
  std::uint32_t key_of(std::int64_t id) const;
  /// The number of the equal range that a key lies in, and where the range with a number begins.
  std::size_t number_of(std::uint32_t key) const;
  std::uint32_t begin_of(std::size_t number) const;
  /// The shard of an id (ids begin at 1).
  std::size_t shard_of(std::int64_t id) const;
  /// The shard's smallest id that is greater than `after` (which is at least 0).
  std::int64_t next(std::size_t shard, std::int64_t after) const;
  /// The shard's id in the run of the given number (runs begin at 0; run r holds ids r·shards + 1 …).
  std::int64_t id_in_run(std::size_t shard, std::int64_t run) const;
  std::int64_t run_length() const { return static_cast<std::int64_t>(shards_); }

 private:
  std::uint64_t rotation(std::int64_t run) const;

  std::uint64_t seed_;
  std::uint64_t shards_;
};

/// A 64-bit mixer (the finaliser of splitmix64); the source of everything that is made up.
inline std::uint64_t mix(std::uint64_t x) {
  x += 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

/// The high half of the 128-bit product: maps a random number onto 0 … limit - 1.
inline std::uint64_t scale(std::uint64_t random, std::uint64_t limit) {
  // Four 32-bit products: ISO C++ has no 128-bit integer.
  const std::uint64_t a = random >> 32, b = random & 0xffffffffu, c = limit >> 32, d = limit & 0xffffffffu;
  const std::uint64_t middle = a * d + ((b * d) >> 32);
  const std::uint64_t low = b * c + (middle & 0xffffffffu);
  return a * c + (middle >> 32) + (low >> 32);
}

}  // namespace psource::local_branch
