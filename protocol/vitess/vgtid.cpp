// Decoding of VGTID and FIELD events: through Protobuf, but for the usual VGTIDs of a transaction and a copy.
#include "protocol/vitess/vgtid.hpp"

#include <set>

#include "binlogdata.pb.h"
#include "protocol/vitess/last_key.hpp"
#include "protocol/vitess/wire.hpp"

namespace psource {

namespace {

// A table of MySQL has at most 4,096 columns; what claims more is not a FIELD event.
constexpr int max_columns = 4096;

template <class Message>
bool parse(Message& message, std::string_view bytes) {
  return message.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()));
}

// Reads the usual messages in place: fields in the order in which servers write them, each at most once.
class usual_fields {
 public:
  explicit usual_fields(std::string_view bytes) : at_(bytes.data()), end_(at_ + bytes.size()) {}

  bool at_end() const { return at_ == end_; }
  // Moves behind the next field's key where it is this one's.
  bool next_is(int field) {
    const char* at = at_;
    std::uint32_t found = 0;
    if (at_end() || !wire::read_key(at, end_, found) || found != wire::key(static_cast<std::uint32_t>(field), wire::bytes_type))
      return false;
    at_ = at;
    return true;
  }
  bool read(std::string_view& value) { return wire::read_bytes(at_, end_, value); }
  // A name or a position in ASCII, as all of them are; Protobuf knows what else a string may be.
  bool read_ascii(std::string& value) {
    std::string_view bytes;
    if (!read(bytes)) return false;
    unsigned char all = 0;
    for (const char c : bytes) all |= static_cast<unsigned char>(c);
    value.assign(bytes);
    return all < 0x80;
  }

 private:
  const char* at_;
  const char* end_;
};

// A last key whose fields come before its row, each of which is there once, as those who compare keys expect it.
bool is_usual_key(std::string_view bytes) {
  usual_fields fields(bytes);
  std::string_view value;
  bool any = false;
  while (fields.next_is(query::QueryResult::kFieldsFieldNumber)) {
    if (!fields.read(value)) return false;
    any = true;
  }
  return any && fields.next_is(query::QueryResult::kRowsFieldNumber) && fields.read(value) && fields.at_end();
}

std::optional<table_progress> usual_table(std::string_view bytes) {
  std::string name;
  table_progress progress;
  usual_fields fields(bytes);
  if (!fields.next_is(binlogdata::TableLastPK::kTableNameFieldNumber) || !fields.read_ascii(name)) return {};
  progress.table = table_name(std::move(name));
  if (fields.next_is(binlogdata::TableLastPK::kLastpkFieldNumber)) {
    std::string_view key;
    query::QueryResult parsed;
    if (!fields.read(key) || !is_usual_key(key) || !parse(parsed, key) || fault_of_last_key(parsed) != nullptr) return {};
    progress.lastpk = key;
  }
  if (!fields.at_end()) return {};
  return progress;
}

// What nearly all VGTIDs are, one for each transaction and response of a copy: a shard, its position, and what is left to copy.
// Nothing for any other, which may be as good.
std::optional<shard_progress> usual_shard(std::string_view bytes) {
  std::string keyspace;
  std::string shard;
  shard_progress progress;
  usual_fields whole(bytes);
  std::string_view entry;
  if (!whole.next_is(binlogdata::VGtid::kShardGtidsFieldNumber) || !whole.read(entry) || !whole.at_end()) return {};
  usual_fields fields(entry);
  if (!fields.next_is(binlogdata::ShardGtid::kKeyspaceFieldNumber) || !fields.read_ascii(keyspace) ||
      !fields.next_is(binlogdata::ShardGtid::kShardFieldNumber) || !fields.read_ascii(shard) ||
      !fields.next_is(binlogdata::ShardGtid::kGtidFieldNumber) || !fields.read_ascii(progress.gtid))
    return {};
  while (fields.next_is(binlogdata::ShardGtid::kTablePKsFieldNumber)) {
    std::string_view table;
    if (!fields.read(table)) return {};
    auto unfinished = usual_table(table);
    if (!unfinished) return {};
    progress.unfinished.push_back(std::move(*unfinished));
  }
  if (!fields.at_end()) return {};
  progress.id = {keyspace_name(std::move(keyspace)), shard_name(std::move(shard))};
  return progress;
}

}  // namespace

const table_progress* shard_progress::find(const table_name& table) const {
  for (const auto& entry : unfinished)
    if (entry.table == table) return &entry;
  return nullptr;
}

const shard_progress* vgtid::find(const shard_id& id) const {
  for (const auto& shard : shards)
    if (shard.id == id) return &shard;
  return nullptr;
}

result<vgtid> parse_vgtid(std::string_view bytes) {
  vgtid parsed;
  if (auto shard = usual_shard(bytes)) {
    parsed.shards.push_back(std::move(*shard));
    return parsed;
  }
  binlogdata::VGtid message;
  if (!parse(message, bytes))
    return fail(error_code::response_malformed, "A VGTID event from the server cannot be decoded.");
  parsed.shards.reserve(static_cast<std::size_t>(message.shard_gtids_size()));
  std::set<shard_id> seen;
  for (auto& entry : *message.mutable_shard_gtids()) {
    shard_progress shard;
    shard.id = {keyspace_name(std::move(*entry.mutable_keyspace())), shard_name(std::move(*entry.mutable_shard()))};
    if (message.shard_gtids_size() > 1 && !seen.insert(shard.id).second)
      return fail(error_code::response_malformed,
                  "A VGTID event from the server names the shard " + shard.id.to_string() + " twice.");
    shard.gtid = std::move(*entry.mutable_gtid());
    for (auto& table : *entry.mutable_table_p_ks()) {
      table_progress progress;
      progress.table = table_name(std::move(*table.mutable_table_name()));
      if (table.has_lastpk()) {
        // It goes into the state, and from there back to a server: what that cannot use must not get there.
        if (const char* fault = fault_of_last_key(table.lastpk()))
          return fail(error_code::response_malformed, "The last primary key of " + progress.table.str() + " on shard " +
                                                          shard.id.to_string() + ", as the server tells it, " + fault +
                                                          ".");
        progress.lastpk = table.lastpk().SerializeAsString();
      }
      shard.unfinished.push_back(std::move(progress));
    }
    parsed.shards.push_back(std::move(shard));
  }
  return parsed;
}

