// VStream calls over gRPC: channels, calls, and the rules of gRPC's completion queues in one place.
//
// Channels are made with gRPC's C++ library; what calls do is asked of the C library below it (grpc/grpc.h). There a call begins
// with one batch, which comes back with the first response; in C++ what is sent comes back by itself, which wakes the queue's
// thread for nothing.
#include "clients/grpc_vstream.hpp"

#include <absl/synchronization/mutex.h>
#include <grpc/byte_buffer.h>
#include <grpc/byte_buffer_reader.h>
#include <grpc/grpc.h>
#include <grpc/slice.h>
#include <grpc/support/log.h>
#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>
#include <grpcpp/completion_queue.h>
#include <grpcpp/generic/generic_stub.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <cstring>
#include <deque>
#include <iterator>
#include <map>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <thread>
#include <utility>
#include <vector>

#include "clients/grpc_channel.hpp"
#include "clients/grpc_order.hpp"
#include "clients/grpc_window.hpp"
#include "clients/processors.hpp"

namespace psource {
namespace {

// ---- gRPC's log
// -------------------------------------------------------------------------------------------------

// gRPC's log function is a plain pointer of the process, so what it needs is too. Never destroyed: gRPC's
// threads may log until the very end.
struct log_target {
  std::mutex mutex;
  std::shared_ptr<const std::function<void(std::string_view)>> sink;
};

log_target& process_log() {
  static log_target& target = *new log_target;
  return target;
}

void receive_log_line(gpr_log_func_args* args) {
  if (args->severity < GPR_LOG_SEVERITY_ERROR) {
    return;
  }
  const std::string_view line = args->message;
  log_target& log = process_log();
  std::shared_ptr<const std::function<void(std::string_view)>> sink;
  {
    std::lock_guard<std::mutex> lock(log.mutex);
    sink = log.sink;
  }
  if (sink && *sink) {
    (*sink)(line);
  }
}

// What gRPC has one of in a process.
void set_up_grpc() {
  static std::once_flag once;
  std::call_once(once, [] {
    gpr_set_log_function(receive_log_line);
#ifdef NDEBUG
    // Debian's Abseil is a debug build, which looks up the order of locks at each of gRPC's locks, and ends the process where it
    // takes one for a possible deadlock.
    absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
#endif
  });
}

// ---- What gRPC's C library gives and takes
// --------------------------------------------------------------------------------------------------

struct byte_buffer_deleter {
  void operator()(grpc_byte_buffer* bytes) const { grpc_byte_buffer_destroy(bytes); }
};
using byte_buffer = std::unique_ptr<grpc_byte_buffer, byte_buffer_deleter>;

std::string_view view_of(const grpc_slice& slice) {
  return {reinterpret_cast<const char*>(GRPC_SLICE_START_PTR(slice)), GRPC_SLICE_LENGTH(slice)};
}

grpc_slice copy_of(std::string_view bytes) { return grpc_slice_from_copied_buffer(bytes.data(), bytes.size()); }

byte_buffer buffer_of(std::string_view bytes) {
  grpc_slice slice = copy_of(bytes);
  byte_buffer buffer(grpc_raw_byte_buffer_create(&slice, 1));
  grpc_slice_unref(slice);
  return buffer;
}

// Calls `take` with each piece, in order; the pieces hold as long as `bytes`.
template <class Take>
void for_each_piece(grpc_byte_buffer* bytes, Take take) {
  grpc_byte_buffer_reader reader;
  if (grpc_byte_buffer_reader_init(&reader, bytes) == 0) {
    return;
  }
  for (grpc_slice* slice = nullptr; grpc_byte_buffer_reader_peek(&reader, &slice) != 0;) {
    take(view_of(*slice));
  }
  grpc_byte_buffer_reader_destroy(&reader);
}

// The metadata that each call sends. Read only, so all calls share one.
class call_metadata {
 public:
  explicit call_metadata(const metadata_list& entries) {
    for (const auto& [key, value] : entries) {
      grpc_metadata entry{};
      entry.key = copy_of(key);
      entry.value = copy_of(value);
      entries_.push_back(entry);
    }
  }
  call_metadata(const call_metadata&) = delete;
  call_metadata& operator=(const call_metadata&) = delete;
  ~call_metadata() {
    for (const grpc_metadata& entry : entries_) {
      grpc_slice_unref(entry.key);
      grpc_slice_unref(entry.value);
    }
  }
  std::size_t size() const { return entries_.size(); }
  // gRPC asks for a pointer that is not const, and changes nothing.
  grpc_metadata* data() { return entries_.data(); }

