// What one shard contributes to a call: position, catch-up, copies, binlog (vttablet's part in a VStream).
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "binlogdata.pb.h"
#include "local_branch/branch.hpp"
#include "local_branch/byte_buffer.hpp"
#include "local_branch/stream.hpp"

namespace psource::local_branch {

/// Used by its session only, on the session's thread.
class shard_stream {
 public:
  /// `begin` is checked by begin_error() before the first produce().
  shard_stream(vstream_session& session, shard& source, const binlogdata::ShardGtid& begin);

  /// Reads the start position and plans the copy. A status with code 0 when the stream can begin.
  stream_status prepare();

  /// Appends one response; false when there is nothing to send now.
  bool produce(byte_buffer& out);

  /// Between BEGIN and COMMIT: no other shard may send.
  bool in_transaction() const { return in_transaction_; }
  /// No tablet can serve it: it never sends anything.
  bool searching() const { return phase_ == phase::searching; }
  void search() { phase_ = phase::searching; }
  bool copied() const { return copied_; }
  /// It has read the whole log of a shard that was resharded; the successors are to go on.
  bool handing_over() const;
  /// The serialized ShardGtid as it now is.
  std::string_view entry() const { return entry_.view(); }
  /// keyspace and shard of a VEvent, serialized.
  std::string_view tail() const { return tail_.view(); }
  const binlogdata::ShardGtid& request() const { return request_; }
  shard& source() const { return shard_; }
  /// Its call asked for this table of this shard.
  bool reads(std::size_t t) const { return matched_[t]; }

 private:
  enum class phase : std::uint8_t {
    searching,
    announce,
    catch_up,
    fast_forward,
    table_begin,
    table_position,
    table_rows,
    copy_completed,
    running,
  };
  struct unfinished {
    std::string table;
    bool begun = false;
    /// Serialized query.QueryResult.
    std::string lastpk;
  };

  /// The journal of its shard's reshard is among the first `count` transactions. Behind the shard's mutex.
  bool is_past_journal(std::size_t count) const;
  std::optional<row_values> key_of(const unfinished& entry) const;
  std::string wire_name(const std::string& table) const;
  void rebuild_entry();
  /// The call ends with an error of this shard's tablet.
  void fail(const stream_status& why);
  void set_position();
  void reset_fields();
  void begin_next_table();
  bool send_transaction(byte_buffer& out);
  void send_generated(byte_buffer& out, const transaction& t);
  void send_recorded(byte_buffer& out, const transaction& t);
  void append_journal(byte_buffer& out, const transaction& t, std::int64_t time_ns,
                      std::string_view meta) const;
  void append_changes(byte_buffer& out, const transaction& t, std::string_view meta);
  void send_table_begin(byte_buffer& out);
  void send_rows(byte_buffer& out);
  std::size_t append_generated_rows(byte_buffer& out);
  std::size_t append_recorded_rows(byte_buffer& out);
  void append_copy_row(byte_buffer& out, std::string_view row);
  void append_field(byte_buffer& out, const table_schema& schema, std::int64_t time_ns,
                    std::string_view meta);
  void send_ddl(byte_buffer& out, const transaction& t, std::string_view meta);
  bool fails_to_reload(const transaction& t);
  const table_schema* shown_schema(std::size_t t, std::size_t ddls);
  void append_event(byte_buffer& out, int type, std::int64_t time_ns, std::uint32_t payload_field,
                    std::string_view payload, std::string_view meta) const;
  /// Binlog events of this table are sent now.
  bool wanted(std::size_t t) const { return matched_[t] && !not_begun_[t]; }

  vstream_session& session_;
  shard& shard_;
  const keyspace& keyspace_;
  const binlogdata::ShardGtid request_;
  byte_buffer tail_;
  byte_buffer entry_;

  phase phase_ = phase::running;
  bool in_transaction_ = false;
  bool copied_ = false;
  /// It has come to the journal of its shard's reshard.
  bool at_journal_ = false;
  /// It began behind the end of a resharded shard: like vtgate's, it never learns of the successors.
  bool past_handover_ = false;

  // Position.
  std::string gtid_;
  bool positioned_ = false;
  std::size_t next_ = 0;
  std::size_t until_ = 0;
  /// The start position when it is not simply the beginning of the log.
  std::optional<gtids> start_;
  /// Where in transaction next_ the next response goes on.
  std::size_t change_ = 0;
  std::vector<bool> matched_;
  /// Tables whose changes are not always sent whole.
  std::vector<bool> partial_images_;
  /// Tables whose copy has not begun: their changes will be part of the copy.
  std::vector<bool> not_begun_;
  /// Without schema versions: what is shown of transactions that have other columns than the table now, by table and by
  /// how many of its DDLs they and the table have had.
  std::map<std::tuple<std::size_t, std::size_t, std::size_t>, table_schema> shown_;
  /// The FIELD event that was sent last in this phase, by table; nullptr = none.
  std::vector<const void*> fields_sent_;

  // Copy.
  std::vector<unfinished> unfinished_;
  std::vector<std::size_t> plan_;
  std::size_t plan_at_ = 0;
  std::size_t snapshot_ = 0;
  /// The table's columns in the snapshot; how many of its DDLs have led to them.
  const table_schema* copy_schema_ = nullptr;
  std::size_t copy_ddls_ = 0;
  bool first_batch_ = true;
  std::int64_t after_id_ = 0;
  std::size_t recorded_row_ = 0;
  byte_buffer copy_head_, copy_tail_;
  byte_buffer row_, changes_, event_;
  std::string last_key_row_;
};

}  // namespace psource::local_branch
