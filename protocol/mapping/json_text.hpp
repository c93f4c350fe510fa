// JSON columns: the same text in both phases, whoever serialized it.
#pragma once

#include <string_view>

#include "protocol/mapping/text_buffer.hpp"

namespace psource {

/// Appends the JSON text as a JSON string's characters (escaped, without the outer quotes), rewritten to one
/// form: no white space outside strings; strings escape only what must be; numbers as written (but ".5" gets
/// its 0, and "007" loses its zeros); keys in their order, repeated ones kept. Also understood: the \a, \v,
/// \x.. and \U........ of Go, which Vitess has written for control characters. An empty value is MySQL's way
/// to store null and becomes `null`. A text that is no JSON, or is nested deeper than 512 levels (MySQL
/// allows 100), passes as it is: outcome::repaired. So do bytes that are not UTF-8, as U+FFFD. `scratch` is
/// working memory; its content is lost.
outcome append_json_text(text_buffer& out, text_buffer& scratch, std::string_view text);

}  // namespace psource
