// Escaping, character sets, JSON texts and geometries, below the record encoder.
#include <doctest/doctest.h>
#include <rapidjson/document.h>

#include <algorithm>
#include <cstring>
#include <random>
#include <vector>

#include "protocol/mapping/charset.hpp"
#include "protocol/mapping/dates.hpp"
#include "protocol/mapping/json_string.hpp"
#include "protocol/mapping/json_text.hpp"
#include "protocol/mapping/letters.hpp"
#include "protocol/mapping/numbers.hpp"
#include "protocol/mapping/plain_text.hpp"
#include "protocol/mapping/wkt.hpp"

using namespace psource;

namespace {

std::string escaped(std::string_view text, outcome expected = outcome::exact) {
  text_buffer out;
  CHECK(append_escaped(out, text) == expected);
  return std::string(out.view());
}

std::string decoded(const char* charset, std::string_view bytes) {
  text_buffer out;
  text_decoder::for_charset(charset).append(out, bytes);
  return std::string(out.view());
}

std::string json_text(std::string_view text, outcome expected = outcome::exact) {
  text_buffer out;
  text_buffer scratch;
  CHECK(append_json_text(out, scratch, text) == expected);
  return std::string(out.view());
}

/// A point inside `depth` collections.
std::string nested_collections(unsigned depth) {
  std::string bytes(4, '\0');
  for (unsigned i = 0; i < depth; ++i) bytes += std::string("\x01\x07\0\0\0\x01\0\0\0", 9);
  return bytes + std::string("\x01\x01\0\0\0", 5) + std::string(16, '\0');
}

}  // namespace

TEST_CASE("every byte at every place of a word is escaped as JSON wants it") {
  for (unsigned byte = 0; byte < 0x80; ++byte) {
    for (unsigned place = 0; place < 20; ++place) {
      std::string text(20, 'x');
      text[place] = static_cast<char>(byte);
      const std::string line = "\"" + escaped(text) + "\"";
      rapidjson::Document document;
      document.Parse(line.data(), line.size());
      REQUIRE_FALSE(document.HasParseError());
      CHECK(std::string(document.GetString(), document.GetStringLength()) == text);
    }
  }
  CHECK(escaped("\x7f") == "\x7f");
  CHECK(escaped("\xe2\x80\xa8\xe2\x80\xa9") == "\xe2\x80\xa8\xe2\x80\xa9");
  CHECK(escaped("") == "");
}

TEST_CASE("plain bytes are copied up to the first one that is not, with vectors as without, at every length and place") {
  std::mt19937 random(11);
  const std::string specials = std::string("\"\\\x00\x1f\x7f\x80\xff ", 8);
  for (std::size_t size = 0; size < 70; ++size) {
    for (std::size_t place = 0; place <= size; ++place) {
      // Its own memory, so that reading beyond it would be seen.
      std::vector<unsigned char> text(size, 'x');
      if (place < size) text[place] = static_cast<unsigned char>(specials[random() % specials.size()]);
      if (size > 0 && random() % 2 == 0) text[random() % size] = static_cast<unsigned char>(random());
      std::vector<char> with(size + plain_slack);
      std::vector<char> without(size + plain_slack);
      const std::size_t copied = copy_plain(with.data(), text.data(), size);
      const auto first = std::find_if_not(text.begin(), text.end(), is_plain);
      REQUIRE(copied == static_cast<std::size_t>(first - text.begin()));
      REQUIRE(plain_text::copy_by_words(without.data(), text.data(), size) == copied);
      REQUIRE(std::equal(text.begin(), first, reinterpret_cast<unsigned char*>(with.data())));
      REQUIRE(std::equal(text.begin(), first, reinterpret_cast<unsigned char*>(without.data())));
    }
  }
}

TEST_CASE("text with much to escape comes out as its characters do one by one, at every length") {
  std::mt19937 random(16);
  for (const unsigned seldom : {1U, 3U, 20U}) {
    for (std::size_t size = 0; size < 600; size += size < 100 ? 1 : 37) {
      // Its own memory, so that reading beyond it would be seen.
      std::vector<char> text(size, 'x');
      std::string one_by_one;
      std::string latin1;
      for (char& c : text) {
        if (random() % seldom == 0) c = static_cast<char>(random());
        latin1 += decoded("latin1", std::string_view(&c, 1));
      }
      CAPTURE(size);
      CHECK(decoded("latin1", {text.data(), size}) == latin1);
      for (std::size_t i = 0; i < size;) {
        // In ASCII up to letters that lie anywhere.
        if (static_cast<unsigned char>(text[i]) >= 0x80 && i + 1 < size) {
          text[i] = '\xC3';
          text[i + 1] = '\xA9';
          one_by_one += "\xC3\xA9";
          i += 2;
          continue;
        }
        text[i] = static_cast<char>(text[i] & 0x7F);
        one_by_one += escaped({&text[i], 1});
        ++i;
      }
      CHECK(escaped({text.data(), size}) == one_by_one);
    }
  }
}

