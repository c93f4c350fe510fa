// The server's side of GTID sets: what a shard has executed, what a client says it has. Written apart from
// the connector's own (protocol/vitess/gtid_set.hpp) on purpose, so that a fault of one shows against the
// other.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "protocol/failure.hpp"

namespace psource::local_branch {

/// GTIDs of MySQL 5.6 and newer. A value; no thread of its own.
class gtids {
 public:
  /// Reads "MySQL56/uuid:1-5:7,uuid2:1". The failure's message is the sentence that a vttablet says of it.
  static result<gtids> parse(std::string_view position);

  void add(const std::string& source, std::uint64_t first, std::uint64_t last);
  void remove(const std::string& source, std::uint64_t number);
  void merge(const gtids& other);
  bool has(const std::string& source, std::uint64_t number) const;
  bool contains(const gtids& other) const;
  bool empty() const { return sources_.empty(); }

  /// "uuid:1-5,uuid2:1"; `separator` stands between the servers.
  std::string to_string(std::string_view separator = ",") const;
  /// "MySQL56/uuid:1-5,uuid2:1".
  std::string to_position() const { return "MySQL56/" + to_string(); }

  friend bool operator==(const gtids& a, const gtids& b) { return a.sources_ == b.sources_; }

 private:
  /// First → last, both included; apart from each other by at least one number.
  using intervals = std::map<std::uint64_t, std::uint64_t>;
  /// By UUID, or "uuid:tag".
  std::map<std::string, intervals> sources_;
};

}  // namespace psource::local_branch