 private:
  std::vector<grpc_metadata> entries_;
};

// Metadata that gRPC brings: nobody reads it, but gRPC wants a place for it.
class received_metadata {
 public:
  received_metadata() { grpc_metadata_array_init(&array_); }
  received_metadata(const received_metadata&) = delete;
  received_metadata& operator=(const received_metadata&) = delete;
  ~received_metadata() { grpc_metadata_array_destroy(&array_); }
  grpc_metadata_array* get() { return &array_; }

 private:
  grpc_metadata_array array_;
};

// ---- Responses
// --------------------------------------------------------------------------------------------------

// Makes responses of what gRPC brought, and counts them. Keeps the memory of large ones that were put together and used up, for
// the next ones: fresh memory of that size would have to be cleared by the system each time, and leaves holes in the heap.
// Lives as long as the last response.
class response_pool : public std::enable_shared_from_this<response_pool> {
 public:
  response_buffer make(byte_buffer in) {
    const std::size_t size = grpc_byte_buffer_length(in.get());
    if (size < step) {
      std::string bytes;
      bytes.reserve(size);
      for_each_piece(in.get(), [&](std::string_view piece) { bytes.append(piece); });
      return std::make_shared<const small>(std::move(bytes), shared_from_this());
    }
    std::vector<std::string_view> pieces;
    for_each_piece(in.get(), [&](std::string_view piece) { pieces.push_back(piece); });
    if (pieces.size() > 1 && stays_in_pieces(size)) {
      return std::make_shared<const in_pieces>(size, std::move(in), std::move(pieces), shared_from_this());
    }
    std::unique_ptr<std::string> joined = take(size);
    for (const std::string_view piece : pieces) {
      joined->append(piece);
    }
    return std::make_shared<const in_one>(std::move(joined), shared_from_this());
  }

  // Bytes of the responses that are still there: waiting, or with whoever took them.
  std::size_t in_use() const { return in_use_; }

 private:
  // Counted as in use for as long as it is there.
  class counted : public response_bytes {
   public:
    ~counted() override { pool_->in_use_ -= size() + response_overhead; }

   protected:
    counted(std::size_t size, std::shared_ptr<response_pool> pool) : pool_(std::move(pool)) {
      pool_->in_use_ += size + response_overhead;
    }
    const std::shared_ptr<response_pool> pool_;
  };

  // As gRPC brought it.
  class in_pieces final : public counted {
   public:
    in_pieces(std::size_t size, byte_buffer bytes, std::vector<std::string_view> pieces, std::shared_ptr<response_pool> pool)
        : counted(size, std::move(pool)), bytes_(std::move(bytes)) {
      set(std::move(pieces));
      pool_->in_pieces_ += size;
    }
    ~in_pieces() override { pool_->in_pieces_ -= size(); }

   private:
    const byte_buffer bytes_;
  };

  // Below `step`: put together, because pieces keep whole read blocks. Its memory is left to the heap.
  class small final : public counted {
   public:
    small(std::string bytes, std::shared_ptr<response_pool> pool) : counted(bytes.size(), std::move(pool)), bytes_(std::move(bytes)) {
      set(bytes_);
    }

   private:
    const std::string bytes_;
  };

  // Put together, in memory that is used again.
  class in_one final : public counted {
   public:
    in_one(std::unique_ptr<std::string> bytes, std::shared_ptr<response_pool> pool)
        : counted(bytes->size(), std::move(pool)), bytes_(std::move(bytes)) {
      set(*bytes_);
    }
    ~in_one() override { pool_->give_back(std::move(bytes_)); }

   private:
    std::unique_ptr<std::string> bytes_;
  };

