// Saved state: every form that is handed back, what is refused, and what is written.
#include <doctest/doctest.h>
#include <zlib.h>

#include <string>
#include <vector>

#include "protocol/airbyte/messages.hpp"
#include "protocol/airbyte/state_input.hpp"
#include "protocol/airbyte/state_output.hpp"
#include "protocol/airbyte/state_packing.hpp"
#include "protocol/base64.hpp"

using namespace psource;

namespace {

const stream_id orders{keyspace_name("customer"), table_name("orders")};
const stream_id users{keyspace_name("customer"), table_name("users")};
const stream_id other_orders{keyspace_name("commerce"), table_name("orders")};
const std::string position = "MySQL56/16cec08d-f91b-11ee-8afb-aacaf4984ae5:1-5";

std::string cursor_text(const stream_id& stream, const char* shard, const std::string& at = position) {
  return table_cursor{shard_name(shard), stream.keyspace, at, ""}.encode_base64();
}

// {"shards":{"-80":...}} with one shard.
std::string body(const stream_id& stream, const char* shard = "-80", const std::string& at = position) {
  return std::string(R"({"shards":{")") + shard + R"(":{"cursor":")" + cursor_text(stream, shard, at) +
         "\"}}}";
}

std::string message(const stream_id& stream, const std::string& state, bool with_namespace = true) {
  return R"({"type":"STREAM","stream":{"stream_descriptor":{"name":")" + stream.table.str() + "\"" +
         (with_namespace ? R"(,"namespace":")" + stream.keyspace.str() + "\"" : "") + R"(},"stream_state":)" +
         state + "}}";
}

saved_state loaded(const std::string& text, const std::vector<stream_id>& configured = {orders, users}) {
  auto state = parse_state(text, configured);
  REQUIRE_MESSAGE(state.has_value(), (state ? "" : state.error().message));
  return *state;
}

std::string complaint(const std::string& text, const std::vector<stream_id>& configured = {orders, users}) {
  const auto state = parse_state(text, configured);
  if (state) return "";
  CHECK(state.error().code == error_code::state_invalid);
  CHECK(state.error().message.back() == '.');
  return state.error().message;
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

std::string position_at(const saved_state& state, const stream_id& stream, const char* shard = "-80") {
  return state.streams.at(stream).shards.at(shard_name(shard)).cursor.position;
}

// A cursor whose last key has no fields.
std::string bad_key() {
  return table_cursor{shard_name("-80"), orders.keyspace, position, std::string("\x10\x01", 2)}.encode_base64();
}

}  // namespace

TEST_CASE("texts without a state are no state") {
  const std::string descriptor = R"("stream_descriptor":{"name":"orders","namespace":"customer"})";
  const std::vector<std::string> texts = {
      "",
      " \n",
      "null",
      "[]",
      "{}",
      "[null]",
      "[{}]",
      R"({"streams":{}})",
      R"({"streams":null})",
      R"({"streams":{"customer:orders":null}})",
      R"({"streams":{"customer:orders":{}}})",
      R"({"streams":{"customer:orders":{"shards":{}}}})",
      R"({"streams":{"customer:orders":{"shards":null}}})",
      R"({"type":"LEGACY"})",
      R"({"type":"LEGACY","data":null})",
      R"({"data":{}})",
      R"({"type":"STATE"})",
      R"([{"type":"STREAM","stream":{)" + descriptor + "}}]",
      R"([{"type":"STREAM","stream":{)" + descriptor + R"(,"stream_state":null}}])",
      R"([{"type":"STREAM","stream":{)" + descriptor + R"(,"stream_state":{}}}])",
      R"([{"type":"STREAM","stream":{)" + descriptor + R"(,"stream_state":{"shards":{}}}}])",
      R"([{"type":"GLOBAL","global":{"shared_state":{},"stream_states":[]}}])",
      R"([{"type":"GLOBAL","global":{"shared_state":null,"stream_states":null}}])",
  };
  for (const auto& text : texts) {
    CAPTURE(text);
    const auto state = loaded(text);
    CHECK(state.streams.empty());
    // A legacy state that names streams is one, although nothing is begun in it: the platform keeps it as a
    // whole.
    CHECK(state.from_legacy == contains(text, "customer:orders"));
    CHECK(state.warnings.empty());
  }
}

