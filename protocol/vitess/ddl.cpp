// Implementation of ddl.hpp.
#include "protocol/vitess/ddl.hpp"

#include <algorithm>
#include <cstddef>
#include <map>
#include <set>
#include <utility>

#include "protocol/vitess/internal_tables.hpp"

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

using place = std::pair<std::string, std::string>;

// A table as a statement names it.
struct named_table {
  std::string schema;
  std::string name;
  bool quoted = false;

  place where() const { return {schema, name}; }
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
  // "t", "ks.t", quoted or not.
  named_table take_table() {
    named_table table = take_part();
    while (take(".")) {
      std::string schema = std::move(table.name);
      table = take_part();
      table.schema = std::move(schema);
    }
    return table;
  }
  std::string take_name() { return take_table().name; }

 private:
  bool is(std::string_view keyword) const {
    return more_ && !now_.quoted && now_.text.size() == keyword.size() &&
           std::equal(keyword.begin(), keyword.end(), now_.text.begin(),
                      [](char want, char have) { return want == (have >= 'A' && have <= 'Z' ? have + ('a' - 'A') : have); });
  }
  named_table take_part() {
    named_table part;
    if (more_) part = {{}, now_.text, now_.quoted};
    advance();
    return part;
  }
  void advance() { more_ = tokens_.next(now_); }

  tokenizer tokens_;
  token now_;
  bool more_ = false;
};

struct table_rename {
  named_table from;
  named_table to;
};

// What the renames come to: "t to h, n to t, h to n" has t and n change places.
std::vector<table_rename> come_to(std::vector<table_rename> steps) {
  std::vector<table_rename> moves;
  std::map<place, std::size_t> at;
  for (auto& step : steps) {
    place now = step.to.where();
    const auto moved = at.find(step.from.where());
    if (moved == at.end()) {
      at[std::move(now)] = moves.size();
      moves.push_back(std::move(step));
    } else {
      const std::size_t move = moved->second;
      at.erase(moved);
      at[std::move(now)] = move;
      moves[move].to = std::move(step.to);
    }
  }
  return moves;
}

// The rename that is Vitess's DROP TABLE. Up to Vitess 15 a cut-over takes two statements, of which the first gives the old
// table such a name, too: in quotes, which the DROP TABLE of all versions with names of that form leaves out.
bool drops(const named_table& renamed_to) {
  constexpr std::string_view form = "_vt_HOLD_";
  const bool cut_over = renamed_to.quoted && renamed_to.name.compare(0, form.size(), form) == 0;
  return is_dropped_table(renamed_to.name) && !cut_over;
}

std::vector<std::string> tables_renamed(std::vector<table_rename> steps) {
  const auto moves = come_to(std::move(steps));
  std::set<place> taken;
  for (const auto& move : moves) taken.insert(move.to.where());
  std::vector<std::string> names;
  for (const auto& [from, to] : moves) {
    if (from.name.empty() || to.name.empty() || from.where() == to.where()) continue;
    // Built from the rows of the table whose place it takes.
    if (is_internal_table(from.name) || is_schema_change_table(from.name, to.name)) continue;
    // In whose place such a table has come, or comes with the next statement.
    const bool put_aside = is_internal_table(to.name) || is_schema_change_table(to.name, from.name);
    // Another table may take its name without a word: Vitess sends an ALTER TABLE … RENAME to those alone who read the table
    // that it names first.
    if (taken.count(from.where()) == 0 && (!put_aside || drops(to))) names.push_back(from.name);
    if (!put_aside && to.name != from.name) names.push_back(to.name);
  }
  return names;
}

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
    named_table table = sql.take_table();
    while (!sql.at_end()) {
      if (sql.take("rename")) {
        if (sql.take("column") || sql.take("index") || sql.take("key")) continue;
        if (!sql.take("to") && !sql.take("as")) sql.take("=");
        names = tables_renamed({table_rename{std::move(table), sql.take_table()}});
        break;
      }
      const bool exchanges = sql.take("exchange");
      if ((exchanges || sql.take("drop") || sql.take("truncate")) && sql.take("partition")) {
        names.push_back(std::move(table.name));
        if (exchanges) {
          sql.skip();
          if (sql.take("with") && sql.take("table")) names.push_back(sql.take_name());
        }
        break;
      }
      sql.skip();
    }
  } else if (sql.take("rename")) {
    if (!sql.take("table") && !sql.take("tables")) return {};
    std::vector<table_rename> steps;
    do {
      named_table from = sql.take_table();
      if (!sql.take("to")) break;
      steps.push_back({std::move(from), sql.take_table()});
    } while (sql.take(","));
    names = tables_renamed(std::move(steps));
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
