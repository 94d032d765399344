// A library that uses C++ streams, as other extensions do: what it reads must not depend on who else
// is in the process.
#include <fstream>
#include <sstream>
#include <string>

extern "C" double sum_of_numbers(const char* text) {
  std::istringstream stream(text);
  double sum = 0;
  for (double number; stream >> number;)
    sum += number;
  return sum;
}

extern "C" int lines_of(const char* path) {
  std::ifstream file(path);
  int count = 0;
  for (std::string line; std::getline(file, line);)
    ++count;
  return count;
}
