// Which tables lose rows by a DDL statement, or others come in their place: the binary log has no row events of those.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace psource {

/// Bare names (without keyspace) of the tables whose rows the statement takes away or exchanges, all or some, or that it
/// makes anew: TRUNCATE, DROP TABLE, CREATE TABLE (not IF NOT EXISTS), ALTER TABLE … DROP, TRUNCATE or EXCHANGE PARTITION
/// (both tables), and RENAME TABLE or ALTER TABLE … RENAME: the name that a table goes from, and the one that it gets.
/// Not the cut-over of an online DDL, which puts a table with the same rows in the place of the old one; but the rename by
/// which Vitess drops a table. Temporary tables do not count. Any text may be given; one that is none of these names
/// nothing.
std::vector<std::string> tables_losing_rows(std::string_view statement);

/// CREATE TABLE … SELECT, as MySQL writes it since 8.0.21: "CREATE TABLE … START TRANSACTION", and the rows behind it in the same
/// transaction (MySQL, "Replication of CREATE TABLE ... SELECT Statements").
bool begins_transaction(std::string_view statement);

}  // namespace psource
