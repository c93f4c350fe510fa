// The model of a branch: keyspaces, shards, tables, and one binlog per shard. Rows that were never changed
// take no memory: they are made up when somebody reads them (rows.hpp); changed ones are kept as version
// numbers.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <shared_mutex>
#include <string>
#include <vector>

#include "local_branch/ddl.hpp"
#include "local_branch/gtids.hpp"
#include "local_branch/rows.hpp"
#include "local_branch/schema.hpp"
#include "local_branch/shards.hpp"
#include "protocol/failure.hpp"

namespace psource::local_branch {

class keyspace;
struct recorded_transaction;
struct recorded_table;

/// A table of a keyspace, the same on each of its shards.
struct table {
  table_schema schema;
  /// Makes the rows; null for tables without rows of their own (views, recorded tables).
  std::unique_ptr<row_maker> rows;
  /// Ids 1 … row_count exist from the start, over all shards.
  std::int64_t row_count = 0;
  /// The write load changes it.
  bool writable = false;
  /// The DDLs that may come, in their order. Fixed once the branch is served; which of them a shard has had,
  /// the shard knows.
  std::deque<ddl> ddls;

  const table_schema& schema_after(std::size_t count) const {
    return count == 0 ? schema : ddls[count - 1].schema;
  }
};

enum class change_kind : std::uint8_t { insert, update, remove };

/// One row change of a transaction, small because the row's bytes can always be made again.
struct change {
  std::int64_t id = 0;
  /// The version that the change made (insert, update: its before image is version - 1) or ended (remove).
  std::uint32_t version = 0;
  /// Number of the table in its keyspace.
  std::uint16_t table = 0;
  change_kind kind = change_kind::insert;
  bool ends_statement = false;
};

struct handover;

struct transaction {
  /// Which server's, as a number into shard::sources().
  std::uint32_t source = 0;
  std::uint64_t number = 0;
  /// Commit time, nanoseconds since 1970.
  std::int64_t time_ns = 0;
  std::vector<change> changes;
  /// Set for transactions of a recording, which then holds everything.
  std::shared_ptr<const recorded_transaction> recorded;
  /// It is the journal of this reshard: shown only to those who ask for journals.
  const handover* journal = nullptr;
  /// It is a DDL: of this table, and which of its DDLs (from 1; 0 = it is none).
  std::size_t ddl_table = 0;
  std::size_t ddl_number = 0;
};

class shard;

/// A reshard: when a stream has read all of the participants' logs, it goes on with the successors, each from
/// its initial position.
struct handover {
  std::vector<shard*> participants;
  std::vector<shard*> successors;
  /// The participants can still be read from afterwards.
  bool keep_old = true;
};

/// Told about commits; see shard::subscribe().
class commit_listener {
 public:
  virtual ~commit_listener() = default;
  /// A transaction was committed to a shard. On the committing thread, without locks; must not block.
  virtual void on_commit() = 0;
};

/// What one shard holds of one table.
class shard_table {
 public:
  struct row_state {
    /// Log index of the transaction that made it.
    std::uint64_t since = 0;
    std::uint32_t version = 0;
    bool present = true;
    /// How many DDLs the table had had when it was written.
    std::uint16_t ddls = 0;
    std::unique_ptr<row_state> older;

    /// Becomes another state; what it was is kept.
    void replace(std::uint64_t since_index, std::uint32_t new_version, bool is_present, std::uint16_t ddls_had) {
      auto was = std::make_unique<row_state>(std::move(*this));
      *this = row_state{since_index, new_version, is_present, ddls_had, std::move(was)};
    }
  };

  /// The row's state now; nullptr = never changed.
  const row_state* find(std::int64_t id) const {
    const auto found = changed.find(id);
    return found == changed.end() ? nullptr : &found->second;
  }

  /// A DDL of the table that has happened.
  struct ddl_done {
    /// Its log index.
    std::uint64_t since = 0;
    /// Which one, from 1. What the ones before it change is part of it.
    std::size_t number = 0;
  };

  std::vector<ddl_done> ddls;
  /// The log index of the first DDL that emptied the table: rows from the start are gone after it.
  std::optional<std::uint64_t> emptied;
  /// Every changed row with its history, by id.
  std::map<std::int64_t, row_state> changed;
  /// Set for tables of a recording.
  std::shared_ptr<const recorded_table> recorded;
};

/// One shard. Everything behind mutex() is read under a shared lock and changed under an exclusive one.
class shard {
 public:
  /// `number` is its place in the keyspace's row layout.
  shard(keyspace& owner, std::string name, std::size_t number, std::string server_uuid);
  /// A shard that a reshard will bring; it holds the ids whose keys lie in the range.
  shard(keyspace& owner, std::string name, std::size_t number, std::string server_uuid, key_range keys);

