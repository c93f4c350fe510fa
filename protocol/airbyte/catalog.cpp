// Writes discovered catalogs and reads configured ones.
#include "protocol/airbyte/catalog.hpp"

#include <cmath>
#include <set>

#include "protocol/airbyte/json_text.hpp"

namespace psource {
namespace {

// Reads one entry of `streams`; `place` says which, until its name is known.
class stream_reader {
 public:
  stream_reader(std::string place, const std::vector<keyspace_name>& keyspaces)
      : place_(std::move(place)), keyspaces_(keyspaces) {}

  result<configured_stream> read(const rapidjson::Value& entry) {
    if (!entry.IsObject()) return wrong("must be an object, but is " + std::string(kind_of(entry)));
    const auto* stream = find_member(entry, "stream");
    if (stream == nullptr) return wrong("lacks the key `stream`");
    if (!stream->IsObject())
      return wrong("must have an object as `stream`, but it is " + std::string(kind_of(*stream)));
    if (auto named = read_names(*stream); !named) return fail(std::move(named.error()));
    if (auto read = read_modes(entry); !read) return fail(std::move(read.error()));
    if (auto read = read_fields(entry, *stream); !read) return fail(std::move(read.error()));
    if (auto read = read_properties(*stream); !read) return fail(std::move(read.error()));
    return std::move(found_);
  }

 private:
  using nothing = result<void>;

  tl::unexpected<failure> wrong(const std::string& what) const {
    auto error =
        fail(error_code::catalog_invalid, "The configured catalog is invalid: " + place_ + " " + what + ".");
    if (!found_.id.table.empty() && !found_.id.keyspace.empty()) error.value().stream = found_.id;
    return error;
  }

  nothing read_names(const rapidjson::Value& stream) {
    const auto* name = find_member(stream, "name");
    if (name == nullptr) return wrong("lacks the key `stream.name`");
    if (!name->IsString() || name->GetStringLength() == 0)
      return wrong("must have a name as `stream.name`, but it is " +
                   std::string(name->IsString() ? "empty" : kind_of(*name)));
    found_.id.table = table_name(text_of(*name));
    place_ = "stream \"" + found_.id.table.str() + "\"";
    const auto* space = find_member(stream, "namespace");
    if (space != nullptr && !space->IsString())
      return wrong("must have a text as `stream.namespace`, but it is " + std::string(kind_of(*space)));
    if (space != nullptr && space->GetStringLength() != 0) {
      found_.id.keyspace = keyspace_name(text_of(*space));
    } else if (keyspaces_.size() == 1) {
      found_.id.keyspace = keyspaces_.front();
    } else {
      return wrong(
          "lacks the key `stream.namespace`, which tells the keyspace where `database` names several");
    }
    place_ = "stream \"" + found_.id.to_string() + "\"";
    return {};
  }

  nothing read_modes(const rapidjson::Value& entry) {
    const auto* mode = find_member(entry, "sync_mode");
    if (mode == nullptr) return wrong("lacks the key `sync_mode`");
    if (!mode->IsString())
      return wrong("must have a text as `sync_mode`, but it is " + std::string(kind_of(*mode)));
    if (text_of(*mode) == "full_refresh")
      found_.mode = sync_mode::full_refresh;
    else if (text_of(*mode) == "incremental")
      found_.mode = sync_mode::incremental;
    else
      return wrong("has the unknown `sync_mode` \"" + std::string(text_of(*mode).substr(0, 80)) +
                   "\"; full_refresh and incremental are known");
    if (const auto* destination = find_member(entry, "destination_sync_mode")) {
      if (!destination->IsString())
        return wrong("must have a text as `destination_sync_mode`, but it is " +
                     std::string(kind_of(*destination)));
      found_.destination_sync_mode = std::string(text_of(*destination));
    }
    return {};
  }

  nothing read_fields(const rapidjson::Value& entry, const rapidjson::Value& stream) {
    if (auto read = path(entry, "cursor_field", "cursor_field", found_.cursor_field); !read) return read;
    if (auto read = paths(entry, "primary_key", "primary_key", found_.primary_key); !read) return read;
    if (auto read =
            path(stream, "default_cursor_field", "stream.default_cursor_field", found_.default_cursor_field);
        !read)
      return read;
    if (auto read = paths(stream, "source_defined_primary_key", "stream.source_defined_primary_key",
                          found_.source_defined_primary_key);
        !read)
      return read;
    if (auto read = number(entry, "generation_id", found_.generation_id); !read) return read;
    if (auto read = number(entry, "minimum_generation_id", found_.minimum_generation_id); !read) return read;
    return number(entry, "sync_id", found_.sync_id);
  }

  nothing path(const rapidjson::Value& object, const char* key, const std::string& name,
               std::vector<std::string>& into) const {
    const auto* value = find_member(object, key);
    return value == nullptr ? nothing() : texts(*value, name, into);
  }

  nothing paths(const rapidjson::Value& object, const char* key, const std::string& name,
                std::vector<std::vector<std::string>>& into) const {
    const auto* value = find_member(object, key);
    if (value == nullptr) return {};
    if (!value->IsArray())
      return wrong("must have a list of lists as `" + name + "`, but it is " + kind_of(*value));
    for (const auto& entry : value->GetArray()) {
      if (auto read = texts(entry, name, into.emplace_back()); !read) return read;
    }
    return {};
  }

