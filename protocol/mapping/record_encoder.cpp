// Compiles the columns of a FIELD event, then writes rows: the busiest code of the program.
#include "protocol/mapping/record_encoder.hpp"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include "protocol/base64.hpp"
#include "protocol/mapping/charset.hpp"
#include "protocol/mapping/dates.hpp"
#include "protocol/mapping/json_string.hpp"
#include "protocol/mapping/json_text.hpp"
#include "protocol/mapping/numbers.hpp"
#include "protocol/mapping/plain_text.hpp"
#include "protocol/mapping/text_buffer.hpp"
#include "protocol/mapping/wkt.hpp"

namespace psource {
namespace {

constexpr std::size_t most_columns = 4096;  // MySQL's own limit
constexpr std::size_t largest_kept_buffer = std::size_t{1} << 20;
constexpr std::uint32_t key_flag = 2;
constexpr std::size_t short_prefix = 48;
constexpr std::string_view line_end = "}}\n";
/// The CDC columns with their values, and the line's end.
constexpr std::size_t largest_tail = 256;

/// The two conversions that most values need are written where the row is walked.
enum class shortcut : std::uint8_t { none, integer, utf8 };

/// What every row asks of a column, close together: a row of many columns walks over all of them.
struct column_step {
  /// `,"name":` (the first one without the comma) when it is that short: it is copied in one go, whatever its length.
  char short_name[short_prefix] = {};
  /// Otherwise.
  const char* long_name = nullptr;
  std::uint32_t name_size = 0;
  /// Bytes that the line needs from here on besides its values.
  std::uint32_t room = 0;
  bool delivered = false;
  shortcut how = shortcut::none;
};

/// What is compiled for one column of the FIELD event besides.
struct column_plan {
  std::string prefix;
  bool key = false;
  conversion how = conversion::base64;
  text_decoder decoder;
  /// ENUM and SET.
  bool labels_arrive_as_text = false;
  std::vector<std::string> labels;          ///< As column_type has them, UTF-8.
  std::vector<std::string> escaped_labels;  ///< As they stand in JSON.
  std::unordered_map<std::string_view, std::size_t> label_index;
  /// `"name"` for meta.changes.
  std::string quoted_name;
};

struct change {
  std::size_t column;
  bool nulled;
};

std::string list(const std::vector<std::string>& names) {
  std::string text;
  for (const auto& name : names) text.append(text.empty() ? "" : ", ").append(name);
  return text;
}

void append_int(text_buffer& out, std::int64_t value) {
  char* const to = out.reserve(24);
  out.finish(std::to_chars(to, to + 24, value).ptr);
}

bool unsigned_number(std::string_view text, std::uint64_t& value) {
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), value);
  return !text.empty() && parsed.ec == std::errc() && parsed.ptr == text.data() + text.size();
}

/// A label as text: one of column_type's members already in UTF-8, else bytes in the column's character set. A copied one
/// is always such bytes, and they may be the UTF-8 of another member.
outcome append_label(text_buffer& out, const column_plan& plan, std::string_view value, bool copied) {
  if (plan.decoder.is_utf8()) return append_escaped(out, value);
  if (copied) return plan.decoder.append(out, value);
  const auto found = plan.label_index.find(value);
  if (found == plan.label_index.end()) return plan.decoder.append(out, value);
  out.append(plan.escaped_labels[found->second]);
  return outcome::exact;
}

outcome append_enum(text_buffer& out, const column_plan& plan, std::string_view value, bool copied) {
  std::uint64_t index = 0;
  if (copied || plan.labels_arrive_as_text || !unsigned_number(value, index))
    return append_label(out, plan, value, copied);
  if (index == 0) return outcome::exact;  // MySQL's '' for a value that was not a member
  if (index > plan.escaped_labels.size()) return outcome::impossible;
  out.append(plan.escaped_labels[static_cast<std::size_t>(index - 1)]);
  return outcome::exact;
}

