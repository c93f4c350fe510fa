// Names of tables that belong to Vitess or to a tool for schema changes, and to nobody who selects tables.
#pragma once

#include <string_view>

namespace psource {

/// Tables that Vitess makes for itself and leaves out of VStreams: those of its online DDL and of its table
/// garbage collection, old and new names. Anchored: a user's `my_vt_table`, `_vt_hold` or `x_vrepl` is none;
/// but Vitess takes every `_…_old` for one.
bool is_internal_table(std::string_view name);

/// Internal tables that were dropped: DROP TABLE under an online DDL strategy gives a table such a name, for the garbage
/// collection. Online DDL uses them as well, to put a table aside until the new one has its place.
bool is_dropped_table(std::string_view name);

/// gh-ost's and pt-osc's names, when they run outside Vitess, for the table that they build in place of `table` or put
/// aside: `_t_gho`, `_t_del`, `_t_new`, `__t_new`. Vitess takes none of them for its own.
bool is_schema_change_table(std::string_view name, std::string_view table);

}  // namespace psource
