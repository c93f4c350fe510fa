// Names and classes of the error codes.
#include "protocol/failure.hpp"

namespace psource {

failure_class failure_class_of(error_code code) {
  switch (code) {
    case error_code::config_invalid:
    case error_code::input_unreadable:
    case error_code::catalog_invalid:
    case error_code::state_invalid:
    case error_code::tls_failed:
    case error_code::credentials_refused:
    case error_code::keyspace_unknown:
    case error_code::shard_unknown:
    case error_code::tablet_type_missing:
    case error_code::vstream_unavailable:
    case error_code::table_missing:
    case error_code::schema_incompatible:
    case error_code::position_lost:
    case error_code::position_foreign:
    case error_code::row_image_incomplete:
    case error_code::response_too_large:
      return failure_class::config_error;
    case error_code::host_unreachable:
    case error_code::lastpk_refused:
    case error_code::shards_changed:
    case error_code::copy_time_limit:
    case error_code::stream_stalled:
    case error_code::stream_failed:
    case error_code::stream_broken:
    case error_code::query_failed:
    case error_code::interrupted:
      return failure_class::transient_error;
    case error_code::response_malformed:
    case error_code::output_closed:
    case error_code::output_failed:
    case error_code::internal:
      return failure_class::system_error;
  }
  return failure_class::system_error;
}

const char* to_string(failure_class value) {
  switch (value) {
    case failure_class::config_error:
      return "config_error";
    case failure_class::transient_error:
      return "transient_error";
    case failure_class::system_error:
      return "system_error";
  }
  return "system_error";
}

const char* to_string(error_code code) {
  switch (code) {
#define PSOURCE_NAME(x) \
  case error_code::x:   \
    return #x
    PSOURCE_NAME(config_invalid);
    PSOURCE_NAME(input_unreadable);
    PSOURCE_NAME(catalog_invalid);
    PSOURCE_NAME(state_invalid);
    PSOURCE_NAME(host_unreachable);
    PSOURCE_NAME(tls_failed);
    PSOURCE_NAME(credentials_refused);
    PSOURCE_NAME(keyspace_unknown);
    PSOURCE_NAME(shard_unknown);
    PSOURCE_NAME(tablet_type_missing);
    PSOURCE_NAME(vstream_unavailable);
    PSOURCE_NAME(table_missing);
    PSOURCE_NAME(schema_incompatible);
    PSOURCE_NAME(position_lost);
    PSOURCE_NAME(position_foreign);
    PSOURCE_NAME(lastpk_refused);
    PSOURCE_NAME(shards_changed);
    PSOURCE_NAME(row_image_incomplete);
    PSOURCE_NAME(response_malformed);
    PSOURCE_NAME(response_too_large);
    PSOURCE_NAME(copy_time_limit);
    PSOURCE_NAME(stream_stalled);
    PSOURCE_NAME(stream_failed);
    PSOURCE_NAME(stream_broken);
    PSOURCE_NAME(query_failed);
    PSOURCE_NAME(output_closed);
    PSOURCE_NAME(output_failed);
    PSOURCE_NAME(interrupted);
    PSOURCE_NAME(internal);
#undef PSOURCE_NAME
  }
  return "internal";
}

}  // namespace psource
