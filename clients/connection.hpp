// Where the branch is and how to get in: what both ports need of the configuration.
#pragma once

#include <cstdint>
#include <string>

namespace psource {

/// How gRPC calls carry the user's name and password (Vitess: static auth; PlanetScale edge: HTTP basic).
enum class grpc_auth : std::uint8_t { none, basic_header, username_password };

struct tls_settings {
  bool enabled = true;
  /// PEM text; empty = the system's roots.
  std::string ca_certificate;
  /// PEM text of the client's certificate chain and key; both or neither.
  std::string client_certificate;
  std::string client_key;
  /// Name expected in the server's certificate; empty = the host name.
  std::string server_name;
};

/// Everything needed to reach a branch. `password` and `client_key` are secrets: never log this struct.
struct connection_settings {
  std::string host;
  std::uint16_t port = 443;
  std::string mysql_host;
  std::uint16_t mysql_port = 3306;
  std::string username;
  std::string password;
  grpc_auth auth = grpc_auth::basic_header;
  tls_settings tls;
};

}  // namespace psource
