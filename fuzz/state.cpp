// Saved state. Input: a first byte and a text. What the text is, by the byte modulo 4: 0 a state file; 1 the
// body of one stream's state; 2 the same body, packed here; 3 zlib bytes as they are.
#include <google/protobuf/stubs/logging.h>

#include "fuzz/fuzz.hpp"
#include "protocol/airbyte/messages.hpp"
#include "protocol/airbyte/state_input.hpp"
#include "protocol/airbyte/state_output.hpp"
#include "protocol/airbyte/state_packing.hpp"
#include "protocol/base64.hpp"
#include "protocol/vitess/gtid_set.hpp"

using namespace psource;

namespace {

// What is written of a state is read back as the same state.
void check_written(const stream_id& stream, const saved_stream_state& state) {
  FUZZ_CHECK(!state.shards.empty());
  for (const auto& [shard, saved] : state.shards) {
    FUZZ_CHECK(!shard.empty() && gtid_set::parse_position(saved.cursor.position));
    // Room to count on: every record gets a larger one.
    FUZZ_CHECK(saved.cdc_cursor.value_or(0) >= 0 &&
               saved.cdc_cursor.value_or(0) < INT64_MAX - (std::int64_t{1} << 56));
  }
  const std::string text = stream_state_json(state);
  FUZZ_CHECK(fuzz::is_message(state_line(stream, text, 1)));
  const auto again = parse_stream_state(text, stream);
  FUZZ_CHECK(again && *again);
  FUZZ_CHECK((*again)->shards.size() == state.shards.size());
  for (const auto& [shard, saved] : state.shards) {
    const auto found = (*again)->shards.find(shard);
    FUZZ_CHECK(found != (*again)->shards.end());
    FUZZ_CHECK(found->second.cursor == saved.cursor && found->second.cdc_cursor == saved.cdc_cursor);
  }
  FUZZ_CHECK((*again)->full_refresh == state.full_refresh);
}

}  // namespace

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  // Damaged bytes are the rule here: no word about them on stderr.
  static const google::protobuf::LogSilencer quiet;
  fuzz::input in(data, size);
  const stream_id orders{keyspace_name("customer"), table_name("orders")};
  const stream_id users{keyspace_name("customer"), table_name("users")};
  const stream_id other_orders{keyspace_name("commerce"), table_name("orders")};
  const auto form = in.byte() % 4;
  if (form == 0) {
    const auto state = parse_state(in.rest(), {orders, users, other_orders});
    if (!state) {
      FUZZ_CHECK(state.error().code == error_code::state_invalid && !state.error().message.empty());
      FUZZ_CHECK(fuzz::is_message(trace_error_line(state.error(), epoch_milliseconds(1), {})));
      return 0;
    }
    FUZZ_CHECK(state->warnings.size() <= 101);
    for (const auto& warning : state->warnings)
      FUZZ_CHECK(fuzz::is_message(log_line(log_level::warn, warning, {})));
    for (const auto& [id, saved] : state->streams) {
      FUZZ_CHECK(id == orders || id == users || id == other_orders);
      check_written(id, saved);
    }
    return 0;
  }
  if (form == 3) {
    std::string text;
    append_base64(text, in.rest());
    if (const auto bytes = unpack_state(text)) {
      FUZZ_CHECK(bytes->size() <= max_unpacked_state);
      const auto again = unpack_state(pack_state(*bytes));
      FUZZ_CHECK(again && *again == *bytes);
    }
    return 0;
  }
  const std::string body =
      form == 1 ? std::string(in.rest()) : R"({"packed":")" + pack_state(in.rest()) + "\"}";
  const auto state = parse_stream_state(body, orders);
  if (state && *state) check_written(orders, **state);
  return 0;
}
