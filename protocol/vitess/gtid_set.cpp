// GTID sets: parsing, containment and counting, for the three flavors that Vitess knows.
#include "protocol/vitess/gtid_set.hpp"

#include <algorithm>
#include <limits>
#include <optional>
#include <tuple>

namespace psource {
namespace {

constexpr std::size_t max_text = std::size_t{4} << 20;
constexpr std::uint64_t max_sequence = std::numeric_limits<std::int64_t>::max();
constexpr std::size_t uuid_text_size = 36;
constexpr std::size_t max_tag = 32;

bool is_space(char c) { return c == ' ' || c == '\n' || c == '\r' || c == '\t'; }

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && is_space(text.front())) text.remove_prefix(1);
  while (!text.empty() && is_space(text.back())) text.remove_suffix(1);
  return text;
}

// Cuts the part before `separator` off `rest`; what follows the last separator is a part as well.
std::string_view next_part(std::string_view& rest, char separator) {
  const auto end = rest.find(separator);
  const auto part = rest.substr(0, end);
  rest.remove_prefix(end == std::string_view::npos ? rest.size() : end + 1);
  return part;
}

std::optional<std::uint64_t> parse_number(std::string_view text, std::uint64_t limit) {
  if (text.empty()) return std::nullopt;
  std::uint64_t value = 0;
  for (const char c : text) {
    if (c < '0' || c > '9') return std::nullopt;
    const auto digit = static_cast<std::uint64_t>(c - '0');
    if (value > (limit - digit) / 10) return std::nullopt;
    value = value * 10 + digit;
  }
  return value;
}

// The value of each character that is a hexadecimal digit, -1 of any other.
constexpr std::array<std::int8_t, 256> make_hex_digits() {
  std::array<std::int8_t, 256> values{};
  for (std::size_t c = 0; c < values.size(); ++c) values[c] = -1;
  for (std::size_t i = 0; i < 10; ++i) values['0' + i] = static_cast<std::int8_t>(i);
  for (std::size_t i = 0; i < 6; ++i) values['a' + i] = values['A' + i] = static_cast<std::int8_t>(10 + i);
  return values;
}
constexpr std::array<std::int8_t, 256> hex_digits = make_hex_digits();

bool is_dash_place(std::size_t i) { return i == 8 || i == 13 || i == 18 || i == 23; }

std::optional<std::array<std::uint8_t, 16>> parse_uuid(std::string_view text) {
  if (text.size() != uuid_text_size) return std::nullopt;
  std::array<std::uint8_t, 16> uuid{};
  std::size_t at = 0;
  int all = 0;  // Negative once one character was no digit.
  for (auto& byte : uuid) {
    if (is_dash_place(at) && text[at++] != '-') return std::nullopt;
    const int high = hex_digits[static_cast<unsigned char>(text[at])];
    const int low = hex_digits[static_cast<unsigned char>(text[at + 1])];
    all |= high | low;
    byte = static_cast<std::uint8_t>((high & 15) << 4 | (low & 15));
    at += 2;
  }
  if (all < 0) return std::nullopt;
  return uuid;
}

void append_uuid(std::string& out, const std::array<std::uint8_t, 16>& uuid) {
  constexpr char digits[] = "0123456789abcdef";
  for (std::size_t i = 0; i < uuid.size(); ++i) {
    if (i == 4 || i == 6 || i == 8 || i == 10) out.push_back('-');
    out.push_back(digits[uuid[i] >> 4]);
    out.push_back(digits[uuid[i] & 15]);
  }
}

// A tag in lower case, as MySQL stores it; nullopt when it is none.
std::optional<std::string> parse_tag(std::string_view text) {
  if (text.empty() || text.size() > max_tag) return std::nullopt;
  std::string tag;
  for (char c : text) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
    const bool letter = (c >= 'a' && c <= 'z') || c == '_';
    if (!letter && (tag.empty() || c < '0' || c > '9')) return std::nullopt;
    tag.push_back(c);
  }
  return tag;
}

