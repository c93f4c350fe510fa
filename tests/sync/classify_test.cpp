// The words of servers → failures, one row per text that was seen or is documented.
#include <doctest/doctest.h>

#include <fstream>
#include <sstream>

#include "sync/classify.hpp"

using namespace psource;

namespace {

struct text_case {
  int status;
  const char* text;
  error_code code;
  const char* table;
};

// The message of the "# end:" line of a recorded error.
std::string recorded(const std::string& name) {
  std::ifstream file(std::string(PSOURCE_TEST_DATA) + "/recordings/errors/" + name + ".txt");
  REQUIRE(file);
  std::stringstream all;
  all << file.rdbuf();
  const std::string text = all.str();
  const auto end = text.find("# end:");
  std::string line = text.substr(end, text.find('\n', end) - end);
  // The recorder quoted the message: \' stands for an apostrophe.
  for (std::size_t at = 0; (at = line.find("\\'", at)) != std::string::npos;) line.erase(at, 1);
  return line;
}

const stream_place place{{keyspace_name("commerce"), shard_name("0")}, tablet_type::primary, true};

}  // namespace

TEST_CASE("each text of a server becomes the right failure") {
  const text_case cases[] = {
      {16, "username and password must be provided", error_code::credentials_refused, ""},
      {7, "auth failure: caller provided invalid credentials", error_code::credentials_refused, ""},
      {12, "unknown service vtgateservice.Vitess", error_code::vstream_unavailable, ""},
      {8, "grpc: received message larger than max (5000000 vs. 4194304)", error_code::response_too_large, ""},
      {8, "pool exhausted", error_code::stream_broken, ""},
      {2, "Cannot replicate because the source purged required binary logs", error_code::position_lost, ""},
      {2, "Cannot replicate because the master purged required binary logs", error_code::position_lost, ""},
      {2, "(errno 1236) (sqlstate HY000)", error_code::position_lost, ""},
      {13, "not all journaling participants are in the stream: journal: []", error_code::shards_changed, ""},
      {9, "shard provided in VGTID, -80, not found in the customer keyspace", error_code::position_lost, ""},
      {1, "failed to find a PRIMARY tablet for VStream in commerce/0 within the zone1 cell(s): context has expired",
       error_code::stream_broken, ""},
      {2, "table nosuch is not present in the database", error_code::table_missing, "nosuch"},
      {2, "lastpk for table sbtest has no fields defined", error_code::lastpk_refused, "sbtest"},
      {2, "cannot build a row streamer plan for the t1 table as a lastpk value was provided", error_code::lastpk_refused,
       ""},
      {2, "rpc error: code = Unknown desc = primary key values don't match length: [INT64(7)] vs [0 1]", error_code::lastpk_refused,
       ""},
      {3, "invalid lastpk value for column id: declared type INT64 does not match VARCHAR", error_code::lastpk_refused, ""},
      {13, "stream (at source tablet) error @ x: partial row image encountered: ensure binlog_row_image is set to 'full'",
       error_code::row_image_incomplete, ""},
      {2, "cannot determine table columns for t1: event has [], schema has []", error_code::schema_incompatible, "t1"},
      {2, "Query was empty (errno 1065): failed to build table replication plan for table t",
       error_code::schema_incompatible, "t"},
      {2, "in Engine.reload(), reading table sbtest: failed to reload schema after DDL encountered in stream",
       error_code::stream_broken, ""},
      {2, "Query execution was interrupted, maximum statement execution time exceeded (errno 3024)",
       error_code::copy_time_limit, ""},
      {14, "vstream failed liveness checks", error_code::stream_broken, ""},
      {14, "target: certificates.-80.primary: vttablet: rpc error: code = Unavailable desc = error reading from server: EOF",
       error_code::stream_broken, ""},
      {14, "Ssl handshake failed: certificate verify failed", error_code::tls_failed, ""},
      {14, "failed to connect to all addresses; last error: UNAVAILABLE: ipv4:127.0.0.1:1: Failed parsing HTTP/2",
       error_code::host_unreachable, ""},
      {14, "Socket closed", error_code::stream_broken, ""},
      {13, "vstreamer has been fully throttled", error_code::stream_broken, ""},
      {1, "timed out while waiting for skew to reduce", error_code::stream_broken, ""},
      {0, "", error_code::stream_broken, ""},
      {2, "something that no one has seen yet", error_code::stream_failed, ""},
      {13, "something that no one has seen yet", error_code::stream_failed, ""},
      {10, "something that no one has seen yet", error_code::stream_broken, ""},
      {2, "Stream removed", error_code::stream_broken, ""},
  };
  for (const auto& c : cases) {
    const failure what = classify_stream_end({c.status, c.text, false}, place);
    CHECK_MESSAGE(what.code == c.code, c.text);
    CHECK_MESSAGE(what.detail == c.text, c.text);
    CHECK_FALSE(what.message.empty());
    const std::string table = what.stream ? what.stream->table.str() : "";
    CHECK_MESSAGE(table == c.table, c.text);
  }
}

