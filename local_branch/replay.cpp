// Reading of recorded streams.
#include "local_branch/replay.hpp"

#include <zlib.h>

#include <algorithm>
#include <charconv>
#include <iterator>
#include <map>
#include <optional>
#include <set>

#include "local_branch/branch.hpp"
#include "vtgate.pb.h"

namespace psource::local_branch {
namespace {

struct shard_recording {
  std::string initial_position;
  bool positioned = false;
  std::vector<std::shared_ptr<recorded_transaction>> log;
  std::map<std::string, std::shared_ptr<recorded_table>> copies;
  std::map<std::string, std::shared_ptr<const binlogdata::FieldEvent>> fields;
  // The transaction that is being read.
  std::shared_ptr<recorded_transaction> open;
  std::string open_position;
};

struct keyspace_recording {
  std::map<std::string, shard_recording> shards;
  /// Names in the order of their first appearance.
  std::vector<std::string> order;
  std::map<std::string, binlogdata::FieldEvent> tables;
};

struct reshard {
  std::string keyspace;
  std::vector<std::string> from, to;
};

using recording = std::map<std::string, keyspace_recording>;

tl::unexpected<failure> broken(const std::string& file, const std::string& why) {
  return fail(error_code::input_unreadable, "The recording " + file + " cannot be replayed: " + why + ".");
}

result<std::string> read_file(const std::string& file) {
  gzFile in = gzopen(file.c_str(), "rb");
  if (in == nullptr) return broken(file, "it cannot be opened");
  std::string bytes;
  char chunk[1 << 16];
  int got = 0;
  while ((got = gzread(in, chunk, sizeof chunk)) > 0) bytes.append(chunk, static_cast<std::size_t>(got));
  gzclose(in);
  if (got < 0) return broken(file, "it cannot be read to its end");
  return bytes;
}

bool usable(const std::string& gtid) { return !gtid.empty() && gtid != "current"; }

/// The position before a transaction whose own GTID ("uuid:5") is known.
std::string before(const std::string& position, const std::string& event_gtid) {
  auto set = gtids::parse(position);
  const auto colon = event_gtid.rfind(':');
  if (!set || colon == std::string::npos) return position;
  auto own = gtids::parse("MySQL56/" + event_gtid);
  if (!own) return position;
  std::uint64_t number = 0;
  std::from_chars(event_gtid.data() + colon + 1, event_gtid.data() + event_gtid.size(), number);
  set->remove(event_gtid.substr(0, colon), number);
  return set->to_position();
}

void strip(std::string& name, const std::string& keyspace) {
  if (name.compare(0, keyspace.size() + 1, keyspace + ".") == 0) name.erase(0, keyspace.size() + 1);
}

shard_recording& shard_of(recording& all, const std::string& keyspace, const std::string& shard) {
  auto& ks = all[keyspace];
  if (ks.shards.find(shard) == ks.shards.end()) ks.order.push_back(shard);
  return ks.shards[shard];
}

class reader {
 public:
  /// Takes one event; false when it does not fit to what came before.
  bool take(binlogdata::VEvent event) {
    switch (event.type()) {
      case binlogdata::HEARTBEAT:
      case binlogdata::COPY_COMPLETED:
        return true;
      default:
        break;
    }
    if (event.keyspace().empty()) return false;
    auto& shard = shard_of(all_, event.keyspace(), event.shard());
    switch (event.type()) {
      case binlogdata::BEGIN:
        shard.open = std::make_shared<recorded_transaction>();
        break;
      case binlogdata::VGTID:
        take_vgtid(shard, event);
        return true;
      case binlogdata::FIELD:
        take_field(shard, event);
        return true;
      default:
        break;
    }
    const bool single = event.type() == binlogdata::OTHER || event.type() == binlogdata::DDL;
    const bool ends = single || event.type() == binlogdata::COMMIT;
    if (event.type() == binlogdata::ROW) {
      auto& row = *event.mutable_row_event();
      strip(*row.mutable_table_name(), event.keyspace());
      if (event.timestamp() == 0) {
        const auto copy = shard.copies.find(row.table_name());
        if (copy == shard.copies.end()) return false;
        for (const auto& change : row.row_changes())
          copy->second->rows.push_back(change.after().SerializeAsString());
        begin_at_open_position(shard);
        return true;
      }
      if (shard.fields.find(row.table_name()) == shard.fields.end()) return false;
    }
    if (event.timestamp() == 0) {  // of a copy, or the answer to "current"
      if (!ends) return true;
      begin_at_open_position(shard);
      shard.open.reset();
      return true;
    }
    if (!shard.open) shard.open = std::make_shared<recorded_transaction>();
    if (event.type() == binlogdata::JOURNAL) shard.open->journal = true;
    const std::string own_gtid = event.event_gtid();
    recorded_event recorded;
    if (event.type() == binlogdata::ROW) recorded.field = shard.fields[event.row_event().table_name()];
    recorded.event = std::move(event);
    shard.open->events.push_back(std::move(recorded));
    if (!ends) return true;
    if (!shard.open_position.empty()) {
      if (!shard.positioned) {
        shard.initial_position = before(shard.open_position, own_gtid);
        shard.positioned = true;
      }
      shard.open->position = std::move(shard.open_position);
      shard.log.push_back(std::move(shard.open));
    }
    shard.open_position.clear();
    shard.open.reset();
    return true;
  }