  // Whether a response of that size is handed on as gRPC brought it, which saves a copy. Its pieces lie in gRPC's read blocks, and
  // keep all of them: of 256 KiB, up to 16 for each 256 KiB of it where the frames of many streams alternate.
  bool stays_in_pieces(std::size_t size) const {
    // Larger ones are mostly one large row, which the decoder would have to put together all the same.
    constexpr std::size_t most = std::size_t{1} << 20;
    constexpr std::size_t most_of_all = std::size_t{8} << 20;
    return size <= most && in_pieces_ + size <= most_of_all;
  }

  // Two of vtgate's usual responses for each of a few streams; more are in use than lie here.
  static constexpr std::size_t most_kept = std::size_t{4} << 20;
  // Sizes are rounded up to this, so that responses of about one size fit into each other's memory. Smaller ones are `small`:
  // rounded up, many waiting ones would hold far more than their bytes; and where one piece could keep a block, copying it costs
  // next to nothing.
  static constexpr std::size_t step = std::size_t{32} << 10;

  // Empty, with room for so many bytes and not for many more: a string that grows by itself would double instead.
  std::unique_ptr<std::string> take(std::size_t size) {
    const std::size_t room = (size + step - 1) / step * step;
    {
      std::lock_guard<std::mutex> lock(mutex_);
      const auto fits = std::find_if(free_.rbegin(), free_.rend(), [&](const auto& one) {
        return one->capacity() >= size && one->capacity() - size <= size / 2 + step;
      });
      // The oldest makes way where none fits, or sizes that do not come any more would stay for ever.
      const bool found = fits != free_.rend();
      if (found || !free_.empty()) {
        const auto leaving = found ? std::prev(fits.base()) : free_.begin();
        std::unique_ptr<std::string> left = std::move(*leaving);
        free_.erase(leaving);
        kept_ -= left->capacity();
        if (found) {
          return left;
        }
      }
    }
    auto fresh = std::make_unique<std::string>();
    fresh->reserve(room);
    return fresh;
  }

  void give_back(std::unique_ptr<std::string> used) {
    used->clear();
    std::lock_guard<std::mutex> lock(mutex_);
    if (used->capacity() > most_kept - kept_) {
      return;
    }
    kept_ += used->capacity();
    free_.push_back(std::move(used));
  }

  std::atomic<std::size_t> in_pieces_{0};  // Bytes of the in_pieces.
  std::atomic<std::size_t> in_use_{0};
  std::mutex mutex_;
  std::vector<std::unique_ptr<std::string>> free_;  // The oldest first.
  std::size_t kept_ = 0;                            // Bytes of free_, at most most_kept.
};

// What gRPC was asked to do, as it comes back from a queue.
class step {
 public:
  step() = default;
  step(const step&) = delete;
  step& operator=(const step&) = delete;
  // On the queue's thread.
  virtual void done() = 0;

 protected:
  ~step() = default;
};

// What waits until a queue's thread has nothing else to do.
class announcer {
 public:
  announcer() = default;
  announcer(const announcer&) = delete;
  announcer& operator=(const announcer&) = delete;
  virtual void announce() = 0;

 protected:
  ~announcer() = default;
};

// A completion queue and the thread that polls it: it reads the sockets, and runs what is done, one step after the other.
// gRPC's own threads for callbacks are at least two, and each socket that has something wakes the other one, which finds
// nothing to do.
class completion_thread {
 public:
  completion_thread() : thread_([this] { run(); }) {}
  completion_thread(const completion_thread&) = delete;
  completion_thread& operator=(const completion_thread&) = delete;
  // Only when all steps have come back, and not on the thread itself.
  ~completion_thread() {
    queue_.Shutdown();
    thread_.join();
  }
  grpc::CompletionQueue& queue() { return queue_; }

  // Announces once nothing more is done at the moment: responses that come one by one would each wake their reader. Only from
  // a step.
  void announce_later(std::shared_ptr<announcer> one) { later_.push_back(std::move(one)); }

