// Implementation of simulation.hpp.
#include "tests/simulation/simulation.hpp"

#include <functional>
#include <ostream>

#include "tests/simulation/engine_run.hpp"
#include "tests/simulation/transcript_check.hpp"

namespace psource::simulation {

namespace {

constexpr unsigned most_quiet_runs = 4;

// Each kind of trouble is there in some runs only, so that the combinations differ.
chaos draw_chaos(chance_source& chance, bool big_rows) {
  chaos trouble;
  const auto sometimes = [&](unsigned percent, unsigned most) {
    return chance.percent(percent) ? 1 + static_cast<unsigned>(chance.below(most)) : 0;
  };
  trouble.faults = sometimes(80, 10);
  trouble.cut = sometimes(60, 30);
  trouble.restart = sometimes(40, 20);
  // What an old server repeats cannot be told from what is new where no position comes with it.
  trouble.old_server = trouble.restart == 0 && chance.percent(50);
  trouble.mute = sometimes(8, 5);
  trouble.heartbeats_only = sometimes(10, 5);
  trouble.hide_copy_completed = sometimes(20, 100);
  trouble.refuse = sometimes(20, 60);
  trouble.write = sometimes(80, 150);
  trouble.writes = static_cast<unsigned>(chance.below(25));
  trouble.padding = big_rows ? static_cast<std::uint32_t>(chance.between(5'000, 150'000)) : 0;
  trouble.alter = sometimes(25, 60);
  trouble.alters = 1 + static_cast<unsigned>(chance.below(6));
  trouble.fail_over = sometimes(25, 10);
  trouble.purge = sometimes(12, 10);
  trouble.reshard = sometimes(10, 20);
  trouble.reshard_copies = chance.percent(50);
  trouble.reshards = 1 + static_cast<unsigned>(chance.below(3));
  trouble.no_questions = chance.percent(20);
  trouble.question_fails = sometimes(30, 100);
  if (chance.percent(40)) trouble.output_speed = 20 + static_cast<unsigned>(chance.below(60));
  if (chance.percent(40))
    trouble.output_bytes = big_rows ? 20'000 + chance.below(20'000) : 40 + chance.below(400);
  if (chance.percent(50)) trouble.output_at_once = chance.percent(70) ? 1 << 20 : trouble.output_bytes;
  if (chance.percent(12)) {
    trouble.break_at = chance.below(6'000);
    trouble.disk_full = chance.percent(50);
  }
  if (chance.percent(45)) trouble.kill_at_step = chance.below(chance.percent(50) ? 150 : 1'500);
  if (chance.percent(8)) trouble.stop_at_step = chance.below(600);
  return trouble;
}

}  // namespace

simulation_result simulate(std::uint64_t seed, std::ostream* trace) {
  chance_source chance(seed * 0x9e3779b97f4a7c15ULL + 1);
  simulation_result result;

  std::vector<model_table> tables;
  const std::size_t table_count = 1 + chance.below(4);
  for (std::size_t i = 0; i < table_count; ++i) {
    tables.push_back({"t" + std::to_string(i), !chance.percent(20), plain_shape()});
    if (chance.percent(30)) tables.back().shape.push_back({"number", column_kind::number, 0});
    if (chance.percent(30)) tables.back().shape.push_back({"text", column_kind::text, 0});
  }
  static const std::vector<std::vector<int>> layouts = {{},     {},           {0x80},
                                                        {0x80}, {0x40, 0x80}, {0x40, 0x80, 0xc0}};
  branch_model branch(tables, layouts[chance.below(layouts.size())], chance);
  const bool big_rows = chance.percent(6);
  for (std::size_t t = 0; t < tables.size(); ++t)
    if (!chance.percent(20))
      for (std::size_t n = chance.below(15); n > 0; --n)
        branch.fill(t, chance.between(1, 40),
                    big_rows ? static_cast<std::uint32_t>(chance.below(60'000)) : 0);

  std::vector<configured_stream> streams;
  for (const auto& table : tables)
    streams.push_back(
        configured(table, chance.percent(10) ? sync_mode::full_refresh : sync_mode::incremental));

  simulated_time time;
  settled_positions settled;
  transcript_check check(branch, settled, streams);
  // `shards` of the configuration: those of a part of the keyspace, which whoever configures it keeps up to date.
  int low = 0;
  int high = 256;
  if (chance.percent(20)) {
    const auto shards = branch.serving();
    const auto* one = shards[chance.below(shards.size())];
    low = one->low;
    high = one->high;
    check.select(low, high);
  }
  std::int64_t sync_id = 1;
  const std::size_t troubled_runs = 1 + chance.below(4);
  const std::hash<std::string> hash;
  // Replicas that lag go with tables whose rows are compared at the end only.
  const bool may_lag = chance.percent(10);

  for (std::size_t n = 0;; ++n) {
    const bool quiet = n >= troubled_runs;
    // Between two reads the branch goes on.
    time.now_us += chance.between(0, 20) * 1'000'000 + chance.between(0, 999) * 1'000;
    if (!quiet || n == troubled_runs) {
      for (std::size_t w = chance.below(12); w > 0; --w) {
        branch.write_something(time.seconds(),
                               {40, big_rows ? static_cast<std::uint32_t>(chance.below(60'000)) : 0});
        if (chance.percent(30)) time.now_us += 100'000;
      }
      if (chance.percent(12))
        for (std::size_t r = 1 + chance.below(3); r > 0; --r) {
          if (const char* what = branch.reshard_something(time.seconds())) ++result.troubles[what];
          if (chance.percent(70)) branch.write_something(time.seconds(), {40, 0});
        }
      if (chance.percent(15)) {
        const auto serving = branch.serving();
        branch.fail_over(*serving[chance.below(serving.size())]);
        ++result.troubles["failovers"];
      }
      if (chance.percent(15))
        for (std::size_t a = 1 + chance.below(3); a > 0; --a) {
          branch.alter_something(time.seconds());
          ++result.troubles["schema changes"];
        }
      for (std::size_t w = chance.below(5); w > 0; --w) branch.write_something(time.seconds(), {40, 0});
      if (chance.percent(6)) {
        const auto& shards = branch.shards();
        branch.purge(*shards[chance.below(shards.size())], chance.below(6));
        ++result.troubles["purged binary logs"];
      }
      time.now_us += chance.between(0, 3) * 1'000'000;
    }
    run_settings settings;
    // At last the next job comes: what a reshard has cut off does not end within its generation.
    const bool last = n + 2 >= troubled_runs + most_quiet_runs;
    if (n > 0 && (chance.percent(60) || last)) {
      ++sync_id;
      for (std::size_t i = 0; i < streams.size(); ++i)
        if (streams[i].mode == sync_mode::full_refresh) check.begin_refresh(i);
    }
    if (chance.percent(25)) {
      for (std::size_t i = 0; i < streams.size(); ++i) streams[i].properties = properties_of(branch.shape_now(i));
      check.take_catalog(streams);
      ++result.troubles["refreshed catalogs"];
    }
    settings.streams = streams;
    for (auto& stream : settings.streams) {
      stream.generation_id = sync_id;
      stream.sync_id = sync_id;
    }
    if (!quiet) settings.trouble = draw_chaos(chance, big_rows);
    settings.lagging = !quiet && may_lag && chance.percent(50);
    settings.errant = settings.lagging && chance.percent(40);
    // Where nobody can be asked, such a stream ends by its time limits alone.
    settings.lost = !quiet && !settings.lagging && !settings.trouble.no_questions && chance.percent(15);
    // What a tablet that lags has not applied yet is in no binary log that could be purged.
    if (settings.lagging) settings.trouble.purge = 0;
    static constexpr std::int64_t intervals[] = {1, 1, 2, 5, 30};
    settings.config.checkpoint_interval = std::chrono::seconds(intervals[chance.below(std::size(intervals))]);
    if (chance.percent(50))
      settings.refresh_interval = std::chrono::milliseconds(chance.between(2'000, 60'000));
    settings.config.on_lost_position =
        quiet || chance.percent(50) ? lost_position_behavior::resync_data : lost_position_behavior::fail_sync;
    settings.config.max_streams = 1 + chance.below(6);
    settings.streams_at_least = 1 + chance.below(3);
    if (chance.percent(20)) settings.large_batches = batch::all_of_few;
    if (chance.percent(40)) {
      // Short runs do not come to the limits that the program has.
      settings.transport.read_ahead = std::size_t{256} << chance.below(9);
      settings.transport.read_ahead_of_all = settings.transport.read_ahead * chance.below(4);
    }
    settings.config.max_copies_per_shard = 1 + chance.below(2);
    settings.config.max_retries = static_cast<std::uint32_t>(1 + chance.below(4));
    if (high - low < 256) {
      ++result.troubles["configurations with some of the shards"];
      for (const auto* shard : branch.serving())
        if (shard->low < high && shard->high > low)
          settings.config.shards.push_back({{}, shard_name(shard->name)});
    }
    settings.state_text = n == 0 ? "" : check.state_text();
    const auto interval = settings.config.checkpoint_interval;
    const bool lagging = settings.lagging;
    const bool disk_full = settings.trouble.disk_full;
    if (trace != nullptr)
      *trace << "=== run " << n + 1 << (quiet ? " (quiet)" : "") << (lagging ? " (lagging)" : "") << "\n";
    check.run_begins();
    engine_run run(branch, time, settled, chance, std::move(settings));
    const run_report report = run.run();
    check.take(report, std::chrono::duration_cast<std::chrono::microseconds>(interval).count(), lagging);
    ++result.runs;
    result.steps += report.steps;
    for (const auto& [kind, count] : report.troubles) result.troubles[kind] += count;
    if (report.killed) ++result.troubles["kills"];
    if (report.stopped) ++result.troubles["signals"];
    if (report.outcome && report.outcome->output_problem)
      ++result.troubles[disk_full ? "full disks" : "closed outputs"];
    result.records += check.last_records().size();
    result.fingerprint = result.fingerprint * 31 + hash(report.transcript);
    if (trace != nullptr) {
      *trace << branch.describe();
      for (const auto& call : report.calls) {
        *trace << "call";
        for (const auto& table : call.tables) *trace << " " << table;
        for (const auto& start : call.shards)
          *trace << " | " << start.shard << (start.copy ? " copy" : "") << " \"" << start.gtid << "\""
                 << (start.lastpk.empty() ? "" : " +lastpk");
        *trace << "\n";
      }
      std::size_t left = report.transcript.size();
      for (const auto& emitted : report.emitted) {
        *trace << (left >= emitted.bytes.size() ? "" : "(unwritten) ") << emitted.time_us / 1000 % 10'000'000
               << " "
               << (emitted.bytes.size() > 4000 ? emitted.bytes.substr(0, 4000) + "…\n" : emitted.bytes);
        left -= std::min(left, emitted.bytes.size());
      }
      *trace << (report.killed ? "killed" : "ended") << " after " << report.steps << " steps\n";
      for (const auto& what : check.violations()) *trace << "VIOLATION " << what << "\n";
    }
    if (!check.violations().empty()) break;
    if (!quiet) continue;
    if (check.all_complete()) {
      check.compare_with_truth();
      if (trace != nullptr)
        for (const auto& what : check.violations()) *trace << "VIOLATION " << what << "\n";
      break;
    }
    if (n + 1 >= troubled_runs + most_quiet_runs) {
      result.violations.push_back("the branch is quiet, but the reads do not come to an end");
      break;
    }
  }
  for (const auto& what : check.violations()) result.violations.push_back(what);
  return result;
}

}  // namespace psource::simulation
