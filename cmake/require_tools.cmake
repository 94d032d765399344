# What the build needs, asked for before anything else, so that a machine without it answers with
# one line that names the packages.

# A macro, because enable_language() works only at the directory's own level.
macro(mooncake_mpi_require_compiler)
  include(CheckLanguage)
  check_language(CXX)
  if(NOT CMAKE_CXX_COMPILER)
    unset(CMAKE_CXX_COMPILER CACHE) # so that the next attempt looks again
    message(FATAL_ERROR "no C++ compiler: apt-get install g++, or dnf install gcc-c++")
  endif()
  enable_language(CXX)

  set(CMAKE_CXX_STANDARD 20)
  set(CMAKE_CXX_STANDARD_REQUIRED ON)
  set(CMAKE_CXX_EXTENSIONS OFF)
  set(CMAKE_POSITION_INDEPENDENT_CODE ON)
  set(CMAKE_CXX_VISIBILITY_PRESET hidden)
  set(CMAKE_VISIBILITY_INLINES_HIDDEN ON)
  set(CMAKE_EXPORT_COMPILE_COMMANDS ON)

  include(CheckCXXSourceCompiles)
  # nanobind asks for C++17; the features below are the ones that the engine needs from C++20
  set(CMAKE_REQUIRED_FLAGS "-std=c++20")
  check_cxx_source_compiles(
    "#include <atomic>
     #include <bit>
     #include <concepts>
     #include <cstdint>
     #include <span>
     template <std::integral T> T twice(T value) { return value + value; }
     int main(int argc, char**) {
       std::atomic<std::uint32_t> word{0};
       word.wait(1);
       std::span<int> one(&argc, 1);
       return twice(one[0]) + static_cast<int>(std::bit_ceil(3u));
     }"
    MOONCAKE_MPI_HAVE_CXX20)
  unset(CMAKE_REQUIRED_FLAGS)
  if(NOT MOONCAKE_MPI_HAVE_CXX20)
    message(FATAL_ERROR
      "${CMAKE_CXX_COMPILER_ID} ${CMAKE_CXX_COMPILER_VERSION} has no C++20: install GCC >= 11 or Clang >= 14 (apt-get install g++-12, or dnf install gcc-toolset-12-gcc-c++) and set CXX to it")
  endif()

  if(NOT CMAKE_SYSTEM_NAME STREQUAL "Linux")
    message(FATAL_ERROR "mooncake_mpi runs on Linux; this is ${CMAKE_SYSTEM_NAME}")
  endif()
  set(THREADS_PREFER_PTHREAD_FLAG ON)
  find_package(Threads REQUIRED)
endmacro()

# A macro, because the targets that find_package() makes belong to the directory that calls it.
macro(mooncake_mpi_require_python)
  find_package(Python 3.10 QUIET
    COMPONENTS Interpreter Development.Module
    OPTIONAL_COMPONENTS Development.SABIModule)
  if(NOT Python_Interpreter_FOUND)
    message(FATAL_ERROR "no Python >= 3.10: apt-get install python3, or dnf install python3")
  endif()
  # The build front end may have named the folder without looking into it.
  find_file(MOONCAKE_MPI_PYTHON_H Python.h PATHS ${Python_INCLUDE_DIRS} NO_CACHE
    NO_DEFAULT_PATH)
  if(NOT Python_Development.Module_FOUND OR NOT MOONCAKE_MPI_PYTHON_H)
    message(FATAL_ERROR
      "no Python.h for ${Python_EXECUTABLE}: apt-get install python3-dev, or dnf install python3-devel")
  endif()
  execute_process(
    COMMAND "${Python_EXECUTABLE}" -m nanobind --cmake_dir
    OUTPUT_STRIP_TRAILING_WHITESPACE OUTPUT_VARIABLE nanobind_ROOT
    ERROR_QUIET RESULT_VARIABLE mooncake_mpi_no_nanobind)
  if(mooncake_mpi_no_nanobind)
    message(FATAL_ERROR "no nanobind for ${Python_EXECUTABLE}: pip install 'nanobind>=2.4'")
  endif()
  find_package(nanobind CONFIG REQUIRED)
endmacro()
