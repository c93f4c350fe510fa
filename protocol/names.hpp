// The names of the field as types of their own, so that a shard is never passed where a keyspace is meant.
#pragma once

#include <string>
#include <string_view>
#include <tuple>
#include <utility>

namespace psource {

/// A string with a meaning. Compares by bytes; names of MySQL and Vitess are case-sensitive to us.
template <class Tag>
class name_of {
 public:
  name_of() = default;
  explicit name_of(std::string text) : text_(std::move(text)) {}
  explicit name_of(std::string_view text) : text_(text) {}
  explicit name_of(const char* text) : text_(text) {}

  const std::string& str() const { return text_; }
  bool empty() const { return text_.empty(); }

  friend bool operator==(const name_of& a, const name_of& b) { return a.text_ == b.text_; }
  friend bool operator!=(const name_of& a, const name_of& b) { return a.text_ != b.text_; }
  friend bool operator<(const name_of& a, const name_of& b) { return a.text_ < b.text_; }

 private:
  std::string text_;
};

using keyspace_name = name_of<struct keyspace_tag>;
/// "-", "-80", "40-80", or any other name of an unsharded keyspace ("0").
using shard_name = name_of<struct shard_tag>;
using table_name = name_of<struct table_tag>;

/// What Airbyte calls a stream: namespace = keyspace, name = table.
struct stream_id {
  keyspace_name keyspace;
  table_name table;

  friend bool operator==(const stream_id& a, const stream_id& b) {
    return a.keyspace == b.keyspace && a.table == b.table;
  }
  friend bool operator!=(const stream_id& a, const stream_id& b) { return !(a == b); }
  friend bool operator<(const stream_id& a, const stream_id& b) {
    return std::tie(a.keyspace, a.table) < std::tie(b.keyspace, b.table);
  }
  /// "keyspace.table", for people.
  std::string to_string() const { return keyspace.str() + "." + table.str(); }
};

struct shard_id {
  keyspace_name keyspace;
  shard_name shard;

  friend bool operator==(const shard_id& a, const shard_id& b) {
    return a.keyspace == b.keyspace && a.shard == b.shard;
  }
  friend bool operator!=(const shard_id& a, const shard_id& b) { return !(a == b); }
  friend bool operator<(const shard_id& a, const shard_id& b) {
    return std::tie(a.keyspace, a.shard) < std::tie(b.keyspace, b.shard);
  }
  /// "keyspace/shard", as Vitess writes it.
  std::string to_string() const { return keyspace.str() + "/" + shard.str(); }
};

}  // namespace psource