outcome append_set(text_buffer& out, const column_plan& plan, std::string_view value, bool copied) {
  std::uint64_t mask = 0;
  if (!copied && !plan.labels_arrive_as_text && unsigned_number(value, mask)) {
    bool first = true;
    for (std::size_t i = 0; i < plan.escaped_labels.size() && i < 64; ++i) {
      if ((mask >> i & 1) == 0) continue;
      mask &= ~(std::uint64_t{1} << i);
      if (!first) out.push(',');
      first = false;
      out.append(plan.escaped_labels[i]);
    }
    return mask == 0 ? outcome::exact : outcome::repaired;
  }
  if (plan.decoder.is_utf8()) return append_escaped(out, value);
  if (copied) return plan.decoder.append(out, value);
  // Members in UTF-8 only if all of them are; the comma itself is two or four bytes in some character sets.
  for (std::string_view rest = value; !rest.empty();) {
    const auto comma = rest.find(',');
    if (plan.label_index.find(rest.substr(0, comma)) == plan.label_index.end())
      return plan.decoder.append(out, value);
    rest = comma == std::string_view::npos ? std::string_view() : rest.substr(comma + 1);
  }
  return append_escaped(out, value);
}

/// The key column's stand-in for a date that does not exist; null would hide the row from destinations.
std::string_view epoch(conversion how) {
  switch (how) {
    case conversion::date:
      return "\"1970-01-01\"";
    case conversion::datetime:
      return "\"1970-01-01T00:00:00.000000\"";
    case conversion::timestamp:
      return "\"1970-01-01T00:00:00.000000Z\"";
    default:
      return {};
  }
}

outcome append_base64_value(text_buffer& out, std::string_view bytes) {
  char* to = out.reserve((bytes.size() + 2) / 3 * 4 + 2);
  *to++ = '"';
  to = write_base64(to, bytes);
  *to++ = '"';
  out.finish(to);
  return outcome::exact;
}

}  // namespace

/// What compile() found out. Never changed after that, so encoders on several threads share it.
struct record_encoder::compiled {
  stream_id id;
  std::vector<column_step> steps;
  std::vector<column_plan> columns;  ///< As many.
  std::vector<std::string> character_sets;  ///< As many; empty where nothing is decoded.
  /// Positions of the primary-key columns in the event.
  std::vector<bool> is_key;
  bool has_key = false;
  std::vector<std::string> warnings;
  bool shareable = true;

  /// {"type":"RECORD","record":{"stream":"t","namespace":"ks","data":{
  std::string head;
  bool data_needs_comma = false;  ///< A table column comes before the CDC columns.
  bool updated_at = false;
  bool deleted_at = false;
  bool cursor = false;
  bool metadata = false;

  std::size_t room() const { return head.size() + (steps.empty() ? 0 : steps.front().room) + largest_tail; }
  void add_step(std::size_t column);
  void add_rooms();
  std::string add_column(column_plan& plan, const wire_column& field, const stream_shape& shape,
                         const field_event& fields, const encoder_options& options);
};

struct record_encoder::impl {
  explicit impl(std::shared_ptr<const compiled> what) : plan(std::move(what)) {
    tail.reserve(largest_tail);
    changes.reserve(plan->columns.size());
  }

  const std::shared_ptr<const compiled> plan;
  text_buffer scratch;
  std::vector<change> changes;

  /// What follows the table's columns changes seldom from row to row but for the cursor, so it is kept as text: the CDC
  /// columns, and from tail_behind on the line's end.
  std::string tail;
  std::size_t tail_cursor = 0;
  std::size_t tail_behind = 0;
  record_context tail_says;

  void append_with_care(text_buffer& line, std::size_t column, std::string_view value, bool copied);
  void make_tail(const record_context& context);
  bool tail_holds(const record_context& context) const {
    return context.emitted_at_ms == tail_says.emitted_at_ms && context.deleted == tail_says.deleted &&
           context.updated_at_micros == tail_says.updated_at_micros && !tail.empty();
  }
  void refresh_tail(const record_context& context);
  result<void> write_record(text_buffer& line, const row_view& row, const record_context& context);
  outcome append_value(text_buffer& line, const column_plan& column, std::string_view value, bool copied);
  void append_metadata(text_buffer& line, const record_context& context);
  void append_changes(text_buffer& line);
  // Cold: the compiler keeps what they need out of the way of rows.
  [[gnu::cold]] result<void> malformed(const char* what) const;
  [[gnu::cold]] result<void> without_image() const;
};

