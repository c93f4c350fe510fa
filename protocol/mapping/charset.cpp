// UTF-8 in place, single-byte sets by a table, UTF-16 and UTF-32 by hand, the multi-byte sets of Asia by
// iconv; and small tables for what MySQL reads otherwise than iconv, so that a record has the characters that MySQL has.
#include "protocol/mapping/charset.hpp"

#include <iconv.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>

#include "protocol/mapping/json_string.hpp"
#include "protocol/mapping/plain_text.hpp"

namespace psource {
namespace {

struct id_range {
  std::uint16_t first;
  std::uint16_t last;
  const char* name;
};

// information_schema.collations of MySQL 8.0 to 9.x; ids of 1024 and above belong to collations of a server's
// own making.
constexpr id_range collations[] = {
    {1, 1, "big5"},        {2, 2, "latin2"},      {3, 3, "dec8"},        {4, 4, "cp850"},
    {5, 5, "latin1"},      {6, 6, "hp8"},         {7, 7, "koi8r"},       {8, 8, "latin1"},
    {9, 9, "latin2"},      {10, 10, "swe7"},      {11, 11, "ascii"},     {12, 12, "ujis"},
    {13, 13, "sjis"},      {14, 14, "cp1251"},    {15, 15, "latin1"},    {16, 16, "hebrew"},
    {18, 18, "tis620"},    {19, 19, "euckr"},     {20, 20, "latin7"},    {21, 21, "latin2"},
    {22, 22, "koi8u"},     {23, 23, "cp1251"},    {24, 24, "gb2312"},    {25, 25, "greek"},
    {26, 26, "cp1250"},    {27, 27, "latin2"},    {28, 28, "gbk"},       {29, 29, "cp1257"},
    {30, 30, "latin5"},    {31, 31, "latin1"},    {32, 32, "armscii8"},  {33, 33, "utf8mb3"},
    {34, 34, "cp1250"},    {35, 35, "ucs2"},      {36, 36, "cp866"},     {37, 37, "keybcs2"},
    {38, 38, "macce"},     {39, 39, "macroman"},  {40, 40, "cp852"},     {41, 42, "latin7"},
    {43, 43, "macce"},     {44, 44, "cp1250"},    {45, 46, "utf8mb4"},   {47, 49, "latin1"},
    {50, 52, "cp1251"},    {53, 53, "macroman"},  {54, 55, "utf16"},     {56, 56, "utf16le"},
    {57, 57, "cp1256"},    {58, 59, "cp1257"},    {60, 61, "utf32"},     {62, 62, "utf16le"},
    {63, 63, "binary"},    {64, 64, "armscii8"},  {65, 65, "ascii"},     {66, 66, "cp1250"},
    {67, 67, "cp1256"},    {68, 68, "cp866"},     {69, 69, "dec8"},      {70, 70, "greek"},
    {71, 71, "hebrew"},    {72, 72, "hp8"},       {73, 73, "keybcs2"},   {74, 74, "koi8r"},
    {75, 75, "koi8u"},     {76, 76, "utf8mb3"},   {77, 77, "latin2"},    {78, 78, "latin5"},
    {79, 79, "latin7"},    {80, 80, "cp850"},     {81, 81, "cp852"},     {82, 82, "swe7"},
    {83, 83, "utf8mb3"},   {84, 84, "big5"},      {85, 85, "euckr"},     {86, 86, "gb2312"},
    {87, 87, "gbk"},       {88, 88, "sjis"},      {89, 89, "tis620"},    {90, 90, "ucs2"},
    {91, 91, "ujis"},      {92, 93, "geostd8"},   {94, 94, "latin1"},    {95, 96, "cp932"},
    {97, 98, "eucjpms"},   {99, 99, "cp1250"},    {101, 124, "utf16"},   {128, 151, "ucs2"},
    {159, 159, "ucs2"},    {160, 183, "utf32"},   {192, 215, "utf8mb3"}, {223, 223, "utf8mb3"},
    {224, 247, "utf8mb4"}, {248, 250, "gb18030"}, {255, 323, "utf8mb4"},
};

struct foreign_name {
  const char* mysql;
  const char* iconv;
};

constexpr foreign_name single_byte[] = {
    {"armscii8", "ARMSCII-8"},
    {"cp1250", "CP1250"},
    {"cp1251", "CP1251"},
    {"cp1256", "CP1256"},
    {"cp1257", "CP1257"},
    {"cp850", "CP850"},
    {"cp852", "CP852"},
    {"cp866", "CP866"},
    {"dec8", "DEC-MCS"},
    {"geostd8", "GEORGIAN-PS"},
    {"greek", "ISO-8859-7"},
    {"hebrew", "ISO-8859-8"},
    {"hp8", "HP-ROMAN8"},
    {"koi8r", "KOI8-R"},
    {"koi8u", "KOI8-U"},
    {"latin2", "ISO-8859-2"},
    {"latin5", "ISO-8859-9"},
    {"latin7", "ISO-8859-13"},
    {"macce", "MAC-CENTRALEUROPE"},
    {"macroman", "MACINTOSH"},
    {"swe7", "SEN_850200_C"},
    {"tis620", "TIS-620"},
};

/// `count` bytes from `first` on are the characters from `code_point` on.
struct byte_run {
  const char* set;
  std::uint8_t first;
  std::uint8_t count;
  std::uint16_t code_point;
};

// Bytes that MySQL (share/charsets, ctype-tis620) takes for another character than iconv does, or for one where iconv has
// none. What MySQL leaves open stays as iconv has it.
constexpr byte_run bytes_of_mysql[] = {
    {"armscii8", 0xA1, 1, 0x2741}, {"armscii8", 0xA2, 1, 0x00A7}, {"armscii8", 0xAD, 1, 0x055F},
    {"armscii8", 0xFE, 1, 0x2019}, {"armscii8", 0xFF, 1, 0x0027}, {"cp866", 0xFC, 1, 0x207F},
    {"cp866", 0xFD, 1, 0x00B2},    {"dec8", 0xA0, 1, 0x00A0},     {"geostd8", 0x80, 1, 0x20AC},
    {"geostd8", 0xFD, 1, 0x2116},  {"greek", 0xA1, 1, 0x02BD},    {"greek", 0xA2, 1, 0x02BC},
    {"hebrew", 0xAF, 1, 0x203E},   {"koi8u", 0x95, 1, 0x2022},    {"macroman", 0xC6, 1, 0x2206},
    {"macroman", 0xF0, 1, 0xF8FF}, {"swe7", 0x24, 1, 0x0024},     {"tis620", 0x80, 32, 0x0080},
};

// MySQL's euckr holds all of UHC, its gb2312 is EUC-CN.
constexpr foreign_name multi_byte[] = {
    {"big5", "BIG5"}, {"cp932", "CP932"},     {"eucjpms", "EUC-JP-MS"},
    {"euckr", "UHC"}, {"gb18030", "GB18030"}, {"gb2312", "EUC-CN"},
    {"gbk", "GBK"},   {"sjis", "SJIS"},       {"ujis", "EUC-JP"},
};

// Windows-1252, 0x80 to 0x9F. MySQL maps the five bytes that Windows leaves open to the C1 controls of the
// same number.
constexpr std::uint16_t windows_1252[32] = {
    0x20AC, 0x0081, 0x201A, 0x0192, 0x201E, 0x2026, 0x2020, 0x2021, 0x02C6, 0x2030, 0x0160,
    0x2039, 0x0152, 0x008D, 0x017D, 0x008F, 0x0090, 0x2018, 0x2019, 0x201C, 0x201D, 0x2022,
    0x2013, 0x2014, 0x02DC, 0x2122, 0x0161, 0x203A, 0x0153, 0x009D, 0x017E, 0x0178,
};

std::string lower(std::string_view text) {
  std::string result(text);
  for (char& c : result)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return result;
}

constexpr std::uint32_t no_character = 0xFFFFFFFF;

/// One character from UTF-32LE as iconv writes it, or no_character.
std::uint32_t decode_one(iconv_t handle, unsigned char byte) {
  char in = static_cast<char>(byte);
  char out[16];
  char* in_at = &in;
  char* out_at = out;
  std::size_t in_left = 1;
  std::size_t out_left = sizeof out;
  ::iconv(handle, nullptr, nullptr, nullptr, nullptr);
  if (::iconv(handle, &in_at, &in_left, &out_at, &out_left) == static_cast<std::size_t>(-1))
    return no_character;
  ::iconv(handle, nullptr, nullptr, &out_at, &out_left);
  if (out_at != out + 4) return no_character;
  std::uint32_t result = 0;
  for (int i = 3; i >= 0; --i) result = (result << 8) | static_cast<unsigned char>(out[i]);
  return result;
}

}  // namespace

/// Codes of a multi-byte set (a character's bytes as one number) that MySQL takes for another character than iconv does, or
/// for one where iconv has none: `rows` rows, 0x100 apart, of `count` codes each, for the characters from `code_point` on.
struct text_decoder::code_run {
  std::uint32_t first;
  std::uint8_t count;
  std::uint8_t rows;
  std::uint16_t code_point;
};

struct text_decoder::codes_of_mysql {
  const char* set;
  /// Bytes of the character at `at`, of which `left` are there; 1 where there is none.
  std::size_t (*length)(const unsigned char* at, std::size_t left);
  const code_run* first;  ///< In the order of their codes.
  const code_run* end;
  std::array<bool, 256> leads;  ///< First bytes of these codes.