TEST_CASE("a server that compresses is told apart from one without VStream") {
  const failure what = classify_stream_end({12, "Compression algorithm 'gzip' is disabled.", false}, place);
  CHECK(what.code == error_code::vstream_unavailable);
  CHECK(what.message.find("The server compresses its responses (Compression algorithm 'gzip' is disabled.)") == 0);
}

TEST_CASE("the recorded errors of a real Vitess are known") {
  CHECK(classify_stream_end({13, recorded("bad_gtid"), false}, place).code == error_code::position_foreign);
  CHECK(classify_stream_end({2, recorded("lastpk_no_fields"), false}, place).code == error_code::lastpk_refused);
  const auto missing = classify_stream_end({2, recorded("missing_table_copy"), false}, place);
  CHECK(missing.code == error_code::table_missing);
  REQUIRE(missing.stream);
  CHECK(missing.stream->table == table_name("nosuch"));
  CHECK(classify_stream_end({2, recorded("no_keyspace"), false}, place).code == error_code::keyspace_unknown);
  CHECK(classify_stream_end({9, recorded("old_shard_deleted"), false}, place).code == error_code::position_lost);
  stream_place copying = place;
  copying.copies = true;
  CHECK(classify_stream_end({9, recorded("shard_gone"), false}, copying).code == error_code::shards_changed);
}

TEST_CASE("what the user has to change is not tried again, what may pass is") {
  CHECK_FALSE(is_retryable(error_code::credentials_refused));
  CHECK_FALSE(is_retryable(error_code::position_lost));
  CHECK_FALSE(is_retryable(error_code::table_missing));
  CHECK(is_retryable(error_code::stream_broken));
  CHECK(is_retryable(error_code::copy_time_limit));
  CHECK(is_retryable(error_code::schema_incompatible));
}

TEST_CASE("a look-up of incomplete rows is tried again unless it would end the same way") {
  const stream_id table{keyspace_name("ks"), table_name("t")};
  struct lookup_case {
    error_code code;
    const char* detail;
    error_code becomes;
  };
  const lookup_case cases[] = {
      {error_code::query_failed, "1205: Lock wait timeout exceeded; try restarting transaction", error_code::stream_broken},
      {error_code::query_failed, "1105: target: ks.-.primary: primary is not serving", error_code::stream_broken},
      {error_code::query_failed, "1317: Query execution was interrupted", error_code::stream_broken},
      {error_code::tablet_type_missing, "1105: no healthy tablet available", error_code::stream_broken},
      {error_code::keyspace_unknown, "1049: Unknown database", error_code::stream_broken},
      {error_code::host_unreachable, "2013: Lost connection", error_code::host_unreachable},
      {error_code::query_failed, "1054: Unknown column 'v' in 'field list'", error_code::row_image_incomplete},
      {error_code::query_failed, "1105: Table 'vt_ks.t' doesn't exist (errno 1146) (sqlstate 42S02)",
       error_code::row_image_incomplete},
      {error_code::query_failed, "1235: VT12001: unsupported", error_code::row_image_incomplete},
      {error_code::credentials_refused, "1045: Access denied", error_code::row_image_incomplete},
      {error_code::response_malformed, "", error_code::row_image_incomplete},
  };
  for (const auto& c : cases) {
    const failure what = classify_lookup_failure({c.code, "It was so.", c.detail, std::nullopt}, table);
    CHECK_MESSAGE(what.code == c.becomes, c.detail);
    CHECK(what.stream == table);
    CHECK(is_retryable(what.code) == (c.becomes != error_code::row_image_incomplete));
    CHECK((what.message.find("binlog_row_image=FULL") != std::string::npos) == !is_retryable(what.code));
  }
}