 private:
  void run() {
    const gpr_timespec at_once = gpr_time_0(GPR_CLOCK_MONOTONIC);
    const gpr_timespec at_some_time = gpr_inf_future(GPR_CLOCK_MONOTONIC);
    unsigned steps_since_first = 0;
    for (;;) {
      const grpc_event event = grpc_completion_queue_next(queue_.cq(), later_.empty() ? at_some_time : at_once, nullptr);
      switch (event.type) {
        case GRPC_OP_COMPLETE:
          steps_since_first = later_.empty() ? 0 : steps_since_first + 1;
          take_from_grpc(event.tag);
          static_cast<step*>(event.tag)->done();
          if (steps_since_first >= most_steps_before) {
            announce_all();
          }
          break;
        case GRPC_QUEUE_TIMEOUT:
          announce_all();
          break;
        case GRPC_QUEUE_SHUTDOWN:
          return;
      }
    }
  }

  void announce_all() {
    for (const auto& one : later_) {
      one->announce();
    }
    later_.clear();
  }

  // Streams that are never done must not keep a quiet one waiting.
  static constexpr unsigned most_steps_before = 64;

  std::vector<std::shared_ptr<announcer>> later_;  // Only the thread uses it.
  grpc::CompletionQueue queue_;
  std::thread thread_;
};

// One thread decrypts more than lines bring (half a gigabyte a second), and two would wake each other in vain: gRPC has
// whoever is free look at all sockets.
unsigned completion_threads() {
  return std::clamp(usable_processors() / 8, 1U, 4U);
}

// One channel, and the queue for the calls on it.
struct channel_slot {
  channel_slot(std::shared_ptr<grpc::Channel> c, completion_thread& thread)
      : channel(std::move(c)), stub(channel), thread(thread) {}
  std::shared_ptr<grpc::Channel> channel;
  grpc::GenericStub stub;
  completion_thread& thread;
  // Both are guarded by the hub's mutex.
  std::size_t running = 0;
  std::optional<std::chrono::steady_clock::time_point> used_since;  // A call was dealt to it then, the first.
};

}  // namespace

// ---- Channels
// ---------------------------------------------------------------------------------------------------

// The channels, the calls that run on them, and the settings of both. Shared with every call.
class grpc_vstream_client::hub {
 public:
  hub(channel_maker maker, unsigned channels, transport_limits limits)
      : limits(limits), metadata(maker.metadata()), maker_(std::move(maker)) {
    const unsigned wanted = std::max(channels, 1U);
    for (unsigned i = 0; i < std::min(wanted, completion_threads()); ++i) {
      threads_.push_back(std::make_unique<completion_thread>());
    }
    for (unsigned i = 0; i < wanted; ++i) {
      slots_.push_back(make_slot(*threads_[i % threads_.size()]));
    }
  }

  // The slot for a new call, already counted as running there; finished() gives it back.
  std::shared_ptr<channel_slot> pick() {
    std::lock_guard<std::mutex> lock(mutex_);
    auto best = std::min_element(slots_.begin(), slots_.end(),
                                 [](const auto& a, const auto& b) { return a->running < b->running; });
    const grpc_connectivity_state state = (*best)->channel->GetState(/*try_to_connect=*/false);
    if (state == GRPC_CHANNEL_TRANSIENT_FAILURE || state == GRPC_CHANNEL_SHUTDOWN) {
      *best = make_slot((*best)->thread);
    }
    (*best)->running += 1;
    if (!(*best)->used_since) {
      (*best)->used_since = std::chrono::steady_clock::now();
    }
    running_ += 1;
    return *best;
  }

  // The call is about to run.
  void started(std::uint64_t call_id, const std::shared_ptr<running_call>& call) {
    std::lock_guard<std::mutex> lock(mutex_);
    calls_.emplace(call_id, call);
  }

  // The call is gone.
  void finished(channel_slot& slot, std::uint64_t call_id) {
    std::lock_guard<std::mutex> lock(mutex_);
    calls_.erase(call_id);
    slot.running -= 1;
    running_ -= 1;
    if (running_ == 0) {
      idle_.notify_all();
    }
  }

  void reconnect(std::chrono::milliseconds silence) {
    const auto silent_since = std::chrono::steady_clock::now() - silence;
    std::lock_guard<std::mutex> lock(mutex_);
    for (auto& slot : slots_) {
      // Many streams notice a dead line one after the other; what was made for the first of them is fresh
      // enough for all.
      if (slot->used_since && *slot->used_since <= silent_since) {
        slot = make_slot(slot->thread);
      }
    }
  }

