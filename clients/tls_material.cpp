// Implementation of tls_material.hpp.
#include "clients/tls_material.hpp"

#include <unistd.h>

#include <cstdlib>
#include <utility>

namespace psource {

result<void> check_tls_material(const tls_settings& tls) {
  ERR_clear_error();
  if (!tls.enabled) {
    return {};
  }
  if (!tls.ca_certificate.empty() && pem::certificates(tls.ca_certificate).empty()) {
    return fail(error_code::config_invalid,
                "tls.ca_certificate is not a certificate in PEM form (it starts with \"-----BEGIN "
                "CERTIFICATE-----\").");
  }
  if (tls.client_certificate.empty() != tls.client_key.empty()) {
    return fail(error_code::config_invalid,
                "tls.client_certificate and tls.client_key belong together: give both or neither.");
  }
  if (tls.client_certificate.empty()) {
    return {};
  }
  const auto chain = pem::certificates(tls.client_certificate);
  if (chain.empty()) {
    return fail(error_code::config_invalid, "tls.client_certificate is not a certificate in PEM form.");
  }
  const auto key = pem::key(tls.client_key);
  if (!key) {
    return fail(
        error_code::config_invalid,
        "tls.client_key is not a private key in PEM form, or it is protected by a pass phrase. Give the key "
        "without one.");
  }
  if (X509_check_private_key(chain.front().get(), key.get()) != 1) {
    ERR_clear_error();
    return fail(error_code::config_invalid, "tls.client_key is not the key of tls.client_certificate.");
  }
  return {};
}

result<std::string> system_roots_file() {
  const char* configured = std::getenv("GRPC_DEFAULT_SSL_ROOTS_FILE_PATH");
  const char* const places[] = {configured,
                                "/etc/ssl/certs/ca-certificates.crt",
                                "/etc/pki/tls/certs/ca-bundle.crt",
                                "/etc/ssl/ca-bundle.pem",
                                "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
                                "/usr/share/grpc/roots.pem"};
  for (const char* place : places) {
    if (place != nullptr && *place != '\0' && access(place, R_OK) == 0) {
      return std::string(place);
    }
  }
  return fail(error_code::tls_failed,
              "This system has no list of root certificates to check the server against. Install the package "
              "ca-certificates, or set tls.ca_certificate.");
}

result<owned<SSL_CTX>> make_tls_context(const tls_settings& tls) {
  ERR_clear_error();
  owned<SSL_CTX> context(SSL_CTX_new(TLS_client_method()));
  if (!context) return fail(error_code::internal, "OpenSSL could not be set up.", newest_openssl_error());
  SSL_CTX_set_min_proto_version(context.get(), TLS1_2_VERSION);
  if (!tls.enabled) return context;
  SSL_CTX_set_verify(context.get(), SSL_VERIFY_PEER, nullptr);
  if (!tls.ca_certificate.empty()) {
    X509_STORE* const store = SSL_CTX_get_cert_store(context.get());
    for (const auto& root : pem::certificates(tls.ca_certificate)) X509_STORE_add_cert(store, root.get());
  } else {
    const auto roots = system_roots_file();
    if (!roots) return fail(roots.error());
    SSL_CTX_load_verify_locations(context.get(), roots->c_str(), nullptr);
  }
  if (!tls.client_certificate.empty()) {
    const auto chain = pem::certificates(tls.client_certificate);
    const auto key = pem::key(tls.client_key);
    const bool usable = !chain.empty() && key && SSL_CTX_use_certificate(context.get(), chain.front().get()) == 1 &&
                        SSL_CTX_use_PrivateKey(context.get(), key.get()) == 1;
    if (!usable)
      return fail(error_code::config_invalid, "tls.client_certificate and tls.client_key cannot be used.", newest_openssl_error());
    for (std::size_t i = 1; i < chain.size(); ++i) SSL_CTX_add1_chain_cert(context.get(), chain[i].get());
  }
  ERR_clear_error();
  return context;
}

}  // namespace psource
