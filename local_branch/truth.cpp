// The truth about a branch.
#include "local_branch/truth.hpp"

#include <cstring>
#include <fstream>
#include <limits>
#include <map>

#include "local_branch/replay.hpp"
#include "protocol/base64.hpp"

namespace psource::local_branch {
namespace {

bool is_utf8(std::string_view text) {
  for (std::size_t i = 0; i < text.size();) {
    const auto lead = static_cast<unsigned char>(text[i]);
    const std::size_t more = lead < 0x80                   ? 0
                             : lead >= 0xc2 && lead < 0xe0 ? 1
                             : lead >= 0xe0 && lead < 0xf0 ? 2
                             : lead >= 0xf0 && lead < 0xf5 ? 3
                                                           : 9;
    if (more == 9 || i + more >= text.size()) return false;
    std::uint32_t value = more == 0 ? lead : lead & (0x3fu >> more);
    for (std::size_t k = 1; k <= more; ++k) {
      const auto byte = static_cast<unsigned char>(text[i + k]);
      if ((byte & 0xc0) != 0x80) return false;
      value = (value << 6) | (byte & 0x3fu);
    }
    if ((more == 2 && (value < 0x800 || (value >= 0xd800 && value < 0xe000))) ||
        (more == 3 && (value < 0x10000 || value > 0x10ffff)))
      return false;
    i += more + 1;
  }
  return true;
}

void append_string(std::string& out, std::string_view text) {
  out += '"';
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (static_cast<unsigned char>(c) < 0x20) {
      constexpr const char* hex = "0123456789abcdef";
      out += "\\u00";
      out += hex[(c >> 4) & 15];
      out += hex[c & 15];
    } else {
      out += c;
    }
  }
  out += '"';
}

void append_value(std::string& out, const std::optional<std::string>& value) {
  if (!value) {
    out += "null";
  } else if (is_utf8(*value)) {
    append_string(out, *value);
  } else {
    out += "{\"base64\":\"";
    append_base64(out, *value);
    out += "\"}";
  }
}

class line_writer {
 public:
  line_writer(std::ostream& out, const shard& where, const table_schema& schema)
      : out_(out), schema_(schema) {
    head_ = "{\"keyspace\":";
    append_string(head_, where.owner().name());
    head_ += ",\"shard\":";
    append_string(head_, where.name());
    head_ += ",\"table\":";
    append_string(head_, schema.name);
    head_ += ",\"row\":{";
  }
  void write(std::string_view row) {
    const auto values = read_row(row);
    if (!values) return;
    line_ = head_;
    for (std::size_t i = 0; i < schema_.columns.size() && i < values->size(); ++i) {
      if (i > 0) line_ += ',';
      append_string(line_, schema_.columns[i].name);
      line_ += ':';
      append_value(line_, (*values)[i]);
    }
    line_ += "}}\n";
    out_ << line_;
  }

 private:
  std::ostream& out_;
  const table_schema& schema_;
  std::string head_;
  std::string line_;
};

/// The rows of a recorded table at the recording's end, by the texts of their keys.
std::map<row_values, std::string> fold(const shard& where, std::size_t t) {
  const auto& schema = where.owner().tables()[t].schema;
  std::map<row_values, std::string> rows;
  const auto key = [&](const std::string& row) {
    row_values out;
    const auto values = read_row(row);
    if (!values) return out;
    for (const auto number : schema.copy_order())
      out.push_back(number < values->size() ? (*values)[number] : std::nullopt);
    return out;
  };
  std::size_t begin = 0;
  if (const auto& recorded = where.tables()[t].recorded) {
    for (const auto& row : recorded->rows) rows[key(row)] = row;
    begin = recorded->snapshot;
  }
  for (std::size_t i = begin; i < where.log_size(); ++i) {
    const auto& recorded = where.at(i).recorded;
    if (!recorded) continue;
    for (const auto& event : recorded->events) {
      if (event.event.type() != binlogdata::ROW || event.event.row_event().table_name() != schema.name)
        continue;
      for (const auto& change : event.event.row_event().row_changes()) {
        if (change.has_before()) rows.erase(key(change.before().SerializeAsString()));
        if (!change.has_after()) continue;
        auto after = change.after().SerializeAsString();
        auto of = key(after);
        rows[std::move(of)] = std::move(after);
      }
    }
  }
  return rows;
}

}  // namespace

void write_truth(const branch& source, std::ostream& out) {
  byte_buffer buffer;
  for (const auto& [name, ks] : source.keyspaces()) {
    for (const auto& s : ks->shards()) {
      if (!s->serving) continue;
      std::shared_lock lock(s->mutex());
      for (std::size_t t = 0; t < ks->tables().size(); ++t) {
        const auto& definition = ks->tables()[t];
        const std::size_t ddls = s->ddls_of(t, s->log_size());
        line_writer lines(out, *s, definition.schema_after(ddls));
        if (ks->recorded()) {
          for (const auto& [key, row] : fold(*s, t)) lines.write(row);
        } else if (definition.rows) {
          s->scan(t, std::numeric_limits<std::size_t>::max(), 0, [&](std::int64_t id, std::uint32_t version) {
            lines.write(s->make_row(buffer, t, ddls, id, version, row_text::mysql));
            return true;
          });
        }
      }
    }
  }
}

result<void> write_truth_file(const branch& source, const std::string& file) {
  std::ofstream out(file, std::ios::binary | std::ios::trunc);
  write_truth(source, out);
  out.flush();
  if (!out) return fail(error_code::output_failed, "The truth cannot be written to " + file + ".");
  return {};
}

}  // namespace psource::local_branch