std::uint64_t saturating_add(std::uint64_t a, std::uint64_t b) {
  const auto limit = std::numeric_limits<std::uint64_t>::max();
  return a > limit - b ? limit : a + b;
}

tl::unexpected<failure> malformed(std::string_view part, const char* expected) {
  constexpr std::size_t shown = 80;
  std::string found(part.substr(0, shown));
  if (part.size() > shown) found += "...";
  for (char& c : found)
    if (static_cast<unsigned char>(c) < 0x20 || static_cast<unsigned char>(c) > 0x7e) c = '?';
  return fail(error_code::response_malformed,
              "\"" + found + "\" is no GTID position: expected " + expected + ".");
}

}  // namespace

result<gtid_set> gtid_set::parse_position(std::string_view text) {
  text = trimmed(text);
  if (text.size() > max_text) return malformed(text, "at most 4 MiB of text");
  const auto slash = text.find('/');
  if (slash == std::string_view::npos) return parse_mysql56(text);
  const auto flavor = text.substr(0, slash);
  const auto set = text.substr(slash + 1);
  if (flavor == "MySQL56") return parse_mysql56(set);
  if (flavor == "MariaDB") return parse_mariadb(set);
  if (flavor == "FilePos") return parse_filepos(set);
  return malformed(text, "MySQL56/, MariaDB/ or FilePos/ in front");
}

result<gtid_set> gtid_set::parse_mysql56(std::string_view text) {
  gtid_set set;
  while (!text.empty()) {
    const auto part = trimmed(next_part(text, ','));
    if (part.empty()) continue;
    auto rest = part;
    const auto uuid = parse_uuid(trimmed(next_part(rest, ':')));
    if (!uuid) return malformed(part, "uuid:1-5");
    if (rest.empty()) return malformed(part, "an interval behind the UUID");
    source current{*uuid, {}, {}};
    const auto keep = [&set](source& from) {
      if (!from.intervals.empty()) set.sources_.push_back(std::move(from));
    };
    bool interval_seen = true;
    while (!rest.empty()) {
      const auto token = trimmed(next_part(rest, ':'));
      if (auto tag = parse_tag(token)) {
        if (!interval_seen) return malformed(part, "an interval behind each tag");
        keep(current);
        current = source{*uuid, std::move(*tag), {}};
        interval_seen = false;
        continue;
      }
      auto ends = token;
      const bool range = token.find('-') != std::string_view::npos;
      const auto first = parse_number(trimmed(next_part(ends, '-')), max_sequence);
      const auto last = range ? parse_number(trimmed(ends), max_sequence) : first;
      if (!first || !last || *first == 0)
        return malformed(part, "intervals such as 7 or 1-5, from 1 to 2^63-1");
      interval_seen = true;
      // Vitess drops intervals that end before they begin.
      if (*last >= *first) current.intervals.push_back({*first, *last});
    }
    if (!interval_seen) return malformed(part, "an interval behind each tag");
    keep(current);
  }
  if (!set.is_in_order()) set.put_in_order();
  return set;
}

// As servers write sets.
bool gtid_set::is_in_order() const {
  for (std::size_t i = 1; i < sources_.size(); ++i)
    if (!before(sources_[i - 1], sources_[i])) return false;
  return std::all_of(sources_.begin(), sources_.end(), [](const source& one) {
    for (std::size_t i = 1; i < one.intervals.size(); ++i)
      if (one.intervals[i].first <= one.intervals[i - 1].last + 1) return false;
    return true;
  });
}

