// What discovery reads out of the MySQL port's answers, without a network.
#include "clients/discovery.hpp"

#include <doctest/doctest.h>

#include <map>
#include <string>
#include <vector>

using namespace psource;

namespace {

using row = std::vector<std::optional<std::string_view>>;

mysql_rows table_of(std::size_t width, const std::vector<row>& rows) {
  mysql_rows out(std::vector<std::string>(width, "COLUMN"));
  // What is not given is NULL.
  for (row r : rows) {
    r.resize(width);
    out.add(r);
  }
  return out;
}

mysql_rows columns_answer(const std::vector<row>& rows) { return table_of(11, rows); }
mysql_rows indexes_answer(const std::vector<row>& rows) { return table_of(6, rows); }

row column(std::string_view table, std::string_view name, std::string_view type,
           std::string_view nullable = "NO", std::string_view extra = "", std::string_view key = "") {
  return {table, "BASE TABLE", "10", "", name, type, nullable, std::nullopt, std::nullopt, extra, key};
}

row index(std::string_view table, std::string_view name, std::string_view non_unique,
          std::string_view position, std::optional<std::string_view> column, std::string_view nullable = "") {
  return {table, name, non_unique, position, column, nullable};
}

table_definition only_table(const mysql_rows& columns, const mysql_rows& indexes, std::size_t shards = 1) {
  auto tables = assemble_tables(keyspace_name("ks"), columns, indexes, shards);
  REQUIRE(tables.has_value());
  REQUIRE(tables->size() == 1);
  return tables->front();
}

/// Answers statements from a script and remembers what it was asked.
class scripted_port final : public mysql_port {
 public:
  std::map<std::string, std::vector<result<mysql_rows>>> answers;
  std::vector<std::string> asked;

  result<mysql_rows> query(const std::string& sql) override {
    asked.push_back(sql);
    auto found = answers.find(sql);
    if (found == answers.end() || found->second.empty()) return mysql_rows{};
    auto answer = found->second.front();
    found->second.erase(found->second.begin());
    return answer;
  }
  result<void> use(const std::string& target) override {
    asked.push_back("USE " + target);
    return {};
  }
};

}  // namespace

TEST_CASE("shards are split at the first slash and told once") {
  const auto shards =
      parse_shards(table_of(1, {{"ks/-80"}, {"ks/80-"}, {"other/-"}, {"ks/-80"}, {"odd/a/b"}, {"plain/0"}}));
  REQUIRE(shards.has_value());
  std::string all;
  for (const auto& shard : *shards) all += shard.keyspace.str() + "|" + shard.shard.str() + " ";
  CHECK(all == "ks|-80 ks|80- other|- odd|a/b plain|0 ");

  for (const std::optional<std::string_view> odd :
       {std::optional<std::string_view>{}, {"no slash"}, {"/x"}, {"x/"}, {""}}) {
    const auto wrong = parse_shards(table_of(1, {{odd}}));
    REQUIRE_FALSE(wrong.has_value());
    CHECK(wrong.error().code == error_code::response_malformed);
  }
  CHECK_FALSE(parse_shards(mysql_rows{}).has_value());
  CHECK(parse_shards(table_of(1, {}))->empty());
}

TEST_CASE("tablets are read by position") {
  const auto tablets = parse_tablets(table_of(
      8, {{"zone1", "ks", "-80", "PRIMARY", "SERVING", "zone1-100", "host", std::nullopt},
          {"zone1", "ks", "-80", "EXPERIMENTAL", std::nullopt, std::nullopt, std::nullopt, std::nullopt}}));
  REQUIRE(tablets.has_value());
  REQUIRE(tablets->size() == 2);
  CHECK(tablets->at(0).cell == "zone1");
  CHECK(tablets->at(0).keyspace == keyspace_name("ks"));
  CHECK(tablets->at(0).shard == shard_name("-80"));
  CHECK(tablets->at(0).type == "PRIMARY");
  CHECK(tablets->at(0).state == "SERVING");
  CHECK(tablets->at(1).type == "EXPERIMENTAL");
  CHECK(tablets->at(1).state.empty());
  CHECK_FALSE(parse_tablets(table_of(4, {})).has_value());
}