TEST_CASE("every form that platforms hand back is read") {
  const auto two_shards = R"({"shards":{"-80":{"cursor":")" + cursor_text(orders, "-80") +
                          R"(","cdc_cursor":1767225600000042},"80-":{"cursor":")" +
                          cursor_text(orders, "80-") + "\"}}}";
  const std::string nulls =
      R"({"type":"STREAM","stream":{"stream_descriptor":{"name":"orders","namespace":"customer"},
      "stream_state":)" +
      two_shards + R"(},"global":null,"data":null,"sourceStats":{"recordCount":12.0},
      "destinationStats":null,"id":5})";
  const std::string untyped =
      R"({"type":null,"stream":{"stream_descriptor":{"namespace":null,"name":"orders"},"stream_state":)" +
      two_shards + "}}";
  const std::string users_message = message(users, body(users));
  const std::vector<std::string> texts = {
      "[" + message(orders, two_shards) + "," + users_message + "]",
      "[" + users_message + "," + message(orders, two_shards) + "]",
      "[" + nulls + ",null," + users_message + "]",
      "[" + message(orders, two_shards, false) + "," + users_message + "]",
      "[" + untyped + "," + users_message + "]",
      // Lines of the connector's own output.
      R"({"type":"STATE","state":)" + nulls + "}\n" + R"({"type":"STATE","state":)" + users_message + "}\n",
      users_message + "\n" + nulls,
      R"([{"type":"GLOBAL","global":{"shared_state":{},"stream_states":[{"stream_descriptor":{"name":"orders","namespace":"customer"},"stream_state":)" +
          two_shards + R"(},{"stream_descriptor":{"name":"users","namespace":"customer"},"stream_state":)" +
          body(users) + "}]}}]",
      "\xef\xbb\xbf[" + nulls + "," + users_message + "]",
  };
  for (const auto& text : texts) {
    CAPTURE(text);
    const auto state = loaded(text);
    REQUIRE(state.streams.size() == 2);
    CHECK_FALSE(state.from_legacy);
    CHECK(state.warnings.empty());
    const auto& saved = state.streams.at(orders);
    CHECK_FALSE(saved.from_legacy);
    REQUIRE(saved.shards.size() == 2);
    CHECK(saved.shards.at(shard_name("-80")).cursor ==
          table_cursor{shard_name("-80"), orders.keyspace, position, ""});
    CHECK(saved.shards.at(shard_name("-80")).cdc_cursor == 1767225600000042);
    CHECK_FALSE(saved.shards.at(shard_name("80-")).cdc_cursor.has_value());
    CHECK(position_at(state, users) == position);
  }
  // One message alone.
  CHECK(position_at(loaded(message(users, body(users))), users) == position);
}

TEST_CASE("the older connector's state is read in each of its forms (S21)") {
  const std::string streams =
      R"({"streams":{"customer:orders":)" + body(orders) + R"(,"customer:users":)" + body(users) + "}}";
  for (const auto& text :
       {streams, R"({"type":"LEGACY","data":)" + streams + "}", R"({"data":)" + streams + "}",
        "[" + streams + "]", R"([{"type":"LEGACY","data":)" + streams + "}]",
        R"({"type":"STATE","state":{"data":)" + streams + "}}"}) {
    CAPTURE(text);
    const auto state = loaded(text);
    CHECK(state.from_legacy);
    REQUIRE(state.streams.size() == 2);
    CHECK(state.streams.at(orders).from_legacy);
    CHECK(position_at(state, orders) == position);
    CHECK(state.warnings.empty());
  }
  // Only streams that are configured count, but the platform's legacy state is one all the same.
  const auto none = loaded(R"({"streams":{"customer:gone":{"shards":5}}})");
  CHECK(none.from_legacy);
  CHECK(none.streams.empty());
  REQUIRE(none.warnings.size() == 1);
  CHECK(contains(none.warnings[0], "customer:gone"));
  // A STREAM state beside it is newer, whatever the order.
  const auto newer = message(orders, body(orders, "-80", ""));
  for (const auto& text : {"[" + streams + "," + newer + "]", "[" + newer + "," + streams + "]"}) {
    const auto state = loaded(text);
    CHECK_FALSE(state.streams.at(orders).from_legacy);
    CHECK(position_at(state, orders).empty());
    CHECK(state.streams.at(users).from_legacy);
  }
}

