// GTID sets, saved cursors and base64.
#include <doctest/doctest.h>

#include <array>
#include <random>
#include <string>
#include <vector>

#include "protocol/base64.hpp"
#include "protocol/vitess/cursor.hpp"
#include "protocol/vitess/gtid_set.hpp"
#include "query.pb.h"

using namespace psource;

namespace {

const std::string a = "16cec08d-f91b-11ee-8afb-aacaf4984ae5";
const std::string b = "b13c2fe0-f91a-11ee-aa81-6251c27c9c24";

gtid_set set_of(const std::string& text) {
  const auto parsed = gtid_set::parse_position(text);
  REQUIRE_MESSAGE(parsed.has_value(), text);
  return *parsed;
}

std::string encoded(std::string_view bytes) {
  std::string out = ">";
  append_base64(out, bytes);
  return out.substr(1);
}

}  // namespace

TEST_CASE("positions are printed in one canonical form") {
  struct row {
    std::string text, canonical;
  };
  const std::vector<row> rows = {
      {"", ""},
      {"  \n", ""},
      {"MySQL56/", ""},
      {"MariaDB/", ""},
      {"FilePos/", ""},
      {"MySQL56/" + a + ":1-5", "MySQL56/" + a + ":1-5"},
      {"MySQL56/" + a + ":7", "MySQL56/" + a + ":7"},
      {"MySQL56/" + a + ":7-7", "MySQL56/" + a + ":7"},
      {"MySQL56/" + a + ":6-9:1-5", "MySQL56/" + a + ":1-9"},
      {"MySQL56/" + a + ":1-5:3-4:9:11-12", "MySQL56/" + a + ":1-5:9:11-12"},
      {"MySQL56/" + b + ":1," + a + ":2", "MySQL56/" + a + ":2," + b + ":1"},
      {"MySQL56/" + a + ":1-3," + b + ":1," + a + ":4", "MySQL56/" + a + ":1-4," + b + ":1"},
      // MySQL's own text of gtid_executed: no flavor, a line break behind each comma.
      {a + ":1-5,\n" + b + ":1-2", "MySQL56/" + a + ":1-5," + b + ":1-2"},
      {" " + a + " : 1 - 5 ,, ", "MySQL56/" + a + ":1-5"},
      {"MySQL56/16CEC08D-F91B-11EE-8AFB-AACAF4984AE5:1", "MySQL56/" + a + ":1"},
      // An interval that ends before it begins is dropped, as Vitess does.
      {"MySQL56/" + a + ":5-2", ""},
      {"MySQL56/" + a + ":5-2:8", "MySQL56/" + a + ":8"},
      {"MySQL56/" + a + ":1-9223372036854775807", "MySQL56/" + a + ":1-9223372036854775807"},
      // Tagged GTIDs of MySQL 8.3 and newer.
      {"MySQL56/" + a + ":1-5:Backup:3:1-2:zz_1:9," + b + ":backup:1",
       "MySQL56/" + a + ":1-5:backup:1-3:zz_1:9," + b + ":backup:1"},
      {"MariaDB/1-10-100", "MariaDB/1-10-100"},
      {"MariaDB/2-10-7,1-11-5,2-12-9,2-13-8", "MariaDB/1-11-5,2-12-9"},
      {"FilePos/mysql-bin.000123:4567", "FilePos/mysql-bin.000123:4567"},
      {"FilePos/odd:name:4", "FilePos/odd:name:4"},
  };
  for (const auto& row : rows) {
    CAPTURE(row.text);
    const auto set = set_of(row.text);
    CHECK(set.to_position() == row.canonical);
    CHECK(set.empty() == row.canonical.empty());
    CHECK(set_of(set.to_position()) == set);
  }
}

TEST_CASE("a position of a replica is judged by what its primary has executed") {
  const auto may_come = [](const std::string& position, const std::string& primary) {
    return set_of(position).may_come_from(set_of(primary));
  };
  CHECK(may_come(a + ":1-5", a + ":1-5"));
  CHECK(may_come(a + ":1-5", a + ":1-9," + b + ":1"));
  // Of a server that the primary does not know: made on a replica.
  CHECK(may_come(a + ":1-5," + b + ":1-2", a + ":1-5"));
  CHECK_FALSE(may_come(a + ":1-6", a + ":1-5"));
  CHECK_FALSE(may_come(a + ":1-6," + b + ":1-2", a + ":1-5"));
  CHECK_FALSE(may_come(b + ":1-2", a + ":1-5"));
  CHECK_FALSE(may_come(a + ":1", ""));
  CHECK(may_come("", a + ":1"));
  CHECK(may_come("MariaDB/0-1-5", "MariaDB/0-2-6"));
  CHECK_FALSE(may_come("MariaDB/0-1-7", "MariaDB/0-2-6"));
  CHECK_FALSE(may_come("MariaDB/0-1-5", a + ":1-5"));
}

