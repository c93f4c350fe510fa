// In-place decoding of VStream responses; see the header for the grammar.
#include "protocol/vitess/response_decoder.hpp"

#include "protocol/vitess/wire.hpp"

namespace psource {

namespace {

constexpr std::uint32_t varint_type = 0;
constexpr std::uint32_t bytes_type = 2;

bool read_event(std::string_view bytes, raw_event& event) {
  event = raw_event{};
  const char* at = bytes.data();
  const char* end = at + bytes.size();
  while (at != end) {
    std::uint32_t field = 0;
    std::uint32_t type = 0;
    if (!wire::read_tag(at, end, field, type)) return false;
    if (type == varint_type && (field == 1 || field == 2 || field == 20)) {
      std::uint64_t number = 0;
      if (!wire::read_varint(at, end, number)) return false;
      if (field == 1)
        event.type = static_cast<event_type>(static_cast<std::int32_t>(number));
      else if (field == 2)
        event.timestamp = static_cast<std::int64_t>(number);
      else
        event.current_time = static_cast<std::int64_t>(number);
      continue;
    }
    if (type != bytes_type) {
      if (!wire::skip(at, end, type)) return false;
      continue;
    }
    std::string_view value;
    if (!wire::read_bytes(at, end, value)) return false;
    // A message field given twice would have to be merged; no server writes that.
    const auto once = [&value](std::string_view& target) {
      if (target.data() != nullptr) return false;
      target = value;
      return true;
    };
    switch (field) {
      case 4:
        event.statement = value;
        break;
      case 5:
        if (!once(event.row_event)) return false;
        break;
      case 6:
        if (!once(event.field_event)) return false;
        break;
      case 7:
        if (!once(event.vgtid)) return false;
        break;
      case 22:
        event.keyspace = value;
        break;
      case 23:
        event.shard = value;
        break;
      case 28:
        event.event_gtid = value;
        break;
      default:
        break;
    }
  }
  return true;
}

bool read_row(std::string_view bytes, row_view& row) {
  if (row.present) return false;
  row.present = true;
  const char* at = bytes.data();
  const char* end = at + bytes.size();
  while (at != end) {
    std::uint32_t field = 0;
    std::uint32_t type = 0;
    if (!wire::read_tag(at, end, field, type)) return false;
    if (field == 1) {
      if (type != bytes_type || row.lengths.data() != nullptr || !wire::read_bytes(at, end, row.lengths)) return false;
    } else if (field == 2 && type == bytes_type) {
      if (row.values.data() != nullptr || !wire::read_bytes(at, end, row.values)) return false;
    } else if (!wire::skip(at, end, type)) {
      return false;
    }
  }
  return true;
}

bool read_bitmap(std::string_view bytes, std::string_view& bits, std::int64_t& count) {
  const char* at = bytes.data();
  const char* end = at + bytes.size();
  while (at != end) {
    std::uint32_t field = 0;
    std::uint32_t type = 0;
    if (!wire::read_tag(at, end, field, type)) return false;
    if (field == 1 && type == varint_type) {
      std::uint64_t number = 0;
      if (!wire::read_varint(at, end, number)) return false;
      count = static_cast<std::int64_t>(number);
    } else if (field == 2 && type == bytes_type) {
      if (!wire::read_bytes(at, end, bits)) return false;
    } else if (!wire::skip(at, end, type)) {
      return false;
    }
  }
  // A count that the bits do not cover would send readers of the bitmap past its end.
  return count >= 0 && static_cast<std::uint64_t>(count) <= std::uint64_t{bits.size()} * 8;
}

bool read_row_change(std::string_view bytes, row_change_view& change) {
  change = row_change_view{};
  const char* at = bytes.data();
  const char* end = at + bytes.size();
  while (at != end) {
    std::uint32_t field = 0;
    std::uint32_t type = 0;
    if (!wire::read_tag(at, end, field, type)) return false;
    if (type != bytes_type) {
      if (!wire::skip(at, end, type)) return false;
      continue;
    }
    std::string_view value;
    if (!wire::read_bytes(at, end, value)) return false;
    bool good = true;
    switch (field) {
      case 1:
        good = read_row(value, change.before);
        break;
      case 2:
        good = read_row(value, change.after);
        break;
      case 3:
        good = read_bitmap(value, change.data_columns, change.data_columns_count);
        break;
      case 4:
        good = read_bitmap(value, change.json_partial_values, change.json_partial_count);
        break;
      default:
        break;
    }
    if (!good) return false;
  }
  return true;
}

}  // namespace

bool event_reader::next(raw_event& event) {
  while (at_ != end_) {
    std::uint32_t field = 0;
    std::uint32_t type = 0;
    std::string_view bytes;
    if (!wire::read_tag(at_, end_, field, type)) return broken();
    if (field == 1 && type == bytes_type) {
      if (!wire::read_bytes(at_, end_, bytes) || !read_event(bytes, event)) return broken();
      return true;
    }
    if (!wire::skip(at_, end_, type)) return broken();
  }
  return false;
}

bool event_reader::broken() {
  ok_ = false;
  at_ = end_;
  return false;
}

row_event_reader::row_event_reader(std::string_view row_event)
    : at_(row_event.data()), end_(row_event.data() + row_event.size()) {
  // The name is needed before the first row; the rows are skipped by their lengths here.
  const char* at = at_;
  while (at != end_) {
    std::uint32_t field = 0;
    std::uint32_t type = 0;
    const bool good = wire::read_tag(at, end_, field, type) &&
                      (field == 1 && type == bytes_type ? wire::read_bytes(at, end_, table_name_)
                                                        : wire::skip(at, end_, type));
    if (!good) {
      broken();
      return;
    }
  }
}

bool row_event_reader::next(row_change_view& change) {
  while (at_ != end_) {
    std::uint32_t field = 0;
    std::uint32_t type = 0;
    std::string_view bytes;
    if (!wire::read_tag(at_, end_, field, type)) return broken();
    if (field == 2 && type == bytes_type) {
      if (!wire::read_bytes(at_, end_, bytes) || !read_row_change(bytes, change)) return broken();
      return true;
    }
    if (!wire::skip(at_, end_, type)) return broken();
  }
  return false;
}

bool row_event_reader::broken() {
  ok_ = false;
  at_ = end_;
  return false;
}

}  // namespace psource
