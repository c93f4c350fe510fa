// What every fuzz target needs: a check that ends the run, parts of an input, and a strict reader of JSON
// lines.
#pragma once

#include <rapidjson/document.h>
#include <rapidjson/memorystream.h>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>

/// The entry point that libFuzzer and replay_main.cpp call.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

/// Ends the program when `condition` does not hold: that is a finding, in release builds too.
#define FUZZ_CHECK(condition)                                                                  \
  do {                                                                                         \
    if (!(condition)) {                                                                        \
      std::fprintf(stderr, "%s:%d: this does not hold: %s\n", __FILE__, __LINE__, #condition); \
      std::abort();                                                                            \
    }                                                                                          \
  } while (false)

namespace psource::fuzz {

/// Takes an input apart from its front. Never fails: what is not there is zero or empty.
class input {
 public:
  input(const std::uint8_t* data, std::size_t size)
      : rest_(size == 0 ? std::string_view() : std::string_view(reinterpret_cast<const char*>(data), size)) {}

  bool empty() const { return rest_.empty(); }
  std::string_view rest() const { return rest_; }

  std::uint8_t byte() {
    if (rest_.empty()) return 0;
    const auto value = static_cast<std::uint8_t>(rest_.front());
    rest_.remove_prefix(1);
    return value;
  }

  /// `size` bytes, the lowest first.
  std::uint64_t number(unsigned size) {
    std::uint64_t value = 0;
    for (unsigned i = 0; i < size; ++i) value |= std::uint64_t{byte()} << (8 * i);
    return value;
  }

  /// The part up to `end`, which is taken away too; everything when there is none.
  std::string_view until(char end) {
    const auto at = rest_.find(end);
    const auto part = rest_.substr(0, at);
    rest_.remove_prefix(at == std::string_view::npos ? rest_.size() : at + 1);
    return part;
  }

  /// A varint length and that many bytes (fewer at the end): the form of the recorded streams.
  std::string_view sized() {
    std::uint64_t size = 0;
    for (unsigned shift = 0; shift < 28; shift += 7) {
      const auto one = byte();
      size |= std::uint64_t{one & 0x7fu} << shift;
      if (one < 0x80) break;
    }
    const auto part = rest_.substr(0, static_cast<std::size_t>(size));
    rest_.remove_prefix(part.size());
    return part;
  }

 private:
  std::string_view rest_;
};

/// Strict JSON, valid UTF-8, nothing behind the value; numbers of any size. Repeated keys are allowed.
inline bool parse(rapidjson::Document& document, std::string_view text) {
  constexpr unsigned flags = rapidjson::kParseIterativeFlag | rapidjson::kParseValidateEncodingFlag |
                             rapidjson::kParseNumbersAsStringsFlag;
  // RapidJSON takes a NUL for the end of the text.
  if (text.find('\0') != std::string_view::npos) return false;
  rapidjson::MemoryStream stream(text.data(), text.size());
  document.ParseStream<flags, rapidjson::UTF8<>>(stream);
  return !document.HasParseError();
}

inline bool is_json(std::string_view text) {
  rapidjson::Document document;
  return parse(document, text);
}

/// One message of the Airbyte protocol: an object with a type, in one line.
inline bool is_message(std::string_view line) {
  if (line.empty() || line.find('\n') != line.size() - 1) return false;
  rapidjson::Document document;
  return parse(document, line.substr(0, line.size() - 1)) && document.IsObject() &&
         document.HasMember("type") && document["type"].IsString();
}

}  // namespace psource::fuzz
