// Where the engine's finished bytes go: a seam, so that tests can script a slow, broken or full output.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "protocol/failure.hpp"

namespace psource {

/// Hears what became of buffers. All functions run on the output's own thread, one at a time, and must not
/// block.
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

/// Takes finished bytes (whole lines) and writes them in order.
class output {
 public:
  virtual ~output() = default;
  /// Queues a buffer and returns at once. The buffer must not change until its ticket was told. After a
  /// failure the buffer is dropped without a word. Any thread; the order of calls is the order of bytes.
  virtual void write(std::shared_ptr<const std::string> bytes, std::uint64_t ticket) = 0;
  /// Bytes queued and not written yet. Stop handing over at `queue_limit`. Any thread.
  virtual std::size_t queued_bytes() const = 0;

  static constexpr std::size_t queue_limit = std::size_t{2} << 20;
};

}  // namespace psource
