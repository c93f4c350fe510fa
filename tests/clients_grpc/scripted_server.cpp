// A real gRPC server in the test's process that answers VStream calls by a script.
#include "tests/clients_grpc/scripted_server.hpp"

#include <grpc/grpc.h>
#include <grpcpp/support/byte_buffer.h>

#include <stdexcept>
#include <utility>

#include "clients/grpc_order.hpp"

namespace psource::test {
namespace {

std::string text_of(const grpc::ByteBuffer& bytes) {
  std::vector<grpc::Slice> slices;
  std::string text;
  if (bytes.Dump(&slices).ok()) {
    for (const grpc::Slice& s : slices) {
      text.append(reinterpret_cast<const char*>(s.begin()), s.size());
    }
  }
  return text;
}

}  // namespace

class scripted_server::reactor final : public grpc::ServerGenericBidiReactor {
 public:
  reactor(scripted_server& server, grpc::GenericCallbackServerContext* context)
      : server_(server), context_(context) {
    hand_to_grpc(&request_);
    hand_to_grpc(&cancelled_);
    StartRead(&request_);
  }

  void OnReadDone(bool ok) override {
    take_from_grpc(&request_);
    if (!ok) {
      finish_once(grpc::Status::CANCELLED);
      return;
    }
    seen_call seen;
    seen.method = context_->method();
    seen.request = text_of(request_);
    seen.peer = context_->peer();
    for (const auto& [key, value] : context_->client_metadata()) {
      seen.metadata.emplace(std::string(key.data(), key.size()), std::string(value.data(), value.size()));
    }
    script_ = server_.script_(seen);
    if (script_.compress) {
      context_->set_compression_algorithm(GRPC_COMPRESS_GZIP);
    }
    {
      std::lock_guard<std::mutex> lock(server_.mutex_);
      server_.counters_.calls += 1;
      server_.seen_.push_back(std::move(seen));
      server_.changed_.notify_all();
    }
    write_next();
  }

  void OnWriteDone(bool ok) override {
    take_from_grpc(&response_);
    bool stop = !ok;
    {
      std::lock_guard<std::mutex> lock(mutex_);
      writing_ = false;
      stop = stop || cancelled_;
    }
    if (stop) {
      finish_once(grpc::Status::CANCELLED);
      return;
    }
    {
      std::lock_guard<std::mutex> lock(server_.mutex_);
      server_.counters_.accepted += 1;
      server_.changed_.notify_all();
    }
    write_next();
  }

  void OnCancel() override {
    take_from_grpc(&cancelled_);
    bool finish = false;
    {
      std::lock_guard<std::mutex> lock(mutex_);
      cancelled_ = true;
      finish = !writing_;
    }
    if (finish) {
      finish_once(grpc::Status::CANCELLED);
    }
    hand_to_grpc(this);
  }

  void OnDone() override {
    take_from_grpc(this);
    {
      std::lock_guard<std::mutex> lock(server_.mutex_);
      server_.counters_.finished += 1;
      server_.counters_.cancelled += cancelled_ ? 1 : 0;
      server_.changed_.notify_all();
    }
    hand_to_grpc(&server_);
    delete this;
  }

 private:
  void write_next() {
    {
      std::unique_lock<std::mutex> lock(mutex_);
      if (cancelled_) {
        lock.unlock();
        finish_once(grpc::Status::CANCELLED);
        return;
      }
      if (next_ < script_.responses.size() * script_.repeat) {
        writing_ = true;
      }
    }
    if (next_ < script_.responses.size() * script_.repeat) {
      grpc::Slice slice(script_.responses[next_ % script_.responses.size()]);
      ++next_;
      response_ = grpc::ByteBuffer(&slice, 1);
      hand_to_grpc(&response_);
      StartWrite(&response_);
    } else if (script_.end) {
      finish_once(*script_.end);
    }
  }

  void finish_once(const grpc::Status& status) {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      if (std::exchange(finishing_, true)) {
        return;
      }
    }
    hand_to_grpc(this);
    Finish(status);
  }

  scripted_server& server_;
  grpc::GenericCallbackServerContext* const context_;
  grpc::ByteBuffer request_;
  grpc::ByteBuffer response_;
  call_script script_;
  std::size_t next_ = 0;
  std::mutex mutex_;
  bool writing_ = false;
  bool cancelled_ = false;
  bool finishing_ = false;
};

class scripted_server::service final : public grpc::CallbackGenericService {
 public:
  explicit service(scripted_server& server) : server_(server) {}
  grpc::ServerGenericBidiReactor* CreateReactor(grpc::GenericCallbackServerContext* context) override {
    return new reactor(server_, context);
  }

 private:
  scripted_server& server_;
};

scripted_server::scripted_server(script_function script, std::shared_ptr<grpc::ServerCredentials> credentials,
                                 int port)
    : script_(std::move(script)), service_(std::make_unique<service>(*this)) {
  grpc::ServerBuilder builder;
  builder.AddListeningPort("127.0.0.1:" + std::to_string(port),
                           credentials ? credentials : grpc::InsecureServerCredentials(), &port_);
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  builder.SetMaxSendMessageSize(-1);
  builder.RegisterCallbackGenericService(service_.get());
  server_ = builder.BuildAndStart();
  if (!server_ || port_ == 0) {
    throw std::runtime_error("the scripted server cannot listen");
  }
}

scripted_server::~scripted_server() {
  server_->Shutdown(std::chrono::system_clock::now());
  server_->Wait();
  take_from_grpc(this);
}

connection_settings scripted_server::settings() const {
  connection_settings s;
  s.host = "127.0.0.1";
  s.port = port();
  s.auth = grpc_auth::none;
  s.tls.enabled = false;
  return s;
}

bool scripted_server::wait_until(const std::function<bool(const counters&)>& condition) {
  std::unique_lock<std::mutex> lock(mutex_);
  return changed_.wait_for(lock, patience, [&] { return condition(counters_); });
}

scripted_server::counters scripted_server::now() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return counters_;
}

std::vector<seen_call> scripted_server::seen() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return seen_;
}

}  // namespace psource::test