  template <std::size_t Size>
  constexpr codes_of_mysql(const char* name, std::size_t (*measure)(const unsigned char*, std::size_t),
                           const code_run (&runs)[Size])
      : set(name), length(measure), first(runs), end(runs + Size), leads() {
    for (const code_run& run : runs) {
      for (std::uint32_t row = 0; row < run.rows; ++row) {
        std::uint32_t lead = run.first + 0x100 * row;
        while (lead > 0xFF) lead >>= 8;
        leads[lead] = true;
      }
    }
  }

  /// What `code` is by MySQL, or no_character where it is what iconv says.
  std::uint32_t find(std::uint32_t code) const {
    const code_run* run =
        std::upper_bound(first, end, code, [](std::uint32_t wanted, const code_run& other) { return wanted < other.first; });
    if (run == first) return no_character;
    --run;
    const std::uint32_t row = (code - run->first) >> 8;
    const std::uint32_t place = (code - run->first) & 0xFF;
    return row < run->rows && place < run->count ? run->code_point + row * run->count + place : no_character;
  }
};

namespace {

bool between(unsigned byte, unsigned low, unsigned high) { return byte >= low && byte <= high; }

std::size_t big5_length(const unsigned char* at, std::size_t left) {
  return left >= 2 && between(at[0], 0xA1, 0xF9) && (between(at[1], 0x40, 0x7E) || between(at[1], 0xA1, 0xFE)) ? 2 : 1;
}

std::size_t sjis_length(const unsigned char* at, std::size_t left) {
  return left >= 2 && (between(at[0], 0x81, 0x9F) || between(at[0], 0xE0, 0xFC)) && between(at[1], 0x40, 0xFC) &&
                 at[1] != 0x7F
             ? 2
             : 1;
}

std::size_t ujis_length(const unsigned char* at, std::size_t left) {
  if (left >= 3 && at[0] == 0x8F && between(at[1], 0xA1, 0xFE) && between(at[2], 0xA1, 0xFE)) return 3;
  return left >= 2 && (at[0] == 0x8E || between(at[0], 0xA1, 0xFE)) && between(at[1], 0xA1, 0xFE) ? 2 : 1;
}

std::size_t gb18030_length(const unsigned char* at, std::size_t left) {
  if (left < 2 || !between(at[0], 0x81, 0xFE)) return 1;
  if (between(at[1], 0x40, 0xFE) && at[1] != 0x7F) return 2;
  return left >= 4 && between(at[1], 0x30, 0x39) && between(at[2], 0x81, 0xFE) && between(at[3], 0x30, 0x39) ? 4 : 1;
}

}  // namespace

const text_decoder::codes_of_mysql* text_decoder::find_codes_of_mysql(std::string_view mysql_name) {
  // Symbols of rows A1 and A2; the repetition marks, kana, Cyrillic letters and numbers of C6A1 to C7FC, which are private
  // use for iconv.
  static constexpr code_run big5[] = {
      {0xA145, 1, 1, 0x2022},  {0xA14E, 1, 1, 0xFF64},  {0xA1C2, 1, 1, 0x203E},  {0xA1E3, 1, 1, 0x223C},
      {0xA1F2, 1, 1, 0x2641},  {0xA1F3, 1, 1, 0x2609},  {0xA241, 1, 1, 0xFF0F},  {0xA242, 1, 1, 0xFF3C},
      {0xA244, 1, 1, 0x00A5},  {0xA246, 2, 1, 0x00A2},  {0xC6A1, 1, 1, 0x30FE},  {0xC6A2, 2, 1, 0x309D},
      {0xC6A4, 1, 1, 0x3005},  {0xC6A5, 83, 1, 0x3041}, {0xC6F8, 7, 1, 0x30A1},  {0xC740, 63, 1, 0x30A8},
      {0xC7A1, 16, 1, 0x30E7}, {0xC7B1, 2, 1, 0x0414},  {0xC7B3, 1, 1, 0x0401},  {0xC7B4, 7, 1, 0x0416},
      {0xC7BB, 19, 1, 0x0423}, {0xC7CE, 1, 1, 0x0451},  {0xC7CF, 26, 1, 0x0436}, {0xC7E9, 10, 1, 0x2460},
      {0xC7F3, 10, 1, 0x2474},
  };
  // Two bytes of ASCII, for which iconv has the yen sign and the overline; and a backslash, which MySQL stores as the wide
  // one where it comes from Unicode.
  static constexpr code_run sjis[] = {{0x5C, 1, 1, 0x5C}, {0x7E, 1, 1, 0x7E}, {0x815F, 1, 1, 0x5C}};
  // Likewise, and two blocks for characters of a user's own.
  static constexpr code_run ujis[] = {
      {0xA1C0, 1, 1, 0x5C}, {0xF5A1, 94, 10, 0xE000}, {0x8FA2B7, 1, 1, 0x7E}, {0x8FF5A1, 94, 10, 0xE3AC}};
  // Characters that Unicode took in late: private use for MySQL where they have two bytes, themselves where they have four.
  static constexpr code_run gb18030[] = {
      {0xA6D9, 7, 1, 0xE78D},     {0xA6EC, 2, 1, 0xE794},     {0xA6F3, 1, 1, 0xE796},     {0xFE51, 3, 1, 0xE816},
      {0xFE59, 1, 1, 0xE81E},     {0xFE61, 1, 1, 0xE826},     {0xFE66, 2, 1, 0xE82B},     {0xFE6C, 2, 1, 0xE831},
      {0xFE76, 1, 1, 0xE83B},     {0xFE7E, 1, 1, 0xE843},     {0xFE90, 2, 1, 0xE854},     {0xFEA0, 1, 1, 0xE864},
      {0x82359037, 3, 1, 0x9FB4}, {0x82359130, 5, 1, 0x9FB7}, {0x84318236, 4, 1, 0xFE10}, {0x84318330, 6, 1, 0xFE14},
  };
  static constexpr codes_of_mysql sets[] = {
      {"big5", big5_length, big5},
      {"sjis", sjis_length, sjis},
      {"ujis", ujis_length, ujis},
      {"gb18030", gb18030_length, gb18030},
  };
  for (const codes_of_mysql& each : sets)
    if (mysql_name == each.set) return &each;
  return nullptr;
}

std::string_view charset_of_collation(std::uint32_t collation) {
  for (const auto& range : collations)
    if (collation >= range.first && collation <= range.last) return range.name;
  return {};
}

void text_decoder::close_iconv::operator()(void* handle) const { ::iconv_close(handle); }

void text_decoder::byte_table::set(unsigned byte, std::uint32_t code_point) {
  cell& target = cells[byte];
  target.length = static_cast<std::uint8_t>(write_escaped(target.text, code_point) - target.text);
  valid[byte] = code_point != no_character;
  if (byte < 0x80 && code_point != byte) ascii = false;
}

text_decoder text_decoder::for_charset(std::string_view mysql_name) {
  text_decoder result;
  const std::string name = lower(mysql_name);
  if (name.empty() || name == "binary" || name == "utf8mb4" || name == "utf8mb3" || name == "utf8")
    return result;
  if (name == "utf16" || name == "ucs2") {
    result.form_ = form::utf16;
    return result;
  }
  if (name == "utf16le") {
    result.form_ = form::utf16le;
    return result;
  }
  if (name == "utf32") {
    result.form_ = form::utf32;
    return result;
  }

  for (const auto& set : multi_byte) {
    if (name != set.mysql) continue;
    const iconv_t handle = ::iconv_open("UTF-8", set.iconv);
    if (handle == reinterpret_cast<iconv_t>(-1)) break;
    result.form_ = form::iconv;
    result.codes_ = find_codes_of_mysql(name);
    result.iconv_.reset(handle);
    return result;
  }

  auto table = std::make_shared<byte_table>();
  for (unsigned byte = 0; byte < 0x80; ++byte) table->set(byte, byte);
  for (unsigned byte = 0x80; byte < 0x100; ++byte) table->set(byte, no_character);
  result.form_ = form::table;
  result.known_ = name == "ascii" || name == "latin1";
  if (name == "latin1") {
    for (unsigned byte = 0x80; byte < 0x100; ++byte)
      table->set(byte, byte < 0xA0 ? windows_1252[byte - 0x80] : byte);
  }
  for (const auto& set : single_byte) {
    if (name != set.mysql) continue;
    const iconv_t handle = ::iconv_open("UTF-32LE", set.iconv);
    if (handle == reinterpret_cast<iconv_t>(-1)) break;
    for (unsigned byte = 0; byte < 0x100; ++byte)
      table->set(byte, decode_one(handle, static_cast<unsigned char>(byte)));
    ::iconv_close(handle);
    for (const byte_run& run : bytes_of_mysql)
      for (unsigned i = 0; name == run.set && i < run.count; ++i) table->set(run.first + i, run.code_point + i);
    result.known_ = true;
  }
  result.table_ = std::move(table);
  return result;
}

outcome text_decoder::append(text_buffer& out, std::string_view bytes) const {
  switch (form_) {
    case form::utf8:
      return append_escaped(out, bytes);
    case form::table:
      return append_by_table(out, bytes);
    case form::utf16:
      return append_units(out, bytes, 2,
                          [](const unsigned char* at) { return std::uint32_t{at[0]} << 8 | at[1]; });
    case form::utf16le:
      return append_units(out, bytes, 2,
                          [](const unsigned char* at) { return std::uint32_t{at[1]} << 8 | at[0]; });
    case form::utf32:
      return append_units(out, bytes, 4, [](const unsigned char* at) {
        return std::uint32_t{at[0]} << 24 | std::uint32_t{at[1]} << 16 | std::uint32_t{at[2]} << 8 | at[3];
      });
    case form::iconv:
      return append_by_iconv(out, bytes);
  }
  return append_escaped(out, bytes);
}

outcome text_decoder::append_by_table(text_buffer& out, std::string_view bytes) const {
  const byte_table& table = *table_;
  const auto* from = reinterpret_cast<const unsigned char*>(bytes.data());
  const auto* const end = from + bytes.size();
  outcome done = outcome::exact;
  constexpr std::size_t longest = 8;  // a cell is copied whole
  const auto write_cell = [&table, &done](char* to, unsigned char byte) {
    const cell& c = table.cells[byte];
    if (!table.valid[byte]) done = outcome::repaired;
    std::memcpy(to, c.text, sizeof c.text);
    return to + c.length;
  };
  while (from != end) {
    // In small steps, so that little more is reserved than is written: the memory is a batch of a fixed size.
    const std::size_t step = std::min(static_cast<std::size_t>(end - from), 16 * plain_text::block_size);
    const auto* const stop = from + step;
    char* to = out.reserve(step * longest + plain_slack);
    // All of the step, but where the text ends with it.
    if (table.ascii)
      from += plain_text::copy_blocks<false>(to, from, static_cast<std::size_t>(end - from), step, write_cell);
    while (from != stop) {
      if (table.ascii) {
        const std::size_t copied = copy_plain(to, from, static_cast<std::size_t>(stop - from));
        from += copied;
        to += copied;
        if (from == stop) break;
      }
      do {
        to = write_cell(to, *from);
        ++from;
      } while (from != stop && !(table.ascii && is_plain(*from)));
    }
    out.finish(to);
  }
  return done;
}

template <class Read>
outcome text_decoder::append_units(text_buffer& out, std::string_view bytes, std::size_t unit, Read read) {
  const auto* from = reinterpret_cast<const unsigned char*>(bytes.data());
  std::size_t left = bytes.size();
  outcome done = outcome::exact;
  constexpr std::uint32_t bad = 0xFFFD;
  while (left != 0) {
    char* to = out.reserve(32);
    if (left < unit) {  // the rest of a character that was cut off: one replacement for each byte
      to = write_utf8(to, bad);
      done = outcome::repaired;
      ++from;
      --left;
      out.finish(to);
      continue;
    }
    std::uint32_t c = read(from);
    from += unit;
    left -= unit;
    if (unit == 2 && c >= 0xD800 && c < 0xDC00 && left >= 2) {
      const std::uint32_t low = read(from);
      if (low >= 0xDC00 && low < 0xE000) {
        c = 0x10000 + ((c - 0xD800) << 10) + (low - 0xDC00);
        from += 2;
        left -= 2;
      }
    }
    if (c > 0x10FFFF || (c >= 0xD800 && c < 0xE000)) {
      c = bad;
      done = outcome::repaired;
    }
    out.finish(write_escaped(to, c));
  }
  return done;
}

outcome text_decoder::append_by_iconv(text_buffer& out, std::string_view bytes) const {
  // All of these sets are ASCII up to their first high byte (behind it, low bytes may belong to a character).
  std::size_t ascii = 0;
  while (ascii != bytes.size() && static_cast<unsigned char>(bytes[ascii]) < 0x80) ++ascii;
  append_escaped(out, bytes.substr(0, ascii));
  bytes.remove_prefix(ascii);
  if (codes_ == nullptr) return convert(out, bytes);

  outcome done = outcome::exact;
  std::size_t from = 0;  // of what iconv is to convert
  for (std::size_t at = 0; at != bytes.size();) {
    const auto* const character = reinterpret_cast<const unsigned char*>(bytes.data()) + at;
    const std::size_t length = *character < 0x80 ? 1 : codes_->length(character, bytes.size() - at);
    std::uint32_t code_point = no_character;
    if (codes_->leads[*character]) {
      std::uint32_t code = 0;
      for (std::size_t i = 0; i < length; ++i) code = code << 8 | character[i];
      code_point = codes_->find(code);
    }
    if (code_point != no_character) {
      if (convert(out, bytes.substr(from, at - from)) != outcome::exact) done = outcome::repaired;
      out.finish(write_escaped(out.reserve(8), code_point));
      from = at + length;
    }
    at += length;
  }
  if (convert(out, bytes.substr(from)) != outcome::exact) done = outcome::repaired;
  return done;
}

outcome text_decoder::convert(text_buffer& out, std::string_view bytes) const {
  if (bytes.empty()) return outcome::exact;
  const auto handle = static_cast<iconv_t>(iconv_.get());
  outcome done = outcome::exact;
  ::iconv(handle, nullptr, nullptr, nullptr, nullptr);
  auto* from = const_cast<char*>(bytes.data());  // iconv's signature; it only reads
  std::size_t left = bytes.size();
  char part[4096];
  while (left != 0) {
    char* to = part;
    std::size_t room = sizeof part;
    const std::size_t code = ::iconv(handle, &from, &left, &to, &room);
    const int why = errno;
    append_escaped(out, std::string_view(part, static_cast<std::size_t>(to - part)));
    if (code != static_cast<std::size_t>(-1) || why == E2BIG) continue;
    // Not a character (EILSEQ), or one that was cut off (EINVAL): replace one byte and go on behind it.
    out.append("\xEF\xBF\xBD");
    done = outcome::repaired;
    ++from;
    --left;
    ::iconv(handle, nullptr, nullptr, nullptr, nullptr);
  }
  return done;
}

}  // namespace psource
