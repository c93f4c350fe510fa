// Implementation of grpc_log.hpp.
#include "cli/grpc_log.hpp"

#include <deque>
#include <mutex>
#include <utility>

#include "clients/grpc_vstream.hpp"

namespace psource::cli {

namespace {
constexpr std::size_t most_kept = 100;
}

// gRPC's threads hold it for as long as a line takes.
struct grpc_log::lines {
  std::mutex mutex;
  std::deque<std::string> kept;
  std::function<void(log_level, std::string)> logger;

  void take(std::string_view line) {
    std::string text = "gRPC: " + std::string(line);
    std::lock_guard<std::mutex> guard(mutex);
    if (logger) {
      logger(log_level::debug, std::move(text));
      return;
    }
    kept.push_back(std::move(text));
    if (kept.size() > most_kept) kept.pop_front();
  }
};

grpc_log::grpc_log(const command_options& options, const redactor& hide)
    : options_(options), hide_(hide), lines_(std::make_shared<lines>()) {
  set_grpc_log_sink([kept = lines_](std::string_view line) { kept->take(line); });
}

grpc_log::~grpc_log() {
  set_grpc_log_sink({});
  say_all();
}

void grpc_log::say_all() {
  std::deque<std::string> kept;
  {
    std::lock_guard<std::mutex> guard(lines_->mutex);
    kept.swap(lines_->kept);
  }
  for (const auto& line : kept) say(log_level::debug, line, options_, hide_);
}

void grpc_log::send_to(std::function<void(log_level, std::string)> logger) {
  std::lock_guard<std::mutex> guard(lines_->mutex);
  for (auto& line : lines_->kept) logger(log_level::debug, std::move(line));
  lines_->kept.clear();
  lines_->logger = std::move(logger);
}

}  // namespace psource::cli
