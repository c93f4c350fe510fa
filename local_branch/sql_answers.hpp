// What the MySQL port of a local branch answers: vtgate's SHOW VITESS_…, positions, and information_schema.
#pragma once

#include <optional>
#include <set>
#include <string>

#include "local_branch/branch.hpp"
#include "local_branch/mysql_server.hpp"

namespace psource::local_branch {

/// Answers the questions that a source asks of a branch, and no other SQL. Thread-safe; the branch must
/// outlive it.
class sql_answers {
 public:
  /// `tablet_types`: numbers of topodata.TabletType that every shard has.
  sql_answers(const branch& source, std::set<int> tablet_types);

  /// The answer to one query. `target` is "", "ks", "ks/-80", "ks:-80@replica" or "ks@rdonly".
  mysql_reply answer(const std::string& target, const std::string& sql) const;

  /// The target names a keyspace of the branch. What shard it names is looked at when something is asked there.
  bool known_target(const std::string& target) const;

 private:
  struct place;
  place resolve(const std::string& target) const;
  /// As vtgate says it, when the target names a shard that does not serve: replaced by a reshard, or unknown.
  std::optional<mysql_error> no_tablet(const std::string& target) const;
  mysql_reply shards() const;
  mysql_reply tablets() const;
  mysql_reply keyspaces() const;
  mysql_reply positions(const std::string& target) const;
  mysql_reply rows_by_key(const std::string& target, const std::string& sql) const;
  mysql_reply from_information_schema(const std::string& sql) const;

  const branch& source_;
  const std::set<int> tablet_types_;
};

}  // namespace psource::local_branch
