// Columns and cases of all_types. The values and their two texts were taken from streams of a Vitess 24 on
// MySQL 9.
#include "local_branch/all_types.hpp"

#include <array>
#include <cstring>

namespace psource::local_branch {
namespace {

constexpr std::size_t case_count = 5;
constexpr std::size_t largest_case = 1;

/// A value as bytes, which may hold NUL; nullptr = NULL.
class literal {
 public:
  constexpr literal(std::nullptr_t) {}
  template <std::size_t N>
  constexpr literal(const char (&text)[N]) : data_(text), size_(N - 1) {}
  std::optional<std::string> value() const {
    return data_ == nullptr ? std::nullopt : std::optional<std::string>(std::in_place, data_, size_);
  }

 private:
  const char* data_ = nullptr;
  std::size_t size_ = 0;
};

/// Every case but the first, which is NULL for all columns.
struct cases {
  literal largest, smallest, odd, ordinary;
};

struct typed_column {
  const char* name;
  std::int32_t type;
  const char* column_type;
  std::uint32_t charset;
  std::uint32_t flags;
  std::uint32_t length;
  std::uint32_t decimals;
  const char* character_set;
  const char* collation;
  const char* extra;
  /// MySQL's text, as a copy has it.
  cases mysql;
  /// The binlog's text where it is another.
  std::optional<cases> binlog;
};

constexpr std::nullopt_t same = std::nullopt;

// clang-format off
const std::array columns{
    typed_column{"c_tinyint", 257, "tinyint", 63, 32768, 4u, 0, "", "", "", {"127", "-128", "2", "5"}, same},
    typed_column{"c_tinyint_u", 770, "tinyint unsigned", 63, 32800, 3u, 0, "", "", "", {"255", "0", "3", "5"}, same},
    typed_column{"c_bool", 257, "tinyint(1)", 63, 32768, 1u, 0, "", "", "", {"1", "0", "2", "1"}, same},
    typed_column{"c_smallint", 259, "smallint", 63, 32768, 6u, 0, "", "", "", {"32767", "-32768", "1", "5"}, same},
    typed_column{"c_smallint_u", 772, "smallint unsigned", 63, 32800, 5u, 0, "", "", "", {"65535", "0", "1", "5"}, same},
    typed_column{"c_mediumint", 261, "mediumint", 63, 32768, 9u, 0, "", "", "", {"8388607", "-8388608", "1", "5"}, same},
    typed_column{"c_mediumint_u", 774, "mediumint unsigned", 63, 32800, 8u, 0, "", "", "", {"16777215", "0", "1", "5"}, same},
    typed_column{"c_int", 263, "int", 63, 32768, 11u, 0, "", "", "", {"2147483647", "-2147483648", "1", "5"}, same},
    typed_column{"c_int_u", 776, "int unsigned", 63, 32800, 10u, 0, "", "", "", {"4294967295", "0", "1", "5"}, same},
    typed_column{"c_bigint", 265, "bigint", 63, 32768, 20u, 0, "", "", "", {"9223372036854775807", "-9223372036854775808", "1", "5"}, same},
    typed_column{"c_bigint_u", 778, "bigint unsigned", 63, 32800, 20u, 0, "", "", "", {"18446744073709551615", "0", "1", "5"}, same},
    typed_column{"c_float", 1035, "float", 63, 32768, 12u, 31, "", "", "", {"3.4e38", "-3.99", "0.1", "16777200"}, cases{"3.4E+38", "-3.99E+00", "1E-01", "1.6777216E+07"}},
    typed_column{"c_double", 1036, "double", 63, 32768, 22u, 31, "", "", "", {"1.7976931348623157e308", "-2.5e-308", "0.1", "123456789.12345679"}, cases{"1.7976931348623157E+308", "-2.5E-308", "1E-01", "1.2345678912345679E+08"}},
    typed_column{"c_decimal", 18, "decimal(20,5)", 63, 32768, 22u, 5, "", "", "", {"999999999999999.99999", "-0.50000", "0.33000", "5.05000"}, cases{"999999999999999.99999", "-.50000", ".33000", "5.05000"}},
    typed_column{"c_decimal0", 18, "decimal(10,0)", 63, 32768, 11u, 0, "", "", "", {"9999999999", "0", "-5", "5"}, cases{"9999999999", "000000000", "-000000005", "000000005"}},
    typed_column{"c_date", 2062, "date", 63, 128, 10u, 0, "", "", "", {"9999-12-31", "1000-01-01", "0000-00-00", "2024-02-29"}, same},
    typed_column{"c_datetime", 2064, "datetime", 63, 128, 19u, 0, "", "", "", {"9999-12-31 23:59:59", "1000-01-01 00:00:00", "0000-00-00 00:00:00", "2024-02-29 12:34:56"}, same},
    typed_column{"c_datetime6", 2064, "datetime(6)", 63, 128, 26u, 6, "", "", "", {"9999-12-31 23:59:59.999999", "1000-01-01 00:00:00.000001", "0000-00-00 00:00:00.000000", "2024-02-29 12:34:56.120000"}, same},
    typed_column{"c_timestamp", 2061, "timestamp", 63, 128, 19u, 0, "", "", "", {"2038-01-19 03:14:07", "1970-01-01 00:00:01", "0000-00-00 00:00:00", "2024-02-29 12:34:56"}, same},
    typed_column{"c_timestamp3", 2061, "timestamp(3)", 63, 128, 23u, 3, "", "", "", {"2038-01-19 03:14:07.999", "1970-01-01 00:00:01.001", "0000-00-00 00:00:00.000", "2024-02-29 12:34:56.789"}, same},
    typed_column{"c_time", 2063, "time", 63, 128, 10u, 0, "", "", "", {"838:59:59", "-838:59:59", "00:00:00", "12:34:56"}, same},
    typed_column{"c_time6", 2063, "time(6)", 63, 128, 17u, 6, "", "", "", {"838:59:59.000000", "-01:00:00.500000", "24:00:00.000001", "12:34:56.000100"}, same},
    typed_column{"c_year", 785, "year", 63, 32864, 4u, 0, "", "", "", {"2155", "1901", "0000", "2024"}, same},
    typed_column{"c_char", 6167, "char(5)", 255, 0, 20u, 0, "utf8mb4", "utf8mb4_0900_ai_ci", "", {"zzzzz", "", "a", "ch"}, same},
    typed_column{"c_varchar", 6165, "varchar(20)", 255, 0, 80u, 0, "utf8mb4", "utf8mb4_0900_ai_ci", "", {"na\303\257ve \342\230\203", "", "tab\011nl\012q\"\\\000z", "v5"}, same},
    typed_column{"c_varchar_bin", 10262, "varchar(20)", 46, 128, 80u, 0, "utf8mb4", "utf8mb4_bin", "", {"Bin", "", "'q", "v5"}, same},
    typed_column{"c_tinytext", 6163, "tinytext", 255, 16, 1020u, 0, "utf8mb4", "utf8mb4_0900_ai_ci", "", {"tttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttt", "", "\360\237\230\200", "t"}, same},
    typed_column{"c_text", 6163, "text", 255, 16, 262140u, 0, "utf8mb4", "utf8mb4_0900_ai_ci", "", {"tttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttt", "", "\342\200\250\177", "t"}, same},
    typed_column{"c_mediumtext", 6163, "mediumtext", 255, 16, 67108860u, 0, "utf8mb4", "utf8mb4_0900_ai_ci", "", {"m", "", " ", "t"}, same},
    typed_column{"c_longtext", 6163, "longtext", 255, 16, 4294967295u, 0, "utf8mb4", "utf8mb4_0900_ai_ci", "", {"l", "", "</script>", "t"}, same},
    typed_column{"c_binary", 10264, "binary(4)", 63, 128, 4u, 0, "", "", "", {"\377\377\377\377", "\000\000\000\000", "\000\000\000\000", "b\000\000\000"}, same},
    typed_column{"c_varbinary", 10262, "varbinary(10)", 63, 128, 10u, 0, "", "", "", {"\000\377\020", "", "\"", "vb"}, same},
    typed_column{"c_tinyblob", 10260, "tinyblob", 63, 144, 255u, 0, "", "", "", {"\377", "", "\000", "bl"}, same},
    typed_column{"c_blob", 10260, "blob", 63, 144, 65535u, 0, "", "", "", {"\000\377\376\200", "", "\\", "bl"}, same},
    typed_column{"c_mediumblob", 10260, "mediumblob", 63, 144, 16777215u, 0, "", "", "", {"\303(", "", "\012", "bl"}, same},
    typed_column{"c_longblob", 10260, "longblob", 63, 144, 4294967295u, 0, "", "", "", {"\355\240\200", "", "\177", "bl"}, same},
    typed_column{"c_bit1", 2073, "bit(1)", 63, 32, 1u, 0, "", "", "", {"\001", "\000", "\000", "\001"}, same},
    typed_column{"c_bit9", 2073, "bit(9)", 63, 32, 9u, 0, "", "", "", {"\001\377", "\000\001", "\000\000", "\001U"}, same},
    typed_column{"c_bit64", 2073, "bit(64)", 63, 32, 64u, 0, "", "", "", {"\377\377\377\377\377\377\377\377", "\000\000\000\000\000\000\000\000", "\000\000\000\000\000\000\000\001", "\000\000\000\000\000\000\000U"}, same},
    typed_column{"c_enum", 2074, "enum('x','y,z','q''t')", 255, 256, 12u, 0, "utf8mb4", "utf8mb4_0900_ai_ci", "", {"q't", "x", "y,z", ""}, same},
    typed_column{"c_set", 2075, "set('a','b','c')", 255, 2048, 20u, 0, "utf8mb4", "utf8mb4_0900_ai_ci", "", {"a,b,c", "", "c", "a"}, same},
    typed_column{"c_json", 2078, "json", 63, 144, 4294967295u, 0, "", "", "", {"{\"a\": [1, 2.5, true, null, \"x\"], \"d\": 0.1}", "[]", "\"str\"", "{\"k\": 5, \"t\": \"2024\"}"}, same},
    typed_column{"c_geometry", 2077, "geometry", 63, 144, 4294967295u, 0, "", "", "", {"\000\000\000\000\001\001\000\000\000\000\000\000\000\000\000\360?\000\000\000\000\000\000\000@", "\000\000\000\000\001\007\000\000\000\000\000\000\000", "\346\020\000\000\001\002\000\000\000\002\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\360?\000\000\000\000\000\000\360?", nullptr}, same},
    typed_column{"c_point", 2077, "point", 63, 144, 4294967295u, 0, "", "", "", {"\000\000\000\000\001\001\000\000\000\000\000\000\000\000\000\360?\000\000\000\000\000\000\000@", "\000\000\000\000\001\001\000\000\000\000\000\000\000\000\000\360?\000\000\000\000\000\000\000@", "\000\000\000\000\001\001\000\000\000\000\000\000\000\000\000\360?\000\000\000\000\000\000\000@", nullptr}, same},
    typed_column{"c_vector", 2083, "vector(3)", 63, 144, 12u, 31, "", "", "", {"\000\000\200?\000\000\000@\000\000@@", "\000\000\000\277", nullptr, nullptr}, same},
    typed_column{"c_latin1", 6165, "varchar(20)", 8, 0, 80u, 0, "latin1", "latin1_swedish_ci", "", {"caf\351 \200", "", "'q", "l"}, same},
    typed_column{"c_utf8mb3", 6165, "varchar(20)", 33, 0, 80u, 0, "utf8mb3", "utf8mb3_general_ci", "", {"\346\227\245\346\234\254", "", "a", "l"}, same},
    typed_column{"c_utf16", 6165, "varchar(20)", 54, 0, 80u, 0, "utf16", "utf16_general_ci", "", {"e\345g,", "", "\000a", "\000l"}, same},
    typed_column{"c_ucs2", 6165, "varchar(20)", 35, 0, 80u, 0, "ucs2", "ucs2_general_ci", "", {"e\345g,", "", "\000a", "\000l"}, same},
    typed_column{"c_utf32", 6165, "varchar(20)", 60, 0, 80u, 0, "utf32", "utf32_general_ci", "", {"\000\001\366\000", "", "\000\000\000a", "\000\000\000l"}, same},
    typed_column{"c_gbk", 6165, "varchar(20)", 0, 0, 80u, 0, "gbk", "gbk_chinese_ci", "", {"\326\320\316\304", "", "a", "l"}, same},
    typed_column{"c_sjis", 6165, "varchar(20)", 13, 0, 80u, 0, "sjis", "sjis_japanese_ci", "", {"\223\372\226{\214\352", "", "a", "l"}, same},
    typed_column{"c_cp1251", 6165, "varchar(20)", 51, 0, 80u, 0, "cp1251", "cp1251_general_ci", "", {"\317\360\350\342\345\362", "", "a", "l"}, same},
    typed_column{"c_koi8r", 6165, "varchar(20)", 7, 0, 80u, 0, "koi8r", "koi8r_general_ci", "", {"\360\322\311\327\305\324", "", "a", "l"}, same},
    typed_column{"c_big5", 6165, "varchar(20)", 0, 0, 80u, 0, "big5", "big5_chinese_ci", "", {"\244\244\244\345", "", "a", "l"}, same},
    typed_column{"c_ascii", 6165, "varchar(20)", 11, 0, 80u, 0, "ascii", "ascii_general_ci", "", {"ascii", "", "a", "l"}, same},
    typed_column{"c_enum_latin1", 2074, "enum('é','ü')", 8, 256, 4u, 0, "latin1", "latin1_swedish_ci", "", {"\351", "\374", "\351", "\374"}, cases{"\303\251", "\303\274", "\303\251", "\303\274"}},
    typed_column{"c_generated", 263, "int", 63, 32768, 11u, 0, "", "", "VIRTUAL GENERATED", {"128", "-127", "3", "6"}, same},
    typed_column{"c_invisible", 263, "int", 63, 32768, 11u, 0, "", "", "INVISIBLE", {"7", "7", "7", "7"}, same},
};
// clang-format on

/// After a case of its own a row is updated twice within it: first only c_int changes, then c_int and one
/// path of the document in c_json; the update after these brings the next case.
constexpr std::uint32_t versions_of_a_case = 3;

struct place_in_turn {
  std::size_t number;
  std::uint32_t step;
};

place_in_turn turn_of(std::int64_t id, std::uint32_t version) {
  return {
      static_cast<std::size_t>((static_cast<std::uint64_t>(id) + version / versions_of_a_case) % case_count),
      version % versions_of_a_case};
}

/// c_json in the last step of each case. The scalar can only change as a whole.
const std::array<literal, case_count> changed_json{nullptr, "{\"a\": [1, 2.5, true, null, \"x\"], \"d\": 2}",
                                                   "[7]", "\"other\"", "{\"k\": 5, \"u\": \"it's\"}"};

/// The largest values of the columns whose own do not fit into BIGINT, a double or DECIMAL(38,9).
struct portable_value {
  const char* name;
  literal mysql;
  literal binlog;
};
const std::array<portable_value, 4> portable_values{{
    {"c_bigint_u", "9223372036854775807", "9223372036854775807"},
    {"c_bit64", "\177\377\377\377\377\377\377\377", "\177\377\377\377\377\377\377\377"},
    {"c_float", "16777200", "1.6777216E+07"},
    {"c_double", "123456789.25", "1.2345678925E+08"},
}};

class typed_rows : public row_maker {
 public:
  explicit typed_rows(type_range range) {
    for (std::size_t i = 0; i < case_count; ++i) {
      for (std::size_t column = 0; column < columns.size(); ++column) {
        const auto& c = columns[column];
        if (std::strcmp(c.name, "c_int") == 0) int_column_ = column;
        if (std::strcmp(c.name, "c_json") == 0) json_column_ = column;
        const auto pick = [&](const cases& all) -> std::optional<std::string> {
          const literal* const by_number[case_count] = {nullptr, &all.largest, &all.smallest, &all.odd,
                                                        &all.ordinary};
          return by_number[i] == nullptr ? std::nullopt : by_number[i]->value();
        };
        rows_[0][i].push_back(pick(c.mysql));
        rows_[1][i].push_back(pick(c.binlog ? *c.binlog : c.mysql));
        if (range == type_range::full || i != largest_case) continue;
        for (const auto& other : portable_values) {
          if (std::strcmp(other.name, c.name) != 0) continue;
          rows_[0][i].back() = other.mysql.value();
          rows_[1][i].back() = other.binlog.value();
        }
      }
      for (const auto& of_text : rows_) {
        std::size_t size = 256;  // the id, and what an update changes
        for (const auto& value : of_text[i]) size += 10 + (value ? value->size() : 0);
        largest_ = std::max(largest_, size);
      }
    }
  }