TEST_CASE("a state without namespace that fits two streams is refused, one with namespace is not") {
  const std::vector<stream_id> both = {orders, other_orders};
  const auto refused = complaint("[" + message(orders, body(orders), false) + "]", both);
  CHECK(contains(refused, "\"customer.orders\""));
  CHECK(contains(refused, "\"commerce.orders\""));
  const auto state = loaded(
      "[" + message(orders, body(orders)) + "," + message(other_orders, body(other_orders)) + "]", both);
  CHECK(state.streams.size() == 2);
  CHECK(failure_class_of(error_code::state_invalid) == failure_class::config_error);
}

TEST_CASE("unknown streams are dropped with one warning, and their content does not matter") {
  std::string text = "[";
  for (int i = 0; i < 7; ++i)
    text += message({keyspace_name("customer"), table_name("t" + std::to_string(i))}, "[5]") + ",";
  const auto state = loaded(text + message(orders, body(orders)) + "]");
  CHECK(state.streams.size() == 1);
  REQUIRE(state.warnings.size() == 1);
  CHECK(contains(state.warnings[0], "7 streams"));
  CHECK(contains(state.warnings[0], "customer.t0"));
  CHECK(contains(state.warnings[0], ", ..."));
}

TEST_CASE("a foreign body counts as none, with a warning") {
  const auto state = loaded("[" + message(orders, R"({"cursor_field":["id"],"cursor":"5"})") + "]");
  CHECK(state.streams.empty());
  REQUIRE(state.warnings.size() == 1);
  const auto global =
      loaded(R"({"type":"GLOBAL","global":{"shared_state":{"state":{"a":1}},"stream_states":[]}})");
  REQUIRE(global.warnings.size() == 1);
  CHECK(contains(global.warnings[0], "GLOBAL"));
}

TEST_CASE("of two states of one stream the last counts, with a warning") {
  const auto state =
      loaded("[" + message(orders, body(orders, "-80", "")) + "," + message(orders, body(orders)) + "]");
  CHECK(position_at(state, orders) == position);
  CHECK(state.warnings.size() == 1);
}

TEST_CASE("stale shard names of the older connector are cleaned or dropped (S12, S22)") {
  const stream_id a{keyspace_name("a"), table_name("t")};
  const auto entry = [](const std::string& key, const std::string& cursor) {
    return "\"" + key + "\":{\"cursor\":\"" + cursor + "\"}";
  };
  const auto text =
      "[" +
      message(a, "{\"shards\":{" + entry("a_etl/-", "whatever") + "," +
                     entry("a/-80", cursor_text(a, "-80")) + "," + entry("", cursor_text(a, "")) + "," +
                     entry(" 80-", cursor_text(a, " 80-")) + "," + entry(" a/ 40-", cursor_text(a, "40-")) + "," +
                     entry("a/b/-", "whatever") + "}}") +
      "]";
  const auto state = loaded(text, {a});
  const auto& shards = state.streams.at(a).shards;
  REQUIRE(shards.size() == 3);
  CHECK(shards.count(shard_name("-80")) == 1);
  CHECK(shards.count(shard_name("40-")) == 1);
  CHECK(shards.at(shard_name("80-")).cursor.shard == shard_name("80-"));
  CHECK(state.warnings.size() == 3);
  CHECK(loaded("[" + message(a, "{\"shards\":{" + entry("a_etl/-", "x") + "}}") + "]", {a}).streams.empty());
}

TEST_CASE("a shard without cursor has not begun") {
  for (const std::string shard : {"{}", "null", R"({"cursor":null})", R"({"cursor":""})"}) {
    CAPTURE(shard);
    const auto state = loaded("[" + message(orders, R"({"shards":{"-":)" + shard + "}}") + "]");
    const auto& saved = state.streams.at(orders).shards.at(shard_name("-"));
    CHECK(saved.cursor == table_cursor{shard_name("-"), orders.keyspace, "", ""});
  }
}

