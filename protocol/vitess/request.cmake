# psource_vstream_request: builds the bytes of a VStream request.
add_library(psource_vstream_request STATIC ${CMAKE_CURRENT_LIST_DIR}/request.cpp)
target_link_libraries(psource_vstream_request PUBLIC psource_protocol PRIVATE psource_proto)
