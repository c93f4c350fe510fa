// Growth of the scratch memory, kept out of line.
#include "protocol/mapping/text_buffer.hpp"

#include <algorithm>

namespace psource {

void text_buffer::grow(std::size_t room) {
  const std::size_t used = size();
  const std::size_t wanted = std::max({used + room, capacity() * 2, std::size_t{4096}});
  std::unique_ptr<char[]> bigger(new char[wanted]);  // not make_unique: that would clear it
  if (used != 0) std::memcpy(bigger.get(), memory_.get(), used);
  memory_ = std::move(bigger);
  end_ = memory_.get() + used;
  limit_ = memory_.get() + wanted;
}

}  // namespace psource
