// An own reader, because the bytes come from outside: every count is checked against the bytes that are left.
#include "protocol/mapping/wkt.hpp"

#include <cmath>
#include <cstdint>
#include <cstring>

#include "protocol/mapping/numbers.hpp"

namespace psource {
namespace {

constexpr unsigned deepest = 64;
constexpr std::size_t point_size = 16;
constexpr std::size_t header_size = 5;  // byte order and kind

enum kind : std::uint32_t {
  point = 1,
  linestring = 2,
  polygon = 3,
  multipoint = 4,
  multilinestring = 5,
  multipolygon = 6,
  collection = 7,
};

constexpr const char* names[] = {"",           "POINT",           "LINESTRING",   "POLYGON",
                                 "MULTIPOINT", "MULTILINESTRING", "MULTIPOLYGON", "GEOMETRYCOLLECTION"};

class reader {
 public:
  reader(text_buffer& out, std::string_view bytes)
      : out_(out),
        at_(reinterpret_cast<const unsigned char*>(bytes.data())),
        end_(reinterpret_cast<const unsigned char*>(bytes.data()) + bytes.size()) {}

  bool run() { return geometry(0, 1) && at_ == end_; }

 private:
  std::size_t left() const { return static_cast<std::size_t>(end_ - at_); }

  std::uint64_t word(unsigned size) {
    std::uint64_t value = 0;
    for (unsigned i = 0; i < size; ++i) {
      const unsigned shift = big_endian_ ? 8 * (size - 1 - i) : 8 * i;
      value |= std::uint64_t{at_[i]} << shift;
    }
    at_ += size;
    return value;
  }

  bool number() {
    const std::uint64_t bits = word(8);
    double value = 0;
    std::memcpy(&value, &bits, sizeof value);
    if (!std::isfinite(value)) return false;
    append_number(out_, value);
    return true;
  }

  bool coordinates() {
    if (left() < point_size || !number()) return false;
    out_.push(' ');
    return number();
  }

  /// A count of things that take at least `size` bytes each.
  bool count(std::size_t size, std::uint32_t& value) {
    if (left() < 4) return false;
    value = static_cast<std::uint32_t>(word(4));
    return value <= left() / size;
  }

  bool points() {
    std::uint32_t many = 0;
    if (!count(point_size, many) || many == 0) return false;
    out_.push('(');
    for (std::uint32_t i = 0; i < many; ++i) {
      if (i != 0) out_.push(',');
      if (!coordinates()) return false;
    }
    out_.push(')');
    return true;
  }

  bool rings() {
    std::uint32_t many = 0;
    if (!count(4, many) || many == 0) return false;
    out_.push('(');
    for (std::uint32_t i = 0; i < many; ++i) {
      if (i != 0) out_.push(',');
      if (!points()) return false;
    }
    out_.push(')');
    return true;
  }

  bool body(std::uint32_t what) {
    switch (what) {
      case point:
        out_.push('(');
        if (!coordinates()) return false;
        out_.push(')');
        return true;
      case linestring:
        return points();
      default:
        return rings();
    }
  }

  /// One geometry with its header. `wanted`: the only kind that may stand here, without its name; 0 = any,
  /// with its name.
  bool geometry(std::uint32_t wanted, unsigned depth) {
    if (left() < header_size) return false;
    const unsigned char order = *at_++;
    if (order > 1) return false;
    // Each geometry has its own byte order; the one around it goes on with its own.
    const bool outer = big_endian_;
    big_endian_ = order == 0;
    const bool good = ordered_geometry(wanted, depth);
    big_endian_ = outer;
    return good;
  }

  bool ordered_geometry(std::uint32_t wanted, unsigned depth) {
    const auto what = static_cast<std::uint32_t>(word(4));
    if (what < point || what > collection || (wanted != 0 && what != wanted)) return false;
    if (wanted == 0) out_.append(names[what]);
    if (what < multipoint) return body(what);
    if (depth > deepest) return false;
    std::uint32_t many = 0;
    if (!count(header_size, many)) return false;
    if (many == 0) {
      out_.append(" EMPTY");
      return true;
    }
    out_.push('(');
    for (std::uint32_t i = 0; i < many; ++i) {
      if (i != 0) out_.push(',');
      if (!geometry(what == collection ? 0 : what - 3, depth + 1)) return false;
    }
    out_.push(')');
    return true;
  }

  text_buffer& out_;
  const unsigned char* at_;
  const unsigned char* const end_;
  bool big_endian_ = false;
};

}  // namespace

outcome append_wkt(text_buffer& out, std::string_view srid_and_wkb) {
  constexpr std::size_t srid_size = 4;
  if (srid_and_wkb.size() < srid_size) return outcome::impossible;
  return reader(out, srid_and_wkb.substr(srid_size)).run() ? outcome::exact : outcome::impossible;
}

}  // namespace psource