  const std::string& name() const { return name_; }
  keyspace& owner() const { return owner_; }
  /// Its place among the keyspace's shards.
  std::size_t number() const { return number_; }
  std::shared_mutex& mutex() const { return mutex_; }

  /// The id belongs to this shard.
  bool holds(std::int64_t id) const;
  /// The smallest of its ids that is greater than `after`.
  std::int64_t next_id(std::int64_t after) const;
  /// One of its ids for a number from 0 on; a larger number never gives a smaller id.
  std::int64_t id_near(std::int64_t run) const;

  /// How many transactions there are. Thread-safe without the lock.
  std::size_t log_size() const { return size_.load(std::memory_order_acquire); }

  // -- behind mutex()
  // ------------------------------------------------------------------------------------------------
  const transaction& at(std::size_t index) const { return log_[index]; }
  /// UUIDs of the servers that wrote the log.
  const std::vector<std::string>& sources() const { return sources_; }
  /// What was executed after the first `count` transactions.
  gtids executed(std::size_t count) const;
  /// The same as text, "MySQL56/uuid:1-5".
  std::string position(std::size_t count) const;
  /// The first transaction that `have` lacks (log_size() when it lacks none); nullopt when `have` holds GTIDs
  /// that this shard has not executed.
  std::optional<std::size_t> locate(const gtids& have) const;

  /// The transactions whose binary logs are gone.
  gtids purged() const { return executed(purged_); }
  /// Where a stream begins that comes over from the shard's predecessors.
  std::string begin_position() const { return initial_position.empty() ? position(1) : initial_position; }

  /// Calls f(id, version) for each row of table number `t` above `after` that a snapshot of the first `count`
  /// transactions shows, in the order of ids, until f says false.
  template <class F>
  void scan(std::size_t t, std::size_t count, std::int64_t after, F&& f) const;

  /// The version of a row that exists now; nullopt when it does not.
  std::optional<std::uint32_t> version_of(std::size_t t, std::int64_t id) const;

  /// How many DDLs of table number `t` its first `count` transactions have brought.
  std::size_t ddls_of(std::size_t t, std::size_t count) const;
  /// What the table looks like after the first `count` transactions.
  const table_schema& schema_of(std::size_t t, std::size_t count) const;
  /// Writes a row's version as it is after `ddls` DDLs of its table. The table has to have rows. The bytes lie
  /// in `room`, until it is used again.
  std::string_view make_row(byte_buffer& room, std::size_t t, std::size_t ddls, std::int64_t id,
                            std::uint32_t version, row_text text) const;

  std::vector<shard_table>& tables() { return tables_; }
  const std::vector<shard_table>& tables() const { return tables_; }
  // ------------------------------------------------------------------------------------------------------------------

  /// Writes one transaction: `build(writer)` calls insert(), update() and remove(). Without a change, and on
  /// a shard that does not serve, nothing is committed. Returns the number of changes. Thread-safe.
  class writer;
  template <class F>
  std::size_t write(std::int64_t time_ns, F&& build);

  /// Appends a transaction as it is (empty ones, recorded ones). Thread-safe.
  void append(transaction t);

  /// The listener hears of every later commit for as long as it lives. Thread-safe.
  void subscribe(std::weak_ptr<commit_listener> listener);

  /// From now on another server writes its log, which begins with an empty transaction. Thread-safe.
  void fail_over();
  /// Forgets the binary logs but for the last `keep` transactions. Streams that would need them look for a
  /// tablet for `search` (0: as long as vtgate does). Thread-safe.
  void purge(std::size_t keep, std::chrono::milliseconds search);
  /// 0 = as long as vtgate does.
  std::chrono::milliseconds search() const { return std::chrono::milliseconds(search_ms_.load()); }

  /// False before a reshard brought it and after one has replaced it.
  std::atomic<bool> serving{true};
  /// Nobody knows it (any more).
  std::atomic<bool> gone{false};
  /// Recordings: what was executed before the first transaction.
  std::string initial_position;
  /// What comes after its journal, if it was resharded. Set before that transaction can be seen.
  std::atomic<const handover*> handed_over{nullptr};

