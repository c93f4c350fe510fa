// Questions that come up while streams run: a seam, so that actors never block and tests can script the answers.
#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "protocol/failure.hpp"
#include "protocol/names.hpp"
#include "protocol/vitess/gtid_set.hpp"
#include "protocol/vitess/row_lookup.hpp"
#include "protocol/vitess/tablet_type.hpp"

namespace psource {

/// What one MySQL server says of its own binary log.
struct server_positions {
  gtid_set purged;
  gtid_set executed;
};

/// How long the positions of shards are waited for: vtgate looks for a tablet for 90 s, and slow peeks of 44 s were seen at users'.
constexpr std::chrono::seconds longest_peek{100};
/// The first of several attempts. vtgate looks for a tablet every 30 s only, and in a failover or a reshard one serves (or other
/// shards do) a few seconds later: asked anew it finds that at once.
constexpr std::chrono::seconds first_peek{10};

/// Thread-safe. Every question is answered exactly once, on a thread of the implementation's (the answer must not block
/// there), in the order of asking; with a failure once it is closed.
class branch_questions {
 public:
  virtual ~branch_questions() = default;
  /// Which transactions a tablet of the shard has executed, and for which the binary logs are gone.
  virtual void ask_positions(const shard_id& shard, tablet_type tablet,
                             std::function<void(result<server_positions>)> answer) = 0;
  /// The shards that serve now, of all keyspaces.
  virtual void ask_serving(std::function<void(result<std::vector<shard_id>>)> answer) = 0;
  /// The present positions of these shards, as at the start of a read; a failure when `limit` is over.
  virtual void ask_stops(std::vector<shard_id> shards, std::chrono::milliseconds limit,
                         std::function<void(result<std::map<shard_id, gtid_set>>)> answer) = 0;
  /// Whole rows for changes that came incomplete, read from a tablet of the shard, or of those that have its keys now when
  /// it was replaced.
  virtual void ask_rows(row_lookup lookup, std::function<void(result<looked_up_rows>)> answer) = 0;
};

}  // namespace psource
