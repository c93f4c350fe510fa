// Builds VStream responses for tests, in the field's words: begin(), field(...), row(...), vgtid(...), commit().
#pragma once

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "vtgate.pb.h"

namespace psource::testing {

using row_values = std::vector<std::optional<std::string>>;

/// Gathers events of one shard into responses.
class event_script {
 public:
  explicit event_script(std::string keyspace = "ks", std::string shard = "-")
      : keyspace_(std::move(keyspace)), shard_(std::move(shard)) {}

  event_script& begin(std::int64_t timestamp = 0) { return add(binlogdata::BEGIN, timestamp); }
  event_script& commit(std::int64_t timestamp = 0) { return add(binlogdata::COMMIT, timestamp); }
  event_script& other() { return add(binlogdata::OTHER, 0); }
  event_script& ddl() { return add(binlogdata::DDL, 0); }
  event_script& rollback() { return add(binlogdata::ROLLBACK, 0); }
  event_script& statement_dml() { return add(binlogdata::UPDATE, 0); }
  event_script& heartbeat() {
    auto* event = response_.add_events();
    event->set_type(binlogdata::HEARTBEAT);
    return *this;
  }
  event_script& copy_completed(bool whole_stream = false) {
    auto* event = response_.add_events();
    event->set_type(binlogdata::COPY_COMPLETED);
    if (!whole_stream) {
      event->set_keyspace(keyspace_);
      event->set_shard(shard_);
    }
    return *this;
  }
  /// Columns "id" (bigint, primary key) and "v" (varchar, utf8mb4).
  event_script& field(const std::string& table) {
    add(binlogdata::FIELD, 0);
    auto* field_event = last()->mutable_field_event();
    field_event->set_table_name(table);
    field_event->set_keyspace(keyspace_);
    field_event->set_shard(shard_);
    auto* id = field_event->add_fields();
    id->set_name("id");
    id->set_type(query::INT64);
    id->set_column_type("bigint");
    id->set_charset(63);
    id->set_flags(2 | 1);
    auto* v = field_event->add_fields();
    v->set_name("v");
    v->set_type(query::VARCHAR);
    v->set_column_type("varchar(20)");
    v->set_charset(255);
    return *this;
  }
  event_script& row(const std::string& table, std::optional<row_values> before, std::optional<row_values> after,
                    std::int64_t timestamp = 0) {
    add(binlogdata::ROW, timestamp);
    auto* row_event = last()->mutable_row_event();
    row_event->set_table_name(table);
    row_event->set_keyspace(keyspace_);
    row_event->set_shard(shard_);
    auto* change = row_event->add_row_changes();
    if (before) fill(change->mutable_before(), *before);
    if (after) fill(change->mutable_after(), *after);
    return *this;
  }
  event_script& insert(const std::string& table, const std::string& id, const std::string& v, std::int64_t timestamp = 0) {
    return row(table, std::nullopt, row_values{id, v}, timestamp);
  }
  /// `unfinished`: table → lastpk value, "" = not begun.
  event_script& vgtid(const std::string& gtid, std::vector<std::pair<std::string, std::string>> unfinished = {}) {
    return vgtid_of({{shard_, gtid}}, std::move(unfinished));
  }
  /// Several shards; `unfinished` belongs to each of them.
  event_script& vgtid_of(const std::vector<std::pair<std::string, std::string>>& shards,
                         const std::vector<std::pair<std::string, std::string>>& unfinished = {}) {
    add(binlogdata::VGTID, 0);
    for (const auto& [shard, gtid] : shards) {
      auto* entry = last()->mutable_vgtid()->add_shard_gtids();
      entry->set_keyspace(keyspace_);
      entry->set_shard(shard);
      entry->set_gtid(gtid);
      for (const auto& [table, key] : unfinished) {
        auto* progress = entry->add_table_p_ks();
        progress->set_table_name(table);
        if (key.empty()) continue;
        auto* lastpk = progress->mutable_lastpk();
        auto* field = lastpk->add_fields();
        field->set_name("id");
        field->set_type(query::INT64);
        fill(lastpk->add_rows(), row_values{key});
      }
    }
    return *this;
  }
  event_script& shard(std::string name) {
    shard_ = std::move(name);
    return *this;
  }

  binlogdata::VEvent* last() { return response_.mutable_events(response_.events_size() - 1); }

  /// The events so far as one serialized response; starts the next.
  std::string take() {
    std::string bytes = response_.SerializeAsString();
    response_.Clear();
    return bytes;
  }

  static void fill(query::Row* row, const row_values& values) {
    for (const auto& value : values) {
      row->add_lengths(value ? static_cast<std::int64_t>(value->size()) : -1);
      if (value) row->mutable_values()->append(*value);
    }
  }

 private:
  event_script& add(binlogdata::VEventType type, std::int64_t timestamp) {
    auto* event = response_.add_events();
    event->set_type(type);
    event->set_timestamp(timestamp);
    event->set_keyspace(keyspace_);
    event->set_shard(shard_);
    return *this;
  }

  std::string keyspace_;
  std::string shard_;
  vtgate::VStreamResponse response_;
};

}  // namespace psource::testing
