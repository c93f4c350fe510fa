// DDL on a table of the branch: which columns it has afterwards, and what its rows hold in them.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "local_branch/byte_buffer.hpp"
#include "local_branch/schema.hpp"
#include "protocol/failure.hpp"

namespace psource::local_branch {

enum class ddl_kind : std::uint8_t { add, drop, rename, modify, truncate, drop_table, create_table };

/// One statement on a table.
struct ddl_change {
  ddl_kind kind = ddl_kind::add;
  /// add: "name type [first | after column]"; modify: "name [type] [first | after column]"; drop: a column's name;
  /// rename: a column's name. Types are int, bigint and varchar(N).
  std::string column;
  /// rename: the column's new name.
  std::string new_name;
  /// So many calls that come to the statement end, as those of a Vitess that is still reloading its schema.
  std::uint64_t reload_failures = 0;

  /// All rows are gone after it, and no row event tells so.
  bool empties() const {
    return kind == ddl_kind::truncate || kind == ddl_kind::drop_table || kind == ddl_kind::create_table;
  }
};

/// Where a column's values come from: a column of the rows that the row maker makes, or a DDL that added it.
struct column_source {
  std::optional<std::size_t> made;
  /// The number of that DDL, from 1.
  std::size_t added_by = 0;
  /// The types that the column has been changed to, in their order: "bigint", "varchar(9)".
  std::vector<std::string> casts;
};

/// A DDL and what the table looks like after it. Fixed once it is made, but for `reload_failures`.
struct ddl {
  /// As the binary log has it.
  std::string statement;
  table_schema schema;
  /// One for each column of the schema.
  std::vector<column_source> sources;
  bool empties = false;
  /// So many calls are still to end at it. Thread-safe.
  std::unique_ptr<std::atomic<std::uint64_t>> reload_failures;
};

/// The DDL of that number on a table that was made as `schema`; `previous` is the DDL before it, nullptr = none.
/// Errors: config_invalid (a column that is not there or is there already, one of the primary key, an unknown
/// type or place).
result<ddl> make_ddl(const table_schema& schema, const ddl* previous, std::size_t number,
                     const ddl_change& change);

/// Appends a serialized query.Row as it is after the DDL `now`. `made` is what the row maker made of the id's
/// version, `written` how many DDLs the table had seen when that version was written: a column that came later
/// is NULL. Where a column's type was changed, its values are what a MySQL without strict mode makes of them.
void append_row_after(byte_buffer& out, const ddl& now, std::string_view made, std::int64_t id,
                      std::uint32_t version, std::size_t written);

}  // namespace psource::local_branch
