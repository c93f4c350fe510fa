// Sets of GTIDs: what a position says has been executed. Positions are compared as sets, never as text.
//
//   position := flavor "/" set | set                      (a set without flavor is MySQL's own text: MySQL56)
//   MySQL56  := uuid {":" [tag ":"] interval} {"," ...}   interval := n | n "-" m
//   MariaDB  := domain "-" server "-" sequence {"," ...}
//   FilePos  := file ":" offset
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "protocol/failure.hpp"

namespace psource {

enum class gtid_flavor : std::uint8_t { mysql56, mariadb, filepos };

/// A value: copyable, comparable, no thread of its own. The default is the empty set.
class gtid_set {
 public:
  gtid_set() = default;

  /// Reads a position as Vitess writes it ("MySQL56/uuid:1-5"), or MySQL's text of gtid_executed (no flavor,
  /// line breaks after the commas). Empty text, and a flavor with nothing behind it, are the empty set. UUIDs
  /// may repeat and intervals may overlap: they are merged. Errors: position texts that follow none of the
  /// grammars above, numbers beyond 2^63-1, more than 4 MiB of text (code response_malformed; callers that
  /// know where the text came from put their own code and place in front).
  static result<gtid_set> parse_position(std::string_view text);

  bool empty() const;
  /// Meaningless for the empty set.
  gtid_flavor flavor() const { return flavor_; }

  /// Every GTID of `other` is in this set. Everything contains the empty set; sets of different flavors never
  /// contain each other. MariaDB compares sequence numbers per domain, FilePos file name and then offset.
  bool contains(const gtid_set& other) const;

  /// How many GTIDs of this set `have` lacks: 0 exactly when have.contains(*this). Saturates at 2^64-1.
  /// MariaDB: the distance of the sequence numbers; FilePos: 1 or 0; another flavor: all of this set.
  std::uint64_t missing_from(const gtid_set& have) const;

  /// The GTIDs that are in both sets. Sets of different flavors have none in common. MariaDB: the smaller sequence number of
  /// each common domain; FilePos: the smaller of the two.
  gtid_set common_with(const gtid_set& other) const;

  /// Whether a tablet of the shard whose primary has executed `primary` can have told this position. False when they have no
  /// server in common, and when the primary lacks a GTID of a server that it knows. GTIDs of servers that the primary does not
  /// know may have been made on a replica. Of other flavors than MySQL56: whether `primary` contains this set.
  bool may_come_from(const gtid_set& primary) const;

  /// Canonical position: UUIDs and intervals sorted and merged, lower case; "" for the empty set.
  /// parse_position() of it gives an equal set.
  std::string to_position() const;

  /// Same flavor and same GTIDs; two empty sets are equal.
  friend bool operator==(const gtid_set& a, const gtid_set& b);
  friend bool operator!=(const gtid_set& a, const gtid_set& b) { return !(a == b); }

 private:
  // Both ends belong to the interval.
  struct interval {
    std::uint64_t first = 0;
    std::uint64_t last = 0;
  };
  // The GTIDs of one server (and tag, MySQL 8.3 and newer); the intervals are sorted and do not touch.
  struct source {
    std::array<std::uint8_t, 16> uuid{};
    std::string tag;
    std::vector<interval> intervals;
  };
  struct mariadb_gtid {
    std::uint32_t server = 0;
    std::uint64_t sequence = 0;
  };

  static result<gtid_set> parse_mysql56(std::string_view text);
  static result<gtid_set> parse_mariadb(std::string_view text);
  static result<gtid_set> parse_filepos(std::string_view text);
  static bool before(const source& a, const source& b);
  bool is_in_order() const;
  void put_in_order();
  const source* find(const source& key) const;

  gtid_flavor flavor_ = gtid_flavor::mysql56;
  std::vector<source> sources_;  // sorted by UUID and tag; none without intervals
  std::map<std::uint32_t, mariadb_gtid> domains_;
  std::string file_;
  std::uint64_t offset_ = 0;
};

}  // namespace psource