TEST_CASE("letters are copied up to a character that is not valid or needs an escape, wherever it stands in a vector") {
  // What the rules of UTF-8 tell apart.
  const unsigned char telling[] = {0x00, 0x1F, 0x20, 0x22, 0x5C, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xC1, 0xC2,
                                   0xDF, 0xE0, 0xE1, 0xEC, 0xED, 0xEE, 0xEF, 0xF0, 0xF1, 0xF3, 0xF4, 0xF5, 0xFF};
  const std::string letters = "\xD0\x96\xE6\x97\xA5 \xF0\x9F\x90\x98x\xC3\xA9";
  std::string text;
  while (text.size() < 64) text += letters;
  const auto fits = [](const unsigned char* at, const unsigned char* end) {
    const std::size_t length = utf8_length(at, end);
    return length > 1 || (length == 1 && (is_plain(*at) || *at == 0x7F)) ? length : std::size_t{0};
  };
  const bool has_vectors = [&] {
    std::string copy(text.size(), '\0');
    return copy_letters(copy.data(), reinterpret_cast<const unsigned char*>(text.data()), text.size()) != 0;
  }();
  std::size_t wrong = 0;
  std::vector<char> copy(text.size());
  std::vector<unsigned char> bytes(text.begin(), text.end());
  const auto check = [&] {
    const std::size_t copied = copy_letters(copy.data(), bytes.data(), bytes.size());
    std::size_t good = 0;
    bool on_boundary = copied == 0;
    while (const std::size_t length = fits(bytes.data() + good, bytes.data() + bytes.size())) {
      good += length;
      on_boundary = on_boundary || good == copied;
    }
    const bool right = on_boundary && (!has_vectors || copied + 19 > good) &&
                       std::memcmp(copy.data(), bytes.data(), copied) == 0;
    wrong += right ? 0 : 1;
  };
  // At the ends of two vectors, and in the middle of one.
  for (const std::size_t place : {12, 13, 14, 15, 20, 29})
    for (const unsigned char first : telling)
      for (const unsigned char second : telling)
        for (const unsigned char third : telling) {
          const unsigned char four[] = {first, second, third, telling[(first + second + third) % std::size(telling)]};
          bytes.assign(text.begin(), text.end());
          std::size_t at = place;
          while (at > 0 && (bytes[at] & 0xC0) == 0x80) --at;
          std::copy(std::begin(four), std::end(four), bytes.begin() + static_cast<std::ptrdiff_t>(at));
          check();
        }
  CHECK(wrong == 0);
}

TEST_CASE("an integer is nothing but digits behind its sign, whatever stands at which place") {
  const auto integer = [](std::string_view text) -> std::string {
    text_buffer out;
    return append_integer(out, text) == outcome::exact ? std::string(out.view()) : "none";
  };
  for (std::size_t size = 1; size <= 20; ++size) {
    const std::string digits = std::string("98765432109876543210").substr(0, size);
    CHECK(integer(digits) == digits);
    CHECK(integer("-" + digits) == "-" + digits);
    CHECK(integer("00" + digits) == digits);
    for (std::size_t place = 0; place < size; ++place)
      for (const int byte : {0, 0x2f, 0x3a, 0x20, 0x40, 0x70, 0x80, 0xb0, 0xb5, 0xff}) {
        std::string text = digits;
        text[place] = static_cast<char>(byte);
        CHECK(integer(text) == "none");
      }
  }
  CHECK(integer("") == "none");
  CHECK(integer("-") == "none");
  CHECK(integer("-0") == "0");
  CHECK(integer("123456789012345678901") == "none");
}

TEST_CASE("a text of nothing but control characters grows to six times its size") {
  const std::string text(100000, '\x01');
  CHECK(escaped(text).size() == 600000);
  CHECK(escaped(std::string(100000, '\xff'), outcome::repaired).size() == 300000);
}

TEST_CASE("UTF-8 is checked as strictly as the standard says") {
  const auto length = [](std::string_view text) {
    const auto* from = reinterpret_cast<const unsigned char*>(text.data());
    return utf8_length(from, from + text.size());
  };
  CHECK(length("\xc3\xa9") == 2);
  CHECK(length("\xe2\x98\x83") == 3);
  CHECK(length("\xf0\x9f\x98\x80") == 4);
  CHECK(length("\xf4\x8f\xbf\xbf") == 4);
  for (const char* bad :
       {"\x80", "\xc0\x80", "\xc1\xbf", "\xe0\x9f\xbf", "\xed\xa0\x80", "\xf0\x8f\xbf\xbf",
        "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xff", "\xc3", "\xe2\x98", "\xf0\x9f\x98", "\xc3(", ""})
    CHECK(length(bad) == 0);
}

