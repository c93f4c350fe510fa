// The lines that gRPC itself logs, as LOG messages of the level DEBUG.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "cli/command.hpp"

namespace psource::cli {

/// While it lives, gRPC's own lines come here. They are kept (the newest 100) until it is known who writes to standard
/// output: the command itself, by say(), or the engine.
class grpc_log {
 public:
  /// Both are kept by reference.
  grpc_log(const command_options& options, const redactor& hide);
  /// Says what is still kept; later lines are dropped.
  ~grpc_log();
  grpc_log(const grpc_log&) = delete;
  grpc_log& operator=(const grpc_log&) = delete;

  /// Says what is kept. On the thread that writes to standard output.
  void say_all();
  /// From now on lines go to the logger as they come; what is kept goes first.
  void send_to(std::function<void(log_level, std::string)> logger);

 private:
  struct lines;
  const command_options& options_;
  const redactor& hide_;
  std::shared_ptr<lines> lines_;
};

}  // namespace psource::cli