  bool wait_until_idle(std::chrono::milliseconds timeout) {
    std::unique_lock<std::mutex> lock(mutex_);
    return idle_.wait_for(lock, timeout, [this] { return running_ == 0; });
  }

  // Ends every call, waits for the ends, and joins the threads. Nothing else can be asked for after it.
  void close();

  std::size_t running() const {
    std::lock_guard<std::mutex> lock(mutex_);
    return running_;
  }

  const transport_limits limits;
  call_metadata metadata;
  const std::shared_ptr<response_pool> responses = std::make_shared<response_pool>();
  std::atomic<std::uint64_t> next_call_id{0};
  std::atomic<std::size_t> fed_calls{0};

 private:
  std::shared_ptr<channel_slot> make_slot(completion_thread& thread) {
    return std::make_shared<channel_slot>(maker_.make(), thread);
  }

  const channel_maker maker_;
  std::vector<std::unique_ptr<completion_thread>> threads_;
  mutable std::mutex mutex_;
  std::condition_variable idle_;
  std::vector<std::shared_ptr<channel_slot>> slots_;  // Running calls keep replaced ones.
  std::map<std::uint64_t, std::weak_ptr<running_call>> calls_;
  std::size_t running_ = 0;
};

// ---- One call
// ---------------------------------------------------------------------------------------------------

// Owns itself from start() until its end. At most one step is under way. A read ends the call where it brings nothing, behind which
// gRPC is asked how it ended, or where the call is cancelled; and it ends where its handle is dropped while nothing is under way.
// All steps come back on one thread.
class grpc_vstream_client::running_call final : public announcer {
 public:
  running_call(std::shared_ptr<hub> hub, const vstream_request& request, std::shared_ptr<vstream_listener> listener)
      : hub_(std::move(hub)),
        slot_(hub_->pick()),
        listener_(std::move(listener)),
        is_last_(request.is_last),
        request_(buffer_of(request.bytes)) {}
  running_call(const running_call&) = delete;
  running_call& operator=(const running_call&) = delete;
  ~running_call() { grpc_slice_unref(status_message_); }

  void start(const std::shared_ptr<running_call>& self) {
    self_ = self;
    // Makes the call. What it returns is for C++, and lies in the call's memory.
    slot_->stub.PrepareCall(&context_, vstream_method, &slot_->thread.queue());
    reading_ = true;
    hub_->started(id_, self);  // Before anything that the end may follow.
    std::array<grpc_op, 5> begin{};
    begin[0].op = GRPC_OP_SEND_INITIAL_METADATA;
    begin[0].data.send_initial_metadata.count = hub_->metadata.size();
    begin[0].data.send_initial_metadata.metadata = hub_->metadata.data();
    begin[1].op = GRPC_OP_SEND_MESSAGE;
    begin[1].data.send_message.send_message = request_.get();
    begin[2].op = GRPC_OP_SEND_CLOSE_FROM_CLIENT;
    begin[3].op = GRPC_OP_RECV_INITIAL_METADATA;
    begin[3].data.recv_initial_metadata.recv_initial_metadata = initial_metadata_.get();
    begin[4] = read();
    ask(begin, read_);
  }

  response_buffer take() {
    response_buffer taken;
    bool read = false;
    {
      std::lock_guard<std::mutex> lock(mutex_);
      if (ready_.empty()) {
        announced_ = false;
        set_fed(false);
      } else {
        taken = std::move(ready_.front());
        ready_.pop_front();
        ready_bytes_ -= taken->size() + response_overhead;
      }
      // Whoever found nothing waits for the next response: that is not read ahead.
      read = !ending_ && !reading_ && (taken == nullptr || reads_ahead());
      if (read) {
        reading_ = true;
        last_was_read_ = false;
      }
    }
    if (read) {
      read_on();
    }
    return taken;
  }

  void cancel() {
    way_to_end way = way_to_end::known;
    {
      std::lock_guard<std::mutex> lock(mutex_);
      way = begin_to_end(false);
    }
    go(way);
  }

