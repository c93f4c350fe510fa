// What a branch holds at the end: one JSON line per row.
#pragma once

#include <ostream>
#include <string>

#include "local_branch/branch.hpp"
#include "protocol/failure.hpp"

namespace psource::local_branch {

/// Writes {"keyspace":"k","shard":"-80","table":"t","row":{"id":"1",…}} for every row that now exists, by
/// keyspace, shard, table and key. Values are MySQL's texts; NULL is null; bytes that are not UTF-8 are
/// {"base64":"…"}. Rows of a recording are the outcome of its copies and transactions. The branch must not be
/// written to meanwhile.
void write_truth(const branch& source, std::ostream& out);

/// The same into a file. Errors: output_failed.
result<void> write_truth_file(const branch& source, const std::string& file);

}  // namespace psource::local_branch
