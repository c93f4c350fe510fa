// The connector's specification: one table of keys from which the JSON schema and the documentation are
// printed.
#pragma once

#include <string>
#include <vector>

namespace psource {

/// One key of the configuration as users see it.
struct config_key {
  /// "host", or with dots for nested keys: "tls.ca_certificate".
  std::string path;
  std::string title;
  std::string description;
  /// "string", "integer", "boolean", "object".
  std::string type;
  /// JSON text of the default; empty = none.
  std::string default_json;
  /// JSON texts of the allowed values; empty = any.
  std::vector<std::string> allowed;
  /// JSON text of an example; empty = none.
  std::string example;
  /// JSON numbers, both or neither.
  std::string minimum;
  std::string maximum;
  bool required = false;
  bool secret = false;
  bool multiline = false;
  /// Optional, but shown without unfolding "optional fields".
  bool always_show = false;
};

/// All keys in the order of the form; parents before their children.
const std::vector<config_key>& config_keys();

/// The value of `connectionSpecification`: a JSON schema (draft 7) in one line.
std::string connection_specification();

/// The value of `spec` of the SPEC message.
std::string connector_specification();

/// The configuration reference as a Markdown table, one row per key.
std::string config_reference_markdown();

}  // namespace psource
