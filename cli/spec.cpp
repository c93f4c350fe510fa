// The spec command: prints the connector's specification. Starts nothing.
#include "cli/command.hpp"

namespace psource::cli {

int run_spec() { return write_lines(spec_line()) ? exit_done : exit_failed; }

}  // namespace psource::cli
