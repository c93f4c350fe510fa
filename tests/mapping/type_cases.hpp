// The cases of tests/types/*.txtcase. The format is described in tests/types/README.md.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "protocol/mapping/record_encoder.hpp"

namespace psource::testing {

struct type_value {
  std::string phase;  ///< copy, binlog, both, key
  bool null = false;
  bool hex = false;
  std::string shown;  ///< As the file has it.
  std::string bytes;
  std::string json;
  std::string change;  ///< NULLED, TRUNCATED or empty
  std::string place;   ///< file:line
};

struct type_block {
  std::string file;
  std::string comment;
  std::string column_type;
  std::int32_t number = 0;
  std::string charset;
  std::uint32_t collation = 0;
  type_options options;
  bool labels_are_numbers = false;
  std::string nullable;
  std::string required;
  std::vector<type_value> values;
  std::string place;
};

/// All blocks of all files of a folder, files by name. Throws std::runtime_error with file and line when one
/// is ill-formed.
std::vector<type_block> load_type_cases(const std::string& folder);

/// How many cases a kind of type has in each phase. `both` and `key` count in each of the two.
struct phase_counts {
  std::size_t blocks = 0;
  std::size_t copy = 0;
  std::size_t binlog = 0;
  std::size_t null = 0;
  std::size_t empty = 0;
  std::size_t changed = 0;  ///< With an entry in meta.changes.
};
std::map<type_kind, phase_counts> count_cases(const std::vector<type_block>& blocks);

}  // namespace psource::testing