void record_encoder::impl::make_tail(const record_context& context) {
  text_buffer& text = scratch;
  text.clear();
  bool comma = plan->data_needs_comma;
  const auto name = [&](const char* column) {
    if (comma) text.push(',');
    comma = true;
    text.push('"');
    text.append(column);
    text.append("\":");
  };
  const auto instant = [&] {
    text.push('"');
    append_instant(text, context.updated_at_micros);
    text.push('"');
  };
  if (plan->updated_at) {
    name(cdc_updated_at);
    instant();
  }
  if (plan->deleted_at) {
    name(cdc_deleted_at);
    if (context.deleted)
      instant();
    else
      text.append("null");
  }
  if (plan->cursor) name(psource::cdc_cursor);
  tail_cursor = text.size();
  if (plan->cursor) append_int(text, context.cdc_cursor);
  tail_behind = text.size();
  text.append("},\"emitted_at\":");
  append_int(text, context.emitted_at_ms);
  text.append(line_end);
  tail.assign(text.view());
  tail_says = context;
  tail_says.position = {};  // A view that may not last.
}

/// Brings the tail up to date. Changes of the binary log differ in their cursors alone.
void record_encoder::impl::refresh_tail(const record_context& context) {
  if (tail_holds(context)) {
    char number[24];
    const char* const end = std::to_chars(number, number + sizeof number, context.cdc_cursor).ptr;
    const auto size = static_cast<std::size_t>(end - number);
    if (size == tail_behind - tail_cursor) {
      std::memcpy(&tail[tail_cursor], number, size);
      tail_says.cdc_cursor = context.cdc_cursor;
      return;
    }
  }
  make_tail(context);
}

outcome record_encoder::impl::append_value(text_buffer& line, const column_plan& column, std::string_view value,
                                           bool copied) {
  outcome done = outcome::exact;
  switch (column.how) {
    case conversion::integer:
      return append_integer(line, value);
    case conversion::boolean:
      return append_boolean(line, value);
    case conversion::decimal:
      return append_decimal(line, value);
    case conversion::float32:
      return append_float32(line, value);
    case conversion::float64:
      return append_float64(line, value);
    case conversion::bit_boolean:
      return append_bit_boolean(line, value);
    case conversion::bit_integer:
      return append_bits(line, value);
    case conversion::date:
      return append_date(line, value);
    case conversion::datetime:
      return append_datetime(line, value, false);
    case conversion::timestamp:
      return append_datetime(line, value, true);
    case conversion::time:
      return append_time(line, value);
    case conversion::base64:
      return append_base64_value(line, value);
    case conversion::float_array:
      return append_vector(line, value);
    case conversion::time_text:
      line.push('"');
      done = append_escaped(line, value);
      break;
    case conversion::text:
      line.push('"');
      done = column.decoder.is_utf8() ? append_escaped(line, value) : column.decoder.append(line, value);
      break;
    case conversion::enumeration:
      line.push('"');
      done = append_enum(line, column, value, copied);
      break;
    case conversion::set:
      line.push('"');
      done = append_set(line, column, value, copied);
      break;
    case conversion::json:
      line.push('"');
      done = append_json_text(line, scratch, value);
      break;
    case conversion::wkt:
      line.push('"');
      done = append_wkt(line, value);
      break;
  }
  line.push('"');
  return done;
}

void record_encoder::impl::append_metadata(text_buffer& line, const record_context& context) {
  if (plan->data_needs_comma || plan->updated_at || plan->deleted_at || plan->cursor) line.push(',');
  line.append("\"_planetscale_metadata\":{\"vgtid_position\":\"");
  append_escaped(line, context.position);
  line.append("\",\"extracted_at\":");
  append_int(line, context.extracted_at_ns);
  line.append(",\"sequence_number\":");
  append_int(line, context.sequence);
  line.push('}');
}

void record_encoder::impl::append_changes(text_buffer& line) {
  line.append(",\"meta\":{\"changes\":[");
  bool first = true;
  for (const auto& entry : changes) {
    line.append(first ? "{\"field\":" : ",{\"field\":");
    first = false;
    line.append(plan->columns[entry.column].quoted_name);
    line.append(entry.nulled ? ",\"change\":\"NULLED\"" : ",\"change\":\"TRUNCATED\"");
    line.append(",\"reason\":\"SOURCE_SERIALIZATION_ERROR\"}");
  }
  line.append("]}");
}

result<void> record_encoder::impl::malformed(const char* what) const {
  failure f{error_code::response_malformed, "A row of table " + plan->id.to_string() + " " + what + ".", {}, plan->id};
  return fail(std::move(f));
}

result<void> record_encoder::impl::without_image() const {
  return fail(failure{error_code::internal,
                      "A row of table " + plan->id.to_string() + " was to be delivered that has no image to deliver.",
                      {},
                      plan->id});
}

