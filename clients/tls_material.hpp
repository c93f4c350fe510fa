// Certificates and keys of the configuration, checked before anything connects.
#pragma once

#include <string>

#include "clients/connection.hpp"
#include "protocol/failure.hpp"

namespace psource {

/// Checks that every PEM text of the settings can be read and that the client's key fits its certificate.
/// Error: config_invalid, naming the key of the configuration. Never repeats the material. Any thread.
result<void> check_tls_material(const tls_settings& tls);

/// The file with the system's root certificates, as gRPC looks it up (GRPC_DEFAULT_SSL_ROOTS_FILE_PATH, then
/// the usual places). Error: tls_failed, saying which package is missing. Any thread.
result<std::string> system_roots_file();

}  // namespace psource