  // Nobody can take any more: cancels, and gives the memory back now. `handle` is the last reference beside the call's own.
  static void abandon(std::shared_ptr<running_call> handle) {
    running_call& call = *handle;
    std::deque<response_buffer> unread;
    way_to_end way = way_to_end::known;
    {
      std::lock_guard<std::mutex> lock(call.mutex_);
      unread.swap(call.ready_);
      call.ready_bytes_ = 0;
      call.set_fed(false);
      way = call.begin_to_end(!call.announcing_);
    }
    unread.clear();
    // Then nobody else ends it, and whoever waits for the end finds it gone.
    if (way == way_to_end::at_once) {
      handle.reset();
    }
    call.go(way);
  }

 private:
  template <void (running_call::*Done)()>
  class own_step final : public step {
   public:
    explicit own_step(running_call& call) : call_(call) {}
    void done() override { (call_.*Done)(); }

   private:
    running_call& call_;
  };

  // How a call that is cancelled comes to its end.
  enum class way_to_end {
    known,    // It was cancelled before, or is over.
    by_step,  // With what is under way.
    by_read,  // With a read, so that it is told on the queue's thread.
    at_once,  // Here: no step has to come back, which would wake that thread.
  };

  // With the mutex held. From here on nothing is read any more that somebody could take.
  way_to_end begin_to_end(bool here) {
    if (cancelled_ || ended_) {
      return way_to_end::known;
    }
    cancelled_ = true;
    if (reading_ || ending_) {
      return way_to_end::by_step;
    }
    if (here) {
      ending_ = true;
      return way_to_end::at_once;
    }
    reading_ = true;
    return way_to_end::by_read;
  }

  // Without the mutex. *this may be gone behind it.
  void go(way_to_end way) {
    if (way == way_to_end::known) {
      return;
    }
    grpc_call_cancel(context_.c_call(), nullptr);
    if (way == way_to_end::by_read) {
      read_on();
    } else if (way == way_to_end::at_once) {
      end_cancelled();
    }
  }

  // From here on `what` is gRPC's until it comes back.
  template <std::size_t Count>
  void ask(const std::array<grpc_op, Count>& batch, step& what) {
    hand_to_grpc(&what);
    if (grpc_call_start_batch(context_.c_call(), batch.data(), Count, &what, nullptr) != GRPC_CALL_OK) {
      throw std::logic_error("gRPC refused a batch of operations");
    }
  }

  grpc_op read() {
    grpc_op read{};
    read.op = GRPC_OP_RECV_MESSAGE;
    read.data.recv_message.recv_message = &incoming_;
    return read;
  }

  void read_on() { ask(std::array<grpc_op, 1>{read()}, read_); }

  void ask_for_status() {
    grpc_op end{};
    end.op = GRPC_OP_RECV_STATUS_ON_CLIENT;
    end.data.recv_status_on_client.trailing_metadata = trailing_metadata_.get();
    end.data.recv_status_on_client.status = &status_;
    end.data.recv_status_on_client.status_details = &status_message_;
    ask(std::array<grpc_op, 1>{end}, end_);
  }

  // With the mutex held.
  void set_fed(bool fed) {
    if (std::exchange(fed_, fed) == fed) {
      return;
    }
    if (fed) {
      ++hub_->fed_calls;
    } else {
      --hub_->fed_calls;
    }
  }

  void on_read() {
    byte_buffer bytes(std::exchange(incoming_, nullptr));
    const bool over = bytes == nullptr;
    response_buffer response = over ? response_buffer() : hub_->responses->make(std::move(bytes));
    const bool is_last = !over && is_last_ != nullptr && is_last_(*response);
    bool cancelled = false;
    bool announce = false;
    bool read = false;
    {
      std::lock_guard<std::mutex> lock(mutex_);
      cancelled = cancelled_;
      reading_ = false;
      if (over || cancelled) {
        ending_ = true;
      } else {
        ready_bytes_ += response->size() + response_overhead;
        ready_.push_back(std::move(response));
        set_fed(true);
        last_was_read_ = is_last;
        reading_ = read = reads_ahead();
        announce = !announced_ && !std::exchange(announcing_, true);
      }
    }
    if (announce) {
      slot_->thread.announce_later(self_);
    }
    if (read) {
      read_on();
    } else if (cancelled) {
      response.reset();  // Whoever hears of the end may count what is held.
      end_cancelled();
    } else if (over) {
      ask_for_status();
    }
  }

