// vtgate's part of a simulation: answers VStream requests from the branch model with real serialized
// responses.
//
// The grammar is that of protocol/vitess/event_assembler.hpp. Nothing happens by itself: the driver asks for
// the next response, heartbeat, cut or restart of a call.
#pragma once

#include <algorithm>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "binlogdata.pb.h"
#include "clients/read_ahead.hpp"
#include "clients/vstream.hpp"
#include "tests/simulation/branch_model.hpp"
#include "tests/simulation/random.hpp"

namespace psource::simulation {

/// Where one shard of a call stands.
struct shard_cursor_model {
  model_shard* shard = nullptr;
  /// Log entries passed; nothing = the copy has not taken its snapshot yet.
  std::optional<std::size_t> index;
  /// What the last VGTID of this shard said; other shards' VGTIDs repeat it.
  std::optional<std::size_t> told;
  /// What the request said, repeated until then.
  std::string asked;
  /// The call's one table is still to be copied here, above this key.
  bool copying = false;
  std::optional<model_row> lastpk;
  /// It has come to this journal of its shard.
  std::optional<std::size_t> journal;

  const model_journal* at_journal() const { return journal ? &shard->journals[*journal] : nullptr; }
};

/// What vtgate resumes a call from when a tablet fails.
struct call_checkpoint {
  std::vector<shard_cursor_model> shards;
  std::vector<std::string> copies_completed;
};

/// What a request asked for, for checks.
struct opened_call {
  std::vector<std::string> tables;
  struct start {
    std::string shard;
    std::string gtid;
    bool copy = false;
    std::string lastpk;
  };
  std::vector<start> shards;
};

/// Bytes of the responses that exist, wherever they are, as the real transport counts them: with response_overhead each.
struct response_account {
  std::size_t bytes = 0;
  std::size_t largest = 0;

  void grow(std::size_t size) {
    bytes += size;
    largest = std::max(largest, size);
  }
};

/// One VStream call on the server's side, and the client's transport of it, which reads by the rule of the real one: a response, or
/// the end, comes only where a read is under way, and the next read is asked for by the last one or by take().
class served_call {
 public:
  /// `held` counts what all calls send.
  served_call(branch_model& branch, chance_source& chance, const vstream_request& request,
              std::shared_ptr<vstream_listener> listener, const transport_limits& limits,
              std::shared_ptr<response_account> held);

  // --- the client's side ---
  response_buffer take();
  /// The handle was dropped: the client hears of the end, and takes nothing any more.
  void drop();

  // --- the driver's side ---
  /// The client still wants to hear of this call.
  bool open() const { return !ended_; }
  bool dropped() const { return dropped_; }
  /// The transport waits for the next response, or for the end.
  bool reading() const { return reading_; }
  /// The transport reads, and the server has something to say.
  bool can_send();
  /// Sends one response of at most `events` events.
  void send(std::size_t events);
  void send_heartbeat();
  /// Ends the call with a status. Where the transport does not read, it is the verdict() once it does.
  void end(int status, std::string message);
  /// Ends what the client has dropped.
  void end_dropped();
  /// A tablet failed: what is not sent yet is forgotten and streamed again from the last complete
  /// transaction.
  void restart();
  /// Why the server ends this call by itself, if it does; the transport reads.
  std::optional<stream_end> verdict();

  const opened_call& request() const { return request_; }
  std::size_t events_sent() const { return events_sent_; }
  std::size_t ready_bytes() const { return ready_bytes_; }
  /// Responses came since take() last found nothing.
  bool fed() const { return told_ready_ && !dropped_; }
  /// Events that were not sent yet are in the middle of a transaction.
  bool inside_transaction() const { return !outbox_.empty() && !outbox_.front().first_of_chunk; }
  /// Positions that the client may store from now on: shard and text of every VGTID whose COMMIT was sent.
  std::function<void(const std::string& shard, const std::string& gtid)> on_settled;
  std::function<void(const model_shard& shard, std::size_t table, std::size_t index, bool from_start)>
      on_snapshot;
  /// The client is about to take a response: what else happens at that moment, on other threads.
  std::function<void()> on_take;

