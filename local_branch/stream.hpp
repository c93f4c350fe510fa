// One VStream call as vtgate would serve it, without a transport: a request in, responses out as bytes.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "local_branch/branch.hpp"
#include "local_branch/byte_buffer.hpp"
#include "local_branch/row_images.hpp"
#include "protocol/failure.hpp"
#include "vtgate.pb.h"

namespace psource::local_branch {

/// How a call ends; `code` is a gRPC status number.
struct stream_status {
  int code = 0;
  std::string message;
};

struct stream_options {
  /// Numbers of topodata.TabletType that every shard has.
  std::set<int> tablet_types{1, 2, 3};
  /// How long vtgate looks for a tablet that can serve a stream.
  std::chrono::milliseconds tablet_search{90'000};
  /// A response ends after so many bytes of rows.
  std::size_t packet_size = 250'000;
  /// What the binlog leaves out of rows. Recordings are sent as they are.
  row_image_options images;
  /// Transactions have the columns of their time (--track-schema-versions of a vttablet); false: those of now, as far
  /// as they fit.
  bool schema_versions = true;
};

class shard_stream;

/// One call. produce() and the constructor run on one thread at a time; the branch may be written to
/// meanwhile.
class vstream_session {
 public:
  using clock = std::chrono::steady_clock;
  enum class step : std::uint8_t {
    response,  ///< One response was written.
    idle,      ///< Nothing to send until a commit or the deadline.
    ended,     ///< The call is over; status() says how.
  };

  vstream_session(const branch& source, const vtgate::VStreamRequest& request, stream_options options,
                  clock::time_point now);
  ~vstream_session();
  vstream_session(const vstream_session&) = delete;
  vstream_session& operator=(const vstream_session&) = delete;

  /// Writes the next response into `out` (which is cleared first).
  step produce(byte_buffer& out, clock::time_point now);
  const stream_status& status() const { return status_; }
  /// When an idle call has to be asked again although nothing was committed.
  std::optional<clock::time_point> deadline() const;
  /// Seconds; 0 = no heartbeats.
  std::chrono::seconds heartbeat_interval() const { return heartbeat_interval_; }
  /// The call reads this table on this shard; an empty name stands for any.
  bool reads(const std::string& keyspace, const std::string& shard, const std::string& table) const;
  /// It began at "current" everywhere, as who only wants to know the positions does.
  bool peeks() const;
  /// Row changes and copied rows that were sent so far.
  std::uint64_t rows_sent() const { return rows_sent_; }
  /// The last response that held more than a heartbeat was part of a copy.
  bool last_is_copy() const { return last_is_copy_; }

  /// Lets the listener hear of the commits to all shards of the call.
  void subscribe(const std::weak_ptr<commit_listener>& listener);

  /// A response with one HEARTBEAT.
  static void heartbeat(byte_buffer& out);

 private:
  friend class shard_stream;
  struct table_filter;

  stream_status start(const branch& source, const vtgate::VStreamRequest& request, clock::time_point now);
  /// Replaces shards that were resharded and are read to their end; true when something changed.
  bool hand_over(clock::time_point now);
  /// vtgate begins to look for a tablet that can serve the stream; the call ends when the first such search does.
  void search_for(const shard_stream& lost, clock::time_point now);
  void fail_with(stream_status status);
  /// What vtgate makes of an error of the tablet that serves the shard.
  stream_status tablet_error(const shard& source, const binlogdata::ShardGtid& entry, const stream_status& why) const;
  /// A VGTID event, caused by `by`, with every shard of the call.
  void append_vgtid(byte_buffer& out, const shard_stream& by) const;
  bool matches(const std::string& table) const;
  bool copy_complete() const;

  const stream_options options_;
  std::vector<std::unique_ptr<shard_stream>> shards_;
  std::unique_ptr<table_filter> filter_;
  std::set<std::string> tables_to_copy_;
  bool bare_table_names_ = false;
  bool journals_ = false;
  std::chrono::seconds heartbeat_interval_{0};
  bool stop_on_reshard_ = false;
  int tablet_type_ = 1;
  std::weak_ptr<commit_listener> listener_;
  std::size_t turn_ = 0;
  std::uint64_t rows_sent_ = 0;
  bool last_is_copy_ = false;
  stream_status status_;
  bool ended_ = false;
  clock::time_point search_end_;
};

}  // namespace psource::local_branch