// One entry per (UUID, tag), its intervals sorted and merged.
void gtid_set::put_in_order() {
  std::stable_sort(sources_.begin(), sources_.end(), before);
  std::vector<source> merged;
  for (auto& from : sources_) {
    if (merged.empty() || before(merged.back(), from)) {
      merged.push_back(std::move(from));
    } else {
      auto& to = merged.back().intervals;
      to.insert(to.end(), from.intervals.begin(), from.intervals.end());
    }
  }
  for (auto& entry : merged) {
    auto& list = entry.intervals;
    std::sort(list.begin(), list.end(),
              [](const interval& a, const interval& b) { return a.first < b.first; });
    std::size_t kept = 0;
    for (std::size_t i = 1; i < list.size(); ++i) {
      if (list[i].first <= list[kept].last + 1)
        list[kept].last = std::max(list[kept].last, list[i].last);
      else
        list[++kept] = list[i];
    }
    list.resize(kept + 1);
  }
  sources_ = std::move(merged);
}

result<gtid_set> gtid_set::parse_mariadb(std::string_view text) {
  constexpr std::uint64_t max_id = std::numeric_limits<std::uint32_t>::max();
  gtid_set set;
  set.flavor_ = gtid_flavor::mariadb;
  while (!text.empty()) {
    const auto part = trimmed(next_part(text, ','));
    if (part.empty()) continue;
    auto rest = part;
    const auto domain = parse_number(next_part(rest, '-'), max_id);
    const auto server = parse_number(next_part(rest, '-'), max_id);
    const auto sequence = parse_number(rest, std::numeric_limits<std::uint64_t>::max());
    if (!domain || !server || !sequence) return malformed(part, "domain-server-sequence");
    const mariadb_gtid found{static_cast<std::uint32_t>(*server), *sequence};
    const auto [entry, added] = set.domains_.emplace(static_cast<std::uint32_t>(*domain), found);
    if (!added && entry->second.sequence < found.sequence) entry->second = found;
  }
  return set;
}

result<gtid_set> gtid_set::parse_filepos(std::string_view text) {
  gtid_set set;
  set.flavor_ = gtid_flavor::filepos;
  if (text.empty()) return set;
  const auto colon = text.rfind(':');
  if (colon == std::string_view::npos || colon == 0) return malformed(text, "file:offset");
  const auto offset = parse_number(text.substr(colon + 1), std::numeric_limits<std::uint64_t>::max());
  if (!offset) return malformed(text, "file:offset");
  set.file_ = std::string(text.substr(0, colon));
  set.offset_ = *offset;
  return set;
}

bool gtid_set::before(const source& a, const source& b) {
  return std::tie(a.uuid, a.tag) < std::tie(b.uuid, b.tag);
}

const gtid_set::source* gtid_set::find(const source& key) const {
  const auto found = std::lower_bound(sources_.begin(), sources_.end(), key, before);
  return found != sources_.end() && !before(key, *found) ? &*found : nullptr;
}

bool gtid_set::empty() const { return sources_.empty() && domains_.empty() && file_.empty(); }

bool gtid_set::contains(const gtid_set& other) const { return other.missing_from(*this) == 0; }

std::uint64_t gtid_set::missing_from(const gtid_set& have) const {
  if (empty()) return 0;
  const bool comparable = !have.empty() && have.flavor_ == flavor_;
  std::uint64_t missing = 0;
  switch (flavor_) {
    case gtid_flavor::mysql56:
      for (const auto& wanted : sources_) {
        const auto* known = comparable ? have.find(wanted) : nullptr;
        std::size_t at = 0;
        for (const auto& want : wanted.intervals) {
          std::uint64_t count = want.last - want.first + 1;
          if (known != nullptr) {
            const auto& list = known->intervals;
            while (at < list.size() && list[at].last < want.first) ++at;
            // The last interval may reach into the next one that is wanted, so `at` stays on it.
            for (auto i = at; i < list.size() && list[i].first <= want.last; ++i) {
              count -= std::min(want.last, list[i].last) - std::max(want.first, list[i].first) + 1;
              at = i;
            }
          }
          missing = saturating_add(missing, count);
        }
      }
      return missing;
    case gtid_flavor::mariadb:
      for (const auto& [domain, wanted] : domains_) {
        const auto known = comparable ? have.domains_.find(domain) : have.domains_.end();
        // A domain that is not there at all is missing even when it stands at 0.
        if (!comparable || known == have.domains_.end())
          missing = saturating_add(missing, std::max<std::uint64_t>(wanted.sequence, 1));
        else if (known->second.sequence < wanted.sequence)
          missing = saturating_add(missing, wanted.sequence - known->second.sequence);
      }
      return missing;
    case gtid_flavor::filepos:
      return comparable && std::tie(file_, offset_) <= std::tie(have.file_, have.offset_) ? 0 : 1;
  }
  return missing;
}

