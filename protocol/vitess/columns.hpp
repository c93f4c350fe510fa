// Tables and columns as the two sides of Vitess describe them: the MySQL port (information_schema) and the
// FIELD events of a VStream.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "protocol/names.hpp"

namespace psource {

/// A column as information_schema.columns tells it.
struct column_definition {
  std::string name;
  /// MySQL's text of the type: "bigint unsigned", "tinyint(1)", "enum('a','b')".
  std::string column_type;
  bool nullable = true;
  /// MySQL's name of the character set ("latin1", "utf8mb4"); empty for columns that have none.
  std::string character_set;
  /// "utf8mb4_bin"; empty for columns that have none.
  std::string collation;
  /// Generated columns, virtual or stored; delivered like any other.
  bool generated = false;
  /// Invisible columns; delivered like any other.
  bool invisible = false;
};

/// A value of this type (MySQL's text) is found again by the text that Vitess sends for it. False for FLOAT and DOUBLE
/// (rounded), ENUM and SET (number or label, by phase and version) and JSON.
inline bool is_found_by_its_text(const std::string& column_type) {
  const std::string name = column_type.substr(0, column_type.find_first_of(" ("));
  for (const char* other : {"float", "double", "real", "enum", "set", "json"})
    if (name == other) return false;
  return true;
}

/// A base table as discovery finds it.
struct table_definition {
  stream_id id;
  /// In the table's own order.
  std::vector<column_definition> columns;
  /// Column names in key order; empty for a table without a primary key.
  std::vector<std::string> primary_key;
  /// By what rows are told apart, in key order: the primary key; without one the unique key of NOT NULL columns that MySQL takes in its
  /// place, and marks so (COLUMN_KEY here, the flags of FIELD events in a stream); else empty, or what the user chose in the catalog.
  std::vector<std::string> identity;
  /// The columns by which Vitess orders a copy: the primary key, else a unique key of NOT NULL columns, else empty
  /// (it then orders by all columns).
  std::vector<std::string> copy_order;
  /// information_schema's guess for one shard times the shards; absent when it has none.
  std::optional<std::uint64_t> row_estimate;

  /// By what a destination tells rows apart, whatever filled it in.
  const std::vector<std::string>& row_key() const { return primary_key.empty() ? identity : primary_key; }
  const column_definition* find(const std::string& name) const {
    for (const auto& column : columns)
      if (column.name == name) return &column;
    return nullptr;
  }
};

/// A column as a FIELD event tells it.
struct wire_column {
  std::string name;
  /// Number of query.Type; may be one that this program does not know.
  std::int32_t type = 0;
  /// As in information_schema; filled by every supported Vitess.
  std::string column_type;
  /// Collation id: 63 is binary, 0 unknown to Vitess.
  std::uint32_t charset = 0;
  /// MySqlFlag bits: 1 NOT NULL, 2 primary key, 128 binary.
  std::uint32_t flags = 0;
};

/// A FIELD event: the shape of the ROW events that follow for one table of one shard.
struct field_event {
  table_name table;
  std::vector<wire_column> columns;
  /// ENUM and SET arrive as labels; else as index and bit mask (Vitess 19 and older, and binlog events).
  bool enum_set_string_values = false;
};

}  // namespace psource