  std::size_t max_size() const override { return largest_; }

  char* write(char* at, std::int64_t id, std::uint32_t version, row_text text) const override {
    const auto turn = turn_of(id, version);
    row_values values{std::to_string(id)};
    const auto& of_case = rows_[text == row_text::mysql ? 0 : 1][turn.number];
    values.insert(values.end(), of_case.begin(), of_case.end());
    if (turn.step >= 1) values[1 + int_column_] = std::to_string(version);
    if (turn.step == 2) values[1 + json_column_] = changed_json[turn.number].value();
    byte_buffer bytes;
    append_row(bytes, values);
    std::memcpy(at, bytes.data(), bytes.size());
    return at + bytes.size();
  }

 private:
  std::array<std::array<row_values, case_count>, 2> rows_;
  std::size_t int_column_ = 0;
  std::size_t json_column_ = 0;
  std::size_t largest_ = 0;
};

}  // namespace

table all_types_table(std::int64_t rows, type_range range) {
  table out;
  out.schema.name = "all_types";
  out.schema.columns.push_back(sbtest_schema("").columns[0]);
  out.schema.primary_key = {0};
  for (const auto& c : columns) {
    column made;
    made.name = c.name;
    made.type = c.type;
    made.column_type = c.column_type;
    made.charset = c.charset;
    made.flags = c.flags;
    made.length = c.length;
    made.decimals = c.decimals;
    made.character_set = c.character_set;
    made.collation = c.collation;
    made.extra = c.extra;
    if (made.extra == "VIRTUAL GENERATED") made.generation_expression = "(`c_tinyint` + 1)";
    out.schema.columns.push_back(std::move(made));
  }
  out.rows = std::make_unique<typed_rows>(range);
  out.row_count = rows;
  out.writable = true;
  return out;
}

}  // namespace psource::local_branch
