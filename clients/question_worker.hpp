// One thread that asks the MySQL port while streams run: sessions are opened when needed and kept.
#pragma once

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

class question_worker final : public branch_questions {
 public:
  /// Connects to nothing yet.
  question_worker(connection_settings settings, mysql_limits limits);
  /// Answers what is still queued with a failure and ends the thread. Waits for a question under way, which `limits`
  /// bound.
  ~question_worker() override;
  question_worker(const question_worker&) = delete;
  question_worker& operator=(const question_worker&) = delete;

  void ask_positions(const shard_id& shard, tablet_type tablet,
                     std::function<void(result<server_positions>)> answer) override;
  void ask_rows(row_lookup lookup, std::function<void(result<looked_up_rows>)> answer) override;

 private:
  // A question gets the session, or the failure to open one.
  using question = std::function<void(result<mysql_session*>)>;
  void enqueue(question q);
  void run();
  result<mysql_session*> session();

  const connection_settings settings_;
  const mysql_limits limits_;
  std::unique_ptr<mysql_session> session_;
  std::mutex mutex_;
  std::condition_variable work_;
  std::deque<question> queue_;
  bool closing_ = false;
  std::thread thread_;
};

}  // namespace psource
