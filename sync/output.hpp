// Where the engine's finished bytes go: a seam, so that tests can script a slow, broken or full output.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "protocol/failure.hpp"

namespace psource {

/// Hears what became of buffers that were queued. The functions run on the output's own thread and must not block.
class output_listener {
 public:
  virtual ~output_listener() = default;
  /// Every byte of the buffer with this ticket was written. In the order of write(). The output has let go of
  /// the buffer before.
  virtual void on_written(std::uint64_t ticket) = 0;
  /// Nothing can be written any more: output_closed, or output_failed. At most once, and last: tickets that
  /// were not told as written never will be.
  virtual void on_failed(failure what) = 0;
};

/// Finished bytes, and what keeps them in memory: a batch, or a text of its own.
class output_bytes {
 public:
  output_bytes() = default;
  output_bytes(std::shared_ptr<const void> owner, std::string_view view) : owner_(std::move(owner)), view_(view) {}
  explicit output_bytes(std::shared_ptr<const std::string> text) : view_(*text) { owner_ = std::move(text); }

  std::string_view view() const { return view_; }
  std::size_t size() const { return view_.size(); }

 private:
  std::shared_ptr<const void> owner_;
  std::string_view view_;
};

/// Takes finished bytes (whole lines) and writes them in order.
class output {
 public:
  virtual ~output() = default;
  /// Writes a buffer if that can be done without waiting, else queues it; returns at once. True: all of it is written, as is
  /// all that came before, and the output has let go of it; its ticket will not be told. False: the buffer must not change until its
  /// ticket was told. After a failure the buffer is dropped without a word. One thread at a time; the order of calls is the order of
  /// bytes.
  virtual bool write(output_bytes bytes, std::uint64_t ticket) = 0;
};

}  // namespace psource
