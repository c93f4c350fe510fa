// Certificates made on the spot for the TLS tests.
#pragma once

#include <memory>
#include <string>

namespace psource::test {

/// PEM texts of a certificate and its key.
struct identity {
  std::string certificate;
  std::string key;
};

/// Signs certificates. One object is one authority with a key of its own.
class authority {
 public:
  authority();
  ~authority();
  authority(const authority&) = delete;
  authority& operator=(const authority&) = delete;

  const std::string& certificate() const { return pem_; }
  /// alt_names as OpenSSL writes them: "DNS:localhost,IP:127.0.0.1". Validity in days from now, may be
  /// negative.
  identity issue(const std::string& common_name, const std::string& alt_names, int from_day = -1,
                 int to_day = 30) const;

 private:
  struct keys;
  std::unique_ptr<keys> keys_;
  std::string pem_;
};

/// A certificate that signs itself and is no authority.
identity self_signed(const std::string& alt_names);

}  // namespace psource::test
