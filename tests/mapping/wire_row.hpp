// Rows for tests, in the encoding of query.Row.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "protocol/mapping/record_encoder.hpp"
#include "protocol/vitess/row_view.hpp"

namespace psource::testing {

/// Owns the bytes of a row; absent values are NULL.
class wire_row {
 public:
  explicit wire_row(const std::vector<std::optional<std::string>>& values) {
    for (const auto& value : values) {
      const std::int64_t length = value ? static_cast<std::int64_t>(value->size()) : -1;
      add_varint((static_cast<std::uint64_t>(length) << 1) ^ static_cast<std::uint64_t>(length >> 63));
      if (value) values_ += *value;
    }
  }
  row_view view() const { return {lengths_, values_, true}; }

 private:
  void add_varint(std::uint64_t value) {
    while (value >= 0x80) {
      lengths_.push_back(static_cast<char>(value | 0x80));
      value >>= 7;
    }
    lengths_.push_back(static_cast<char>(value));
  }

  std::string lengths_;
  std::string values_;
};

/// Encodes behind what a string holds.
inline result<void> append_record(record_encoder& encoder, std::string& out, const row_view& row,
                                  const record_context& context) {
  text_buffer lines;
  lines.append(out);
  auto done = encoder.append_record(lines, row, context);
  out = lines.view();
  return done;
}

}  // namespace psource::testing
