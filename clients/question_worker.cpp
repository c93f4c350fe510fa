// Implementation of question_worker.hpp.
#include "clients/question_worker.hpp"

#include <charconv>
#include <numeric>
#include <utility>

#include "clients/discovery.hpp"
#include "sync/key_range.hpp"

namespace psource {

namespace {

template <class T>
result<T> ending() {
  return fail(error_code::interrupted, "The read is ending.");
}

result<looked_up_rows> rows_of(mysql_session& session, const row_lookup& lookup) {
  auto sql = lookup_query(lookup);
  if (!sql) return fail(std::move(sql.error()));
  // A shard is asked, not the keyspace, so that a row that has just moved to another shard is not taken for this one's.
  auto target = session.use(lookup.table.keyspace.str() + "/" + lookup.shard.str());
  if (!target) return fail(std::move(target.error()));
  auto prepared = session.query(lookup_preparation());
  if (!prepared) return fail(std::move(prepared.error()));
  auto answer = session.query(*sql);
  if (!answer) return fail(std::move(answer.error()));
  looked_up_rows rows(lookup.keys.size());
  if (answer->width() != lookup.columns.size() + 1)
    return fail(error_code::response_malformed, "The rows of " + lookup.table.to_string() + " have " +
                                                    std::to_string(answer->width()) + " values instead of " +
                                                    std::to_string(lookup.columns.size() + 1) + ".");
  for (std::size_t i = 0; i < answer->size(); ++i) {
    const auto index = answer->at(i, 0);
    std::size_t row = lookup.keys.size();
    if (index) std::from_chars(index->data(), index->data() + index->size(), row);
    if (row >= lookup.keys.size())
      return fail(error_code::response_malformed,
                  "A row of " + lookup.table.to_string() + " came back without the number it was asked for by.");
    looked_up_row found;
    for (std::size_t k = 1; k < answer->width(); ++k) found.add(answer->at(i, k));
    rows[row] = std::move(found);
  }
  return rows;
}

// The server has answered, and it may be because the shard was replaced. What vtgate says then has changed over its versions,
// and is another text while the traffic is being switched.
bool may_be_replaced(const failure& why) {
  return why.code == error_code::tablet_type_missing || why.code == error_code::query_failed;
}

}  // namespace

result<server_positions> ask_server_positions(mysql_port& session, const shard_id& shard, tablet_type tablet) {
  auto told = shard_positions(session, shard, tablet);
  if (!told) return fail(std::move(told.error()));
  auto purged = gtid_set::parse_position(told->purged);
  if (!purged) return fail(std::move(purged.error()));
  auto executed = gtid_set::parse_position(told->executed);
  if (!executed) return fail(std::move(executed.error()));
  return server_positions{std::move(*purged), std::move(*executed)};
}

question_worker::question_worker(connection_settings settings, mysql_limits limits, peeker peek)
    : settings_(std::move(settings)), limits_(limits), peek_(std::move(peek)), thread_([this] { run(); }) {}

question_worker::~question_worker() {
  {
    std::lock_guard<std::mutex> guard(mutex_);
    closing_ = true;
  }
  work_.notify_all();
  thread_.join();
}

void question_worker::enqueue(question q) {
  {
    std::lock_guard<std::mutex> guard(mutex_);
    queue_.push_back(std::move(q));
  }
  work_.notify_all();
}

result<mysql_session*> question_worker::session() {
  if (!session_) {
    auto opened = mysql_session::connect(settings_, limits_);
    if (!opened) return fail(std::move(opened.error()));
    session_ = std::move(*opened);
  }
  return session_.get();
}

// A session that was idle may have been closed by the server: then a new one gets the question once more.
template <class T, class Ask>
result<T> question_worker::retried(const Ask& ask) {
  const bool used_before = session_ != nullptr;
  for (bool last = !used_before;; last = true) {
    auto open = session();
    if (!open) return fail(std::move(open.error()));
    auto told = ask(**open);
    if (told) return told;
    session_.reset();
    if (last) return told;
  }
}

result<looked_up_rows> question_worker::rows_among(const std::vector<shard_name>& shards, const row_lookup& lookup) {
  looked_up_rows rows(lookup.keys.size());
  std::vector<std::size_t> missing(lookup.keys.size());
  std::iota(missing.begin(), missing.end(), std::size_t{0});
  row_lookup rest = lookup;
  for (const auto& shard : shards) {
    // Between any two of them, as there may be many.
    if (closing_) return ending<looked_up_rows>();
    rest.shard = shard;
    auto told = retried<looked_up_rows>([&](mysql_session& s) { return rows_of(s, rest); });
    if (!told) return told;
    std::vector<std::size_t> still_missing;
    rest.keys.clear();
    for (std::size_t i = 0; i < missing.size(); ++i) {
      if ((*told)[i]) {
        rows[missing[i]] = std::move((*told)[i]);
        continue;
      }
      still_missing.push_back(missing[i]);
      rest.keys.push_back(lookup.keys[missing[i]]);
    }
    missing = std::move(still_missing);
    if (missing.empty()) break;
  }
  return rows;
}

// VStream reads what is left of a shard that was replaced, on purpose; SQL does not reach it. Its rows are where their keys
// are now. A row counts as gone only when all shards that took the keys over have answered: else the question has failed, and
// is asked again with the next attempt of its stream.
result<looked_up_rows> question_worker::find_rows(const row_lookup& lookup) {
  const shard_id named{lookup.table.keyspace, lookup.shard};
  if (const auto known = successors_.find(named); known != successors_.end()) {
    auto rows = rows_among(known->second, lookup);
    if (rows || !may_be_replaced(rows.error())) return rows;
    // They were replaced in their turn, or the traffic was switched back.
    successors_.erase(known);
  }
  auto rows = rows_among({lookup.shard}, lookup);
  if (rows || !may_be_replaced(rows.error())) return rows;
  auto serving = list_serving();
  if (!serving) return rows;
  auto successors = successors_of(named, *serving);
  if (successors.empty()) return rows;
  rows = rows_among(successors, lookup);
  if (rows) successors_[named] = std::move(successors);
  return rows;
}

result<std::vector<shard_id>> question_worker::list_serving() {
  // Row look-ups leave a shard as the session's target, and a shard does not know the others.
  session_.reset();
  return retried<std::vector<shard_id>>([](mysql_session& s) { return list_shards(s); });
}

void question_worker::run() {
  std::unique_lock<std::mutex> lock(mutex_);
  for (;;) {
    work_.wait(lock, [this] { return closing_ || !queue_.empty(); });
    if (queue_.empty()) return;
    question next = std::move(queue_.front());
    queue_.pop_front();
    const bool closing = closing_;
    lock.unlock();
    next(closing);
    lock.lock();
  }
}

void question_worker::ask_positions(const shard_id& shard, tablet_type tablet,
                                    std::function<void(result<server_positions>)> answer) {
  enqueue([this, shard, tablet, answer = std::move(answer)](bool closing) {
    if (closing) {
      answer(ending<server_positions>());
      return;
    }
    answer(retried<server_positions>([&](mysql_session& s) { return ask_server_positions(s, shard, tablet); }));
  });
}

void question_worker::ask_serving(std::function<void(result<std::vector<shard_id>>)> answer) {
  enqueue([this, answer = std::move(answer)](bool closing) {
    answer(closing ? ending<std::vector<shard_id>>() : list_serving());
  });
}

void question_worker::ask_stops(std::vector<shard_id> shards, std::chrono::milliseconds limit,
                                std::function<void(result<std::map<shard_id, gtid_set>>)> answer) {
  enqueue([this, shards = std::move(shards), limit, answer = std::move(answer)](bool closing) {
    answer(closing ? ending<std::map<shard_id, gtid_set>>() : peek_(shards, limit, [this] { return closing_.load(); }));
  });
}

void question_worker::ask_rows(row_lookup lookup, std::function<void(result<looked_up_rows>)> answer) {
  enqueue([this, lookup = std::move(lookup), answer = std::move(answer)](bool closing) {
    answer(closing ? ending<looked_up_rows>() : find_rows(lookup));
  });
}

}  // namespace psource
