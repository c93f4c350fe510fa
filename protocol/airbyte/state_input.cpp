// Reads saved state. Forms (docs/state.md): STREAM, GLOBAL and LEGACY messages, alone, in a list or line by
// line, with or without the envelope {"type":"STATE","state":...}, and the bare object that
// planetscale/airbyte-source left behind.
#include "protocol/airbyte/state_input.hpp"

#include "protocol/airbyte/json_text.hpp"
#include "protocol/airbyte/state_packing.hpp"
#include "protocol/base64.hpp"
#include "protocol/vitess/gtid_set.hpp"

namespace psource {
namespace {

constexpr std::size_t most_names_shown = 5;
constexpr std::size_t most_warnings = 100;
// Every later record gets a larger one, so there must be room above. Microseconds: this is beyond the year 280,000.
constexpr std::int64_t largest_cdc_cursor = 9'000'000'000'000'000'000;

void warn(std::vector<std::string>& warnings, std::string text) {
  if (warnings.size() < most_warnings) warnings.push_back(std::move(text));
}

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && text.front() == ' ') text.remove_prefix(1);
  while (!text.empty() && text.back() == ' ') text.remove_suffix(1);
  return text;
}

tl::unexpected<failure> invalid(const std::string& what) {
  return fail(error_code::state_invalid, "The saved state is invalid: " + what + ".");
}

tl::unexpected<failure> invalid(const stream_id& stream, const std::string& what) {
  auto error = invalid("that of the stream \"" + stream.to_string() + "\" " + what);
  error.value().stream = stream;
  return error;
}

std::string without_period(std::string text) {
  if (!text.empty() && text.back() == '.') text.pop_back();
  return text;
}

std::optional<std::int64_t> whole_number(const rapidjson::Value* value) {
  if (value == nullptr || !value->IsInt64()) return std::nullopt;
  return value->GetInt64();
}

// Reads the body of one stream's state.
class body_reader {
 public:
  body_reader(const stream_id& stream, std::vector<std::string>& warnings)
      : stream_(stream), warnings_(warnings) {}

  result<std::optional<saved_stream_state>> read(const rapidjson::Value& body) {
    const auto* packed = find_member(body, "packed");
    if (packed == nullptr) return read_plain(body);
    if (!packed->IsString())
      return invalid(stream_, "must have a text as `packed`, but it is " + std::string(kind_of(*packed)));
    const auto text = unpack_state(text_of(*packed));
    if (!text) return invalid(stream_, "cannot be unpacked (" + without_period(text.error().message) + ")");
    const auto document = parse_json(*text, error_code::state_invalid, "a packed state");
    if (!document)
      return invalid(stream_, "cannot be unpacked (" + without_period(document.error().message) + ")");
    return read_plain(*document);
  }

 private:
  result<std::optional<saved_stream_state>> read_plain(const rapidjson::Value& body) {
    if (!body.IsObject()) return invalid(stream_, "must be an object, but is " + std::string(kind_of(body)));
    const auto* shards = find_member(body, "shards");
    if (shards == nullptr) {
      if (!body.ObjectEmpty() && !body.HasMember("shards"))
        warn(warnings_, "The saved state of the stream \"" + stream_.to_string() +
                            "\" has no `shards` and counts as none: it is not a state of this connector.");
      return std::nullopt;
    }
    if (!shards->IsObject())
      return invalid(stream_, "must have an object as `shards`, but it is " + std::string(kind_of(*shards)));
    saved_stream_state state;
    for (const auto& entry : shards->GetObject()) {
      if (auto read = read_shard(text_of(entry.name), entry.value, state); !read)
        return fail(std::move(read.error()));
    }
    if (auto read = read_full_refresh(body, state); !read) return fail(std::move(read.error()));
    if (state.shards.empty()) return std::nullopt;
    return state;
  }

