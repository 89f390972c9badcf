// Runs a fuzz target once over each file of the directories in its arguments. It takes the place of libFuzzer's main
// function in the ordinary builds, so that no corpus and no target is forgotten.

#include <algorithm>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <vector>

#include "fuzz.hpp"

namespace {

std::vector<std::filesystem::path> files_of(const char* directory) {
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator{directory}) files.push_back(entry.path());
  if (files.empty()) throw std::runtime_error{std::string{directory} + " is empty"};
  std::sort(files.begin(), files.end());
  return files;
}

std::string content_of(const std::filesystem::path& path) {
  std::ifstream file{path, std::ios::binary};
  if (!file) throw std::runtime_error{path.string() + " cannot be read"};
  return {std::istreambuf_iterator<char>{file}, {}};
}

}  // namespace

int main(int count, char** arguments) {
  try {
    std::size_t inputs = 0;
    for (int i = 1; i < count; ++i) {
      for (const auto& path : files_of(arguments[i])) {
        // The last line names the input if the target ends the process.
        std::printf("%s\n", path.c_str());
        std::fflush(stdout);
        const auto content = content_of(path);
        LLVMFuzzerTestOneInput(reinterpret_cast<const std::uint8_t*>(content.data()), content.size());
        ++inputs;
      }
    }
    if (inputs == 0) throw std::runtime_error{"no directory is given"};
    std::printf("%zu inputs\n", inputs);
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
