// Partial row images as MySQL writes them and Vitess passes them on.
#include "local_branch/row_images.hpp"

#include <rapidjson/document.h>
#include <rapidjson/stringbuffer.h>
#include <rapidjson/writer.h>

#include <algorithm>

namespace psource::local_branch {
namespace {

// Numbers of query.Type.
constexpr std::int32_t type_text = 6163;
constexpr std::int32_t type_blob = 10260;
constexpr std::int32_t type_json = 2078;

/// MySQL's NOBLOB means these two and no other type: JSON, GEOMETRY and VECTOR are always written.
bool is_blob(const column& c) { return c.type == type_text || c.type == type_blob; }
bool is_json(const column& c) { return c.type == type_json; }

bool in_primary_key(const table_schema& table, std::size_t number) {
  return std::find(table.primary_key.begin(), table.primary_key.end(), number) != table.primary_key.end();
}

class bitmap {
 public:
  explicit bitmap(std::size_t count) : count_(count), bytes_((count + 7) / 8, '\0') {}
  void set(std::size_t i) { bytes_[i / 8] = static_cast<char>(bytes_[i / 8] | (1 << (i % 8))); }
  bool any() const { return bytes_.find_first_not_of('\0') != std::string::npos; }
  void append_to(byte_buffer& out, std::uint32_t field) const {
    byte_buffer body;
    body.number(1, count_);
    body.text(2, bytes_);
    out.bytes(field, body.view());
  }

 private:
  std::size_t count_;
  std::string bytes_;
};

/// A scalar as Vitess writes it into an expression; nullopt for arrays and objects.
std::optional<std::string> scalar_expression(const rapidjson::Value& value) {
  const auto quoted = [](const std::string& text) {
    std::string out = "_utf8mb4'";
    for (const char c : text) {
      if (c == '\'' || c == '\\') out += '\\';
      out += c;
    }
    return out + "'";
  };
  if (value.IsString())
    return "CAST(JSON_QUOTE(" + quoted({value.GetString(), value.GetStringLength()}) + ") as JSON)";
  if (value.IsNull()) return "CAST(_utf8mb4'null' as JSON)";
  if (value.IsBool())
    return std::string("CAST(_utf8mb4'") + (value.GetBool() ? "true" : "false") + "' as JSON)";
  if (!value.IsNumber()) return std::nullopt;
  rapidjson::StringBuffer text;
  rapidjson::Writer<rapidjson::StringBuffer> writer(text);
  value.Accept(writer);
  return "CAST(" + std::string(text.GetString()) + " as JSON)";
}

/// The new document as changes of the old one, "" when they are equal; nullopt where only the whole document
/// will do.
std::optional<std::string> json_changes(const std::string& before, const std::string& after) {
  if (before == after) return "";
  rapidjson::Document a, b;
  if (a.Parse(before).HasParseError() || b.Parse(after).HasParseError()) return std::nullopt;
  std::string out = "%s";
  const auto wrap = [&out](const char* function, const std::string& path, const std::string& value) {
    out = std::string(function) + "(" + out + ", _utf8mb4'" + path + "'" +
          (value.empty() ? "" : ", " + value) + ")";
  };
  if (a.IsArray() && b.IsArray()) {
    if (b.Size() != a.Size() + 1 || !std::equal(a.Begin(), a.End(), b.Begin())) return std::nullopt;
    const auto value = scalar_expression(b[b.Size() - 1]);
    if (!value) return std::nullopt;
    wrap("JSON_INSERT", "$[" + std::to_string(a.Size()) + "]", *value);
    return out;
  }
  if (!a.IsObject() || !b.IsObject()) return std::nullopt;
  for (const auto& member : a.GetObject()) {
    const auto now = b.FindMember(member.name);
    const std::string path = std::string("$.") + member.name.GetString();
    if (now == b.MemberEnd()) {
      wrap("JSON_REMOVE", path, "");
    } else if (now->value != member.value) {
      const auto value = scalar_expression(now->value);
      if (!value) return std::nullopt;
      wrap("JSON_REPLACE", path, *value);
    }
  }
  for (const auto& member : b.GetObject()) {
    if (a.HasMember(member.name)) continue;
    const auto value = scalar_expression(member.value);
    if (!value) return std::nullopt;
    wrap("JSON_INSERT", std::string("$.") + member.name.GetString(), *value);
  }
  return out;
}

}  // namespace

bool row_image_options::apply_to(const table_schema& table) const {
  return std::any_of(table.columns.begin(), table.columns.end(), [this](const column& c) {
    return (noblob && is_blob(c)) || (partial_json && is_json(c));
  });
}

void append_row_change(byte_buffer& out, const table_schema& table, const row_values* before,
                       const row_values* after, const row_image_options& options) {
  byte_buffer row;
  const std::size_t count = table.columns.size();
  if (before != nullptr) {
    row_values shown = *before;
    // What does not identify the row is not written, changed or not. A table without a key is identified by
    // everything.
    for (std::size_t i = 0; i < count && i < shown.size(); ++i)
      if (options.noblob && !table.primary_key.empty() && is_blob(table.columns[i]) &&
          !in_primary_key(table, i))
        shown[i].reset();
    append_row(row, shown);
    out.bytes(1, row.view());
  }
  if (after == nullptr) return;
  row_values shown = *after;
  bitmap present(count);
  bitmap partial(
      static_cast<std::size_t>(std::count_if(table.columns.begin(), table.columns.end(), is_json)));
  bool left_out = false;
  std::size_t json = 0;
  for (std::size_t i = 0; i < count && i < shown.size(); ++i) {
    const column& c = table.columns[i];
    const bool unchanged = before != nullptr && (*before)[i] == (*after)[i];
    if (options.noblob && unchanged && is_blob(c) && !in_primary_key(table, i)) {
      shown[i].reset();
      left_out = true;
      continue;
    }
    present.set(i);
    if (!is_json(c)) continue;
    if (options.partial_json && before != nullptr && (*before)[i] && shown[i]) {
      if (auto changes = json_changes(*(*before)[i], *shown[i])) {
        shown[i] = std::move(*changes);
        partial.set(json);
      }
    }
    ++json;
  }
  row.clear();
  append_row(row, shown);
  out.bytes(2, row.view());
  if (left_out || partial.any()) present.append_to(out, 3);
  if (partial.any()) partial.append_to(out, 4);
}

}  // namespace psource::local_branch
