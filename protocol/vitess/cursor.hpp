// The saved cursor of one table in one shard, in the form that planetscale/airbyte-source stores too.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "protocol/failure.hpp"
#include "protocol/names.hpp"

namespace psource {

/// A table_cursor whose texts belong to somebody else.
struct table_cursor_view {
  std::string_view shard;
  std::string_view keyspace;
  std::string_view position;
  std::string_view last_known_pk;

  /// Appends table_cursor::encode_base64().
  void append_base64_to(std::string& out) const;
};

/// Where the reading of one table in one shard stands. Empty position: not begun; position and last_known_pk:
/// copying; position alone: streaming. A value.
struct table_cursor {
  shard_name shard;
  keyspace_name keyspace;
  /// As Vitess wrote it ("MySQL56/..."), not normalised.
  std::string position;
  /// Bytes of a serialized query.QueryResult with the fields of the key and exactly one row; empty = none.
  std::string last_known_pk;

  /// The serialized psdbconnect.v1alpha1.TableCursor in standard base64. Never fails; "" for a cursor with
  /// nothing in it.
  std::string encode_base64() const;

  table_cursor_view view() const { return {shard.str(), keyspace.str(), position, last_known_pk}; }

  /// The inverse. Errors: text that is no base64 or no TableCursor (code state_invalid), and a last_known_pk without fields,
  /// with other than one row, or whose row does not fit its fields (lastpk_refused; a server crashes on such keys).
  static result<table_cursor> decode_base64(std::string_view text);

  friend bool operator==(const table_cursor& a, const table_cursor& b) {
    return a.shard == b.shard && a.keyspace == b.keyspace && a.position == b.position &&
           a.last_known_pk == b.last_known_pk;
  }
  friend bool operator!=(const table_cursor& a, const table_cursor& b) { return !(a == b); }
};

/// The columns of a last_known_pk, in its order; none when it is no serialized query.QueryResult.
std::vector<std::string> last_key_columns(std::string_view last_known_pk);

/// Whether two of them are keys of the same columns: names, types and, where both tell them, collations. A server that goes on
/// above a key takes its values by their places and compares them as the columns of now do.
bool are_of_same_columns(std::string_view a, std::string_view b);

}  // namespace psource
