// MySQL's character sets → UTF-8 inside JSON strings.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "protocol/mapping/text_buffer.hpp"

namespace psource {

/// The character set behind a MySQL collation id: 8 → "latin1". Empty for ids that MySQL does not have, and
/// for 0.
std::string_view charset_of_collation(std::uint32_t collation);

/// Turns the bytes of one character set into the characters of a JSON string. Movable; one thread at a time where it is
/// not shareable().
class text_decoder {
 public:
  /// For MySQL's name of a set ("latin1", "utf8mb4", "gbk"), whatever its case. "binary" and "" are taken for
  /// UTF-8. A set that cannot be decoded (see known()) keeps its ASCII bytes, and every other byte becomes
  /// U+FFFD.
  static text_decoder for_charset(std::string_view mysql_name);

  text_decoder() = default;
  text_decoder(text_decoder&&) noexcept = default;
  text_decoder& operator=(text_decoder&&) noexcept = default;

  /// False when neither this program nor the system's iconv knows the set.
  bool known() const { return known_; }
  /// The bytes are UTF-8 already.
  bool is_utf8() const { return form_ == form::utf8; }
  /// append() may run on several threads at once. False for multi-byte sets, which hold an iconv handle.
  bool shareable() const { return iconv_ == nullptr; }

  /// Appends the text, escaped, without quotes. Each byte that is not valid in the set becomes U+FFFD
  /// (repaired). Never impossible.
  outcome append(text_buffer& out, std::string_view bytes) const;

 private:
  enum class form : std::uint8_t { utf8, table, utf16, utf16le, utf32, iconv };

  /// What one byte of a single-byte set becomes: at most 6 characters, and the count in the last place.
  struct cell {
    char text[7] = {};
    std::uint8_t length = 0;
  };
  struct byte_table {
    std::array<cell, 256> cells;
    std::array<bool, 256> valid{};
    bool ascii = true;  ///< The lower half is ASCII, so it can be copied many bytes at a time.
    void set(unsigned byte, std::uint32_t code_point);
  };
  struct code_run;
  struct codes_of_mysql;
  struct close_iconv {
    void operator()(void* handle) const;
  };

  outcome append_by_table(text_buffer& out, std::string_view bytes) const;
  template <class Read>
  static outcome append_units(text_buffer& out, std::string_view bytes, std::size_t unit, Read read);
  outcome append_by_iconv(text_buffer& out, std::string_view bytes) const;
  /// The part that iconv converts as MySQL does.
  outcome convert(text_buffer& out, std::string_view bytes) const;
  static const codes_of_mysql* find_codes_of_mysql(std::string_view mysql_name);

  form form_ = form::utf8;
  bool known_ = true;
  const codes_of_mysql* codes_ = nullptr;  ///< Where iconv's set is not quite MySQL's.
  std::shared_ptr<const byte_table> table_;
  std::unique_ptr<void, close_iconv> iconv_;
};

}  // namespace psource
