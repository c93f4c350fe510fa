// The packed form of large states: zlib, then base64.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "protocol/failure.hpp"

namespace psource {

/// What a packed state may grow to.
constexpr std::size_t max_unpacked_state = std::size_t{64} << 20;

std::string pack_state(std::string_view bytes);

/// The inverse. Errors (code state_invalid): no base64, no complete zlib data, more than max_unpacked_state
/// bytes.
result<std::string> unpack_state(std::string_view text);

}  // namespace psource
