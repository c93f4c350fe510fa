// all_types against the streams of a real Vitess that its values were taken from.
#include <doctest/doctest.h>

#include "grammar.hpp"
#include "local_branch/all_types.hpp"
#include "session_helper.hpp"

using namespace psource::local_branch;
using namespace session_helper;

namespace {

/// Field and value texts of a column, by type and column_type, for each phase.
struct seen {
  std::map<std::string, std::set<std::string>> fields;
  std::map<std::string, std::set<std::string>> copy, binlog;
};

seen look(const grammar::responses& all, const std::string& table, bool names) {
  seen out;
  std::vector<std::string> keys;
  for (const auto& response : all) {
    for (const auto& event : response.events()) {
      if (event.type() == binlogdata::FIELD && event.field_event().table_name() == table) {
        keys.clear();
        for (const auto& field : event.field_event().fields()) {
          const std::string key = std::to_string(field.type()) + " " + field.column_type() + " " +
                                  std::to_string(field.charset());
          keys.push_back(names ? field.name() : key);
          out.fields[keys.back()].insert(std::to_string(field.flags() & ~0xd203u) + " " +
                                         std::to_string(field.column_length()) + " " +
                                         std::to_string(field.decimals()));
        }
      }
      if (event.type() != binlogdata::ROW || event.row_event().table_name() != table) continue;
      for (const auto& change : event.row_event().row_changes()) {
        const auto values = read_row(change.after().SerializeAsString());
        if (!values) continue;
        for (std::size_t i = 0; i < values->size(); ++i)
          if ((*values)[i])
            (event.timestamp() == 0 ? out.copy : out.binlog)[keys.at(i)].insert(*(*values)[i]);
      }
    }
  }
  return out;
}

}  // namespace

TEST_CASE("the columns and values of all_types are those that a real Vitess sends, in both phases") {
  branch b(1);
  keyspace& ks = *b.add("unsharded", std::size_t{1});
  ks.add_table(all_types_table(20));
  driver call(b, copy_request("unsharded", {"-"}, {"all_types"}));
  auto sent = call.take();
  for (int id = 1; id <= 5; ++id) ks.shards()[0]->write(1, [&](shard::writer& w) { CHECK(w.update(0, id)); });
  const auto more = call.take();
  sent.insert(sent.end(), more.begin(), more.end());
  const auto made = look(sent, "all_types", false);

  std::size_t compared = 0;
  for (const auto& [file, table] : {std::pair{"copy_then_dml_unsharded.vstream", "alltypes"},
                                    std::pair{"charsets_generated.vstream", "charsets"}}) {
    const auto real = look(grammar::load(file), table, false);
    for (const auto& [key, fields] : real.fields) {
      const auto mine = made.fields.find(key);
      if (mine == made.fields.end()) continue;
      const std::string& what = key;
      CAPTURE(what);
      ++compared;
      if (key.find("263 int") == std::string::npos) CHECK(mine->second == fields);
      if (key.find("varchar(20) 255") != std::string::npos || key.find("263 int") != std::string::npos)
        continue;
      // The ordinary case counts its rows in the recording; it is the same text but for the digit.
      const auto contains = [&](const std::set<std::string>& all, const std::set<std::string>& some) {
        std::size_t common = 0;
        for (const auto& value : some) common += all.count(value);
        return common;
      };
      CHECK(contains(real.copy.at(key), made.copy.at(key)) >= 1);
      const auto binlog = real.binlog.find(key);
      if (binlog != real.binlog.end()) CHECK(contains(binlog->second, made.binlog.at(key)) >= 1);
      // Texts that differ between the phases in the recording differ here.
      if (key.rfind("1035", 0) == 0 || key.rfind("1036", 0) == 0 || key.rfind("18 ", 0) == 0)
        CHECK(made.copy.at(key) != made.binlog.at(key));
    }
  }
  CHECK(compared > 40);
  CHECK(made.fields.size() >= 50);
}

TEST_CASE("portable numbers differ from the others in the largest values of four columns only") {
  const auto full = all_types_table(5);
  const auto portable = all_types_table(5, type_range::portable);
  std::set<std::string> differ;
  for (const auto text : {row_text::mysql, row_text::binlog}) {
    for (std::int64_t id = 1; id <= 5; ++id) {
      std::string bytes[2];
      row_values values[2];
      const table* const made[] = {&full, &portable};
      for (std::size_t i = 0; i < 2; ++i) {
        bytes[i].resize(made[i]->rows->max_size());
        bytes[i].resize(static_cast<std::size_t>(made[i]->rows->write(bytes[i].data(), id, 0, text) - bytes[i].data()));
        const auto read = read_row(bytes[i]);
        REQUIRE(read);
        values[i] = *read;
      }
      for (std::size_t i = 0; i < full.schema.columns.size(); ++i) {
        if (values[0].at(i) == values[1].at(i)) continue;
        CHECK(id == 1);
        differ.insert(full.schema.columns[i].name);
      }
    }
  }
  CHECK(differ == std::set<std::string>{"c_bigint_u", "c_bit64", "c_double", "c_float"});
}
