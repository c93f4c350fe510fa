// How much may be under way on a gRPC connection, beyond what is being read.
#pragma once

#include <cstddef>

namespace psource {

/// From now on every connection of this process that is made with gRPC's probing (GRPC_ARG_HTTP2_BDP_PROBE) has a window of
/// so many bytes, as a whole and for each stream, whatever the probing measures; 0 = gRPC decides again. False when this gRPC
/// does not let itself be told, or for 0. Not while another thread uses such a connection with another window.
bool set_grpc_window(std::size_t bytes);

/// Another window for the connections that have one, from the next time on that gRPC looks at theirs (while bytes come, ten times a
/// second at first, every ten seconds after a while). A smaller one takes nothing back that was announced. Thread-safe.
void change_grpc_window(std::size_t bytes);

}  // namespace psource
