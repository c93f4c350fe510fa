// What a VGTID and a FIELD event say, as values (decoded through Protobuf, except for the usual VGTIDs).
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "protocol/failure.hpp"
#include "protocol/names.hpp"
#include "protocol/vitess/columns.hpp"

namespace psource {

/// A table that a copy has not finished on one shard.
struct table_progress {
  table_name table;
  /// Serialized query.QueryResult (fields and one row) of the last primary key copied; empty = not begun.
  std::string lastpk;
};

/// Where one shard of a stream stands.
struct shard_progress {
  shard_id id;
  /// "MySQL56/…", "" (nothing yet) or "current" (not positioned yet).
  std::string gtid;
  /// Tables that are still to be copied or being copied; empty = every copy is done.
  std::vector<table_progress> unfinished;

  const table_progress* find(const table_name& table) const;
};

/// A VGTID: always every shard of the stream, in no particular order; after a reshard other shards than before
/// (docs/design.md, "Reshard"). Never index it.
struct vgtid {
  std::vector<shard_progress> shards;

  const shard_progress* find(const shard_id& id) const;
};

/// Decodes a serialized binlogdata.VGtid. response_malformed when it is not one, names a shard twice, or has a last
/// primary key that could not be sent back.
result<vgtid> parse_vgtid(std::string_view bytes);

/// Walks the shards of a serialized binlogdata.VGtid in place, for whoever looks for a position only. A stream of many shards
/// tells all of them each time: decoding them all would cost shards² for one position of each.
///
///   shard_gtid_reader shards(event.vgtid);
///   while (shards.next()) use(shards.keyspace(), shards.shard(), shards.gtid());
///   if (!shards.ok()) …the bytes are malformed from here on
///
/// The views are of the VGTID's bytes, as sent: nothing says that they are UTF-8.
class shard_gtid_reader {
 public:
  explicit shard_gtid_reader(std::string_view vgtid) : at_(vgtid.data()), end_(vgtid.data() + vgtid.size()) {}

  /// The next shard; false at the end and when the bytes are malformed.
  bool next();
  /// The next one of that name. False at the end, when the bytes are malformed, and where it is written in a way in which no known
  /// server does it.
  bool find(std::string_view keyspace, std::string_view shard);
  std::string_view keyspace() const { return keyspace_; }
  std::string_view shard() const { return shard_; }
  /// As shard_progress::gtid.
  std::string_view gtid() const { return gtid_; }
  bool ok() const { return ok_; }

 private:
  bool next_entry(std::string_view& bytes);
  bool read_entry(std::string_view bytes);

  const char* at_;
  const char* end_;
  std::string_view keyspace_;
  std::string_view shard_;
  std::string_view gtid_;
  bool ok_ = true;
};

/// Decodes a serialized binlogdata.FieldEvent; the table's name stays as sent ("table" or "keyspace.table").
result<field_event> parse_field_event(std::string_view bytes);

/// A serialized binlogdata.FieldEvent without what differs from shard to shard of a table whose shape is the same on all.
struct field_event_shape {
  /// As sent; a view into the event.
  std::string_view table;
  /// The event's bytes without its keyspace and shard: what parse_field_event() makes of equal ones is equal.
  std::string bytes;
};
/// Nothing when the event is malformed; parse_field_event() tells why.
std::optional<field_event_shape> shape_of_field_event(std::string_view bytes);

/// A table name as sent, without a "keyspace." prefix. Servers before v23 ignore exclude_keyspace_from_table_name and
/// send the prefix; a table may itself have a point in its name, so look up the name as sent first.
std::string_view without_keyspace(std::string_view sent, const keyspace_name& keyspace);

}  // namespace psource