  result<void> read_shard(std::string_view key, const rapidjson::Value& value, saved_stream_state& state) {
    // planetscale/airbyte-source kept blanks and empty entries of the setting `shards`, and wrote shards of
    // other keyspaces as "keyspace/shard".
    auto name = trimmed(key);
    if (const auto slash = name.find('/'); slash != std::string_view::npos) {
      if (name.substr(0, slash) != stream_.keyspace.str()) {
        warn(warnings_, "The saved state of the stream \"" + stream_.to_string() + "\" has the shard \"" +
                            std::string(name) + "\" of another keyspace; it is ignored.");
        return {};
      }
      name = trimmed(name.substr(slash + 1));
    }
    // Written back, a name with a slash would be that of another keyspace's shard.
    if (name.empty() || name.find('/') != std::string_view::npos) {
      warn(warnings_, "The saved state of the stream \"" + stream_.to_string() + "\" has a shard without a usable name (\"" +
                          std::string(key) + "\"); it is ignored.");
      return {};
    }
    const shard_name shard(name);
    if (state.shards.count(shard) != 0) {
      warn(warnings_, "The saved state of the stream \"" + stream_.to_string() + "\" has the shard \"" +
                          shard.str() + "\" twice; \"" + std::string(key) + "\" is ignored.");
      return {};
    }
    const auto wrong = [&](const std::string& what) {
      return invalid(stream_, "has for the shard \"" + shard.str() + "\" " + what);
    };
    if (!value.IsObject() && !value.IsNull())
      return wrong(std::string(kind_of(value)) + " instead of an object");
    saved_shard saved;
    if (const auto* cursor = find_member(value, "cursor")) {
      if (!cursor->IsString()) return wrong("a `cursor` that is not a string");
      auto decoded = table_cursor::decode_base64(text_of(*cursor));
      if (!decoded && decoded.error().code == error_code::lastpk_refused && find_member(value, "cdc_cursor") == nullptr) {
        warn(warnings_, "The saved state of the stream \"" + stream_.to_string() + "\" has for the shard \"" + shard.str() +
                            "\" a half copy of planetscale/airbyte-source with an unusable last key; like all of them, it starts "
                            "over.");
        decoded = table_cursor{};
      }
      if (!decoded) return wrong("an unusable `cursor` (" + without_period(decoded.error().message) + ")");
      saved.cursor = std::move(*decoded);
    }
    // The short form of packed states: the cursor's parts, of which the place tells shard and keyspace.
    if (const auto* at = find_member(value, "position")) {
      if (!at->IsString()) return wrong("a `position` that is not a string");
      saved.cursor.position = std::string(text_of(*at));
    }
    if (const auto* key_bytes = find_member(value, "last_known_pk")) {
      auto bytes = key_bytes->IsString() ? decode_base64(text_of(*key_bytes))
                                         : result<std::string>(fail(error_code::state_invalid, ""));
      if (!bytes) return wrong("a `last_known_pk` that is not base64");
      saved.cursor.last_known_pk = std::move(*bytes);
      // Through the cursor's own codec, which refuses keys that servers choke on.
      auto checked = table_cursor::decode_base64(saved.cursor.encode_base64());
      if (!checked)
        return wrong("an unusable `last_known_pk` (" + without_period(checked.error().message) + ")");
      saved.cursor.last_known_pk = std::move(checked->last_known_pk);
    }
    if (auto checked = check_cursor(shard, saved.cursor); !checked) return checked;
    if (const auto* cdc = find_member(value, "cdc_cursor")) {
      saved.cdc_cursor = whole_number(cdc);
      if (!saved.cdc_cursor || *saved.cdc_cursor < 0)
        return wrong("a `cdc_cursor` that is not a whole number");
      if (*saved.cdc_cursor > largest_cdc_cursor) return wrong("a `cdc_cursor` that no clock can have given");
    }
    if (const auto* since = find_member(value, "since")) {
      if (!since->IsString() || !gtid_set::parse_position(std::string(text_of(*since))))
        return wrong("a `since` that is no position");
      // A cursor with a position of its own needs none.
      if (saved.cursor.position.empty()) saved.since = std::string(text_of(*since));
    }
    state.shards.emplace(shard, std::move(saved));
    return {};
  }

  // Compares the cursor with its place and completes it.
  result<void> check_cursor(const shard_name& shard, table_cursor& cursor) const {
    const auto elsewhere = [&](const std::string& what) {
      return invalid(stream_, "has for the shard \"" + shard.str() + "\" a cursor of the " + what);
    };
    if (!cursor.keyspace.empty() && cursor.keyspace != stream_.keyspace)
      return elsewhere("keyspace \"" + cursor.keyspace.str() + "\"");
    const auto named = trimmed(cursor.shard.str());
    const std::string full = stream_.keyspace.str() + "/" + shard.str();
    if (!named.empty() && named != shard.str() && named != full)
      return elsewhere("shard \"" + std::string(named) + "\"");
    cursor.keyspace = stream_.keyspace;
    cursor.shard = shard;
    const auto position = gtid_set::parse_position(cursor.position);
    if (!position)
      return invalid(stream_, "has for the shard \"" + shard.str() + "\" an unusable position (" +
                                  without_period(position.error().message) + ")");
    // Servers refuse a position without flavor.
    if (cursor.position.find('/') == std::string::npos) cursor.position = position->to_position();
    return {};
  }

