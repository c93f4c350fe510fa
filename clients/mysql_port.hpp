// The seam between discovery and the database's MySQL port: questions in, text rows out, no libmysqlclient in
// sight.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "protocol/failure.hpp"

namespace psource {

/// A text result set, kept flat: one buffer for all values of all rows.
class mysql_rows {
 public:
  mysql_rows() = default;
  explicit mysql_rows(std::vector<std::string> columns) : columns_(std::move(columns)) {}

  /// As the server names them (information_schema's come in upper case from MySQL 8: go by position).
  const std::vector<std::string>& columns() const { return columns_; }
  std::size_t width() const { return columns_.size(); }
  std::size_t size() const { return width() == 0 ? 0 : cells_.size() / width(); }

  /// MySQL's text of a value; nothing for NULL and outside the table. Valid until the next add().
  std::optional<std::string_view> at(std::size_t row, std::size_t column) const {
    if (column >= width() || row >= size()) return std::nullopt;
    const cell& c = cells_[row * width() + column];
    if (c.length < 0) return std::nullopt;
    return std::string_view(text_).substr(c.offset, static_cast<std::size_t>(c.length));
  }

  /// Appends a row; missing values are NULL, surplus ones are dropped.
  void add(const std::vector<std::optional<std::string_view>>& row) {
    for (std::size_t i = 0; i < width(); ++i) {
      if (i < row.size() && row[i]) {
        cells_.push_back({text_.size(), static_cast<std::int64_t>(row[i]->size())});
        text_.append(*row[i]);
      } else {
        cells_.push_back({0, -1});
      }
    }
  }

 private:
  struct cell {
    std::size_t offset;
    std::int64_t length;  ///< -1 = NULL
  };
  std::vector<std::string> columns_;
  std::vector<cell> cells_;
  std::string text_;
};

/// One session on the MySQL port. Blocking; used by one thread at a time.
class mysql_port {
 public:
  virtual ~mysql_port() = default;
  /// Runs one statement; statements without a result set give no columns. Errors: see mysql_session.hpp.
  virtual result<mysql_rows> query(const std::string& sql) = 0;
  /// Makes `target` ("ks", "ks:-80@replica", "ks/-80") the session's own, as USE does.
  virtual result<void> use(const std::string& target) = 0;
};

/// `text` as an SQL string literal, with its quotes.
std::string quote_sql_text(std::string_view text);
/// `name` as an SQL identifier, with its back-ticks.
std::string quote_sql_name(std::string_view name);

}  // namespace psource
