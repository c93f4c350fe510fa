// Decoder, assembler, VGTID and FIELD events. Input: responses, each a varint length and a VStreamResponse.
#include <google/protobuf/stubs/logging.h>

#include "fuzz/fuzz.hpp"
#include "protocol/vitess/event_assembler.hpp"

using namespace psource;

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  // Damaged bytes are the rule here: no word about them on stderr.
  static const google::protobuf::LogSilencer quiet;
  fuzz::input in(data, size);
  event_assembler assembler;
  while (!in.empty()) {
    const std::string response(in.sized());
    event_reader events(response);
    raw_event event;
    while (events.next(event)) {
      const auto step = assembler.feed(event);
      if (!step) {
        FUZZ_CHECK(!step.error().message.empty());
        return 0;
      }
      switch (*step) {
        case stream_step::fields:
          if (const auto fields = parse_field_event(event.field_event))
            FUZZ_CHECK(fields->columns.size() <= 4096);
          break;
        case stream_step::rows: {
          row_event_reader rows(event.row_event);
          row_change_view change;
          while (rows.next(change)) {
            // A bitmap that is told is covered by its bytes.
            FUZZ_CHECK(change.data_columns_count >= 0 && change.json_partial_count >= 0);
            FUZZ_CHECK(static_cast<std::uint64_t>(change.data_columns_count) <=
                       change.data_columns.size() * 8);
            FUZZ_CHECK(static_cast<std::uint64_t>(change.json_partial_count) <=
                       change.json_partial_values.size() * 8);
          }
          FUZZ_CHECK(assembler.inside_transaction());
          break;
        }
        case stream_step::boundary:
          if (const auto position = assembler.take_position())
            for (const auto& shard : position->shards) {
              // Each shard is there once, and found.
              FUZZ_CHECK(position->find(shard.id) == &shard);
            }
          FUZZ_CHECK(assembler.take_position()->shards.empty());
          break;
        case stream_step::nothing:
        case stream_step::heartbeat:
        case stream_step::copy_completed:
          break;
      }
    }
  }
  return 0;
}
