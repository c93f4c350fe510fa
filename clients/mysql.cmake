# Questions over the MySQL port. libmysqlclient stays inside mysql_session.cpp.
if(NOT TARGET psource_tls_material)
  add_library(psource_tls_material STATIC ${CMAKE_CURRENT_LIST_DIR}/tls_material.cpp)
  target_link_libraries(psource_tls_material PUBLIC psource_protocol PRIVATE OpenSSL::Crypto)
endif()

add_library(psource_mysql STATIC
  ${CMAKE_CURRENT_LIST_DIR}/discovery.cpp
  ${CMAKE_CURRENT_LIST_DIR}/mysql_session.cpp
  ${CMAKE_CURRENT_LIST_DIR}/mysql_tls.cpp
  ${CMAKE_CURRENT_LIST_DIR}/question_worker.cpp)
target_link_libraries(psource_mysql
  PUBLIC psource_protocol psource_vitess psource_gtid
  PRIVATE psource_tls_material PkgConfig::MYSQLCLIENT OpenSSL::SSL OpenSSL::Crypto)
