// What the sync tests share: a small table, a fake clock, sessions over scripted bytes.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include <rapidjson/document.h>

#include "protocol/mapping/record_encoder.hpp"
#include "sync/stream_session.hpp"

namespace psource::testing {

class fake_clock final : public sync_clock {
 public:
  std::int64_t wall_milliseconds() const override { return wall; }
  std::int64_t server_microseconds() const override { return server; }
  std::int64_t wall = 1'700'000'000'000;
  std::int64_t server = 1'700'000'000'000'000;
};

inline table_definition simple_table(const std::string& name, const std::string& keyspace = "ks") {
  table_definition table;
  table.id = {keyspace_name(keyspace), table_name(name)};
  table.columns.push_back({"id", "bigint", false, "", "", false, false});
  table.columns.push_back({"v", "varchar(20)", true, "utf8mb4", "utf8mb4_0900_ai_ci", false, false});
  table.primary_key = {"id"};
  table.copy_order = {"id"};
  return table;
}

inline session_table session_table_of(stream_index stream, const table_definition& table,
                                      std::vector<std::string> selected = {"id", "v", "_ab_cdc_updated_at",
                                                                           "_ab_cdc_deleted_at", "_ab_cdc_cursor"}) {
  auto shape = std::make_shared<stream_shape>();
  shape->id = table.id;
  shape->table = table;
  shape->selected = std::move(selected);
  session_table result;
  result.stream = stream;
  result.shape = std::move(shape);
  return result;
}

/// A RECORD line, taken apart.
struct told_record {
  std::string stream;
  std::string id;
  std::string v;
  bool deleted = false;
  std::int64_t cursor = 0;
};

inline std::vector<told_record> records_in(const std::string& lines) {
  std::vector<told_record> records;
  for (std::size_t at = 0; at < lines.size();) {
    const auto end = lines.find('\n', at);
    rapidjson::Document document;
    document.Parse<rapidjson::kParseNumbersAsStringsFlag>(lines.substr(at, end - at).c_str());
    at = end + 1;
    const auto& data = document["record"]["data"];
    told_record record;
    record.stream = document["record"]["stream"].GetString();
    record.id = data["id"].GetString();
    if (data.HasMember("v") && data["v"].IsString()) record.v = data["v"].GetString();
    record.deleted = data.HasMember("_ab_cdc_deleted_at") && !data["_ab_cdc_deleted_at"].IsNull();
    if (data.HasMember("_ab_cdc_cursor")) record.cursor = std::stoll(data["_ab_cdc_cursor"].GetString());
    records.push_back(record);
  }
  return records;
}

/// "1=a 2=b 1x": the records in order, deletes with an x.
inline std::string told(const std::string& lines) {
  std::string text;
  for (const auto& record : records_in(lines))
    text += (text.empty() ? "" : " ") + record.id + (record.deleted ? "x" : "=" + record.v);
  return text;
}

inline response_buffer buffer(std::string bytes) { return std::make_shared<const whole_response>(std::move(bytes)); }

inline gtid_set gtids(const std::string& text) { return *gtid_set::parse_position(text); }

inline const std::string server = "MySQL56/00000000-0000-0000-0000-000000000001:";

}  // namespace psource::testing