TEST_CASE("texts that are no position are refused with a sentence") {
  const std::vector<std::string> texts = {
      "current",
      "MySQL57/" + a + ":1",
      "/" + a + ":1",
      "MySQL56/" + a,
      "MySQL56/" + a + ":",
      "MySQL56/" + a + ":0",
      "MySQL56/" + a + ":0-5",
      "MySQL56/" + a + ":-5",
      "MySQL56/" + a + ":5-",
      "MySQL56/" + a + ":1-2-3",
      "MySQL56/" + a + ":1x",
      "MySQL56/" + a + ":+1",
      "MySQL56/" + a + ":9223372036854775808",
      "MySQL56/" + a + ":99999999999999999999999999",
      "MySQL56/" + a + ":tag",
      "MySQL56/" + a + ":tag:other:1",
      "MySQL56/" + a + ":1:tag_that_is_longer_than_32_letters:1",
      "MySQL56/" + a + ":1:ta-g:1",
      "MySQL56/" + a.substr(1) + ":1",
      "MySQL56/g" + a.substr(1) + ":1",
      "MySQL56/16cec08df91b11ee8afbaacaf4984ae500000:1",
      "MariaDB/1-2",
      "MariaDB/1-2-3-4",
      "MariaDB/4294967296-1-1",
      "MariaDB/1-1-99999999999999999999",
      "FilePos/file",
      "FilePos/:4",
      "FilePos/file:",
      "FilePos/file:x",
      std::string("MySQL56/\0\xff", 10),
      std::string((4u << 20) + 1, 'a'),
  };
  for (const auto& text : texts) {
    CAPTURE(text.substr(0, 100));
    const auto parsed = gtid_set::parse_position(text);
    REQUIRE_FALSE(parsed.has_value());
    CHECK(parsed.error().code == error_code::response_malformed);
    CHECK(parsed.error().message.find("expected") != std::string::npos);
    CHECK(parsed.error().message.size() < 300);
  }
}

TEST_CASE(
    "containment and the number of missing GTIDs follow sets, not texts (stop passed, not hit exactly)") {
  struct row {
    std::string have, want;
    std::uint64_t missing;
  };
  const std::uint64_t all = 9223372036854775807ull;
  const std::vector<row> rows = {
      {"", "", 0},
      {"MySQL56/" + a + ":1-5", "", 0},
      {"", "MySQL56/" + a + ":1-5", 5},
      {"MySQL56/" + a + ":1-5", "MySQL56/" + a + ":1-5", 0},
      {"MySQL56/" + a + ":1-9", "MySQL56/" + a + ":1-5", 0},
      {"MySQL56/" + a + ":1-5", "MySQL56/" + a + ":1-9", 4},
      {"MySQL56/" + a + ":1-5:7-9", "MySQL56/" + a + ":1-9", 1},
      {"MySQL56/" + a + ":1-4:6-9", "MySQL56/" + a + ":2-4:7", 0},
      {"MySQL56/" + a + ":1-4:6-9", "MySQL56/" + a + ":4-6", 1},
      {"MySQL56/" + a + ":3:5:7-20", "MySQL56/" + a + ":1-4:6:8-10:19-25", 9},
      {"MySQL56/" + a + ":1-5", "MySQL56/" + b + ":1-5", 5},
      {"MySQL56/" + b + ":1-7," + a + ":1-3", "MySQL56/" + a + ":1-3," + b + ":1-5", 0},
      {"MySQL56/" + a + ":1-3," + b + ":1-5", "MySQL56/" + b + ":1-7," + a + ":1-4", 3},
      // Numbers are no order: a set with a larger last number may still lack one.
      {"MySQL56/" + a + ":2-1000000", "MySQL56/" + a + ":1", 1},
      {"MySQL56/" + a + ":1-5", "MySQL56/" + a + ":tag:1-5", 5},
      {"MySQL56/" + a + ":1-5:tag:1-5", "MySQL56/" + a + ":tag:2-6", 1},
      {"", "MySQL56/" + a + ":1-9223372036854775807", all},
      {"", "MySQL56/" + a + ":1-9223372036854775807:t:1-9223372036854775807," + b + ":1-9223372036854775807",
       18446744073709551615ull},
      {"MariaDB/1-1-100", "MariaDB/1-2-90", 0},
      {"MariaDB/1-1-100", "MariaDB/1-1-107", 7},
      {"MariaDB/1-1-100", "MariaDB/1-1-100,2-1-3", 3},
      {"MariaDB/1-1-100", "MariaDB/2-1-0", 1},
      {"FilePos/bin.2:100", "FilePos/bin.1:900", 0},
      {"FilePos/bin.2:100", "FilePos/bin.2:100", 0},
      {"FilePos/bin.2:100", "FilePos/bin.2:101", 1},
      {"MySQL56/" + a + ":1-5", "MariaDB/1-1-4", 4},
      {"MariaDB/1-1-4", "MySQL56/" + a + ":1-5", 5},
      {"MariaDB/1-1-4", "FilePos/bin.2:101", 1},
  };
  for (const auto& row : rows) {
    CAPTURE(row.have);
    CAPTURE(row.want);
    const auto have = set_of(row.have);
    const auto want = set_of(row.want);
    CHECK(want.missing_from(have) == row.missing);
    CHECK(have.contains(want) == (row.missing == 0));
  }
}

