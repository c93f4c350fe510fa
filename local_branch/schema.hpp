// What a table of the branch looks like: to FIELD events and to information_schema.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "local_branch/byte_buffer.hpp"

namespace psource::local_branch {

struct column {
  std::string name;
  /// Number of query.Type.
  std::int32_t type = 0;
  /// MySQL's text: "bigint", "enum('a','b')".
  std::string column_type;
  /// Collation id as FIELD events carry it; 63 is binary.
  std::uint32_t charset = 63;
  /// MySqlFlag bits.
  std::uint32_t flags = 0;
  std::uint32_t length = 0;
  std::uint32_t decimals = 0;
  bool nullable = true;
  /// information_schema's names; empty = NULL.
  std::string character_set, collation;
  /// information_schema.columns.extra: "auto_increment", "INVISIBLE", "VIRTUAL GENERATED" …
  std::string extra;
  std::string generation_expression;
};

/// MySqlFlag bits that this program sets.
enum column_flag : std::uint32_t {
  flag_not_null = 1,
  flag_primary_key = 2,
  flag_multiple_key = 8,
  flag_blob = 16,
  flag_unsigned = 32,
  flag_zerofill = 64,
  flag_binary = 128,
  flag_enum = 256,
  flag_set = 2048,
  flag_no_default = 4096,
  flag_part_of_key = 16384,
  flag_number = 32768,
};

/// A key besides the primary one.
struct index {
  std::string name;
  bool unique = false;
  std::vector<std::size_t> columns;
};

enum class table_kind : std::uint8_t { base, view, sequence };

struct table_schema {
  std::string name;
  table_kind kind = table_kind::base;
  std::vector<column> columns;
  /// Numbers of columns in key order; empty = no primary key.
  std::vector<std::size_t> primary_key;
  std::vector<index> indexes;
  /// information_schema.tables.table_comment.
  std::string comment;

  /// Some column is an ENUM or a SET.
  bool has_labels() const;
  /// The columns by which a copy is ordered: the primary key's, else all.
  std::vector<std::size_t> copy_order() const;
};

/// MySQL's names of a collation id; both empty for 63 (binary) and for ids that are not known here.
struct collation_names {
  std::string character_set, collation;
};
collation_names names_of_collation(std::uint32_t id);

/// True when MySQL gives such a column a character set (char, varchar, text, enum, set).
bool has_character_set(std::string_view column_type);

/// sysbench's table: id bigint primary key, k int with an index, c char(120), pad char(60).
table_schema sbtest_schema(std::string name);

/// A serialized binlogdata.FieldEvent. `wire_name` is the table's name as this stream shows it.
byte_buffer field_event(const table_schema& table, std::string_view wire_name, std::string_view keyspace,
                        std::string_view shard, bool labels_as_text);

/// A serialized query.QueryResult with the columns of the copy's order and one row, whose serialized
/// query.Row is given.
byte_buffer lastpk_result(const table_schema& table, std::string_view key_row);

}  // namespace psource::local_branch
