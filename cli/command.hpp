// What the commands share: their options, reading input files, and the way to standard output before the engine runs.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "protocol/airbyte/config.hpp"
#include "protocol/airbyte/messages.hpp"
#include "protocol/failure.hpp"

namespace psource::cli {

/// --progress.
enum class progress_choice : std::uint8_t { automatic, always, never };

struct command_options {
  std::string config_file;
  std::string catalog_file;
  /// Absent = no state. So is an empty name, as planetscale/airbyte-source takes it: most likely a variable of a shell that is not set.
  std::optional<std::string> state_file;
  progress_choice progress = progress_choice::automatic;
  log_level level = log_level::info;
};

// Exit codes: 0 done (for check also: the answer was given), 1 failed (a TRACE ERROR says why), 2 wrong command line.
inline constexpr int exit_done = 0;
inline constexpr int exit_failed = 1;
inline constexpr int exit_usage = 2;

/// Each command writes its Airbyte messages to standard output and returns the exit code.
int run_spec();
int run_check(const command_options& options);
int run_discover(const command_options& options);
int run_read(const command_options& options);

/// The whole text of a file. input_unreadable with a sentence that names the option and the file; files above 256 MiB
/// are refused.
result<std::string> read_input_file(const std::string& option, const std::string& path);

/// Reads and checks --config. A file that cannot be read is input_unreadable; what is wrong inside it is config_invalid, all
/// problems in one failure.
result<source_config> load_config(const command_options& options);

/// Writes whole lines to standard output at once, before (or without) the engine's own writer. False when nobody reads
/// them or they cannot be written, which standard error is told.
bool write_lines(const std::string& lines);

/// Where standard output cannot tell it: a line on standard error. Nothing when it was only closed by its reader.
void tell_unwritten(const failure& why);

/// Milliseconds since 1970.
epoch_milliseconds wall_clock();

/// A TRACE ERROR on standard output; returns exit_failed.
int report(const failure& what, const redactor& hide);

/// A LOG message, when `level` is not below the chosen one.
void say(log_level level, const std::string& text, const command_options& options, const redactor& hide);

}  // namespace psource::cli
