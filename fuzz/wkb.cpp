// Geometries. Input: SRID and WKB as MySQL stores them.
#include "fuzz/fuzz.hpp"
#include "protocol/mapping/wkt.hpp"

using namespace psource;

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto bytes = fuzz::input(data, size).rest();
  text_buffer out;
  if (append_wkt(out, bytes) != outcome::exact) return 0;
  // WKT that needs no escapes in JSON, with as many brackets open as closed.
  FUZZ_CHECK(out.size() > 0);
  int depth = 0;
  for (const char c : out.view()) {
    FUZZ_CHECK((c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || std::string_view("() ,.-e").find(c) < 7);
    depth += c == '(' ? 1 : c == ')' ? -1 : 0;
    FUZZ_CHECK(depth >= 0 && depth <= 70);
  }
  FUZZ_CHECK(depth == 0);
  // Whole geometries only: nothing may be missing at the end, nothing follow.
  out.clear();
  FUZZ_CHECK(append_wkt(out, bytes.substr(0, bytes.size() - 1)) == outcome::impossible);
  out.clear();
  FUZZ_CHECK(append_wkt(out, std::string(bytes) + '\0') == outcome::impossible);
  return 0;
}
