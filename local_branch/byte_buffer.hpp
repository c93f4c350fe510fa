// Writes Protobuf's wire format by hand: rows go from their seed to the bytes of a response without an object
// between.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>
#include <string_view>
#include <utility>

namespace psource::local_branch {

/// How many bytes a number takes as a varint.
inline std::size_t varint_size(std::uint64_t value) {
  std::size_t size = 1;
  while (value >= 0x80) {
    value >>= 7;
    ++size;
  }
  return size;
}

/// Writes a varint and returns the place behind it.
inline char* write_varint(char* at, std::uint64_t value) {
  while (value >= 0x80) {
    *at++ = static_cast<char>(value | 0x80);
    value >>= 7;
  }
  *at++ = static_cast<char>(value);
  return at;
}

/// A growing run of bytes whose room is never zeroed. Movable, not copyable, no thread of its own.
class byte_buffer {
 public:
  byte_buffer() = default;
  byte_buffer(byte_buffer&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)),
        size_(std::exchange(other.size_, 0)),
        capacity_(std::exchange(other.capacity_, 0)) {}
  byte_buffer& operator=(byte_buffer&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    std::swap(capacity_, other.capacity_);
    return *this;
  }
  ~byte_buffer() { std::free(data_); }

  char* data() { return data_; }
  std::size_t size() const { return size_; }
  std::size_t capacity() const { return capacity_; }
  bool empty() const { return size_ == 0; }
  std::string_view view() const { return {data_, size_}; }
  void clear() { size_ = 0; }

  /// Room for at least `count` more bytes; returns where they go. set_end() takes what was written.
  char* reserve(std::size_t count) {
    if (capacity_ - size_ < count) grow(count);
    return data_ + size_;
  }
  void set_end(const char* end) { size_ = static_cast<std::size_t>(end - data_); }

  void append(std::string_view bytes) {
    if (bytes.empty()) return;
    char* at = reserve(bytes.size());
    std::memcpy(at, bytes.data(), bytes.size());
    size_ += bytes.size();
  }
  void varint(std::uint64_t value) { set_end(write_varint(reserve(10), value)); }
  /// A field of wire type 0. Like proto3 it leaves out zero.
  void number(std::uint32_t field, std::uint64_t value) {
    if (value == 0) return;
    varint(static_cast<std::uint64_t>(field) << 3);
    varint(value);
  }
  /// A field of wire type 2, written also when empty.
  void bytes(std::uint32_t field, std::string_view value) {
    varint((static_cast<std::uint64_t>(field) << 3) | 2);
    varint(value.size());
    append(value);
  }
  /// A string field; like proto3 it leaves out the empty one.
  void text(std::uint32_t field, std::string_view value) {
    if (!value.empty()) bytes(field, value);
  }

 private:
  void grow(std::size_t count) {
    std::size_t wanted = capacity_ * 2;
    if (wanted < size_ + count) wanted = size_ + count;
    if (wanted < 256) wanted = 256;
    auto* bigger = static_cast<char*>(std::realloc(data_, wanted));
    if (bigger == nullptr) throw std::bad_alloc();
    data_ = bigger;
    capacity_ = wanted;
  }

  char* data_ = nullptr;
  std::size_t size_ = 0;
  std::size_t capacity_ = 0;
};

}  // namespace psource::local_branch
