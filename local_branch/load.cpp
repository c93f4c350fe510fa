// The write load.
#include "local_branch/load.hpp"

#include <algorithm>
#include <chrono>
#include <limits>
#include <utility>

namespace psource::local_branch {
namespace {

std::int64_t now_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

}  // namespace

transaction_source::transaction_source(branch& target, std::uint64_t seed, std::size_t rows)
    : seed_(mix(seed ^ 0x77726974u)), rows_(rows) {
  for (const auto& [name, ks] : target.keyspaces()) {
    if (ks->recorded()) continue;
    std::vector<std::size_t> tables;
    for (std::size_t t = 0; t < ks->tables().size(); ++t)
      if (ks->tables()[t].rows && ks->tables()[t].writable) tables.push_back(t);
    if (tables.empty()) continue;
    for (shard* s : ks->serving_shards()) targets_.push_back({s, tables, {}});
  }
}

transaction_source::table_state& transaction_source::state_of(target& t, std::size_t table) {
  auto [at, fresh] = t.states.try_emplace(table);
  if (fresh) at->second.last_id = t.where->owner().tables()[table].row_count;
  return at->second;
}

/// Some row that is there; 0 when a few tries found none.
std::int64_t transaction_source::existing(target& t, std::size_t table, const shard::writer& writer) {
  const auto& layout = t.where->owner().layout();
  const std::int64_t rows = t.where->owner().tables()[table].row_count;
  const auto& state = state_of(t, table);
  const auto runs = static_cast<std::size_t>((rows + layout.run_length() - 1) / layout.run_length());
  if (runs + state.inserted.size() == 0) return 0;
  for (int tries = 0; tries < 8; ++tries) {
    const std::size_t pick = below(runs + state.inserted.size());
    const std::int64_t id =
        pick < runs ? t.where->id_near(static_cast<std::int64_t>(pick)) : state.inserted[pick - runs];
    if ((pick >= runs || id <= rows) && writer.exists(table, id)) return id;
  }
  return 0;
}

std::size_t transaction_source::statement(target& t, std::size_t table, shard::writer& writer,
                                          std::size_t rows) {
  auto& state = state_of(t, table);
  const std::size_t kind = below(10);
  std::size_t done = 0;
  for (; done < rows; ++done) {
    if (kind < 8) {
      const std::int64_t id = existing(t, table, writer);
      if (id != 0) {
        if (kind < 6) {
          writer.update(table, id);
        } else {
          writer.remove(table, id);
          state.removed.push_back(id);
        }
        continue;
      }
    }
    // One insert in eight brings back a key that was deleted.
    if (!state.removed.empty() && below(8) == 0) {
      const std::int64_t id = state.removed.back();
      state.removed.pop_back();
      if (writer.insert(table, id)) continue;
    }
    state.last_id = t.where->next_id(state.last_id);
    writer.insert(table, state.last_id);
    state.inserted.push_back(state.last_id);
  }
  writer.end_statement();
  return done;
}

/// A shard that was resharded gives what is known of its rows to its successors.
void transaction_source::follow_reshards() {
  for (std::size_t i = 0; i < targets_.size();) {
    const handover* plan = targets_[i].where->handed_over;
    if (plan == nullptr) {
      ++i;
      continue;
    }
    std::vector<target> born;
    for (shard* s : plan->successors) born.push_back({s, targets_[i].tables, {}});
    for (const shard* old : plan->participants) {
      const auto found =
          std::find_if(targets_.begin(), targets_.end(), [&](const target& t) { return t.where == old; });
      if (found == targets_.end()) continue;
      for (const auto& [table, state] : found->states) {
        for (auto& t : born) {
          auto& here = state_of(t, table);
          here.last_id = std::max(here.last_id, state.last_id);
          for (const auto id : state.inserted)
            if (t.where->holds(id)) here.inserted.push_back(id);
          for (const auto id : state.removed)
            if (t.where->holds(id)) here.removed.push_back(id);
        }
      }
      targets_.erase(found);
    }
    targets_.insert(targets_.end(), born.begin(), born.end());
    i = 0;
  }
}

std::size_t transaction_source::write(std::int64_t time_ns, std::size_t most) {
  if (targets_.empty() || most == 0) return 0;
  for (;;) {
    auto& t = targets_[below(targets_.size())];
    const std::size_t count = write(t, time_ns, most);
    if (count > 0 || t.where->serving) return count;
    follow_reshards();
  }
}

std::size_t transaction_source::write(target& t, std::int64_t time_ns, std::size_t most) {
  const std::size_t rows = std::min<std::size_t>(rows_ != 0 ? rows_ : 1 + below(20), most);
  const std::size_t table = t.tables[below(t.tables.size())];
  const bool both = rows > 1 && t.tables.size() > 1 && below(5) == 0;
  const std::size_t other = both ? t.tables[below(t.tables.size())] : table;
  return t.where->write(time_ns, [&](shard::writer& writer) {
    const std::size_t first = both ? 1 + below(rows - 1) : rows;
    statement(t, table, writer, first);
    if (first < rows) statement(t, other, writer, rows - first);
  });
}

load_writer::load_writer(branch& target, std::uint64_t seed, double rate, std::uint64_t total,
                         std::size_t transaction_rows, std::function<void()> on_total)
    : source_(target, seed, transaction_rows),
      rate_(rate),
      total_(total),
      on_total_(std::move(on_total)),
      thread_([this] { run(); }) {}

load_writer::~load_writer() { stop(); }

std::uint64_t load_writer::written() const {
  std::lock_guard lock(mutex_);
  return written_;
}

void load_writer::burst(std::uint64_t changes) {
  std::unique_lock lock(mutex_);
  burst_left_ += changes;
  changed_.notify_all();
  changed_.wait(lock, [this] { return burst_left_ == 0 || stop_; });
}

void load_writer::stop() {
  {
    std::lock_guard lock(mutex_);
    stop_ = true;
  }
  changed_.notify_all();
  if (thread_.joinable()) thread_.join();
}

std::uint64_t load_writer::allowed(std::chrono::steady_clock::time_point begin) const {
  if (burst_left_ > 0) return burst_left_;
  if (rate_ <= 0 || (total_ > 0 && paced_ >= total_)) return 0;
  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - begin;
  if (static_cast<double>(paced_) >= elapsed.count() * rate_) return 0;
  return total_ == 0 ? std::numeric_limits<std::uint64_t>::max() : total_ - paced_;
}

void load_writer::run() {
  const auto begin = std::chrono::steady_clock::now();
  std::unique_lock lock(mutex_);
  while (!stop_) {
    const bool bursting = burst_left_ > 0;
    const std::uint64_t most = allowed(begin);
    if (most == 0) {
      if (rate_ <= 0 || (total_ > 0 && paced_ >= total_)) {
        changed_.wait(lock);
      } else {
        const std::chrono::duration<double> next((static_cast<double>(paced_) + 1) / rate_);
        changed_.wait_until(lock, begin + std::chrono::duration_cast<std::chrono::steady_clock::duration>(next));
      }
      continue;
    }
    lock.unlock();
    const std::size_t count = source_.write(now_ns(), static_cast<std::size_t>(most));
    lock.lock();
    written_ += count;
    if (!bursting) {
      if (count == 0) return;
      paced_ += count;
      if (total_ == 0 || paced_ < total_ || !on_total_) continue;
      lock.unlock();
      on_total_();
      lock.lock();
      continue;
    }
    burst_left_ = count == 0 ? 0 : burst_left_ - std::min<std::uint64_t>(burst_left_, count);
    if (burst_left_ == 0) changed_.notify_all();
  }
}

}  // namespace psource::local_branch
