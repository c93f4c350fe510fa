// Encoding of rows of all sorts. Bytes are those of the line, which is what the goals per byte are about.
#include <memory>
#include <stdexcept>
#include <utility>

#include "bench/rows.hpp"
#include "bench/workloads.hpp"
#include "local_branch/all_types.hpp"
#include "local_branch/rows.hpp"

namespace psource::bench {
namespace {

std::string repeated(const std::string& text, std::size_t size) {
  std::string out;
  while (out.size() < size) out += text;
  out.resize(size);
  return out;
}

/// Encodes the rows, all of one table, in turns.
workload encoding(std::string name, std::vector<shaped_row> rows, std::size_t times, bool binlog = false) {
  struct kept {
    std::vector<shaped_row> rows;
    record_encoder encoder;
    text_buffer lines;
  };
  record_encoder encoder = rows.front().encoder();
  const auto keep = std::make_shared<kept>(kept{std::move(rows), std::move(encoder), {}});
  const auto run = [keep, times, binlog] {
    record_context context;
    context.emitted_at_ms = 1'767'225'600'000;
    context.copied = !binlog;
    context.cdc_cursor = context.updated_at_micros = 1'767'225'600'000'000;
    keep->lines.clear();
    for (std::size_t i = 0; i < times; ++i) {
      if (binlog) ++context.cdc_cursor;  // Each change has a cursor of its own.
      if (!keep->encoder.append_record(keep->lines, keep->rows[i % keep->rows.size()].view(), context))
        throw std::runtime_error("a row cannot be encoded");
    }
    return keep->lines.size();
  };
  const std::size_t bytes = run();
  return {std::move(name), times, bytes, run};
}

workload encoding(std::string name, const shaped_row& row, std::size_t times, bool binlog = false) {
  return encoding(std::move(name), std::vector<shaped_row>{row}, times, binlog);
}

/// 200 columns of mixed types.
shaped_row wide_row() {
  const std::vector<shaped_value> some = {
      {"int", "501885"},
      {"varchar(40)", "a text of usual length", "utf8mb4"},
      {"decimal(12,2)", "12345.67"},
      {"datetime", "2026-01-01 12:34:56"},
      {"timestamp", "2026-01-01 12:34:56"},
      {"double", "3.141592653589793"},
      {"tinyint(1)", "1"},
      {"date", "2026-01-01"},
      {"varbinary(16)", std::string("\x01\x02\x03\x04\x05\x06\x07\x08", 8)},
      {"int", std::nullopt}};
  std::vector<shaped_value> all = {{"bigint", "1234567"}};
  while (all.size() < 200) all.push_back(some[all.size() % some.size()]);
  return shaped_row(all);
}

/// Rows of local-branch's table with every type; the fifth case has nothing but NULL.
shaped_row every_type(std::int64_t id) {
  const auto table = local_branch::all_types_table(10);
  local_branch::byte_buffer buffer;
  char* const at = buffer.reserve(table.rows->max_size());
  const char* const end = table.rows->write(at, id, 0, local_branch::row_text::mysql);
  const auto values = local_branch::read_row({at, static_cast<std::size_t>(end - at)});
  if (!values || values->size() != table.schema.columns.size())
    throw std::runtime_error("all_types cannot be read");
  std::vector<shaped_value> shaped;
  for (std::size_t i = 0; i < values->size(); ++i)
    shaped.push_back({table.schema.columns[i].column_type.c_str(), (*values)[i],
                      table.schema.columns[i].character_set.c_str()});
  return shaped_row(shaped);
}

}  // namespace

std::vector<workload> encoder_workloads() {
  const auto text = [](std::string value, const char* set = "utf8mb4") {
    return shaped_row({{"bigint", "1234567"}, {"text", std::move(value), set}});
  };
  std::vector<workload> all = {
      encoding("sysbench", sysbench_row(false), 2000),
      encoding("sysbench_cdc", sysbench_row(true), 2000),
      encoding("sysbench_cdc_binlog", sysbench_row(true), 2000, true),
      encoding("narrow_int", shaped_row(std::vector<shaped_value>{{"int", "1234567"}}), 2000),
      encoding("wide_200_columns", wide_row(), 200),
      encoding("all_types", {every_type(1), every_type(2), every_type(3), every_type(4)}, 500),
      encoding("all_types_null", every_type(5), 500),
      encoding("text_1_mb", text(repeated("A plain text that nobody has to escape. ", 1'000'000)), 4),
      encoding("text_to_escape", text(repeated("line \"one\"\n\tpath C:\\temp\\x; ", 1000)), 500),
      encoding("text_utf8", text(repeated("Größe und Maß: 東京都 ☃ ", 990)), 500),
      encoding("text_latin1",
               text(repeated("Gr\xF6\xDF"
                             "e und Ma\xDF im \xDC"
                             "bermut ",
                             1000),
                    "latin1"),
               500),
      encoding("blob", shaped_row({{"bigint", "1234567"}, {"blob", repeated("\x01\xFE\x80", 999)}}), 500),
      encoding(
          "json",
          shaped_row(
              {{"bigint", "1234567"},
               {"json", "{\"name\": \"value\", \"list\": [1, 2, 3.5, null, true], \"deep\": {\"a\": {}}}"}}),
          1000)};
  return all;
}

}  // namespace psource::bench