TEST_CASE("a position without flavor gets one, any other stays as it was written") {
  const auto bare = position.substr(position.find('/') + 1);
  CHECK(position_at(loaded(message(orders, body(orders, "-80", bare))), orders) == position);
  const std::string odd = "MySQL56/16CEC08D-f91b-11ee-8afb-aacaf4984ae5:3-5:1-2";
  CHECK(position_at(loaded(message(orders, body(orders, "-80", odd))), orders) == odd);
}

TEST_CASE("the mark of a full refresh is read and written") {
  const full_refresh_mark mark{3, 17, true};
  const auto cursor = cursor_text(orders, "-80");
  const auto text = stream_state_json({{{"-80", orders.keyspace.str(), position, ""}, 7}}, mark);
  CHECK(text == R"({"shards":{"-80":{"cursor":")" + cursor +
                    R"(","cdc_cursor":7}},"full_refresh":{"generation_id":3,"sync_id":17,"done":true}})");
  CHECK(loaded(message(orders, text)).streams.at(orders).full_refresh == mark);
  CHECK_FALSE(loaded(message(orders, body(orders))).streams.at(orders).full_refresh.has_value());
}

TEST_CASE("the peer's half copy with an unusable key starts over, as all of them do") {
  const auto state = parse_state(message(orders, R"({"shards":{"-80":{"cursor":")" + bad_key() + "\"}}}"), {orders});
  REQUIRE(state);
  const saved_shard& saved = state->streams.at(orders).shards.at(shard_name("-80"));
  CHECK(saved.cursor.position.empty());
  CHECK(saved.cursor.last_known_pk.empty());
  REQUIRE(state->warnings.size() == 1);
  CHECK(state->warnings[0].find("starts over") != std::string::npos);
}