 private:
  friend class keyspace;
  class id_walk;

  void notify();
  /// Behind mutex(), exclusively.
  void commit(transaction t);
  /// The row was there from the start; the table may have been emptied since.
  bool is_original(std::size_t t, std::int64_t id) const;
  /// Behind mutex(), exclusively: no row is left from now on, and no row event tells so.
  void empty(std::size_t t);
  /// False when it does not serve or has had the DDL. The caller notifies.
  bool alter(std::size_t t, std::size_t number, std::int64_t time_ns);

  keyspace& owner_;
  const std::string name_;
  const std::size_t number_;
  /// Its ids are exactly those that have its number in the layout; else those with keys in keys_.
  const bool whole_;
  const key_range keys_;
  mutable std::shared_mutex mutex_;
  std::vector<std::string> sources_;
  std::deque<transaction> log_;
  std::vector<shard_table> tables_;
  std::atomic<std::size_t> size_{0};
  std::size_t purged_ = 0;
  std::atomic<std::int64_t> search_ms_{0};
  std::mutex listeners_mutex_;
  std::vector<std::weak_ptr<commit_listener>> listeners_;
};

/// Walks the ids of a shard, in order.
class shard::id_walk {
 public:
  id_walk(const shard& of, std::int64_t after);
  std::int64_t id() const { return id_; }
  inline void next();

 private:
  void take_run();

  const shard& shard_;
  std::int64_t run_;
  std::int64_t id_ = 0;
  /// The ids of the run, unless the shard has one in each.
  std::vector<std::int64_t> ids_;
  std::size_t at_ = 0;
};

/// Collects the changes of one transaction; only inside shard::write().
class shard::writer {
 public:
  /// The row exists now.
  bool exists(std::size_t table, std::int64_t id) const;
  /// Each returns false, and does nothing, when the row is there already (insert) or is not there (update,
  /// remove). The id must be one of this shard's.
  bool insert(std::size_t table, std::int64_t id);
  bool update(std::size_t table, std::int64_t id);
  bool remove(std::size_t table, std::int64_t id);
  /// The changes since the last call were one SQL statement.
  void end_statement();

 private:
  friend class shard;
  explicit writer(shard& target) : shard_(target) {}
  void set(std::size_t table, std::int64_t id, std::uint32_t version, bool present);
  void add(change_kind kind, std::size_t table, std::int64_t id, std::uint32_t version);

  shard& shard_;
  std::vector<change> changes_;
};

/// A keyspace with its shards and tables. Once the branch is served they are fixed, but for what its shards
/// hold and for reshards, whose shards are made before.
class keyspace {
 public:
  /// Shards of equal key ranges; their server UUIDs come from the seed.
  keyspace(std::string name, std::uint64_t seed, std::size_t shards);
  /// Shards by name, for recordings.
  keyspace(std::string name, std::uint64_t seed, const std::vector<std::string>& shards);

  const std::string& name() const { return name_; }
  std::uint64_t seed() const { return seed_; }
  const row_layout& layout() const { return layout_; }
  /// Its tables and logs come from a recording.
  bool recorded() const { return recorded_; }
  /// All shards, also those that come later and those that were replaced.
  const std::vector<std::unique_ptr<shard>>& shards() const { return shards_; }
  /// Those that serve now. Thread-safe.
  std::vector<shard*> serving_shards() const;
  /// Those that streams can begin on: also replaced ones that are kept. Thread-safe.
  std::vector<shard*> readable_shards() const;
  const std::vector<table>& tables() const { return tables_; }
  /// The shard of that name that serves, else the one that did so last; nullptr when nobody knows it.
  shard* find_shard(const std::string& name) const;
  std::optional<std::size_t> find_table(const std::string& name) const;

  /// Plans a reshard that comes after those planned before. Before the branch is served only. Errors:
  /// config_invalid (a shard that will not be there, ranges that do not cover each other).
  result<const handover*> plan_reshard(const std::vector<std::string>& from,
                                       const std::vector<std::string>& to, bool keep_old);
  /// A reshard that has happened already (in a recording). Before the branch is served only.
  const handover* add_handover(handover made);
  /// Switches to the successors, with the rows of the participants as they are now; false when those do not
  /// serve. Thread-safe.
  bool reshard(const handover& plan);

