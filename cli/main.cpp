// source-planetscale: the command line of the connector.

#include <fcntl.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cxxopts.hpp>
#include <exception>
#include <string>

#include "cli/command.hpp"
#include "cli/signals.hpp"
#include "clients/process_settings.hpp"
#include "clients/stdout_writer.hpp"

namespace {

using psource::cli::command_options;

constexpr const char* usage = R"(source-planetscale: an Airbyte source for PlanetScale and Vitess

Usage:
  source-planetscale spec
  source-planetscale check    --config FILE
  source-planetscale discover --config FILE
  source-planetscale read     --config FILE --catalog FILE [--state FILE]

Commands:
  spec      prints the configuration's JSON schema
              source-planetscale spec
  check     tries the MySQL port and a VStream with the configuration
              source-planetscale check --config config.json
  discover  lists the tables as Airbyte streams
              source-planetscale discover --config config.json
  read      delivers records and states until every table is up to date
              source-planetscale read --config config.json --catalog catalog.json --state state.json

Options:
  --config FILE     configuration as JSON (see `spec`)
  --catalog FILE    configured catalog as JSON
  --state FILE      state of an earlier read, in any form Airbyte hands back
  --progress WHEN   auto (a live line on a terminal, LOG messages elsewhere), always, never
  --log-level LEVEL fatal, error, warn, info (default), debug, trace
  --version         prints the version
  --help            prints this text

Exit codes: 0 done (check: the answer was given), 1 failed (a TRACE message says why), 2 wrong command line.
)";

int wrong_usage(const std::string& what) {
  std::fprintf(stderr, "source-planetscale: %s\nTry: source-planetscale --help\n", what.c_str());
  return psource::cli::exit_usage;
}

bool parse_level(const std::string& text, psource::log_level& level) {
  const std::pair<const char*, psource::log_level> levels[] = {
      {"fatal", psource::log_level::fatal}, {"error", psource::log_level::error}, {"warn", psource::log_level::warn},
      {"info", psource::log_level::info},   {"debug", psource::log_level::debug}, {"trace", psource::log_level::trace}};
  for (const auto& [name, value] : levels)
    if (text == name) {
      level = value;
      return true;
    }
  return false;
}

int print(const char* text) {
  if (std::fputs(text, stdout) >= 0 && std::fflush(stdout) == 0) return psource::cli::exit_done;
  psource::cli::tell_unwritten(psource::output_failure(errno));
  return psource::cli::exit_failed;
}

int run(int argc, char** argv) {
  cxxopts::Options definition("source-planetscale");
  definition.add_options()("command", "", cxxopts::value<std::string>())("config", "", cxxopts::value<std::string>())(
      "catalog", "", cxxopts::value<std::string>())("state", "", cxxopts::value<std::string>())(
      "progress", "", cxxopts::value<std::string>()->default_value("auto"))(
      "log-level", "", cxxopts::value<std::string>()->default_value("info"))("version", "")("help", "")(
      "rest", "", cxxopts::value<std::vector<std::string>>());
  definition.parse_positional({"command", "rest"});
  const auto given = definition.parse(argc, argv);
  if (given.count("help") > 0) {
    return print(usage);
  }
  if (given.count("version") > 0) {
    return print("source-planetscale " PSOURCE_VERSION "\n");
  }
  if (given.count("command") == 0) return wrong_usage("a command is missing: spec, check, discover or read");
  if (given.count("rest") > 0)
    return wrong_usage("there is one command at a time, \"" + given["rest"].as<std::vector<std::string>>().front() +
                       "\" is too many");
  command_options options;
  const auto text = [&](const char* name) {
    return given.count(name) > 0 ? given[name].as<std::string>() : std::string();
  };
  options.config_file = text("config");
  options.catalog_file = text("catalog");
  if (given.count("state") > 0) options.state_file = text("state");
  const std::string progress = given["progress"].as<std::string>();
  if (progress == "auto")
    options.progress = psource::cli::progress_choice::automatic;
  else if (progress == "always")
    options.progress = psource::cli::progress_choice::always;
  else if (progress == "never")
    options.progress = psource::cli::progress_choice::never;
  else
    return wrong_usage("--progress is auto, always or never, not \"" + progress + "\"");
  if (!parse_level(given["log-level"].as<std::string>(), options.level))
    return wrong_usage("--log-level is fatal, error, warn, info, debug or trace, not \"" +
                       given["log-level"].as<std::string>() + "\"");
  const std::string command = given["command"].as<std::string>();
  if (command == "spec") return psource::cli::run_spec();
  if (command == "check") return psource::cli::run_check(options);
  if (command == "discover") return psource::cli::run_discover(options);
  if (command == "read") return psource::cli::run_read(options);
  return wrong_usage("unknown command \"" + command + "\"; there are spec, check, discover and read");
}

// A closed one would become the first file or connection that is opened, and get Airbyte's messages. Standard output becomes one that
// cannot be written.
void occupy_standard_files() {
  for (const int fd : {0, 1, 2})
    if (::fcntl(fd, F_GETFD) < 0 && ::open("/dev/null", fd == 1 ? O_RDONLY : O_RDWR) < 0) std::_Exit(psource::cli::exit_failed);
}

}  // namespace

int main(int argc, char** argv) {
  occupy_standard_files();
  psource::set_up_memory();
  psource::set_up_scheduling();
  // A destination that goes away is seen as EPIPE, a file that may not grow as EFBIG.
  std::signal(SIGPIPE, SIG_IGN);
  std::signal(SIGXFSZ, SIG_IGN);
  psource::cli::die_as_init();
  try {
    return run(argc, argv);
  } catch (const cxxopts::exceptions::exception& error) {
    return wrong_usage(error.what());
  } catch (const std::exception& error) {
    // Only faults of this program come here; the platform has to hear of them all the same.
    return psource::cli::report({psource::error_code::internal,
                                 std::string("The connector failed by a fault of its own: ") + error.what() + ".",
                                 {},
                                 std::nullopt},
                                {});
  }
}
