// MySQL's text of a column type ("bigint(20) unsigned", "enum('a','b')"), taken apart.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace psource {

/// The kinds of MySQL types that are told apart. Aliases (bool, integer, dec, …) never occur in MySQL's own
/// texts, but are known.
enum class type_kind : std::uint8_t {
  tinyint,
  smallint,
  mediumint,
  int_,
  bigint,
  year,
  decimal,
  float_,
  double_,
  bit,
  date,
  datetime,
  timestamp,
  time,
  char_,
  varchar,
  text,  ///< tinytext … longtext
  enum_,
  set,
  json,
  binary,
  varbinary,
  blob,      ///< tinyblob … longblob
  geometry,  ///< and its seven kin
  vector,
  unknown,  ///< a type that this program does not know yet
};

/// What a column's type says. Numbers that the text does not give are 0.
struct column_type {
  type_kind kind = type_kind::unknown;
  bool is_unsigned = false;
  bool zerofill = false;
  /// Display width, length, bits or dimensions: int(11) → 11, varchar(20) → 20, bit(9) → 9, vector(3) → 3.
  std::uint32_t width = 0;
  /// decimal(20,5) → 20 and 5.
  std::uint32_t precision = 0;
  std::uint32_t scale = 0;
  /// Digits of a second's fraction: datetime(6) → 6.
  std::uint32_t fraction = 0;
  /// Labels of ENUM and SET in definition order, quotes undone, in the bytes of the text.
  std::vector<std::string> members;
};

/// Takes a type text apart. Never fails: a text that it cannot read is type_kind::unknown. Any bytes may be
/// given; at most 65,535 members are kept (MySQL's limit for ENUM). Case does not matter outside quotes.
column_type parse_column_type(std::string_view text);

/// The type behind a number of query.Type, for servers that leave column_type out. ENUM and SET have no
/// members then. A BLOB, BINARY or VARBINARY whose collation is neither 63 (binary) nor 0 is text.
column_type column_type_of_number(std::int32_t type, std::uint32_t collation);

/// The kind's name for documents and messages: "bigint".
const char* to_string(type_kind kind);

}  // namespace psource
