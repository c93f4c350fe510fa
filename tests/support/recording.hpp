// Reads recorded streams (tests/data/recordings/README.md): each response is a varint length and a VStreamResponse.
#pragma once

#include <zlib.h>

#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

namespace psource::testing {

/// All responses of a recording, by its name without ending. Reads NAME.vstream or NAME.vstream.gz.
inline std::vector<std::string> read_recording(const std::string& name) {
  const std::string base = std::string(PSOURCE_TEST_DATA) + "/recordings/" + name + ".vstream";
  // zlib passes files through that are not compressed.
  gzFile file = gzopen(base.c_str(), "rb");
  if (file == nullptr) file = gzopen((base + ".gz").c_str(), "rb");
  if (file == nullptr) throw std::runtime_error("no recording " + base);
  std::string bytes;
  char buffer[65536];
  for (int got = 0; (got = gzread(file, buffer, sizeof(buffer))) > 0;) bytes.append(buffer, static_cast<std::size_t>(got));
  gzclose(file);
  std::vector<std::string> responses;
  for (std::size_t at = 0; at < bytes.size();) {
    std::uint64_t size = 0;
    for (unsigned shift = 0;; shift += 7) {
      const auto byte = static_cast<unsigned char>(bytes.at(at++));
      size |= static_cast<std::uint64_t>(byte & 0x7f) << shift;
      if (byte < 0x80) break;
    }
    if (at + size > bytes.size()) throw std::runtime_error("recording " + name + " is cut off");
    responses.push_back(bytes.substr(at, size));
    at += size;
  }
  return responses;
}

/// The names of all recordings.
inline std::vector<std::string> recording_names() {
  return {"charsets_generated",          "copy_then_dml_unsharded",       "current_on_old_shard",
          "current_peek",                "ddl_midstream",                 "failover_planned_primary",
          "large_transactions",          "reshard_split_journal_flag",    "reshard_split_one_shard_stream",
          "reshard_split_stop_on_reshard", "resume_merged_one",           "resume_old_shard_after_split",
          "resume_old_shard_past_switch", "sharded_copy_full",            "sharded_stream"};
}

}  // namespace psource::testing