TEST_CASE("what two positions have in common") {
  const std::string b = "00000000-0000-0000-0000-00000000000b";
  const std::string c = "00000000-0000-0000-0000-00000000000c";
  const std::vector<std::array<std::string, 3>> rows = {
      {"MySQL56/" + b + ":1-10", "MySQL56/" + b + ":1-7", "MySQL56/" + b + ":1-7"},
      {"MySQL56/" + b + ":1-3:5-9:12", "MySQL56/" + b + ":2-6:9-20", "MySQL56/" + b + ":2-3:5-6:9:12"},
      {"MySQL56/" + b + ":1-5," + c + ":1-9", "MySQL56/" + c + ":4-6", "MySQL56/" + c + ":4-6"},
      {"MySQL56/" + b + ":1-5", "MySQL56/" + c + ":1-5", ""},
      {"MySQL56/" + b + ":1-5", "", ""},
      {"MySQL56/" + b + ":1-5", "MariaDB/0-1-5", ""},
      {"MariaDB/0-1-5,1-1-7", "MariaDB/0-2-3", "MariaDB/0-2-3"},
      {"FilePos/binlog.000002:4", "FilePos/binlog.000001:900", "FilePos/binlog.000001:900"},
  };
  for (const auto& row : rows) {
    const std::string &one = row[0], &other = row[1], &common = row[2];
    CAPTURE(one);
    CAPTURE(other);
    const auto a_set = *gtid_set::parse_position(one);
    const auto b_set = *gtid_set::parse_position(other);
    CHECK(a_set.common_with(b_set).to_position() == common);
    CHECK(b_set.common_with(a_set).to_position() == common);
    CHECK(a_set.contains(a_set.common_with(b_set)));
    CHECK(b_set.contains(a_set.common_with(b_set)));
  }
}

TEST_CASE("equality is that of the sets") {
  CHECK(set_of("MySQL56/" + b + ":1-2," + a + ":3:1-2") == set_of("MySQL56/" + a + ":1-3," + b + ":1-2"));
  CHECK(set_of("MySQL56/" + a + ":1-3") != set_of("MySQL56/" + a + ":1-4"));
  CHECK(set_of("MySQL56/" + a + ":1-4") != set_of("MySQL56/" + a + ":1-3"));
  CHECK(set_of("MySQL56/" + a + ":1") != set_of("MySQL56/" + b + ":1"));
  CHECK(set_of("MySQL56/") == set_of("MariaDB/"));
  CHECK(set_of("MySQL56/" + a + ":1") != set_of(""));
  CHECK(set_of("FilePos/f:1") != set_of("FilePos/f:2"));
}

TEST_CASE("a set of very many intervals is read and compared") {
  std::string odd = "MySQL56/" + a;
  std::string reversed = "MySQL56/" + a;
  constexpr int count = 100000;
  for (int i = 0; i < count; ++i) {
    odd += ":" + std::to_string(2 * i + 1);
    reversed += ":" + std::to_string(2 * (count - i) - 1);
  }
  CHECK(set_of(odd) == set_of(reversed));
  CHECK(set_of("MySQL56/" + a + ":1-" + std::to_string(2 * count)).missing_from(set_of(odd)) == count);
}

