// Implementation of declared_type.hpp.
#include "protocol/mapping/declared_type.hpp"

#include <algorithm>
#include <string_view>

namespace psource {

std::string declared_type::to_string() const {
  std::string out;
  for (const auto& type : types) out += (out.empty() ? "" : " or ") + type;
  std::string details;
  for (const auto* detail : {&format, &airbyte_type, &content_encoding})
    if (!detail->empty()) details += (details.empty() ? "" : ", ") + *detail;
  return details.empty() ? out : out + " (" + details + ")";
}

bool contradicts(const declared_type& declared, const type_mapping& now) {
  if (declared.types.empty()) return false;
  const auto allows = [&](std::string_view type) {
    return std::find(declared.types.begin(), declared.types.end(), type) != declared.types.end();
  };
  const std::string_view type = now.type;
  if (type == "number") {
    const bool whole = std::string_view(now.airbyte_type) == "integer";
    if (!allows("number") && !(whole && allows("integer"))) return true;
    return declared.airbyte_type == "integer" && !whole;
  }
  if (!allows(type)) return true;
  if (declared.content_encoding != now.content_encoding) return true;
  // A moment in a column of texts is a text like any other.
  if (declared.format.empty()) return false;
  return declared.format != now.format || (!declared.airbyte_type.empty() && declared.airbyte_type != now.airbyte_type);
}

}  // namespace psource
