// DDL on a table of the branch: which columns it has afterwards, and what its rows hold in them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "local_branch/byte_buffer.hpp"
#include "local_branch/schema.hpp"
#include "protocol/failure.hpp"

namespace psource::local_branch {

/// One change of a table's columns: exactly one of the three is given.
struct ddl_change {
  /// "name type" of a column behind all others; the type is int, bigint or varchar(N).
  std::string add;
  /// The name of a column.
  std::string drop;
  /// A column's name and its new one; both empty = no rename.
  std::string rename_from, rename_to;
};

/// Where a column's values come from: a column of the rows that the row maker makes, or a DDL that added it.
struct column_source {
  std::optional<std::size_t> made;
  /// The number of that DDL, from 1.
  std::size_t added_by = 0;
};

/// A DDL and what the table looks like after it. Fixed once it is made.
struct ddl {
  /// As the binary log has it.
  std::string statement;
  table_schema schema;
  /// One for each column of the schema.
  std::vector<column_source> sources;
};

/// The DDL of that number on a table that was made as `schema`; `previous` is the DDL before it, nullptr = none.
/// Errors: config_invalid (a column that is not there or is there already, one of the primary key, an unknown
/// type).
result<ddl> make_ddl(const table_schema& schema, const ddl* previous, std::size_t number,
                     const ddl_change& change);

/// Appends a serialized query.Row as it is after the DDL `now`. `made` is what the row maker made of the id's
/// version, `written` how many DDLs the table had seen when that version was written: a column that came later
/// is NULL.
void append_row_after(byte_buffer& out, const ddl& now, std::string_view made, std::int64_t id,
                      std::uint32_t version, std::size_t written);

}  // namespace psource::local_branch