/// Fills in a plan; returns a warning about what is not known of the column, or an empty text.
std::string record_encoder::compiled::add_column(column_plan& plan, const wire_column& field,
                                                 const stream_shape& shape, const field_event& fields,
                                                 const encoder_options& options) {
  const column_definition* const known = shape.table.find(field.name);
  column_type type;
  std::string type_text = field.column_type;
  if (type_text.empty() && known != nullptr) type_text = known->column_type;
  type = type_text.empty() ? column_type_of_number(field.type, field.charset) : parse_column_type(type_text);
  const type_mapping line = map_type(type, options.types);
  plan.how = line.how;
  const auto declared = shape.declared.find(field.name);
  if (declared != shape.declared.end() && contradicts(declared->second, line))
    warnings.push_back("The catalog declares column " + field.name + " of " + id.to_string() + " as " +
                       declared->second.to_string() + ", but its type is " + to_string(type.kind) +
                       ". Its values are delivered in that type's form. Refresh the schema of the connection.");

  const std::string place = "Column " + field.name + " of " + id.to_string();
  if (type.kind == type_kind::unknown) {
    return place + " has a type that this version does not know (" +
           (type_text.empty() ? "number " + std::to_string(field.type) : type_text) +
           "). Its values are delivered as base64.";
  }
  const bool label = plan.how == conversion::enumeration || plan.how == conversion::set;
  if (plan.how != conversion::text && !label) return {};

  // Discovery asked one shard when the read began; this is what the tablet knows now. Without the flag nothing tells whether it
  // can be believed: Vitess 19 and older name the connection's character set for every column (vitess#15338) and never set it,
  // later ones set it in every copy, but in the binlog only for tables with ENUM or SET columns.
  std::string charset = known == nullptr ? std::string() : known->character_set;
  const std::string_view told = charset_of_collation(field.charset);
  if (charset.empty() || (fields.enum_set_string_values && !told.empty() && told != "binary")) charset = told;
  plan.decoder = text_decoder::for_charset(charset);
  character_sets[static_cast<std::size_t>(&plan - columns.data())] = charset;
  shareable = shareable && plan.decoder.shareable();
  if (label) {
    plan.labels_arrive_as_text = fields.enum_set_string_values;
    plan.labels = std::move(type.members);
    for (const auto& member : plan.labels) {
      const std::string quoted = quoted_json(member);
      plan.escaped_labels.push_back(quoted.substr(1, quoted.size() - 2));
      plan.label_index.emplace(member, plan.escaped_labels.size() - 1);
    }
  }
  if (!plan.decoder.known()) {
    return place + " is in the character set " + charset +
           ", which cannot be decoded here. Its letters outside ASCII are replaced by U+FFFD.";
  }
  if (charset.empty()) {
    return place + " has a character set that neither discovery nor Vitess names (collation " +
           std::to_string(field.charset) + "). It is read as UTF-8.";
  }
  return {};
}

record_encoder::record_encoder(std::unique_ptr<impl> state) : impl_(std::move(state)) {}
record_encoder::record_encoder(record_encoder&&) noexcept = default;
record_encoder& record_encoder::operator=(record_encoder&&) noexcept = default;
record_encoder::~record_encoder() = default;