  const binlogdata::VGtid& last() const { return last_; }
  recording& all() { return all_; }
  const std::vector<reshard>& reshards() const { return reshards_; }

 private:
  void take_vgtid(shard_recording& shard, const binlogdata::VEvent& event) {
    note_reshard(event);
    last_ = event.vgtid();
    for (const auto& entry : last_.shard_gtids()) {
      auto& other = shard_of(all_, entry.keyspace(), entry.shard());
      if (!usable(entry.gtid())) continue;
      if (entry.keyspace() == event.keyspace() && entry.shard() == event.shard()) {
        shard.open_position = entry.gtid();
      } else if (!other.positioned) {
        other.initial_position = entry.gtid();
        other.positioned = true;
      }
    }
  }

  /// A list of shards that changes is a reshard.
  void note_reshard(const binlogdata::VEvent& event) {
    const auto names = [&](const binlogdata::VGtid& vgtid) {
      std::set<std::string> out;
      for (const auto& entry : vgtid.shard_gtids())
        if (entry.keyspace() == event.keyspace()) out.insert(entry.shard());
      return out;
    };
    const auto old_names = names(last_);
    const auto new_names = names(event.vgtid());
    if (old_names.empty() || old_names == new_names) return;
    reshard found;
    found.keyspace = event.keyspace();
    std::set_difference(old_names.begin(), old_names.end(), new_names.begin(), new_names.end(),
                        std::back_inserter(found.from));
    std::set_difference(new_names.begin(), new_names.end(), old_names.begin(), old_names.end(),
                        std::back_inserter(found.to));
    if (!found.from.empty() && !found.to.empty()) reshards_.push_back(std::move(found));
  }

  /// A copy's VGTID, or the answer to "current": the shard's log begins there when nothing came before.
  static void begin_at_open_position(shard_recording& shard) {
    if (!shard.positioned && !shard.open_position.empty()) {
      shard.initial_position = shard.open_position;
      shard.positioned = true;
    }
    shard.open_position.clear();
  }

  void take_field(shard_recording& shard, const binlogdata::VEvent& event) {
    auto field = std::make_shared<binlogdata::FieldEvent>(event.field_event());
    strip(*field->mutable_table_name(), event.keyspace());
    const std::string name = field->table_name();
    all_[event.keyspace()].tables[name] = *field;
    if (event.timestamp() != 0) {
      shard.fields[name] = std::move(field);
      return;
    }
    auto& copy = shard.copies[name];
    if (copy) return;  // a copy that was taken up again goes on
    copy = std::make_shared<recorded_table>();
    copy->field = *field;
    copy->snapshot = shard.log.size();
  }

