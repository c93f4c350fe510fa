// What the engine works with, for tests of its actors: nothing behind it but what a test sets.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "actors/engine.hpp"

namespace psource::testing {

struct questions final : branch_questions {
  /// How often the shards are listed before that throws.
  int listings = 1'000'000;
  /// Where it is set, it gets what is to be called with the answer.
  std::function<void()>* postponed = nullptr;
  void ask_positions(const shard_id&, tablet_type, std::function<void(result<server_positions>)>) override {}
  void ask_serving(std::function<void(result<std::vector<shard_id>>)> answer) override {
    if (listings-- == 0) throw std::runtime_error("listing failed");
    auto tell = [answer = std::move(answer)] { answer(std::vector<shard_id>{{keyspace_name("ks"), shard_name("-")}}); };
    if (postponed != nullptr)
      *postponed = std::move(tell);
    else
      tell();
  }
  void ask_stops(std::vector<shard_id>, std::chrono::milliseconds, std::function<void(result<std::map<shard_id, gtid_set>>)>) override {}
  void ask_rows(row_lookup, std::function<void(result<looked_up_rows>)>) override {}
};

struct text_output final : output {
  bool throws = false;
  std::string text;
  bool write(output_bytes bytes, std::uint64_t) override {
    if (throws) throw std::runtime_error("writing failed");
    text += bytes.view();
    return true;
  }
};

// Streams that bring nothing.
struct silent_client final : vstream_client {
  struct call final : vstream_call {
    explicit call(std::atomic<int>& open) : open(open) { ++open; }
    ~call() override { --open; }
    response_buffer take() override { return nullptr; }
    void cancel() override {}
    std::atomic<int>& open;
  };
  bool throws = false;
  std::function<void()> on_open = [] {};
  std::atomic<int> opened{0};
  std::atomic<int> open_calls{0};
  std::unique_ptr<vstream_call> open(vstream_request, std::shared_ptr<vstream_listener>) override {
    ++opened;
    if (throws) throw std::runtime_error("opening failed");
    on_open();
    return std::make_unique<call>(open_calls);
  }
  void reconnect(std::chrono::milliseconds) override {}
  std::size_t fed_calls() const override { return 0; }
  void expect_calls(std::size_t) override {}
};

struct still_clock final : sync_clock {
  std::int64_t wall_milliseconds() const override { return 1; }
  std::int64_t server_microseconds() const override { return 1; }
};

}  // namespace psource::testing
