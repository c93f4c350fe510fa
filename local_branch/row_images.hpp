// How a row change shows in the binlog: whole images, or what a database with binlog_row_image=NOBLOB and
// binlog_row_value_options=PARTIAL_JSON leaves of them.
#pragma once

#include "local_branch/byte_buffer.hpp"
#include "local_branch/rows.hpp"
#include "local_branch/schema.hpp"

namespace psource::local_branch {

/// Settings of the database that the branch stands for.
struct row_image_options {
  /// Unchanged BLOB and TEXT columns are left out of the images of updates, all of them of before images.
  bool noblob = false;
  /// A JSON column that an update changes at single paths comes as an expression over its old value.
  bool partial_json = false;

  /// Rows of such a table are not always whole.
  bool apply_to(const table_schema& table) const;
};

/// Appends the body of a binlogdata.RowChange. `before` and `after` are the whole images; a null pointer is
/// the image that the kind of change does not have (not both). Columns that are left out are NULL; after
/// images then carry data_columns, and json_partial_values (one bit per JSON column of the table, in its
/// order) where there is an expression. An expression of no bytes says "unchanged". Before images carry no
/// bitmap.
void append_row_change(byte_buffer& out, const table_schema& table, const row_values* before,
                       const row_values* after, const row_image_options& options);

}  // namespace psource::local_branch