gtid_set gtid_set::common_with(const gtid_set& other) const {
  gtid_set common;
  if (empty() || other.empty() || flavor_ != other.flavor_) return common;
  common.flavor_ = flavor_;
  switch (flavor_) {
    case gtid_flavor::mysql56:
      for (const auto& mine : sources_) {
        const auto* theirs = other.find(mine);
        if (theirs == nullptr) continue;
        source both{mine.uuid, mine.tag, {}};
        auto a = mine.intervals.begin();
        auto b = theirs->intervals.begin();
        while (a != mine.intervals.end() && b != theirs->intervals.end()) {
          const interval overlap{std::max(a->first, b->first), std::min(a->last, b->last)};
          if (overlap.first <= overlap.last) both.intervals.push_back(overlap);
          if (a->last < b->last)
            ++a;
          else
            ++b;
        }
        if (!both.intervals.empty()) common.sources_.push_back(std::move(both));
      }
      break;
    case gtid_flavor::mariadb:
      for (const auto& [domain, mine] : domains_) {
        const auto theirs = other.domains_.find(domain);
        if (theirs != other.domains_.end())
          common.domains_[domain] = mine.sequence <= theirs->second.sequence ? mine : theirs->second;
      }
      break;
    case gtid_flavor::filepos:
      return other.contains(*this) ? *this : other;
  }
  return common;
}

bool gtid_set::may_come_from(const gtid_set& primary) const {
  if (empty() || flavor_ != gtid_flavor::mysql56 || primary.flavor_ != flavor_) return primary.contains(*this);
  gtid_set known;
  for (const auto& mine : sources_)
    if (primary.find(mine) != nullptr) known.sources_.push_back(mine);
  return !known.empty() && primary.contains(known);
}

std::string gtid_set::to_position() const {
  if (empty()) return {};
  std::string out;
  switch (flavor_) {
    case gtid_flavor::mysql56: {
      out = "MySQL56/";
      const source* previous = nullptr;
      for (const auto& entry : sources_) {
        if (previous == nullptr || previous->uuid != entry.uuid) {
          if (previous != nullptr) out.push_back(',');
          append_uuid(out, entry.uuid);
        }
        if (!entry.tag.empty()) out += ":" + entry.tag;
        for (const auto& part : entry.intervals) {
          out += ":" + std::to_string(part.first);
          if (part.last != part.first) out += "-" + std::to_string(part.last);
        }
        previous = &entry;
      }
      return out;
    }
    case gtid_flavor::mariadb:
      out = "MariaDB/";
      for (const auto& [domain, gtid] : domains_) {
        if (out.back() != '/') out.push_back(',');
        out +=
            std::to_string(domain) + "-" + std::to_string(gtid.server) + "-" + std::to_string(gtid.sequence);
      }
      return out;
    case gtid_flavor::filepos:
      return "FilePos/" + file_ + ":" + std::to_string(offset_);
  }
  return out;
}

bool operator==(const gtid_set& a, const gtid_set& b) {
  if (a.empty() || b.empty()) return a.empty() && b.empty();
  return a.flavor_ == b.flavor_ && a.contains(b) && b.contains(a);
}

}  // namespace psource