TEST_CASE("columns come with type, nullability, character set, generated and invisible") {
  const auto table = only_table(
      columns_answer({
          {"t", "BASE TABLE", "7", "", "id", "bigint unsigned", "NO", std::nullopt, std::nullopt,
           "auto_increment"},
          {"t", "BASE TABLE", "7", "", "name", "varchar(20)", "YES", "latin1", "latin1_swedish_ci", ""},
          {"t", "BASE TABLE", "7", "", "v", "int", "YES", std::nullopt, std::nullopt, "VIRTUAL GENERATED"},
          {"t", "BASE TABLE", "7", "", "s", "int", "YES", std::nullopt, std::nullopt,
           "STORED GENERATED INVISIBLE"},
          {"t", "BASE TABLE", "7", "", "d", "timestamp", "NO", std::nullopt, std::nullopt,
           "DEFAULT_GENERATED on update CURRENT_TIMESTAMP"},
          {"t", "BASE TABLE", "7", "", "w", "weird_type(3,4)", std::nullopt, std::nullopt, std::nullopt,
           std::nullopt},
          {"t", "BASE TABLE", "7", "", "n", std::nullopt, "NO", std::nullopt, std::nullopt, "invisible"},
      }),
      indexes_answer({}), 4);
  CHECK(table.id == stream_id{keyspace_name("ks"), table_name("t")});
  CHECK(table.row_estimate == std::uint64_t{28});
  REQUIRE(table.columns.size() == 7);
  CHECK(table.columns[0].column_type == "bigint unsigned");
  CHECK_FALSE(table.columns[0].nullable);
  CHECK(table.columns[0].character_set.empty());
  CHECK(table.columns[1].nullable);
  CHECK(table.columns[1].character_set == "latin1");
  CHECK(table.columns[1].collation == "latin1_swedish_ci");
  CHECK_FALSE(table.columns[1].generated);
  CHECK(table.columns[2].generated);
  CHECK_FALSE(table.columns[2].invisible);
  CHECK(table.columns[3].generated);
  CHECK(table.columns[3].invisible);
  CHECK_FALSE(table.columns[4].generated);
  CHECK(table.columns[5].column_type == "weird_type(3,4)");
  CHECK(table.columns[5].nullable);
  CHECK(table.columns[6].column_type.empty());
  CHECK(table.columns[6].invisible);
  CHECK(table.primary_key.empty());
  CHECK(table.copy_order.empty());
}

TEST_CASE("row estimates: absent, odd and too large ones") {
  const auto estimate = [](std::optional<std::string_view> guess, std::size_t shards) {
    return only_table(columns_answer({{"t", "BASE TABLE", guess, "", "id", "int", "NO", std::nullopt,
                                       std::nullopt, ""}}),
                      indexes_answer({}), shards)
        .row_estimate;
  };
  CHECK(estimate(std::nullopt, 2) == std::nullopt);
  CHECK(estimate("many", 2) == std::nullopt);
  CHECK(estimate("-1", 2) == std::nullopt);
  CHECK(estimate("", 2) == std::nullopt);
  CHECK(estimate("3", 0) == std::uint64_t{3});
  CHECK(estimate("18446744073709551615", 2) == std::uint64_t{18446744073709551615u});
}

TEST_CASE("views, sequences and internal tables are left out, look-alikes stay") {
  const auto tables = assemble_tables(
      keyspace_name("ks"),
      columns_answer({
          {"a_view", "VIEW", std::nullopt, "VIEW", "id", "int", "NO", std::nullopt, std::nullopt, ""},
          {"seq", "BASE TABLE", "1", "vitess_sequence", "id", "bigint", "NO", std::nullopt, std::nullopt, ""},
          {"untyped", std::nullopt, "1", "", "id", "bigint", "NO", std::nullopt, std::nullopt, ""},
          column("_vt_hld_6ace8bcef73211ea87e9f875a4d24e90_20200915120410_", "id", "int"),
          column("my_vt_table", "id", "int"),
          column("_vt_hold", "id", "int"),
          column("x_vrepl", "id", "int"),
          column("sequence", "id", "int"),
      }),
      indexes_answer({}), 1);
  REQUIRE(tables.has_value());
  std::string names;
  for (const auto& table : *tables) names += table.id.table.str() + " ";
  CHECK(names == "_vt_hold my_vt_table sequence x_vrepl ");
}

