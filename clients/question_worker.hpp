// One thread that asks the MySQL port while streams run: sessions are opened when needed and kept.
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>

#include "clients/connection.hpp"
#include "clients/mysql_session.hpp"
#include "sync/branch_questions.hpp"

namespace psource {

/// What a tablet of the shard says of its binary log; blocking. Errors: those of shard_positions() (discovery.hpp), and
/// response_malformed for an answer that is no GTID set.
result<server_positions> ask_server_positions(mysql_port& session, const shard_id& shard, tablet_type tablet);

class question_worker final : public branch_questions {
 public:
  /// Peeks at the present positions of shards; blocking, at most `limit`, and no longer than a moment once `given_up` says true.
  using peeker = std::function<result<std::map<shard_id, gtid_set>>(const std::vector<shard_id>&, std::chrono::milliseconds limit,
                                                                    const std::function<bool()>& given_up)>;

  /// Connects to nothing yet.
  question_worker(connection_settings settings, mysql_limits limits, peeker peek);
  /// Answers what is still queued with a failure and ends the thread. A peek under way is given up;
  /// another question under way is waited for, which `limits` bound.
  ~question_worker() override;
  question_worker(const question_worker&) = delete;
  question_worker& operator=(const question_worker&) = delete;

  void ask_positions(const shard_id& shard, tablet_type tablet,
                     std::function<void(result<server_positions>)> answer) override;
  void ask_serving(std::function<void(result<std::vector<shard_id>>)> answer) override;
  void ask_stops(std::vector<shard_id> shards, std::chrono::milliseconds limit,
                 std::function<void(result<std::map<shard_id, gtid_set>>)> answer) override;
  void ask_rows(row_lookup lookup, std::function<void(result<looked_up_rows>)> answer) override;

 private:
  // What the thread does next; true = the worker is ending, and a failure is the answer.
  using question = std::function<void(bool)>;
  void enqueue(question q);
  void run();
  result<mysql_session*> session();
  template <class T, class Ask>
  result<T> retried(const Ask& ask);
  result<std::vector<shard_id>> list_serving();
  result<looked_up_rows> find_rows(const row_lookup& lookup);
  // Each row from the first of the shards that has it.
  result<looked_up_rows> rows_among(const std::vector<shard_name>& shards, const row_lookup& lookup);

  const connection_settings settings_;
  const mysql_limits limits_;
  const peeker peek_;
  std::unique_ptr<mysql_session> session_;
  // Who answered for a shard that does not serve, when it was asked last. Of the thread alone.
  std::map<shard_id, std::vector<shard_name>> successors_;
  std::mutex mutex_;
  std::condition_variable work_;
  std::deque<question> queue_;
  // Set under the mutex; read without it by a peek under way.
  std::atomic<bool> closing_{false};
  std::thread thread_;
};

}  // namespace psource
