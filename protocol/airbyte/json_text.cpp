// JSON over RapidJSON. Parsing is iterative and nesting limited, because everything behind it recurses.
#include "protocol/airbyte/json_text.hpp"

#include <rapidjson/error/en.h>
#include <rapidjson/memorystream.h>
#include <rapidjson/stringbuffer.h>
#include <rapidjson/writer.h>

#include <cstdint>
#include <optional>

namespace psource {
namespace {

bool is_space(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

std::string place_of(std::string_view text, std::size_t offset) {
  std::size_t line = 1;
  std::size_t column = 1;
  for (const char c : text.substr(0, offset)) {
    if (c == '\n') {
      ++line;
      column = 1;
    } else if ((static_cast<unsigned char>(c) & 0xc0) != 0x80) {
      ++column;
    }
  }
  return "line " + std::to_string(line) + ", column " + std::to_string(column);
}

struct excess {
  std::size_t offset;
  std::string what;
};

// Where the text goes beyond a limit of nesting or number, and which.
std::optional<excess> excess_in(std::string_view text) {
  std::size_t depth = 0;
  std::size_t elements = 0;
  bool in_string = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\')
        ++i;
      else if (c == '"')
        in_string = false;
    } else if (c == '"') {
      in_string = true;
    } else if (c == '[' || c == '{' || c == ',') {
      if (c != ',' && ++depth > max_json_depth)
        return excess{i, "nests deeper than " + std::to_string(max_json_depth) + " levels"};
      if (++elements > max_json_elements)
        return excess{i, "holds more than " + std::to_string(max_json_elements) + " values"};
    } else if ((c == ']' || c == '}') && depth > 0) {
      --depth;
    }
  }
  return std::nullopt;
}

// The offset of the second half of a surrogate pair without its first, or npos. RapidJSON refuses a first
// half alone, but makes bytes that are no UTF-8 of this.
std::size_t lone_surrogate_at(std::string_view text) {
  constexpr std::size_t unit_size = 6;  // \uXXXX
  // JSON has backslashes in strings only.
  for (std::size_t at = text.find('\\'); at != std::string_view::npos; at = text.find('\\', at)) {
    const auto escape = text.substr(at, unit_size);
    const bool surrogate =
        escape.size() == unit_size && escape[1] == 'u' && (escape[2] == 'd' || escape[2] == 'D');
    if (surrogate && std::string_view("cdefCDEF").find(escape[3]) != std::string_view::npos) return at;
    // A first half takes the unit behind it along.
    at += !surrogate || escape[3] < '8' ? 2 : 2 * unit_size;
  }
  return std::string_view::npos;
}

// How many bytes at the front of `text` are one well-formed UTF-8 character; 0 = none.
std::size_t utf8_length(std::string_view text) {
  const auto byte = [&text](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const auto follows = [&](std::size_t i, unsigned low = 0x80, unsigned high = 0xbf) {
    return i < text.size() && byte(i) >= low && byte(i) <= high;
  };
  const unsigned lead = byte(0);
  if (lead < 0x80) return 1;
  if (lead >= 0xc2 && lead <= 0xdf) return follows(1) ? 2 : 0;
  if (lead >= 0xe0 && lead <= 0xef) {
    const unsigned low = lead == 0xe0 ? 0xa0 : 0x80;
    const unsigned high = lead == 0xed ? 0x9f : 0xbf;  // no surrogates
    return follows(1, low, high) && follows(2) ? 3 : 0;
  }
  if (lead >= 0xf0 && lead <= 0xf4) {
    const unsigned low = lead == 0xf0 ? 0x90 : 0x80;
    const unsigned high = lead == 0xf4 ? 0x8f : 0xbf;
    return follows(1, low, high) && follows(2) && follows(3) ? 4 : 0;
  }
  return 0;
}

}  // namespace

result<std::vector<rapidjson::Document>> parse_json_values(std::string_view text, error_code code,
                                                           std::string_view what) {
  const std::string name(what);
  constexpr std::string_view byte_order_mark = "\xef\xbb\xbf";
  if (text.substr(0, byte_order_mark.size()) == byte_order_mark) text.remove_prefix(byte_order_mark.size());
  if (text.size() > max_json_bytes)
    return fail(code, "The text of " + name + " is " + std::to_string(text.size()) + " bytes long; at most " +
                          std::to_string(max_json_bytes) + " are read.");
  if (const auto over = excess_in(text))
    return fail(code, "The text of " + name + " " + over->what + " (" + place_of(text, over->offset) + ").");
  if (const auto at = lone_surrogate_at(text); at != std::string_view::npos)
    return fail(code,
                "The text of " + name + " is not JSON: half a surrogate pair (" + place_of(text, at) + ").");
  std::vector<rapidjson::Document> values;
  std::size_t offset = 0;
  for (;;) {
    while (offset < text.size() && is_space(text[offset])) ++offset;
    if (offset == text.size()) return values;
    if (values.size() == max_json_values)
      return fail(code,
                  "The text of " + name + " has more than " + std::to_string(max_json_values) + " values.");
    rapidjson::MemoryStream stream(text.data() + offset, text.size() - offset);
    auto& value = values.emplace_back();
    value.ParseStream<rapidjson::kParseIterativeFlag | rapidjson::kParseStopWhenDoneFlag |
                          rapidjson::kParseValidateEncodingFlag,
                      rapidjson::UTF8<>>(stream);
    if (value.HasParseError()) {
      std::string reason = rapidjson::GetParseError_En(value.GetParseError());
      if (!reason.empty() && reason.back() == '.') reason.pop_back();
      return fail(code, "The text of " + name + " is not JSON: " + reason + " (" +
                            place_of(text, offset + value.GetErrorOffset()) + ").");
    }
    // Tell() counts from the stream's beginning.
    offset += stream.Tell();
  }
}

result<rapidjson::Document> parse_json(std::string_view text, error_code code, std::string_view what) {
  auto values = parse_json_values(text, code, what);
  if (!values) return fail(std::move(values.error()));
  const std::string name(what);
  if (values->empty()) return fail(code, "The text of " + name + " is empty; a JSON object is expected.");
  if (values->size() > 1)
    return fail(code, "The text of " + name + " goes on behind its JSON value; one object is expected.");
  return std::move(values->front());
}

void append_json_string(std::string& out, std::string_view text) {
  constexpr char digits[] = "0123456789abcdef";
  out.push_back('"');
  while (!text.empty()) {
    const auto length = utf8_length(text);
    const char c = text.front();
    if (length == 0) {
      out += "\xef\xbf\xbd";
      text.remove_prefix(1);
      continue;
    }
    if (length == 1 && (static_cast<unsigned char>(c) < 0x20 || c == '"' || c == '\\' || c == 0x7f)) {
      out.push_back('\\');
      switch (c) {
        case '"':
        case '\\':
          out.push_back(c);
          break;
        case '\n':
          out.push_back('n');
          break;
        case '\r':
          out.push_back('r');
          break;
        case '\t':
          out.push_back('t');
          break;
        default:
          out += "u00";
          out.push_back(digits[static_cast<unsigned char>(c) >> 4]);
          out.push_back(digits[c & 15]);
      }
    } else {
      out.append(text.substr(0, length));
    }
    text.remove_prefix(length);
  }
  out.push_back('"');
}

std::string to_json(const rapidjson::Value& value) {
  rapidjson::StringBuffer buffer;
  rapidjson::Writer<rapidjson::StringBuffer> writer(buffer);
  value.Accept(writer);
  return {buffer.GetString(), buffer.GetSize()};
}

const rapidjson::Value* find_member(const rapidjson::Value& object, std::string_view key) {
  if (!object.IsObject()) return nullptr;
  for (auto member = object.MemberEnd(); member != object.MemberBegin();) {
    --member;
    if (text_of(member->name) == key) return member->value.IsNull() ? nullptr : &member->value;
  }
  return nullptr;
}

std::string_view text_of(const rapidjson::Value& value) {
  return {value.GetString(), value.GetStringLength()};
}

const char* kind_of(const rapidjson::Value& value) {
  switch (value.GetType()) {
    case rapidjson::kNullType:
      return "null";
    case rapidjson::kFalseType:
    case rapidjson::kTrueType:
      return "a boolean";
    case rapidjson::kObjectType:
      return "an object";
    case rapidjson::kArrayType:
      return "an array";
    case rapidjson::kStringType:
      return "a string";
    case rapidjson::kNumberType:
      return "a number";
  }
  return "something else";
}

}  // namespace psource