TEST_CASE("primary keys come in key order, whatever the order of the rows") {
  const auto table = only_table(
      columns_answer({column("t", "a", "int"), column("t", "b", "varchar(3)"), column("t", "c", "int")}),
      indexes_answer({index("t", "PRIMARY", "0", "10", "b"), index("t", "PRIMARY", "0", "9", "c"),
                      index("t", "other", "0", "1", "a"), index("t", "PRIMARY", "0", "11", "a")}));
  CHECK(table.primary_key == std::vector<std::string>{"c", "b", "a"});
  CHECK(table.copy_order == table.primary_key);
}

TEST_CASE("without a primary key rows are told apart by the unique key that MySQL takes in its place") {
  const auto identity = [](const char* a, const char* b, const std::vector<row>& indexes) {
    const auto table = only_table(columns_answer({column("t", "a", "int", "NO", "", a), column("t", "b", "int", "NO", "", b),
                                                  column("t", "n", "int", "YES", "", "UNI")}),
                                  indexes_answer(indexes));
    return table.identity;
  };
  using names = std::vector<std::string>;
  const row n = index("t", "n", "0", "1", "n", "YES");
  CHECK(identity("PRI", "", {index("t", "u", "0", "1", "a"), n}) == names{"a"});
  CHECK(identity("PRI", "PRI", {index("t", "u", "0", "1", "b"), index("t", "u", "0", "2", "a"), n}) == names{"b", "a"});
  // Several would serve: the server says which one it has taken.
  CHECK(identity("UNI", "PRI", {index("t", "u", "0", "1", "a"), index("t", "v", "0", "1", "b")}) == names{"b"});
  // It takes none of a part of a column.
  CHECK(identity("UNI", "", {index("t", "u", "0", "1", "a")}).empty());
  CHECK(identity("", "", {}).empty());
  CHECK(identity("PRI", "UNI", {index("t", "PRIMARY", "0", "1", "a"), index("t", "u", "0", "1", "b")}) == names{"a"});
}

TEST_CASE("without a primary key a copy goes by the unique key that Vitess takes") {
  const auto columns = columns_answer({column("t", "big", "bigint"), column("t", "tiny", "tinyint(1)"),
                                       column("t", "name", "varchar(9)"), column("t", "n", "int", "YES")});
  const auto order = [&](const std::vector<row>& indexes) {
    const auto table = only_table(columns, indexes_answer(indexes));
    CHECK(table.primary_key.empty());
    return table.copy_order;
  };
  using names = std::vector<std::string>;
  CHECK(order({index("t", "u", "0", "1", "name")}) == names{"name"});
  CHECK(order({index("t", "not_unique", "1", "1", "big")}).empty());
  CHECK(order({index("t", "nullable", "0", "1", "n", "YES")}).empty());
  // One part that can be NULL spoils the whole key.
  CHECK(order({index("t", "u", "0", "1", "big"), index("t", "u", "0", "2", "n", "YES")}).empty());
  // The cheapest types win, not the first name and not the fewest columns.
  CHECK(order({index("t", "a", "0", "1", "name"), index("t", "b", "0", "1", "big"),
               index("t", "b", "0", "2", "tiny")}) == names{"big", "tiny"});
  CHECK(order({index("t", "a", "0", "1", "big"), index("t", "b", "0", "1", "tiny")}) == names{"tiny"});
  // A key over an expression cannot be written as columns.
  CHECK(order({index("t", "f", "0", "1", std::nullopt), index("t", "f", "0", "2", "tiny")}).empty());
}

