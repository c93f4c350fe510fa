// What the MySQL port answers to the questions of a source.
#include <doctest/doctest.h>

#include "local_branch/sql_answers.hpp"

using namespace psource::local_branch;

namespace {

using rows = std::vector<std::vector<std::optional<std::string>>>;

mysql_result ask(const sql_answers& answers, const std::string& sql, const std::string& target = "") {
  auto reply = answers.answer(target, sql);
  if (const auto* error = std::get_if<mysql_error>(&reply)) FAIL(error->message);
  return std::get<mysql_result>(std::move(reply));
}

unsigned error_of(const sql_answers& answers, const std::string& sql, const std::string& target = "") {
  const auto reply = answers.answer(target, sql);
  const auto* error = std::get_if<mysql_error>(&reply);
  return error == nullptr ? 0 : error->code;
}

}  // namespace

TEST_CASE("shards, keyspaces and tablets are listed") {
  branch b(1);
  b.add("ks", 2);
  b.add("other", std::size_t{1});
  const sql_answers answers(b, {1, 2});
  const auto shards = ask(answers, "  show\n Vitess_Shards ;");
  CHECK(shards.columns == std::vector<std::string>{"Shards"});
  CHECK(shards.rows == rows{{"ks/-80"}, {"ks/80-"}, {"other/-"}});
  CHECK(ask(answers, "SHOW VITESS_KEYSPACES").rows == rows{{"ks"}, {"other"}});
  const auto tablets = ask(answers, "show vitess_tablets");
  REQUIRE(tablets.rows.size() == 6);
  CHECK(tablets.columns.size() == 8);
  CHECK(tablets.rows[1][3] == "REPLICA");
  CHECK(tablets.rows[0][5] != tablets.rows[1][5]);
  CHECK(error_of(answers, "show vitess_shards", "ks/-80") == 1064);
}

TEST_CASE("positions are those of the shard that the session chose") {
  branch b(1);
  keyspace& ks = *b.add("ks", 2);
  const sql_answers answers(b, {1});
  const std::string question = "select @@global.gtid_purged, @@global.gtid_executed";
  for (const std::string target : {"ks/80-", "ks:80-@replica", "ks:80-"}) {
    const auto reply = ask(answers, question, target);
    CHECK(reply.rows == rows{{"", ks.shards()[1]->sources()[0] + ":1"}});
  }
  CHECK(error_of(answers, question, "ks") == 1105);
  CHECK(error_of(answers, question) == 1105);
  CHECK(answers.known_target("ks"));
  CHECK(answers.known_target("ks@primary"));
  CHECK(answers.known_target("ks:-80@replica"));
  CHECK(answers.known_target("ks/-40"));
  CHECK_FALSE(answers.known_target("nope"));
  CHECK_FALSE(answers.known_target(""));
}

TEST_CASE("a shard that does not serve has no tablet for SQL, whatever it is asked") {
  branch b(1);
  keyspace& ks = *b.add("ks", 2);
  ks.add_sbtest_tables(1, 10);
  const auto split = ks.plan_reshard({"-80"}, {"-40", "40-80"}, true);
  REQUIRE(split);
  const sql_answers answers(b, {1, 2});
  const auto refusal = [&answers](const std::string& target, const std::string& sql) {
    const auto reply = answers.answer(target, sql);
    const auto* error = std::get_if<mysql_error>(&reply);
    return error == nullptr ? std::string() : std::to_string(error->code) + " " + error->message;
  };
  const std::string row = "select 0, `id` from `sbtest1` where `id` = 1";
  const std::string none =
      "1105 target: ks.-40.primary: no healthy tablet available for 'keyspace:\"ks\" shard:\"-40\" tablet_type:PRIMARY'";
  CHECK(refusal("ks/-40", row) == none);
  CHECK(refusal("ks/-80", row).empty());
  REQUIRE(ks.reshard(**split));
  CHECK(refusal("ks/-40", row).empty());
  for (const std::string& sql :
       {row, std::string("select @@global.gtid_purged, @@global.gtid_executed"), std::string("select 1"),
        std::string("show vitess_shards")})
    CHECK(refusal("ks:-80@replica", sql) ==
          "1105 target: ks.-80.replica: no healthy tablet available for 'keyspace:\"ks\" shard:\"-80\" "
          "tablet_type:REPLICA'");
  CHECK(refusal("ks/nosuch", "select 1").find("no healthy tablet") != std::string::npos);
  CHECK(ask(answers, "show vitess_shards").rows == rows{{"ks/80-"}, {"ks/-40"}, {"ks/40-80"}});
}

