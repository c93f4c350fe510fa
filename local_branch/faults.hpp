// Faults that a branch is told to have: what goes wrong, where and when. The grammar of the file is in
// README.md.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "local_branch/branch.hpp"

namespace psource::local_branch {

enum class fault_kind : std::uint8_t {
  // Of one call.
  close,
  reset,
  stall,
  status,
  garbage,
  oversized,
  trickle,
  duplicate_begin,
  half_transaction,
  // Of the branch.
  purge,
  failover,
  reshard,
  restart,
  ddl,
};

/// The kind's name in the file.
const char* to_string(fault_kind kind);
constexpr bool is_of_branch(fault_kind kind) { return kind >= fault_kind::purge; }

/// A peek is a call that begins at "current"; "any" stands for all other calls.
enum class fault_phase : std::uint8_t { any, copy, binlog, peek };

struct fault {
  fault_kind kind = fault_kind::close;
  /// Its line in the file, from 1.
  std::size_t line = 0;

  // Where: empty names stand for any.
  std::string keyspace, shard, table;
  fault_phase phase = fault_phase::any;

  // When: all that is given has to be met.
  std::optional<std::uint64_t> rows;
  std::chrono::milliseconds after{0};
  bool on_signal = false;
  std::uint64_t repeat = 1;

  // What.
  /// stall: how long (nothing = for ever); trickle: between messages; restart: how long nobody listens;
  /// purge: how long streams look for a tablet (0 = 90 s).
  std::optional<std::chrono::milliseconds> duration;
  /// stall: the call goes on to send heartbeats.
  bool heartbeats = false;
  int code = 14;
  std::string message;
  std::size_t bytes = 0;
  std::size_t events = 1;
  std::size_t keep = 0;
  std::vector<std::string> from, to;
  bool keep_old = true;
  /// ddl: the statements on `table`, in their order.
  std::vector<ddl_change> changes;

  /// It waits for a call that has sent enough.
  bool needs_call() const {
    const bool of_table = !table.empty() && kind != fault_kind::ddl;
    return !is_of_branch(kind) || rows || of_table || phase != fault_phase::any;
  }
};

struct parsed_faults {
  std::vector<fault> faults;
  /// One sentence per problem, with its line.
  std::vector<std::string> problems;
};

/// Reads the lines of a fault file. Empty lines and lines that begin with '#' are skipped.
parsed_faults parse_faults(std::string_view text);

/// What a call tells of itself when faults are looked for.
struct call_view {
  /// Whether the call reads a table on a shard of a keyspace; empty names stand for any.
  std::function<bool(const std::string& keyspace, const std::string& shard, const std::string& table)> reads;
  bool copying = false;
  /// It began at "current".
  bool peeks = false;
  /// Rows that it sent, those of the response at hand included.
  std::uint64_t rows = 0;
  /// There is a response at hand.
  bool has_response = false;
  /// The response at hand holds a BEGIN with rows behind it.
  bool has_transaction = false;
};

/// Makes the faults happen. Thread-safe.
class fault_injector {
 public:
  using clock = std::chrono::steady_clock;
  struct hooks {
    /// A fault has begun.
    std::function<void(const fault&)> told;
    /// The time of a fault of the branch has come, and there was nothing that it could happen to.
    std::function<void(const fault&)> missed;
    /// A signal has come for a fault; from now on it can begin.
    std::function<void(const fault&)> signalled;
    /// Ends every call and connection, waits, and listens again. On the injector's own thread.
    std::function<void(std::chrono::milliseconds)> restart;
  };

  /// Plans the reshards and the DDLs, so before the branch is served. Errors: config_invalid, naming the
  /// line, also for what can never happen.
  static result<std::unique_ptr<fault_injector>> make(branch& target, std::vector<fault> faults, hooks told);
  ~fault_injector();

  /// Time begins now.
  void start();
  /// Sets off the next fault that waits for a signal.
  void signal();
  /// Nothing happens any more when it returns. May be repeated.
  void stop();

  /// The fault of this call that is due, if any; those of the branch are carried out here. `had` is the
  /// call's own record of what it had. The call has to ask again when the listener hears of a commit.
  std::optional<fault> next(const call_view& call, std::vector<bool>& had);
  /// Wakes calls without a response when a fault becomes due.
  void subscribe(std::weak_ptr<commit_listener> call);

 private:
  struct entry {
    fault what;
    const handover* plan = nullptr;
    struct planned_ddl {
      keyspace* ks = nullptr;
      std::size_t table = 0;
      std::size_t number = 0;
    };
    std::vector<planned_ddl> ddls;
    std::uint64_t left = 1;
    std::chrono::milliseconds period{0};
    /// Its signal has come.
    bool signalled = false;
    /// Calls were woken for it.
    bool woken = false;
  };
  fault_injector(branch& target, hooks told) : target_(target), hooks_(std::move(told)) {}
  void run();
  bool due(const entry& e, clock::time_point now) const;
  /// Counts one time.
  static void begin_again(entry& e);
  /// Does what a fault of the branch says, and tells. Without the lock.
  void carry_out(const entry& e);
  /// False when there is nothing that it could happen to.
  bool happens(const entry& e);
  /// The shard will be there, and is one that the fault can happen to.
  bool has_shard_of(const fault& what) const;
  void wake_calls();

  branch& target_;
  const hooks hooks_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<entry> entries_;
  /// Restarts that a call has set off.
  std::vector<entry> queued_;
  std::vector<std::weak_ptr<commit_listener>> calls_;
  bool started_ = false;
  bool stopped_ = false;
  clock::time_point begin_;
  std::thread thread_;
};

}  // namespace psource::local_branch
