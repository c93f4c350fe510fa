// Copies text of many scripts into JSON strings, 16 bytes at a time: what is checked at once is whether the bytes are
// UTF-8 and none of them needs an escape.
#pragma once

#include <cstddef>

namespace psource {

/// Copies whole characters of valid UTF-8, ASCII ones included, as long as none needs an escape; returns how many bytes. It
/// may stop early: at the end, at what is not valid, up to 18 bytes before either, and at once where the processor has no
/// such instructions (SSSE3, chosen at run time; NEON). `from` is the beginning of a character; `to` needs room for `size`
/// bytes, of which those behind the copied ones are undefined.
std::size_t copy_letters(char* to, const unsigned char* from, std::size_t size);

}  // namespace psource
