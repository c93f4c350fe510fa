// The in-place decoder against Protobuf's own, on recordings, on mutated bytes, and on cases that must fail.
#include <doctest/doctest.h>

#include <random>

#include "protocol/vitess/response_decoder.hpp"
#include "tests/support/events.hpp"
#include "tests/support/recording.hpp"
#include "tests/support/told_events.hpp"

using namespace psource;
using psource::testing::cut_bytes;
using psource::testing::event_script;
using psource::testing::row_values;
using psource::testing::told_by_protobuf;
using psource::testing::told_in_pieces;
using psource::testing::told_in_place;

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

TEST_CASE("a response in pieces tells what it tells as a whole, wherever it is cut") {
  std::size_t events_alike = 0;
  for (const auto& name : psource::testing::recording_names())
    for (const auto& response : psource::testing::read_recording(name)) {
      std::size_t alike = 0;
      const std::string whole = told_in_place(response, &alike);
      for (const std::size_t size : {1, 2, 3, 7, 19, 64, 251, 1000}) {
        const cut_bytes cut(response, size);
        std::size_t still_alike = 0;
        REQUIRE_MESSAGE(told_in_pieces(cut.pieces, &still_alike) == whole, name, " in pieces of ", size);
        REQUIRE(still_alike == alike);
      }
      events_alike += alike;
    }
  CHECK(events_alike > 100);

  event_script script;
  script.field("t").insert("t", "1", "one").insert("t", "2", std::string(300, 'x')).insert("t", "3", "three");
  script.row("t", row_values{"1", "a"}, std::nullopt, 7).heartbeat();
  // And fields that no server sends yet: a number, eight bytes, four bytes.
  const std::string response = script.take() + std::string("\x18\xff\xff\x03\x21" "12345678" "\x2d" "1234", 18);
  const std::string whole = told_in_place(response);
  REQUIRE(whole != "malformed");
  for (std::size_t first = 0; first <= response.size(); ++first)
    for (std::size_t second = first; second <= response.size(); ++second) {
      // Pieces may be empty, too.
      const std::string_view all = response;
      REQUIRE(told_in_pieces({all.substr(0, first), all.substr(first, second - first), all.substr(second)}) == whole);
    }
}

TEST_CASE("what is malformed as a whole is so in pieces") {
  event_script script;
  script.field("t").insert("t", "1", "one").insert("t", "2", "two");
  const std::string good = script.take();
  std::mt19937 random(11);
  std::size_t refused = 0;
  for (int round = 0; round < 20000; ++round) {
    std::string bytes = good;
    for (unsigned k = 0; k < 1 + random() % 2; ++k) bytes[random() % bytes.size()] = static_cast<char>(random());
    if (random() % 4 == 0) bytes.resize(random() % bytes.size());
    const std::string whole = told_in_place(bytes);
    const cut_bytes cut(bytes, 1 + random() % 40);
    REQUIRE(told_in_pieces(cut.pieces) == whole);
    if (whole == "malformed") ++refused;
  }
  CHECK(refused > 3000);
}

TEST_CASE("events that differ in their one row change alone are taken as alike, any others are not") {
  const auto count_alike = [](event_script& script) {
    const std::string bytes = script.take();
    std::size_t alike = 0;
    CHECK(told_in_place(bytes, &alike) == told_by_protobuf(bytes));
    return alike;
  };
  event_script script;
  SUBCASE("rows of a copy, whatever their lengths") {
    script.field("t");
    for (const char* text : {"a", "", "a longer one", "b"}) script.insert("t", "1", text);
    script.insert("t", "2", std::string(300, 'x')).insert("t", "3", "c");
    CHECK(count_alike(script) == 5);
  }
  SUBCASE("a change with both images, and a delete") {
    script.row("t", row_values{"1", "a"}, row_values{"1", "b"}, 7).row("t", row_values{"1", "b"}, std::nullopt, 7);
    CHECK(count_alike(script) == 1);
  }
  SUBCASE("another time") {
    script.insert("t", "1", "a", 7).insert("t", "1", "a", 8).insert("t", "1", "a", 8);
    CHECK(count_alike(script) == 1);
  }
  SUBCASE("another table, whose name is as long") {
    script.insert("t", "1", "a").insert("u", "1", "a").insert("t", "1", "a");
    CHECK(count_alike(script) == 0);
  }
  SUBCASE("another shard") {
    script.insert("t", "1", "a").shard("x").insert("t", "1", "a");
    CHECK(count_alike(script) == 0);
  }
  SUBCASE("another event in between") {
    script.insert("t", "1", "a").heartbeat().insert("t", "2", "b");
    CHECK(count_alike(script) == 0);
  }
  SUBCASE("several changes in an event, the last one the same") {
    for (const char* first : {"a", "b"}) {
      script.insert("t", "1", first);
      auto* second = script.last()->mutable_row_event()->add_row_changes();
      event_script::fill(second->mutable_after(), {"2", "same"});
    }
    CHECK(count_alike(script) == 0);
  }
  SUBCASE("an event without a change, and one with more than the model") {
    script.insert("t", "1", "a");
    script.insert("t", "1", "a").last()->mutable_row_event()->clear_row_changes();
    script.insert("t", "1", "a");
    auto* second = script.last()->mutable_row_event()->add_row_changes();
    event_script::fill(second->mutable_after(), {"2", "b"});
    CHECK(count_alike(script) == 0);
  }
  SUBCASE("something more behind the row") {
    script.insert("t", "1", "a").insert("t", "1", "a").last()->set_event_gtid("u:1");
    script.insert("t", "1", "a").last()->mutable_row_event()->set_flags(1);
    CHECK(count_alike(script) == 0);
  }
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