TEST_CASE("base64 of every length, in its vectors and around them") {
  std::mt19937 random(64);
  std::string bytes;
  for (std::size_t size = 0; size < 200; ++size) {
    std::string expected;
    for (std::size_t bit = 0; bit < size * 8; bit += 6) {
      unsigned number = 0;
      for (std::size_t i = bit; i < bit + 6; ++i)
        number = number << 1 | (i < size * 8 ? static_cast<unsigned char>(bytes[i / 8]) >> (7 - i % 8) & 1u : 0u);
      expected += "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"[number];
    }
    while (expected.size() % 4 != 0) expected += '=';
    CAPTURE(size);
    CHECK(encoded(bytes) == expected);
    CHECK(decode_base64(expected).value() == bytes);
    bytes += static_cast<char>(random());
  }
  const std::string text = encoded(bytes);
  for (std::size_t i = 0; i < text.size() - 4; ++i)
    for (const char c : {'-', '=', '\n', '\xFF', '\x7F'}) {
      std::string broken = text;
      broken[i] = c;
      const auto decoded = decode_base64(broken);
      REQUIRE_FALSE(decoded.has_value());
      CHECK(decoded.error().message == "A base64 text has a character that is not base64 at offset " + std::to_string(i) + ".");
    }
}

TEST_CASE("base64 follows RFC 4648") {
  const std::vector<std::pair<std::string, std::string>> rows = {{"", ""},
                                                                 {"f", "Zg=="},
                                                                 {"fo", "Zm8="},
                                                                 {"foo", "Zm9v"},
                                                                 {"foob", "Zm9vYg=="},
                                                                 {"fooba", "Zm9vYmE="},
                                                                 {"foobar", "Zm9vYmFy"},
                                                                 {std::string("\x00\xff\xfe", 3), "AP/+"}};
  for (const auto& [bytes, written] : rows) {
    const std::string& text = written;
    CAPTURE(text);
    CHECK(encoded(bytes) == text);
    CHECK(decode_base64(text).value() == bytes);
  }
  CHECK(decode_base64("Zg").value() == "f");
  CHECK(decode_base64("Zm8").value() == "fo");
  for (const char* text : {"Z", "Zg=", "Zg===", "=", "==", "Zm9v=", "Zm9vY", "Zm 9v", "Zm9v\n", "Zm-_",
                           "Zh==", "Zm9=", "Z=g=", "\xff\xff\xff\xff"}) {
    CAPTURE(text);
    REQUIRE_FALSE(decode_base64(text).has_value());
    CHECK(decode_base64(text).error().code == error_code::state_invalid);
  }
  std::string every;
  for (int i = 0; i < 256 * 3; ++i) every.push_back(static_cast<char>(i * 7));
  for (std::size_t size = every.size() - 4; size <= every.size(); ++size)
    CHECK(decode_base64(encoded(every.substr(0, size))).value() == every.substr(0, size));
}

namespace {

// Serialized with protoc from a text of psdbconnect.v1alpha1.TableCursor.
constexpr const char* streaming_cursor =
    "CgMtODASCGN1c3RvbWVyGjZNeVNRTDU2LzE2Y2VjMDhkLWY5MWItMTFlZS04YWZiLWFhY2FmNDk4NGFlNToxLTU2Mzk4MDg=";
constexpr const char* copying_cursor =
    "CgMtODASCGN1c3RvbWVyGjZNeVNRTDU2LzE2Y2VjMDhkLWY5MWItMTFlZS04YWZiLWFhY2FmNDk4NGFlNToxLTU2Mzk4MDgiGAoNCgJp"
    "ZBCJAkA/"
    "UIOEAyIHCgEEEgIA/w==";

}  // namespace

TEST_CASE("a cursor of the older connector is read and written byte by byte") {
  const auto streaming = table_cursor::decode_base64(streaming_cursor);
  REQUIRE(streaming.has_value());
  CHECK(streaming->shard == shard_name("-80"));
  CHECK(streaming->keyspace == keyspace_name("customer"));
  CHECK(streaming->position == "MySQL56/" + a + ":1-5639808");
  CHECK(streaming->last_known_pk.empty());
  CHECK(streaming->encode_base64() == streaming_cursor);
}

TEST_CASE("a cursor keeps its last primary key, binary or not") {
  const auto copying = table_cursor::decode_base64(copying_cursor);
  REQUIRE(copying.has_value());
  CHECK(copying->last_known_pk.size() == 24);
  CHECK(copying->last_known_pk.find(std::string("\x00\xff", 2)) != std::string::npos);
  CHECK(copying->encode_base64() == copying_cursor);
  CHECK(table_cursor::decode_base64(copying->encode_base64()).value() == *copying);
}

