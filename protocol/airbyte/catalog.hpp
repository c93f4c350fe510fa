// Catalogs: the one that discover writes, and the configured one that read is given.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "protocol/failure.hpp"
#include "protocol/mapping/declared_type.hpp"
#include "protocol/names.hpp"

namespace psource {

/// A stream as discover offers it; always full_refresh and incremental, always with a cursor of the source's
/// own.
struct discovered_stream {
  stream_id id;
  /// JSON text of the stream's schema; taken over as it is.
  std::string json_schema;
  /// Column names in key order; empty = no primary key.
  std::vector<std::string> primary_key;
  /// Name of the cursor column; empty = none.
  std::string cursor_field;
  /// An interrupted full refresh goes on where it was. Where it cannot, it has to be false: the platform then gives the
  /// next attempt a new generation, and rows of the attempt before do not stay beside the new ones.
  bool is_resumable = true;
};

/// {"streams":[...]} in one line.
std::string catalog_json(const std::vector<discovered_stream>& streams);

enum class sync_mode : std::uint8_t { full_refresh, incremental };
/// "full_refresh" or "incremental".
const char* to_string(sync_mode mode);

/// A property of the stream's json_schema: a column that the connection wants.
struct declared_property {
  std::string name;
  /// Its JSON text as the catalog has it: {"type":["null","string"]}.
  std::string schema;
};

/// What a property's JSON text declares. Of a text that is none, or of another form, nothing.
declared_type declared_type_of(std::string_view schema);

/// A stream of the configured catalog.
struct configured_stream {
  stream_id id;
  sync_mode mode = sync_mode::full_refresh;
  /// As the catalog has it ("append", "overwrite", "append_dedup"...); empty when it has none.
  std::string destination_sync_mode;
  std::vector<std::string> cursor_field;
  std::vector<std::vector<std::string>> primary_key;
  std::vector<std::string> default_cursor_field;
  std::vector<std::vector<std::string>> source_defined_primary_key;
  /// False when json_schema has no `properties`: the catalog does not choose, every column is meant.
  bool declares_properties = true;
  /// In the catalog's order, each name once.
  std::vector<declared_property> properties;
  std::optional<std::int64_t> generation_id;
  std::optional<std::int64_t> minimum_generation_id;
  std::optional<std::int64_t> sync_id;

  /// The declared property of that name, or nullptr.
  const declared_property* find(std::string_view name) const;
};

/// Reads the text of --catalog. `keyspaces` are those of the configuration: a stream without namespace
/// belongs to the only one. Nulls and unknown keys are tolerated. Errors (code catalog_invalid) name the
/// stream and the key.
result<std::vector<configured_stream>> parse_configured_catalog(std::string_view json_text,
                                                                const std::vector<keyspace_name>& keyspaces);

}  // namespace psource
