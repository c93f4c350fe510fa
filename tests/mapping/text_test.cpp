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

std::string bytes_of(std::uint32_t code) {
  std::string bytes;
  for (; code != 0; code >>= 8) bytes.insert(bytes.begin(), static_cast<char>(code & 0xFF));
  return bytes;
}

/// What one code of a multi-byte set becomes, which has to be exact.
std::string exactly(const text_decoder& decoder, std::uint32_t code) {
  text_buffer out;
  CHECK(decoder.append(out, bytes_of(code)) == outcome::exact);
  return std::string(out.view());
}

/// The characters from `first` to `last`, as UTF-8.
std::string characters(std::uint32_t first, std::uint32_t last) {
  std::string text;
  char one[8];
  for (; first <= last; ++first) text.append(one, write_utf8(one, first));
  return text;
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

TEST_CASE("multi-byte sets say what MySQL says where the system's iconv says something else or nothing") {
  // Every such code, with its neighbours where the set has them.
  struct run {
    std::string charset;
    std::uint32_t first;
    std::uint32_t last;
    std::string expected;
  };
  const std::vector<run> runs = {
      {"big5", 0xA144, 0xA146, "．•；"},
      {"big5", 0xA14D, 0xA14F, "﹐､﹒"},
      {"big5", 0xA1C1, 0xA1C2, "℅‾"},
      {"big5", 0xA1E2, 0xA1E4, "﹦∼∩"},
      {"big5", 0xA1F1, 0xA1F4, "♂♁☉↑"},
      {"big5", 0xA241, 0xA248, "／＼＄¥〒¢£％"},
      {"big5", 0xC6A1, 0xC6FE, "ヾゝゞ々" + characters(0x3041, 0x3093) + characters(0x30A1, 0x30A7)},
      {"big5", 0xC740, 0xC77E, characters(0x30A8, 0x30E6)},
      {"big5", 0xC7A1, 0xC7FD, characters(0x30E7, 0x30F6) + "ДЕЁЖЗИЙКЛМУФХЦЧШЩЪЫЬЭЮЯабвгдеёжзийклмнопрстуфхцчшщъыьэюя" +
                                   "①②③④⑤⑥⑦⑧⑨⑩⑴⑵⑶⑷⑸⑹⑺⑻⑼⑽" + characters(0xF7AA, 0xF7AA)},
      {"sjis", 0x5B, 0x5D, R"([\\])"},
      {"sjis", 0x7D, 0x7F, "}~\x7F"},
      {"sjis", 0x815E, 0x8160, R"(／\\〜)"},
      {"ujis", 0xA1BF, 0xA1C1, R"(／\\〜)"},
      {"ujis", 0x8FA2B6, 0x8FA2B8, "˚~΄"},
      {"gb18030", 0xA6D8, 0xA6E0, "ω" + characters(0xE78D, 0xE793) + "︵"},
      {"gb18030", 0xA6EB, 0xA6EE, "﹄" + characters(0xE794, 0xE795) + "︻"},
      {"gb18030", 0xA6F2, 0xA6F4, "︱" + characters(0xE796, 0xE796) + "︳"},
      {"gb18030", 0xFE50, 0xFE54, "⺁" + characters(0xE816, 0xE818) + "⺄"},
      {"gb18030", 0xFE58, 0xFE5A, "⺋" + characters(0xE81E, 0xE81E) + "㖞"},
      {"gb18030", 0xFE60, 0xFE62, "㤘" + characters(0xE826, 0xE826) + "㧏"},
      {"gb18030", 0xFE65, 0xFE68, "㧐" + characters(0xE82B, 0xE82C) + "㭎"},
      {"gb18030", 0xFE6B, 0xFE6E, "⺧" + characters(0xE831, 0xE832) + "⺪"},
      {"gb18030", 0xFE75, 0xFE77, "⺷" + characters(0xE83B, 0xE83B) + "䎱"},
      {"gb18030", 0xFE7D, 0xFE7E, "䙌" + characters(0xE843, 0xE843)},
      {"gb18030", 0xFE8F, 0xFE92, "䦶" + characters(0xE854, 0xE855) + "䲣"},
      {"gb18030", 0xFE9F, 0xFEA1, "䶮" + characters(0xE864, 0xE864) + characters(0xE468, 0xE468)},
      {"gb18030", 0x82359036, 0x82359039, characters(0x9FB3, 0x9FB6)},
      {"gb18030", 0x82359130, 0x82359135, characters(0x9FB7, 0x9FBC)},
      {"gb18030", 0x84318235, 0x84318239, characters(0xFE0F, 0xFE13)},
      {"gb18030", 0x84318330, 0x84318336, characters(0xFE14, 0xFE1A)},
      {"gb18030", 0x95329031, 0x95329031, characters(0x20087, 0x20087)},
      {"cp932", 0x815F, 0x815F, "＼"},
      {"eucjpms", 0xA1C0, 0xA1C0, "＼"},
  };
  for (const run& r : runs) {
    CAPTURE(r.charset);
    CAPTURE(r.first);
    const auto decoder = text_decoder::for_charset(r.charset);
    std::string each;
    std::string bytes;
    for (std::uint32_t code = r.first; code <= r.last; ++code) {
      each += exactly(decoder, code);
      bytes += bytes_of(code);
    }
    CHECK(each == r.expected);
    CHECK(decoded(r.charset.c_str(), bytes) == r.expected);
    CHECK(decoded(r.charset.c_str(), "a" + bytes + "z" + bytes) == "a" + r.expected + "z" + r.expected);
  }
}

TEST_CASE("characters of a user's own in ujis are those of private use, as in eucjpms") {
  for (const char* const charset : {"ujis", "eucjpms"}) {
    CAPTURE(charset);
    const auto decoder = text_decoder::for_charset(charset);
    for (const std::uint32_t plane : {0x0000F5A1U, 0x008FF5A1U}) {
      std::string each;
      for (std::uint32_t row = 0; row < 10; ++row)
        for (std::uint32_t cell = 0; cell < 94; ++cell) each += exactly(decoder, plane + 0x100 * row + cell);
      CHECK(each == (plane < 0x10000 ? characters(0xE000, 0xE3AB) : characters(0xE3AC, 0xE757)));
    }
  }
}

TEST_CASE("bytes outside a multi-byte set are replaced and told beside codes that MySQL reads its own way") {
  const std::string bad = "\xEF\xBF\xBD";
  const auto repaired = [](const char* charset, std::string_view bytes) {
    text_buffer out;
    CHECK(text_decoder::for_charset(charset).append(out, bytes) == outcome::repaired);
    return std::string(out.view());
  };
  CHECK(repaired("big5", "\xA4\xA4\xC6\xE7\xFF") == "中ゃ" + bad);
  CHECK(repaired("big5", "\xFF\xC6\xE7\xA4\xA4") == bad + "ゃ中");
  CHECK(repaired("big5", "\xC6\xE7\xC6") == "ゃ" + bad);
  CHECK(repaired("big5", "\xC6") == bad);
  CHECK(repaired("big5", "\xC6 \xC6\xE7") == bad + " ゃ");
  CHECK(repaired("sjis", "\x81_d\x81") == R"(\\d)" + bad);
  CHECK(repaired("ujis", "\xF5\xA1\x8F\xF5") == characters(0xE000, 0xE000) + bad + bad);
  CHECK(repaired("ujis", "\xF5\xA1\xF5z") == characters(0xE000, 0xE000) + bad + "z");
  CHECK(repaired("gb18030", "\x84\x31\x82\x36\x84\x31\x82") == characters(0xFE10, 0xFE10) + bad + "1" + bad);
  std::string text;
  std::string expected;
  for (int i = 0; i < 5000; ++i) {
    text += i % 7 == 0 ? "\xC6\xE7" : "\xA4\xA4";
    expected += i % 7 == 0 ? "ゃ" : "中";
  }
  CHECK(decoded("big5", text) == expected);
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

TEST_CASE("whole floats beyond 2^24 have no more digits than tell them apart") {
  const auto text = [](float value) {
    text_buffer out;
    append_number(out, value);
    return std::string(out.view());
  };
  CHECK(text(16777216.0F) == "16777216");
  CHECK(text(16777218.0F) == "16777218");
  CHECK(text(-123456792.0F) == "-123456790");
  CHECK(text(1.23457e9F) == "1234570000");
  CHECK(text(1e11F) == "100000000000");
  CHECK(text(1e14F) == "100000000000000");
  CHECK(text(9.999999e14F) == "999999900000000");
  CHECK(text(1e15F) == "1e15");
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
