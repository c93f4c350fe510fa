// How far calls read ahead of whoever takes their responses: the limits, and the rule that keeps to them. In a header of its own, without
// gRPC, because the simulation's transport keeps to the same rule as the real one (clients/grpc_vstream.hpp).
#pragma once

#include <cstddef>

namespace psource {

/// Bounds of a call, and of what all calls of a client read ahead.
struct transport_limits {
  /// A larger response ends its stream with RESOURCE_EXHAUSTED. Bytes.
  std::size_t receive_limit = std::size_t{128} << 20;
  /// A call reads on while less than this is read and not taken. Bytes. Several of vtgate's usual responses: each that is taken
  /// where nothing is under way has to be asked for by its reader, which wakes gRPC's thread.
  std::size_t read_ahead = std::size_t{1} << 20;
  /// While so much is read of all calls together and not freed yet by whoever took it, a call reads on only when nothing is
  /// left to take of it. Bytes. Enough for a dozen of vtgate's usual responses: more than there are processors to decode them.
  std::size_t read_ahead_of_all = std::size_t{4} << 20;
};

/// What a response costs beside its bytes. Counted too, or empty responses could pile up without end.
constexpr std::size_t response_overhead = 128;

/// Whether a call of which `ready` bytes are read and not taken may read on before somebody has found nothing more to take of it.
/// `in_use`: bytes of the responses of all calls that are there, taken or not. Both with response_overhead for each response.
constexpr bool may_read_ahead(const transport_limits& limits, std::size_t ready, std::size_t in_use) {
  return ready < limits.read_ahead && in_use < limits.read_ahead_of_all;
}

}  // namespace psource
