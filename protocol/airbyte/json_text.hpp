// JSON in and out for this folder: parsing of files from outside, strings with correct escapes.
#pragma once

#include <rapidjson/document.h>

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "protocol/failure.hpp"

namespace psource {

/// Files above this size, and values nested deeper, are refused.
constexpr std::size_t max_json_bytes = std::size_t{256} << 20;
constexpr std::size_t max_json_depth = 100;
/// Most values that parse_json_values() reads one after the other.
constexpr std::size_t max_json_values = 100000;
/// Most elements that lists and objects of one text have, all together: each takes up to 32 bytes of memory.
constexpr std::size_t max_json_elements = 20'000'000;

/// Parses one JSON value. `what` names the text in messages ("the configuration"). Errors (with `code`) name
/// line and column, and never quote the text, which may hold secrets. The text must be UTF-8; a byte order
/// mark is skipped.
result<rapidjson::Document> parse_json(std::string_view text, error_code code, std::string_view what);

/// The same for several values one after the other (JSON lines); empty text gives none.
result<std::vector<rapidjson::Document>> parse_json_values(std::string_view text, error_code code,
                                                           std::string_view what);

/// Appends `text` as a JSON string with its quotes. Bytes that are no UTF-8 become U+FFFD, one per byte.
void append_json_string(std::string& out, std::string_view text);

/// `value` as JSON text in one line. Its nesting must be limited (parse_json() sees to that).
std::string to_json(const rapidjson::Value& value);

/// The member's value, or nullptr when it is absent or null. Of a repeated key the last counts. `object` may
/// be of any type.
const rapidjson::Value* find_member(const rapidjson::Value& object, std::string_view key);

/// A view of a JSON string; `value` must be one, and outlive the view.
std::string_view text_of(const rapidjson::Value& value);

/// What a value is, for messages: "a string", "null", "an object"...
const char* kind_of(const rapidjson::Value& value);

}  // namespace psource
