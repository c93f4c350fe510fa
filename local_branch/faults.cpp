// Fault files and when their faults happen.
#include "local_branch/faults.hpp"

#include <rapidjson/document.h>
#include <rapidjson/error/en.h>

#include <algorithm>
#include <array>
#include <map>
#include <set>

namespace psource::local_branch {
namespace {

struct kind_rules {
  fault_kind kind;
  const char* name;
  /// What it takes besides where and when.
  std::set<std::string> keys;
};

const std::array<kind_rules, 14>& rules() {
  static const std::array<kind_rules, 14> all{{
      {fault_kind::close, "close", {}},
      {fault_kind::reset, "reset", {}},
      {fault_kind::stall, "stall", {"ms", "heartbeats"}},
      {fault_kind::status, "status", {"code", "message"}},
      {fault_kind::garbage, "garbage", {"bytes"}},
      {fault_kind::oversized, "oversized", {"bytes"}},
      {fault_kind::trickle, "trickle", {"ms", "events"}},
      {fault_kind::duplicate_begin, "duplicate_begin", {}},
      {fault_kind::half_transaction, "half_transaction", {"code", "message"}},
      {fault_kind::purge, "purge", {"keep", "search_ms"}},
      {fault_kind::failover, "failover", {}},
      {fault_kind::reshard, "reshard", {"from", "to", "keep_old"}},
      {fault_kind::restart, "restart", {"ms"}},
      {fault_kind::ddl,
       "ddl",
       {"add", "drop", "rename", "modify", "truncate", "recreate", "reload_failures"}},
  }};
  return all;
}

const std::set<std::string> common_keys{"do",   "keyspace", "shard",     "table", "phase",
                                        "rows", "after_ms", "on_signal", "repeat"};

const std::array<const char*, 17> code_names{
    "OK",        "CANCELLED",      "UNKNOWN",           "INVALID_ARGUMENT",   "DEADLINE_EXCEEDED",
    "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION",
    "ABORTED",   "OUT_OF_RANGE",   "UNIMPLEMENTED",     "INTERNAL",           "UNAVAILABLE",
    "DATA_LOSS", "UNAUTHENTICATED"};

constexpr std::uint64_t largest = 1'000'000'000'000;

/// Takes the values of one line; each problem is told.
class line_reader {
 public:
  line_reader(const rapidjson::Value& object, std::size_t line, std::vector<std::string>& problems)
      : object_(object), line_(line), problems_(problems) {}

  void complain(const std::string& what) {
    problems_.push_back("line " + std::to_string(line_) + ": " + what + ".");
  }

  void text(const char* key, std::string& value) {
    if (const auto* found = find(key)) {
      if (found->IsString())
        value = found->GetString();
      else
        complain(std::string("\"") + key + "\" has to be a text");
    }
  }
  void flag(const char* key, bool& value) {
    if (const auto* found = find(key)) {
      if (found->IsBool())
        value = found->GetBool();
      else
        complain(std::string("\"") + key + "\" has to be true or false");
    }
  }
  std::optional<std::uint64_t> number(const char* key, std::uint64_t least) {
    const auto* found = find(key);
    if (found == nullptr) return std::nullopt;
    if (found->IsUint64() && found->GetUint64() >= least && found->GetUint64() <= largest)
      return found->GetUint64();
    complain(std::string("\"") + key + "\" has to be a whole number from " + std::to_string(least) + " on");
    return std::nullopt;
  }
  void names(const char* key, const char* of, std::vector<std::string>& value) {
    const auto* found = find(key);
    if (found == nullptr || !found->IsArray() || found->Empty()) {
      complain(std::string("\"") + key + "\" has to be a list of " + of);
      return;
    }
    for (const auto& name : found->GetArray()) {
      if (name.IsString())
        value.emplace_back(name.GetString());
      else
        complain(std::string("\"") + key + "\" has to be a list of " + of);
    }
  }

