// Which names are Vitess's own.
#include <doctest/doctest.h>

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
