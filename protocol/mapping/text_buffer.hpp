// The memory that records are written to: plain pointers, because std::string checks and terminates on every append and
// this is the busiest code of the program.
#pragma once

#include <cstddef>
#include <cstring>
#include <memory>
#include <string_view>
#include <utility>

namespace psource {

/// What a conversion could do with a value.
enum class outcome : unsigned char {
  exact,       ///< The value was written as it is.
  repaired,    ///< Something close to it was written (meta.changes: TRUNCATED).
  impossible,  ///< Nothing useful was written; the caller rolls back and writes null (meta.changes: NULLED).
};

/// A growing array of characters. Not thread-safe; never shrinks but by release().
class text_buffer {
 public:
  text_buffer() = default;
  text_buffer(text_buffer&& other) noexcept
      : memory_(std::move(other.memory_)),
        end_(std::exchange(other.end_, nullptr)),
        limit_(std::exchange(other.limit_, nullptr)) {}
  text_buffer& operator=(text_buffer&& other) noexcept {
    memory_ = std::move(other.memory_);
    end_ = std::exchange(other.end_, nullptr);
    limit_ = std::exchange(other.limit_, nullptr);
    return *this;
  }

  std::size_t size() const { return static_cast<std::size_t>(end_ - begin()); }
  bool empty() const { return end_ == begin(); }
  std::size_t capacity() const { return static_cast<std::size_t>(limit_ - begin()); }
  std::string_view view() const { return {begin(), size()}; }
  void clear() { end_ = begin(); }
  /// Cuts back to a size it had before.
  void truncate(std::size_t size) { end_ = begin() + size; }
  /// Gives the memory back.
  void release() {
    memory_.reset();
    end_ = limit_ = nullptr;
  }

  /// A place where `room` bytes can be written; follow with finish().
  char* reserve(std::size_t room) {
    if (static_cast<std::size_t>(limit_ - end_) < room) grow(room);
    return end_;
  }
  /// The text now ends at `end`, which lies within the reserved room.
  void finish(char* end) { end_ = end; }
  /// Like finish(end) and reserve(room) in one, for loops that keep the end in a register.
  char* reserve_at(char* end, std::size_t room) {
    end_ = end;
    return reserve(room);
  }
  /// One past the last byte that may be written.
  const char* limit() const { return limit_; }

  void append(std::string_view text) {
    char* to = reserve(text.size());
    if (!text.empty()) std::memcpy(to, text.data(), text.size());
    end_ = to + text.size();
  }
  void push(char c) {
    char* to = reserve(1);
    *to = c;
    end_ = to + 1;
  }

 private:
  char* begin() const { return memory_.get(); }
  void grow(std::size_t room);

  std::unique_ptr<char[]> memory_;
  char* end_ = nullptr;
  char* limit_ = nullptr;
};

}  // namespace psource
