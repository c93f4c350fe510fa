// Turns the rows of one FIELD event into RECORD lines: compiled once per event, then one pass over each row.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "protocol/failure.hpp"
#include "protocol/mapping/declared_type.hpp"
#include "protocol/mapping/text_buffer.hpp"
#include "protocol/mapping/type_table.hpp"
#include "protocol/names.hpp"
#include "protocol/vitess/columns.hpp"
#include "protocol/vitess/row_view.hpp"

namespace psource {

/// What is known of a stream before its first FIELD event.
struct stream_shape {
  stream_id id;
  /// As discovery found it when the run began: character sets, nullability, primary key. May lack columns.
  table_definition table;
  /// Property names of the configured catalog's json_schema, CDC columns included. Empty (a catalog without
  /// properties) means every column of the table and no CDC column.
  std::vector<std::string> selected;
  /// What the catalog declares of them, by name. May lack columns: then nothing is known to contradict it.
  std::map<std::string, declared_type> declared;
};

struct encoder_options {
  type_options types;
  /// `_planetscale_metadata` is written when it is selected too.
  bool include_metadata = false;
};

/// What a record says besides its row.
struct record_context {
  /// Milliseconds since 1970.
  std::int64_t emitted_at_ms = 0;
  /// The row is the before image of a delete (or of the old key when a primary key changes).
  bool deleted = false;
  /// The row came by the copy (a SELECT), not from the binlog. It matters for ENUM and SET: a copied label is in
  /// the column's bytes, one of the binlog in UTF-8, or a number that nothing marks as one (Vitess 19; a copied
  /// "2" is the label '2' there).
  bool copied = false;
  std::int64_t cdc_cursor = 0;
  /// `_ab_cdc_updated_at`, and `_ab_cdc_deleted_at` of a delete: microseconds since 1970.
  std::int64_t updated_at_micros = 0;
  /// The three of `_planetscale_metadata`.
  std::string_view position;
  std::int64_t extracted_at_ns = 0;
  std::int64_t sequence = 0;
};

/// Encodes rows of one table of one shard, for as long as one FIELD event holds. Movable; one thread at a
/// time.
///
/// Every column value becomes what docs/types.md says. A value that cannot be told exactly never fails the
/// record: it is nulled or repaired, and `meta.changes` says so. No memory is allocated per row once the
/// buffers have grown to the size of the largest row (a scratch buffer above 1 MiB is given back).
class record_encoder {
 public:
  /// Matches the stream's columns with the event's.
  /// Errors: schema_incompatible (columns named "@1", "@2" … after their place, which the table does not have: Vitess could
  /// not match old binlog events with the present table), catalog_invalid (nothing is left of what the catalog selects), response_malformed
  /// (no column, more than 4,096, or one name twice). The failure names the stream.
  static result<record_encoder> compile(const stream_shape& shape, const field_event& fields,
                                        const encoder_options& options);

  record_encoder(record_encoder&&) noexcept;
  record_encoder& operator=(record_encoder&&) noexcept;
  ~record_encoder();

  /// An encoder for the same FIELD event, for another thread: what was compiled is shared, so this is cheap. Only where
  /// shareable(). May be called on several threads at once, as long as nobody moves or changes this one.
  record_encoder another() const;
  /// False where the table has columns of multi-byte character sets: each encoder needs decoders of its own.
  bool shareable() const;

  /// MySQL's name of the character set in which the texts of the FIELD event's column are decoded; empty for columns that are no
  /// text, ENUM or SET, or are left out.
  const std::string& character_set(std::size_t column) const;

  /// Appends one complete line, line break included: {"type":"RECORD","record":{…}}. On error `out` is as it
  /// was. Errors: response_malformed (the row has another number of values than the FIELD event, or broken
  /// lengths), internal (a deleted row although delivers_deletes() is false, or an image that is not
  /// present).
  result<void> append_record(text_buffer& out, const row_view& row, const record_context& context);

  /// Bytes that a line needs besides its values: envelope, names, CDC columns. (`_planetscale_metadata` and
  /// meta.changes come on top.)
  std::size_t room() const;

  /// False when the catalog lacks `_ab_cdc_deleted_at`: a delete must not be encoded then, it would look like
  /// a row that came back.
  bool delivers_deletes() const;

  /// True when both images have the same primary key, byte for byte: the change is one record. False: a
  /// delete of the before image and an insert of the after image. Bytes, not collation: 'a' → 'A' is a
  /// change, because destinations compare so. True when it cannot be told: the table has no primary key, an
  /// image is not present, malformed, or leaves a key column out (MySQL always writes key columns, so this
  /// does not hide a change).
  bool same_key(const row_view& before, const row_view& after) const;

  /// Number of columns that each row must have.
  std::size_t column_count() const;

  /// Whole sentences for the log, at most one per kind of surprise (and one per column of another or unknown type or
  /// character set): columns that the catalog does not have, columns of the catalog that the table lost or has
  /// with another type, types and character sets that this program does not know. Repeats on every FIELD event; the caller tells
  /// each once.
  const std::vector<std::string>& warnings() const;

 private:
  struct compiled;
  struct impl;
  explicit record_encoder(std::unique_ptr<impl> state);
  std::unique_ptr<impl> impl_;
};

}  // namespace psource
