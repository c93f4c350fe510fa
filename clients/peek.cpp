// Asks where each shard stands now.
#include "clients/peek.hpp"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <set>
#include <utility>

#include "protocol/vitess/request.hpp"
#include "protocol/vitess/response_decoder.hpp"
#include "protocol/vitess/vgtid.hpp"

namespace psource {
namespace {

constexpr std::size_t shards_per_call = 64;

// How long a peek that is given up goes on.
constexpr std::chrono::milliseconds longest_wait{200};

// What the transport's threads leave for the waiting thread. Shared with the listeners, which may outlive the
// peek.
struct bulletin {
  struct note {
    std::size_t call;
    std::optional<stream_end> end;  // Empty = responses are ready.
  };
  std::mutex mutex;
  std::condition_variable changed;
  std::deque<note> notes;

  void post(note n) {
    std::lock_guard<std::mutex> lock(mutex);
    notes.push_back(std::move(n));
    changed.notify_one();
  }
  std::optional<note> next(std::chrono::steady_clock::time_point deadline) {
    std::unique_lock<std::mutex> lock(mutex);
    if (!changed.wait_until(lock, deadline, [this] { return !notes.empty(); })) {
      return std::nullopt;
    }
    note n = std::move(notes.front());
    notes.pop_front();
    return n;
  }
};

class poster final : public vstream_listener {
 public:
  poster(std::shared_ptr<bulletin> board, std::size_t call) : board_(std::move(board)), call_(call) {}
  void on_ready() override { board_->post({call_, std::nullopt}); }
  void on_end(stream_end end) override { board_->post({call_, std::move(end)}); }

 private:
  const std::shared_ptr<bulletin> board_;
  const std::size_t call_;
};

struct peek_call {
  std::set<std::string, std::less<>> missing;
  std::unique_ptr<vstream_call> handle;
};

// False when the bytes are no response.
bool note_positions(const response_bytes& response, const keyspace_name& keyspace, peek_call& call,
                    std::map<shard_id, std::string>& found) {
  const auto note = [&](const shard_gtid_reader& shards) {
    if (shards.keyspace() != keyspace.str() || shards.gtid().empty() || shards.gtid() == "current") {
      return false;
    }
    const auto wanted = call.missing.find(shards.shard());
    if (wanted == call.missing.end()) {
      return false;
    }
    found.emplace(shard_id{keyspace, shard_name(*wanted)}, std::string(shards.gtid()));
    call.missing.erase(wanted);
    return true;
  };
  event_reader events;
  events.begin(response.begin(), response.end());
  raw_event event;
  while (events.next(event)) {
    // Each event tells where all shards of the call stand. Reading them all would cost shards² for one position of each: the
    // one that it comes from.
    shard_gtid_reader own(event.vgtid);
    if (call.missing.count(event.shard) > 0 && own.find(keyspace.str(), event.shard) && note(own)) {
      continue;
    }
    shard_gtid_reader shards(event.vgtid);
    while (shards.next()) {
      note(shards);
    }
    if (!shards.ok()) {
      return false;
    }
  }
  return events.ok();
}

std::string list_of(const std::vector<shard_name>& shards) {
  constexpr std::size_t most = 5;
  std::string text;
  for (std::size_t i = 0; i < std::min(shards.size(), most); ++i) {
    text += (i == 0 ? "" : ", ") + shards[i].str();
  }
  if (shards.size() > most) {
    text += " and " + std::to_string(shards.size() - most) + " more";
  }
  return text;
}

}  // namespace

tl::expected<std::map<shard_id, std::string>, peek_failure> peek_positions(
    vstream_client& client, const keyspace_name& keyspace, const std::vector<shard_name>& shards,
    const peek_options& options, std::chrono::milliseconds limit, const end_classifier& classify) {
  const auto began = std::chrono::steady_clock::now();
  auto wait = std::min(limit, options.silence);
  const auto board = std::make_shared<bulletin>();
  std::map<shard_id, std::string> found;

  // All requests first, so that a name that cannot be sent costs no calls.
  const std::set<shard_name> wanted(shards.begin(), shards.end());
  std::vector<peek_call> calls;
  std::vector<std::string> requests;
  for (auto next = wanted.begin(); next != wanted.end();) {
    stream_request request;
    request.keyspace = keyspace;
    request.type = options.type;
    request.cells = options.cells;
    request.tables = options.tables;
    peek_call call;
    for (; next != wanted.end() && call.missing.size() < shards_per_call; ++next) {
      request.shards.push_back(shard_start{*next, "current", {}});
      call.missing.insert(next->str());
    }
    result<std::string> bytes = serialize(request);
    if (!bytes) {
      return tl::unexpected<peek_failure>(peek_failure{bytes.error(), std::nullopt, {}});
    }
    requests.push_back(*std::move(bytes));
    calls.push_back(std::move(call));
  }
  for (std::size_t i = 0; i < calls.size(); ++i) {
    calls[i].handle =
        client.open({std::move(requests[i])}, std::make_shared<poster>(board, i));
  }

  const auto give_up = [&](failure what, std::optional<stream_end> end) {
    std::vector<shard_name> missing;
    for (const peek_call& call : calls) {
      for (const std::string& shard : call.missing) {
        missing.emplace_back(shard);
      }
    }
    return tl::unexpected<peek_failure>(peek_failure{std::move(what), std::move(end), std::move(missing)});
  };

  std::size_t open_calls = calls.size();
  while (open_calls > 0) {
    if (options.given_up && options.given_up()) {
      return give_up({error_code::interrupted, "The read is ending.", "", std::nullopt}, std::nullopt);
    }
    const auto now = std::chrono::steady_clock::now();
    const auto deadline = began + wait;
    std::optional<bulletin::note> note = board->next(std::min(deadline, now + longest_wait));
    if (!note && now < deadline) {
      continue;
    }
    if (!note) {
      peek_failure late = give_up({}, std::nullopt).value();
      late.what.code = error_code::stream_stalled;
      late.what.message = "The server did not tell the current position of keyspace " + keyspace.str() +
                          ", shard " + list_of(late.missing) + " within " +
                          std::to_string((wait.count() + 500) / 1000) + " s. Most often no " +
                          to_string(options.type) + " tablet serves there.";
      return tl::unexpected<peek_failure>(std::move(late));
    }
    peek_call& call = calls[note->call];
    if (!call.handle) {
      continue;  // Already answered; this is only its cancellation.
    }
    while (response_buffer response = call.handle->take()) {
      wait = limit;
      if (!note_positions(*response, keyspace, call, found)) {
        return give_up({error_code::response_malformed,
                        "The server's answer to a question for the current position of keyspace " +
                            keyspace.str() + " is not a VStream response.",
                        "", std::nullopt},
                       std::nullopt);
      }
    }
    if (call.missing.empty()) {
      call.handle.reset();  // Cancels.
      open_calls -= 1;
    } else if (note->end) {
      const std::vector<shard_name> unanswered(call.missing.begin(), call.missing.end());
      const std::string context =
          "asking for the current position of keyspace " + keyspace.str() + ", shard " + list_of(unanswered);
      failure what = classify ? classify(*note->end, context)
                              : failure{error_code::stream_broken, "The stream ended while " + context + ".",
                                        note->end->message, std::nullopt};
      return give_up(std::move(what), std::move(note->end));
    }
  }
  return found;
}

}  // namespace psource
