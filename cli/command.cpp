// Implementation of command.hpp.
#include "cli/command.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>

#include "clients/stdout_writer.hpp"

namespace psource::cli {

namespace {
constexpr std::size_t largest_input = std::size_t{256} << 20;

// For people; nobody is left to tell where it fails.
void write_to_stderr(const std::string& text) { (void)!::write(STDERR_FILENO, text.c_str(), text.size()); }
}  // namespace

result<std::string> read_input_file(const std::string& option, const std::string& path) {
  const auto unreadable = [&](const std::string& why) {
    return fail(error_code::input_unreadable, "The file \"" + path + "\" given with " + option + " cannot be read: " +
                                                  why + ".");
  };
  if (path.empty())
    return fail(error_code::input_unreadable, "The option " + option + " is missing: it names the file to read.");
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return unreadable(std::strerror(errno));
  std::string text;
  char buffer[65536];
  for (;;) {
    const ssize_t got = ::read(fd, buffer, sizeof(buffer));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) {
      const int error = errno;
      ::close(fd);
      return unreadable(std::strerror(error));
    }
    if (got == 0) break;
    text.append(buffer, static_cast<std::size_t>(got));
    if (text.size() > largest_input) {
      ::close(fd);
      return unreadable("it is larger than 256 MiB");
    }
  }
  ::close(fd);
  return text;
}

result<source_config> load_config(const command_options& options) {
  auto text = read_input_file("--config", options.config_file);
  if (!text) return fail(std::move(text.error()));
  auto config = parse_config(*text);
  if (!config) return fail(summarize(config.error()));
  return std::move(*config);
}

bool write_lines(const std::string& lines) {
  const auto file = open_output_file(STDOUT_FILENO);
  std::size_t done = 0;
  while (done < lines.size()) {
    const iovec part{const_cast<char*>(lines.data() + done), lines.size() - done};  // writev does not write to it
    const ssize_t wrote = file->writev(&part, 1);
    if (wrote == -EINTR) continue;
    if (wrote == -EAGAIN || wrote == -EWOULDBLOCK) {
      file->wait_writable();
      continue;
    }
    if (wrote <= 0) {
      const auto end = lines.substr(0, done).rfind('\n');
      file->take_back(done - (end == std::string::npos ? 0 : end + 1));
      tell_unwritten(output_failure(wrote < 0 ? static_cast<int>(-wrote) : EIO));
      return false;
    }
    done += static_cast<std::size_t>(wrote);
  }
  return true;
}

void tell_unwritten(const failure& why) {
  if (why.code != error_code::output_closed) write_to_stderr(why.message + "\n");
}

epoch_milliseconds wall_clock() {
  return std::chrono::duration_cast<epoch_milliseconds>(std::chrono::system_clock::now().time_since_epoch());
}

int report(const failure& what, const redactor& hide) {
  write_lines(trace_error_line(what, wall_clock(), hide));
  // People who redirect the messages would see nothing.
  if (isatty(STDERR_FILENO) != 0 && isatty(STDOUT_FILENO) == 0) write_to_stderr(hide(what.message) + "\n");
  return exit_failed;
}

void say(log_level level, const std::string& text, const command_options& options, const redactor& hide) {
  if (level <= options.level) write_lines(log_line(level, text, hide));
}

}  // namespace psource::cli
