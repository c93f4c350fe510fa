// Words of servers on their way to the user. Input: a gRPC status, a first byte of options, and the text.
#include "fuzz/fuzz.hpp"
#include "protocol/airbyte/messages.hpp"
#include "protocol/vitess/ddl.hpp"
#include "sync/classify.hpp"

using namespace psource;

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  fuzz::input in(data, size);
  stream_end end;
  end.status_code = static_cast<int>(static_cast<std::int8_t>(in.byte()));
  const auto options = in.byte();
  end.message = std::string(in.rest());
  stream_place place;
  place.shard = {keyspace_name("ks"), shard_name("-80")};
  place.tablet = (options & 1) != 0 ? tablet_type::replica : tablet_type::primary;
  place.has_position = (options & 2) != 0;
  auto found = classify_stream_end(end, place);
  FUZZ_CHECK(!found.message.empty());
  is_retryable(found.code);
  // As the schedule does: a table that the server names is told only when the stream has it.
  if (found.stream && found.stream->table != table_name("customers")) found.stream.reset();

  // DDL statements are told as they were written.
  for (const auto& name : tables_losing_rows(end.message)) FUZZ_CHECK(!name.empty() && name.size() <= end.message.size());

  // A secret that the server repeats is not passed on; longer runs of its letters hide it as well.
  const std::string secret = "pscale_pw_fuzz";
  const redactor hide({secret, "line one of a key\nline two of a key"});
  for (const auto& line :
       {trace_error_line(found, epoch_milliseconds(1), hide), log_line(log_level::error, end.message, hide),
        connection_status_line(false, end.message, hide)}) {
    FUZZ_CHECK(fuzz::is_message(line));
    FUZZ_CHECK(line.find(secret) == std::string::npos);
  }
  // Names come from servers, too.
  const stream_id stream{keyspace_name(in.rest()), table_name(in.rest())};
  found.stream = stream;
  FUZZ_CHECK(fuzz::is_message(trace_error_line(found, epoch_milliseconds(1), hide)));
  FUZZ_CHECK(fuzz::is_message(stream_status_line(stream, stream_status::running, epoch_milliseconds(1))));
  return 0;
}
