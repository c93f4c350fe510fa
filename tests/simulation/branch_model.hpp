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

enum class column_kind : std::uint8_t { id, version, number, text };

/// A column of a table. What a row holds in it is made of the row's version.
struct model_column {
  std::string name;
  column_kind kind = column_kind::text;
  /// The branch's version when it was added, which is its own: rows that are older have NULL there, and it stays the
  /// same whatever the column is called and becomes.
  std::uint64_t born = 0;

  std::optional<std::string> value(const model_row& row) const;
  /// MySQL's text of its type.
  const char* type() const;
};

using table_shape = std::vector<model_column>;

/// `id` and `v`, which every table has.
table_shape plain_shape();

/// A DDL statement of a table, and the table's columns after it.
struct model_ddl {
  std::string statement;
  table_shape shape;
  bool empties = false;
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
  ddl,        ///< VGTID DDL; OTHER for who does not read the table
  journal,    ///< the end of a shard that was resharded; sends nothing
};

struct log_entry {
  entry_kind kind = entry_kind::rows;
  std::int64_t seconds = 0;
  /// Its own: "uuid:7".
  std::string gtid;
  std::vector<model_change> changes;
  /// ddl: of this table, and which of its statements, from 1.
  std::size_t table = 0;
  std::size_t ddl = 0;
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

/// The end of a shard that was resharded.
struct model_journal {
  /// The log's length before it.
  std::size_t at = 0;
  /// All that were replaced together.
  std::vector<std::string> participants;
  /// What replaced them, and after how many entries of their logs.
  std::map<std::string, std::size_t> successors;
};

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
  /// Per table: after how many log entries which of its DDL statements was the last.
  std::vector<std::map<std::size_t, std::size_t>> ddls;
  /// Each time that it was replaced.
  std::vector<model_journal> journals;

  const position_set& position(std::size_t index) const {
    return index == 0 ? start : log[index - 1].position;
  }
  const std::string& position_text(std::size_t index) const {
    return index == 0 ? start_text : log[index - 1].position_text;
  }
  /// How many DDL statements a table has had after `index` entries.
  std::size_t ddls_at(std::size_t table, std::size_t index) const;
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
  table_shape shape = plain_shape();
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

  /// A stream of the one gets to the other, by journals; true for a shard and itself.
  bool leads_to(const model_shard& from, const model_shard& to) const;

  /// That of the row's last change or deletion, wherever it was.
  std::uint64_t newest_version(const row_key& key) const;

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

  /// The table's columns after its first `ddls` statements.
  const table_shape& shape(std::size_t table, std::size_t ddls) const;
  /// The statement of that number, from 1.
  const model_ddl& ddl(std::size_t table, std::size_t number) const { return ddls_[table][number - 1]; }
  std::size_t ddls(std::size_t table) const { return ddls_[table].size(); }
  /// What who asks for the table's columns is told: those of the first shard.
  const table_shape& shape_now(std::size_t table) const;
  /// A statement that comes after those so far. It has happened nowhere yet.
  void plan_ddl(std::size_t table, model_ddl statement) { ddls_[table].push_back(std::move(statement)); }
  /// The table's next statement happens on the shard; false when it has had all.
  bool alter(model_shard& shard, std::size_t table, std::int64_t seconds);
  /// A statement by chance, on some of the shards, or one that a shard has not had yet.
  void alter_something(std::int64_t seconds);

  /// The binary logs but for the last `keep` entries are gone.
  void purge(model_shard& shard, std::size_t keep);
  /// The shard's writes go on under another server UUID.
  void fail_over(model_shard& shard);
  /// Replaces serving neighbours by others that meet at `boundaries` inside their range.
  void reshard(const std::vector<model_shard*>& old, const std::vector<int>& boundaries,
               std::int64_t seconds);

  /// The traffic goes back to an old shard, and to all that were replaced with it, from those that came in their place and
  /// serve: to the same servers, which have followed them meanwhile.
  void switch_back(model_shard& old, std::int64_t seconds);

  /// Splits a serving shard, merges two neighbours, or undoes such a thing, by chance; says which, nullptr when there is
  /// nothing to do. No new shard gets a name that one had before.
  const char* reshard_something(std::int64_t seconds);

  /// The table is copied again without its position, and people were told so: rows that are gone by now, but may have
  /// been delivered before, will never be told as deleted.
  void forgive_deletions(std::size_t table);
  bool deletion_may_be_missed(std::uint64_t version) const { return missed_deletions_.count(version) > 0; }
  /// A row went when its table was emptied: nothing but a warning tells so.
  bool was_emptied(std::uint64_t version) const { return emptied_.count(version) > 0; }
  void forgive_deletion(std::uint64_t version) { missed_deletions_.insert(version); }

  /// Every shard with its log, for people.
  std::string describe() const;

  static std::int64_t keyspace_byte(std::int64_t id) { return (id * 37 + 11) & 255; }
  static std::string shard_name_of(int low, int high);

 private:
  // Every statement that its tables have not had yet happens on the shard.
  void alter_up_to_date(model_shard& shard, std::int64_t seconds);
  bool undo_something(std::int64_t seconds);
  std::string new_server();
  void end_with_journal(model_shard& shard, model_journal journal, std::int64_t seconds);
  void follow(model_shard& old, const std::vector<model_shard*>& from, std::int64_t seconds);
  void apply(model_shard& shard, log_entry& entry, std::size_t table, std::optional<model_row> before,
             std::optional<model_row> after);

  model_ddl some_ddl(std::size_t table);

  std::vector<model_table> tables_;
  std::vector<std::vector<model_ddl>> ddls_;
  std::vector<std::unique_ptr<model_shard>> shards_;
  std::set<std::uint64_t> emptied_;
  std::set<std::uint64_t> missed_deletions_;
  chance_source& chance_;
  std::uint64_t version_ = 0;
  unsigned servers_ = 0;
};

}  // namespace psource::simulation