TEST_CASE("odd rows: repeated ones are taken once, unusable ones are errors") {
  const auto table =
      only_table(columns_answer({column("t", "a", "int"), column("t", "a", "int"), column("t", "b", "int")}),
                 indexes_answer({index("t", "PRIMARY", "0", "1", "a"),
                                 index("t", "PRIMARY", "0", "1", "a"),
                                 index("elsewhere", "PRIMARY", "0", "1", "z"),
                                 index("t", "k", "0", "first", "b"),
                                 {std::nullopt, "k", "0", "1", "b", ""}}));
  CHECK(table.columns.size() == 2);
  CHECK(table.primary_key == std::vector<std::string>{"a"});

  const auto code = [](const mysql_rows& columns, const mysql_rows& indexes) {
    const auto tables = assemble_tables(keyspace_name("ks"), columns, indexes, 1);
    REQUIRE_FALSE(tables.has_value());
    CHECK(tables.error().message.find("ks") != std::string::npos);
    return tables.error().code;
  };
  row nameless = column("t", "a", "int");
  nameless[0] = std::nullopt;
  CHECK(code(columns_answer({nameless}), indexes_answer({})) == error_code::response_malformed);
  nameless = column("t", "a", "int");
  nameless[4] = std::nullopt;
  CHECK(code(columns_answer({nameless}), indexes_answer({})) == error_code::response_malformed);
  CHECK(code(table_of(9, {}), indexes_answer({})) == error_code::response_malformed);
  CHECK(code(columns_answer({}), table_of(5, {})) == error_code::response_malformed);
  CHECK(code(mysql_rows{}, mysql_rows{}) == error_code::response_malformed);
  CHECK(code(columns_answer({column("t", "a", "int")}),
             indexes_answer({index("t", "PRIMARY", "0", "1", "gone")})) == error_code::response_malformed);
}

TEST_CASE("names go into statements quoted") {
  CHECK(quote_sql_text("it's \\ fine") == "'it''s \\\\ fine'");
  CHECK(quote_sql_text(std::string_view("\0", 1)) == "'\\0'");
  CHECK(quote_sql_name("a`b") == "`a``b`");
  const auto sql = columns_query(keyspace_name("k'; DROP"));
  CHECK(sql.find("t.table_schema = 'k''; DROP' AND c.table_schema = 'k''; DROP'") != std::string::npos);
  CHECK(indexes_query(keyspace_name("k'")).find("table_schema = 'k'''") != std::string::npos);
}

TEST_CASE("a keyspace costs two statements, and four more only when vtgate cuts an answer off") {
  const keyspace_name ks("ks");
  scripted_port port;
  port.answers[columns_query(ks)] = {columns_answer({column("t", "id", "int")})};
  port.answers[indexes_query(ks)] = {indexes_answer({index("t", "PRIMARY", "0", "1", "id")})};
  auto tables = list_tables(port, ks, 2);
  REQUIRE(tables.has_value());
  CHECK(tables->size() == 1);
  CHECK(port.asked == std::vector<std::string>{columns_query(ks), indexes_query(ks)});

  port = scripted_port{};
  const auto cut =
      fail(error_code::query_failed, "…",
           "1105: target: ks.-.primary: vttablet: rpc error: code = Aborted desc = Row count exceeded 10000");
  port.answers[columns_query(ks)] = {cut, columns_answer({column("t", "id", "int")})};
  port.answers[indexes_query(ks)] = {indexes_answer({})};
  tables = list_tables(port, ks, 2);
  REQUIRE(tables.has_value());
  CHECK(port.asked == std::vector<std::string>{columns_query(ks), "SET workload = 'olap'", columns_query(ks),
                                               "SET workload = 'oltp'", indexes_query(ks)});

  port = scripted_port{};
  port.answers[columns_query(ks)] = {fail(error_code::query_failed, "…", "1064: syntax error")};
  CHECK(list_tables(port, ks, 2).error().detail == "1064: syntax error");
  CHECK(port.asked.size() == 1);
}

