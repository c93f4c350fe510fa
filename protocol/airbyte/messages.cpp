// Builds the lines of Airbyte's protocol by hand: their shapes are fixed, only names and texts vary.
#include "protocol/airbyte/messages.hpp"

#include <algorithm>

#include "protocol/airbyte/json_text.hpp"
#include "protocol/airbyte/spec.hpp"

namespace psource {
namespace {

constexpr std::string_view mask = "****";
constexpr std::size_t shortest_secret = 3;
constexpr std::size_t shortest_secret_line = 16;
// The platform cuts messages at 50,000 characters and stack traces at 100,000.
constexpr std::size_t max_text = 40000;

const char* name_of_level(log_level level) {
  switch (level) {
    case log_level::fatal:
      return "FATAL";
    case log_level::error:
      return "ERROR";
    case log_level::warn:
      return "WARN";
    case log_level::info:
      return "INFO";
    case log_level::debug:
      return "DEBUG";
    case log_level::trace:
      return "TRACE";
  }
  return "INFO";
}

const char* name_of_status(stream_status status) {
  switch (status) {
    case stream_status::started:
      return "STARTED";
    case stream_status::running:
      return "RUNNING";
    case stream_status::complete:
      return "COMPLETE";
    case stream_status::incomplete:
      return "INCOMPLETE";
  }
  return "INCOMPLETE";
}

void append_text(std::string& out, std::string_view text, const redactor& hide) {
  auto shown = hide(text);
  if (shown.size() > max_text) {
    // Not in the middle of a character.
    auto end = max_text;
    while (end > 0 && (static_cast<unsigned char>(shown[end]) & 0xc0) == 0x80) --end;
    shown.resize(end);
    shown += "... (cut)";
  }
  append_json_string(out, shown);
}

void append_descriptor(std::string& out, const stream_id& stream) {
  out += R"({"name":)";
  append_json_string(out, stream.table.str());
  out += R"(,"namespace":)";
  append_json_string(out, stream.keyspace.str());
  out += '}';
}

std::string trace_start(const char* type, epoch_milliseconds emitted_at) {
  return std::string(R"({"type":"TRACE","trace":{"type":")") + type + R"(","emitted_at":)" +
         std::to_string(emitted_at.count());
}

}  // namespace

redactor::redactor(std::vector<std::string> secrets) {
  for (auto& secret : secrets) {
    // A text of several lines reaches logs line by line; its short lines are nothing to recognise.
    std::string_view rest = secret;
    while (rest.find('\n') != std::string_view::npos) {
      const auto line = rest.substr(0, rest.find('\n'));
      rest.remove_prefix(line.size() + 1);
      if (line.size() >= shortest_secret_line && line.substr(0, 5) != "-----") secrets_.emplace_back(line);
    }
    if (secret.size() >= shortest_secret) secrets_.push_back(std::move(secret));
  }
  std::sort(secrets_.begin(), secrets_.end(), [](const std::string& a, const std::string& b) {
    return a.size() != b.size() ? a.size() > b.size() : a < b;
  });
  secrets_.erase(std::unique(secrets_.begin(), secrets_.end()), secrets_.end());
}

std::string redactor::operator()(std::string_view text) const {
  std::string out;
  std::size_t copied = 0;
  for (std::size_t at = 0; at < text.size();) {
    const auto found = std::find_if(secrets_.begin(), secrets_.end(), [&](const std::string& secret) {
      return text.substr(at, secret.size()) == secret;
    });
    if (found == secrets_.end()) {
      ++at;
      continue;
    }
    out.append(text.substr(copied, at - copied)).append(mask);
    at += found->size();
    copied = at;
  }
  return out.append(text.substr(copied));
}

std::string log_line(log_level level, std::string_view text, const redactor& hide) {
  std::string out =
      std::string(R"({"type":"LOG","log":{"level":")") + name_of_level(level) + R"(","message":)";
  append_text(out, text, hide);
  return out + "}}\n";
}

std::string connection_status_line(bool succeeded, std::string_view message, const redactor& hide) {
  std::string out = std::string(R"({"type":"CONNECTION_STATUS","connectionStatus":{"status":")") +
                    (succeeded ? "SUCCEEDED" : "FAILED") + R"(","message":)";
  append_text(out, message, hide);
  return out + "}}\n";
}

std::string spec_line() { return R"({"type":"SPEC","spec":)" + connector_specification() + "}\n"; }

std::string catalog_line(const std::vector<discovered_stream>& streams) {
  return R"({"type":"CATALOG","catalog":)" + catalog_json(streams) + "}\n";
}

std::string state_line(const stream_id& stream, std::string_view state_json, std::uint64_t records) {
  std::string out = R"({"type":"STATE","state":{"type":"STREAM","stream":{"stream_descriptor":)";
  append_descriptor(out, stream);
  out += R"(,"stream_state":)";
  out += state_json;
  return out + R"(},"sourceStats":{"recordCount":)" + std::to_string(records) + ".0}}}\n";
}

std::string trace_error_line(const failure& what, epoch_milliseconds emitted_at, const redactor& hide) {
  std::string out = trace_start("ERROR", emitted_at) + R"(,"error":{"message":)";
  append_text(out, what.message, hide);
  out += R"(,"internal_message":)";
  append_text(out, std::string(to_string(what.code)) + (what.detail.empty() ? "" : ": " + what.detail), hide);
  out += std::string(R"(,"failure_type":")") + to_string(failure_class_of(what.code)) + '"';
  if (what.stream) {
    out += R"(,"stream_descriptor":)";
    append_descriptor(out, *what.stream);
  }
  return out + "}}}\n";
}

std::string stream_status_line(const stream_id& stream, stream_status status, epoch_milliseconds emitted_at) {
  std::string out = trace_start("STREAM_STATUS", emitted_at) + R"(,"stream_status":{"stream_descriptor":)";
  append_descriptor(out, stream);
  return out + R"(,"status":")" + name_of_status(status) + "\"}}}\n";
}

std::string estimate_line(const stream_id& stream, std::uint64_t rows, epoch_milliseconds emitted_at) {
  std::string out = trace_start("ESTIMATE", emitted_at) + R"(,"estimate":{"type":"STREAM","name":)";
  append_json_string(out, stream.table.str());
  out += R"(,"namespace":)";
  append_json_string(out, stream.keyspace.str());
  return out + R"(,"row_estimate":)" + std::to_string(rows) + "}}}\n";
}

}  // namespace psource
