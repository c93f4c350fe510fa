// What a copy's last primary key must look like, wherever it comes from: a server's VGTID or a saved cursor.
#pragma once

#include <cstdint>

#include "query.pb.h"

namespace psource {

/// What makes a key unusable ("has no fields"), or nullptr: it has fields and exactly one row that fits them. A server
/// crashes on others.
inline const char* fault_of_last_key(const query::QueryResult& key) {
  if (key.fields_size() == 0) return "has no fields";
  if (key.rows_size() != 1) return "does not have exactly one row";
  const auto& row = key.rows(0);
  if (row.lengths_size() != key.fields_size()) return "has a row that does not fit its fields";
  std::uint64_t left = row.values().size();
  for (const std::int64_t length : row.lengths()) {
    if (length < 0) continue;  // NULL
    if (static_cast<std::uint64_t>(length) > left) return "has a row that is shorter than its lengths say";
    left -= static_cast<std::uint64_t>(length);
  }
  return left == 0 ? nullptr : "has a row that is longer than its lengths say";
}

}  // namespace psource