TEST_CASE("the server's clock") {
  CHECK(parse_utc_timestamp("1970-01-01 00:00:00.000000") == 0);
  CHECK(parse_utc_timestamp("1970-01-01 00:00:01") == 1'000'000);
  CHECK(parse_utc_timestamp("2026-11-23 08:30:00.123456") == 1'795'422'600'123'456);
  CHECK(parse_utc_timestamp("2024-02-29 23:59:59.5") == 1'709'251'199'500'000);
  CHECK(parse_utc_timestamp("2000-03-01 00:00:00") == 951'868'800'000'000);
  for (const char* const wrong :
       {"", "now", "2026-11-23", "2026-11-23T08:30:00", "2026-13-01 00:00:00", "2026-00-01 00:00:00",
        "2026-01-32 00:00:00", "2026-01-01 24:00:00", "2026-01-01 00:60:00", "2026-01-01 00:00:00.",
        "2026-01-01 00:00:00.1234567", "2026-01-01 00:00:00x", "2026-01-01 00:00:00.12a"}) {
    CAPTURE(wrong);
    CHECK_FALSE(parse_utc_timestamp(wrong).has_value());
  }
  scripted_port port;
  port.answers["SELECT utc_timestamp(6)"] = {table_of(1, {{"1970-01-01 00:00:02.000001"}}), table_of(1, {}),
                                             table_of(1, {{std::nullopt}})};
  CHECK(server_clock_micros(port) == 2'000'001);
  CHECK_FALSE(server_clock_micros(port).has_value());
  CHECK_FALSE(server_clock_micros(port).has_value());
}

TEST_CASE("a round trip is timed by answers, and is not known without one") {
  scripted_port port;
  const auto answer = table_of(1, {{"1"}});
  const result<mysql_rows> refused = fail(error_code::query_failed, "…", "1105: no");
  port.answers["SELECT 1"] = {answer, answer, answer, refused, answer, refused};
  REQUIRE(round_trip(port).has_value());
  CHECK(port.asked.size() == 3);
  CHECK_FALSE(round_trip(port).has_value());
  CHECK_FALSE(round_trip(port).has_value());
}

TEST_CASE("positions are asked of the shard's tablet, and the session leaves the shard again") {
  const shard_id shard{keyspace_name("ks"), shard_name("-80")};
  const std::string question = "SELECT @@global.gtid_purged, @@global.gtid_executed";
  scripted_port port;
  port.answers[question] = {table_of(2, {{"", "uuid1:1-5,\nuuid2:1-7,\r\nuuid3:1"}}),
                            fail(error_code::query_failed, "no"), table_of(2, {{std::nullopt, "x"}}),
                            table_of(2, {})};
  const auto positions = shard_positions(port, shard, tablet_type::replica);
  REQUIRE(positions.has_value());
  CHECK(positions->purged.empty());
  CHECK(positions->executed == "uuid1:1-5,uuid2:1-7,uuid3:1");
  CHECK(port.asked == std::vector<std::string>{"USE ks:-80@replica", question, "USE ks"});

  CHECK(shard_positions(port, shard, tablet_type::primary).error().code == error_code::query_failed);
  CHECK(port.asked.at(3) == "USE ks:-80@primary");
  CHECK(port.asked.back() == "USE ks");
  CHECK(shard_positions(port, shard, tablet_type::rdonly).error().code == error_code::response_malformed);
  CHECK(port.asked.at(6) == "USE ks:-80@rdonly");
  CHECK(shard_positions(port, shard, tablet_type::primary).error().code == error_code::response_malformed);
}

TEST_CASE("rows keep NULL, empty and missing values apart") {
  mysql_rows rows({"a", "b", "c"});
  rows.add({"x", std::nullopt, ""});
  rows.add({"y"});
  rows.add({"1", "2", "3", "4"});
  CHECK(rows.size() == 3);
  CHECK(rows.at(0, 0) == std::string_view("x"));
  CHECK(rows.at(0, 1) == std::nullopt);
  CHECK(rows.at(0, 2) == std::string_view(""));
  CHECK(rows.at(1, 0) == std::string_view("y"));
  CHECK(rows.at(1, 2) == std::nullopt);
  CHECK(rows.at(2, 2) == std::string_view("3"));
  CHECK(rows.at(2, 3) == std::nullopt);
  CHECK(rows.at(3, 0) == std::nullopt);
  CHECK(mysql_rows{}.size() == 0);
}
