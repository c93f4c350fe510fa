// The C library's heap, gRPC's read buffers and the system's scheduling of threads, set for what a read does with them. The
// transport floor of bench/ uses the same memory, to be comparable.
#pragma once

#include <malloc.h>
#include <sched.h>

#include <cstdlib>

namespace psource {

/// Call first in main(), while there is one thread. Affects the whole process.
inline void set_up_memory() {
  // Every gRPC and actor thread would otherwise get a heap of its own, whose freed memory the others cannot use.
  mallopt(M_ARENA_MAX, 2);
  // Responses and gRPC's read buffers come and go by the megabyte each millisecond. Given back to the system each time,
  // their pages have to be faulted in and cleared again: ten times as many page faults, a fifth of the processor time of a
  // single stream. So much free memory at most stays with each heap.
  mallopt(M_TRIM_THRESHOLD, 8 * 1024 * 1024);
  // Setting one of the two stops the C library from choosing the other by itself. Larger blocks get pages of their own.
  mallopt(M_MMAP_THRESHOLD, 4 * 1024 * 1024);
  // With this experiment, which is on in gRPC 1.51, one read of a socket allocates up to 4 MiB, whatever the channel's limit
  // (GRPC_ARG_TCP_MAX_READ_CHUNK_SIZE). gRPC has no other way to switch it off. Whoever sets the variable knows better.
  setenv("GRPC_EXPERIMENTS", "-tcp_read_chunks", /*overwrite=*/0);
}

/// Call in main() while there is one thread: those that it starts inherit it. A thread that has something for another one goes
/// on with its own work, and the other has more to do once it runs. By default the woken one takes the processor at once: for
/// a response that is being read, for the batch that comes of it, and for each of the next ones. A system that does not let
/// us choose (a container's rules may not) is left as it is.
inline void set_up_scheduling() {
  const sched_param priority{};
  sched_setscheduler(0, SCHED_BATCH, &priority);
}

}  // namespace psource
