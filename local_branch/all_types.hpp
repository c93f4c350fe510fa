// A table with a column of every MySQL type, and rows with their limits, oddities and NULLs.
#pragma once

#include <cstdint>
#include <memory>

#include "local_branch/branch.hpp"

namespace psource::local_branch {

/// How far the largest numbers go.
enum class type_range : std::uint8_t {
  /// Each type's own limits.
  full,
  /// Numbers stay within BIGINT, and within what a double and DECIMAL(38,9) hold: for destinations that can hold no
  /// more.
  portable,
};

/// The table `all_types`: id bigint primary key and one column per type and character set. Row `id` in
/// version v shows case (id + v / 3) of the cases in turn: all NULL, largest, smallest, odd, ordinary. The
/// two versions within a case change c_int only, and c_int and a path of c_json. The texts in copy and binlog
/// are those of a Vitess 24.
table all_types_table(std::int64_t rows, type_range range = type_range::full);

}  // namespace psource::local_branch