result<record_encoder> record_encoder::compile(const stream_shape& shape, const field_event& fields,
                                               const encoder_options& options) {
  const auto refuse = [&](error_code code, std::string message) {
    return fail(failure{code, std::move(message), {}, shape.id});
  };
  const std::string where = "table " + shape.id.to_string();
  if (fields.columns.empty() || fields.columns.size() > most_columns)
    return refuse(error_code::response_malformed, "The server describes " + where + " with " +
                                                      std::to_string(fields.columns.size()) +
                                                      " columns; MySQL allows 1 to 4096.");

  auto state = std::make_shared<compiled>();
  state->id = shape.id;
  const bool everything = shape.selected.empty();
  const std::unordered_set<std::string> selected(shape.selected.begin(), shape.selected.end());
  const auto wants = [&](const std::string& name) { return everything || selected.count(name) != 0; };
  state->updated_at = selected.count(cdc_updated_at) != 0;
  state->deleted_at = selected.count(cdc_deleted_at) != 0;
  state->cursor = selected.count(cdc_cursor) != 0;
  state->metadata = options.include_metadata && selected.count(planetscale_metadata) != 0;

  const std::unordered_set<std::string> key(shape.table.row_key().begin(), shape.table.row_key().end());
  std::unordered_set<std::string> seen;
  std::vector<std::string> unselected;
  std::vector<std::string> reserved;
  state->columns.resize(fields.columns.size());
  state->character_sets.resize(fields.columns.size());
  state->steps.resize(fields.columns.size());
  state->is_key.resize(fields.columns.size());
  for (std::size_t i = 0; i < fields.columns.size(); ++i) {
    const wire_column& field = fields.columns[i];
    column_plan& plan = state->columns[i];
    // What Vitess calls a column whose name it cannot tell. A table may have one of such a name.
    if (field.name == "@" + std::to_string(i + 1) && shape.table.find(field.name) == nullptr)
      return refuse(
          error_code::schema_incompatible,
          "The shape of " + where +
              " has changed since the saved position, and Vitess can no longer tell which value of the old "
              "changes belongs to which column.");
    if (!seen.insert(field.name).second)
      return refuse(error_code::response_malformed,
                    "The server names a column of " + where + " twice: " + field.name + ".");
    plan.key = key.empty() ? (field.flags & key_flag) != 0 : key.count(field.name) != 0;
    state->is_key[i] = plan.key;
    state->has_key = state->has_key || plan.key;
    if (is_reserved_column(field.name, options.include_metadata)) {
      reserved.push_back(field.name);
      continue;
    }
    if (!wants(field.name)) {
      unselected.push_back(field.name);
      continue;
    }
    std::string warning = state->add_column(plan, field, shape, fields, options);
    if (!warning.empty()) state->warnings.push_back(std::move(warning));
    plan.quoted_name = quoted_json(field.name);
    plan.prefix = (state->data_needs_comma ? "," : "") + plan.quoted_name + ":";
    state->add_step(i);
    state->data_needs_comma = true;
  }

  std::vector<std::string> lost;
  for (const auto& name : shape.selected)
    if (seen.count(name) == 0 && !is_reserved_column(name, true)) lost.push_back(name);
  if (!state->data_needs_comma && !state->updated_at && !state->deleted_at && !state->cursor &&
      !state->metadata)
    return refuse(error_code::catalog_invalid, "None of the columns that the catalog selects exists in " + where +
                                                   " any more (" + list(lost) +
                                                   "). Refresh the schema of the connection.");
  if (!unselected.empty())
    state->warnings.push_back("The catalog does not select every column of " + shape.id.to_string() +
                              ". Not delivered: " + list(unselected) + ".");
  if (!lost.empty())
    state->warnings.push_back("The catalog has columns that " + where + " no longer has: " + list(lost) +
                              ". Refresh the schema of the connection.");
  if (!reserved.empty())
    state->warnings.push_back(
        "Columns of " + where +
        " have names that this source uses itself and are not delivered: " + list(reserved) + ".");

  state->head = "{\"type\":\"RECORD\",\"record\":{\"stream\":" + quoted_json(shape.id.table.str()) +
                ",\"namespace\":" + quoted_json(shape.id.keyspace.str()) + ",\"data\":{";
  state->add_rooms();
  return record_encoder(std::make_unique<impl>(std::move(state)));
}

record_encoder record_encoder::another() const { return record_encoder(std::make_unique<impl>(impl_->plan)); }
bool record_encoder::shareable() const { return impl_->plan->shareable; }

const std::string& record_encoder::character_set(std::size_t column) const { return impl_->plan->character_sets[column]; }

void record_encoder::compiled::add_step(std::size_t column) {
  const column_plan& plan = columns[column];
  column_step& step = steps[column];
  step.delivered = true;
  step.name_size = static_cast<std::uint32_t>(plan.prefix.size());
  if (plan.prefix.size() <= short_prefix)
    std::memcpy(step.short_name, plan.prefix.data(), plan.prefix.size());
  else
    step.long_name = plan.prefix.data();  // columns is not resized any more.
  if (plan.how == conversion::integer) step.how = shortcut::integer;
  if (plan.how == conversion::text && plan.decoder.is_utf8()) step.how = shortcut::utf8;
}

void record_encoder::compiled::add_rooms() {
  // Names and texts are copied in blocks, which may reach so far beyond their ends.
  std::uint32_t room = static_cast<std::uint32_t>(short_prefix + plain_slack);
  for (std::size_t i = steps.size(); i-- > 0;) {
    constexpr std::uint32_t null_or_quotes = 4;
    if (steps[i].delivered) room += steps[i].name_size + null_or_quotes;
    steps[i].room = room;
  }
}

