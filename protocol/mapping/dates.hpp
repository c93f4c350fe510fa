// Dates and times as MySQL writes them → ISO 8601.
#pragma once

#include <cstdint>
#include <string_view>

#include "protocol/mapping/text_buffer.hpp"

namespace psource {

/// All of these write a JSON string, quotes included. Impossible: zero and partial-zero dates, days that the
/// calendar does not have (MySQL's ALLOW_INVALID_DATES stores them), and texts of another form.
outcome append_date(text_buffer& out, std::string_view text);
/// 2024-02-29T12:34:56.120000, with 'Z' when `utc`. 0 to 6 digits of a second's fraction are read, 6 are
/// written.
outcome append_datetime(text_buffer& out, std::string_view text, bool utc);
/// 12:34:56.000100. Impossible: negative times and times of 24 hours or more.
outcome append_time(text_buffer& out, std::string_view text);

/// Microseconds since 1970 as 2024-02-29T12:34:56.789000Z, 27 characters without quotes. Clamped to the years
/// 0000 to 9999.
void append_instant(text_buffer& out, std::int64_t micros);

}  // namespace psource
