// The in-place decoder against Protobuf's own, on recordings, on mutated bytes, and on cases that must fail.
#include <doctest/doctest.h>

#include <google/protobuf/stubs/logging.h>

#include <random>

#include "protocol/vitess/response_decoder.hpp"
#include "tests/support/events.hpp"
#include "tests/support/recording.hpp"
#include "vtgate.pb.h"

using namespace psource;
using psource::testing::event_script;

namespace {

// What one decoder says of a response, as text; "malformed" where it refuses.
std::string told_in_place(std::string_view bytes) {
  std::string text;
  event_reader events(bytes);
  raw_event event;
  const auto tell_row = [&text](const row_view& row) {
    if (!row.present) {
      text += "-";
      return true;
    }
    value_reader values(row);
    while (values.next()) text += values.is_null() ? "N;" : std::string(values.value()) + ";";
    return values.ok();
  };
  while (events.next(event)) {
    text += std::to_string(static_cast<int>(event.type)) + "@" + std::to_string(event.timestamp) + " " +
            std::string(event.keyspace) + "/" + std::string(event.shard) + " " + std::string(event.statement) +
            std::string(event.event_gtid);
    if (event.row_event.data() != nullptr) {
      row_event_reader rows(event.row_event);
      text += " " + std::string(rows.table_name());
      row_change_view change;
      while (rows.next(change)) {
        text += "[";
        if (!tell_row(change.before)) return "malformed";
        text += ">";
        if (!tell_row(change.after)) return "malformed";
        text += std::to_string(change.data_columns_count) + std::string(change.data_columns) + "]";
      }
      if (!rows.ok()) return "malformed";
    }
    text += "\n";
  }
  return events.ok() ? text : "malformed";
}

std::string told_by_protobuf(const std::string& bytes) {
  // Damaged bytes are what these tests are about: no word about them on stderr.
  const google::protobuf::LogSilencer quiet;
  vtgate::VStreamResponse response;
  if (!response.ParseFromString(bytes)) return "malformed";
  std::string text;
  bool whole = true;
  const auto tell_row = [&](const query::Row& row) {
    std::size_t at = 0;
    for (const auto length : row.lengths()) {
      if (length < 0) {
        text += "N;";
        continue;
      }
      if (at + static_cast<std::size_t>(length) > row.values().size()) {
        whole = false;
        return;
      }
      text += row.values().substr(at, static_cast<std::size_t>(length)) + ";";
      at += static_cast<std::size_t>(length);
    }
    if (at != row.values().size()) whole = false;
  };
  for (const auto& event : response.events()) {
    text += std::to_string(event.type()) + "@" + std::to_string(event.timestamp()) + " " + event.keyspace() + "/" +
            event.shard() + " " + event.statement() + event.event_gtid();
    if (event.has_row_event()) {
      text += " " + event.row_event().table_name();
      for (const auto& change : event.row_event().row_changes()) {
        text += "[";
        if (change.has_before())
          tell_row(change.before());
        else
          text += "-";
        text += ">";
        if (change.has_after())
          tell_row(change.after());
        else
          text += "-";
        text += std::to_string(change.data_columns().count()) + change.data_columns().cols() + "]";
      }
    }
    text += "\n";
  }
  return whole ? text : "malformed";
}

}  // namespace

TEST_CASE("the decoder tells what Protobuf tells, on every recording") {
  std::size_t responses = 0;
  for (const auto& name : psource::testing::recording_names())
    for (const auto& response : psource::testing::read_recording(name)) {
      CHECK(told_in_place(response) == told_by_protobuf(response));
      ++responses;
    }
  CHECK(responses > 300);
}

TEST_CASE("the decoder never accepts what Protobuf tells otherwise, on damaged bytes") {
  std::mt19937 random(7);
  std::size_t accepted = 0;
  std::vector<std::string> originals;
  for (const auto* name : {"copy_then_dml_unsharded", "sharded_stream", "charsets_generated"})
    for (const auto& response : psource::testing::read_recording(name)) originals.push_back(response);
  for (int round = 0; round < 30000; ++round) {
    std::string bytes = originals[random() % originals.size()];
    for (unsigned k = 0; k < 1 + random() % 3; ++k) {
      const std::size_t at = random() % bytes.size();
      if (random() % 4 == 0)
        bytes.resize(at + 1);
      else
        bytes[at] = static_cast<char>(random());
    }
    const std::string ours = told_in_place(bytes);
    if (ours == "malformed") continue;  // stricter than Protobuf: refusing is safe
    const std::string theirs = told_by_protobuf(bytes);
    // Protobuf also refuses bad bytes in nested messages that we leave serialized; those are checked when decoded.
    if (theirs == "malformed") continue;
    ++accepted;
    REQUIRE(ours == theirs);
  }
  CHECK(accepted > 3000);
}

TEST_CASE("malformed bytes are refused, not read past their end") {
  event_script script;
  script.field("t").insert("t", "1", "one");
  const std::string good = script.take();
  for (std::size_t size = 1; size < good.size(); ++size) {
    const std::string cut = good.substr(0, size);
    const std::string told = told_in_place(cut);
    const bool whole_events = told_by_protobuf(cut) != "malformed";
    CHECK_MESSAGE((told == "malformed" || whole_events), "cut at ", size);
  }
  // A varint of eleven bytes, a group, a field number 0.
  CHECK(told_in_place(std::string("\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 12)) == "malformed");
  CHECK(told_in_place(std::string("\x0b\x0c", 2)) == "malformed");
  CHECK(told_in_place(std::string("\x02\x00", 2)) == "malformed");
}

TEST_CASE("a row whose lengths do not add up is refused") {
  row_view row;
  row.present = true;
  row.lengths = std::string_view("\x04\x02", 2);  // 2 and 1
  row.values = "abcd";
  value_reader too_many(row);
  CHECK(too_many.next());
  CHECK(too_many.value() == "ab");
  CHECK(too_many.next());
  CHECK_FALSE(too_many.next());
  CHECK_FALSE(too_many.ok());
  row.values = "ab";
  value_reader too_few(row);
  CHECK(too_few.next());
  CHECK_FALSE(too_few.next());
  CHECK_FALSE(too_few.ok());
}

TEST_CASE("a bitmap that its bytes do not cover is refused") {
  event_script script;
  script.field("t").insert("t", "1", "x");
  auto* change = script.last()->mutable_row_event()->mutable_row_changes(0);
  change->mutable_data_columns()->set_count(9);
  change->mutable_data_columns()->set_cols("\x03");
  CHECK(told_in_place(script.take()) == "malformed");
}
