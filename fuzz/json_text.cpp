// The rewriter of JSON columns against RapidJSON. Input: the text of a JSON value.
#include "protocol/mapping/json_text.hpp"

#include <rapidjson/stringbuffer.h>
#include <rapidjson/writer.h>

#include "fuzz/fuzz.hpp"
#include "protocol/mapping/json_string.hpp"

using namespace psource;

namespace {

// The rewriter's text, taken out of its JSON string.
std::string rewritten(std::string_view text, outcome& how) {
  text_buffer out;
  text_buffer scratch;
  out.push('"');
  how = append_json_text(out, scratch, text);
  out.push('"');
  FUZZ_CHECK(how != outcome::impossible);
  rapidjson::Document document;
  FUZZ_CHECK(fuzz::parse(document, out.view()) && document.IsString());
  return {document.GetString(), document.GetStringLength()};
}

std::string as_written(const rapidjson::Document& document) {
  rapidjson::StringBuffer buffer;
  rapidjson::Writer<rapidjson::StringBuffer> writer(buffer);
  document.Accept(writer);
  return {buffer.GetString(), buffer.GetSize()};
}

// The deepest that brackets outside strings go.
std::size_t depth_of(std::string_view text) {
  std::size_t depth = 0;
  std::size_t deepest = 0;
  bool in_string = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (in_string && text[i] == '\\')
      ++i;
    else if (text[i] == '"')
      in_string = !in_string;
    else if (!in_string && (text[i] == '[' || text[i] == '{'))
      deepest = std::max(deepest, ++depth);
    else if (!in_string && (text[i] == ']' || text[i] == '}') && depth > 0)
      --depth;
  }
  return deepest;
}

}  // namespace

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto text = fuzz::input(data, size).rest();
  outcome how = outcome::exact;
  const std::string ours = rewritten(text, how);

  rapidjson::Document before;
  // RapidJSON lets "\udc00" alone pass, and then writes what is no UTF-8.
  const bool strict = fuzz::parse(before, text) && depth_of(text) <= 512 && fuzz::is_json(as_written(before));
  // What is JSON by the book passes as the same value; the rewriter takes some more (MySQL's and Go's forms).
  if (strict) FUZZ_CHECK(how == outcome::exact);
  if (how != outcome::exact) return 0;
  rapidjson::Document after;
  if (!fuzz::parse(after, ours)) {
    // RapidJSON looks at the exponents of numbers even where it leaves them as text.
    FUZZ_CHECK(after.GetParseError() == rapidjson::kParseErrorNumberTooBig);
    return 0;
  }
  if (strict) FUZZ_CHECK(as_written(after) == as_written(before));
  outcome again = outcome::repaired;
  FUZZ_CHECK(rewritten(ours, again) == ours && again == outcome::exact);
  return 0;
}
