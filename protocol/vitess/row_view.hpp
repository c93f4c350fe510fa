// Rows in place: views into the bytes of a VStream response, nothing copied (vitess query.proto, message Row).
#pragma once

#include <cstdint>
#include <string_view>

namespace psource {

/// One row image. The views hold as long as the response's buffer does.
struct row_view {
  /// The packed zigzag varints of query.Row.lengths; -1 = NULL.
  std::string_view lengths;
  /// All values that are not NULL, back to back.
  std::string_view values;
  /// False when the row change has no such image (an insert has no before, a delete no after).
  bool present = false;
};

/// One change of one row: insert (after), update (both), delete (before).
struct row_change_view {
  row_view before;
  row_view after;
  /// The raw bytes of RowChange.data_columns' bitmap (least significant bit first) and its count; count 0 when absent.
  std::string_view data_columns;
  std::int64_t data_columns_count = 0;
  /// The same for json_partial_values.
  std::string_view json_partial_values;
  std::int64_t json_partial_count = 0;
};

/// Walks the values of one row_view, column by column.
///
///   value_reader values(row);
///   while (values.next()) use(values.is_null(), values.value());
///   if (!values.ok()) …the row is malformed
class value_reader {
 public:
  explicit value_reader(const row_view& row)
      : lengths_(row.lengths.data()),
        lengths_end_(row.lengths.data() + row.lengths.size()),
        values_(row.values.data()),
        values_end_(row.values.data() + row.values.size()) {}

  /// Moves to the next column; false at the end or when the bytes are malformed.
  bool next() {
    if (lengths_ == lengths_end_) return false;
    std::uint64_t raw = static_cast<unsigned char>(*lengths_++);
    if (raw >= 0x80 && !read_rest(raw)) return broken();
    if (raw & 1) {  // negative: -1 is NULL, and Vitess's own reader takes every other negative length for NULL too
      null_ = true;
      value_ = {};
      return true;
    }
    const std::uint64_t size = raw >> 1;
    if (size > static_cast<std::uint64_t>(values_end_ - values_)) return broken();
    null_ = false;
    value_ = std::string_view(values_, static_cast<std::size_t>(size));
    values_ += size;
    return true;
  }

  bool is_null() const { return null_; }
  std::string_view value() const { return value_; }
  /// Bytes of the values behind this one.
  std::size_t left() const { return static_cast<std::size_t>(values_end_ - values_); }
  /// After next() returned false: the row was whole, and its values used up.
  bool ok() const { return !broken_ && values_ == values_end_; }

 private:
  /// The other bytes of a varint whose first one is `raw`.
  bool read_rest(std::uint64_t& raw) {
    raw &= 0x7f;
    for (unsigned shift = 7; shift <= 63; shift += 7) {
      if (lengths_ == lengths_end_) return false;
      const auto byte = static_cast<unsigned char>(*lengths_++);
      raw |= static_cast<std::uint64_t>(byte & 0x7f) << shift;
      if (byte < 0x80) return true;
    }
    return false;
  }
  bool broken() {
    broken_ = true;
    return false;
  }

  const char* lengths_;
  const char* lengths_end_;
  const char* values_;
  const char* values_end_;
  std::string_view value_;
  bool null_ = false;
  bool broken_ = false;
};

}  // namespace psource