  recording all_;
  binlogdata::VGtid last_;
  std::vector<reshard> reshards_;
};

table_schema schema_of(const binlogdata::FieldEvent& field) {
  table_schema out;
  out.name = field.table_name();
  for (const auto& f : field.fields()) {
    column c;
    c.name = f.name();
    c.type = f.type();
    c.column_type = f.column_type();
    c.charset = f.charset();
    c.flags = f.flags();
    c.length = f.column_length();
    c.decimals = f.decimals();
    c.nullable = (f.flags() & flag_not_null) == 0;
    if (has_character_set(c.column_type)) {
      auto names = names_of_collation(c.charset);
      c.character_set = std::move(names.character_set);
      c.collation = std::move(names.collation);
    }
    if ((f.flags() & flag_primary_key) != 0) out.primary_key.push_back(out.columns.size());
    out.columns.push_back(std::move(c));
  }
  return out;
}

}  // namespace

result<void> add_recording(branch& target, const std::string& file) {
  auto bytes = read_file(file);
  if (!bytes) return tl::unexpected(std::move(bytes.error()));
  reader read;
  std::size_t at = 0;
  std::size_t count = 0;
  while (at < bytes->size()) {
    std::uint64_t size = 0;
    unsigned shift = 0;
    for (;; shift += 7) {
      if (at == bytes->size() || shift > 56) return broken(file, "it ends within the length of a response");
      const auto byte = static_cast<unsigned char>((*bytes)[at++]);
      size |= static_cast<std::uint64_t>(byte & 0x7f) << shift;
      if (byte < 0x80) break;
    }
    const std::string where = "response " + std::to_string(count++);
    if (size > bytes->size() - at) return broken(file, "it ends within " + where);
    vtgate::VStreamResponse response;
    if (!response.ParseFromArray(bytes->data() + at, static_cast<int>(size)))
      return broken(file, where + " is not a VStreamResponse");
    at += static_cast<std::size_t>(size);
    for (auto& event : *response.mutable_events())
      if (!read.take(std::move(event)))
        return broken(file, "the events of " + where + " do not fit together");
  }
  if (read.all().empty()) return broken(file, "it holds no keyspace");
  for (auto& [name, ks] : read.all()) {
    keyspace* made = target.add(name, ks.order);
    if (made == nullptr) return broken(file, "keyspace " + name + " exists already");
    for (const auto& [table_name, field] : ks.tables) {
      table t;
      t.schema = schema_of(field);
      made->add_table(std::move(t));
    }
    for (const auto& s : made->shards()) {
      auto& from = ks.shards[s->name()];
      s->initial_position = from.initial_position;
      const auto& entries = read.last().shard_gtids();
      s->serving = std::any_of(entries.begin(), entries.end(), [&, &name = name](const auto& entry) {
        return entry.keyspace() == name && entry.shard() == s->name();
      });
      for (auto& [table_name, copy] : from.copies)
        if (const auto number = made->find_table(table_name)) s->tables()[*number].recorded = copy;
      for (auto& recorded : from.log) {
        transaction t;
        if (!recorded->events.empty()) t.time_ns = recorded->events.front().event.timestamp() * 1'000'000'000;
        t.recorded = std::move(recorded);
        s->append(std::move(t));
      }
    }
  }
  for (const auto& change : read.reshards()) {
    keyspace& ks = *target.find(change.keyspace);
    handover found;
    for (const auto& name : change.from) found.participants.push_back(ks.find_shard(name));
    for (const auto& name : change.to) found.successors.push_back(ks.find_shard(name));
    const handover* made = ks.add_handover(std::move(found));
    for (shard* participant : made->participants) participant->handed_over = made;
  }
  return {};
}

}  // namespace psource::local_branch
