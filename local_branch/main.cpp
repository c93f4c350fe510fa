// local-branch: a sharded branch on this machine, for trying the connector, for tests and for load tests.
#include <pthread.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <fstream>
#include <functional>
#include <iostream>
#include <memory>
#include <mutex>
#include <sstream>
#include <thread>

#include "local_branch/all_types.hpp"
#include "local_branch/branch.hpp"
#include "local_branch/faults.hpp"
#include "local_branch/load.hpp"
#include "local_branch/mysql_server.hpp"
#include "local_branch/options.hpp"
#include "local_branch/replay.hpp"
#include "local_branch/shapes.hpp"
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
    if (options.keyless) made->add_keyless_table(options.rows);
    if (options.all_types)
      made->add_table(all_types_table(std::max<std::int64_t>(options.rows, 20),
                                      options.portable_types ? type_range::portable : type_range::full));
    for (const auto& shape : options.shapes)
      if (auto shaped = shaped_table(shape, options.rows)) made->add_table(std::move(*shaped));
    if (options.internal_tables) made->add_internal_tables();
  }
  for (const auto& file : options.recordings)
    if (auto added = add_recording(target, file); !added) return added;
  return {};
}

/// Both ports. They can be closed for a while and come back where they were.
class ports {
 public:
  /// `told` hears of logins, with the port that they came to; from many threads.
  ports(const branch& served, const program_options& options, fault_injector* faults,
        std::function<void(const char* port)> told)
      : served_(served),
        options_(options),
        faults_(faults),
        told_(std::move(told)),
        answers_(served, options.tablet_types) {}

  result<void> open() {
    vstream_server_options grpc;
    grpc.listen = options_.listen;
    grpc.port = grpc_port_ != 0 ? grpc_port_ : options_.grpc_port;
    grpc.username = options_.username;
    grpc.password = options_.password;
    grpc.tls_cert_file = options_.tls_cert_file;
    grpc.tls_key_file = options_.tls_key_file;
    grpc.tls_client_ca_file = options_.tls_client_ca_file;
    if (options_.tell_logins) grpc.login_seen = [this] { told_("grpc"); };
    grpc.streams.tablet_types = options_.tablet_types;
    grpc.streams.packet_size = options_.packet_size;
    grpc.streams.images = options_.images;
    grpc.streams.schema_versions = options_.schema_versions;
    grpc.faults = faults_;
    auto streams = vstream_server::start(served_, std::move(grpc));
    if (!streams) return tl::unexpected(std::move(streams.error()));

    mysql_server_options mysql;
    mysql.listen = options_.listen;
    mysql.port = mysql_port_ != 0 ? mysql_port_ : options_.mysql_port;
    mysql.username = options_.username;
    mysql.password = options_.password;
    mysql.tls_cert_file = options_.tls_cert_file;
    mysql.tls_key_file = options_.tls_key_file;
    mysql.tls_client_ca_file = options_.tls_client_ca_file;
    mysql.tls_old = options_.tls_old;
    if (options_.tell_logins) mysql.login_seen = [this] { told_("mysql"); };
    auto questions = mysql_server::start(
        std::move(mysql),
        [this](const std::string& target, const std::string& sql) { return answers_.answer(target, sql); });
    if (!questions) return tl::unexpected(std::move(questions.error()));
    streams_ = std::move(*streams);
    questions_ = std::move(*questions);
    grpc_port_ = streams_->port();
    mysql_port_ = questions_->port();
    return {};
  }
  void close() {
    if (streams_) streams_->stop();
    if (questions_) questions_->stop();
    streams_.reset();
    questions_.reset();
  }
  std::uint16_t grpc_port() const { return grpc_port_; }
  std::uint16_t mysql_port() const { return mysql_port_; }

 private:
  const branch& served_;
  const program_options& options_;
  fault_injector* const faults_;
  const std::function<void(const char* port)> told_;
  const sql_answers answers_;
  std::unique_ptr<vstream_server> streams_;
  std::unique_ptr<mysql_server> questions_;
  std::uint16_t grpc_port_ = 0;
  std::uint16_t mysql_port_ = 0;
};

