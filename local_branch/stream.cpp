// A VStream call: which shards, which tables, whose turn it is.
#include "local_branch/stream.hpp"

#include <google/protobuf/text_format.h>

#include <algorithm>
#include <regex>

#include "local_branch/shard_stream.hpp"

namespace psource::local_branch {
namespace {

constexpr int code_ok = 0;
constexpr int code_cancelled = 1;
constexpr int code_unknown = 2;
constexpr int code_invalid_argument = 3;
constexpr int code_failed_precondition = 9;
constexpr int code_internal = 13;

const char* tablet_type_text(int type) { return type == 2 ? "REPLICA" : type == 3 ? "RDONLY" : "PRIMARY"; }
const char* tablet_type_word(int type) { return type == 2 ? "replica" : type == 3 ? "rdonly" : "primary"; }

std::string tablet_alias(const shard& s, int tablet_type) {
  const std::string digits =
      std::to_string(100 * (s.number() + 1) + static_cast<std::size_t>(tablet_type) - 1);
  return "zone1-" + std::string(digits.size() < 10 ? 10 - digits.size() : 0, '0') + digits;
}

/// A message as Go prints it: keyspace:"k" table_p_ks:{table_name:"t"}.
std::string compact_text(const google::protobuf::Message& message) {
  google::protobuf::TextFormat::Printer printer;
  printer.SetSingleLineMode(true);
  std::string text;
  printer.PrintToString(message, &text);
  while (!text.empty() && text.back() == ' ') text.pop_back();
  std::string out;
  bool quoted = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (quoted && c == '\\' && i + 1 < text.size()) {
      out += c;
      out += text[++i];
      continue;
    }
    if (c == '"') quoted = !quoted;
    if (!quoted && c == ' ') {
      if (!out.empty() && (out.back() == ':' || out.back() == '{')) continue;
      const char next = i + 1 < text.size() ? text[i + 1] : '\0';
      if (next == '{') {
        out += ':';
        continue;
      }
      if (next == '}') continue;
    }
    out += c;
  }
  return out;
}

/// The table of "select * from `t`"; nullopt for any other text.
std::optional<std::string> selected_table(const std::string& filter) {
  static const std::regex form(R"(^\s*select\s+\*\s+from\s+(?:`((?:[^`]|``)+)`|([^\s`;]+))\s*;?\s*$)",
                               std::regex::icase);
  std::smatch found;
  if (!std::regex_match(filter, found, form)) return std::nullopt;
  if (!found[1].matched) return found[2].str();
  std::string name = found[1].str();
  for (auto at = name.find("``"); at != std::string::npos; at = name.find("``", at + 1)) name.erase(at, 1);
  return name;
}

}  // namespace

struct vstream_session::table_filter {
  struct rule {
    std::string name;
    std::optional<std::regex> pattern;
  };
  std::vector<rule> rules;
};

vstream_session::vstream_session(const branch& source, const vtgate::VStreamRequest& request,
                                 stream_options options, clock::time_point now)
    : options_(std::move(options)),
      filter_(std::make_unique<table_filter>()) {
  const auto status = start(source, request, now);
  if (status.code != code_ok) fail_with(status);
}

vstream_session::~vstream_session() = default;

void vstream_session::fail_with(stream_status status) {
  status_ = std::move(status);
  ended_ = true;
}

