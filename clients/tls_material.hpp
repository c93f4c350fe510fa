// Certificates and keys of the configuration: checked before anything connects, and put to use.
#pragma once

#include <string>

#include "clients/connection.hpp"
#include "clients/openssl.hpp"
#include "protocol/failure.hpp"

namespace psource {

/// Checks that every PEM text of the settings can be read and that the client's key fits its certificate.
/// Error: config_invalid, naming the key of the configuration. Never repeats the material. Any thread.
result<void> check_tls_material(const tls_settings& tls);

/// The file with the system's root certificates, as gRPC looks it up (GRPC_DEFAULT_SSL_ROOTS_FILE_PATH, then
/// the usual places). Error: tls_failed, saying which package is missing. Any thread.
result<std::string> system_roots_file();

/// A client's side of TLS 1.2 and newer with the settings' roots (or the system's) and client certificate; the server has to show
/// a certificate, of which the caller says the name. With TLS disabled nothing is checked. The texts must have passed
/// check_tls_material(). Errors: config_invalid (OpenSSL does not take the client certificate), tls_failed (no roots), internal.
/// Any thread.
result<owned<SSL_CTX>> make_tls_context(const tls_settings& tls);

}  // namespace psource