  void announce() override {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      if (announced_ || ready_.empty()) {
        announcing_ = false;
        return;
      }
      announced_ = true;
    }
    if (listener_) {
      listener_->on_ready();
    }
    std::lock_guard<std::mutex> lock(mutex_);
    announcing_ = false;
  }

  // Known without being asked for, which would have gRPC make up a long text: a tenth of what a call costs.
  void end_cancelled() {
    status_ = GRPC_STATUS_CANCELLED;
    on_finished();
  }

  void on_finished() {
    announce();
    std::shared_ptr<running_call> self = std::move(self_);
    std::shared_ptr<vstream_listener> listener = std::move(listener_);
    const std::shared_ptr<hub> hub = hub_;
    const std::shared_ptr<channel_slot> slot = slot_;
    const std::uint64_t id = id_;
    stream_end end;
    end.status_code = static_cast<int>(status_);
    if (status_ != GRPC_STATUS_OK) {
      end.message = view_of(status_message_);
    }
    {
      std::lock_guard<std::mutex> lock(mutex_);
      ended_ = true;
      end.cancelled_by_us = cancelled_;
    }
    listener->on_end(std::move(end));
    listener.reset();
    self.reset();  // *this may be gone from here on.
    hub->finished(*slot, id);
  }

  bool reads_ahead() const {
    return !last_was_read_ && may_read_ahead(hub_->limits, ready_bytes_, hub_->responses->in_use());
  }

  const std::shared_ptr<hub> hub_;
  const std::shared_ptr<channel_slot> slot_;
  const std::uint64_t id_ = hub_->next_call_id++;
  std::shared_ptr<vstream_listener> listener_;  // Set until the end; only steps use it, and announcements.
  bool (*const is_last_)(const response_bytes&);
  std::shared_ptr<running_call> self_;
  // Down to status_message_ these are gRPC's while what writes or reads them is under way. Before context_, so that they are still there
  // when the call goes with it.
  received_metadata initial_metadata_;
  received_metadata trailing_metadata_;
  const byte_buffer request_;
  grpc_byte_buffer* incoming_ = nullptr;
  grpc_status_code status_ = GRPC_STATUS_UNKNOWN;
  grpc_slice status_message_ = grpc_empty_slice();
  grpc::ClientContext context_;
  own_step<&running_call::on_read> read_{*this};
  own_step<&running_call::on_finished> end_{*this};

  std::mutex mutex_;
  std::deque<response_buffer> ready_;
  std::size_t ready_bytes_ = 0;
  bool reading_ = false;    // A read is under way, or is about to be asked for.
  bool ending_ = false;     // The read that ends the call has come back.
  bool last_was_read_ = false;  // What was read last is most likely the last one that is wanted.
  bool announced_ = false;  // on_ready() was called, and take() has not said "nothing" since.
  bool announcing_ = false;  // The queue's thread is going to call it, or is in it.
  bool cancelled_ = false;
  bool ended_ = false;
  bool fed_ = false;  // Counted in the hub's fed_calls.
};

void grpc_vstream_client::hub::close() {
  std::vector<std::shared_ptr<running_call>> calls;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    for (const auto& [id, call] : calls_) {
      calls.push_back(call.lock());
    }
  }
  for (const auto& call : calls) {
    if (call) {
      call->cancel();
    }
  }
  calls.clear();
  {
    std::unique_lock<std::mutex> lock(mutex_);
    idle_.wait(lock, [this] { return running_ == 0; });
  }
  threads_.clear();
}

class grpc_vstream_client::call_handle final : public vstream_call {
 public:
  explicit call_handle(std::shared_ptr<running_call> call) : call_(std::move(call)) {}
  ~call_handle() override { running_call::abandon(std::move(call_)); }
  response_buffer take() override { return call_->take(); }
  void cancel() override { call_->cancel(); }

 private:
  std::shared_ptr<running_call> call_;
};

// ---- The client
// -------------------------------------------------------------------------------------------------

