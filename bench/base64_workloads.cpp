// Base64, both ways.
#include <memory>
#include <stdexcept>

#include "bench/workloads.hpp"
#include "protocol/base64.hpp"

namespace psource::bench {
namespace {

std::string some_bytes(std::size_t size) {
  std::string bytes;
  std::uint32_t x = 1;
  while (bytes.size() < size) bytes.push_back(static_cast<char>((x = x * 1664525u + 1013904223u) >> 24));
  return bytes;
}

workload encoding(std::string name, std::size_t size, std::size_t times) {
  const auto out = std::make_shared<std::string>();
  return {std::move(name), times, size * times,
          [=, bytes = some_bytes(size)] {
            std::size_t written = 0;
            for (std::size_t i = 0; i < times; ++i) {
              out->clear();
              append_base64(*out, bytes);
              written += out->size();
            }
            return written;
          },
          "value"};
}

workload decoding(std::string name, std::size_t size, std::size_t times) {
  std::string text;
  append_base64(text, some_bytes(size));
  return {std::move(name), times, size * times,
          [=, text = std::move(text)] {
            std::size_t read = 0;
            for (std::size_t i = 0; i < times; ++i) {
              const auto bytes = decode_base64(text);
              if (!bytes) throw std::runtime_error("base64 cannot be read");
              read += bytes->size();
            }
            return read;
          },
          "value"};
}

}  // namespace

std::vector<workload> base64_workloads() {
  return {encoding("encode_16", 16, 10'000), encoding("encode_200", 200, 10'000),
          encoding("encode_64k", 65'536, 30), decoding("decode_200", 200, 10'000),
          decoding("decode_64k", 65'536, 30)};
}

}  // namespace psource::bench