TEST_CASE("a question is asked again unless the server will never answer it") {
  const auto passes = [](error_code code, const char* detail) { return may_pass({code, "It was so.", detail, std::nullopt}); };
  CHECK(passes(error_code::query_failed, "1105: target: ks.-.primary: no healthy tablet available"));
  CHECK(passes(error_code::query_failed, "1105: vttablet: rpc error: desc = operation not allowed in state SHUTTING_DOWN"));
  CHECK(passes(error_code::host_unreachable, ""));
  CHECK_FALSE(passes(error_code::query_failed, "1064: syntax error at position 5"));
  CHECK_FALSE(passes(error_code::credentials_refused, ""));
  CHECK_FALSE(passes(error_code::shard_unknown, ""));
}

// Texts of Vitess 24: the tablet's engine, and a row event of a session.
TEST_CASE("images of rows with too little are told as what the user has to change") {
  for (const char* text : {"vttablet: rpc error: code = Internal desc = minimal binlog_row_image is not supported by Vitess VReplication",
                           "partial row image encountered: ensure binlog_row_image is set to 'full'"}) {
    const failure what = classify_stream_end({13, text, false}, place);
    CHECK(what.code == error_code::row_image_incomplete);
    CHECK(what.message.find("MINIMAL") != std::string::npos);
  }
}

TEST_CASE("of a panic the message has what it says, not where") {
  const std::string trace(5000, 'x');
  const failure what = classify_stream_end({2,
                                            "persistent error in vstream for ks/-; giving up: vttablet: rpc error: code = Unknown desc = "
                                            "uncaught panic: unable to decode object elements: [192 1]\n. Stack-trace:\n/vt/src/go/rbr.go:690 " +
                                                trace,
                                            false},
                                           place);
  CHECK(what.message.find("uncaught panic: unable to decode object elements: [192 1].") != std::string::npos);
  CHECK(what.message.find("rbr.go") == std::string::npos);
}

TEST_CASE("no tablet is a matter of configuration only where nothing was read before") {
  stream_place fresh = place;
  fresh.has_position = false;
  fresh.tablet = tablet_type::replica;
  CHECK(classify_stream_end({1, "failed to find a REPLICA tablet for VStream in ks/-", false}, fresh).code ==
        error_code::tablet_type_missing);
  // A shard has a primary, or gets one.
  fresh.tablet = tablet_type::primary;
  const auto failing_over = classify_stream_end({1, "failed to find a PRIMARY tablet for VStream in ks/-", false}, fresh);
  CHECK(failing_over.code == error_code::stream_broken);
  CHECK(failing_over.message.find("use_replica") == std::string::npos);
}

TEST_CASE("a host may be called anything") {
  const auto end = classify_stream_end({14, "DNS resolution failed for ssl.example:443: Domain name not found", false}, place);
  CHECK(end.code == error_code::host_unreachable);
}

TEST_CASE("the back-off begins with a second, outlives a failover in three, keeps below a minute and is spread by half") {
  using std::chrono::milliseconds;
  CHECK(retry_delay(1, 0.0) == milliseconds(500));
  CHECK(retry_delay(1, 1.0) == milliseconds(1000));
  CHECK(retry_delay(3, 1.0) == milliseconds(36000));
  CHECK(retry_delay(4, 1.0) == milliseconds(60000));
  CHECK(retry_delay(1000000, 1.0) == milliseconds(60000));
}

TEST_CASE("long server texts are cut to their end in the message, and kept whole as detail") {
  const std::string text = std::string(5000, 'x') + " the cause";
  const failure what = classify_stream_end({2, text, false}, place);
  CHECK(what.message.size() < 1000);
  CHECK(what.message.find("the cause") != std::string::npos);
  CHECK(what.detail == text);
}

TEST_CASE("a long text of a server is cut between two words, from its beginning") {
  stream_place place;
  place.shard = {keyspace_name("ks"), shard_name("-80")};
  const std::string long_text = std::string(300, 'a') + " Geheimnis" + std::string(590, 'b') + " the cause";
  const auto told = classify_stream_end({2, long_text, false}, place);
  CHECK(told.message.find("… the cause.") != std::string::npos);
  CHECK(told.message.find("eimnis") == std::string::npos);
  CHECK(told.message.find('b') == std::string::npos);
  CHECK(classify_stream_end({2, std::string(2000, 'c'), false}, place).message.find("ended with: ….") != std::string::npos);
}
