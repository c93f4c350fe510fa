// Standard output in a simulation: takes buffers, writes them when the driver says so, and can break at a
// given byte.
#pragma once

#include <algorithm>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "sync/output.hpp"

namespace psource::simulation {

/// A buffer as the emitter handed it over, at a moment of the simulated clock (microseconds).
struct emitted_bytes {
  std::int64_t time_us = 0;
  std::string bytes;
};

class scripted_output final : public output {
 public:
  scripted_output(std::shared_ptr<output_listener> listener, const std::int64_t& now_us)
      : listener_(std::move(listener)), now_us_(now_us) {}

  bool write(output_bytes bytes, std::uint64_t ticket) override {
    if (broken_) return false;
    if (bytes.view().compare(0, 16, R"({"type":"RECORD")") == 0) {
      queued_records_ += bytes.size();
      // All of a batch is one record where it is larger than it would be for several.
      if (bytes.size() > largest_record_ && bytes.view().find('\n') == bytes.size() - 1) largest_record_ = bytes.size();
    }
    emitted_.push_back({now_us_, std::string(bytes.view())});
    queue_.push_back({std::move(bytes), ticket, 0});
    if (!at_once || queue_.size() != 1 || !written_.empty()) return false;
    write_some(*at_once);
    if (written_.empty()) return false;
    written_.pop_front();
    return true;
  }
  std::size_t queued_record_bytes() const { return queued_records_; }

  /// The largest batch of a single record, which no batch of several has to keep to.
  std::size_t largest_record() const { return largest_record_; }

  bool can_write() const { return !broken_ && !queue_.empty(); }
  bool can_tell() const { return !broken_ && !written_.empty(); }

  /// Writes at most so many bytes of the first buffer.
  void write_some(std::size_t bytes) {
    entry& first = queue_.front();
    std::size_t count = std::min(bytes, first.bytes.size() - first.done);
    const bool breaks = break_at && transcript_.size() + count >= *break_at;
    if (breaks) count = *break_at - transcript_.size();
    transcript_.append(first.bytes.view().substr(first.done, count));
    first.done += count;
    if (breaks) {
      broken_ = true;
      queue_.clear();
      listener_->on_failed(break_with);
      return;
    }
    if (first.done < first.bytes.size()) return;
    if (first.bytes.view().compare(0, 16, R"({"type":"RECORD")") == 0) queued_records_ -= first.bytes.size();
    written_.push_back(first.ticket);
    queue_.pop_front();
  }
  /// Tells that the oldest written buffer is written.
  void tell_written() {
    const auto ticket = written_.front();
    written_.pop_front();
    listener_->on_written(ticket);
  }

  /// Every byte written so far; cut at its last whole line by whoever reads it.
  const std::string& transcript() const { return transcript_; }
  const std::vector<emitted_bytes>& emitted() const { return emitted_; }

  /// The process is dead: what is handed over now was never said.
  void close() { broken_ = true; }

  /// So many bytes of a buffer are written when it comes, where nothing else waits; empty: all of it waits.
  std::optional<std::size_t> at_once;
  /// After so many bytes nothing can be written any more.
  std::optional<std::size_t> break_at;
  failure break_with{error_code::output_closed, "Nobody reads standard output any more.", {}, std::nullopt};

 private:
  struct entry {
    output_bytes bytes;
    std::uint64_t ticket = 0;
    std::size_t done = 0;
  };
  std::shared_ptr<output_listener> listener_;
  const std::int64_t& now_us_;
  std::deque<entry> queue_;
  std::deque<std::uint64_t> written_;
  std::size_t queued_records_ = 0;
  std::size_t largest_record_ = 0;
  bool broken_ = false;
  std::string transcript_;
  std::vector<emitted_bytes> emitted_;
};

}  // namespace psource::simulation
