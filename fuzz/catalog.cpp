// The configured catalog. Input: a first byte (bit 0: a second keyspace) and the text of a catalog file.
#include "protocol/airbyte/catalog.hpp"

#include "fuzz/fuzz.hpp"
#include "protocol/airbyte/messages.hpp"

using namespace psource;

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  fuzz::input in(data, size);
  std::vector<keyspace_name> keyspaces{keyspace_name("ks")};
  if (in.byte() % 2 == 1) keyspaces.emplace_back("other");
  const auto streams = parse_configured_catalog(in.rest(), keyspaces);
  if (!streams) {
    FUZZ_CHECK(streams.error().code == error_code::catalog_invalid && !streams.error().message.empty());
    FUZZ_CHECK(fuzz::is_message(trace_error_line(streams.error(), epoch_milliseconds(1), {})));
    return 0;
  }
  for (const auto& stream : *streams) {
    FUZZ_CHECK(!stream.id.table.empty() && !stream.id.keyspace.empty());
    FUZZ_CHECK(stream.declares_properties || stream.properties.empty());
    for (const auto& property : stream.properties) {
      FUZZ_CHECK(stream.find(property.name) == &property);
      FUZZ_CHECK(fuzz::is_json(property.schema));
    }
    FUZZ_CHECK(
        fuzz::is_message(stream_status_line(stream.id, stream_status::started, epoch_milliseconds(1))));
    FUZZ_CHECK(fuzz::is_message(state_line(stream.id, "{}", 1)));
  }
  return 0;
}