bool shard_gtid_reader::read_entry(std::string_view bytes) {
  using wire::bytes_type;
  using wire::key;
  keyspace_ = shard_ = gtid_ = {};
  const char* at = bytes.data();
  const char* const end = at + bytes.size();
  while (at != end) {
    std::uint32_t found = 0;
    if (!wire::read_key(at, end, found)) return false;
    bool good = true;
    switch (found) {
      case key(binlogdata::ShardGtid::kKeyspaceFieldNumber, bytes_type):
        good = wire::read_bytes(at, end, keyspace_);
        break;
      case key(binlogdata::ShardGtid::kShardFieldNumber, bytes_type):
        good = wire::read_bytes(at, end, shard_);
        break;
      case key(binlogdata::ShardGtid::kGtidFieldNumber, bytes_type):
        good = wire::read_bytes(at, end, gtid_);
        break;
      default:
        good = wire::skip(at, end, found & 7);
    }
    if (!good) return false;
  }
  return true;
}

bool shard_gtid_reader::next_entry(std::string_view& bytes) {
  while (ok_ && at_ != end_) {
    std::uint32_t found = 0;
    ok_ = wire::read_key(at_, end_, found);
    const bool is_shard = found == wire::key(binlogdata::VGtid::kShardGtidsFieldNumber, wire::bytes_type);
    ok_ = ok_ && (is_shard ? wire::read_bytes(at_, end_, bytes) : wire::skip(at_, end_, found & 7));
    if (ok_ && is_shard) return true;
  }
  return false;
}

bool shard_gtid_reader::next() {
  std::string_view entry;
  if (!next_entry(entry)) return false;
  ok_ = read_entry(entry);
  return ok_;
}

bool shard_gtid_reader::find(std::string_view keyspace, std::string_view shard) {
  std::string_view entry;
  while (next_entry(entry)) {
    usual_fields fields(entry);
    std::string_view keyspace_here;
    std::string_view shard_here;
    const bool same = fields.next_is(binlogdata::ShardGtid::kKeyspaceFieldNumber) && fields.read(keyspace_here) &&
                      fields.next_is(binlogdata::ShardGtid::kShardFieldNumber) && fields.read(shard_here) &&
                      shard_here == shard && keyspace_here == keyspace;
    if (!same) continue;
    ok_ = read_entry(entry);
    // Of a field that is there twice the last one counts.
    if (!ok_ || (keyspace_ == keyspace && shard_ == shard)) return ok_;
  }
  return false;
}

std::optional<field_event_shape> shape_of_field_event(std::string_view bytes) {
  constexpr std::uint32_t table_name = wire::key(binlogdata::FieldEvent::kTableNameFieldNumber, wire::bytes_type);
  constexpr std::uint32_t keyspace = wire::key(binlogdata::FieldEvent::kKeyspaceFieldNumber, wire::bytes_type);
  constexpr std::uint32_t shard = wire::key(binlogdata::FieldEvent::kShardFieldNumber, wire::bytes_type);
  field_event_shape shape;
  shape.bytes.reserve(bytes.size());
  const char* at = bytes.data();
  const char* const end = at + bytes.size();
  while (at != end) {
    const char* const begin = at;
    std::uint32_t key = 0;
    if (!wire::read_key(at, end, key)) return std::nullopt;
    std::string_view value;
    if ((key & 7) == wire::bytes_type ? !wire::read_bytes(at, end, value) : !wire::skip(at, end, key & 7))
      return std::nullopt;
    if (key == table_name) shape.table = value;
    if (key != keyspace && key != shard) shape.bytes.append(begin, at);
  }
  return shape;
}

std::string_view without_keyspace(std::string_view sent, const keyspace_name& keyspace) {
  const std::string& prefix = keyspace.str();
  if (sent.size() > prefix.size() + 1 && sent[prefix.size()] == '.' && sent.substr(0, prefix.size()) == prefix)
    sent.remove_prefix(prefix.size() + 1);
  return sent;
}

result<field_event> parse_field_event(std::string_view bytes) {
  binlogdata::FieldEvent message;
  if (!parse(message, bytes))
    return fail(error_code::response_malformed, "A FIELD event from the server cannot be decoded.");
  if (message.fields_size() > max_columns)
    return fail(error_code::response_malformed, "A FIELD event for table " + message.table_name() + " has " +
                                                    std::to_string(message.fields_size()) +
                                                    " columns; MySQL allows 4096.");
  field_event event;
  event.table = table_name(message.table_name());
  event.enum_set_string_values = message.enum_set_string_values();
  event.columns.reserve(static_cast<std::size_t>(message.fields_size()));
  for (auto& field : *message.mutable_fields()) {
    wire_column column;
    column.name = std::move(*field.mutable_name());
    column.type = static_cast<std::int32_t>(field.type());
    column.column_type = std::move(*field.mutable_column_type());
    column.charset = field.charset();
    column.flags = field.flags();
    event.columns.push_back(std::move(column));
  }
  return event;
}

}  // namespace psource
