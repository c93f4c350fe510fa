// Escaping against a plain one that takes character by character. Input: one byte that shifts the text in memory, then
// the text.
#include "protocol/mapping/json_string.hpp"

#include <vector>

#include "fuzz/fuzz.hpp"
#include "protocol/mapping/charset.hpp"
#include "protocol/mapping/plain_text.hpp"

using namespace psource;

namespace {

std::string slowly(std::string_view text, outcome& how) {
  std::string out;
  how = outcome::exact;
  const auto* from = reinterpret_cast<const unsigned char*>(text.data());
  const auto* const end = from + text.size();
  while (from != end) {
    const std::size_t length = utf8_length(from, end);
    char one[8];
    if (length == 1) {
      out.append(one, write_escaped(one, *from));
    } else if (length == 0) {
      out.append("\xEF\xBF\xBD");
      how = outcome::repaired;
    } else {
      out.append(reinterpret_cast<const char*>(from), length);
    }
    from += length == 0 ? 1 : length;
  }
  return out;
}

}  // namespace

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  fuzz::input in(data, size);
  const std::size_t shift = in.byte() % 32;
  // Memory of its own that ends with the text, so that reading beyond it is seen.
  const std::vector<char> memory = [&] {
    std::vector<char> bytes(shift, '"');
    bytes.insert(bytes.end(), in.rest().begin(), in.rest().end());
    return bytes;
  }();
  const std::string_view text(memory.data() + shift, memory.size() - shift);

  outcome expected = outcome::exact;
  const std::string slow = slowly(text, expected);
  text_buffer out;
  out.append("before");
  FUZZ_CHECK(append_escaped(out, text) == expected);
  FUZZ_CHECK(out.view() == "before" + slow);
  FUZZ_CHECK(fuzz::is_json(quoted_json(text)));

  const auto* const bytes = reinterpret_cast<const unsigned char*>(text.data());
  std::vector<char> fast(text.size() + plain_slack);
  std::vector<char> by_words(text.size() + plain_slack);
  const std::size_t copied = copy_plain(fast.data(), bytes, text.size());
  FUZZ_CHECK(copied == plain_text::copy_by_words(by_words.data(), bytes, text.size()));
  FUZZ_CHECK(std::string_view(fast.data(), copied) == text.substr(0, copied));
  FUZZ_CHECK(std::string_view(by_words.data(), copied) == text.substr(0, copied));
  FUZZ_CHECK(copied == text.size() || !is_plain(bytes[copied]));

  text_buffer latin1;
  text_decoder::for_charset("latin1").append(latin1, text);
  std::string wide;
  for (const char c : text) {
    text_buffer one;
    text_decoder::for_charset("latin1").append(one, std::string_view(&c, 1));
    wide += one.view();
  }
  FUZZ_CHECK(latin1.view() == wide);
  return 0;
}
