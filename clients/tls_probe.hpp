// One TLS handshake that names the fault: gRPC itself only says that connecting failed.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

#include "clients/connection.hpp"
#include "protocol/failure.hpp"

namespace psource {

/// Connects to host:port once and makes the handshake that gRPC would make: same roots, name, client
/// certificate and protocols. With TLS disabled it looks whether the server speaks TLS all the same.
/// Blocking, at most `limit` in all; for `check`. Any thread. Errors: host_unreachable (name look-up,
/// refused, no answer), tls_failed (each with a sentence that says what is wrong and which key to change;
/// `detail` is OpenSSL's text), config_invalid (PEM texts).
result<void> probe_tls(const std::string& host, std::uint16_t port, const tls_settings& tls,
                       std::chrono::milliseconds limit);

}  // namespace psource
