// Implementation of internal_tables.hpp.
#include "protocol/vitess/internal_tables.hpp"

#include <algorithm>
#include <cstddef>

namespace psource {
namespace {

bool take(std::string_view& text, std::string_view prefix) {
  if (text.substr(0, prefix.size()) != prefix) return false;
  text.remove_prefix(prefix.size());
  return true;
}

bool take_last(std::string_view& text, std::string_view suffix) {
  if (text.size() < suffix.size() || text.substr(text.size() - suffix.size()) != suffix) return false;
  text.remove_suffix(suffix.size());
  return true;
}

template <class Predicate>
bool take_some(std::string_view& text, std::size_t count, Predicate accept) {
  if (text.size() < count ||
      !std::all_of(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(count), accept))
    return false;
  text.remove_prefix(count);
  return true;
}

bool is_digit(char c) { return c >= '0' && c <= '9'; }
/// [0-f], as Vitess writes it: all of ASCII from '0' to 'f'.
bool is_vitess_hex(char c) { return c >= '0' && c <= 'f'; }
bool is_letter_or_digit(char c) { return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

/// _vt_hld_6ace8bcef73211ea87e9f875a4d24e90_20200915120410_
bool is_new_internal_name(std::string_view name) {
  return take(name, "_vt_") && take_some(name, 3, is_letter_or_digit) && take(name, "_") &&
         take_some(name, 32, is_vitess_hex) && take(name, "_") && take_some(name, 14, is_digit) &&
         name == "_";
}

/// _vt_HOLD_6ace8bcef73211ea87e9f875a4d24e90_20200915120410
bool is_old_garbage_name(std::string_view name) {
  return take(name, "_vt_") &&
         (take(name, "HOLD_") || take(name, "PURGE_") || take(name, "EVAC_") || take(name, "DROP_")) &&
         take_some(name, 32, is_vitess_hex) && take(name, "_") && take_some(name, 14, is_digit) &&
         name.empty();
}

/// _4e5dcf80_354b_11eb_82cd_f875a4d24e90_20201203114014_gho
bool is_online_ddl_name(std::string_view name) {
  if (!take(name, "_")) return false;
  for (const std::size_t digits : {8, 4, 4, 4, 12})
    if (!take_some(name, digits, is_vitess_hex) || !take(name, "_")) return false;
  if (!take_some(name, 14, is_digit) || !take(name, "_")) return false;
  for (const std::string_view end : {"gho", "ghc", "del", "new", "vrepl"})
    if (name == end) return true;
  return false;
}

/// pt-osc's _t_old
bool is_swapped_out_name(std::string_view name) { return take(name, "_") && take_last(name, "_old"); }

}  // namespace

bool is_internal_table(std::string_view name) {
  return is_new_internal_name(name) || is_old_garbage_name(name) || is_online_ddl_name(name) ||
         is_swapped_out_name(name);
}

bool is_dropped_table(std::string_view name) {
  if (is_old_garbage_name(name)) return true;
  if (!is_new_internal_name(name)) return false;
  for (const std::string_view begin : {"_vt_hld_", "_vt_prg_", "_vt_evc_", "_vt_drp_"})
    if (take(name, begin)) return true;
  return false;
}

bool is_schema_change_table(std::string_view name, std::string_view table) {
  // MySQL's longest name; gh-ost cuts the table's to make its own fit.
  const bool cut = name.size() == 64;
  if (!take(name, "_")) return false;
  for (const std::string_view end : {"_gho", "_del", "_new"}) {
    std::string_view middle = name;
    if (!take_last(middle, end) || middle.empty()) continue;
    // pt-osc puts more of them in front while the name is taken.
    while (middle.size() > table.size() && middle.front() == '_') middle.remove_prefix(1);
    return middle == table || (cut && table.substr(0, middle.size()) == middle);
  }
  return false;
}

}  // namespace psource