  result<void> read_full_refresh(const rapidjson::Value& body, saved_stream_state& state) const {
    const auto* mark = find_member(body, "full_refresh");
    if (mark == nullptr) return {};
    const auto generation = whole_number(find_member(*mark, "generation_id"));
    const auto sync = whole_number(find_member(*mark, "sync_id"));
    const auto* done = find_member(*mark, "done");
    if (!generation || !sync || done == nullptr || !done->IsBool())
      return invalid(stream_, "must have `generation_id`, `sync_id` and `done` in `full_refresh`");
    state.full_refresh = full_refresh_mark{*generation, *sync, done->GetBool()};
    return {};
  }

  const stream_id& stream_;
  std::vector<std::string>& warnings_;
};

class file_reader {
 public:
  explicit file_reader(const std::vector<stream_id>& configured) {
    for (const auto& stream : configured) {
      by_table_.emplace(stream.table, stream);
      by_legacy_key_.emplace(stream.keyspace.str() + ":" + stream.table.str(), stream);
    }
  }

  result<saved_state> read(const std::vector<rapidjson::Document>& values) {
    for (const auto& value : values) {
      if (value.IsArray()) {
        for (const auto& message : value.GetArray())
          if (auto read = read_message(message); !read) return fail(std::move(read.error()));
      } else if (auto read = read_message(value); !read) {
        return fail(std::move(read.error()));
      }
    }
    if (ignored_count_ != 0) {
      warn(found_.warnings, "The saved state has " + std::to_string(ignored_count_) +
                                (ignored_count_ == 1 ? " stream" : " streams") +
                                " that the configured catalog does not have; ignored: " + ignored_names_ +
                                (ignored_count_ > most_names_shown ? ", ..." : "") + ".");
    }
    return std::move(found_);
  }

 private:
  result<void> read_message(const rapidjson::Value& message) {
    ++count_;
    if (message.IsNull()) return {};
    const std::string place = "message " + std::to_string(count_);
    if (!message.IsObject()) return invalid(place + " is " + kind_of(message) + " instead of an object");
    std::string_view type;
    if (const auto* value = find_member(message, "type")) {
      if (!value->IsString())
        return invalid(place + " has " + kind_of(*value) + " as `type` instead of a string");
      type = text_of(*value);
    }
    if (type == "STATE") {
      const auto* state = find_member(message, "state");
      if (state == nullptr) return {};
      // One envelope only: nesting is not followed.
      const auto* inner = find_member(*state, "type");
      if (!state->IsObject() || (inner != nullptr && inner->IsString() && text_of(*inner) == "STATE"))
        return invalid(place + " has no state message in its envelope");
      --count_;
      return read_message(*state);
    }
    const auto* stream = find_member(message, "stream");
    const auto* global = find_member(message, "global");
    const auto* data = find_member(message, "data");
    if (type == "STREAM" || (type.empty() && stream != nullptr)) {
      if (stream == nullptr) return invalid(place + " has the type STREAM, but lacks the key `stream`");
      return read_stream(*stream, place);
    }
    if (type == "GLOBAL" || (type.empty() && global != nullptr)) {
      if (global == nullptr) return invalid(place + " has the type GLOBAL, but lacks the key `global`");
      return read_global(*global, place);
    }
    if (type == "LEGACY" || (type.empty() && data != nullptr)) {
      if (data == nullptr) return {};
      return read_legacy(*data, place + " has in `data`");
    }
    if (!type.empty())
      return invalid(place + " has the unknown type \"" + std::string(type.substr(0, 80)) +
                     "\"; STREAM, GLOBAL and LEGACY are known");
    return read_legacy(message, place + " has");
  }

  result<void> read_stream(const rapidjson::Value& stream, const std::string& place) {
    if (!stream.IsObject())
      return invalid(place + " has " + kind_of(stream) + " as `stream` instead of an object");
    const auto* descriptor = find_member(stream, "stream_descriptor");
    const auto* name = descriptor == nullptr ? nullptr : find_member(*descriptor, "name");
    if (name == nullptr || !name->IsString())
      return invalid(place + " lacks the stream's name (`stream_descriptor.name`)");
    const auto* space = find_member(*descriptor, "namespace");
    if (space != nullptr && !space->IsString())
      return invalid(place + " has " + kind_of(*space) +
                     " as `stream_descriptor.namespace` instead of a string");
    const auto id = resolve(table_name(text_of(*name)),
                            keyspace_name(space == nullptr ? std::string_view() : text_of(*space)));
    if (!id) return fail(id.error());
    const auto* body = find_member(stream, "stream_state");
    if (!*id || body == nullptr) return {};
    return put(**id, *body, false);
  }

