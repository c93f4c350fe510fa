// Prints docs/types.md from the type table and the case files that the tests check.
//
//   print_types_doc [FOLDER]     (default: tests/types of the source tree)
#include <iostream>
#include <map>

#include "type_cases.hpp"

namespace {

using namespace psource;
using namespace psource::testing;

/// Text as it can stand in a cell of a Markdown table, as code.
std::string code(std::string text) {
  std::string safe;
  for (char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '|')
      safe += "\\|";
    else if (byte == '\n' || byte == 0x7f)
      safe += ' ';
    else
      safe += c;
  }
  constexpr std::size_t longest = 160;
  if (safe.size() > longest) {
    std::size_t end = longest;
    while (end > 0 && (static_cast<unsigned char>(safe[end]) & 0xC0) == 0x80) --end;
    safe = safe.substr(0, end) + "…";
  }
  const std::string fence = safe.find('`') == std::string::npos ? "`" : "``";
  return safe.empty() ? "" : fence + safe + fence;
}

std::string stored(const type_value& value) {
  if (value.null) return "NULL";
  if (value.bytes.empty()) return "(empty)";
  return code(value.hex ? "x'" + value.shown + "'" : value.shown);
}

std::string phase(const type_value& value) {
  if (value.phase == "key") return "both, in a key";
  return value.phase;
}

}  // namespace

int main(int argc, char** argv) try {
  const std::string folder = argc > 1 ? argv[1] : PSOURCE_TEST_TYPES;
  std::cout << "# Types\n\n"
               "What every MySQL type becomes, in the catalog and in records. This page is printed from the "
               "cases that the tests check\n"
               "(`tests/types/`, `build/bin/print_types_doc > docs/types.md`).\n\n"
               "- Nullable columns are declared `\"type\": [\"null\", T]`, NOT NULL ones `\"type\": [T]`. "
               "DATE, DATETIME, TIMESTAMP and TIME are\n"
               "  always declared nullable, because zero dates become null.\n"
               "- A value arrives by the copy (a SELECT) or from the binlog; MySQL and Vitess write some of "
               "them differently. The record says the\n"
               "  same, with two exceptions: FLOAT, which MySQL itself rounds to 6 digits in the copy, and numbers inside JSON "
               "documents, which are passed\n"
               "  on as each phase writes them, so that `1.0` of the copy may be `1` from the binary log.\n"
               "- A value that cannot be told exactly is nulled or repaired, and the record's `meta.changes` "
               "names the field: `NULLED` or\n"
               "  `TRUNCATED`, reason `SOURCE_SERIALIZATION_ERROR`. In a primary key every DATE, DATETIME and "
               "TIMESTAMP that does not exist\n"
               "  (zero, partly zero, or a day that the calendar does not have) becomes 1970-01-01 instead of null, so that keys that differ "
               "only in such\n"
               "  dates become one row in the destination.\n"
               "- Text is transcoded from the column's character set (in copies from Vitess 20 and newer the tablet's own word "
               "for it, else\n"
               "  information_schema's when the read began) to UTF-8, to the characters that MySQL itself gives a client\n"
               "  that asks for utf8mb4. What MySQL's table of a set leaves open is read as the system's iconv "
               "has it (in gbk, 0x80 is €), and each byte that\n"
               "  is not valid there either becomes U+FFFD. MySQL's latin1 is Windows-1252. `keybcs2` cannot be "
               "decoded (the system's iconv\n"
               "  does not have it): its letters outside ASCII become U+FFFD, and the log says so once.\n"
               "- JSON is delivered as text in one form: no white space outside strings, numbers with the digits of their phase (but "
               "`.5` gets its 0, and `007` loses its zeros), keys in their order. Text in a JSON\n"
               "  column that is no JSON, or is nested deeper than 512 levels, is delivered as it is, with a "
               "change entry. An empty value is `null`.\n"
               "- ENUM and SET are labels. A number without a label (ENUM) is nulled, an unknown bit (SET) "
               "is left out, both with a change entry.\n"
               "- Every stream has `_ab_cdc_updated_at`, `_ab_cdc_deleted_at` (date-time with time zone, "
               "nullable) and `_ab_cdc_cursor` (integer).\n"
               "  A column of a table with one of these names is not delivered.\n\n";
  const std::map<std::string, std::string> titles = {
      {"bytes", "Binary strings, geometries, unknown types"},
      {"numbers", "Numbers"},
      {"texts", "Text, ENUM, SET, JSON"},
      {"times", "Dates and times"},
  };
  const auto blocks = load_type_cases(folder);
  std::cout << "## How much is checked\n\n"
               "Each value is encoded in each phase that it can come in, and compared byte by byte.\n\n"
               "| Type | Forms | Cases in the copy | Cases in the binlog | NULL | empty | with `meta.changes` |\n"
               "|---|---|---|---|---|---|---|\n";
  phase_counts sum;
  for (const auto& [kind, count] : count_cases(blocks)) {
    std::cout << "| " << to_string(kind) << " | " << count.blocks << " | " << count.copy << " | " << count.binlog << " | "
              << count.null << " | " << count.empty << " | " << count.changed << " |\n";
    sum.blocks += count.blocks;
    sum.copy += count.copy;
    sum.binlog += count.binlog;
    sum.null += count.null;
    sum.empty += count.empty;
    sum.changed += count.changed;
  }
  std::cout << "| all | " << sum.blocks << " | " << sum.copy << " | " << sum.binlog << " | " << sum.null << " | " << sum.empty
            << " | " << sum.changed << " |\n\n";
  std::string open;
  for (const auto& block : blocks) {
    if (block.file != open) {
      open = block.file;
      const auto title = titles.find(open);
      std::cout << "## " << (title == titles.end() ? open : title->second) << "\n\n";
    }
    std::cout << "### " << (block.column_type.empty() ? "(no type text)" : code(block.column_type));
    if (!block.charset.empty()) std::cout << ", character set " << block.charset;
    if (block.options.time_as_string) std::cout << ", with `options.time_as_string`";
    if (!block.options.tiny_int_as_boolean) std::cout << ", with `options.do_not_treat_tiny_int_as_boolean`";
    if (block.labels_are_numbers) std::cout << ", from Vitess 19 and older (binlog: index or bits)";
    std::cout << "\n\n";
    if (!block.comment.empty()) std::cout << block.comment << "\n\n";
    std::cout << "Schema: `" << block.required << "`";
    if (block.required != block.nullable) std::cout << ", nullable `" << block.nullable << "`";
    std::cout << "\n\n| phase | MySQL | JSON | meta.changes |\n|---|---|---|---|\n";
    for (const auto& value : block.values)
      std::cout << "| " << phase(value) << " | " << stored(value) << " | " << code(value.json) << " | "
                << value.change << " |\n";
    std::cout << "\n";
  }
  return 0;
} catch (const std::exception& error) {
  std::cerr << error.what() << "\n";
  return 1;
}
