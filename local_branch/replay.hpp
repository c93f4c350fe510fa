// Recorded streams as the history of a branch: FIELD events give its tables, VGTIDs its shards and positions,
// copied rows its tables' contents, transactions its binlogs.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "binlogdata.pb.h"
#include "protocol/failure.hpp"

namespace psource::local_branch {

class branch;

struct recorded_event {
  /// Table names are bare, whatever the recording had.
  binlogdata::VEvent event;
  /// For ROW events: the FIELD event that held for them in the recording.
  std::shared_ptr<const binlogdata::FieldEvent> field;
};

/// Everything between two positions of a shard, BEGIN and COMMIT included, VGTID left out.
struct recorded_transaction {
  std::vector<recorded_event> events;
  /// The shard's position after it.
  std::string position;
  /// It carries a JOURNAL, which is sent only to those who ask for it.
  bool journal = false;
};

/// The copy of a table on one shard.
struct recorded_table {
  /// As the copy sent it.
  binlogdata::FieldEvent field;
  /// Serialized query.Row, in the copy's order.
  std::vector<std::string> rows;
  /// How many of the shard's recorded transactions came before it.
  std::size_t snapshot = 0;
};

/// Adds the keyspaces of a recording (length-delimited vtgate.VStreamResponse messages, also gzipped) to the
/// branch. Errors: input_unreadable, naming the file and what is wrong with it.
result<void> add_recording(branch& target, const std::string& file);

}  // namespace psource::local_branch
