# psource_gtid (GTID sets, nothing but the standard library) and psource_position (with the saved cursor, Protobuf).
include_guard(GLOBAL)
add_library(psource_gtid STATIC ${CMAKE_CURRENT_LIST_DIR}/gtid_set.cpp)
target_link_libraries(psource_gtid PUBLIC psource_protocol)
add_library(psource_position STATIC ${CMAKE_CURRENT_LIST_DIR}/cursor.cpp)
target_link_libraries(psource_position PUBLIC psource_gtid PRIVATE psource_proto)
