# Every warning, sanitizer and hardening flag of the project, behind one INTERFACE target: psource_options.
set(PSOURCE_SANITIZER "" CACHE STRING "address (with UBSan), thread, or nothing")
set_property(CACHE PSOURCE_SANITIZER PROPERTY STRINGS "" address thread)
option(PSOURCE_FUZZ "Build the libFuzzer targets (clang)" OFF)
set(static_grpc ON)
if(PSOURCE_SANITIZER OR PSOURCE_FUZZ OR CMAKE_BUILD_TYPE STREQUAL "Debug")
  # ThreadSanitizer tells code that was built without it by its library.
  set(static_grpc OFF)
endif()
option(PSOURCE_STATIC_GRPC "Link gRPC and Abseil statically, where their archives are there" ${static_grpc})
option(PSOURCE_WERROR "Treat warnings as errors" ON)

add_library(psource_options INTERFACE)
target_compile_features(psource_options INTERFACE cxx_std_17)
target_compile_options(psource_options INTERFACE -Wall -Wextra -Wpedantic)
if(PSOURCE_WERROR)
  target_compile_options(psource_options INTERFACE -Werror)
endif()
target_include_directories(psource_options INTERFACE ${PROJECT_SOURCE_DIR})
if(PSOURCE_SANITIZER STREQUAL "address")
  # CAF binds a null reference in its spawn machinery, which is none of our doing: -fno-sanitize=null.
  # Every finding ends the program.
  add_compile_options(-fsanitize=address,undefined -fno-sanitize=null -fno-sanitize-recover=all
                      -fsanitize-ignorelist=${PROJECT_SOURCE_DIR}/fuzz/sanitizer_ignore.txt -fno-omit-frame-pointer
                      -D_GLIBCXX_ASSERTIONS)
  add_link_options(-fsanitize=address,undefined)
elseif(PSOURCE_SANITIZER STREQUAL "thread")
  # The list's option by its older name: ccache 4.7 does not know the new one, and would miss changes of the list.
  add_compile_options(-fsanitize=thread -fno-omit-frame-pointer
                      -fsanitize-blacklist=${PROJECT_SOURCE_DIR}/cmake/thread_sanitizer_ignore.txt)
  add_link_options(-fsanitize=thread)
elseif(PSOURCE_FUZZ)
  # Every finding ends the program; asserts of ours, of RapidJSON and of the standard library count as findings.
  add_compile_options(-fsanitize=fuzzer-no-link,address,undefined -fno-sanitize=null -fno-sanitize-recover=all
                      -fsanitize-ignorelist=${PROJECT_SOURCE_DIR}/fuzz/sanitizer_ignore.txt -fno-omit-frame-pointer
                      -O1 -UNDEBUG -D_GLIBCXX_ASSERTIONS)
  add_link_options(-fsanitize=address,undefined)
elseif(NOT CMAKE_BUILD_TYPE STREQUAL "Debug")
  add_compile_options(-D_FORTIFY_SOURCE=2 -fstack-protector-strong)
  add_link_options(-Wl,-z,relro,-z,now)
endif()
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
# Without this CMake leaves it to the compiler's defaults whether a program is linked as position-independent.
include(CheckPIESupported)
check_pie_supported(LANGUAGES C CXX)

# psource_add_test(NAME SOURCES... [LIBS...]): one doctest program and its ctest entry.
function(psource_add_test name)
  cmake_parse_arguments(arg "" "" "SOURCES;LIBS" ${ARGN})
  add_executable(${name} ${arg_SOURCES} ${PROJECT_SOURCE_DIR}/tests/doctest_main.cpp)
  target_link_libraries(${name} PRIVATE psource_options ${arg_LIBS})
  target_compile_definitions(${name} PRIVATE PSOURCE_TEST_DATA="${PROJECT_SOURCE_DIR}/tests/data")
  add_test(NAME ${name} COMMAND ${name})
endfunction()

# psource_test_runs_grpc(NAME): ThreadSanitizer leaves out what gRPC's libraries, which are built without it, do to memory
# by way of the C library.
function(psource_test_runs_grpc name)
  if(PSOURCE_SANITIZER STREQUAL "thread")
    set_tests_properties(${name} PROPERTIES ENVIRONMENT "TSAN_OPTIONS=ignore_noninstrumented_modules=1")
  endif()
endfunction()
