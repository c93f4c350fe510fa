// A sharded branch in memory: rows, a binary log with GTIDs per shard, and the history that is the truth of a
// simulation.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tests/simulation/random.hpp"

namespace psource::simulation {

inline constexpr char keyspace[] = "ks";

/// What has been executed: per server UUID everything from 1 to a number. Written on its own, so that a fault
/// in the program's GTID sets does not hide itself.
struct position_set {
  std::map<std::string, std::uint64_t> last;

  /// "MySQL56/uuid:1-5,uuid:1"; "" for nothing.
  std::string text() const;
  static std::optional<position_set> parse(std::string_view text);
  bool contains(const position_set& other) const;
  friend bool operator==(const position_set& a, const position_set& b) { return a.last == b.last; }
};

/// A row: `v` is made of the version, a number that grows with every change of the branch.
struct model_row {
  std::int64_t id = 0;
  std::uint64_t version = 0;
  std::uint32_t padding = 0;

  std::string value() const;
};

struct model_change {
  std::size_t table = 0;
  std::optional<model_row> before;
  std::optional<model_row> after;
};

enum class entry_kind : std::uint8_t {
  rows,       ///< BEGIN … VGTID COMMIT
  silent,     ///< COMMIT without VGTID: the position moves, nobody is told
  statement,  ///< VGTID OTHER
  unsent,     ///< a GTID that no event tells of
  journal,    ///< the end of a shard that was resharded; sends nothing
};

struct log_entry {
  entry_kind kind = entry_kind::rows;
  std::int64_t seconds = 0;
  /// Its own: "uuid:7".
  std::string gtid;
  std::vector<model_change> changes;
  /// After this entry.
  position_set position;
  std::string position_text;
};

/// One moment in the life of a row on a shard.
struct row_moment {
  /// Number of log entries after which it holds.
  std::size_t index = 0;
  /// The row's version, or the number of its deletion.
  std::uint64_t version = 0;
  bool live = false;
  std::int64_t seconds = 0;
  std::uint32_t padding = 0;
};

using row_key = std::pair<std::size_t, std::int64_t>;  // table, id

struct model_shard {
  std::string name;
  /// First bytes of the keyspace ids that live here: [low, high).
  int low = 0;
  int high = 256;
  bool serving = true;
  /// The server that writes now.
  std::string server;
  position_set start;
  std::string start_text;
  std::vector<log_entry> log;
  /// What the tablets that stream have applied; log.size() unless they lag.
  std::size_t visible = 0;
  bool lagging = false;
  /// The binary log up to this entry is gone.
  std::size_t purged = 0;
  std::vector<std::map<std::int64_t, model_row>> rows;
  std::map<row_key, std::vector<row_moment>> history;
  /// Shards that replaced this one, and all that were replaced together with it.
  std::vector<std::string> successors;
  std::vector<std::string> participants;
  /// The log's length when the journal was written.
  std::size_t journal_at = static_cast<std::size_t>(-1);

  const position_set& position(std::size_t index) const {
    return index == 0 ? start : log[index - 1].position;
  }
  const std::string& position_text(std::size_t index) const {
    return index == 0 ? start_text : log[index - 1].position_text;
  }
  /// How many entries a position covers; nothing when it is not one of this shard's.
  std::optional<std::size_t> index_of(const position_set& position) const;
  /// The same for a position exactly at an entry's end.
  std::optional<std::size_t> exact_index_of(const position_set& position) const;
  /// The row after `index` entries; nullptr when it has never existed until then.
  const row_moment* at(const row_key& key, std::size_t index) const;
  bool holds(std::int64_t id) const;
};

struct model_table {
  std::string name;
  /// Without a key a copy cannot be resumed.
  bool keyed = true;
};

struct write_options {
  std::int64_t ids = 40;
  std::uint32_t padding = 0;
};

class branch_model {
 public:
  /// `boundaries`: where the shards meet, ascending, within (0, 256).
  branch_model(std::vector<model_table> tables, const std::vector<int>& boundaries, chance_source& chance);

  const std::vector<model_table>& tables() const { return tables_; }
  /// Every shard that ever was; pointers stay valid.
  const std::vector<std::unique_ptr<model_shard>>& shards() const { return shards_; }
  std::vector<model_shard*> serving() const;
  model_shard* find(std::string_view name) const;

  /// Grows with every change.
  std::uint64_t version() const { return version_; }

  /// A new row, before anything is read (no log entry).
  void fill(std::size_t table, std::int64_t id, std::uint32_t padding = 0);

  // Writes; each appends one entry to a shard's log.
  log_entry& append(model_shard& shard, entry_kind kind, std::int64_t seconds);
  /// One transaction of the given changes: {table, id, what}. Rows that exist are updated, others inserted.
  void put(model_shard& shard, std::int64_t seconds, const std::vector<row_key>& keys,
           std::uint32_t padding = 0);
  void remove(model_shard& shard, std::int64_t seconds, const row_key& key);
  void change_key(model_shard& shard, std::int64_t seconds, const row_key& key, std::int64_t new_id);
  /// Anything of the above, by chance.
  void write_something(std::int64_t seconds, const write_options& options);

  /// The binary logs but for the last `keep` entries are gone.
  void purge(model_shard& shard, std::size_t keep);
  /// The shard's writes go on under another server UUID.
  void fail_over(model_shard& shard);
  /// Replaces serving neighbours by others that meet at `boundaries` inside their range.
  void reshard(const std::vector<model_shard*>& old, const std::vector<int>& boundaries,
               std::int64_t seconds);

  /// Splits a serving shard or merges two neighbours, by chance; false when there is nothing to do. No name
  /// is used twice.
  bool reshard_something(std::int64_t seconds);

  /// The table is copied again without its position, and people were told so: rows that are gone by now, but may have
  /// been delivered before, will never be told as deleted.
  void forgive_deletions(std::size_t table);
  bool deletion_may_be_missed(std::uint64_t version) const { return missed_deletions_.count(version) > 0; }

  /// Every shard with its log, for people.
  std::string describe() const;

  static std::int64_t keyspace_byte(std::int64_t id) { return (id * 37 + 11) & 255; }
  static std::string shard_name_of(int low, int high);

 private:
  std::string new_server();
  void apply(model_shard& shard, log_entry& entry, std::size_t table, std::optional<model_row> before,
             std::optional<model_row> after);

  std::vector<model_table> tables_;
  std::vector<std::unique_ptr<model_shard>> shards_;
  std::set<std::uint64_t> missed_deletions_;
  chance_source& chance_;
  std::uint64_t version_ = 0;
  unsigned servers_ = 0;
};

}  // namespace psource::simulation
