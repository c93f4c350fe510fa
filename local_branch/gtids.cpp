// GTID sets as MySQL and Vitess write them.
#include "local_branch/gtids.hpp"

#include <algorithm>
#include <charconv>
#include <limits>

namespace psource::local_branch {
namespace {

bool read_number(std::string_view text, std::uint64_t& value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size() && value > 0 &&
         value <= static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max());
}

bool is_uuid(std::string_view text) {
  if (text.size() != 36) return false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const bool dash = i == 8 || i == 13 || i == 18 || i == 23;
    const char c = text[i];
    const bool hex = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
    if (dash ? c != '-' : !hex) return false;
  }
  return true;
}

bool is_tag(std::string_view text) {
  return text.size() <= 32 && std::all_of(text.begin(), text.end(), [](char c) {
           return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
         });
}

std::string lower(std::string_view text) {
  std::string out(text);
  std::transform(out.begin(), out.end(), out.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; });
  return out;
}

std::string_view cut(std::string_view& rest, char separator) {
  const auto at = rest.find(separator);
  const auto part = rest.substr(0, at);
  rest = at == std::string_view::npos ? std::string_view() : rest.substr(at + 1);
  return part;
}

std::string_view trim(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\n')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\n')) text.remove_suffix(1);
  return text;
}

tl::unexpected<failure> refuse(const std::string& why) {
  return fail(error_code::response_malformed, "could not decode position: parse error: " + why);
}

}  // namespace

result<gtids> gtids::parse(std::string_view position) {
  const auto slash = position.find('/');
  const auto flavor = slash == std::string_view::npos ? std::string_view() : position.substr(0, slash);
  if (flavor != "MySQL56") return refuse("unknown GTIDSet flavor \"" + std::string(flavor) + "\"");
  const auto whole = position.substr(slash + 1);
  const auto invalid = [&](const std::string& why) {
    return refuse("invalid MySQL 5.6 GTID set (\"" + std::string(whole) + "\"): " + why);
  };
  gtids out;
  for (auto rest = whole; !rest.empty();) {
    auto part = trim(cut(rest, ','));
    if (part.empty()) continue;
    const auto uuid = trim(cut(part, ':'));
    if (!is_uuid(uuid) || part.empty()) return invalid("expected uuid:interval");
    std::string source = lower(uuid);
    while (!part.empty()) {
      auto piece = trim(cut(part, ':'));
      const bool digit = !piece.empty() && piece.front() >= '0' && piece.front() <= '9';
      if (!digit && !piece.empty()) {  // a tag: it holds for the intervals behind it
        if (part.empty() || !is_tag(piece)) return invalid("invalid interval");
        source = lower(uuid) + ":" + lower(piece);
        continue;
      }
      std::uint64_t first = 0;
      std::uint64_t last = 0;
      const bool range = piece.find('-') != std::string_view::npos;
      if (!read_number(cut(piece, '-'), first)) return invalid("invalid interval");
      last = first;
      if (range && !read_number(piece, last)) return invalid("invalid interval");
      if (last >= first) out.add(source, first, last);
    }
  }
  return out;
}

void gtids::add(const std::string& source, std::uint64_t first, std::uint64_t last) {
  auto& have = sources_[source];
  auto at = have.upper_bound(first);
  if (at != have.begin()) {
    auto before = std::prev(at);
    if (before->second + 1 >= first) {
      first = before->first;
      last = std::max(last, before->second);
      at = have.erase(before);
    }
  }
  while (at != have.end() && at->first <= last + 1) {
    last = std::max(last, at->second);
    at = have.erase(at);
  }
  have[first] = last;
}

void gtids::remove(const std::string& source, std::uint64_t number) {
  const auto found = sources_.find(source);
  if (found == sources_.end()) return;
  auto& have = found->second;
  auto at = have.upper_bound(number);
  if (at == have.begin()) return;
  --at;
  const auto [first, last] = *at;
  if (last < number) return;
  have.erase(at);
  if (first < number) have[first] = number - 1;
  if (number < last) have[number + 1] = last;
  if (have.empty()) sources_.erase(found);
}

void gtids::merge(const gtids& other) {
  for (const auto& [source, list] : other.sources_)
    for (const auto& [first, last] : list) add(source, first, last);
}

bool gtids::has(const std::string& source, std::uint64_t number) const {
  const auto found = sources_.find(source);
  if (found == sources_.end()) return false;
  const auto at = found->second.upper_bound(number);
  return at != found->second.begin() && std::prev(at)->second >= number;
}

bool gtids::contains(const gtids& other) const {
  for (const auto& [source, list] : other.sources_) {
    const auto found = sources_.find(source);
    if (found == sources_.end()) return false;
    for (const auto& [first, last] : list) {
      const auto at = found->second.upper_bound(first);
      if (at == found->second.begin() || std::prev(at)->second < last) return false;
    }
  }
  return true;
}

std::string gtids::to_string(std::string_view separator) const {
  std::string out;
  for (const auto& [source, list] : sources_) {
    if (!out.empty()) out += separator;
    out += source;
    for (const auto& [first, last] : list) {
      out += ":" + std::to_string(first);
      if (last != first) out += "-" + std::to_string(last);
    }
  }
  return out;
}

}  // namespace psource::local_branch
