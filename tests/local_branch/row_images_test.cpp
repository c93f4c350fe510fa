// Partial row images: which columns an update leaves out, what the bitmaps say, and the look-up of the whole
// rows.
#include <doctest/doctest.h>

#include "local_branch/all_types.hpp"
#include "local_branch/row_images.hpp"
#include "local_branch/sql_answers.hpp"
#include "protocol/vitess/row_lookup.hpp"
#include "session_helper.hpp"

using namespace psource::local_branch;
using namespace session_helper;

namespace {

table_schema notes_schema() {
  table_schema out;
  out.name = "notes";
  const auto add = [&](const char* name, std::int32_t type) {
    column c;
    c.name = name;
    c.type = type;
    out.columns.push_back(std::move(c));
  };
  add("id", 265);
  add("n", 263);
  add("t", 6163);
  add("bl", 10260);
  add("j1", 2078);
  add("g", 2077);
  add("j2", 2078);
  out.primary_key = {0};
  return out;
}

binlogdata::RowChange change_of(const row_values* before, const row_values* after,
                                row_image_options options) {
  byte_buffer bytes;
  append_row_change(bytes, notes_schema(), before, after, options);
  binlogdata::RowChange out;
  REQUIRE(out.ParseFromArray(bytes.data(), static_cast<int>(bytes.size())));
  return out;
}

row_values values_of(const query::Row& row) {
  const auto values = read_row(row.SerializeAsString());
  REQUIRE(values);
  return *values;
}

const row_values old_row{"1", "1", "text", "blob", "{\"a\": 1, \"s\": \"x\"}", "geo", "[1]"};
constexpr row_image_options noblob{true, false};
constexpr row_image_options partial_json{false, true};
constexpr row_image_options both{true, true};

}  // namespace

TEST_CASE("full images are whole and carry no bitmaps") {
  row_values now = old_row;
  now[1] = "2";
  const auto change = change_of(&old_row, &now, {});
  CHECK(values_of(change.before()) == old_row);
  CHECK(values_of(change.after()) == now);
  CHECK_FALSE(change.has_data_columns());
  CHECK_FALSE(change.has_json_partial_values());
}

TEST_CASE(
    "noblob leaves unchanged blobs and texts out of the after image, all of them out of the before image") {
  row_values now = old_row;
  now[1] = "2";
  now[3].reset();
  const auto change = change_of(&old_row, &now, noblob);
  CHECK(values_of(change.before()) ==
        row_values{"1", "1", std::nullopt, std::nullopt, "{\"a\": 1, \"s\": \"x\"}", "geo", "[1]"});
  // t is left out; bl is NULL now, which the bitmap tells apart.
  CHECK(values_of(change.after()) ==
        row_values{"1", "2", std::nullopt, std::nullopt, "{\"a\": 1, \"s\": \"x\"}", "geo", "[1]"});
  CHECK(change.data_columns().count() == 7);
  CHECK(change.data_columns().cols() == "\x7b");
  CHECK_FALSE(change.has_json_partial_values());

  row_values rewritten = now;
  rewritten[2] = "other";
  rewritten[3] = "other";
  CHECK_FALSE(change_of(&old_row, &rewritten, noblob).has_data_columns());
  CHECK(values_of(change_of(nullptr, &old_row, noblob).after()) == old_row);
  CHECK_FALSE(change_of(nullptr, &old_row, noblob).has_data_columns());
  const auto removal = change_of(&old_row, nullptr, noblob);
  CHECK_FALSE(values_of(removal.before())[2]);
  CHECK_FALSE(removal.has_after());
}

TEST_CASE("changed documents come as expressions, unchanged ones as nothing, with a bit per JSON column") {
  row_values now = old_row;
  now[4] = "{\"a\": 2, \"n\": null}";
  auto change = change_of(&old_row, &now, partial_json);
  CHECK(*values_of(change.after())[4] ==
        "JSON_INSERT(JSON_REMOVE(JSON_REPLACE(%s, _utf8mb4'$.a', CAST(2 as JSON)), _utf8mb4'$.s'), "
        "_utf8mb4'$.n', "
        "CAST(_utf8mb4'null' as JSON))");
  CHECK(*values_of(change.after())[6] == "");
  CHECK(values_of(change.before()) == old_row);
  CHECK(change.json_partial_values().count() == 2);
  CHECK(change.json_partial_values().cols() == "\x03");
  CHECK(change.data_columns().count() == 7);
  CHECK(change.data_columns().cols() == "\x7f");

  now = old_row;
  now[4] = "{\"a\": 1, \"s\": {\"deep\": true}}";  // as a whole
  now[6] = "[1, \"it's\"]";
  change = change_of(&old_row, &now, partial_json);
  CHECK(values_of(change.after())[4] == now[4]);
  CHECK(*values_of(change.after())[6] ==
        "JSON_INSERT(%s, _utf8mb4'$[1]', CAST(JSON_QUOTE(_utf8mb4'it\\'s') as JSON))");
  CHECK(change.json_partial_values().cols() == "\x02");

  row_values null_before = old_row;
  null_before[4].reset();
  null_before[6].reset();
  CHECK_FALSE(change_of(&null_before, &old_row, partial_json).has_json_partial_values());
  CHECK_FALSE(change_of(nullptr, &old_row, partial_json).has_json_partial_values());
  CHECK(change_of(&old_row, &now, both).data_columns().cols() == "\x73");
}

