// Certificates for tests: an authority of our own and what it signs, as PEM texts, and files that go away by
// themselves.
#pragma once

#include <openssl/bio.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <unistd.h>

#include <fstream>
#include <memory>
#include <string>
#include <vector>

namespace psource::test {

struct pem_pair {
  std::string certificate;
  std::string key;
};

class authority {
 public:
  explicit authority(const std::string& name)
      : key_(EVP_EC_gen("P-256"), EVP_PKEY_free), certificate_(nullptr, X509_free) {
    certificate_ = make(name, key_.get(), "", -60, 3600, true);
  }

  /// PEM of the authority itself.
  std::string pem() const { return to_pem(certificate_.get()); }

  /// A certificate for `alternative_names` ("DNS:localhost,IP:127.0.0.1"), valid from and until so many
  /// seconds from now.
  pem_pair issue(const std::string& name, const std::string& alternative_names, long from = -60,
                 long until = 3600) const {
    const std::unique_ptr<EVP_PKEY, void (*)(EVP_PKEY*)> key(EVP_EC_gen("P-256"), EVP_PKEY_free);
    const auto certificate = make(name, key.get(), alternative_names, from, until, false);
    const std::unique_ptr<BIO, int (*)(BIO*)> bio(BIO_new(BIO_s_mem()), BIO_free);
    PEM_write_bio_PrivateKey(bio.get(), key.get(), nullptr, nullptr, 0, nullptr, nullptr);
    return {to_pem(certificate.get()), content(bio.get())};
  }

 private:
  using x509 = std::unique_ptr<X509, void (*)(X509*)>;

  static std::string content(BIO* bio) {
    char* data = nullptr;
    const long size = BIO_get_mem_data(bio, &data);
    return std::string(data, static_cast<std::size_t>(size));
  }

  static std::string to_pem(X509* certificate) {
    const std::unique_ptr<BIO, int (*)(BIO*)> bio(BIO_new(BIO_s_mem()), BIO_free);
    PEM_write_bio_X509(bio.get(), certificate);
    return content(bio.get());
  }

  static void extend(X509* certificate, X509* issuer, int nid, const std::string& value) {
    X509V3_CTX context;
    X509V3_set_ctx_nodb(&context);
    X509V3_set_ctx(&context, issuer, certificate, nullptr, nullptr, 0);
    X509_EXTENSION* extension = X509V3_EXT_conf_nid(nullptr, &context, nid, value.c_str());
    X509_add_ext(certificate, extension, -1);
    X509_EXTENSION_free(extension);
  }

  x509 make(const std::string& name, EVP_PKEY* key, const std::string& alternative_names, long from,
            long until, bool is_authority) const {
    static long serial = 1;
    x509 certificate(X509_new(), X509_free);
    X509_set_version(certificate.get(), 2);
    ASN1_INTEGER_set(X509_get_serialNumber(certificate.get()), serial++);
    X509_gmtime_adj(X509_getm_notBefore(certificate.get()), from);
    X509_gmtime_adj(X509_getm_notAfter(certificate.get()), until);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(certificate.get()), "CN", MBSTRING_ASC,
                               reinterpret_cast<const unsigned char*>(name.c_str()), -1, -1, 0);
    X509* const issuer = is_authority ? certificate.get() : certificate_.get();
    X509_set_issuer_name(certificate.get(), X509_get_subject_name(issuer));
    X509_set_pubkey(certificate.get(), key);
    extend(certificate.get(), issuer, NID_basic_constraints, is_authority ? "critical,CA:TRUE" : "CA:FALSE");
    if (!alternative_names.empty())
      extend(certificate.get(), issuer, NID_subject_alt_name, alternative_names);
    X509_sign(certificate.get(), key_.get(), EVP_sha256());
    return certificate;
  }

  std::unique_ptr<EVP_PKEY, void (*)(EVP_PKEY*)> key_;
  x509 certificate_;
};

/// A file with this content under a temporary name.
class temporary_file {
 public:
  explicit temporary_file(const std::string& content) {
    std::string name = "/tmp/psource_test_XXXXXX";
    const int fd = ::mkstemp(name.data());
    if (fd >= 0) ::close(fd);
    path_ = name;
    std::ofstream(path_) << content;
  }
  ~temporary_file() { ::unlink(path_.c_str()); }
  temporary_file(const temporary_file&) = delete;
  temporary_file& operator=(const temporary_file&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

}  // namespace psource::test
