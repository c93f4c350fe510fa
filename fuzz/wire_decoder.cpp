// The in-place decoder against Protobuf's own. Input: a serialized vtgate.VStreamResponse.
#include "fuzz/fuzz.hpp"
#include "tests/support/told_events.hpp"

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using psource::testing::told_by_protobuf;
  using psource::testing::told_in_place;
  const std::string bytes(reinterpret_cast<const char*>(data), size);
  const std::string ours = told_in_place(bytes);
  // Cut anywhere it says the same.
  const psource::testing::cut_bytes cut(bytes, 1 + (size == 0 ? 0 : data[size / 2] % 61));
  FUZZ_CHECK(psource::testing::told_in_pieces(cut.pieces) == ours);
  const std::string theirs = told_by_protobuf(bytes);
  // Ours is stricter (fields given twice), and Protobuf looks into nested messages that stay serialized here.
  if (ours != "malformed" && theirs != "malformed") FUZZ_CHECK(ours == theirs);
  if (theirs == "malformed") return 0;
  // As a server would write the same response there is nothing to be stricter about.
  vtgate::VStreamResponse response;
  if (!response.ParseFromString(bytes)) return 0;
  response.DiscardUnknownFields();
  const std::string canonical = response.SerializeAsString();
  FUZZ_CHECK(told_in_place(canonical) == told_by_protobuf(canonical));
  return 0;
}