TEST_CASE("latin1 is Windows-1252 with the C1 controls in its five gaps") {
  CHECK(decoded("latin1", "\x81\x8d\x8f\x90\x9d") == "\xc2\x81\xc2\x8d\xc2\x8f\xc2\x90\xc2\x9d");
  CHECK(decoded("LATIN1", "\x80") == "\xe2\x82\xac");
}

TEST_CASE("single-byte sets say what MySQL says where the system's iconv says something else") {
  // Runs of bytes with MySQL's characters, and what stands before and behind each run.
  struct run {
    std::string charset;
    unsigned first;
    std::string before;
    std::vector<std::string> characters;
    std::string behind;
  };
  const std::string c1 = [] {
    std::string text;
    for (char c = '\x80'; c != '\xA0'; ++c) text.append({'\xC2', c});
    return text;
  }();
  const run runs[] = {
      {"armscii8", 0xA1, "\u00a0", {"❁", "§"}, "։"},
      {"armscii8", 0xAD, "-", {"՟"}, "…"},
      {"armscii8", 0xFE, "ֆ", {"’", "'"}, ""},
      {"cp866", 0xFC, "√", {"ⁿ", "²"}, "■"},
      {"dec8", 0xA0, "\u009f", {"\u00a0"}, "¡"},
      {"geostd8", 0x80, "\x7f", {"€"}, "\u0081"},
      {"geostd8", 0xFD, "ü", {"№"}, "þ"},
      {"greek", 0xA1, "\u00a0", {"ʽ", "ʼ"}, "£"},
      {"hebrew", 0xAF, "®", {"‾"}, "°"},
      {"koi8u", 0x95, "■", {"•"}, "√"},
      {"macroman", 0xC6, "≈", {"∆"}, "«"},
      {"macroman", 0xF0, "Ô", {"\uf8ff"}, "Ò"},
      {"swe7", 0x24, "#", {"$"}, "%"},
  };
  const auto one = [](const std::string& charset, unsigned byte) {
    const char c = static_cast<char>(byte);
    return decoded(charset.c_str(), {&c, 1});
  };
  const std::string nothing = "\xEF\xBF\xBD";
  for (const run& r : runs) {
    CAPTURE(r.charset);
    unsigned byte = r.first;
    CHECK(one(r.charset, byte - 1) == r.before);
    for (const std::string& character : r.characters) CHECK(one(r.charset, byte++) == character);
    if (byte < 0x100) CHECK(one(r.charset, byte) == r.behind);
  }
  std::string upper;
  for (unsigned byte = 0x7F; byte < 0xA2; ++byte) upper += static_cast<char>(byte);
  CHECK(decoded("tis620", upper) == "\x7f" + c1 + nothing + "ก");
}

TEST_CASE("every collation id of MySQL has a character set that is known, but for keybcs2") {
  CHECK(charset_of_collation(8) == "latin1");
  CHECK(charset_of_collation(33) == "utf8mb3");
  CHECK(charset_of_collation(45) == "utf8mb4");
  CHECK(charset_of_collation(63) == "binary");
  CHECK(charset_of_collation(255) == "utf8mb4");
  CHECK(charset_of_collation(0).empty());
  CHECK(charset_of_collation(1024).empty());
  for (std::uint32_t id = 1; id < 400; ++id) {
    const auto name = charset_of_collation(id);
    if (name.empty()) continue;
    CAPTURE(name);
    CHECK(text_decoder::for_charset(name).known() == (name != "keybcs2"));
  }
  CHECK_FALSE(text_decoder::for_charset("klingon").known());
}

TEST_CASE("a cut-off character at the end of a long text costs one replacement for each of its bytes") {
  std::string text(5000, 'a');
  text += "\xd6\xd0\xd6";
  CHECK(decoded("gbk", text) == std::string(5000, 'a') + "中\xef\xbf\xbd");
  std::string many;
  std::string expected;
  for (int i = 0; i < 5000; ++i) {
    many += "\xd6\xd0";
    expected += "中";
  }
  CHECK(decoded("gbk", many) == expected);
  CHECK(decoded("utf32", std::string("\0\0\0", 3)) == "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd");
}

TEST_CASE("any bytes in any character set become valid JSON characters") {
  std::mt19937 random(17);
  for (std::uint32_t id = 1; id < 324; ++id) {
    const auto name = charset_of_collation(id);
    if (name.empty()) continue;
    auto decoder = text_decoder::for_charset(name);
    for (int round = 0; round < 40; ++round) {
      std::string bytes(random() % 60, '\0');
      for (auto& c : bytes) c = static_cast<char>(random());
      text_buffer out;
      out.push('"');
      decoder.append(out, bytes);
      out.push('"');
      rapidjson::Document document;
      document.Parse<rapidjson::kParseValidateEncodingFlag>(out.view().data(), out.size());
      CAPTURE(name);
      REQUIRE_FALSE(document.HasParseError());
    }
  }
}