  result<void> read_global(const rapidjson::Value& global, const std::string& place) {
    if (const auto* shared = find_member(global, "shared_state");
        shared != nullptr && !(shared->IsObject() && shared->ObjectEmpty()))
      warn(found_.warnings,
           "The saved state is of the type GLOBAL; its shared part is not this connector's and is ignored.");
    const auto* streams = find_member(global, "stream_states");
    if (!global.IsObject() || (streams != nullptr && !streams->IsArray()))
      return invalid(place + " must have a list as `global.stream_states`");
    if (streams == nullptr) return {};
    for (const auto& stream : streams->GetArray())
      if (auto read = read_stream(stream, place); !read) return read;
    return {};
  }

  // `data` is {"streams":{"keyspace:table":{"shards":{...}}}}.
  result<void> read_legacy(const rapidjson::Value& data, const std::string& place) {
    if (data.IsObject() && data.ObjectEmpty()) return {};
    const auto* streams = find_member(data, "streams");
    if (!data.IsObject() || (streams == nullptr && !data.HasMember("streams")))
      return invalid(place + " none of the known forms (STREAM messages, or an object with `streams`)");
    if (streams == nullptr) return {};
    if (!streams->IsObject())
      return invalid(place + " " + kind_of(*streams) + " as `streams` instead of an object");
    found_.from_legacy = found_.from_legacy || !streams->ObjectEmpty();
    for (const auto& entry : streams->GetObject()) {
      const std::string key(text_of(entry.name));
      const auto found = by_legacy_key_.find(key);
      if (found == by_legacy_key_.end())
        ignore(key);
      else if (!entry.value.IsNull())
        if (auto stored = put(found->second, entry.value, true); !stored) return stored;
    }
    return {};
  }

  // The configured stream that is meant; nothing when it is not configured.
  result<std::optional<stream_id>> resolve(const table_name& table, const keyspace_name& keyspace) {
    std::optional<stream_id> found;
    const auto [first, last] = by_table_.equal_range(table);
    for (auto entry = first; entry != last; ++entry) {
      const auto& stream = entry->second;
      if (!keyspace.empty() && stream.keyspace != keyspace) continue;
      if (found)
        return invalid("it has a stream \"" + table.str() + "\" without namespace, which fits \"" +
                       found->to_string() + "\" and \"" + stream.to_string() + "\"");
      found = stream;
    }
    if (!found) ignore(keyspace.empty() ? table.str() : keyspace.str() + "." + table.str());
    return found;
  }

  void ignore(const std::string& name) {
    if (++ignored_count_ <= most_names_shown) ignored_names_ += (ignored_names_.empty() ? "" : ", ") + name;
  }

  result<void> put(const stream_id& id, const rapidjson::Value& body, bool legacy) {
    auto read = body_reader(id, found_.warnings).read(body);
    if (!read) return fail(std::move(read.error()));
    if (!*read) return {};
    (*read)->from_legacy = legacy;
    const auto known = found_.streams.find(id);
    if (known == found_.streams.end()) {
      found_.streams.emplace(id, std::move(**read));
      return {};
    }
    // A STREAM state is always newer than a LEGACY one; of equals the later one counts.
    if (legacy && !known->second.from_legacy) return {};
    if (legacy == known->second.from_legacy)
      warn(found_.warnings,
           "The saved state has the stream \"" + id.to_string() + "\" more than once; the last one counts.");
    known->second = std::move(**read);
    return {};
  }

  std::multimap<table_name, stream_id> by_table_;
  std::map<std::string, stream_id> by_legacy_key_;
  saved_state found_;
  std::size_t count_ = 0;
  std::size_t ignored_count_ = 0;
  std::string ignored_names_;
};

}  // namespace

result<saved_state> parse_state(std::string_view text, const std::vector<stream_id>& configured) {
  const auto values = parse_json_values(text, error_code::state_invalid, "the state file");
  if (!values) return fail(values.error());
  return file_reader(configured).read(*values);
}

result<std::optional<saved_stream_state>> parse_stream_state(std::string_view json_text,
                                                             const stream_id& stream) {
  const auto document = parse_json(json_text, error_code::state_invalid, "a stream's state");
  if (!document) return fail(document.error());
  std::vector<std::string> warnings;
  if (document->IsNull()) return std::nullopt;
  return body_reader(stream, warnings).read(*document);
}

}  // namespace psource
