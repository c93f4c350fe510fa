// A real gRPC server in the test's process that answers VStream calls by a script.
#pragma once

#include <grpcpp/generic/async_generic_service.h>
#include <grpcpp/security/server_credentials.h>
#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>

#include <chrono>
#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "clients/connection.hpp"

namespace psource::test {

/// Long enough that only a hang reaches it.
constexpr std::chrono::seconds patience{30};

/// What the server does with one call.
struct call_script {
  std::vector<std::string> responses;
  /// How often the whole list is sent.
  std::size_t repeat = 1;
  /// Absent = the call stays open until the client cancels.
  std::optional<grpc::Status> end;
  /// Responses go out with gzip, whatever the client takes.
  bool compress = false;
};

/// What the server saw of a call.
struct seen_call {
  std::string method;
  std::string request;
  std::string peer;
  std::multimap<std::string, std::string> metadata;
};

class scripted_server {
 public:
  using script_function = std::function<call_script(const seen_call&)>;

  /// port 0 = any free one; then port() tells. Listens on 127.0.0.1.
  explicit scripted_server(script_function script,
                           std::shared_ptr<grpc::ServerCredentials> credentials = nullptr, int port = 0);
  /// Cuts all calls.
  ~scripted_server();

  std::uint16_t port() const { return static_cast<std::uint16_t>(port_); }
  /// Settings of a plaintext connection without authentication.
  connection_settings settings() const;

  /// Waits until the condition over the counters holds; false after `patience`.
  struct counters {
    std::size_t calls = 0;      // requests read
    std::size_t finished = 0;   // calls that are over
    std::size_t cancelled = 0;  // of those, cancelled by the client
    std::size_t accepted = 0;   // responses that the transport took
  };
  bool wait_until(const std::function<bool(const counters&)>& condition);
  counters now() const;
  std::vector<seen_call> seen() const;

 private:
  class service;
  class reactor;
  script_function script_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  counters counters_;
  std::vector<seen_call> seen_;
  std::unique_ptr<service> service_;
  std::unique_ptr<grpc::Server> server_;
  int port_ = 0;
};

}  // namespace psource::test
