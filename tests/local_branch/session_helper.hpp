// Drives a vstream_session without a transport.
#pragma once

#include <chrono>
#include <map>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "grammar.hpp"
#include "local_branch/rows.hpp"
#include "local_branch/stream.hpp"
#include "local_branch/truth.hpp"

namespace session_helper {

using psource::local_branch::branch;
using psource::local_branch::byte_buffer;
using psource::local_branch::stream_options;
using psource::local_branch::vstream_session;

class driver {
 public:
  driver(const branch& source, const vtgate::VStreamRequest& request, stream_options options = {})
      : session_(source, request, std::move(options), begin_) {}

  /// Takes responses until there is nothing to send (or, if given, until there are so many).
  grammar::responses take(std::size_t most = static_cast<std::size_t>(-1)) {
    grammar::responses out;
    byte_buffer buffer;
    while (out.size() < most) {
      last_step = session_.produce(buffer, begin_ + waited);
      if (last_step != vstream_session::step::response) break;
      if (!out.emplace_back().ParseFromArray(buffer.data(), static_cast<int>(buffer.size())))
        throw std::runtime_error("a response that cannot be parsed");
    }
    return out;
  }

  vstream_session& session() { return session_; }
  vstream_session::step last_step = vstream_session::step::idle;
  std::chrono::seconds waited{0};

 private:
  const vstream_session::clock::time_point begin_ = vstream_session::clock::now();
  vstream_session session_;
};

inline void add_rule(vtgate::VStreamRequest& request, const std::string& table) {
  auto* rule = request.mutable_filter()->add_rules();
  rule->set_match(table);
  rule->set_filter("select * from `" + table + "`");
}

inline binlogdata::ShardGtid& add_shard(vtgate::VStreamRequest& request, const std::string& keyspace,
                                        const std::string& shard, const std::string& gtid) {
  auto* entry = request.mutable_vgtid()->add_shard_gtids();
  entry->set_keyspace(keyspace);
  entry->set_shard(shard);
  entry->set_gtid(gtid);
  return *entry;
}

/// A seeded copy of the tables from one or more shards.
inline vtgate::VStreamRequest copy_request(const std::string& keyspace,
                                           const std::vector<std::string>& shards,
                                           const std::vector<std::string>& tables) {
  vtgate::VStreamRequest request;
  request.set_tablet_type(topodata::PRIMARY);
  for (const auto& shard : shards) {
    auto& entry = add_shard(request, keyspace, shard, "");
    for (const auto& table : tables) entry.add_table_p_ks()->set_table_name(table);
  }
  for (const auto& table : tables) add_rule(request, table);
  request.mutable_flags()->set_exclude_keyspace_from_table_name(true);
  return request;
}

/// What a destination would hold: rows by shard, table and key (the first column), upserted and deleted.
class folder {
 public:
  void take(const grammar::responses& all) {
    for (const auto& response : all)
      for (const auto& event : response.events()) take(event);
  }
  void take(const binlogdata::VEvent& event) {
    if (event.type() == binlogdata::VGTID) vgtid = event.vgtid();
    if (event.type() != binlogdata::ROW) return;
    for (const auto& change : event.row_event().row_changes()) {
      ++changes;
      if (change.has_before()) rows.erase(key(event, change.before()));
      if (change.has_after()) rows[key(event, change.after())] = change.after().SerializeAsString();
    }
  }
  std::map<std::string, std::string> rows;
  binlogdata::VGtid vgtid;
  std::size_t changes = 0;

 private:
  static std::string key(const binlogdata::VEvent& event, const query::Row& row) {
    const auto values = psource::local_branch::read_row(row.SerializeAsString());
    if (!values || values->empty() || !values->front()) throw std::runtime_error("a row that cannot be read");
    return event.shard() + "/" + event.row_event().table_name() + "/" + *values->front();
  }
};

/// The same of the branch's serving shards.
inline std::map<std::string, std::string> truth_of(const psource::local_branch::keyspace& ks) {
  std::map<std::string, std::string> out;
  byte_buffer buffer;
  for (const auto* s : ks.serving_shards()) {
    std::shared_lock lock(s->mutex());
    for (std::size_t t = 0; t < ks.tables().size(); ++t) {
      const auto& table = ks.tables()[t];
      const std::size_t ddls = s->ddls_of(t, s->log_size());
      s->scan(t, s->log_size(), 0, [&](std::int64_t id, std::uint32_t version) {
        out[s->name() + "/" + table.schema.name + "/" + std::to_string(id)] =
            s->make_row(buffer, t, ddls, id, version, psource::local_branch::row_text::mysql);
        return true;
      });
    }
  }
  return out;
}

}  // namespace session_helper
