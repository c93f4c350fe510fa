// A table with a column of every MySQL type, and rows with their limits, oddities and NULLs.
#pragma once

#include <memory>

#include "local_branch/branch.hpp"

namespace psource::local_branch {

/// The table `all_types`: id bigint primary key and one column per type and character set. Row `id` in version v shows
/// case (id + v) of the cases in turn: all NULL, largest, smallest, odd, ordinary. The texts in copy and binlog are those
/// of a Vitess 24.
table all_types_table(std::int64_t rows);

}  // namespace psource::local_branch