stream_status vstream_session::start(const branch& source, const vtgate::VStreamRequest& request,
                                     clock::time_point now) {
  heartbeat_interval_ = std::chrono::seconds(request.flags().heartbeat_interval());
  bare_table_names_ = request.flags().exclude_keyspace_from_table_name();
  stop_on_reshard_ = request.flags().stop_on_reshard();
  journals_ = request.flags().include_reshard_journal_events() || request.flags().stop_on_reshard();
  for (const auto& name : request.flags().tables_to_copy()) tables_to_copy_.insert(name);

  for (const auto& rule : request.filter().rules()) {
    table_filter::rule made;
    if (rule.match().size() > 1 && rule.match().front() == '/') {
      std::string pattern = rule.match().substr(1);
      if (!pattern.empty() && pattern.back() == '/') pattern.pop_back();
      if (pattern.size() > 4096) return {code_invalid_argument, "the pattern of a rule is too long"};
      try {
        made.pattern = std::regex(pattern, std::regex::ECMAScript);
      } catch (const std::regex_error&) {
        return {code_invalid_argument, "error parsing regexp: " + rule.match()};
      }
    } else {
      made.name = rule.match();
    }
    if (!rule.filter().empty()) {
      const auto table = selected_table(rule.filter());
      if (!table) return {code_invalid_argument, "unsupported: " + rule.filter()};
      if (!made.pattern && *table != made.name)
        return {code_invalid_argument,
                "unsupported: select from a table that the rule does not match: " + rule.filter()};
    }
    filter_->rules.push_back(std::move(made));
  }
  if (filter_->rules.empty()) filter_->rules.push_back({"", std::regex("")});

  std::vector<binlogdata::ShardGtid> wanted(request.vgtid().shard_gtids().begin(),
                                            request.vgtid().shard_gtids().end());
  if (wanted.empty())
    return {code_invalid_argument, "vgtid must have at least one value with a starting position"};
  if (wanted.size() == 1 && wanted[0].keyspace().empty()) {
    if (wanted[0].gtid() != "current")
      return {code_invalid_argument,
              "for an empty keyspace, the Gtid value must be 'current': " + compact_text(wanted[0])};
    wanted.clear();
    for (const auto& [name, ks] : source.keyspaces()) {
      binlogdata::ShardGtid entry;
      entry.set_keyspace(name);
      entry.set_gtid("current");
      wanted.push_back(std::move(entry));
    }
  }
  tablet_type_ = request.tablet_type() == 0 ? 1 : request.tablet_type();
  const bool served = options_.tablet_types.count(tablet_type_) > 0;

  std::vector<std::pair<shard*, binlogdata::ShardGtid>> resolved;
  for (const auto& entry : wanted) {
    const std::string place = "error starting stream from shard GTID " + compact_text(entry) + ": ";
    const keyspace* ks = source.find(entry.keyspace());
    const std::string resharded =
        "failed to determine if keyspace " + entry.keyspace() + " has been resharded: ";
    if (ks == nullptr)
      return {code_unknown, place + resharded + "FindAllShardsInKeyspace(" + entry.keyspace() +
                                "): List: node doesn't exist: keyspaces/" + entry.keyspace() + "/shards"};
    if (entry.shard().empty()) {
      if (!entry.gtid().empty() && entry.gtid() != "current")
        return {code_invalid_argument,
                "if shards are unspecified, the Gtid value must be 'current' or empty; got: " +
                    compact_text(entry)};
      for (shard* s : ks->serving_shards()) {
        binlogdata::ShardGtid one;
        one.set_keyspace(ks->name());
        one.set_shard(s->name());
        one.set_gtid(entry.gtid());
        resolved.emplace_back(s, std::move(one));
      }
      continue;
    }
    shard* found = ks->find_shard(entry.shard());
    if (found == nullptr)
      return {code_failed_precondition, place + resharded + "shard provided in VGTID, " + entry.shard() +
                                            ", not found in the " + entry.keyspace() + " keyspace"};
    resolved.emplace_back(found, entry);
  }

  for (auto& [found, entry] : resolved) {
    auto stream = std::make_unique<shard_stream>(*this, *found, entry);
    if (!served) {
      stream->search();
      shards_.push_back(std::move(stream));
      continue;
    }
    const auto refuse = [this, &found = found, &entry = entry](const stream_status& why) {
      return tablet_error(*found, entry, why);
    };
    const bool copies = entry.gtid().empty() || entry.table_p_ks_size() > 0;
    if (copies) {
      for (const auto& rule : filter_->rules) {
        if (rule.pattern) continue;
        const auto number = found->owner().find_table(rule.name);
        if (!number || found->owner().tables()[*number].schema.kind == table_kind::view)
          return refuse({code_unknown, "table " + rule.name + " is not present in the database"});
      }
    }
    if (const auto status = stream->prepare(); status.code != code_ok) return refuse(status);
    shards_.push_back(std::move(stream));
  }
  for (const auto& stream : shards_)
    if (stream->searching()) search_for(*stream, now);
  return {};
}

