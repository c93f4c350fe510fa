// Reading of the command line; every problem is told at once.
#include "local_branch/options.hpp"

#include <algorithm>
#include <charconv>
#include <cxxopts.hpp>
#include <limits>

#include "local_branch/shapes.hpp"

namespace psource::local_branch {
namespace {

constexpr const char* example = R"(
Example: two shards, 100,000 rows, 200 row changes per second while it runs

  local-branch --keyspace commerce:2 --rows 100000 --write-rate 200 --truth truth.jsonl

When ready it prints one line, {"grpc_port":15991,"mysql_port":15306}, and serves until SIGTERM or SIGINT.
)";

template <class Number>
bool to_number(const std::string& text, Number& value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size();
}

class reader {
 public:
  reader(const cxxopts::ParseResult& given, std::vector<std::string>& problems)
      : given_(given), problems_(problems) {}

  template <class Number>
  void number(const char* flag, Number& value, Number least, Number most) {
    if (given_.count(flag) == 0) return;
    const auto text = last(flag);
    Number read{};
    if (!to_number(text, read) || read < least || read > most)
      problems_.push_back("--" + std::string(flag) + " " + text + ": expected a number from " + shown(least) +
                          " to " + shown(most) + ".");
    else
      value = read;
  }
  void text(const char* flag, std::string& value) {
    if (given_.count(flag) > 0) value = last(flag);
  }
  std::vector<std::string> list(const char* flag) const {
    return given_.count(flag) > 0 ? given_[flag].as<std::vector<std::string>>() : std::vector<std::string>();
  }

 private:
  std::string last(const char* flag) const { return given_[flag].as<std::vector<std::string>>().back(); }
  template <class Number>
  static std::string shown(Number value) {
    return std::to_string(static_cast<long long>(value));
  }

  const cxxopts::ParseResult& given_;
  std::vector<std::string>& problems_;
};

bool good_name(const std::string& name) {
  return !name.empty() && name.size() <= 64 && std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
  });
}

void read_keyspaces(const std::vector<std::string>& given, parsed_arguments& out) {
  for (const auto& text : given) {
    const auto colon = text.rfind(':');
    const std::string name = text.substr(0, colon);
    std::size_t shards = 0;
    if (colon == std::string::npos || !to_number(text.substr(colon + 1), shards) || shards < 1 ||
        shards > 65536) {
      out.problems.push_back("--keyspace " + text +
                             ": expected NAME:SHARDS with 1 to 65536 shards, such as commerce:4.");
    } else if (!good_name(name)) {
      out.problems.push_back("--keyspace " + text + ": a name has 1 to 64 letters, digits, '_' and '-'.");
    } else if (std::any_of(out.options.keyspaces.begin(), out.options.keyspaces.end(),
                           [&](const auto& k) { return k.first == name; })) {
      out.problems.push_back("--keyspace " + text + ": the keyspace is given twice.");
    } else {
      out.options.keyspaces.emplace_back(name, shards);
    }
  }
}

void read_tablet_types(const std::string& text, parsed_arguments& out) {
  if (text.empty()) return;
  std::set<int> types;
  for (std::size_t at = 0; at <= text.size();) {
    const auto end = std::min(text.find(',', at), text.size());
    const auto word = text.substr(at, end - at);
    const int type = word == "primary" ? 1 : word == "replica" ? 2 : word == "rdonly" ? 3 : 0;
    if (type == 0) {
      out.problems.push_back("--tablet-types " + text + ": expected a list of primary, replica and rdonly.");
      return;
    }
    types.insert(type);
    at = end + 1;
  }
  out.options.tablet_types = std::move(types);
}

}  // namespace

