// Saved cursors and base64. Input: a first byte; even: the text of a cursor, odd: the bytes of a TableCursor.
#include "protocol/vitess/cursor.hpp"

#include <google/protobuf/stubs/logging.h>

#include "fuzz/fuzz.hpp"
#include "protocol/base64.hpp"

using namespace psource;

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  // Damaged bytes are the rule here: no word about them on stderr.
  static const google::protobuf::LogSilencer quiet;
  fuzz::input in(data, size);
  std::string text;
  if (in.byte() % 2 == 0)
    text = std::string(in.rest());
  else
    append_base64(text, in.rest());

  if (const auto bytes = decode_base64(text)) {
    std::string encoded;
    append_base64(encoded, *bytes);
    const auto again = decode_base64(encoded);
    FUZZ_CHECK(again && *again == *bytes);
    // One text per value, but for padding that is left out.
    FUZZ_CHECK(encoded.substr(0, text.size()) == text);
  }
  const auto cursor = table_cursor::decode_base64(text);
  if (!cursor) {
    const error_code code = cursor.error().code;
    FUZZ_CHECK((code == error_code::state_invalid || code == error_code::lastpk_refused) && !cursor.error().message.empty());
    return 0;
  }
  const auto again = table_cursor::decode_base64(cursor->encode_base64());
  FUZZ_CHECK(again && *again == *cursor);
  return 0;
}
