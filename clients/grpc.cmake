# VStream over gRPC, the TLS probe, the peek, and the writer of standard output.
if(NOT TARGET psource_vstream_request)
  include(${PROJECT_SOURCE_DIR}/protocol/vitess/request.cmake)
endif()

add_library(psource_grpc_client STATIC
  ${CMAKE_CURRENT_LIST_DIR}/grpc_channel.cpp
  ${CMAKE_CURRENT_LIST_DIR}/grpc_vstream.cpp
  ${CMAKE_CURRENT_LIST_DIR}/grpc_window.cpp
  ${CMAKE_CURRENT_LIST_DIR}/peek.cpp
  ${CMAKE_CURRENT_LIST_DIR}/tls_material.cpp
  ${CMAKE_CURRENT_LIST_DIR}/tls_probe.cpp)
target_compile_definitions(psource_grpc_client PRIVATE PSOURCE_VERSION="${PROJECT_VERSION}")
target_link_libraries(psource_grpc_client
  PUBLIC psource_protocol psource_vstream_request
  PRIVATE psource_vitess gRPC::grpc++ absl::synchronization OpenSSL::SSL OpenSSL::Crypto Threads::Threads)

add_library(psource_stdout_writer STATIC ${CMAKE_CURRENT_LIST_DIR}/stdout_writer.cpp)
target_link_libraries(psource_stdout_writer PUBLIC psource_protocol PRIVATE Threads::Threads)