channel_plan plan_channels(unsigned streams, std::optional<std::chrono::microseconds> round_trip) {
  constexpr unsigned calls_per_channel = 90;
  constexpr unsigned most_probing = 8;
  // Twice what the fastest server sends (rows made up on the same machine), because a window is announced again only when half
  // of it is used up.
  constexpr std::uint64_t bytes_per_microsecond = 1500;
  constexpr std::uint64_t most_of_all = std::uint64_t{32} << 20;
  constexpr std::uint64_t most_of_one = std::uint64_t{16} << 20;
  // With less, streams are slower on a short line, too: the server stands still after each part of a response, and each part wakes
  // threads.
  constexpr std::uint64_t least = std::uint64_t{1} << 20;
  // Below that a window of one's own brings nothing over gRPC's.
  constexpr std::uint64_t worth_it = std::uint64_t{128} << 10;
  const unsigned needed = streams / calls_per_channel + (streams % calls_per_channel != 0 ? 1 : 0);
  channel_plan plan;
  plan.channels = std::max({1U, needed, std::min(streams, 4U)});
  plan.bdp_probe = streams <= most_probing;
  if (!round_trip) {
    return plan;
  }
  // An hour is longer than any line; more could overflow.
  const auto microseconds =
      std::clamp<std::int64_t>(round_trip->count(), 0, std::int64_t{3'600'000'000});
  const std::uint64_t line = static_cast<std::uint64_t>(microseconds) * bytes_per_microsecond / plan.channels;
  const auto window_of = [&](std::uint64_t calls) {
    return static_cast<std::size_t>(std::min({std::max(line, least), most_of_all / std::max<std::uint64_t>(1, calls), most_of_one}));
  };
  if (window_of(streams) >= worth_it) {
    plan.window = window_of(std::min<std::uint64_t>(streams, channel_plan::few));
    plan.window_of_many = window_of(streams);
  }
  return plan;
}

result<std::shared_ptr<grpc_vstream_client>> grpc_vstream_client::make(const connection_settings& settings,
                                                                       channel_plan plan,
                                                                       transport_limits limits) {
  set_up_grpc();
  result<channel_maker> channels = channel_maker::of(settings, plan, limits);
  if (!channels) {
    return fail(channels.error());
  }
  return std::shared_ptr<grpc_vstream_client>(
      new grpc_vstream_client(std::make_shared<hub>(*std::move(channels), plan.channels, limits), plan));
}

grpc_vstream_client::grpc_vstream_client(std::shared_ptr<hub> hub, const channel_plan& plan)
    : hub_(std::move(hub)), plan_(plan) {}
grpc_vstream_client::~grpc_vstream_client() { hub_->close(); }

std::unique_ptr<vstream_call> grpc_vstream_client::open(vstream_request request,
                                                        std::shared_ptr<vstream_listener> listener) {
  auto call = std::make_shared<running_call>(hub_, request, std::move(listener));
  auto handle = std::make_unique<call_handle>(call);
  call->start(call);
  return handle;
}

void grpc_vstream_client::reconnect(std::chrono::milliseconds silence) { hub_->reconnect(silence); }
bool grpc_vstream_client::wait_until_idle(std::chrono::milliseconds timeout) {
  return hub_->wait_until_idle(timeout);
}
std::size_t grpc_vstream_client::running_calls() const { return hub_->running(); }
std::size_t grpc_vstream_client::fed_calls() const { return hub_->fed_calls; }
void grpc_vstream_client::expect_calls(std::size_t at_once) {
  if (plan_.window_of_many > 0 && plan_.window_of_many != plan_.window)
    change_grpc_window(at_once > channel_plan::few ? plan_.window_of_many : plan_.window);
}
std::size_t grpc_vstream_client::held_bytes() const { return hub_->responses->in_use(); }

void set_grpc_log_sink(std::function<void(std::string_view line)> sink) {
  set_up_grpc();
  auto shared = std::make_shared<const std::function<void(std::string_view)>>(std::move(sink));
  log_target& log = process_log();
  std::lock_guard<std::mutex> lock(log.mutex);
  log.sink = std::move(shared);
}

}  // namespace psource
