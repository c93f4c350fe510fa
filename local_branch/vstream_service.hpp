// The gRPC port of a local branch: vtgateservice.Vitess/VStream.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "local_branch/faults.hpp"
#include "local_branch/stream.hpp"
#include "protocol/failure.hpp"

namespace psource::local_branch {

struct vstream_server_options {
  /// Numeric address to listen on.
  std::string listen = "127.0.0.1";
  /// 0 = any free port.
  std::uint16_t port = 0;
  /// What calls must carry, as `authorization: Basic …` or as `username` and `password`; an empty name lets
  /// all in.
  std::string username, password;
  /// PEM files, both or neither; with them the port speaks TLS only.
  std::string tls_cert_file, tls_key_file;
  /// PEM file of the authorities whose client certificates are let in; empty = none is asked for.
  std::string tls_client_ca_file;
  /// Called for every call that arrives with a login, before it is judged; may be empty. On gRPC's threads,
  /// concurrently.
  std::function<void()> login_seen;
  stream_options streams;
  /// Null = none. Must outlive the server.
  fault_injector* faults = nullptr;
};

/// A running server. Any number of concurrent calls; none has a thread of its own.
class vstream_server {
 public:
  /// Listens and returns at once. The branch must outlive the server. Errors: config_invalid (address, port,
  /// certificate or key cannot be used).
  static result<std::unique_ptr<vstream_server>> start(const branch& source, vstream_server_options options);

  std::uint16_t port() const;
  /// Cuts all calls and returns when they are gone. May be repeated.
  void stop();
  ~vstream_server();
  vstream_server(const vstream_server&) = delete;
  vstream_server& operator=(const vstream_server&) = delete;

 private:
  class impl;
  explicit vstream_server(std::unique_ptr<impl> implementation);
  std::unique_ptr<impl> impl_;
};

}  // namespace psource::local_branch
