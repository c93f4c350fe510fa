// The command line of local-branch.
#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "local_branch/row_images.hpp"
#include "local_branch/stream.hpp"

namespace psource::local_branch {

struct program_options {
  /// Name and number of shards.
  std::vector<std::pair<std::string, std::size_t>> keyspaces;
  std::size_t tables = 1;
  std::int64_t rows = 1000;
  double write_rate = 0;
  std::uint64_t write_total = 0;
  /// Row changes that each SIGUSR2 writes; 0 = it is not listened to.
  std::uint64_t write_burst = 0;
  /// Row changes of each transaction; 0 = 1 to 20, as it comes.
  std::size_t transaction_rows = 0;
  /// See stream_options.
  std::size_t packet_size = stream_options().packet_size;
  std::uint64_t seed = 1;
  std::string listen = "127.0.0.1";
  std::uint16_t grpc_port = 0;
  std::uint16_t mysql_port = 0;
  std::string username, password;
  std::string tls_cert_file, tls_key_file;
  /// Authorities of the client certificates that both ports then demand.
  std::string tls_client_ca_file;
  /// The MySQL port's TLS ends at version 1.1.
  bool tls_old = false;
  /// A line on standard output for each login that arrives.
  bool tell_logins = false;
  std::vector<std::string> recordings;
  std::string truth_file;
  std::string faults_file;
  /// Numbers of topodata.TabletType.
  std::set<int> tablet_types{1, 2, 3};
  bool internal_tables = false;
  bool all_types = false;
  /// Also a table without a primary key.
  bool keyless = false;
  /// all_types keeps to numbers that every destination can hold.
  bool portable_types = false;
  /// Shapes of shapes.hpp.
  std::vector<std::string> shapes;
  row_image_options images;
  /// See stream_options.
  bool schema_versions = true;
};

/// What the arguments ask for: options, or a text for the user.
struct parsed_arguments {
  program_options options;
  /// --help was given: print this and exit 0.
  std::string help;
  /// One sentence per problem, all of them; print these and exit 2.
  std::vector<std::string> problems;
};

parsed_arguments parse_arguments(int argc, const char* const* argv);

}  // namespace psource::local_branch
