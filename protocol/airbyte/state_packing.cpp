// zlib around states, with a limit on what comes out.
#include "protocol/airbyte/state_packing.hpp"

#include <zlib.h>

#include <algorithm>
#include <stdexcept>

#include "protocol/base64.hpp"

namespace psource {

std::string pack_state(std::string_view bytes) {
  uLongf size = compressBound(bytes.size());
  std::string packed(size, '\0');
  // Mostly digits, which the default level packs 5 % smaller, in three times the time.
  if (compress2(reinterpret_cast<Bytef*>(packed.data()), &size, reinterpret_cast<const Bytef*>(bytes.data()),
                bytes.size(), Z_BEST_SPEED) != Z_OK)
    throw std::runtime_error("zlib found no memory");
  packed.resize(size);
  std::string text;
  append_base64(text, packed);
  return text;
}

result<std::string> unpack_state(std::string_view text) {
  auto packed = decode_base64(text);
  if (!packed) return fail(std::move(packed.error()));
  if (packed->size() > max_unpacked_state)
    return fail(error_code::state_invalid, "A packed state is larger than 64 MiB.");
  z_stream stream{};
  if (inflateInit(&stream) != Z_OK) throw std::runtime_error("zlib found no memory");
  stream.next_in = reinterpret_cast<Bytef*>(packed->data());
  stream.avail_in = static_cast<uInt>(packed->size());
  std::string bytes;
  int outcome = Z_OK;
  while (outcome == Z_OK && bytes.size() <= max_unpacked_state) {
    const auto done = bytes.size();
    bytes.resize(std::max<std::size_t>(done * 2, 64 * 1024));
    stream.next_out = reinterpret_cast<Bytef*>(bytes.data() + done);
    stream.avail_out = static_cast<uInt>(bytes.size() - done);
    outcome = inflate(&stream, Z_NO_FLUSH);
    bytes.resize(bytes.size() - stream.avail_out);
  }
  inflateEnd(&stream);
  if (bytes.size() > max_unpacked_state)
    return fail(error_code::state_invalid, "A packed state unpacks to more than 64 MiB.");
  if (outcome != Z_STREAM_END) return fail(error_code::state_invalid, "A packed state is damaged.");
  return bytes;
}

}  // namespace psource