void vstream_session::search_for(const shard_stream& lost, clock::time_point now) {
  const auto own = lost.source().search();
  const auto end = now + (own.count() > 0 ? own : options_.tablet_search);
  if (status_.code != code_ok && search_end_ <= end) return;
  search_end_ = end;
  // Not an end yet: vtgate looks for a better tablet first. What it will say then:
  const auto& entry = lost.request();
  status_ = {code_cancelled, "error starting stream from shard GTID " + compact_text(entry) +
                                 ": failed to find a " + tablet_type_text(tablet_type_) +
                                 " tablet for VStream in " + entry.keyspace() + "/" + entry.shard() +
                                 " within the zone1 cell(s): context has expired"};
}

stream_status vstream_session::tablet_error(const shard& source, const binlogdata::ShardGtid& entry,
                                            const stream_status& why) const {
  const bool internal = why.code == code_internal;
  return {why.code,
          "error starting stream from shard GTID " + compact_text(entry) + ": " +
              (internal ? "error" : "persistent error") + " in vstream for " + entry.keyspace() + "/" +
              entry.shard() + " on tablet " + tablet_alias(source, tablet_type_) +
              (internal ? "" : "; giving up") + ": target: " + entry.keyspace() + "." + entry.shard() + "." +
              tablet_type_word(tablet_type_) +
              ": vttablet: rpc error: code = " + (internal ? "Internal" : "Unknown") + " desc = " + why.message};
}

bool vstream_session::matches(const std::string& name) const {
  for (const auto& rule : filter_->rules)
    if (rule.pattern ? std::regex_search(name, *rule.pattern) : rule.name == name) return true;
  return false;
}

bool vstream_session::reads(const std::string& keyspace, const std::string& shard,
                            const std::string& table) const {
  return std::any_of(shards_.begin(), shards_.end(), [&](const auto& s) {
    const auto& from = s->source();
    if (!keyspace.empty() && from.owner().name() != keyspace) return false;
    if (!shard.empty() && from.name() != shard) return false;
    if (table.empty()) return true;
    const auto number = from.owner().find_table(table);
    return number && s->reads(*number);
  });
}

bool vstream_session::peeks() const {
  return std::all_of(shards_.begin(), shards_.end(),
                     [](const auto& s) { return s->request().gtid() == "current"; });
}

bool vstream_session::copy_complete() const {
  return std::all_of(shards_.begin(), shards_.end(), [](const auto& s) { return s->copied(); });
}

void vstream_session::append_vgtid(byte_buffer& out, const shard_stream& by) const {
  std::size_t vgtid = 0;
  for (const auto& s : shards_) vgtid += 1 + varint_size(s->entry().size()) + s->entry().size();
  const std::size_t event = 2 + 1 + varint_size(vgtid) + vgtid + by.tail().size();
  out.varint((1u << 3) | 2u);
  out.varint(event);
  out.number(1, binlogdata::VGTID);
  out.varint((7u << 3) | 2u);
  out.varint(vgtid);
  for (const auto& s : shards_) out.bytes(1, s->entry());
  out.append(by.tail());
}

