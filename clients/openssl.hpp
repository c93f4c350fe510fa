// What all users of OpenSSL in this folder need of it: ownership, errors, and reading of PEM texts.
#pragma once

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include <array>
#include <memory>
#include <string>
#include <vector>

namespace psource {

struct openssl_free {
  void operator()(BIO* p) const { BIO_free_all(p); }
  void operator()(X509* p) const { X509_free(p); }
  void operator()(EVP_PKEY* p) const { EVP_PKEY_free(p); }
  void operator()(SSL* p) const { SSL_free(p); }
  void operator()(SSL_CTX* p) const { SSL_CTX_free(p); }
};
template <class T>
using owned = std::unique_ptr<T, openssl_free>;

/// The newest error of this thread, or an empty text; forgets all of them.
inline std::string newest_openssl_error() {
  std::string text;
  while (const unsigned long code = ERR_get_error()) {
    std::array<char, 256> buffer{};
    ERR_error_string_n(code, buffer.data(), buffer.size());
    text = buffer.data();
  }
  return text;
}

namespace pem {

inline owned<BIO> open(const std::string& text) {
  return owned<BIO>(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
}

/// Without it OpenSSL would ask the terminal for the pass phrase of an encrypted key.
inline int no_pass_phrase(char*, int, int, void*) { return -1; }

/// All certificates of the text, in order.
inline std::vector<owned<X509>> certificates(const std::string& text) {
  std::vector<owned<X509>> out;
  const auto in = open(text);
  while (X509* certificate = PEM_read_bio_X509(in.get(), nullptr, no_pass_phrase, nullptr)) out.emplace_back(certificate);
  ERR_clear_error();
  return out;
}

/// Null where the text has no key, or one with a pass phrase.
inline owned<EVP_PKEY> key(const std::string& text) {
  const auto in = open(text);
  return owned<EVP_PKEY>(PEM_read_bio_PrivateKey(in.get(), nullptr, no_pass_phrase, nullptr));
}

}  // namespace pem
}  // namespace psource
