// gRPC's windows, set through the hook by which its own tests set them.
//
// gRPC 1.51 has no argument for the window of a connection. Without probing it is 64 KiB (and what is missing of the message that
// is being read): a round trip of standstill for each response, which costs one stream a tenth of its rate, a third over TLS. With
// probing it is 4 MiB at once, and up to 32 MiB as the measure rises from second to second, on the shortest line too:
// the measure counts what waits in queues. A server that is faster than the reader fills it.
// GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES is about streams only, and a resource quota would end calls with large responses.
#include "clients/grpc_window.hpp"

#include <grpcpp/version_info.h>

#include <atomic>

// Declared as in gRPC's src/core/ext/transport/chttp2/transport/flow_control.h, which is not installed. Weak: a gRPC that hides
// the variable leaves it null.
namespace grpc_core::chttp2 {

class TestOnlyTransportTargetWindowEstimatesMocker {
 public:
  virtual ~TestOnlyTransportTargetWindowEstimatesMocker() = default;
  virtual double ComputeNextTargetInitialWindowSizeFromPeriodicUpdate(double current_target) = 0;
};

// NOLINTNEXTLINE(cppcoreguidelines-avoid-non-const-global-variables)
extern __attribute__((weak)) TestOnlyTransportTargetWindowEstimatesMocker*
    g_test_only_transport_target_window_estimates_mocker;

}  // namespace grpc_core::chttp2

namespace psource {
namespace {

class given_window final : public grpc_core::chttp2::TestOnlyTransportTargetWindowEstimatesMocker {
 public:
  double ComputeNextTargetInitialWindowSizeFromPeriodicUpdate(double /*current_target*/) override {
    return static_cast<double>(bytes.load(std::memory_order_relaxed));
  }

  std::atomic<std::size_t> bytes{0};
};

given_window& given() {
  // Never destroyed: gRPC's threads may ask until the very end.
  static given_window& window = *new given_window;
  return window;
}

}  // namespace

void change_grpc_window(std::size_t bytes) { given().bytes = bytes; }

bool set_grpc_window(std::size_t bytes) {
#if GRPC_CPP_VERSION_MAJOR == 1 && GRPC_CPP_VERSION_MINOR == 51
  auto** const hook = &grpc_core::chttp2::g_test_only_transport_target_window_estimates_mocker;
  if (hook == nullptr) {
    return false;
  }
  given().bytes = bytes;
  *hook = bytes > 0 ? &given() : nullptr;
  return bytes > 0;
#else
  (void)bytes;
  return false;
#endif
}

}  // namespace psource
