// Rows and responses for the micro-benchmarks.
#include "bench/rows.hpp"

#include <chrono>
#include <stdexcept>

#include "local_branch/branch.hpp"
#include "local_branch/load.hpp"
#include "local_branch/stream.hpp"
#include "protocol/vitess/request.hpp"

namespace psource::bench {
namespace {

void append_zigzag(std::string& to, std::int64_t number) {
  auto value = (static_cast<std::uint64_t>(number) << 1) ^ static_cast<std::uint64_t>(number >> 63);
  for (; value >= 0x80; value >>= 7) to.push_back(static_cast<char>(value | 0x80));
  to.push_back(static_cast<char>(value));
}

void select_cdc(stream_shape& shape) {
  for (const char* name : {cdc_updated_at, cdc_deleted_at, cdc_cursor}) shape.selected.emplace_back(name);
}

}  // namespace

shaped_row::shaped_row(const std::vector<shaped_value>& values, bool cdc) {
  stream_shape shape;
  shape.id = {keyspace_name(generated_keyspace), table_name("shape")};
  fields_.table = shape.id.table;
  fields_.enum_set_string_values = true;
  for (std::size_t i = 0; i < values.size(); ++i) {
    const auto& [type, value, character_set] = values[i];
    const std::string name = (i == 0 ? "id" : "column_" + std::to_string(i));
    wire_column field;
    field.name = name;
    field.column_type = type;
    fields_.columns.push_back(field);
    column_definition column;
    column.name = name;
    column.column_type = type;
    column.character_set = character_set;
    shape.table.columns.push_back(column);
    shape.selected.push_back(name);
    append_zigzag(lengths_, value ? static_cast<std::int64_t>(value->size()) : -1);
    if (value) values_ += *value;
  }
  shape.table.primary_key = {"id"};
  if (cdc) select_cdc(shape);
  shape_ = std::make_shared<const stream_shape>(std::move(shape));
}

record_encoder shaped_row::encoder() const {
  auto compiled = record_encoder::compile(*shape_, fields_, {});
  if (!compiled) throw std::runtime_error(compiled.error().message);
  return std::move(*compiled);
}

shaped_row sysbench_row(bool cdc) {
  return shaped_row(
      {{"bigint", "1234567"},
       {"int", "501885"},
       {"char(120)",
        "68487932199-96439406143-93774651418-41631865787-96406072701-20604855487-25459966574-28203206787-"
        "41238978918-19503783441",
        "utf8mb4"},
       {"char(60)", "22195207048-70116052123-74140395089-76317954521-98694025897", "utf8mb4"}},
      cdc);
}

std::vector<std::string> generated_responses(std::size_t rows, std::size_t transaction_rows) {
  using namespace local_branch;
  branch source(1);
  keyspace* made = source.add(generated_keyspace, 1);
  const bool copy = transaction_rows == 0;
  made->add_sbtest_tables(1, static_cast<std::int64_t>(copy ? rows : 100'000));
  stream_request wanted;
  wanted.keyspace = keyspace_name(generated_keyspace);
  wanted.tables.emplace_back(generated_table);
  shard_start start{shard_name(generated_shard), {}, {}};
  if (copy) {
    start.tables.push_back({table_name(generated_table), {}});
  } else {
    start.gtid = made->shards().front()->position(1);
    transaction_source writes(source, 1, transaction_rows);
    constexpr std::int64_t time_ns = 1'767'225'600'000'000'000;
    for (std::size_t written = 0; written < rows;) written += writes.write(time_ns, rows - written);
  }
  wanted.shards.push_back(std::move(start));
  auto bytes = serialize(wanted);
  vtgate::VStreamRequest request;
  if (!bytes || !request.ParseFromString(*bytes)) throw std::runtime_error("the request cannot be made");

  vstream_session session(source, request, {}, vstream_session::clock::now());
  std::vector<std::string> responses;
  byte_buffer buffer;
  while (session.produce(buffer, vstream_session::clock::now()) == vstream_session::step::response)
    responses.emplace_back(buffer.data(), buffer.size());
  if (responses.empty()) throw std::runtime_error("local-branch sent nothing");
  return responses;
}

std::shared_ptr<const stream_shape> generated_shape(bool cdc) {
  stream_shape shape;
  shape.id = {keyspace_name(generated_keyspace), table_name(generated_table)};
  for (const auto& [name, type, set] :
       {std::tuple("id", "bigint", ""), std::tuple("k", "int", ""), std::tuple("c", "char(120)", "utf8mb4"),
        std::tuple("pad", "char(60)", "utf8mb4")}) {
    column_definition column;
    column.name = name;
    column.column_type = type;
    column.character_set = set;
    shape.table.columns.push_back(column);
    shape.selected.emplace_back(name);
  }
  shape.table.id = shape.id;
  shape.table.primary_key = shape.table.copy_order = {"id"};
  if (cdc) select_cdc(shape);
  return std::make_shared<const stream_shape>(std::move(shape));
}

}  // namespace psource::bench