bool vstream_session::hand_over(clock::time_point now) {
  // With stop_on_reshard a Vitess of today neither ends the stream nor goes on.
  if (stop_on_reshard_) return false;
  for (const auto& ending : shards_) {
    if (!ending->handing_over()) continue;
    const handover* plan = ending->source().handed_over;
    const auto stream_of = [&](const shard* wanted) {
      return std::find_if(shards_.begin(), shards_.end(),
                          [&](const auto& s) { return &s->source() == wanted; });
    };
    bool all_there = true;
    bool all_at_end = true;
    for (const shard* participant : plan->participants) {
      const auto found = stream_of(participant);
      all_there = all_there && found != shards_.end();
      all_at_end = all_at_end && found != shards_.end() && (*found)->handing_over();
    }
    if (!all_there) {
      const auto list = [](const auto& entries, const auto& text) {
        std::string out;
        for (const auto& entry : entries) out += (out.empty() ? "" : " ") + text(entry);
        return "[" + out + "]";
      };
      const auto& s = ending->source();
      const auto now_at = [](const shard_stream& stream) {
        binlogdata::ShardGtid entry;
        entry.ParseFromArray(stream.entry().data(), static_cast<int>(stream.entry().size()));
        return compact_text(entry);
      };
      const std::string place = "shard GTID " + now_at(*ending);
      const std::string where = s.owner().name() + "/" + s.name();
      const std::string tablet = tablet_alias(s, tablet_type_);
      fail_with({code_internal, "error starting stream from " + place + ": error in vstream for " + where +
                                    " on tablet " + tablet + ": target: " + s.owner().name() + "." +
                                    s.name() + "." + tablet_type_word(tablet_type_) +
                                    ": error getting journal event for " + place + " on tablet " + tablet +
                                    ": not all journaling participants are in the stream: journal: " +
                                    list(plan->participants,
                                         [](const shard* p) {
                                           return "keyspace:\"" + p->owner().name() + "\" shard:\"" +
                                                  p->name() + "\"";
                                         }) +
                                    ", stream: " + list(shards_, [&](const auto& p) { return now_at(*p); })});
      return false;
    }
    if (!all_at_end) continue;
    std::vector<std::unique_ptr<shard_stream>> next;
    stream_status refused;
    for (auto& stream : shards_)
      if (std::count(plan->participants.begin(), plan->participants.end(), &stream->source()) == 0)
        next.push_back(std::move(stream));
    for (shard* successor : plan->successors) {
      binlogdata::ShardGtid entry;
      entry.set_keyspace(successor->owner().name());
      entry.set_shard(successor->name());
      {
        std::shared_lock lock(successor->mutex());
        entry.set_gtid(successor->begin_position());
      }
      auto stream = std::make_unique<shard_stream>(*this, *successor, entry);
      // One that was replaced and removed since has no tablet either.
      if (successor->gone)
        stream->search();
      else if (const auto status = stream->prepare(); status.code != code_ok)
        refused = tablet_error(*successor, entry, status);
      if (stream->searching()) search_for(*stream, now);
      successor->subscribe(listener_);
      next.push_back(std::move(stream));
    }
    shards_ = std::move(next);
    turn_ = 0;
    if (refused.code != code_ok) fail_with(std::move(refused));
    return true;
  }
  return false;
}

vstream_session::step vstream_session::produce(byte_buffer& out, clock::time_point now) {
  out.clear();
  if (ended_) return step::ended;
  for (std::size_t i = 0; i < shards_.size(); ++i) {
    auto& stream = *shards_[turn_];
    const bool sent = stream.produce(out);
    // A transaction reaches the client in one piece, whatever the number of responses.
    if (!stream.in_transaction()) turn_ = (turn_ + 1) % shards_.size();
    if (sent && !out.empty()) return step::response;
    if (ended_) return step::ended;
  }
  if (hand_over(now)) return produce(out, now);
  if (ended_) return step::ended;
  if (status_.code != code_ok && now >= search_end_) {
    ended_ = true;
    return step::ended;
  }
  return step::idle;
}

std::optional<vstream_session::clock::time_point> vstream_session::deadline() const {
  if (ended_ || status_.code == code_ok) return std::nullopt;
  return search_end_;
}

void vstream_session::subscribe(const std::weak_ptr<commit_listener>& listener) {
  listener_ = listener;
  for (const auto& s : shards_) s->source().subscribe(listener);
}

void vstream_session::heartbeat(byte_buffer& out) {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  byte_buffer event;
  event.number(1, binlogdata::HEARTBEAT);
  event.number(2, static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::seconds>(now).count()));
  event.number(20,
               static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(now).count()));
  out.clear();
  out.bytes(1, event.view());
}

}  // namespace psource::local_branch
