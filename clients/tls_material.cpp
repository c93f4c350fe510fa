// Certificates and keys of the configuration, checked before anything connects.
#include "clients/tls_material.hpp"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <unistd.h>

#include <cstdlib>
#include <memory>

namespace psource {
namespace {

template <auto Free>
struct freed_by {
  template <class T>
  void operator()(T* p) const {
    Free(p);
  }
};
using bio_ptr = std::unique_ptr<BIO, freed_by<BIO_free_all>>;
using x509_ptr = std::unique_ptr<X509, freed_by<X509_free>>;
using key_ptr = std::unique_ptr<EVP_PKEY, freed_by<EVP_PKEY_free>>;

// Without it OpenSSL would ask the terminal for the pass phrase of an encrypted key.
int no_pass_phrase(char*, int, int, void*) { return -1; }

bio_ptr reader_of(const std::string& pem) {
  return bio_ptr(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())));
}

x509_ptr first_certificate(const std::string& pem) {
  bio_ptr in = reader_of(pem);
  return x509_ptr(PEM_read_bio_X509(in.get(), nullptr, no_pass_phrase, nullptr));
}

}  // namespace

result<void> check_tls_material(const tls_settings& tls) {
  ERR_clear_error();
  if (!tls.enabled) {
    return {};
  }
  if (!tls.ca_certificate.empty() && !first_certificate(tls.ca_certificate)) {
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
  x509_ptr certificate = first_certificate(tls.client_certificate);
  if (!certificate) {
    return fail(error_code::config_invalid, "tls.client_certificate is not a certificate in PEM form.");
  }
  bio_ptr in = reader_of(tls.client_key);
  key_ptr key(PEM_read_bio_PrivateKey(in.get(), nullptr, no_pass_phrase, nullptr));
  if (!key) {
    return fail(
        error_code::config_invalid,
        "tls.client_key is not a private key in PEM form, or it is protected by a pass phrase. Give the key "
        "without one.");
  }
  if (X509_check_private_key(certificate.get(), key.get()) != 1) {
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

}  // namespace psource
