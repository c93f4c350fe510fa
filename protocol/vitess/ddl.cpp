// Implementation of ddl.hpp.
#include "protocol/vitess/ddl.hpp"

#include <algorithm>
#include <cstddef>

namespace psource {

namespace {

// A word, a name in quotes, or one sign.
struct token {
  std::string text;
  bool quoted = false;
};

bool is_word(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '$' ||
         static_cast<unsigned char>(c) >= 0x80;
}

class tokenizer {
 public:
  explicit tokenizer(std::string_view text) : text_(text) {}

  // False at the end.
  bool next(token& out) {
    skip_blanks();
    if (at_ >= text_.size()) return false;
    out = {};
    const char first = text_[at_];
    if (first == '`' || first == '"' || first == '\'') {
      out.quoted = true;
      for (++at_; at_ < text_.size(); ++at_) {
        if (text_[at_] == first) {
          // Twice stands for itself.
          if (at_ + 1 >= text_.size() || text_[at_ + 1] != first) break;
          ++at_;
        } else if (text_[at_] == '\\' && first != '`' && at_ + 1 < text_.size()) {
          ++at_;
        }
        out.text += text_[at_];
      }
      ++at_;
      return true;
    }
    if (!is_word(first)) {
      out.text = first;
      ++at_;
      return true;
    }
    for (; at_ < text_.size() && is_word(text_[at_]); ++at_) out.text += text_[at_];
    return true;
  }

 private:
  void skip_blanks() {
    while (at_ < text_.size()) {
      const std::string_view rest = text_.substr(at_);
      if (static_cast<unsigned char>(rest.front()) <= ' ') {
        ++at_;
      } else if (rest.substr(0, 2) == "/*") {
        skip_past(rest.find("*/", 2), 2);
      } else if (rest.front() == '#' || rest.substr(0, 3) == "-- ") {
        skip_past(rest.find('\n'), 1);
      } else {
        return;
      }
    }
  }
  void skip_past(std::size_t found, std::size_t length) {
    at_ = found == std::string_view::npos ? text_.size() : at_ + found + length;
  }

  std::string_view text_;
  std::size_t at_ = 0;
};

class statement_reader {
 public:
  explicit statement_reader(std::string_view statement) : tokens_(statement) { advance(); }

  bool take(const char* keyword) {
    if (!is(keyword)) return false;
    advance();
    return true;
  }
  bool at_end() const { return !more_; }
  void skip() { advance(); }
  // "t", "ks.t", quoted or not; the last part.
  std::string take_name() {
    std::string name = take_part();
    while (take(".")) name = take_part();
    return name;
  }

 private:
  bool is(std::string_view keyword) const {
    return more_ && !now_.quoted && now_.text.size() == keyword.size() &&
           std::equal(keyword.begin(), keyword.end(), now_.text.begin(),
                      [](char want, char have) { return want == (have >= 'A' && have <= 'Z' ? have + ('a' - 'A') : have); });
  }
  std::string take_part() {
    std::string part = more_ ? now_.text : std::string();
    advance();
    return part;
  }
  void advance() { more_ = tokens_.next(now_); }

  tokenizer tokens_;
  token now_;
  bool more_ = false;
};

}  // namespace

std::vector<std::string> tables_losing_rows(std::string_view statement) {
  statement_reader sql(statement);
  std::vector<std::string> names;
  if (sql.take("truncate")) {
    sql.take("table");
    names.push_back(sql.take_name());
  } else if (sql.take("drop")) {
    if (!sql.take("table")) return {};
    if (sql.take("if")) sql.take("exists");
    do names.push_back(sql.take_name());
    while (sql.take(","));
  } else if (sql.take("create")) {
    if (!sql.take("table") || sql.take("if")) return {};
    names.push_back(sql.take_name());
  } else if (sql.take("alter")) {
    if (!sql.take("table")) return {};
    std::string name = sql.take_name();
    while (!sql.at_end()) {
      if ((sql.take("drop") || sql.take("truncate") || sql.take("exchange")) && sql.take("partition")) {
        names.push_back(std::move(name));
        break;
      }
      sql.skip();
    }
  }
  names.erase(std::remove(names.begin(), names.end(), std::string()), names.end());
  return names;
}

bool begins_transaction(std::string_view statement) {
  constexpr std::string_view begin = "CREATE TABLE ";
  constexpr std::string_view end = "START TRANSACTION";
  if (statement.substr(0, begin.size()) != begin) return false;
  while (!statement.empty() && static_cast<unsigned char>(statement.back()) <= ' ') statement.remove_suffix(1);
  return statement.size() > end.size() && statement.substr(statement.size() - end.size()) == end;
}

}  // namespace psource