result<std::vector<fault>> read_faults(const std::string& file) {
  std::ifstream in(file, std::ios::binary);
  std::ostringstream text;
  if (in) text << in.rdbuf();
  if (!in) return fail(error_code::input_unreadable, "The faults " + file + " cannot be read.");
  auto parsed = parse_faults(text.str());
  std::string problems;
  for (const auto& problem : parsed.problems) problems += "\n  " + problem;
  if (!problems.empty())
    return fail(error_code::config_invalid, "The faults " + file + " cannot be used:" + problems);
  return std::move(parsed.faults);
}

int serve(const program_options& options) {
  // The signals that end the program are taken by sigwait() alone; every thread inherits this mask.
  sigset_t waited;
  sigemptyset(&waited);
  sigaddset(&waited, SIGTERM);
  sigaddset(&waited, SIGINT);
  if (!options.faults_file.empty()) sigaddset(&waited, SIGUSR1);
  if (options.write_burst > 0) sigaddset(&waited, SIGUSR2);
  pthread_sigmask(SIG_BLOCK, &waited, nullptr);
  std::signal(SIGPIPE, SIG_IGN);

  branch served(options.seed);
  if (auto filled = fill(served, options); !filled) return complain(filled.error());

  std::mutex printing;
  ports* listening = nullptr;
  std::unique_ptr<fault_injector> faults;
  if (!options.faults_file.empty()) {
    auto read = read_faults(options.faults_file);
    if (!read) return complain(read.error());
    fault_injector::hooks hooks;
    const auto tell = [&printing](const char* word, const fault& what) {
      std::lock_guard lock(printing);
      std::cout << "{\"" << word << "\":\"" << to_string(what.kind) << "\",\"line\":" << what.line << "}"
                << std::endl;
    };
    hooks.told = [tell](const fault& what) { tell("fault", what); };
    hooks.missed = [tell](const fault& what) { tell("missed", what); };
    hooks.signalled = [tell](const fault& what) { tell("signal", what); };
    hooks.restart = [&](std::chrono::milliseconds down) {
      listening->close();
      std::this_thread::sleep_for(down);
      if (auto opened = listening->open(); !opened) complain(opened.error());
    };
    auto made = fault_injector::make(served, std::move(*read), std::move(hooks));
    if (!made) return complain(made.error());
    faults = std::move(*made);
  }

  ports both(served, options, faults.get(), [&printing](const char* port) {
    std::lock_guard lock(printing);
    std::cout << "{\"login\":\"" << port << "\"}" << std::endl;
  });
  listening = &both;
  if (auto opened = both.open(); !opened) return complain(opened.error());

  std::cout << "{\"grpc_port\":" << both.grpc_port() << ",\"mysql_port\":" << both.mysql_port() << "}"
            << std::endl;
  const auto tell_number = [&printing](const char* word, std::uint64_t number) {
    std::lock_guard lock(printing);
    std::cout << "{\"" << word << "\":" << number << "}" << std::endl;
  };
  std::unique_ptr<load_writer> load;
  if (options.write_rate > 0 || options.write_burst > 0)
    load = std::make_unique<load_writer>(served, options.seed, options.write_rate, options.write_total,
                                         options.transaction_rows,
                                         [&] { tell_number("quiet", options.write_total); });
  if (faults) faults->start();

  int signal = 0;
  for (;;) {
    sigwait(&waited, &signal);
    if (signal == SIGUSR1) {
      faults->signal();
    } else if (signal == SIGUSR2) {
      load->burst(options.write_burst);
      tell_number("written", options.write_burst);
    } else {
      break;
    }
  }
  // A second signal ends it at once.
  pthread_sigmask(SIG_UNBLOCK, &waited, nullptr);
  if (load) load->stop();
  if (faults) faults->stop();
  both.close();
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