TEST_CASE("JSON texts may be nested 512 deep and no deeper") {
  const auto nested = [](std::size_t depth) { return std::string(depth, '[') + std::string(depth, ']'); };
  CHECK(json_text(nested(512)) == nested(512));
  CHECK(json_text(nested(513), outcome::repaired) == nested(513));
  const std::string endless(1000000, '[');
  CHECK(json_text(endless, outcome::repaired) == endless);
}

TEST_CASE("what the rewriter takes for JSON is JSON") {
  std::mt19937 random(99);
  const std::string alphabet = "{}[],:\"\\u0e1.-+ tn/ax";
  const char* const words[] = {"true", "null", "\"k\"", "1.5e3", "{}", "[]", ",", ":", "[", "]", "{", "}"};
  int good = 0;
  for (int round = 0; round < 60000; ++round) {
    std::string text;
    const auto size = 1 + random() % 7;
    for (unsigned i = 0; i < size; ++i) {
      if (random() % 4 != 0)
        text += words[random() % 12];
      else
        text.push_back(alphabet[random() % alphabet.size()]);
    }
    text_buffer out;
    text_buffer scratch;
    const outcome done = append_json_text(out, scratch, text);
    constexpr unsigned flags = rapidjson::kParseNumbersAsStringsFlag;
    rapidjson::Document original;
    original.Parse<flags>(text.data(), text.size());
    CAPTURE(text);
    if (!original.HasParseError()) REQUIRE(done == outcome::exact);
    if (done != outcome::exact) continue;
    ++good;
    const std::string line = "\"" + std::string(out.view()) + "\"";
    rapidjson::Document outer;
    outer.Parse(line.data(), line.size());
    REQUIRE_FALSE(outer.HasParseError());
    rapidjson::Document inner;
    inner.Parse<flags>(outer.GetString(), outer.GetStringLength());
    // RapidJSON refuses numbers that no double can hold; JSON does not.
    if (inner.GetParseError() == rapidjson::kParseErrorNumberTooBig) continue;
    REQUIRE_FALSE(inner.HasParseError());
    if (!original.HasParseError()) REQUIRE(inner == original);
  }
  CHECK(good > 1000);
}

TEST_CASE("collections may be nested 64 deep and no deeper") {
  text_buffer out;
  CHECK(append_wkt(out, nested_collections(64)) == outcome::exact);
  CHECK(append_wkt(out, nested_collections(65)) == outcome::impossible);
  CHECK(append_wkt(out, nested_collections(100000)) == outcome::impossible);
}

TEST_CASE("a geometry cut off at any byte is impossible, not a crash") {
  const std::string whole = nested_collections(3);
  for (std::size_t size = 0; size < whole.size(); ++size) {
    text_buffer out;
    CHECK(append_wkt(out, std::string_view(whole).substr(0, size)) == outcome::impossible);
  }
}

TEST_CASE("numbers read back as the same value of their width") {
  std::mt19937_64 random(3);
  for (int round = 0; round < 20000; ++round) {
    const std::uint64_t bits = random();
    double wide = 0;
    std::memcpy(&wide, &bits, sizeof wide);
    float narrow = 0;
    std::memcpy(&narrow, &bits, sizeof narrow);
    text_buffer out;
    if (wide == wide && wide - wide == 0) {
      append_number(out, wide);
      CHECK(std::strtod(std::string(out.view()).c_str(), nullptr) == wide);
    }
    out.clear();
    if (narrow == narrow && narrow - narrow == 0) {
      append_number(out, narrow);
      CHECK(std::strtof(std::string(out.view()).c_str(), nullptr) == narrow);
    }
  }
}

TEST_CASE("instants are written to the microsecond, and stay within four-digit years") {
  const auto instant = [](std::int64_t micros) {
    text_buffer out;
    append_instant(out, micros);
    return std::string(out.view());
  };
  CHECK(instant(0) == "1970-01-01T00:00:00.000000Z");
  CHECK(instant(1709210096789000) == "2024-02-29T12:34:56.789000Z");
  CHECK(instant(-1) == "1969-12-31T23:59:59.999999Z");
  CHECK(instant(951782400000000) == "2000-02-29T00:00:00.000000Z");
  CHECK(instant(4107542399999999) == "2100-02-28T23:59:59.999999Z");
  CHECK(instant(4107542400000000) == "2100-03-01T00:00:00.000000Z");
  CHECK(instant(INT64_MAX) == "9999-12-31T23:59:59.999999Z");
  CHECK(instant(INT64_MIN) == "0000-01-01T00:00:00.000000Z");
}