  // Chaos that lasts.
  bool mute = false;
  std::int64_t only_heartbeats_until_us = 0;
  std::int64_t opened_us = 0;
  /// A server before v23: events do not say which transaction they belong to.
  bool hide_event_gtid = false;
  /// COPY_COMPLETED never comes.
  bool hide_copy_completed = false;
  std::int64_t last_sent_us = 0;

 private:
  struct out_event {
    binlogdata::VEvent event;
    bool first_of_chunk = false;
    /// Set on the event after which vtgate would resume here.
    std::shared_ptr<const call_checkpoint> checkpoint;
    std::vector<std::pair<std::string, std::string>> settles;
    /// Tells a snapshot's position, which holds by itself: a copy that starts over settles at its first one.
    bool snapshot = false;
  };

  void hand_out(std::string bytes);
  bool reads_ahead() const;
  bool generate();
  bool generate_from(shard_cursor_model& at);
  void take_snapshot(shard_cursor_model& at);
  void copy_rows(shard_cursor_model& at);
  void log_events(shard_cursor_model& at, const log_entry& entry);
  void tell_gtid(std::size_t first, const log_entry& entry);
  bool swap_resharded();
  void fail_participants();
  binlogdata::VEvent& add(binlogdata::VEventType type, const shard_cursor_model& at, std::int64_t seconds);
  void add_field(const shard_cursor_model& at, std::size_t table, std::size_t ddls);
  bool shows(const shard_cursor_model& at, std::size_t table) const;
  void add_vgtid(shard_cursor_model& at);
  void finish_chunk(std::size_t first);

  branch_model& branch_;
  chance_source& chance_;
  opened_call request_;
  std::shared_ptr<vstream_listener> listener_;
  std::shared_ptr<response_account> held_;
  std::vector<std::size_t> tables_;
  std::vector<shard_cursor_model> streams_;
  /// Shard name → rows of its snapshot that are still to be sent; how many DDL statements the last FIELD event
  /// of a table since the last (re)start knew.
  std::map<std::string, std::deque<model_row>> snapshots_;
  std::map<std::string, bool> batch_open_;
  std::map<std::pair<std::string, std::size_t>, std::size_t> fields_sent_;
  /// Of the snapshots: how many DDL statements the table had had.
  std::map<std::string, std::size_t> snapshot_ddls_;
  std::vector<std::string> copies_completed_;
  std::deque<out_event> outbox_;
  std::shared_ptr<const call_checkpoint> resume_;
  std::optional<stream_end> verdict_;
  /// It is over, and the transport will hear of it when it reads on.
  std::optional<stream_end> cut_;

  // The transport.
  const transport_limits limits_;
  bool (*const is_last_)(const response_bytes&);
  bool reading_ = true;
  bool last_was_read_ = false;
  std::deque<response_buffer> ready_;
  std::size_t ready_bytes_ = 0;  // With their overheads.
  std::size_t events_sent_ = 0;
  bool told_ready_ = false;
  bool dropped_ = false;
  bool ended_ = false;
};

class stream_server final : public vstream_client {
 public:
  stream_server(branch_model& branch, chance_source& chance, const transport_limits& limits)
      : branch_(branch), chance_(chance), limits_(limits) {}

  std::unique_ptr<vstream_call> open(vstream_request request,
                                     std::shared_ptr<vstream_listener> listener) override;
  void reconnect(std::chrono::milliseconds) override { ++reconnects; }
  std::size_t fed_calls() const override;
  void expect_calls(std::size_t) override {}

  /// Calls that have not ended yet.
  std::vector<std::shared_ptr<served_call>>& calls() { return calls_; }
  /// Forgets ended calls.
  void tidy();
  /// Of all calls.
  const response_account& held() const { return *held_; }

  std::uint64_t reconnects = 0;
  /// The process is dead: nothing is answered any more.
  bool closed = false;
  /// Hears of every new call before the client does.
  std::function<void(served_call&)> on_open;

 private:
  branch_model& branch_;
  chance_source& chance_;
  const transport_limits limits_;
  std::shared_ptr<response_account> held_ = std::make_shared<response_account>();
  std::vector<std::shared_ptr<served_call>> calls_;
};

}  // namespace psource::simulation
