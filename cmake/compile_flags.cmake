# Flags of every target of this project.

if(NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "Kind of build" FORCE)
endif()
set(CMAKE_CXX_FLAGS_RELEASE "-O3 -DNDEBUG")

# Linked by the project's own targets only: nanobind's sources are not ours to warn about.
add_library(mooncake_mpi_warnings INTERFACE)
target_compile_options(mooncake_mpi_warnings INTERFACE
  -Wall -Wextra -Wpedantic -Wshadow -Wnon-virtual-dtor -Woverloaded-virtual -Wcast-align
  -Wnull-dereference -Wconversion -Wno-sign-conversion -Wimplicit-fallthrough)
if(MOONCAKE_MPI_WERROR)
  target_compile_options(mooncake_mpi_warnings INTERFACE -Werror)
endif()

if(MOONCAKE_MPI_SANITIZE)
  add_compile_options(-fsanitize=${MOONCAKE_MPI_SANITIZE} -fno-omit-frame-pointer
    -fno-sanitize-recover=all -g1)
  add_link_options(-fsanitize=${MOONCAKE_MPI_SANITIZE})
  if(MOONCAKE_MPI_SANITIZE STREQUAL "thread" AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    # GCC warns of every fence that ThreadSanitizer does not model; the races it reports count.
    add_compile_options(-Wno-tsan)
  endif()
elseif(CMAKE_BUILD_TYPE STREQUAL "Release")
  include(CheckIPOSupported)
  check_ipo_supported(RESULT MOONCAKE_MPI_HAVE_LTO OUTPUT MOONCAKE_MPI_LTO_MESSAGE LANGUAGES CXX)
  if(MOONCAKE_MPI_HAVE_LTO)
    set(CMAKE_INTERPROCEDURAL_OPTIMIZATION ON)
  endif()
endif()
