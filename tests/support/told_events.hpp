// What the in-place decoder and Protobuf say of the same response, in one form that can be compared.
#pragma once

#include <google/protobuf/stubs/logging.h>

#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "protocol/vitess/response_decoder.hpp"
#include "vtgate.pb.h"

namespace psource::testing {

// What one decoder says of a response, as text; "malformed" where it refuses, where the lengths of a row do not add up,
// and where a bitmap's bytes do not cover its count. `alike` counts the events that next_alike() took.
inline std::string told_in_pieces(const std::vector<std::string_view>& pieces, std::size_t* alike = nullptr) {
  std::string text;
  event_reader events;
  events.begin(pieces.data(), pieces.data() + pieces.size());
  raw_event event;
  const auto tell_row = [&text](const row_view& row) {
    if (!row.present) {
      text += "-";
      return true;
    }
    value_reader values(row);
    while (values.next()) text += values.is_null() ? "N;" : std::string(values.value()) + ";";
    return values.ok();
  };
  const auto tell_change = [&](const row_change_view& change) {
    text += "[";
    if (!tell_row(change.before)) return false;
    text += ">";
    if (!tell_row(change.after)) return false;
    text += std::to_string(change.data_columns_count) + std::string(change.data_columns) + "," +
            std::to_string(change.json_partial_count) + std::string(change.json_partial_values) + "]";
    return true;
  };
  while (events.next(event)) {
    row_event_reader rows(event.row_event);
    const auto tell_head = [&] {
      text += std::to_string(static_cast<int>(event.type)) + "@" + std::to_string(event.timestamp) + " " +
              std::string(event.keyspace) + "/" + std::string(event.shard) + " " + std::string(event.statement) +
              std::string(event.event_gtid);
      if (event.row_event.data() != nullptr) text += " " + std::string(rows.table_name());
    };
    tell_head();
    row_change_view change;
    if (event.row_event.data() != nullptr) {
      while (rows.next(change))
        if (!tell_change(change)) return "malformed";
      if (!rows.ok()) return "malformed";
    }
    text += "\n";
    // As a session does it: what is like this event is not read as a whole, and its views still hold.
    while (events.next_alike(change)) {
      if (alike != nullptr) ++*alike;
      tell_head();
      if (!tell_change(change)) return "malformed";
      text += "\n";
    }
  }
  return events.ok() ? text : "malformed";
}

inline std::string told_in_place(std::string_view bytes, std::size_t* alike = nullptr) {
  return told_in_pieces({bytes}, alike);
}

// Of `size` bytes each; the last one may be shorter. Each in memory of its own, so that reading past one's end is found out.
class cut_bytes {
 public:
  cut_bytes(std::string_view bytes, std::size_t size) {
    for (std::size_t at = 0; at < bytes.size(); at += size) {
      const std::string_view part = bytes.substr(at, size);
      memory_.push_back(std::make_unique<char[]>(part.size()));
      std::memcpy(memory_.back().get(), part.data(), part.size());
      pieces.emplace_back(memory_.back().get(), part.size());
    }
  }
  std::vector<std::string_view> pieces;

 private:
  std::vector<std::unique_ptr<char[]>> memory_;
};

inline std::string told_by_protobuf(const std::string& bytes) {
  // Damaged bytes are what its callers are about: no word about them on stderr.
  const google::protobuf::LogSilencer quiet;
  vtgate::VStreamResponse response;
  if (!response.ParseFromString(bytes)) return "malformed";
  std::string text;
  bool whole = true;
  const auto tell_row = [&](const query::Row& row) {
    std::size_t at = 0;
    for (const auto length : row.lengths()) {
      if (length < 0) {
        text += "N;";
        continue;
      }
      if (at + static_cast<std::size_t>(length) > row.values().size()) {
        whole = false;
        return;
      }
      text += row.values().substr(at, static_cast<std::size_t>(length)) + ";";
      at += static_cast<std::size_t>(length);
    }
    if (at != row.values().size()) whole = false;
  };
  const auto tell_bitmap = [&](const auto& bitmap) {
    const std::int64_t count = bitmap.count();
    if (count < 0 || static_cast<std::uint64_t>(count) > std::uint64_t{bitmap.cols().size()} * 8) whole = false;
    text += std::to_string(count) + bitmap.cols();
  };
  for (const auto& event : response.events()) {
    text += std::to_string(event.type()) + "@" + std::to_string(event.timestamp()) + " " + event.keyspace() + "/" +
            event.shard() + " " + event.statement() + event.event_gtid();
    if (event.has_row_event()) {
      text += " " + event.row_event().table_name();
      for (const auto& change : event.row_event().row_changes()) {
        text += "[";
        if (change.has_before())
          tell_row(change.before());
        else
          text += "-";
        text += ">";
        if (change.has_after())
          tell_row(change.after());
        else
          text += "-";
        tell_bitmap(change.data_columns());
        text += ",";
        tell_bitmap(change.json_partial_values());
        text += "]";
      }
    }
    text += "\n";
  }
  return whole ? text : "malformed";
}

}  // namespace psource::testing
