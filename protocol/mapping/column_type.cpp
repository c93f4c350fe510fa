// One scan over a short text; everything that it does not expect ends in type_kind::unknown.
#include "protocol/mapping/column_type.hpp"

#include <algorithm>
#include <cstddef>
#include <utility>

namespace psource {
namespace {

struct type_name {
  const char* name;
  type_kind kind;
};

constexpr type_name type_names[] = {
    {"tinyint", type_kind::tinyint},
    {"bool", type_kind::tinyint},
    {"boolean", type_kind::tinyint},
    {"smallint", type_kind::smallint},
    {"mediumint", type_kind::mediumint},
    {"int", type_kind::int_},
    {"integer", type_kind::int_},
    {"bigint", type_kind::bigint},
    {"year", type_kind::year},
    {"decimal", type_kind::decimal},
    {"dec", type_kind::decimal},
    {"numeric", type_kind::decimal},
    {"fixed", type_kind::decimal},
    {"float", type_kind::float_},
    {"double", type_kind::double_},
    {"real", type_kind::double_},
    {"bit", type_kind::bit},
    {"date", type_kind::date},
    {"datetime", type_kind::datetime},
    {"timestamp", type_kind::timestamp},
    {"time", type_kind::time},
    {"char", type_kind::char_},
    {"character", type_kind::char_},
    {"nchar", type_kind::char_},
    {"varchar", type_kind::varchar},
    {"nvarchar", type_kind::varchar},
    {"tinytext", type_kind::text},
    {"text", type_kind::text},
    {"mediumtext", type_kind::text},
    {"longtext", type_kind::text},
    {"enum", type_kind::enum_},
    {"set", type_kind::set},
    {"json", type_kind::json},
    {"binary", type_kind::binary},
    {"varbinary", type_kind::varbinary},
    {"tinyblob", type_kind::blob},
    {"blob", type_kind::blob},
    {"mediumblob", type_kind::blob},
    {"longblob", type_kind::blob},
    {"geometry", type_kind::geometry},
    {"point", type_kind::geometry},
    {"linestring", type_kind::geometry},
    {"polygon", type_kind::geometry},
    {"multipoint", type_kind::geometry},
    {"multilinestring", type_kind::geometry},
    {"multipolygon", type_kind::geometry},
    {"geometrycollection", type_kind::geometry},
    {"geomcollection", type_kind::geometry},
    {"vector", type_kind::vector},
};

constexpr std::size_t most_members = 65535;
constexpr std::size_t longest_word = 32;

char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

class scanner {
 public:
  explicit scanner(std::string_view text) : text_(text) {}

  void skip_space() {
    while (at_ != text_.size() && (text_[at_] == ' ' || text_[at_] == '\t')) ++at_;
  }
  bool at_end() const { return at_ == text_.size(); }
  bool take(char c) {
    if (at_end() || text_[at_] != c) return false;
    ++at_;
    return true;
  }
  /// Letters, digits and '_', in small letters; empty when there are none or too many.
  std::string word() {
    std::string result;
    while (!at_end() && result.size() <= longest_word) {
      const char c = lower(text_[at_]);
      if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_')) break;
      result.push_back(c);
      ++at_;
    }
    return result.size() > longest_word ? std::string() : result;
  }
  bool number(std::uint32_t& value) {
    constexpr std::uint64_t limit = 0xFFFFFFFF;
    std::uint64_t sum = 0;
    const std::size_t from = at_;
    while (!at_end() && text_[at_] >= '0' && text_[at_] <= '9') {
      sum = std::min<std::uint64_t>(sum * 10 + static_cast<std::uint64_t>(text_[at_] - '0'), limit);
      ++at_;
    }
    value = static_cast<std::uint32_t>(sum);
    return at_ != from;
  }
  /// A label in quotes. Within it MySQL doubles quotes, and writes backslash, NUL, line feed and carriage
  /// return with a backslash.
  bool label(std::string& value) {
    if (!take('\'')) return false;
    while (!at_end()) {
      char c = text_[at_++];
      if (c == '\'') {
        if (!take('\'')) return true;
      } else if (c == '\\' && !at_end()) {
        c = text_[at_++];
        if (c == '0') c = '\0';
        if (c == 'n') c = '\n';
        if (c == 'r') c = '\r';
      }
      value.push_back(c);
    }
    return false;
  }

