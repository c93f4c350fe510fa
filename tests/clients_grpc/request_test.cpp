// The bytes of a VStream request, read back with Protobuf.
#include "protocol/vitess/request.hpp"

#include <doctest/doctest.h>

#include "vtgate.pb.h"

using namespace psource;

namespace {

std::string lastpk_of(const std::string& value) {
  query::QueryResult result;
  auto* field = result.add_fields();
  field->set_name("id");
  field->set_type(query::INT64);
  auto* row = result.add_rows();
  row->add_lengths(static_cast<std::int64_t>(value.size()));
  row->set_values(value);
  return result.SerializeAsString();
}

vtgate::VStreamRequest read_back(const stream_request& request) {
  const auto bytes = serialize(request);
  REQUIRE(bytes.has_value());
  vtgate::VStreamRequest out;
  REQUIRE(out.ParseFromString(*bytes));
  return out;
}

}  // namespace

TEST_CASE("a request with everything") {
  stream_request request;
  request.keyspace = keyspace_name("commerce");
  request.type = tablet_type::rdonly;
  request.cells = "zone1,zone2";
  request.tables = {table_name("orders"), table_name("odd`name")};
  request.shards = {
      {shard_name("-80"), "", {{table_name("orders"), ""}, {table_name("odd`name"), lastpk_of("17")}}},
      {shard_name("80-"), "MySQL56/a:1-5", {}},
  };
  const vtgate::VStreamRequest out = read_back(request);
  CHECK(out.tablet_type() == topodata::RDONLY);
  REQUIRE(out.vgtid().shard_gtids_size() == 2);
  const auto& first = out.vgtid().shard_gtids(0);
  CHECK(first.keyspace() == "commerce");
  CHECK(first.shard() == "-80");
  CHECK(first.gtid().empty());
  REQUIRE(first.table_p_ks_size() == 2);
  CHECK(first.table_p_ks(0).table_name() == "orders");
  CHECK_FALSE(first.table_p_ks(0).has_lastpk());
  CHECK(first.table_p_ks(1).lastpk().SerializeAsString() == lastpk_of("17"));
  CHECK(out.vgtid().shard_gtids(1).gtid() == "MySQL56/a:1-5");
  CHECK(out.vgtid().shard_gtids(1).table_p_ks_size() == 0);
  REQUIRE(out.filter().rules_size() == 2);
  CHECK(out.filter().rules(0).match() == "orders");
  CHECK(out.filter().rules(0).filter() == "select * from `orders`");
  CHECK(out.filter().rules(1).match() == "odd`name");
  CHECK(out.filter().rules(1).filter() == "select * from `odd``name`");
  CHECK(out.flags().heartbeat_interval() == 5);
  CHECK(out.flags().cells() == "zone1,zone2");

  // Nothing else is ever set.
  vtgate::VStreamFlags expected;
  expected.set_heartbeat_interval(5);
  expected.set_cells("zone1,zone2");
  expected.set_exclude_keyspace_from_table_name(true);
  CHECK(out.flags().SerializeAsString() == expected.SerializeAsString());
}

TEST_CASE("no tables means no rows, and a heartbeat is never off") {
  stream_request request;
  request.keyspace = keyspace_name("k");
  request.shards = {{shard_name("-"), "current", {}}};
  request.heartbeat = std::chrono::seconds(0);
  const vtgate::VStreamRequest out = read_back(request);
  REQUIRE(out.filter().rules_size() == 1);
  CHECK(out.filter().rules(0).match() == "/^$/");
  CHECK(out.flags().heartbeat_interval() == 1);
}

TEST_CASE("a table that Vitess would take for a pattern is refused, with its name") {
  for (const char* name : {"/orders/", "/x", "/.*", ""}) {
    stream_request request;
    request.keyspace = keyspace_name("k");
    request.tables = {table_name("good"), table_name(name)};
    const auto bytes = serialize(request);
    REQUIRE_FALSE(bytes.has_value());
    CHECK(bytes.error().code == error_code::table_missing);
    CHECK(bytes.error().stream == stream_id{keyspace_name("k"), table_name(name)});
    CHECK_FALSE(can_be_streamed(table_name(name)));
  }
  CHECK(can_be_streamed(table_name("a/b/")));
}

TEST_CASE("a lastpk that cannot be used is refused") {
  query::QueryResult no_fields;
  no_fields.add_rows()->set_values("1");
  query::QueryResult no_row;
  no_row.add_fields()->set_name("id");
  for (const std::string& bad :
       {std::string("\xff\xff"), no_fields.SerializeAsString(), no_row.SerializeAsString()}) {
    stream_request request;
    request.keyspace = keyspace_name("k");
    request.shards = {{shard_name("-80"), "", {{table_name("t"), bad}}}};
    const auto bytes = serialize(request);
    REQUIRE_FALSE(bytes.has_value());
    CHECK(bytes.error().code == error_code::state_invalid);
    CHECK(bytes.error().stream == stream_id{keyspace_name("k"), table_name("t")});
  }
}
