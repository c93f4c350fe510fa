// The reader of column_type texts.
#include "protocol/mapping/column_type.hpp"

#include <doctest/doctest.h>

#include <random>

using namespace psource;

TEST_CASE("numbers, signs and widths of a type are read") {
  const column_type zerofill = parse_column_type("bigint(20) unsigned zerofill");
  CHECK(zerofill.kind == type_kind::bigint);
  CHECK(zerofill.width == 20);
  CHECK(zerofill.is_unsigned);
  CHECK(zerofill.zerofill);

  const column_type decimal = parse_column_type("decimal(20,5)");
  CHECK(decimal.kind == type_kind::decimal);
  CHECK(decimal.precision == 20);
  CHECK(decimal.scale == 5);
  CHECK_FALSE(decimal.is_unsigned);

  CHECK(parse_column_type("datetime(6)").fraction == 6);
  CHECK(parse_column_type("datetime").fraction == 0);
  CHECK(parse_column_type("varchar(20)").width == 20);
  CHECK(parse_column_type("bit").width == 1);
  CHECK(parse_column_type("bit(9)").width == 9);
  CHECK(parse_column_type("TINYINT(1)").kind == type_kind::tinyint);
  CHECK(parse_column_type(" int ( 11 ) unsigned").width == 11);
  CHECK(parse_column_type("point").kind == type_kind::geometry);
  CHECK(parse_column_type("timestamp /* mariadb-5.3 */").kind == type_kind::timestamp);
}

TEST_CASE("labels keep their commas, quotes, parentheses and backslashes") {
  const column_type type = parse_column_type(R"(enum('a','it''s, late','(x)','','b\\s','n\nl'))");
  CHECK(type.kind == type_kind::enum_);
  CHECK(type.members == std::vector<std::string>{"a", "it's, late", "(x)", "", "b\\s", "n\nl"});
  CHECK(parse_column_type("set('a','b')").members.size() == 2);
}

TEST_CASE("a text that cannot be read is an unknown type, or a list without labels") {
  for (const char* text : {"", " ", "(", "int(", "int(x)", "decimal(1,", "varchar()", "frobnicate(3)",
                           "'int'", "intintintintintintintintintintintintintintint"})
    CHECK(parse_column_type(text).kind == type_kind::unknown);
  for (const char* text :
       {"enum", "enum(", "enum('a'", "enum('a','b", "enum(a)", "set('a' 'b')", "enum('a\\"}) {
    CAPTURE(text);
    CHECK(parse_column_type(text).members.empty());
  }
  CHECK(parse_column_type("varchar(99999999999999999999)").width == 0xFFFFFFFF);
}

TEST_CASE("more labels than MySQL allows are refused, not stored") {
  std::string text = "enum('a'";
  for (int i = 0; i < 70000; ++i) text += ",'a'";
  CHECK(parse_column_type(text + ")").members.empty());
}

TEST_CASE("without a text the number and the collation decide") {
  CHECK(column_type_of_number(265, 63).kind == type_kind::bigint);
  CHECK_FALSE(column_type_of_number(265, 63).is_unsigned);
  CHECK(column_type_of_number(778, 63).is_unsigned);
  CHECK(column_type_of_number(10262, 63).kind == type_kind::varbinary);
  CHECK(column_type_of_number(10262, 46).kind == type_kind::varchar);
  CHECK(column_type_of_number(10264, 46).kind == type_kind::char_);
  CHECK(column_type_of_number(10260, 8).kind == type_kind::text);
  CHECK(column_type_of_number(10260, 0).kind == type_kind::blob);
  CHECK(column_type_of_number(4711, 0).kind == type_kind::unknown);
  CHECK(column_type_of_number(-1, 0).kind == type_kind::unknown);
}

TEST_CASE("any bytes can be given") {
  std::mt19937 random(20240229);
  const std::string alphabet = "enumst(),'\\ 0123456789()'x\xff";
  for (int round = 0; round < 20000; ++round) {
    std::string text = round % 3 == 0 ? "enum(" : "";
    const auto size = random() % 30;
    for (unsigned i = 0; i < size; ++i) text.push_back(alphabet[random() % alphabet.size()]);
    const column_type type = parse_column_type(text);
    std::size_t total = 0;
    for (const auto& member : type.members) total += member.size();
    CHECK(total <= text.size());
  }
}
