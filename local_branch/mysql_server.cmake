# The MySQL port of a local branch.
if(NOT TARGET psource_local_mysql)
  add_library(psource_local_mysql STATIC ${CMAKE_CURRENT_LIST_DIR}/mysql_server.cpp)
  target_link_libraries(psource_local_mysql PUBLIC psource_protocol PRIVATE OpenSSL::SSL OpenSSL::Crypto
                        Threads::Threads)
endif()
