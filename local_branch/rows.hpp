// Rows out of nothing: the same (seed, table, id, version) always gives the same bytes, so no row has to be
// kept.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "local_branch/byte_buffer.hpp"

namespace psource::local_branch {

/// Some types have another text in a copy (MySQL's own) than in the binlog (Vitess's).
enum class row_text : std::uint8_t { mysql, binlog };

/// Makes the rows of one table. Thread-safe: it holds nothing that changes.
class row_maker {
 public:
  virtual ~row_maker() = default;
  /// An upper bound of what write() needs.
  virtual std::size_t max_size() const = 0;
  /// Writes the serialized query.Row of a row's version and returns the place behind it.
  virtual char* write(char* at, std::int64_t id, std::uint32_t version, row_text text) const = 0;
};

/// Rows as sysbench fills its tables: k up to `rows`, c ten groups of eleven digits, pad five.
class sbtest_rows : public row_maker {
 public:
  sbtest_rows(std::uint64_t seed, std::int64_t rows);
  std::size_t max_size() const override { return 256; }
  char* write(char* at, std::int64_t id, std::uint32_t version, row_text text) const override;

 private:
  std::uint64_t seed_;
  std::uint64_t k_limit_;
};

/// Values of one row; nullopt = NULL.
using row_values = std::vector<std::optional<std::string>>;

/// Appends a serialized query.Row.
void append_row(byte_buffer& out, const row_values& values);

/// Splits a serialized query.Row into values; nullopt when its bytes are malformed.
std::optional<row_values> read_row(std::string_view row);

}  // namespace psource::local_branch
