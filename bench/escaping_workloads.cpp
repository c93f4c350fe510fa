// Text into JSON strings.
#include <memory>

#include "bench/workloads.hpp"
#include "protocol/mapping/json_string.hpp"

namespace psource::bench {
namespace {

workload escaping(std::string name, const std::string& part, std::size_t size, std::size_t times) {
  std::string text;
  while (text.size() < size) text += part;
  if (part.size() == 1) text.resize(size);
  const std::size_t bytes = text.size() * times;
  const auto out = std::make_shared<text_buffer>();
  return {std::move(name), times, bytes,
          [=, text = std::move(text)] {
            std::size_t written = 0;
            for (std::size_t i = 0; i < times; ++i) {
              out->clear();
              append_escaped(*out, text);
              written += out->size();
            }
            return written;
          },
          "value"};
}

}  // namespace

std::vector<workload> escaping_workloads() {
  return {escaping("plain_10", "x", 10, 10'000),
          escaping("plain_119", "x", 119, 10'000),
          escaping("plain_100k", "x", 100'000, 20),
          escaping("a_quote_in_10", "\"quote...", 1000, 1000),
          escaping("every_byte_escaped", "\n", 1000, 1000),
          escaping("two_byte_letters", "äöüß", 1000, 1000),
          escaping("three_byte_letters", "東京都", 1000, 1000),
          escaping("four_byte_letters", "😀", 1000, 1000),
          escaping("broken_utf8",
                   "abc\xFF"
                   "def\xC3",
                   1000, 1000)};
}

}  // namespace psource::bench
