// Reduces streams to texts that can be compared: what comes in which order, whatever the values.
#pragma once

#include <google/protobuf/text_format.h>
#include <zlib.h>

#include <cstdint>
#include <fstream>
#include <map>
#include <set>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "vtgate.pb.h"

namespace grammar {

using responses = std::vector<vtgate::VStreamResponse>;

inline std::string recording(const std::string& name) {
  return std::string(PSOURCE_TEST_DATA) + "/recordings/" + name;
}

/// Reads a .vstream or .vstream.gz file.
inline responses load(const std::string& name) {
  gzFile in = gzopen(recording(name).c_str(), "rb");
  if (in == nullptr) throw std::runtime_error("no recording " + name);
  std::string bytes;
  char chunk[65536];
  for (int got = 0; (got = gzread(in, chunk, sizeof chunk)) > 0;)
    bytes.append(chunk, static_cast<std::size_t>(got));
  gzclose(in);
  responses out;
  for (std::size_t at = 0; at < bytes.size();) {
    std::size_t size = 0;
    for (unsigned shift = 0;; shift += 7) {
      const auto byte = static_cast<unsigned char>(bytes.at(at++));
      size |= static_cast<std::size_t>(byte & 0x7f) << shift;
      if (byte < 0x80) break;
    }
    if (!out.emplace_back().ParseFromString(bytes.substr(at, size)))
      throw std::runtime_error("bad recording " + name);
    at += size;
  }
  return out;
}

struct recorded_call {
  vtgate::VStreamRequest request;
  /// The line behind "# end: ".
  std::string end;
};

/// Reads the request and the end from a .txt beside a recording.
inline recorded_call load_call(const std::string& name) {
  std::ifstream in(recording(name));
  if (!in) throw std::runtime_error("no text " + name);
  std::ostringstream all;
  all << in.rdbuf();
  const std::string text = all.str();
  const auto end = text.find("\n# end: ");
  recorded_call out;
  if (!google::protobuf::TextFormat::ParseFromString(text.substr(text.find('\n'), end - text.find('\n')),
                                                     &out.request))
    throw std::runtime_error("bad request in " + name);
  out.end = text.substr(end + 8, text.find('\n', end + 8) - end - 8);
  return out;
}

struct options {
  /// Only the events of this shard, and only its entries of VGTIDs.
  std::string shard;
  /// Show what VGTIDs say of the tables of a copy: "t-" not begun, "t+" begun.
  bool progress = false;
  /// A response that looks like the one before it is left out (large transactions differ in number).
  bool fold_equal = false;
  /// Show the names of tables.
  bool tables = true;
};

/// One text per response with an event that counts; heartbeats never do. Runs of ROW events of one table are
/// one "ROW*".
inline std::vector<std::string> reduce(const responses& all, const options& how = {}) {
  std::vector<std::string> out;
  for (const auto& response : all) {
    std::string line;
    std::string last;
    for (const auto& event : response.events()) {
      if (event.type() == binlogdata::HEARTBEAT) continue;
      if (!how.shard.empty() && event.shard() != how.shard) continue;
      std::string word = binlogdata::VEventType_Name(event.type());
      if (event.type() == binlogdata::ROW) {
        word += "*";
        if (how.tables) word += "[" + event.row_event().table_name() + "]";
      }
      if (event.type() == binlogdata::FIELD && how.tables)
        word += "[" + event.field_event().table_name() +
                (event.field_event().enum_set_string_values() ? " labels]" : "]");
      if (event.type() == binlogdata::VGTID && how.progress) {
        word += "{";
        for (const auto& entry : event.vgtid().shard_gtids()) {
          if (!how.shard.empty() && entry.shard() != how.shard) continue;
          word += entry.shard() + (entry.gtid().empty()        ? " none"
                                   : entry.gtid() == "current" ? " current"
                                                               : " at");
          for (const auto& pk : entry.table_p_ks())
            word += " " + pk.table_name() + (pk.has_lastpk() ? "+" : "-");
          word += ";";
        }
        word += "}";
      }
      if (event.type() == binlogdata::ROW && word == last) continue;
      last = word;
      line += (line.empty() ? "" : " ") + word;
    }
    if (line.empty() || (how.fold_equal && !out.empty() && out.back() == line)) continue;
    out.push_back(std::move(line));
  }
  return out;
}

inline std::string join(const std::vector<std::string>& lines) {
  std::string out;
  for (const auto& line : lines) out += line + "\n";
  return out;
}

inline void collect_fields(const google::protobuf::Message& message, const std::string& prefix,
                           std::set<std::string>& out) {
  const auto* reflection = message.GetReflection();
  std::vector<const google::protobuf::FieldDescriptor*> fields;
  reflection->ListFields(message, &fields);
  for (const auto* field : fields) {
    const std::string name = prefix + field->name();
    if (field->cpp_type() != google::protobuf::FieldDescriptor::CPPTYPE_MESSAGE) {
      out.insert(name);
    } else if (field->is_repeated()) {
      for (int i = 0; i < reflection->FieldSize(message, field); ++i)
        collect_fields(reflection->GetRepeatedMessage(message, field, i), name + ".", out);
    } else {
      collect_fields(reflection->GetMessage(message, field), name + ".", out);
    }
  }
}

/// Which fields the events of each type have, apart for copy and binlog; ROW and FIELD of one table only.
inline std::map<std::string, std::set<std::string>> fields_of(const responses& all,
                                                              const std::string& table) {
  std::map<std::string, std::set<std::string>> out;
  for (const auto& response : all) {
    for (const auto& event : response.events()) {
      if (event.type() == binlogdata::ROW && event.row_event().table_name() != table) continue;
      if (event.type() == binlogdata::FIELD && event.field_event().table_name() != table) continue;
      const bool copy = event.timestamp() == 0;
      collect_fields(event, "",
                     out[(copy ? "copy " : "binlog ") + binlogdata::VEventType_Name(event.type())]);
    }
  }
  return out;
}

}  // namespace grammar