  nothing texts(const rapidjson::Value& value, const std::string& name,
                std::vector<std::string>& into) const {
    if (!value.IsArray())
      return wrong("must have a list of field names as `" + name + "`, but has " + kind_of(value));
    for (const auto& entry : value.GetArray()) {
      if (!entry.IsString())
        return wrong("must have field names in `" + name + "`, but has " + kind_of(entry));
      into.emplace_back(text_of(entry));
    }
    return {};
  }

  nothing number(const rapidjson::Value& object, const char* key, std::optional<std::int64_t>& into) const {
    const auto* value = find_member(object, key);
    if (value == nullptr) return {};
    if (value->IsInt64())
      into = value->GetInt64();
    else if (value->IsDouble() && std::abs(value->GetDouble()) < 1e15 &&
             std::floor(value->GetDouble()) == value->GetDouble())
      into = static_cast<std::int64_t>(value->GetDouble());
    else
      return wrong("must have a whole number as `" + std::string(key) + "`, but it is " +
                   (value->IsNumber() ? to_json(*value) : std::string(kind_of(*value))));
    return {};
  }

  nothing read_properties(const rapidjson::Value& stream) {
    const auto* schema = find_member(stream, "json_schema");
    if (schema == nullptr) return wrong("lacks the key `stream.json_schema`");
    if (!schema->IsObject())
      return wrong("must have an object as `stream.json_schema`, but it is " + std::string(kind_of(*schema)));
    const auto* properties = find_member(*schema, "properties");
    found_.declares_properties = properties != nullptr;
    if (properties == nullptr) return {};
    if (!properties->IsObject())
      return wrong("must have an object as `stream.json_schema.properties`, but it is " +
                   std::string(kind_of(*properties)));
    std::set<std::string_view> names;
    for (const auto& property : properties->GetObject()) {
      if (names.insert(text_of(property.name)).second)
        found_.properties.push_back({std::string(text_of(property.name)), to_json(property.value)});
    }
    return {};
  }

  std::string place_;
  const std::vector<keyspace_name>& keyspaces_;
  configured_stream found_;
};

void append_name_list(std::string& out, const std::vector<std::string>& names, bool as_paths) {
  out += '[';
  for (std::size_t i = 0; i < names.size(); ++i) {
    if (i != 0) out += ',';
    if (as_paths) out += '[';
    append_json_string(out, names[i]);
    if (as_paths) out += ']';
  }
  out += ']';
}

}  // namespace

std::string catalog_json(const std::vector<discovered_stream>& streams) {
  std::string out = R"({"streams":[)";
  for (const auto& stream : streams) {
    if (out.back() != '[') out += ',';
    out += R"({"name":)";
    append_json_string(out, stream.id.table.str());
    out += R"(,"namespace":)";
    append_json_string(out, stream.id.keyspace.str());
    out += R"(,"json_schema":)" + stream.json_schema +
           R"(,"supported_sync_modes":["full_refresh","incremental"],"source_defined_cursor":true,)"
           R"("default_cursor_field":)";
    append_name_list(out,
                     stream.cursor_field.empty() ? std::vector<std::string>()
                                                 : std::vector<std::string>{stream.cursor_field},
                     false);
    out += R"(,"source_defined_primary_key":)";
    append_name_list(out, stream.primary_key, true);
    out += stream.is_resumable ? R"(,"is_resumable":true})" : R"(,"is_resumable":false})";
  }
  return out + "]}";
}

const char* to_string(sync_mode mode) {
  return mode == sync_mode::incremental ? "incremental" : "full_refresh";
}

declared_type declared_type_of(std::string_view schema) {
  declared_type out;
  const auto document = parse_json(schema, error_code::catalog_invalid, "a property");
  if (!document) return out;
  const auto text = [&](const char* key) {
    const auto* value = find_member(*document, key);
    return value != nullptr && value->IsString() ? std::string(text_of(*value)) : std::string();
  };
  const auto add = [&](const rapidjson::Value& type) {
    if (type.IsString() && text_of(type) != "null") out.types.emplace_back(text_of(type));
  };
  if (const auto* type = find_member(*document, "type")) {
    add(*type);
    if (type->IsArray())
      for (const auto& each : type->GetArray()) add(each);
  }
  out.format = text("format");
  out.airbyte_type = text("airbyte_type");
  out.content_encoding = text("contentEncoding");
  return out;
}

const declared_property* configured_stream::find(std::string_view name) const {
  for (const auto& property : properties)
    if (property.name == name) return &property;
  return nullptr;
}

result<std::vector<configured_stream>> parse_configured_catalog(std::string_view json_text,
                                                                const std::vector<keyspace_name>& keyspaces) {
  const auto document = parse_json(json_text, error_code::catalog_invalid, "the configured catalog");
  if (!document) return fail(document.error());
  const auto* streams = find_member(*document, "streams");
  if (streams == nullptr || !streams->IsArray())
    return fail(error_code::catalog_invalid,
                "The configured catalog is invalid: it must be an object with a list as `streams`.");
  std::vector<configured_stream> found;
  std::set<stream_id> ids;
  for (const auto& entry : streams->GetArray()) {
    auto stream =
        stream_reader("entry " + std::to_string(found.size() + 1) + " of `streams`", keyspaces).read(entry);
    if (!stream) return fail(std::move(stream.error()));
    if (!ids.insert(stream->id).second) {
      auto twice = fail(error_code::catalog_invalid, "The configured catalog is invalid: stream \"" +
                                                         stream->id.to_string() + "\" is in it twice.");
      twice.value().stream = stream->id;
      return twice;
    }
    found.push_back(std::move(*stream));
  }
  return found;
}

}  // namespace psource
