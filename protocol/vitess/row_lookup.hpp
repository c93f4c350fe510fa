// Asks for whole rows that a row event left incomplete (binlog_row_image=NOBLOB, partial JSON): the SQL and its answer.
//
// The answer's values have the form that a copy has, so the copy's conversions apply: texts in the bytes of their own
// character set, moments in UTC. The tablet's own connection has that by `set names binary`, which vtgate refuses to sessions
// ("charset/name binary is not supported"; older versions do not even parse it), and the tablet would give all texts in UTF-8.
// So the columns' bytes are asked for one by one.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "protocol/failure.hpp"
#include "protocol/names.hpp"
#include "protocol/vitess/row_view.hpp"

namespace psource {

/// Some rows of one table on one shard, by primary key.
struct row_lookup {
  stream_id table;
  shard_name shard;
  struct column {
    std::string name;
    /// CHAR, VARCHAR, TEXT, ENUM or SET: has a character set.
    bool is_text = false;
  };
  /// All columns, in the order of the FIELD event.
  std::vector<column> columns;
  /// The key's columns as the FIELD event and discovery describe them.
  struct key_column {
    std::string name;
    std::int32_t type = 0;
    /// MySQL's name of the character set; empty for binary and for types without one.
    std::string character_set;
  };
  std::vector<key_column> key;
  /// One entry per row: the key's values as on the wire.
  std::vector<std::vector<std::string>> keys;
};

/// A row in the wire's own form (query.Row): lengths as packed zigzag varints, values back to back.
struct looked_up_row {
  std::string lengths;
  std::string values;

  row_view view() const { return {lengths, values, true}; }
  /// Appends a value; nothing = NULL.
  void add(const std::optional<std::string_view>& value);
};

/// As many entries as keys; nothing where the row is gone.
using looked_up_rows = std::vector<std::optional<looked_up_row>>;

/// The statement that prepares a session for the question, and the question: one SELECT per key, joined by UNION ALL,
/// each with the key's index in front. Error: response_malformed for a key value that its type cannot have.
std::string lookup_preparation();
result<std::string> lookup_query(const row_lookup& lookup);

}  // namespace psource
