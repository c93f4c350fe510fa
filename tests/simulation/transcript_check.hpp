// Holds what a read has said against the truth of the branch model: the invariants of docs/design.md,
// section 4.
#pragma once

#include <rapidjson/document.h>

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "tests/simulation/branch_model.hpp"
#include "tests/simulation/engine_run.hpp"

namespace psource::simulation {

/// A RECORD, taken apart.
struct told_row {
  std::size_t table = 0;
  std::int64_t id = 0;
  std::uint64_t version = 0;
  bool deleted = false;
  /// Came by a copy: its time is not a whole second.
  bool copied = false;
  std::int64_t cursor = 0;
};

/// What a destination holds of a row: the record with the largest cursor.
struct folded_row {
  std::int64_t cursor = 0;
  std::uint64_t version = 0;
  bool deleted = false;
  /// Was not covered by a state when its run ended.
  bool tail = false;
};

enum class told_status : std::uint8_t { none, started, running, complete, incomplete };

/// What was told of one Airbyte stream in one run.
struct told_stream {
  told_status status = told_status::none;
  std::uint64_t records = 0;
  std::uint64_t states = 0;
  std::uint64_t errors = 0;
};

/// Follows all runs of one simulation. Violations are sentences.
class transcript_check {
 public:
  transcript_check(branch_model& branch, const settled_positions& settled,
                   std::vector<configured_stream> streams);

  /// The configuration selects the shards of these keyspace ids only: [low, high).
  void select(int low, int high) { low_ = low, high_ = high; }
  /// From the next run on these are the streams of the catalog: the same ones, with other columns perhaps.
  void take_catalog(std::vector<configured_stream> streams) { streams_ = std::move(streams); }
  /// Before a run: what the branch looks like when it starts.
  void run_begins();
  /// After a run: checks everything it said. `interval_us`: the checkpoint interval.
  void take(const run_report& report, std::int64_t interval_us, bool lagging);
  /// After a last quiet run: what was delivered is the branch's rows.
  void compare_with_truth();

  /// The last states told, as the text of a state file.
  std::string state_text() const;
  /// All incremental and full-refresh streams of the last run were COMPLETE.
  bool all_complete() const;
  /// A full refresh ended COMPLETE: a next one is another sync.
  bool refresh_is_complete(std::size_t stream) const { return refresh_complete_.count(stream) > 0; }
  void begin_refresh(std::size_t stream);

  /// What the branch holds now was delivered before, by someone else.
  void adopt();

  const std::vector<told_stream>& last_run() const { return told_; }
  const std::vector<told_row>& last_records() const { return run_records_; }
  const std::vector<std::string>& last_logs() const { return logs_; }
  const std::vector<std::string>& violations() const { return violations_; }

 private:
  struct claim {
    std::size_t index = 0;
    std::optional<std::int64_t> lastpk;
  };
  struct stream_run {
    std::uint64_t counted = 0;
    std::optional<std::int64_t> oldest_unstated_us;
    std::int64_t last_state_us = 0;
    bool state_was_last = false;
    std::vector<told_row> unstated;
  };

  bool leads_through_a_switch(const opened_call::start& start) const;
  void take_warning(const std::string& text);
  void check_columns(std::size_t stream, const told_row& row, const rapidjson::Value& data);
  std::set<std::size_t> possible_shapes(const told_row& row) const;
  std::set<std::string> warnings_of(std::size_t stream, const table_shape& shape) const;
  bool has_columns(std::size_t stream, const told_row& row, const rapidjson::Value& data,
                   const table_shape& shape) const;
  void line(const std::string& text, std::int64_t time_us, bool delivered);
  void take_record(std::size_t stream, const told_row& row, std::int64_t time_us, bool delivered);
  void take_state(std::size_t stream, const std::string& body, double count, const std::string& text,
                  std::int64_t time_us, bool delivered);
  void take_status(std::size_t stream, const std::string& status, bool delivered);
  void check_rising(const told_row& row);
  void check_repetition(std::size_t stream, const told_row& row);
  void check_coverage(std::size_t stream, const model_shard& shard, const claim& claimed);
  bool is_selected(std::int64_t id) const;
  bool may_have_gone_untold(const std::vector<row_moment>& moments, std::size_t index) const;
  bool copy_started_over(std::size_t table, const model_shard& shard, std::int64_t id) const;
  void forgive_emptied(std::size_t table, const model_shard& shard, std::size_t index);
  void check_late(std::size_t stream, std::int64_t time_us);
  void check_refresh(std::size_t stream);
  void fold(std::map<row_key, folded_row>& rows, const told_row& row, bool tail);
  std::optional<std::size_t> find(const std::string& table) const;
  void violate(const std::string& what);

  branch_model& branch_;
  const settled_positions& settled_;
  std::vector<configured_stream> streams_;
  std::vector<std::size_t> tables_;  // per stream
  std::vector<told_stream> told_;
  std::vector<stream_run> run_;
  std::map<std::size_t, std::string> last_state_lines_;
  std::map<std::size_t, std::map<std::string, claim>> claims_;
  std::map<row_key, folded_row> everything_;
  std::map<row_key, folded_row> committed_;
  std::map<std::pair<std::size_t, int>, told_row> last_by_place_;
  std::map<std::size_t, std::uint64_t> refresh_from_;
  std::map<std::size_t, std::vector<told_row>> refreshed_;
  std::set<std::size_t> refresh_complete_;
  /// A replica that lags, or a reshard, may show older rows than those of its beginning.
  std::set<std::size_t> refresh_blurred_;
  /// Tables that a reshard or a lost position makes start over, as people were told: what is deleted until then stays.
  std::set<std::size_t> to_be_copied_;
  std::vector<told_row> run_records_;
  std::vector<std::string> logs_;
  /// The warnings about columns of this run.
  std::set<std::string> column_warnings_;
  /// Tables of which this run has told that rows went without a trace.
  std::set<std::size_t> emptied_;
  std::vector<std::string> violations_;
  int low_ = 0;
  int high_ = 256;
  std::int64_t interval_us_ = 0;
  std::set<std::pair<std::string, std::size_t>> restarted_;
  bool resharded_ = false;
  bool lagging_ = false;
  std::uint64_t runs_ = 0;
};

}  // namespace psource::simulation
