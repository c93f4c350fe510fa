// Rows and responses for the micro-benchmarks.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "protocol/mapping/record_encoder.hpp"

namespace psource::bench {

/// A column, and the value that it has in a row (nullopt = NULL).
struct shaped_value {
  const char* column_type;
  std::optional<std::string> value;
  /// MySQL's name; empty for columns without one.
  const char* character_set = "";
};

/// A table of one row, and everything that encoding it needs. Owns its bytes.
class shaped_row {
 public:
  explicit shaped_row(const std::vector<shaped_value>& values, bool cdc = true);
  row_view view() const { return {lengths_, values_, true}; }
  /// An encoder of this table.
  record_encoder encoder() const;
  const std::shared_ptr<const stream_shape>& shape() const { return shape_; }

 private:
  std::string lengths_;
  std::string values_;
  field_event fields_;
  std::shared_ptr<const stream_shape> shape_;
};

/// sysbench's row.
shaped_row sysbench_row(bool cdc);

/// The responses of one shard of a local branch: a copy of `rows` sysbench rows, or (`transaction_rows` > 0)
/// as many changes in such transactions.
std::vector<std::string> generated_responses(std::size_t rows, std::size_t transaction_rows = 0);

/// Keyspace, shard and table of generated_responses().
inline constexpr const char* generated_keyspace = "bench";
inline constexpr const char* generated_shard = "-";
inline constexpr const char* generated_table = "sbtest1";

/// The shape that discovery would give for it.
std::shared_ptr<const stream_shape> generated_shape(bool cdc);

}  // namespace psource::bench
