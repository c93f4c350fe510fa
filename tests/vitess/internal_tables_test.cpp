// Which names are Vitess's own.
#include <doctest/doctest.h>

#include <string>

#include "protocol/vitess/internal_tables.hpp"

using namespace psource;

TEST_CASE("internal tables of Vitess are known by anchored patterns") {
  for (const char* const name :
       {"_vt_hld_6ace8bcef73211ea87e9f875a4d24e90_20200915120410_",
        "_vt_prg_6ace8bcef73211ea87e9f875a4d24e90_20200915120410_",
        "_vt_evc_6ace8bcef73211ea87e9f875a4d24e90_20200915120410_",
        "_vt_drp_6ace8bcef73211ea87e9f875a4d24e90_20200915120410_",
        "_vt_vrp_6ace8bcef73211ea87e9f875a4d24e90_20200915120410_",
        "_vt_gho_6ace8bcef73211ea87e9f875a4d24e90_20200915120410_",
        "_vt_ghc_6ace8bcef73211ea87e9f875a4d24e90_20200915120410_",
        "_vt_del_6ace8bcef73211ea87e9f875a4d24e90_20200915120410_",
        "_vt_HOLD_6ace8bcef73211ea87e9f875a4d24e90_20200915120410",
        "_vt_PURGE_6ace8bcef73211ea87e9f875a4d24e90_20200915120410",
        "_vt_EVAC_6ace8bcef73211ea87e9f875a4d24e90_20200915120410",
        "_vt_DROP_6ace8bcef73211ea87e9f875a4d24e90_20200915120410",
        "_4e5dcf80_354b_11eb_82cd_f875a4d24e90_20201203114014_gho",
        "_4e5dcf80_354b_11eb_82cd_f875a4d24e90_20201203114014_ghc",
        "_4e5dcf80_354b_11eb_82cd_f875a4d24e90_20201203114014_del",
        "_4e5dcf80_354b_11eb_82cd_f875a4d24e90_20201203114014_new",
        "_4e5dcf80_354b_11eb_82cd_f875a4d24e90_20201203114014_vrepl", "_orders_old", "__old"}) {
    CAPTURE(name);
    CHECK(is_internal_table(name));
  }
  for (const char* const name :
       {"",
        "_",
        "_vt",
        "_vt_",
        "my_vt_table",
        "_vt_hold",
        "_vt_HOLD",
        "x_vrepl",
        "orders_old",
        "_old",
        "_orders_older",
        "_vt_hld_6ace8bcef73211ea87e9f875a4d24e90_20200915120410",    // no last underscore
        "_vt_hld_6ace8bcef73211ea87e9f875a4d24e90_2020091512041_",    // 13 digits
        "_vt_hldd_6ace8bcef73211ea87e9f875a4d24e90_20200915120410_",  // a hint of four
        "x_vt_hld_6ace8bcef73211ea87e9f875a4d24e90_20200915120410_",  // not at the front
        "_vt_hld_6ace8bcef73211ea87e9f875a4d24e90_20200915120410_x",  // not at the end
        "_vt_hld_6ace8bcef73211ea87e9f875a4d24e9g_20200915120410_",   // g is no digit
        "_vt_HOLD_6ace8bcef73211ea87e9f875a4d24e90_20200915120410_more",
        "_vt_KEEP_6ace8bcef73211ea87e9f875a4d24e90_20200915120410",
        "_4e5dcf80_354b_11eb_82cd_f875a4d24e90_20201203114014_vreplx",
        "a_4e5dcf80_354b_11eb_82cd_f875a4d24e90_20201203114014_gho",
        "_4e5dcf80_354b_11eb_82cd_20201203114014_gho",
        "t_12345678_1234_1234_x"}) {
    CAPTURE(name);
    CHECK_FALSE(is_internal_table(name));
  }
}

TEST_CASE("of Vitess's internal tables some were dropped") {
  for (const char* const name :
       {"_vt_hld_6ace8bcef73211ea87e9f875a4d24e90_20200915120410_", "_vt_prg_6ace8bcef73211ea87e9f875a4d24e90_20200915120410_",
        "_vt_evc_6ace8bcef73211ea87e9f875a4d24e90_20200915120410_", "_vt_drp_6ace8bcef73211ea87e9f875a4d24e90_20200915120410_",
        "_vt_HOLD_6ace8bcef73211ea87e9f875a4d24e90_20200915120410", "_vt_PURGE_6ace8bcef73211ea87e9f875a4d24e90_20200915120410",
        "_vt_EVAC_6ace8bcef73211ea87e9f875a4d24e90_20200915120410", "_vt_DROP_6ace8bcef73211ea87e9f875a4d24e90_20200915120410"})
    CHECK_MESSAGE(is_dropped_table(name), name);
  for (const char* const name :
       {"", "_vt_hld_", "_vt_vrp_6ace8bcef73211ea87e9f875a4d24e90_20200915120410_",
        "_vt_del_6ace8bcef73211ea87e9f875a4d24e90_20200915120410_", "_vt_hld_6ace8bcef73211ea87e9f875a4d24e90_20200915120410",
        "_4e5dcf80_354b_11eb_82cd_f875a4d24e90_20201203114014_vrepl", "_t_old"})
    CHECK_FALSE_MESSAGE(is_dropped_table(name), name);
}

TEST_CASE("tools for schema changes name their tables after the one that they change") {
  for (const char* const name : {"_t_gho", "_t_del", "_t_new", "__t_new", "_____t_new"})
    CHECK_MESSAGE(is_schema_change_table(name, "t"), name);
  CHECK(is_schema_change_table("__t_gho", "_t"));
  for (const char* const name : {"", "_", "_gho", "__gho", "t_gho", "_t_ghost", "_u_gho", "_tt_gho", "_t", "_t_ghc", "t"})
    CHECK_FALSE_MESSAGE(is_schema_change_table(name, "t"), name);
  CHECK_FALSE(is_schema_change_table("_t_gho", "_t"));
  CHECK_FALSE(is_schema_change_table("_t_gho", ""));
  // A name has 64 letters at most.
  const std::string longest(64, 'x');
  CHECK(is_schema_change_table("_" + longest.substr(0, 59) + "_gho", longest));
  CHECK_FALSE(is_schema_change_table("_" + longest.substr(0, 58) + "_gho", longest));
  CHECK_FALSE(is_schema_change_table("_" + longest.substr(0, 59) + "_gho", "y" + longest.substr(1)));
}
