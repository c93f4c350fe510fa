// Reads the case files, strictly: a line that is not understood is an error.
#include "type_cases.hpp"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <stdexcept>

namespace psource::testing {
namespace {

std::string from_hex(const std::string& text, const std::string& place) {
  const auto digit = [&](char c) -> int {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    throw std::runtime_error(place + ": not hexadecimal");
  };
  if (text.size() % 2 != 0) throw std::runtime_error(place + ": odd number of hexadecimal digits");
  std::string bytes;
  for (std::size_t i = 0; i < text.size(); i += 2)
    bytes.push_back(static_cast<char>(digit(text[i]) * 16 + digit(text[i + 1])));
  return bytes;
}

type_value read_value(const std::string& phase, std::string rest, const std::string& place) {
  type_value value;
  value.phase = phase;
  value.place = place;
  const std::string null_text = "NULL = ";
  if (rest.compare(0, null_text.size(), null_text) == 0) {
    value.null = true;
    value.shown = "NULL";
    rest.erase(0, null_text.size());
  } else {
    const auto plain = rest.find("' = ", 1);
    const auto hex = rest.find("'x = ", 1);
    if (rest.empty() || rest.front() != '\'' || (plain == std::string::npos && hex == std::string::npos))
      throw std::runtime_error(place + ": a value looks like 'text' = JSON");
    value.hex = hex < plain;
    const auto end = value.hex ? hex : plain;
    value.shown = rest.substr(1, end - 1);
    value.bytes = value.hex ? from_hex(value.shown, place) : value.shown;
    rest.erase(0, end + (value.hex ? 5 : 4));
  }
  for (const std::string change : {"NULLED", "TRUNCATED"}) {
    const std::string tail = " " + change;
    if (rest.size() > tail.size() && rest.compare(rest.size() - tail.size(), tail.size(), tail) == 0) {
      value.change = change;
      rest.erase(rest.size() - tail.size());
    }
  }
  value.json = rest;
  return value;
}

}  // namespace

std::vector<type_block> load_type_cases(const std::string& folder) {
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator(folder))
    if (entry.path().extension() == ".txtcase") files.push_back(entry.path());
  std::sort(files.begin(), files.end());

  std::vector<type_block> blocks;
  for (const auto& file : files) {
    std::ifstream in(file);
    std::string line;
    std::string comment;
    int number = 0;
    bool open = false;
    while (std::getline(in, line)) {
      ++number;
      const std::string place = file.filename().string() + ":" + std::to_string(number);
      if (line.empty()) {
        open = false;
        continue;
      }
      if (line.front() == '#') {
        if (number > 1)
          comment = line.substr(std::min<std::size_t>(2, line.size()));  // the first says what the file is
        continue;
      }
      const auto space = line.find(' ');
      const std::string word = line.substr(0, space);
      const std::string rest = space == std::string::npos ? std::string() : line.substr(space + 1);
      if (word == "type") {
        type_block block;
        block.file = file.stem().string();
        block.comment = comment;
        block.column_type = rest;
        block.place = place;
        comment.clear();
        blocks.push_back(block);
        open = true;
        continue;
      }
      if (!open) throw std::runtime_error(place + ": a block begins with its type");
      type_block& block = blocks.back();
      if (word == "number") {
        block.number = std::stoi(rest);
      } else if (word == "charset") {
        block.charset = rest;
      } else if (word == "collation") {
        block.collation = static_cast<std::uint32_t>(std::stoul(rest));
      } else if (word == "option" && rest == "time_as_string") {
        block.options.time_as_string = true;
      } else if (word == "option" && rest == "do_not_treat_tiny_int_as_boolean") {
        block.options.tiny_int_as_boolean = false;
      } else if (word == "labels" && rest == "numbers") {
        block.labels_are_numbers = true;
      } else if (word == "nullable") {
        block.nullable = rest;
      } else if (word == "required") {
        block.required = rest;
      } else if (word == "both" || word == "copy" || word == "binlog" || word == "key") {
        block.values.push_back(read_value(word, rest, place));
      } else {
        throw std::runtime_error(place + ": unknown word " + word);
      }
    }
  }
  return blocks;
}

std::map<type_kind, phase_counts> count_cases(const std::vector<type_block>& blocks) {
  std::map<type_kind, phase_counts> counts;
  for (const auto& block : blocks) {
    phase_counts& count = counts[parse_column_type(block.column_type).kind];
    ++count.blocks;
    for (const auto& value : block.values) {
      const std::size_t phases = value.phase == "copy" || value.phase == "binlog" ? 1 : 2;
      if (value.phase != "binlog") ++count.copy;
      if (value.phase != "copy") ++count.binlog;
      if (value.null) count.null += phases;
      if (!value.null && value.bytes.empty()) count.empty += phases;
      if (!value.change.empty()) count.changed += phases;
    }
  }
  return counts;
}

}  // namespace psource::testing
