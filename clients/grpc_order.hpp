// The order in which gRPC runs the steps of a call, told to ThreadSanitizer: Debian's gRPC is built without it, so the locks
// that make the order are not seen. In every other build these functions are empty.
#pragma once

#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define PSOURCE_THREAD_SANITIZER 1
#endif
#endif

#ifdef PSOURCE_THREAD_SANITIZER
#include <sanitizer/tsan_interface.h>
#endif

namespace psource {

/// Call right before what gRPC answers with a reaction or through a queue: StartCall, StartRead, Read, Finish and their like; and
/// where a reaction touches the call for the last time. `step` is any address that names the step: what comes back from the
/// queue, the buffer that is read or written, or the call for its end. On the thread that takes the step.
inline void hand_to_grpc([[maybe_unused]] void* step) {
#ifdef PSOURCE_THREAD_SANITIZER
  __tsan_release(step);
#endif
}

/// Call first in what gRPC runs after the step: all that was done before hand_to_grpc(step) happened before.
/// On the thread of the reaction.
inline void take_from_grpc([[maybe_unused]] void* step) {
#ifdef PSOURCE_THREAD_SANITIZER
  __tsan_acquire(step);
#endif
}

}  // namespace psource

#undef PSOURCE_THREAD_SANITIZER
