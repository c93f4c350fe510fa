// A rewriter without recursion: the stack is one bit per level.
#include "protocol/mapping/json_text.hpp"

#include <bitset>
#include <cstdint>

#include "protocol/mapping/json_string.hpp"

namespace psource {
namespace {

constexpr std::size_t deepest = 512;

class rewriter {
 public:
  rewriter(text_buffer& out, std::string_view text)
      : out_(out), at_(text.data()), end_(text.data() + text.size()) {}

  /// False when the text is not JSON. What was written until then is of no use.
  bool run() {
    bool value_wanted = true;
    for (;;) {
      skip_space();
      if (value_wanted) {
        if (at_ == end_) return false;
        if (*at_ == '{' || *at_ == '[') {
          if (!open(*at_, value_wanted)) return false;
          continue;
        }
        if (!scalar()) return false;
        value_wanted = false;
      }
      // A value has just ended.
      skip_space();
      if (depth_ == 0) return at_ == end_;
      if (at_ == end_) return false;
      const bool object = is_object_[depth_ - 1];
      if (*at_ == ',') {
        out_.push(*at_++);
        if (object && !key()) return false;
        value_wanted = true;
      } else if (*at_ == (object ? '}' : ']')) {
        out_.push(*at_++);
        --depth_;
      } else {
        return false;
      }
    }
  }

  bool repaired() const { return repaired_; }

 private:
  void skip_space() {
    while (at_ != end_ && (*at_ == ' ' || *at_ == '\t' || *at_ == '\n' || *at_ == '\r')) ++at_;
  }

  /// Goes into an object or array; `value_wanted` is false afterwards when it was empty and has been closed.
  bool open(char bracket, bool& value_wanted) {
    if (depth_ == deepest) return false;
    out_.push(bracket);
    ++at_;
    skip_space();
    if (at_ == end_) return false;
    const bool object = bracket == '{';
    if (*at_ == (object ? '}' : ']')) {
      out_.push(*at_++);
      value_wanted = false;
      return true;
    }
    is_object_[depth_++] = object;
    return !object || key();
  }

  bool key() {
    skip_space();
    if (at_ == end_ || *at_ != '"' || !string()) return false;
    skip_space();
    if (at_ == end_ || *at_ != ':') return false;
    out_.push(*at_++);
    return true;
  }

  bool scalar() {
    switch (*at_) {
      case '"':
        return string();
      case 't':
        return word("true");
      case 'f':
        return word("false");
      case 'n':
        return word("null");
      default:
        return number();
    }
  }

  bool word(std::string_view expected) {
    if (std::string_view(at_, static_cast<std::size_t>(end_ - at_)).substr(0, expected.size()) != expected)
      return false;
    out_.append(expected);
    at_ += expected.size();
    return true;
  }

  std::string_view digits() {
    const char* const from = at_;
    while (at_ != end_ && *at_ >= '0' && *at_ <= '9') ++at_;
    return {from, static_cast<std::size_t>(at_ - from)};
  }

  bool number() {
    if (*at_ == '-') out_.push(*at_++);
    std::string_view whole = digits();
    std::string_view fraction;
    if (at_ != end_ && *at_ == '.') {
      ++at_;
      fraction = digits();
    }
    if (whole.empty() && fraction.empty()) return false;
    while (whole.size() > 1 && whole.front() == '0') whole.remove_prefix(1);
    out_.append(whole.empty() ? std::string_view("0") : whole);
    if (!fraction.empty()) {
      out_.push('.');
      out_.append(fraction);
    }
    if (at_ == end_ || (*at_ != 'e' && *at_ != 'E')) return true;
    out_.push(*at_++);
    if (at_ != end_ && (*at_ == '+' || *at_ == '-')) out_.push(*at_++);
    const std::string_view exponent = digits();
    out_.append(exponent);
    return !exponent.empty();
  }

  bool string() {
    ++at_;
    out_.push('"');
    for (;;) {
      const char* const from = at_;
      while (at_ != end_ && *at_ != '"' && *at_ != '\\') ++at_;
      if (at_ == end_) return false;
      if (append_escaped(out_, std::string_view(from, static_cast<std::size_t>(at_ - from))) !=
          outcome::exact)
        repaired_ = true;
      if (*at_ == '"') {
        ++at_;
        out_.push('"');
        return true;
      }
      ++at_;
      if (!escape()) return false;
    }
  }

  void character(std::uint32_t code_point) {
    char* const to = out_.reserve(8);
    out_.finish(write_escaped(to, code_point));
  }

  bool hex(unsigned count, std::uint32_t& value) {
    value = 0;
    if (end_ - at_ < static_cast<std::ptrdiff_t>(count)) return false;
    for (unsigned i = 0; i < count; ++i) {
      const char c = *at_++;
      std::uint32_t digit = 0;
      if (c >= '0' && c <= '9')
        digit = static_cast<std::uint32_t>(c - '0');
      else if (c >= 'a' && c <= 'f')
        digit = static_cast<std::uint32_t>(c - 'a' + 10);
      else if (c >= 'A' && c <= 'F')
        digit = static_cast<std::uint32_t>(c - 'A' + 10);
      else
        return false;
      value = value << 4 | digit;
    }
    return true;
  }

  /// Behind a backslash.
  bool escape() {
    if (at_ == end_) return false;
    std::uint32_t value = 0;
    switch (*at_++) {
      case '"':
        character('"');
        return true;
      case '\\':
        character('\\');
        return true;
      case '/':
        character('/');
        return true;
      case 'b':
        character('\b');
        return true;
      case 'f':
        character('\f');
        return true;
      case 'n':
        character('\n');
        return true;
      case 'r':
        character('\r');
        return true;
      case 't':
        character('\t');
        return true;
      case 'a':
        character('\a');
        return true;
      case 'v':
        character('\v');
        return true;
      case 'x':
        if (!hex(2, value)) return false;
        if (value >= 0x80) {  // Go's form of a byte that is not UTF-8
          value = 0xFFFD;
          repaired_ = true;
        }
        character(value);
        return true;
      case 'U':
        if (!hex(8, value) || value > 0x10FFFF) return false;
        unit(value);
        return true;
      case 'u':
        if (!hex(4, value)) return false;
        if (value >= 0xD800 && value < 0xDC00 && end_ - at_ >= 6 && at_[0] == '\\' && at_[1] == 'u') {
          const char* const back = at_;
          std::uint32_t low = 0;
          at_ += 2;
          if (hex(4, low) && low >= 0xDC00 && low < 0xE000)
            value = 0x10000 + ((value - 0xD800) << 10) + (low - 0xDC00);
          else
            at_ = back;
        }
        unit(value);
        return true;
      default:
        return false;
    }
  }

  /// A code point that may be half of a surrogate pair, which no text holds: it stays out.
  void unit(std::uint32_t value) {
    if (value >= 0xD800 && value < 0xE000) repaired_ = true;
    character(value);
  }

  text_buffer& out_;
  const char* at_;
  const char* const end_;
  std::bitset<deepest> is_object_;
  std::size_t depth_ = 0;
  bool repaired_ = false;
};

}  // namespace

outcome append_json_text(text_buffer& out, text_buffer& scratch, std::string_view text) {
  if (text.empty()) {
    out.append("null");
    return outcome::exact;
  }
  scratch.clear();
  rewriter work(scratch, text);
  if (!work.run()) {
    append_escaped(out, text);
    return outcome::repaired;
  }
  append_escaped(out, scratch.view());
  return work.repaired() ? outcome::repaired : outcome::exact;
}

}  // namespace psource
