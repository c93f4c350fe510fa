// Tables with rows of other shapes than sysbench's, for measuring what each shape costs.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "local_branch/branch.hpp"

namespace psource::local_branch {

/// Names of the shapes:
///   narrow   id bigint alone
///   wide     id and 200 columns of mixed types
///   huge     id and a text of 1 MB
///   escapes  id and a text of 1,000 bytes, a sixth of which JSON has to escape
///   latin1   id and a text of 1,000 bytes in latin1, a tenth of them beyond ASCII
///   letters  id and a text of 1,000 bytes in UTF-8, mostly beyond ASCII
///   blob     id and 1,000 bytes of blob
const std::vector<std::string>& shape_names();

/// The table `shape_NAME` with so many rows; nothing when there is no such shape. Nobody writes to it. Values come from
/// a small stock of rows made beforehand, so that sending them costs little more than copying.
std::optional<table> shaped_table(std::string_view shape, std::int64_t rows);

}  // namespace psource::local_branch