TEST_CASE("information_schema tells tables, columns and keys") {
  branch b(1);
  keyspace& ks = *b.add("ks", 2);
  ks.add_sbtest_tables(2, 1000);
  ks.add_internal_tables();
  const sql_answers answers(b, {1});
  const auto columns =
      ask(answers,
          "SELECT t.table_name, t.table_rows AS estimate, c.column_name, c.ordinal_position, c.COLUMN_TYPE, "
          "c.is_nullable, c.character_set_name, c.extra FROM information_schema.tables t JOIN "
          "information_schema.columns c ON c.table_schema = t.table_schema AND c.table_name = t.table_name "
          "WHERE t.table_schema = 'ks' AND t.table_type = 'BASE TABLE' ORDER BY 1, 4");
  REQUIRE(columns.columns.size() == 8);
  CHECK(columns.columns[1] == "estimate");
  // _vt_…, sbtest1, sbtest2, sbtest_seq
  REQUIRE(columns.rows.size() == 15);
  CHECK(columns.rows[0][0]->rfind("_vt_hld_", 0) == 0);
  CHECK(columns.rows[4] == rows::value_type{"sbtest1", "500", "id", "1", "bigint", "NO", std::nullopt, ""});
  CHECK(columns.rows[6] == rows::value_type{"sbtest1", "500", "c", "3", "char(120)", "NO", "utf8mb4", ""});
  const auto keys = ask(
      answers,
      "select table_name,index_name,non_unique,seq_in_index,column_name,nullable from "
      "information_schema.statistics where table_schema='ks' order by table_name, index_name, seq_in_index");
  CHECK(keys.rows[2] == rows::value_type{"sbtest1", "PRIMARY", "0", "1", "id", ""});
  CHECK(keys.rows[3] == rows::value_type{"sbtest1", "k_1", "1", "1", "k", ""});
  const auto tables = ask(answers,
                          "select TABLE_NAME, table_type, table_comment from information_schema.tables where "
                          "table_schema = 'ks'");
  CHECK(tables.columns[0] == "TABLE_NAME");
  REQUIRE(tables.rows.size() == 5);
  CHECK(tables.rows[3] == rows::value_type{"sbtest_seq", "BASE TABLE", "vitess_sequence"});
  CHECK(tables.rows[4] == rows::value_type{"sbtest_view", "VIEW", "VIEW"});
  CHECK(ask(answers, "select table_name from information_schema.tables where table_schema = 'none'")
            .rows.empty());
  CHECK(error_of(answers, "select nonsense from information_schema.tables where table_schema = 'ks'") ==
        1054);
  CHECK(error_of(answers, "select table_name from information_schema.tables") == 1235);
}

TEST_CASE("the few other questions are answered, and nothing else is") {
  branch b(1);
  const sql_answers answers(b, {1});
  CHECK(ask(answers, "select 1").rows == rows{{"1"}});
  const auto now = ask(answers, "SELECT utc_timestamp(6)").rows[0][0];
  REQUIRE(now);
  CHECK(now->size() == 26);
  CHECK(now->at(19) == '.');
  CHECK(error_of(answers, "select * from sbtest1") == 1235);
  CHECK(error_of(answers, "") == 1235);
  CHECK(error_of(answers, "select 1", "nope") == 1049);
  CHECK(error_of(answers, "select 'unterminated") == 1235);
  CHECK(error_of(answers, "select from information_schema.tables where table_schema = 'x'") == 1235);
}