TEST_CASE("a cursor with nothing in it is empty text") {
  CHECK(table_cursor().encode_base64().empty());
  CHECK(table_cursor::decode_base64("").value() == table_cursor());
  const table_cursor begun{shard_name("-"), keyspace_name("ks"), "", ""};
  CHECK(table_cursor::decode_base64(begun.encode_base64()).value() == begun);
}

TEST_CASE("a long position is encoded with a length of several bytes") {
  table_cursor cursor{shard_name("80-"), keyspace_name("ks"), "MySQL56/", ""};
  for (int i = 1; i < 10000; i += 2) cursor.position += (i == 1 ? a + ":" : ":") + std::to_string(i);
  REQUIRE(cursor.position.size() > (1u << 14));
  CHECK(table_cursor::decode_base64(cursor.encode_base64()).value() == cursor);
}

TEST_CASE("last keys are of the same columns when their names, types and known collations are") {
  using query::Type;
  const auto key = [](const std::string& name, Type type, std::uint32_t collation, const std::string& value) {
    query::QueryResult result;
    auto* field = result.add_fields();
    field->set_name(name);
    field->set_type(type);
    field->set_charset(collation);
    result.add_rows()->add_lengths(static_cast<std::int64_t>(value.size()));
    result.mutable_rows(0)->set_values(value);
    return result.SerializeAsString();
  };
  const std::string seven = key("id", query::VARCHAR, 45, "7");
  CHECK(are_of_same_columns(seven, key("id", query::VARCHAR, 45, "8")));
  // A server that does not tell collations yet.
  CHECK(are_of_same_columns(seven, key("id", query::VARCHAR, 0, "8")));
  CHECK_FALSE(are_of_same_columns(seven, key("id", query::VARCHAR, 255, "8")));
  CHECK_FALSE(are_of_same_columns(seven, key("id", query::INT64, 45, "8")));
  CHECK_FALSE(are_of_same_columns(seven, key("other_id", query::VARCHAR, 45, "8")));
  CHECK_FALSE(are_of_same_columns(seven, "\x0a"));
  CHECK_FALSE(are_of_same_columns(seven, "\x0a\xff\xff\xff\xff\xff\xff"));
  CHECK_FALSE(are_of_same_columns(seven, ""));
}

TEST_CASE("unusable cursors are refused") {
  struct row {
    const char* what;
    std::string last_known_pk;
  };
  const std::string field = "\x0a\x04\x0a\x02id";
  const std::vector<row> rows = {
      {"has no fields", std::string("\x22\x06\x0a\x01\x04\x12\x01x", 8)},
      {"has no fields", std::string("\x10\x01", 2)},
      {"exactly one row", field},
      {"exactly one row",
       field + std::string("\x22\x06\x0a\x01\x02\x12\x01x\x22\x06\x0a\x01\x02\x12\x01x", 16)},
      {"does not fit", field + std::string("\x22\x07\x0a\x02\x02\x02\x12\x01x", 9)},
      {"shorter", field + std::string("\x22\x06\x0a\x01\x08\x12\x01x", 8)},
      {"longer", field + std::string("\x22\x07\x0a\x01\x02\x12\x02xy", 9)},
  };
  for (const auto& row : rows) {
    CAPTURE(row.what);
    const table_cursor cursor{shard_name("-"), keyspace_name("ks"), "MySQL56/" + a + ":1", row.last_known_pk};
    const auto decoded = table_cursor::decode_base64(cursor.encode_base64());
    REQUIRE_FALSE(decoded.has_value());
    CHECK(decoded.error().code == error_code::lastpk_refused);
    CHECK(decoded.error().message.find(row.what) != std::string::npos);
  }
  for (const char* text : {"not base64!", "AAAA", "CgMtOA==", "/////w=="}) {
    CAPTURE(text);
    REQUIRE_FALSE(table_cursor::decode_base64(text).has_value());
    CHECK(table_cursor::decode_base64(text).error().code == error_code::state_invalid);
  }
}

TEST_CASE("a NULL in a key is taken") {
  const std::string key = std::string("\x0a\x04\x0a\x02id") + std::string("\x22\x03\x0a\x01\x01", 5);
  const table_cursor cursor{shard_name("-"), keyspace_name("ks"), "MySQL56/" + a + ":1", key};
  CHECK(table_cursor::decode_base64(cursor.encode_base64()).value() == cursor);
}