TEST_CASE("all_types under writes brings left-out columns, expressions and documents without change") {
  branch b(1);
  keyspace& ks = *b.add("k", std::size_t{1});
  ks.add_sbtest_tables(1, 10);
  ks.add_table(all_types_table(20));
  shard& s = *ks.shards()[0];
  stream_options options;
  options.images = both;
  auto request = copy_request("k", {}, {"sbtest1", "all_types"});
  add_shard(request, "k", "-", s.position(1));
  driver call(b, request, options);
  for (int round = 0; round < 6; ++round)
    for (int id = 1; id <= 5; ++id)
      s.write(1, [&](shard::writer& w) {
        CHECK(w.update(0, id));
        CHECK(w.update(1, id));
      });
  std::size_t left_out = 0, expressions = 0, unchanged = 0, whole = 0;
  const auto& schema = ks.tables()[1].schema;
  for (const auto& response : call.take()) {
    for (const auto& event : response.events()) {
      for (const auto& change : event.row_event().row_changes()) {
        if (event.row_event().table_name() == "sbtest1") {
          CHECK_FALSE(change.has_data_columns());
          continue;
        }
        const auto after = values_of(change.after());
        REQUIRE(after.size() == schema.columns.size());
        if (!change.has_data_columns()) {
          ++whole;
          continue;
        }
        CHECK(change.data_columns().count() == static_cast<std::int64_t>(schema.columns.size()));
        for (std::size_t i = 0; i < after.size(); ++i) {
          const bool present = (change.data_columns().cols()[i / 8] >> (i % 8)) & 1;
          const bool blob = schema.columns[i].type == 6163 || schema.columns[i].type == 10260;
          if (!blob) CHECK(present);
          if (!present) CHECK_FALSE(after[i]);
          left_out += present ? 0 : 1;
          if (schema.columns[i].type != 2078 || !change.has_json_partial_values()) continue;
          CHECK(change.json_partial_values().count() == 1);
          if (change.json_partial_values().cols() != "\x01") continue;
          ++(after[i]->empty() ? unchanged : expressions);
        }
      }
    }
  }
  CHECK(left_out > 50);
  CHECK(expressions >= 5);
  CHECK(unchanged >= 5);
  CHECK(whole >= 1);
}

TEST_CASE("the connector's look-up is answered with the rows as a copy has them") {
  branch b(3);
  keyspace& ks = *b.add("k", 2);
  ks.add_table(all_types_table(40));
  shard& s = *ks.shards()[1];
  const auto& layout = ks.layout();
  const std::int64_t updated = layout.id_in_run(1, 0), removed = layout.id_in_run(1, 1);
  s.write(1, [&](shard::writer& w) {
    for (int i = 0; i < 4; ++i) CHECK(w.update(0, updated));
    CHECK(w.remove(0, removed));
  });
  psource::row_lookup lookup;
  lookup.table = {psource::keyspace_name("k"), psource::table_name("all_types")};
  lookup.shard = psource::shard_name("80-");
  for (const auto& c : ks.tables()[0].schema.columns) lookup.columns.push_back({c.name, has_character_set(c.column_type)});
  lookup.key.push_back({"id", 265, ""});
  const std::int64_t elsewhere = layout.id_in_run(0, 0);
  for (const auto id : {removed, updated, elsewhere, std::int64_t{-5}})
    lookup.keys.push_back({std::to_string(id)});
  const auto sql = psource::lookup_query(lookup);
  REQUIRE(sql);
  const sql_answers answers(b, {1});
  auto reply = answers.answer("k/80-", *sql);
  REQUIRE(std::holds_alternative<mysql_result>(reply));
  const auto& found = std::get<mysql_result>(reply);
  CHECK(found.columns.size() == lookup.columns.size() + 1);
  REQUIRE(found.rows.size() == 1);
  CHECK(*found.rows[0][0] == "1");
  row_values row(found.rows[0].begin() + 1, found.rows[0].end());
  byte_buffer bytes;
  append_row(bytes, row);
  CHECK(truth_of(ks)["80-/all_types/" + std::to_string(updated)] == bytes.view());

  const auto code = [&](const std::string& target, const std::string& text) {
    const auto answer = answers.answer(target, text);
    const auto* error = std::get_if<mysql_error>(&answer);
    return error == nullptr ? 0u : error->code;
  };
  CHECK(code("k", *sql) == 1235);
  // A text that has to be converted is not given as if it were not.
  for (auto& column : lookup.columns) column.is_text = false;
  CHECK(code("k/80-", *psource::lookup_query(lookup)) == 1235);
  CHECK(code("k/80-", "select 0, `id` from `nosuch` where `id` = 1") == 1146);
  CHECK(code("k/80-", "select 0, `nosuch` from `all_types` where `id` = 1") == 1054);
  CHECK(code("k/80-",
             "select 0, `id` from `all_types` where `id` = 1 union all select 1, `id`, `c_int` from "
             "`all_types` where `id` = 2") == 1222);
  for (const char* text :
       {"select 0, `id` from `all_types`", "select 0, `id`", "select 0,",
        "select 0, `id` from `all_types` where `id` =", "select 0, `id` from `all_types` where `id` = x",
        "select 0, `id` from `all_types` where `id` = 1 union select 1"})
    CHECK(code("k/80-", text) == 1235);
}
