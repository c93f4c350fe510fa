// Reads a serialized vtgate.VStreamResponse in place: events, row changes and rows are views into its bytes.
//
// The hot path of a copy: nothing is copied or allocated here, but for events that lie across two pieces of a response.
// Grammar of the bytes (proto3, vitess proto/binlogdata.proto):
//   response   := (tag 1, len, event)*
//   event      := type=1 | timestamp=2 | statement=4 | row_event=5 | field_event=6 | vgtid=7
//               | keyspace=22 | shard=23 | event_gtid=28 | anything else (skipped)
//   row_event  := table_name=1 | row_changes=2* | keyspace=3 | shard=4 | …
//   row_change := before=1 | after=2 | data_columns=3 | json_partial_values=4
//   row        := lengths=1 (packed sint64) | values=2
// Differences from Protobuf's own decoder: an image, a field of a row or a table name that is given twice is an error
// here, and so are lengths that are not packed; no known server writes any of them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "protocol/vitess/row_view.hpp"

namespace psource {

/// Numbers as in binlogdata.VEventType; a number that is not listed is one this program does not know.
enum class event_type : std::int32_t {
  unknown = 0,
  gtid = 1,
  begin = 2,
  commit = 3,
  rollback = 4,
  ddl = 5,
  insert = 6,
  replace = 7,
  update = 8,
  delete_ = 9,
  set = 10,
  other = 11,
  row = 12,
  field = 13,
  heartbeat = 14,
  vgtid = 15,
  journal = 16,
  version = 17,
  lastpk = 18,
  savepoint = 19,
  copy_completed = 20,
  previous_gtids = 21,
  rows_query = 22,
};

/// One event. Nested messages are still serialized.
struct raw_event {
  event_type type = event_type::unknown;
  /// Seconds since 1970: the commit's time in the binlog phase, 0 in a copy.
  std::int64_t timestamp = 0;
  std::string_view statement;
  std::string_view row_event;
  std::string_view field_event;
  std::string_view vgtid;
  std::string_view keyspace;
  std::string_view shard;
  std::string_view event_gtid;
};

/// Walks the events of one response, which may come in pieces, cut anywhere. What its views show must stay where it is
/// until the last of them was read.
///
///   event_reader events(bytes);
///   raw_event event;
///   while (events.next(event)) …
///   if (!events.ok()) …the bytes are malformed from here on
class event_reader {
 public:
  event_reader() = default;
  event_reader(const event_reader&) = delete;
  event_reader& operator=(const event_reader&) = delete;
  explicit event_reader(std::string_view response)
      : at_(response.data()), end_(response.data() + response.size()) {}

  /// Begins with another response: its pieces from `first` up to `last`, an array that stays as it is as well.
  void begin(const std::string_view* first, const std::string_view* last);
  /// Has nothing more to read, and gives back what was large.
  void clear();

  /// The next event; false at the end and when the bytes are malformed. Its views hold until the next call or begin().
  bool next(raw_event& event);
  /// The row change of the next event, when that event is like the last one of next() in every byte but those of its one
  /// row change (and the lengths around it): a copy sends each row in an event of its own. False, and nothing taken, for
  /// any other event: next() knows what it is. The change's views hold until the next call of either, the event's still.
  bool next_alike(row_change_view& change);
  bool ok() const { return ok_; }

 private:
  void make_model();
  bool go_to_next_piece();
  bool gather();
  bool broken();
  // What is read: the rest of a piece, or of one gathered field.
  const char* at_ = nullptr;
  const char* end_ = nullptr;
  bool ok_ = true;
  // The pieces behind it, and how many bytes of the first of them were gathered already.
  const std::string_view* next_piece_ = nullptr;
  const std::string_view* last_piece_ = nullptr;
  std::size_t gathered_of_piece_ = 0;
  // Fields that lie across pieces are put together here: in the one where the last event of next() is not.
  std::string gathered_[2];
  unsigned gather_into_ = 0;
  bool reads_gathered_ = false;
  // The last event, and where in it the length of row_event stands; null when it has none, and once the model is made.
  std::string_view last_;
  const char* rows_at_ = nullptr;
  // Made of it when next_alike() first asks, if it has one row change: its bytes before the length of row_event; those of
  // row_event before the length of the change; and those behind the change, of which so many belong to row_event.
  std::string_view model_head_;
  std::string_view model_rows_head_;
  std::string_view model_tail_;
  std::size_t model_rows_tail_ = 0;
};

/// Walks the row changes of one ROW event. It may be kept between two rows: a reader stops when its batch is full.
class row_event_reader {
 public:
  row_event_reader() = default;
  /// `row_event` is raw_event::row_event.
  explicit row_event_reader(std::string_view row_event);

  /// As sent: "table" or "keyspace.table".
  std::string_view table_name() const { return table_name_; }
  /// The next change; false at the end and when the bytes are malformed.
  bool next(row_change_view& change) { return at_ != end_ && next_of_rest(change); }
  bool ok() const { return ok_; }

 private:
  bool next_of_rest(row_change_view& change);
  bool broken();
  const char* at_ = nullptr;
  const char* end_ = nullptr;
  std::string_view table_name_;
  bool ok_ = true;
};

}  // namespace psource