 private:
  const rapidjson::Value* find(const char* key) const {
    const auto found = object_.FindMember(key);
    return found == object_.MemberEnd() ? nullptr : &found->value;
  }
  const rapidjson::Value& object_;
  const std::size_t line_;
  std::vector<std::string>& problems_;
};

void read_change(const rapidjson::Value& object, line_reader& read, fault& out) {
  ddl_change change;
  std::size_t given = 0;
  const auto take = [&](const char* key, ddl_kind kind) {
    if (!object.HasMember(key)) return false;
    change.kind = kind;
    ++given;
    return true;
  };
  if (take("add", ddl_kind::add)) read.text("add", change.column);
  if (take("drop", ddl_kind::drop)) read.text("drop", change.column);
  if (take("modify", ddl_kind::modify)) read.text("modify", change.column);
  if (take("rename", ddl_kind::rename)) {
    std::vector<std::string> names;
    read.names("rename", "columns", names);
    if (names.size() == 2) {
      change.column = names[0];
      change.new_name = names[1];
    } else {
      read.complain("\"rename\" has to be a column's name and its new one");
    }
  }
  bool whole_table = false;
  for (const auto& [key, kind] :
       {std::pair{"truncate", ddl_kind::truncate}, std::pair{"recreate", ddl_kind::drop_table}}) {
    bool wanted = false;
    read.flag(key, wanted);
    if (wanted) whole_table = take(key, kind);
  }
  change.reload_failures = read.number("reload_failures", 0).value_or(0);
  out.changes.push_back(change);
  if (change.kind == ddl_kind::drop_table) {
    change.kind = ddl_kind::create_table;
    change.reload_failures = 0;
    out.changes.push_back(change);
  }
  if (out.table.empty() || given != 1)
    read.complain(
        "a ddl needs \"table\" and one of \"add\", \"drop\", \"rename\", \"modify\", \"truncate\", "
        "\"recreate\"");
  if (whole_table && !out.shard.empty()) read.complain("a table is emptied on all of its shards");
  if (out.repeat != 1) read.complain("a ddl happens once");
}

std::chrono::milliseconds ms(std::uint64_t count) {
  return std::chrono::milliseconds(static_cast<std::int64_t>(count));
}

fault read_line(const rapidjson::Value& object, std::size_t line, std::vector<std::string>& problems) {
  line_reader read(object, line, problems);
  fault out;
  out.line = line;
  std::string name;
  read.text("do", name);
  const auto rule =
      std::find_if(rules().begin(), rules().end(), [&](const auto& r) { return name == r.name; });
  if (rule == rules().end()) {
    std::string known;
    for (const auto& r : rules()) known += (known.empty() ? "" : ", ") + std::string(r.name);
    read.complain("\"do\" has to be one of " + known);
    return out;
  }
  out.kind = rule->kind;
  for (const auto& member : object.GetObject())
    if (common_keys.count(member.name.GetString()) == 0 && rule->keys.count(member.name.GetString()) == 0)
      read.complain("\"" + std::string(member.name.GetString()) + "\" is nothing that " + name + " takes");
  read.text("keyspace", out.keyspace);
  read.text("shard", out.shard);
  read.text("table", out.table);
  std::string phase;
  read.text("phase", phase);
  if (phase == "copy")
    out.phase = fault_phase::copy;
  else if (phase == "binlog")
    out.phase = fault_phase::binlog;
  else if (phase == "peek")
    out.phase = fault_phase::peek;
  else if (!phase.empty())
    read.complain("\"phase\" has to be \"copy\", \"binlog\" or \"peek\"");
  out.rows = read.number("rows", 0);
  out.after = ms(read.number("after_ms", 0).value_or(0));
  read.flag("on_signal", out.on_signal);
  out.repeat = read.number("repeat", 1).value_or(1);
  if (const auto given = read.number(out.kind == fault_kind::purge ? "search_ms" : "ms", 0))
    out.duration = ms(*given);
  if (!out.duration && out.kind == fault_kind::trickle) out.duration = ms(10);
  read.flag("heartbeats", out.heartbeats);
  out.message = "the branch was told to fail";
  read.text("message", out.message);
  if (const auto code = object.FindMember("code");
      code != object.MemberEnd() && rule->keys.count("code") > 0) {
    const auto known = std::find_if(code_names.begin(), code_names.end(), [&](const char* n) {
      return code->value.IsString() && std::string(code->value.GetString()) == n;
    });
    if (known != code_names.end())
      out.code = static_cast<int>(known - code_names.begin());
    else if (code->value.IsInt() && code->value.GetInt() >= 0 && code->value.GetInt() <= 16)
      out.code = code->value.GetInt();
    else
      read.complain("\"code\" has to be a gRPC status such as \"UNAVAILABLE\"");
  }
  out.bytes = static_cast<std::size_t>(
      read.number("bytes", 1).value_or(out.kind == fault_kind::oversized ? std::uint64_t{192} << 20 : 64));
  constexpr std::size_t largest_message = 1u << 30;
  if (out.bytes > largest_message) read.complain("\"bytes\" is more than a message can have");
  out.events = static_cast<std::size_t>(read.number("events", 1).value_or(1));
  out.keep = static_cast<std::size_t>(read.number("keep", 0).value_or(0));
  if (out.kind == fault_kind::reshard) {
    read.names("from", "shards", out.from);
    read.names("to", "shards", out.to);
    read.flag("keep_old", out.keep_old);
    if (out.repeat != 1) read.complain("a reshard happens once");
  }
  if (out.kind == fault_kind::ddl) read_change(object, read, out);
  return out;
}

}  // namespace

const char* to_string(fault_kind kind) {
  for (const auto& rule : rules())
    if (rule.kind == kind) return rule.name;
  return "";
}

parsed_faults parse_faults(std::string_view text) {
  parsed_faults out;
  std::size_t number = 0;
  while (!text.empty()) {
    const auto end = std::min(text.find('\n'), text.size());
    const std::string line(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
    ++number;
    const auto first = line.find_first_not_of(" \t\r");
    if (first == std::string::npos || line[first] == '#') continue;
    rapidjson::Document document;
    document.Parse<rapidjson::kParseIterativeFlag>(line.c_str(), line.size());
    if (document.HasParseError() || !document.IsObject()) {
      out.problems.push_back(
          "line " + std::to_string(number) + ": not a JSON object" +
          (document.HasParseError()
               ? std::string(" (") + rapidjson::GetParseError_En(document.GetParseError()) + ")"
               : std::string()) +
          ".");
      continue;
    }
    const auto problems = out.problems.size();
    auto made = read_line(document, number, out.problems);
    if (out.problems.size() == problems) out.faults.push_back(std::move(made));
  }
  return out;
}

// -- fault_injector
// ------------------------------------------------------------------------------------------------

result<std::unique_ptr<fault_injector>> fault_injector::make(branch& target, std::vector<fault> faults,
                                                             hooks told) {
  std::unique_ptr<fault_injector> out(new fault_injector(target, std::move(told)));
  for (auto& what : faults) {
    const auto refuse = [&](const std::string& why) {
      return fail(error_code::config_invalid, "line " + std::to_string(what.line) + ": " + why);
    };
    keyspace* ks = what.keyspace.empty() && target.keyspaces().size() == 1
                       ? target.keyspaces().begin()->second.get()
                       : target.find(what.keyspace);
    if (!what.keyspace.empty() && ks == nullptr) return refuse("there is no keyspace " + what.keyspace + ".");
    entry made;
    made.left = what.repeat;
    made.period = what.after;
    if (what.kind == fault_kind::reshard) {
      if (ks == nullptr) return refuse("a reshard needs \"keyspace\" where there are several.");
      auto plan = ks->plan_reshard(what.from, what.to, what.keep_old);
      if (!plan) return refuse(plan.error().message);
      made.plan = *plan;
    }
    if (what.kind == fault_kind::ddl) {
      for (const auto& [name, each] : target.keyspaces()) {
        const auto table = each->find_table(what.table);
        if (!table || (!what.keyspace.empty() && what.keyspace != name)) continue;
        for (const auto& change : what.changes) {
          const auto number = each->plan_ddl(*table, change);
          if (!number) return refuse(number.error().message);
          made.ddls.push_back({each.get(), *table, *number});
        }
      }
      if (made.ddls.empty()) return refuse("there is no table " + what.table + ".");
    }
    made.what = std::move(what);
    out->entries_.push_back(std::move(made));
  }
  // Shards that a reshard brings may be named in the lines before it, too.
  for (const auto& e : out->entries_)
    if (!out->has_shard_of(e.what))
      return fail(error_code::config_invalid, "line " + std::to_string(e.what.line) + ": there is no shard" +
                                                  (e.what.shard.empty() ? "" : " " + e.what.shard) +
                                                  " that a " + to_string(e.what.kind) + " can happen to.");
  return out;
}

bool fault_injector::has_shard_of(const fault& what) const {
  if (what.kind != fault_kind::purge && what.kind != fault_kind::failover && what.kind != fault_kind::ddl) return true;
  for (const auto& [name, ks] : target_.keyspaces()) {
    if (ks->recorded() || (!what.keyspace.empty() && what.keyspace != name)) continue;
    for (const auto& s : ks->shards())
      if (what.shard.empty() || what.shard == s->name()) return true;
  }
  return false;
}

fault_injector::~fault_injector() { stop(); }

void fault_injector::start() {
  std::lock_guard lock(mutex_);
  if (started_) return;
  started_ = true;
  begin_ = clock::now();
  thread_ = std::thread([this] { run(); });
}

void fault_injector::signal() {
  std::optional<fault> found;
  {
    std::lock_guard lock(mutex_);
    for (auto& e : entries_) {
      if (!e.what.on_signal || e.signalled || e.left == 0) continue;
      e.signalled = true;
      found = e.what;
      break;
    }
  }
  if (found && hooks_.signalled) hooks_.signalled(*found);
  changed_.notify_all();
}

void fault_injector::stop() {
  {
    std::lock_guard lock(mutex_);
    stopped_ = true;
  }
  changed_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void fault_injector::subscribe(std::weak_ptr<commit_listener> call) {
  std::lock_guard lock(mutex_);
  calls_.erase(std::remove_if(calls_.begin(), calls_.end(), [](const auto& c) { return c.expired(); }),
               calls_.end());
  calls_.push_back(std::move(call));
}

void fault_injector::begin_again(entry& e) {
  --e.left;
  e.signalled = false;
  e.woken = false;
  // Without a call to wait for it comes once every "after_ms".
  if (!e.what.needs_call()) e.what.after += e.period;
}

bool fault_injector::due(const entry& e, clock::time_point now) const {
  return started_ && !stopped_ && e.left > 0 && now >= begin_ + e.what.after &&
         (!e.what.on_signal || e.signalled);
}

std::optional<fault> fault_injector::next(const call_view& call, std::vector<bool>& had) {
  std::vector<entry> of_branch;
  std::optional<fault> found;
  {
    std::lock_guard lock(mutex_);
    had.resize(entries_.size());
    const auto now = clock::now();
    for (std::size_t i = 0; i < entries_.size() && !found; ++i) {
      auto& e = entries_[i];
      const auto& what = e.what;
      if (had[i] || !what.needs_call() || !due(e, now)) continue;
      if (call.rows < what.rows.value_or(0)) continue;
      if (call.peeks != (what.phase == fault_phase::peek)) continue;
      if (what.phase == fault_phase::copy && !call.copying) continue;
      if (what.phase == fault_phase::binlog && call.copying) continue;
      const bool here =
          what.kind == fault_kind::reshard
              ? std::any_of(what.from.begin(), what.from.end(),
                            [&](const auto& s) { return call.reads(what.keyspace, s, what.table); })
              : call.reads(what.keyspace, what.shard, what.table);
      if (!here) continue;
      const bool cuts = what.kind == fault_kind::duplicate_begin || what.kind == fault_kind::half_transaction;
      if (cuts && !call.has_transaction) continue;
      if (what.kind == fault_kind::trickle && !call.has_response) continue;
      had[i] = true;
      begin_again(e);
      if (!is_of_branch(what.kind))
        found = what;
      else if (what.kind == fault_kind::restart)
        queued_.push_back(e);
      else
        of_branch.push_back(e);
    }
  }
  changed_.notify_all();
  for (const auto& e : of_branch) carry_out(e);
  if (found && hooks_.told) hooks_.told(*found);
  return found;
}

void fault_injector::carry_out(const entry& e) {
  const auto& tell = happens(e) ? hooks_.told : hooks_.missed;
  if (tell) tell(e.what);
}

bool fault_injector::happens(const entry& e) {
  const auto& what = e.what;
  const auto duration = what.duration.value_or(std::chrono::milliseconds(0));
  if (what.kind == fault_kind::restart) {
    if (hooks_.restart) hooks_.restart(duration);
    return true;
  }
  if (what.kind == fault_kind::reshard) return e.plan->participants.front()->owner().reshard(*e.plan);
  bool done = false;
  if (what.kind == fault_kind::ddl) {
    const auto now = std::chrono::system_clock::now().time_since_epoch();
    const auto time_ns = std::chrono::duration_cast<std::chrono::nanoseconds>(now).count();
    for (const auto& planned : e.ddls)
      done = planned.ks->alter(planned.table, planned.number, what.shard, time_ns) || done;
    return done;
  }
  for (const auto& [name, ks] : target_.keyspaces()) {
    if (ks->recorded() || (!what.keyspace.empty() && what.keyspace != name)) continue;
    // An old shard has its log for as long as it is kept, and streams still read it.
    for (shard* s : ks->readable_shards()) {
      if (!what.shard.empty() && what.shard != s->name()) continue;
      done = true;
      if (what.kind == fault_kind::purge)
        s->purge(what.keep, duration);
      else
        s->fail_over();
    }
  }
  return done;
}

void fault_injector::wake_calls() {
  std::vector<std::weak_ptr<commit_listener>> calls;
  {
    std::lock_guard lock(mutex_);
    calls = calls_;
  }
  for (const auto& call : calls)
    if (const auto held = call.lock()) held->on_commit();
}

void fault_injector::run() {
  std::unique_lock lock(mutex_);
  while (!stopped_) {
    const auto now = clock::now();
    std::vector<entry> work;
    work.swap(queued_);
    bool wake = false;
    auto next = clock::time_point::max();
    for (auto& e : entries_) {
      if (e.left == 0 || (e.what.needs_call() && e.woken) || (e.what.on_signal && !e.signalled)) continue;
      if (!due(e, now)) {
        next = std::min(next, begin_ + e.what.after);
        continue;
      }
      if (e.what.needs_call()) {
        wake = e.woken = true;
        continue;
      }
      work.push_back(e);
      begin_again(e);
    }
    if (!work.empty() || wake) {
      lock.unlock();
      if (wake) wake_calls();
      for (const auto& e : work) carry_out(e);
      lock.lock();
      continue;
    }
    if (next == clock::time_point::max())
      changed_.wait(lock);
    else
      changed_.wait_until(lock, next);
  }
}

}  // namespace psource::local_branch