/// The value of `column`, whose name the line ends with, in whatever form it needs.
void record_encoder::impl::append_with_care(text_buffer& line, std::size_t column, std::string_view value,
                                            bool copied) {
  const column_plan& how = plan->columns[column];
  const std::size_t before = line.size();
  const outcome done = append_value(line, how, value, copied);
  if (done == outcome::exact) return;
  bool nulled = false;
  if (done == outcome::impossible) {
    line.truncate(before);
    const std::string_view stand_in = how.key ? epoch(how.how) : std::string_view();
    nulled = stand_in.empty();
    line.append(nulled ? std::string_view("null") : stand_in);
  }
  changes.push_back({column, nulled});
}

/// Inlined: it is most of what a copied row costs, and append_record() alone calls it.
[[gnu::always_inline]] inline result<void> record_encoder::impl::write_record(text_buffer& line, const row_view& row,
                                                                              const record_context& context) {
  changes.clear();
  const std::vector<column_step>& steps = plan->steps;
  value_reader values(row);
  char* to = line.reserve(plan->room() + row.values.size());
  std::memcpy(to, plan->head.data(), plan->head.size());
  to += plan->head.size();
  // Kept in registers: what is written through `to` could be anything for the compiler.
  const column_step* const first = steps.data();
  const column_step* const end = first + steps.size();
  for (const column_step* step = first; step != end; ++step) {
    if (!values.next()) return malformed("has fewer values than the table has columns, or broken ones");
    if (!step->delivered) continue;
    if (step->long_name == nullptr)
      std::memcpy(to, step->short_name, short_prefix);
    else
      std::memcpy(to, step->long_name, step->name_size);
    to += step->name_size;
    if (values.is_null()) {
      std::memcpy(to, "null", 4);
      to += 4;
      continue;
    }
    const std::string_view value = values.value();
    if (step->how == shortcut::integer) {
      if (char* const behind = write_integer(to, value); behind != nullptr) {
        to = behind;
        continue;
      }
    } else if (step->how == shortcut::utf8) {
      const std::size_t copied = copy_plain(to + 1, reinterpret_cast<const unsigned char*>(value.data()), value.size());
      if (copied == value.size()) {
        *to = '"';
        to[copied + 1] = '"';
        to += copied + 2;
        continue;
      }
    }
    line.finish(to);
    append_with_care(line, static_cast<std::size_t>(step - first), value, context.copied);
    to = line.reserve(step->room + values.left());
  }
  line.finish(to);
  if (values.next() || !values.ok())
    return malformed("has more values than the table has columns, or broken ones");

  if (!tail_holds(context) || (plan->cursor && context.cdc_cursor != tail_says.cdc_cursor)) refresh_tail(context);
  if (!plan->metadata && changes.empty()) {
    line.append(tail);
    return {};
  }
  const std::string_view text = tail;
  line.append(text.substr(0, tail_behind));
  if (plan->metadata) append_metadata(line, context);
  line.append(text.substr(tail_behind, text.size() - tail_behind - line_end.size()));
  if (!changes.empty()) append_changes(line);
  line.append(line_end);
  return {};
}

result<void> record_encoder::append_record(text_buffer& out, const row_view& row,
                                           const record_context& context) {
  impl& self = *impl_;
  if (!row.present || (context.deleted && !self.plan->deleted_at)) return self.without_image();
  const std::size_t before = out.size();
  auto done = self.write_record(out, row, context);
  if (!done) out.truncate(before);
  if (self.scratch.capacity() > largest_kept_buffer) self.scratch.release();
  return done;
}

std::size_t record_encoder::room() const { return impl_->plan->room(); }
bool record_encoder::delivers_deletes() const { return impl_->plan->deleted_at; }

bool record_encoder::same_key(const row_view& before, const row_view& after) const {
  if (!impl_->plan->has_key || !before.present || !after.present) return true;
  value_reader old_values(before);
  value_reader new_values(after);
  for (const bool key : impl_->plan->is_key) {
    if (!old_values.next() || !new_values.next()) return true;
    if (key && !old_values.is_null() && !new_values.is_null() && old_values.value() != new_values.value())
      return false;
  }
  return true;
}

std::size_t record_encoder::column_count() const { return impl_->plan->columns.size(); }
const std::vector<std::string>& record_encoder::warnings() const { return impl_->plan->warnings; }

}  // namespace psource
