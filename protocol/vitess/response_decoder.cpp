// In-place decoding of VStream responses; see the header for the grammar.
#include "protocol/vitess/response_decoder.hpp"

#include <cstring>
#include <utility>

#include "protocol/vitess/wire.hpp"

namespace psource {

namespace {

// Of a gathered event, from one response to the next: an event of many copied ones, not a large row.
constexpr std::size_t most_kept = 16 * 1024;

using wire::bytes_type;
using wire::key;
using wire::varint_type;

// Reads a message field, which may be there once: given twice it would have to be merged; no server writes that.
bool read_once(const char*& at, const char* end, std::string_view& value) {
  return value.data() == nullptr && wire::read_bytes(at, end, value);
}

bool read_number(const char*& at, const char* end, std::int64_t& number) {
  std::uint64_t value = 0;
  if (!wire::read_varint(at, end, value)) return false;
  number = static_cast<std::int64_t>(value);
  return true;
}

// `rows_at` becomes the place where the length of row_event stands, if there is one.
bool read_event(std::string_view bytes, raw_event& event, const char*& rows_at) {
  event = raw_event{};
  const char* at = bytes.data();
  const char* const end = at + bytes.size();
  while (at != end) {
    std::uint32_t next = 0;
    if (!wire::read_key(at, end, next)) return false;
    bool good = true;
    switch (next) {
      case key(1, varint_type): {
        std::int64_t number = 0;
        good = read_number(at, end, number);
        event.type = static_cast<event_type>(static_cast<std::int32_t>(number));
        break;
      }
      case key(2, varint_type):
        good = read_number(at, end, event.timestamp);
        break;
      case key(4, bytes_type):
        good = wire::read_bytes(at, end, event.statement);
        break;
      case key(5, bytes_type):
        rows_at = at;
        good = read_once(at, end, event.row_event);
        break;
      case key(6, bytes_type):
        good = read_once(at, end, event.field_event);
        break;
      case key(7, bytes_type):
        good = read_once(at, end, event.vgtid);
        break;
      case key(22, bytes_type):
        good = wire::read_bytes(at, end, event.keyspace);
        break;
      case key(23, bytes_type):
        good = wire::read_bytes(at, end, event.shard);
        break;
      case key(28, bytes_type):
        good = wire::read_bytes(at, end, event.event_gtid);
        break;
      default:
        good = wire::skip(at, end, next & 7);
        break;
    }
    if (!good) return false;
  }
  return true;
}

bool read_row(std::string_view bytes, row_view& row) {
  if (row.present) return false;
  row.present = true;
  const char* at = bytes.data();
  const char* const end = at + bytes.size();
  while (at != end) {
    std::uint32_t next = 0;
    if (!wire::read_key(at, end, next)) return false;
    // Lengths that are not packed would be a field of another type.
    const bool good = next == key(1, bytes_type)   ? read_once(at, end, row.lengths)
                      : next == key(2, bytes_type) ? read_once(at, end, row.values)
                                                   : next >> 3 != 1 && wire::skip(at, end, next & 7);
    if (!good) return false;
  }
  return true;
}

bool read_bitmap(std::string_view bytes, std::string_view& bits, std::int64_t& count) {
  const char* at = bytes.data();
  const char* const end = at + bytes.size();
  while (at != end) {
    std::uint32_t next = 0;
    if (!wire::read_key(at, end, next)) return false;
    const bool good = next == key(1, varint_type)  ? read_number(at, end, count)
                      : next == key(2, bytes_type) ? wire::read_bytes(at, end, bits)
                                                   : wire::skip(at, end, next & 7);
    if (!good) return false;
  }
  // A count that the bits do not cover would send readers of the bitmap past its end.
  return count >= 0 && static_cast<std::uint64_t>(count) <= std::uint64_t{bits.size()} * 8;
}

// The rows of a copy: nothing but an after image with lengths and values, in this order. False, with nothing read, for
// any other form, which may be as good.
bool read_copied_row(std::string_view bytes, row_change_view& change) {
  const char* at = bytes.data();
  const char* const end = at + bytes.size();
  const auto begins_with = [&at, end](std::uint32_t wanted) {
    return at != end && static_cast<unsigned char>(*at) == wanted && (++at, true);
  };
  std::string_view row;
  std::string_view lengths;
  std::string_view values;
  if (!begins_with(key(2, bytes_type)) || !wire::read_bytes(at, end, row) || at != end) return false;
  at = row.data();
  if (!begins_with(key(1, bytes_type)) || !wire::read_bytes(at, end, lengths)) return false;
  if (!begins_with(key(2, bytes_type)) || !wire::read_bytes(at, end, values) || at != end) return false;
  // Member by member: made anew as a whole, it would be built elsewhere and copied.
  change.before.lengths = change.before.values = {};
  change.before.present = false;
  change.after.lengths = lengths;
  change.after.values = values;
  change.after.present = true;
  change.data_columns = change.json_partial_values = {};
  change.data_columns_count = change.json_partial_count = 0;
  return true;
}

bool read_row_change(std::string_view bytes, row_change_view& change) {
  if (read_copied_row(bytes, change)) return true;
  change = row_change_view{};
  const char* at = bytes.data();
  const char* const end = at + bytes.size();
  while (at != end) {
    std::uint32_t next = 0;
    if (!wire::read_key(at, end, next)) return false;
    if ((next & 7) != bytes_type) {
      if (!wire::skip(at, end, next & 7)) return false;
      continue;
    }
    std::string_view value;
    if (!wire::read_bytes(at, end, value)) return false;
    bool good = true;
    switch (next >> 3) {
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

void event_reader::begin(const std::string_view* first, const std::string_view* last) {
  clear();
  next_piece_ = first;
  last_piece_ = last;
}

void event_reader::clear() {
  at_ = end_ = nullptr;
  next_piece_ = last_piece_ = nullptr;
  gathered_of_piece_ = 0;
  ok_ = true;
  reads_gathered_ = false;
  last_ = model_head_ = {};
  rows_at_ = nullptr;
  for (auto& text : gathered_)
    if (text.capacity() > most_kept) text = std::string();
}

// Where all that is read is used up. False when there is nothing more.
bool event_reader::go_to_next_piece() {
  reads_gathered_ = false;
  while (next_piece_ != last_piece_) {
    at_ = next_piece_->data() + gathered_of_piece_;
    end_ = next_piece_->data() + next_piece_->size();
    gathered_of_piece_ = 0;
    ++next_piece_;
    if (at_ != end_) return true;
  }
  return false;
}

// Where the field at at_ is not whole in what is read: puts it together. Broken when the pieces behind do not complete it.
bool event_reader::gather() {
  std::string& field = gathered_[gather_into_];
  field.assign(at_, end_);
  const auto take = [this, &field](std::size_t size) {
    while (size != 0 && next_piece_ != last_piece_) {
      const std::string_view there = next_piece_->substr(gathered_of_piece_, size);
      field += there;
      size -= there.size();
      gathered_of_piece_ += there.size();
      if (gathered_of_piece_ == next_piece_->size()) {
        ++next_piece_;
        gathered_of_piece_ = 0;
      }
    }
    return size == 0;
  };
  // Byte by byte up to the length, then at once. No key has more than 10 bytes, nor has a length or a number.
  for (unsigned more = 0; more < 20; ++more) {
    if (!take(1)) return broken();
    const char* at = field.data();
    const char* const end = at + field.size();
    std::uint32_t next = 0;
    std::uint64_t size = 0;
    if (!wire::read_key(at, end, next)) continue;
    if ((next & 7) != bytes_type) {
      if (!wire::skip(at, end, next & 7)) continue;
    } else {
      if (!wire::read_varint(at, end, size)) continue;
      const auto have = static_cast<std::uint64_t>(end - at);
      if (size > have && !take(static_cast<std::size_t>(size - have))) return broken();
    }
    at_ = field.data();
    end_ = at_ + field.size();
    reads_gathered_ = true;
    return true;
  }
  return broken();
}

void event_reader::make_model() {
  const char* const rows_at = std::exchange(rows_at_, nullptr);
  const char* at = rows_at;
  std::string_view rows;
  // It was read before.
  if (!wire::read_bytes(at, last_.data() + last_.size(), rows)) return;
  at = rows.data();
  const char* const end = at + rows.size();
  std::uint32_t next = 0;
  std::string_view change;
  while (next != key(2, bytes_type)) {
    if (at == end || !wire::read_key(at, end, next)) return;
    if (next != key(2, bytes_type) && !wire::skip(at, end, next & 7)) return;
  }
  const std::string_view head{rows.data(), static_cast<std::size_t>(at - rows.data())};
  if (!wire::read_bytes(at, end, change)) return;
  const char* const behind = at;
  while (at != end) {
    // Another change, or another name, would be taken for one that is the same for all.
    if (!wire::read_key(at, end, next) || next >> 3 <= 2 || !wire::skip(at, end, next & 7)) return;
  }
  model_head_ = {last_.data(), static_cast<std::size_t>(rows_at - last_.data())};
  model_rows_head_ = head;
  model_tail_ = {behind, static_cast<std::size_t>(last_.data() + last_.size() - behind)};
  model_rows_tail_ = static_cast<std::size_t>(end - behind);
}

bool event_reader::next_alike(row_change_view& change) {
  if (rows_at_ != nullptr) make_model();
  if (model_head_.empty() || (at_ == end_ && !go_to_next_piece()) ||
      static_cast<unsigned char>(*at_) != key(1, bytes_type))
    return false;
  const auto skip_same = [](const char*& at, const char* end, std::string_view same) {
    if (static_cast<std::size_t>(end - at) < same.size() || std::memcmp(at, same.data(), same.size()) != 0) return false;
    at += same.size();
    return true;
  };
  const char* at = at_ + 1;
  std::string_view event;
  std::string_view rows;
  std::string_view one;
  if (!wire::read_bytes(at, end_, event)) return gather() && next_alike(change);
  const char* const behind = at;
  at = event.data();
  if (!skip_same(at, behind, model_head_) || !wire::read_bytes(at, behind, rows)) return false;
  const char* const rows_behind = at;
  at = rows.data();
  if (!skip_same(at, rows_behind, model_rows_head_) || !wire::read_bytes(at, rows_behind, one)) return false;
  if (static_cast<std::size_t>(rows_behind - at) != model_rows_tail_ || !skip_same(at, behind, model_tail_) ||
      at != behind || !read_row_change(one, change))
    return false;
  at_ = behind;
  return true;
}

bool event_reader::next(raw_event& event) {
  model_head_ = {};
  rows_at_ = nullptr;
  while (at_ != end_ || go_to_next_piece()) {
    const char* at = at_;
    std::uint32_t next = 0;
    std::string_view bytes;
    const bool whole = wire::read_key(at, end_, next) && (next == key(1, bytes_type) ? wire::read_bytes(at, end_, bytes)
                                                                                     : wire::skip(at, end_, next & 7));
    if (!whole) {
      if (!gather()) return false;
      continue;
    }
    at_ = at;
    if (next == key(1, bytes_type)) {
      last_ = bytes;
      if (reads_gathered_) gather_into_ ^= 1;
      return read_event(bytes, event, rows_at_) || broken();
    }
  }
  return false;
}

bool event_reader::broken() {
  ok_ = false;
  at_ = end_;
  next_piece_ = last_piece_;
  return false;
}

row_event_reader::row_event_reader(std::string_view row_event)
    : at_(row_event.data()), end_(row_event.data() + row_event.size()) {
  // The name is needed before the first row. Servers write it first; rows before it would be skipped by their lengths here.
  const char* at = at_;
  while (at != end_ && table_name_.data() == nullptr) {
    std::uint32_t next = 0;
    const bool good =
        wire::read_key(at, end_, next) &&
        (next == key(1, bytes_type) ? wire::read_bytes(at, end_, table_name_) : wire::skip(at, end_, next & 7));
    if (!good) {
      broken();
      return;
    }
  }
}

bool row_event_reader::next_of_rest(row_change_view& change) {
  while (at_ != end_) {
    std::uint32_t next = 0;
    std::string_view bytes;
    if (!wire::read_key(at_, end_, next)) return broken();
    if (next == key(2, bytes_type)) {
      if (!wire::read_bytes(at_, end_, bytes)) return broken();
      return read_row_change(bytes, change) || broken();
    }
    if (next == key(1, bytes_type)) {
      // A second name would be the one that counts.
      if (!wire::read_bytes(at_, end_, bytes) || bytes.data() != table_name_.data()) return broken();
    } else if (!wire::skip(at_, end_, next & 7)) {
      return broken();
    }
  }
  return false;
}

bool row_event_reader::broken() {
  ok_ = false;
  at_ = end_;
  return false;
}

}  // namespace psource
