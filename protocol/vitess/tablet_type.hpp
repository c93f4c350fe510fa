// Which kind of tablet a stream reads from.
#pragma once

#include <cstdint>

namespace psource {

/// Numbers as in topodata.TabletType.
enum class tablet_type : std::uint8_t { primary = 1, replica = 2, rdonly = 3 };

/// "primary", "replica" or "rdonly": the words of Vitess's target strings ("keyspace:shard@replica").
constexpr const char* to_string(tablet_type type) {
  switch (type) {
    case tablet_type::primary:
      return "primary";
    case tablet_type::replica:
      return "replica";
    case tablet_type::rdonly:
      return "rdonly";
  }
  return "primary";
}

}  // namespace psource
