// The key range behind a shard's name: "-80", "40-80", "c0-", "-" (everything). Source: Vitess, key ranges.
#pragma once

#include <algorithm>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "protocol/names.hpp"

namespace psource {

/// Half-open range of keyspace ids, compared as byte strings; an empty end is infinity.
struct key_range {
  std::string start;
  std::string end;

  /// Some key lies in both.
  bool overlaps(const key_range& other) const {
    return (end.empty() || other.start < end) && (other.end.empty() || start < other.end);
  }
};

/// The range that a shard's name tells; nothing when the name is not a key range (an unsharded keyspace's "0" means
/// everything and is told so).
inline std::optional<key_range> key_range_of(const shard_name& shard) {
  const std::string& name = shard.str();
  const auto hyphen = name.find('-');
  if (hyphen == std::string::npos) {
    if (name == "0") return key_range{};
    return std::nullopt;
  }
  const auto bytes_of = [](const std::string& hex) -> std::optional<std::string> {
    if (hex.size() % 2 != 0) return std::nullopt;
    std::string bytes;
    for (std::size_t i = 0; i < hex.size(); i += 2) {
      int value = 0;
      for (std::size_t k = i; k < i + 2; ++k) {
        const char c = hex[k];
        int digit = 0;
        if (c >= '0' && c <= '9')
          digit = c - '0';
        else if (c >= 'a' && c <= 'f')
          digit = c - 'a' + 10;
        else if (c >= 'A' && c <= 'F')
          digit = c - 'A' + 10;
        else
          return std::nullopt;
        value = value * 16 + digit;
      }
      bytes.push_back(static_cast<char>(value));
    }
    return bytes;
  };
  auto start = bytes_of(name.substr(0, hyphen));
  auto end = bytes_of(name.substr(hyphen + 1));
  if (!start || !end) return std::nullopt;
  return key_range{*start, *end};
}

/// These ranges together have every key of `whole`. They may be in any order, overlap, and reach beyond it.
inline bool cover_together(std::vector<key_range> parts, const key_range& whole) {
  std::sort(parts.begin(), parts.end(), [](const key_range& a, const key_range& b) { return a.start < b.start; });
  std::string reached = whole.start;
  for (const auto& part : parts) {
    if (part.start > reached) return false;
    if (part.end.empty() || (!whole.end.empty() && part.end >= whole.end)) return true;
    reached = std::max(reached, part.end);
  }
  return false;
}

/// The shards that hold the keys of `shard` now that it does not serve any more, in the order of their ranges. None when it
/// is itself among those that serve, or when there is a key that none of them has.
inline std::vector<shard_name> successors_of(const shard_id& shard, const std::vector<shard_id>& serving) {
  const auto range = key_range_of(shard.shard);
  if (!range) return {};
  std::vector<std::pair<key_range, shard_name>> found;
  for (const auto& id : serving) {
    if (id == shard) return {};
    const auto other = key_range_of(id.shard);
    if (id.keyspace == shard.keyspace && other && other->overlaps(*range)) found.emplace_back(*other, id.shard);
  }
  std::sort(found.begin(), found.end(), [](const auto& a, const auto& b) { return a.first.start < b.first.start; });
  std::vector<key_range> ranges;
  std::vector<shard_name> names;
  for (auto& [other, name] : found) {
    ranges.push_back(std::move(other));
    names.push_back(std::move(name));
  }
  if (!cover_together(std::move(ranges), *range)) return {};
  return names;
}

}  // namespace psource
