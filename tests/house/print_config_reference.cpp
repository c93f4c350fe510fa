// Prints the README's configuration table from the keys of the specification.
#include <cstdio>

#include "protocol/airbyte/spec.hpp"

int main() { return std::fputs(psource::config_reference_markdown().c_str(), stdout) < 0 ? 1 : 0; }
