// Codec of the saved cursor. Written by hand, so that the bytes of last_known_pk pass through untouched.
#include "protocol/vitess/cursor.hpp"

#include <algorithm>
#include <cstdint>
#include <limits>

#include "protocol/base64.hpp"
#include "protocol/vitess/last_key.hpp"
#include "protocol/vitess/wire.hpp"
#include "psdbconnect.pb.h"

namespace psource {
namespace {

// Field numbers of psdbconnect.v1alpha1.TableCursor; all of them are length-delimited.
constexpr int shard_field = 1;
constexpr int keyspace_field = 2;
constexpr int position_field = 3;
constexpr int last_known_pk_field = 4;

void append_field(std::string& out, int number, std::string_view bytes) {
  if (bytes.empty()) return;
  out.push_back(static_cast<char>(number << 3 | 2));
  std::uint64_t size = bytes.size();
  for (; size >= 0x80; size >>= 7) out.push_back(static_cast<char>(size | 0x80));
  out.push_back(static_cast<char>(size));
  out.append(bytes);
}

// The bytes of a last key before its row: they are the same for all keys of a copy.
std::string_view fields_of(std::string_view key) {
  constexpr char fields_tag = 1 << 3 | 2;
  const char* at = key.data();
  const char* const end = at + key.size();
  while (at != end && *at == fields_tag) {
    const char* next = at + 1;
    std::string_view field;
    if (!wire::read_bytes(next, end, field)) break;
    at = next;
  }
  return key.substr(0, static_cast<std::size_t>(at - key.data()));
}

}  // namespace

void table_cursor_view::append_base64_to(std::string& out) const {
  std::string bytes;
  bytes.reserve(shard.size() + keyspace.size() + position.size() + last_known_pk.size() + 40);
  append_field(bytes, shard_field, shard);
  append_field(bytes, keyspace_field, keyspace);
  append_field(bytes, position_field, position);
  append_field(bytes, last_known_pk_field, last_known_pk);
  append_base64(out, bytes);
}

std::string table_cursor::encode_base64() const {
  std::string text;
  view().append_base64_to(text);
  return text;
}

result<table_cursor> table_cursor::decode_base64(std::string_view text) {
  const auto bytes = psource::decode_base64(text);
  if (!bytes) return fail(bytes.error());
  psdbconnect::v1alpha1::TableCursor message;
  if (bytes->size() > static_cast<std::size_t>(std::numeric_limits<int>::max()) ||
      !message.ParseFromString(*bytes))
    return fail(error_code::state_invalid, "A saved cursor is not a serialized TableCursor.");
  table_cursor cursor;
  cursor.shard = shard_name(message.shard());
  cursor.keyspace = keyspace_name(message.keyspace());
  cursor.position = message.position();
  if (message.has_last_known_pk()) {
    if (const char* fault = fault_of_last_key(message.last_known_pk()))
      return fail(error_code::lastpk_refused, std::string("The last_known_pk of a saved cursor ") + fault +
                                                 ". The copy of this table cannot be resumed from it.");
    cursor.last_known_pk = message.last_known_pk().SerializeAsString();
  }
  return cursor;
}

std::vector<std::string> last_key_columns(std::string_view last_known_pk) {
  query::QueryResult key;
  std::vector<std::string> names;
  if (!key.ParseFromArray(last_known_pk.data(), static_cast<int>(last_known_pk.size()))) return names;
  for (auto& field : *key.mutable_fields()) names.push_back(std::move(*field.mutable_name()));
  return names;
}

bool are_of_same_columns(std::string_view a, std::string_view b) {
  const std::string_view fields = fields_of(a);
  if (fields == fields_of(b)) return true;
  query::QueryResult one;
  query::QueryResult other;
  if (!one.ParseFromArray(a.data(), static_cast<int>(a.size())) || !other.ParseFromArray(b.data(), static_cast<int>(b.size())))
    return false;
  return std::equal(one.fields().begin(), one.fields().end(), other.fields().begin(), other.fields().end(),
                    [](const query::Field& x, const query::Field& y) {
                      return x.name() == y.name() && x.type() == y.type() &&
                             (x.charset() == y.charset() || x.charset() == 0 || y.charset() == 0);
                    });
}

}  // namespace psource
