// Faults that only tests can plant, to show that the simulation finds them
// (tests/simulation/mutations_main.cpp). In the program itself every question here is the constant `false`.
#pragma once

#include <cstdint>

namespace psource::test_faults {

enum class fault : std::uint8_t {
  none,
  state_before_records,       ///< A state is written before the records that it counts.
  cursor_inside_transaction,  ///< A cursor moves with the rows, not with their COMMIT.
  lost_last_batch,            ///< The last records of a stream are forgotten, its cursors are not.
  skipped_pending_table,      ///< A table whose copy has not begun is stored with the stream's position.
  equality_at_stop,           ///< A stream ends at its stop position only, not past it.
  forgotten_beginning,        ///< A state does not say where a copy began that starts over after a kill.
  columns_of_before,          ///< The columns of a table's first FIELD event are taken for those of the later ones.
  emptied_untold,             ///< Nothing is said when a statement empties a table.
  ended_in_between,           ///< A table counts as read where its stream ended on shards that serve no more.
};

#ifdef PSOURCE_TEST_FAULTS
/// Set by the one thread of the simulation, between its runs.
inline fault planted = fault::none;
inline bool is(fault which) { return planted == which; }
#else
constexpr bool is(fault) { return false; }
#endif

}  // namespace psource::test_faults
