// Shard names and the spread of rows over shards.
#include "local_branch/shards.hpp"

#include <algorithm>
#include <cassert>
#include <charconv>

namespace psource::local_branch {

std::vector<std::string> shard_names(std::size_t count) {
  assert(count >= 1 && count <= 65536);
  const std::size_t digits = count <= 256 ? 2 : 4;
  const std::size_t space = count <= 256 ? 256 : 65536;
  const std::size_t width = space / count;  // what is left over goes to the last shard, as Vitess does it
  const auto bound = [&](std::size_t index) {
    std::string text;
    if (index == 0 || index == count) return text;
    const std::size_t value = index * width;
    for (std::size_t digit = digits; digit-- > 0;) text += "0123456789abcdef"[(value >> (4 * digit)) & 15];
    return text;
  };
  std::vector<std::string> names;
  names.reserve(count);
  for (std::size_t i = 0; i < count; ++i) names.push_back(bound(i) + "-" + bound(i + 1));
  return names;
}

std::optional<key_range> parse_key_range(std::string_view name) {
  const auto dash = name.find('-');
  if (dash == std::string_view::npos) return std::nullopt;
  const auto bound = [](std::string_view digits, std::uint32_t none) -> std::optional<std::uint32_t> {
    if (digits.empty()) return none;
    if (digits.size() > 4 || digits.size() % 2 != 0) return std::nullopt;
    std::uint32_t value = 0;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value, 16);
    if (error != std::errc() || end != digits.data() + digits.size()) return std::nullopt;
    return digits.size() == 2 ? value << 8 : value;
  };
  const auto begin = bound(name.substr(0, dash), 0);
  const auto end = bound(name.substr(dash + 1), 65536);
  if (!begin || !end || *begin >= *end) return std::nullopt;
  return key_range{*begin, *end};
}

row_layout::row_layout(std::uint64_t seed, std::size_t shards) : seed_(seed), shards_(shards) {
  assert(shards > 0);
}

std::uint64_t row_layout::rotation(std::int64_t run) const {
  return shards_ == 1 ? 0 : scale(mix(seed_ ^ static_cast<std::uint64_t>(run)), shards_);
}

std::uint32_t row_layout::begin_of(std::size_t number) const {
  // As shard_names() has it: what is left over belongs to the last.
  const std::uint64_t space = shards_ <= 256 ? 256 : 65536;
  return number >= shards_ ? 65536u
                           : static_cast<std::uint32_t>(number * (space / shards_) * (65536 / space));
}

std::size_t row_layout::number_of(std::uint32_t key) const {
  const std::uint64_t width = begin_of(1);
  return static_cast<std::size_t>(std::min<std::uint64_t>(key / width, shards_ - 1));
}

std::uint32_t row_layout::key_of(std::int64_t id) const {
  const std::size_t number = shard_of(id);
  const std::uint32_t begin = begin_of(number);
  const auto hash = mix(seed_ + 0x6b657973u + static_cast<std::uint64_t>(id) * 0xa0761d6478bd642fu);
  return begin + static_cast<std::uint32_t>(scale(hash, begin_of(number + 1) - begin));
}

std::size_t row_layout::shard_of(std::int64_t id) const {
  const auto place = static_cast<std::uint64_t>(id - 1);
  const auto run = place / shards_;
  return static_cast<std::size_t>((place % shards_ + rotation(static_cast<std::int64_t>(run))) % shards_);
}

std::int64_t row_layout::id_in_run(std::size_t shard, std::int64_t run) const {
  const std::uint64_t turn = rotation(run);
  const std::uint64_t place = shard >= turn ? shard - turn : shard + shards_ - turn;
  return run * static_cast<std::int64_t>(shards_) + static_cast<std::int64_t>(place) + 1;
}

std::int64_t row_layout::next(std::size_t shard, std::int64_t after) const {
  const std::int64_t run = after / static_cast<std::int64_t>(shards_);
  const std::int64_t id = id_in_run(shard, run);
  return id > after ? id : id_in_run(shard, run + 1);
}

}  // namespace psource::local_branch
