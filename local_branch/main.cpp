// local-branch: a sharded branch on this machine, for trying the connector, for tests and for load tests.
#include <pthread.h>

#include <algorithm>
#include <csignal>
#include <iostream>
#include <memory>

#include "local_branch/all_types.hpp"
#include "local_branch/branch.hpp"
#include "local_branch/load.hpp"
#include "local_branch/mysql_server.hpp"
#include "local_branch/options.hpp"
#include "local_branch/replay.hpp"
#include "local_branch/sql_answers.hpp"
#include "local_branch/truth.hpp"
#include "local_branch/vstream_service.hpp"

namespace psource::local_branch {
namespace {

constexpr int exit_usage = 2;

int complain(const failure& why) {
  std::cerr << "local-branch: " << why.message << (why.detail.empty() ? "" : " " + why.detail) << "\n";
  return exit_usage;
}

result<void> fill(branch& target, const program_options& options) {
  for (const auto& [name, shards] : options.keyspaces) {
    keyspace* made = target.add(name, shards);
    made->add_sbtest_tables(options.tables, options.rows);
    if (options.all_types) made->add_table(all_types_table(std::max<std::int64_t>(options.rows, 20)));
    if (options.internal_tables) made->add_internal_tables();
  }
  for (const auto& file : options.recordings)
    if (auto added = add_recording(target, file); !added) return added;
  return {};
}

int serve(const program_options& options) {
  // The signals that end the program are taken by sigwait() alone; every thread inherits this mask.
  sigset_t ending;
  sigemptyset(&ending);
  sigaddset(&ending, SIGTERM);
  sigaddset(&ending, SIGINT);
  pthread_sigmask(SIG_BLOCK, &ending, nullptr);
  std::signal(SIGPIPE, SIG_IGN);

  branch served(options.seed);
  if (auto filled = fill(served, options); !filled) return complain(filled.error());

  vstream_server_options grpc;
  grpc.listen = options.listen;
  grpc.port = options.grpc_port;
  grpc.username = options.username;
  grpc.password = options.password;
  grpc.tls_cert_file = options.tls_cert_file;
  grpc.tls_key_file = options.tls_key_file;
  grpc.streams.tablet_types = options.tablet_types;
  auto streams = vstream_server::start(served, std::move(grpc));
  if (!streams) return complain(streams.error());

  const sql_answers answers(served, options.tablet_types);
  mysql_server_options mysql;
  mysql.listen = options.listen;
  mysql.port = options.mysql_port;
  mysql.username = options.username;
  mysql.password = options.password;
  mysql.tls_cert_file = options.tls_cert_file;
  mysql.tls_key_file = options.tls_key_file;
  auto questions = mysql_server::start(
      std::move(mysql),
      [&answers](const std::string& target, const std::string& sql) { return answers.answer(target, sql); });
  if (!questions) return complain(questions.error());

  std::unique_ptr<load_writer> load;
  if (options.write_rate > 0)
    load = std::make_unique<load_writer>(served, options.seed, options.write_rate, options.write_total,
                                         options.transaction_rows);

  std::cout << "{\"grpc_port\":" << (*streams)->port() << ",\"mysql_port\":" << (*questions)->port() << "}"
            << std::endl;

  int signal = 0;
  sigwait(&ending, &signal);
  // A second signal ends it at once.
  pthread_sigmask(SIG_UNBLOCK, &ending, nullptr);
  if (load) load->stop();
  (*streams)->stop();
  (*questions)->stop();
  if (!options.truth_file.empty())
    if (auto written = write_truth_file(served, options.truth_file); !written) {
      complain(written.error());
      return 1;
    }
  return 0;
}

}  // namespace
}  // namespace psource::local_branch

int main(int argc, char** argv) {
  using namespace psource::local_branch;
  const auto arguments = parse_arguments(argc, argv);
  if (!arguments.help.empty()) {
    std::cout << arguments.help;
    return 0;
  }
  if (!arguments.problems.empty()) {
    for (const auto& problem : arguments.problems) std::cerr << "local-branch: " << problem << "\n";
    std::cerr << "local-branch --help tells what it takes.\n";
    return exit_usage;
  }
  return serve(arguments.options);
}
