// Certificates made on the spot for the TLS tests.
#include "tests/clients_grpc/certificates.hpp"

#include <openssl/bio.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include <atomic>
#include <stdexcept>

namespace psource::test {
namespace {

void must(bool ok) {
  if (!ok) {
    throw std::runtime_error("OpenSSL refused to make a test certificate");
  }
}

struct deleter {
  void operator()(X509* p) const { X509_free(p); }
  void operator()(EVP_PKEY* p) const { EVP_PKEY_free(p); }
  void operator()(BIO* p) const { BIO_free_all(p); }
  void operator()(X509_EXTENSION* p) const { X509_EXTENSION_free(p); }
};
using x509_ptr = std::unique_ptr<X509, deleter>;
using key_ptr = std::unique_ptr<EVP_PKEY, deleter>;
using bio_ptr = std::unique_ptr<BIO, deleter>;

std::string text_of(const bio_ptr& bio) {
  char* data = nullptr;
  const long size = BIO_get_mem_data(bio.get(), &data);
  return {data, static_cast<std::size_t>(size)};
}

std::string pem_of(X509* certificate) {
  bio_ptr bio(BIO_new(BIO_s_mem()));
  must(PEM_write_bio_X509(bio.get(), certificate) == 1);
  return text_of(bio);
}

std::string pem_of(EVP_PKEY* key) {
  bio_ptr bio(BIO_new(BIO_s_mem()));
  must(PEM_write_bio_PKCS8PrivateKey(bio.get(), key, nullptr, nullptr, 0, nullptr, nullptr) == 1);
  return text_of(bio);
}

void add_extension(X509* certificate, X509* issuer, int nid, const std::string& value) {
  X509V3_CTX context;
  X509V3_set_ctx_nodb(&context);
  X509V3_set_ctx(&context, issuer, certificate, nullptr, nullptr, 0);
  std::unique_ptr<X509_EXTENSION, deleter> extension(
      X509V3_EXT_conf_nid(nullptr, &context, nid, value.c_str()));
  must(extension && X509_add_ext(certificate, extension.get(), -1) == 1);
}

x509_ptr make(EVP_PKEY* key, const std::string& name, const std::string& alt_names, bool is_authority,
              X509* issuer, EVP_PKEY* issuer_key, int from_day, int to_day) {
  static std::atomic<long> serial{1000};
  x509_ptr c(X509_new());
  must(c != nullptr);
  X509_set_version(c.get(), 2);
  ASN1_INTEGER_set(X509_get_serialNumber(c.get()), ++serial);
  constexpr long day = 24 * 60 * 60;
  X509_gmtime_adj(X509_getm_notBefore(c.get()), from_day * day);
  X509_gmtime_adj(X509_getm_notAfter(c.get()), to_day * day);
  X509_set_pubkey(c.get(), key);
  X509_NAME_add_entry_by_txt(X509_get_subject_name(c.get()), "CN", MBSTRING_UTF8,
                             reinterpret_cast<const unsigned char*>(name.c_str()), -1, -1, 0);
  X509* by = issuer != nullptr ? issuer : c.get();
  X509_set_issuer_name(c.get(), X509_get_subject_name(by));
  if (is_authority) {
    add_extension(c.get(), by, NID_basic_constraints, "critical,CA:TRUE");
    add_extension(c.get(), by, NID_key_usage, "critical,keyCertSign,cRLSign");
  }
  if (!alt_names.empty()) {
    add_extension(c.get(), by, NID_subject_alt_name, alt_names);
  }
  must(X509_sign(c.get(), issuer_key, EVP_sha256()) > 0);
  return c;
}

key_ptr new_key() {
  key_ptr key(EVP_EC_gen("P-256"));
  must(key != nullptr);
  return key;
}

}  // namespace

struct authority::keys {
  x509_ptr certificate;
  key_ptr key;
};

authority::authority() : keys_(std::make_unique<keys>()) {
  static std::atomic<int> number{0};
  keys_->key = new_key();
  keys_->certificate = make(keys_->key.get(), "test authority " + std::to_string(++number), "", true, nullptr,
                            keys_->key.get(), -2, 60);
  pem_ = pem_of(keys_->certificate.get());
}

authority::~authority() = default;

identity authority::issue(const std::string& common_name, const std::string& alt_names, int from_day,
                          int to_day) const {
  key_ptr key = new_key();
  x509_ptr certificate = make(key.get(), common_name, alt_names, false, keys_->certificate.get(),
                              keys_->key.get(), from_day, to_day);
  return {pem_of(certificate.get()), pem_of(key.get())};
}

identity self_signed(const std::string& alt_names) {
  key_ptr key = new_key();
  x509_ptr certificate = make(key.get(), "self", alt_names, false, nullptr, key.get(), -1, 30);
  return {pem_of(certificate.get()), pem_of(key.get())};
}

}  // namespace psource::test