 private:
  std::string_view text_;
  std::size_t at_ = 0;
};

/// "('a','b')"; false when it is anything else.
bool read_members(scanner& scan, std::vector<std::string>& members) {
  if (!scan.take('(')) return false;
  for (;;) {
    scan.skip_space();
    std::string value;
    if (!scan.label(value) || members.size() == most_members) return false;
    members.push_back(std::move(value));
    scan.skip_space();
    if (scan.take(')')) return true;
    if (!scan.take(',')) return false;
  }
}

bool has_fraction(type_kind kind) {
  return kind == type_kind::datetime || kind == type_kind::timestamp || kind == type_kind::time;
}

}  // namespace

column_type parse_column_type(std::string_view text) {
  column_type result;
  scanner scan(text);
  scan.skip_space();
  const std::string name = scan.word();
  const auto* const found = std::find_if(std::begin(type_names), std::end(type_names),
                                         [&](const type_name& candidate) { return name == candidate.name; });
  if (found == std::end(type_names)) return result;
  result.kind = found->kind;
  scan.skip_space();

  if (result.kind == type_kind::enum_ || result.kind == type_kind::set) {
    // Without a readable list the labels that arrive as text still hold.
    if (!read_members(scan, result.members)) result.members.clear();
    return result;
  }

  if (scan.take('(')) {
    std::uint32_t first = 0;
    std::uint32_t second = 0;
    scan.skip_space();
    bool good = scan.number(first);
    scan.skip_space();
    if (good && scan.take(',')) {
      scan.skip_space();
      good = scan.number(second);
      scan.skip_space();
    }
    if (!good || !scan.take(')')) return column_type();
    if (result.kind == type_kind::decimal || result.kind == type_kind::float_ ||
        result.kind == type_kind::double_) {
      result.precision = first;
      result.scale = second;
    } else if (has_fraction(result.kind)) {
      result.fraction = first;
    } else {
      result.width = first;
    }
  }
  if (result.kind == type_kind::bit && result.width == 0) result.width = 1;
  if (name == "bool" || name == "boolean") result.width = 1;

  for (;;) {
    scan.skip_space();
    const std::string word = scan.word();
    if (word.empty()) break;
    if (word == "unsigned") result.is_unsigned = true;
    if (word == "zerofill") result.is_unsigned = result.zerofill = true;
  }
  return result;
}

column_type column_type_of_number(std::int32_t type, std::uint32_t collation) {
  constexpr std::uint32_t binary_collation = 63;
  const bool text = collation != 0 && collation != binary_collation;
  column_type result;
  constexpr std::int32_t unsigned_flag = 512;
  constexpr std::int32_t integral_flag = 256;
  if ((type & integral_flag) != 0) result.is_unsigned = (type & unsigned_flag) != 0;
  switch (type) {
    case 257:
    case 770:
      result.kind = type_kind::tinyint;
      break;
    case 259:
    case 772:
      result.kind = type_kind::smallint;
      break;
    case 261:
    case 774:
      result.kind = type_kind::mediumint;
      break;
    case 263:
    case 776:
      result.kind = type_kind::int_;
      break;
    case 265:
    case 778:
      result.kind = type_kind::bigint;
      break;
    case 785:
      result.kind = type_kind::year;
      break;
    case 18:
      result.kind = type_kind::decimal;
      break;
    case 1035:
      result.kind = type_kind::float_;
      break;
    case 1036:
      result.kind = type_kind::double_;
      break;
    case 2073:
      result.kind = type_kind::bit;
      break;
    case 2062:
      result.kind = type_kind::date;
      break;
    case 2064:
      result.kind = type_kind::datetime;
      break;
    case 2061:
      result.kind = type_kind::timestamp;
      break;
    case 2063:
      result.kind = type_kind::time;
      break;
    case 6167:
      result.kind = type_kind::char_;
      break;
    case 6165:
      result.kind = type_kind::varchar;
      break;
    case 6163:
      result.kind = type_kind::text;
      break;
    case 2074:
      result.kind = type_kind::enum_;
      break;
    case 2075:
      result.kind = type_kind::set;
      break;
    case 2078:
      result.kind = type_kind::json;
      break;
    case 10264:
      result.kind = text ? type_kind::char_ : type_kind::binary;
      break;
    case 10262:
      result.kind = text ? type_kind::varchar : type_kind::varbinary;
      break;
    case 10260:
      result.kind = text ? type_kind::text : type_kind::blob;
      break;
    case 2077:
      result.kind = type_kind::geometry;
      break;
    case 2083:
      result.kind = type_kind::vector;
      break;
    default:
      break;
  }
  return result;
}

const char* to_string(type_kind kind) {
  switch (kind) {
    case type_kind::tinyint:
      return "tinyint";
    case type_kind::smallint:
      return "smallint";
    case type_kind::mediumint:
      return "mediumint";
    case type_kind::int_:
      return "int";
    case type_kind::bigint:
      return "bigint";
    case type_kind::year:
      return "year";
    case type_kind::decimal:
      return "decimal";
    case type_kind::float_:
      return "float";
    case type_kind::double_:
      return "double";
    case type_kind::bit:
      return "bit";
    case type_kind::date:
      return "date";
    case type_kind::datetime:
      return "datetime";
    case type_kind::timestamp:
      return "timestamp";
    case type_kind::time:
      return "time";
    case type_kind::char_:
      return "char";
    case type_kind::varchar:
      return "varchar";
    case type_kind::text:
      return "text";
    case type_kind::enum_:
      return "enum";
    case type_kind::set:
      return "set";
    case type_kind::json:
      return "json";
    case type_kind::binary:
      return "binary";
    case type_kind::varbinary:
      return "varbinary";
    case type_kind::blob:
      return "blob";
    case type_kind::geometry:
      return "geometry";
    case type_kind::vector:
      return "vector";
    case type_kind::unknown:
      return "unknown";
  }
  return "unknown";
}

}  // namespace psource