TEST_CASE("damaged states are refused with stream and shard") {
  const auto shard = [](const std::string& value) {
    return message(orders, R"({"shards":{"-80":)" + value + "}}");
  };
  const auto cursor_of = [](const std::string& text) { return R"({"cursor":")" + text + "\"}"; };
  struct row {
    std::string text, part;
  };
  const std::vector<row> rows = {
      {"5", "message 1 is a number"},
      {"[5]", "message 1 is a number"},
      {"[[]]", "message 1 is an array"},
      {"\"x\"", "message 1 is a string"},
      {R"({"foo":1})", "none of the known forms"},
      {R"({"streams":[]})", "an array as `streams`"},
      {R"({"data":5})", "none of the known forms"},
      {R"({"data":{"x":5}})", "none of the known forms"},
      {R"({"type":5})", "a number as `type`"},
      {R"({"type":"FOO"})", "unknown type \"FOO\""},
      {R"({"type":"RECORD","record":{}})", "unknown type \"RECORD\""},
      {R"({"type":"STREAM"})", "lacks the key `stream`"},
      {R"({"type":"GLOBAL"})", "lacks the key `global`"},
      {R"({"type":"GLOBAL","global":5})", "`global.stream_states`"},
      {R"({"type":"GLOBAL","global":{"stream_states":{}}})", "`global.stream_states`"},
      {R"({"type":"GLOBAL","global":{"stream_states":[5]}})", "a number as `stream`"},
      {R"({"type":"STREAM","stream":5})", "a number as `stream`"},
      {R"({"type":"STREAM","stream":{}})", "`stream_descriptor.name`"},
      {R"({"type":"STREAM","stream":{"stream_descriptor":[]}})", "`stream_descriptor.name`"},
      {R"({"type":"STREAM","stream":{"stream_descriptor":{"name":5}}})", "`stream_descriptor.name`"},
      {R"({"type":"STREAM","stream":{"stream_descriptor":{"name":"orders","namespace":5}}})",
       "`stream_descriptor.namespace`"},
      {R"({"type":"STATE","state":5})", "envelope"},
      {R"({"type":"STATE","state":{"type":"STATE","state":{}}})", "envelope"},
      {message(orders, "5"), "\"customer.orders\" must be an object, but is a number"},
      {message(orders, R"({"shards":[]})"), "`shards`, but it is an array"},
      {message(orders, R"({"packed":5})"), "`packed`, but it is a number"},
      {message(orders, R"({"packed":"!"})"), "cannot be unpacked"},
      {message(orders, R"({"packed":"AAAA"})"), "damaged"},
      {message(orders, "{\"packed\":\"" + pack_state("{") + "\"}"), "cannot be unpacked"},
      {message(orders, "{\"packed\":\"" + pack_state("5") + "\"}"), "must be an object"},
      {message(orders, "{\"packed\":\"" + pack_state(body(orders)).substr(0, 40) + "\"}"), "damaged"},
      {message(orders, "{\"packed\":\"" + pack_state(std::string(400000, '[')) + "\"}"), "nests deeper"},
      {shard("5"), "for the shard \"-80\" a number instead of an object"},
      {shard(R"({"cursor":5})"), "a `cursor` that is not a string"},
      {shard(cursor_of("%%%")), "for the shard \"-80\" an unusable `cursor`"},
      {shard(cursor_of("AAAA")), "not a serialized TableCursor"},
      {shard(cursor_of(cursor_text(orders, "80-"))), "a cursor of the shard \"80-\""},
      {shard(cursor_of(cursor_text(other_orders, "-80"))), "a cursor of the keyspace \"commerce\""},
      {shard(cursor_of(cursor_text(orders, "-80", "current"))), "an unusable position"},
      {shard("{\"cdc_cursor\":5,\"cursor\":\"" + bad_key() + "\"}"), "has no fields"},
      {shard(R"({"position":5})"), "a `position` that is not a string"},
      {shard(R"({"position":"x/y"})"), "an unusable position"},
      {shard(R"({"position":"","last_known_pk":5})"), "a `last_known_pk` that is not base64"},
      {shard(R"({"position":"","last_known_pk":"%"})"), "a `last_known_pk` that is not base64"},
      {shard(R"({"position":"","last_known_pk":"EAE="})"), "has no fields"},
      {shard(R"({"position":"","last_known_pk":"////"})"), "an unusable `last_known_pk`"},
      {shard(R"({"cdc_cursor":"7"})"), "`cdc_cursor`"},
      {shard(R"({"cdc_cursor":7.5})"), "`cdc_cursor`"},
      {shard(R"({"cdc_cursor":-7})"), "`cdc_cursor`"},
      {shard(R"({"cdc_cursor":9223372036854775808})"), "`cdc_cursor`"},
      {shard(R"({"cdc_cursor":9000000000000000001})"), "`cdc_cursor` that no clock can have given"},
      {message(orders, R"({"shards":{"-":{}},"full_refresh":5})"), "`full_refresh`"},
      {message(orders, R"({"shards":{"-":{}},"full_refresh":{"generation_id":1,"sync_id":2}})"),
       "`full_refresh`"},
      {message(orders, R"({"shards":{"-":{}},"full_refresh":{"generation_id":1,"sync_id":"2","done":true}})"),
       "`full_refresh`"},
      {std::string(400000, '['), "nests deeper than 100 levels"},
      {"{\"type\":1e999}", "line 1"},
  };
  for (const auto& row : rows) {
    CAPTURE(row.text.substr(0, 300));
    const auto said = complaint(row.text);
    CHECK_MESSAGE(contains(said, row.part), said);
  }
  const auto failed = parse_state(shard(cursor_of("%%%")), {orders});
  REQUIRE_FALSE(failed.has_value());
  CHECK(failed.error().stream == orders);
}

TEST_CASE("a state that was cut anywhere is refused") {
  const auto whole = "[" + message(orders, body(orders)) + "]";
  CHECK(loaded(whole).streams.size() == 1);
  for (std::size_t size = 1; size < whole.size(); ++size) {
    CAPTURE(size);
    CHECK_FALSE(complaint(whole.substr(0, size)).empty());
  }
}

TEST_CASE("warnings are bounded") {
  std::string shards;
  for (int i = 0; i < 1000; ++i) shards += (i == 0 ? "\"x/" : ",\"x/") + std::to_string(i) + "\":{}";
  CHECK(loaded(message(orders, "{\"shards\":{" + shards + "}}")).warnings.size() == 100);
}

TEST_CASE("what is written is read back, plain and packed") {
  for (const int count : {1, 2, 1024}) {
    CAPTURE(count);
    saved_stream_state state;
    for (int i = 0; i < count; ++i) {
      const shard_name shard("s\"" + std::to_string(i));
      saved_shard saved{{shard, orders.keyspace, position, ""}, std::nullopt};
      if (i % 2 == 0) saved.cdc_cursor = 1767225600000000 + i;
      if (i % 3 == 0)
        saved.cursor.last_known_pk =
            std::string("\x0a\x04\x0a\x02id\x22\x07\x0a\x01\x04\x12\x02\x00\xff", 15);
      state.shards.emplace(shard, std::move(saved));
    }
    const auto text = stream_state_json(state);
    CHECK(contains(text, "\"packed\"") == (count == 1024));
    const auto back = parse_stream_state(text, orders);
    REQUIRE_MESSAGE(back.has_value(), (back ? "" : back.error().message));
    REQUIRE(back->has_value());
    REQUIRE((*back)->shards.size() == state.shards.size());
    for (const auto& [name, saved] : state.shards) {
      const auto& read = (*back)->shards.at(name);
      CHECK(read.cursor == saved.cursor);
      CHECK(read.cdc_cursor == saved.cdc_cursor);
    }
    CHECK(stream_state_json(**back) == text);
    const auto line = state_line(orders, text, 5);
    CHECK(loaded(line).streams.at(orders).shards.size() == state.shards.size());
  }
  CHECK(stream_state_json(std::vector<shard_entry>{}) == R"({"shards":{}})");
}

TEST_CASE("packing begins above the threshold, not at it") {
  for (const std::size_t position : {0UL, 20'000UL, state_packing_threshold / 4 * 3 - 100}) {
    CAPTURE(position);
    const auto text_with = [at = std::string(position, 'p')](std::size_t since) {
      const std::string filled(since, 's');
      return stream_state_json({{{"-", "ks", at, ""}, std::nullopt, filled}});
    };
    const std::size_t fits = state_packing_threshold - text_with(1).size() + 1;
    CHECK(text_with(fits).size() == state_packing_threshold);
    CHECK(contains(text_with(fits + 1), "\"packed\""));
  }
}

TEST_CASE("the states of 1,024 shards with 10 servers each and 20 tables stay below 9 MB") {
  // Servers differ from shard to shard, as a real branch's do: a linear congruential generator stands for
  // their UUIDs.
  std::uint64_t seed = 42;
  const auto hex = [&seed](int digits) {
    std::string out;
    for (int i = 0; i < digits; ++i) {
      seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
      out.push_back("0123456789abcdef"[seed >> 60]);
    }
    return out;
  };
  saved_stream_state state;
  for (int i = 0; i < 1024; ++i) {
    const shard_name shard(hex(4) + "-" + hex(4));
    std::string at = "MySQL56/";
    for (int server = 0; server < 10; ++server) {
      if (server != 0) at += ',';
      at += hex(8) + "-" + hex(4) + "-" + hex(4) + "-" + hex(4) + "-" + hex(12) + ":1-" +
            std::to_string(seed >> 44);
    }
    state.shards[shard] = {{shard, orders.keyspace, at, ""}, 1767225600000000 + i};
  }
  const auto text = stream_state_json(state);
  MESSAGE("one table: " << text.size() << " bytes");
  CHECK(text.size() * 20 < 9'000'000);
  CHECK(parse_stream_state(text, orders).value()->shards.size() == state.shards.size());
}

TEST_CASE("a packed state cannot fill the memory") {
  // As small as zlib makes it: pack_state() takes less time and more bytes.
  const std::string blanks(max_unpacked_state + 1, ' ');
  uLongf size = compressBound(blanks.size());
  std::string packed_best(size, '\0');
  REQUIRE(compress2(reinterpret_cast<Bytef*>(packed_best.data()), &size, reinterpret_cast<const Bytef*>(blanks.data()),
                    blanks.size(), Z_BEST_COMPRESSION) == Z_OK);
  std::string bomb;
  append_base64(bomb, packed_best.substr(0, size));
  CHECK(bomb.size() < 200000);
  const auto opened = unpack_state(bomb);
  REQUIRE_FALSE(opened.has_value());
  CHECK(contains(opened.error().message, "64 MiB"));
  CHECK(unpack_state(pack_state("")).value().empty());
  CHECK_FALSE(unpack_state("").has_value());
  const auto packed = pack_state("abc");
  CHECK(unpack_state(packed).value() == "abc");
}