parsed_arguments parse_arguments(int argc, const char* const* argv) {
  using texts = std::vector<std::string>;
  parsed_arguments out;
  cxxopts::Options options(
      "local-branch",
      "A sharded Vitess branch on this machine: vtgate's VStream (gRPC) and the MySQL port.\n");
  options.add_options()  //
      ("keyspace", "A keyspace with tables sbtest1…N; may be repeated", cxxopts::value<texts>(),
       "NAME:SHARDS")                                                                                       //
      ("tables", "Tables per keyspace (default 1)", cxxopts::value<texts>(), "N")                           //
      ("rows", "Rows per table over all its shards (default 1000)", cxxopts::value<texts>(), "N")           //
      ("write-rate", "Row changes per second over all shards while it runs", cxxopts::value<texts>(), "N")  //
      ("write-total", "Stay quiet after so many row changes", cxxopts::value<texts>(), "N")                 //
      ("write-burst", "Row changes that each SIGUSR2 writes at once", cxxopts::value<texts>(), "N")         //
      ("transaction-rows", "Row changes of each transaction (default 1 to 20, as it comes)",
       cxxopts::value<texts>(), "N")  //
      ("packet-size", "A response ends after so many bytes of rows (default 250000)",
       cxxopts::value<texts>(), "BYTES")                                                                   //
      ("seed", "Makes rows, changes and server ids repeatable (default 1)", cxxopts::value<texts>(), "N")  //
      ("replay", "Serve a recorded stream (.vstream, also gzipped) as a keyspace's history; may be repeated",
       cxxopts::value<texts>(), "FILE")  //
      ("truth", "At the end, write every row that then exists as JSON lines", cxxopts::value<texts>(),
       "FILE")                                                                                 //
      ("keyless", "Also a table keyless, without a primary key")                               //
      ("all-types", "Also a table all_types with a column of every MySQL type")                //
      ("portable-types", "all_types whose numbers fit into BIGINT, DOUBLE and DECIMAL(38,9)")  //
      ("shape",
       "Also a table shape_NAME with rows of another shape (narrow, wide, huge, escapes, latin1, letters, "
       "blob); may be repeated",
       cxxopts::value<texts>(), "NAME")  //
      ("row-image", "binlog_row_image of the database: full (default) or noblob", cxxopts::value<texts>(),
       "IMAGE")                                                                                 //
      ("partial-json", "binlog_row_value_options=PARTIAL_JSON: changed JSON as an expression")  //
      ("no-schema-versions",
       "Tablets without --track-schema-versions: transactions from before a DDL have the columns of now")  //
      ("faults", "What goes wrong, where and when, as JSON lines (see docs/local-branch.md)",
       cxxopts::value<texts>(),
       "FILE")                                                                                    //
      ("with-internal-tables", "Also a view, a sequence and a table put aside by an online DDL")  //
      ("tablet-types", "Which tablets exist (default primary,replica,rdonly)", cxxopts::value<texts>(),
       "LIST")                                                                                       //
      ("listen", "Address to listen on (default 127.0.0.1)", cxxopts::value<texts>(), "ADDRESS")     //
      ("grpc-port", "Port of VStream; 0 (default) = any free one", cxxopts::value<texts>(), "PORT")  //
      ("mysql-port", "Port of MySQL; 0 (default) = any free one", cxxopts::value<texts>(), "PORT")   //
      ("username", "What clients must log in with", cxxopts::value<texts>(), "NAME")                 //
      ("password", "Its password", cxxopts::value<texts>(), "PASSWORD")                              //
      ("tls-cert", "Certificate (PEM) for both ports", cxxopts::value<texts>(), "FILE")              //
      ("tls-key", "Its key (PEM)", cxxopts::value<texts>(), "FILE")                                  //
      ("tls-client-ca", "Over TLS, clients need a certificate of this authority (PEM)",
       cxxopts::value<texts>(), "FILE")                                                         //
      ("tls-old", "The MySQL port's TLS ends at version 1.1 (gRPC's cannot)")                   //
      ("tell-logins", "Print a line for each login that arrives, whether it is let in or not")  //
      ("h,help", "Print this");
  try {
    const auto given = options.parse(argc, argv);
    if (given.count("help") > 0) {
      out.help = options.help() + example;
      return out;
    }
    for (const auto& word : given.unmatched()) out.problems.push_back("\"" + word + "\" is not a flag.");
    reader read(given, out.problems);
    auto& o = out.options;
    read_keyspaces(read.list("keyspace"), out);
    constexpr auto largest = std::numeric_limits<std::int64_t>::max() / 4;
    read.number<std::size_t>("tables", o.tables, 1, 10'000);
    read.number<std::int64_t>("rows", o.rows, 0, largest);
    read.number<double>("write-rate", o.write_rate, 0, 1e7);
    read.number<std::uint64_t>("write-total", o.write_total, 1, static_cast<std::uint64_t>(largest));
    read.number<std::uint64_t>("write-burst", o.write_burst, 1, 10'000'000);
    read.number<std::size_t>("transaction-rows", o.transaction_rows, 1, 10'000'000);
    read.number<std::size_t>("packet-size", o.packet_size, 1, std::size_t{1} << 27);
    read.number<std::uint64_t>("seed", o.seed, 0, static_cast<std::uint64_t>(largest));
    read.number<std::uint16_t>("grpc-port", o.grpc_port, 0, 65535);
    read.number<std::uint16_t>("mysql-port", o.mysql_port, 0, 65535);
    read.text("listen", o.listen);
    read.text("username", o.username);
    read.text("password", o.password);
    read.text("tls-cert", o.tls_cert_file);
    read.text("tls-key", o.tls_key_file);
    read.text("tls-client-ca", o.tls_client_ca_file);
    o.tls_old = given.count("tls-old") > 0;
    o.tell_logins = given.count("tell-logins") > 0;
    read.text("truth", o.truth_file);
    read.text("faults", o.faults_file);
    std::string types;
    read.text("tablet-types", types);
    read_tablet_types(types, out);
    o.recordings = read.list("replay");
    o.internal_tables = given.count("with-internal-tables") > 0;
    o.keyless = given.count("keyless") > 0;
    o.portable_types = given.count("portable-types") > 0;
    o.all_types = o.portable_types || given.count("all-types") > 0;
    o.shapes = read.list("shape");
    for (const auto& shape : o.shapes)
      if (!shaped_table(shape, 0)) out.problems.push_back("--shape " + shape + ": there is no such shape.");
    std::string image = "full";
    read.text("row-image", image);
    if (image != "full" && image != "noblob")
      out.problems.push_back("--row-image " + image + ": expected full or noblob.");
    o.images.noblob = image == "noblob";
    o.images.partial_json = given.count("partial-json") > 0;
    o.schema_versions = given.count("no-schema-versions") == 0;
    if (given.count("keyspace") == 0 && o.recordings.empty())
      out.problems.push_back("Nothing to serve: give --keyspace NAME:SHARDS or --replay FILE.");
    if (o.write_total > 0 && o.write_rate <= 0) out.problems.push_back("--write-total needs --write-rate.");
    const bool writes = o.write_rate > 0 || o.write_burst > 0;
    if (o.transaction_rows > 0 && !writes)
      out.problems.push_back("--transaction-rows needs --write-rate or --write-burst.");
    if (writes && o.keyspaces.empty() && given.count("keyspace") == 0)
      out.problems.push_back("Writes need --keyspace: recordings are not written to.");
    if (o.tls_cert_file.empty() != o.tls_key_file.empty())
      out.problems.push_back("--tls-cert and --tls-key belong together.");
    if (o.tls_cert_file.empty() && (o.tls_old || !o.tls_client_ca_file.empty()))
      out.problems.push_back("--tls-client-ca and --tls-old need --tls-cert.");
    if (o.username.empty() && !o.password.empty()) out.problems.push_back("--password needs --username.");
  } catch (const cxxopts::exceptions::exception& fault) {
    out.problems.push_back(std::string(fault.what()) + ".");
  }
  return out;
}

}  // namespace psource::local_branch