  /// Plans a DDL on table number `t` that comes after those planned before, and returns its number, from 1.
  /// Before the branch is served only. Errors: config_invalid (also for a recording).
  result<std::size_t> plan_ddl(std::size_t t, const ddl_change& change);
  /// Carries out a planned DDL, and what is left of the ones before it, on the serving shards, or on the one of
  /// that name; not where it has happened already. False when there was none to alter. Thread-safe.
  bool alter(std::size_t t, std::size_t number, const std::string& only_shard, std::int64_t time_ns);
  /// What the table looks like now, to who asks the whole keyspace: as on its first serving shard.
  /// Thread-safe.
  const table_schema& schema_now(std::size_t t) const;

  /// Before the branch is served only.
  void add_table(table t);
  /// sbtest1 … sbtest<count> with `rows` rows each.
  void add_sbtest_tables(std::size_t count, std::int64_t rows);
  /// `keyless`: as a sysbench table, but without a primary key.
  void add_keyless_table(std::int64_t rows);
  /// A view, a sequence and a table that an online DDL has put aside: what a source must leave out.
  void add_internal_tables();

 private:
  void add_shards(const std::vector<std::string>& names);
  /// find_shard() for who holds topology_.
  shard* find_held(const std::string& name) const;

  const std::string name_;
  const std::uint64_t seed_;
  const row_layout layout_;
  const bool recorded_;
  std::vector<std::unique_ptr<shard>> shards_;
  std::vector<table> tables_;
  std::vector<std::unique_ptr<handover>> handovers_;
  /// What will serve when all planned reshards have happened.
  std::vector<shard*> planned_;
  mutable std::shared_mutex topology_;
};

/// All keyspaces. The map is fixed once the branch is served.
class branch {
 public:
  explicit branch(std::uint64_t seed) : seed_(seed) {}

  std::uint64_t seed() const { return seed_; }
  /// Keyspaces by name.
  const std::map<std::string, std::unique_ptr<keyspace>>& keyspaces() const { return keyspaces_; }
  keyspace* find(const std::string& name) const;
  /// Adds a keyspace; nullptr when the name is taken.
  keyspace* add(std::string name, std::size_t shards);
  keyspace* add(std::string name, const std::vector<std::string>& shards);

 private:
  const std::uint64_t seed_;
  std::map<std::string, std::unique_ptr<keyspace>> keyspaces_;
};

/// A hash of a text that is the same on every machine.
std::uint64_t hash_of(std::string_view text);

// -- templates
// ---------------------------------------------------------------------------------------------------------

void shard::id_walk::next() {
  if (shard_.whole_)
    id_ = shard_.owner_.layout().id_in_run(shard_.number_, ++run_);
  else
    take_run();
}

template <class F>
void shard::scan(std::size_t t, std::size_t count, std::int64_t after, F&& f) const {
  const auto& definition = owner_.tables()[t];
  const auto& changed = tables_[t].changed;
  const bool emptied = tables_[t].emptied && *tables_[t].emptied < count;
  const std::int64_t last = emptied ? 0 : definition.row_count;
  id_walk walk(*this, after);
  std::int64_t base = walk.id();
  const auto advance = [&] {
    walk.next();
    base = walk.id();
  };
  auto it = changed.upper_bound(after);
  for (;;) {
    if (base <= last && (it == changed.end() || base < it->first)) {
      if (!f(base, std::uint32_t{0})) return;
      advance();
      continue;
    }
    if (it == changed.end()) return;
    const bool from_start = it->first == base && base <= last;
    if (from_start) advance();
    const shard_table::row_state* state = &it->second;
    while (state != nullptr && state->since >= count) state = state->older.get();
    if (state != nullptr ? state->present : from_start)
      if (!f(it->first, state != nullptr ? state->version : std::uint32_t{0})) return;
    ++it;
  }
}

template <class F>
std::size_t shard::write(std::int64_t time_ns, F&& build) {
  std::size_t count = 0;
  {
    std::unique_lock lock(mutex_);
    if (!serving) return 0;
    writer target(*this);
    build(target);
    target.end_statement();
    count = target.changes_.size();
    if (count == 0) return 0;
    transaction t;
    t.time_ns = std::max<std::int64_t>(time_ns, 1'000'000'000);  // 0 would be a copy's
    t.changes = std::move(target.changes_);
    commit(std::move(t));
  }
  notify();
  return count;
}

}  // namespace psource::local_branch
