// fuzz-replay FOLDER: every corpus below it (FOLDER/<target>/*) through its target, once. What
// libFuzzer would report ends this program: a crash, an abort, an exception that is not for people.
#include <sys/resource.h>
#include <unistd.h>
#include <csignal>

#include <algorithm>
#include <iostream>
#include <iterator>
#include <vector>

#include "fuzz_target.hpp"

namespace {

constexpr unsigned kSeconds = 60;  // for one input; a sound one takes milliseconds

std::string current;  // the input under way

// async-signal-safe: says which input it was.
void tell(int) {
  constexpr std::string_view kStart = "fuzz-replay: fails at ";
  static_cast<void>(!write(STDERR_FILENO, kStart.data(), kStart.size()));
  static_cast<void>(!write(STDERR_FILENO, current.data(), current.size()));
  static_cast<void>(!write(STDERR_FILENO, "\n", 1));
  _exit(1);
}

}  // namespace

int main(int argc, char** argv) {
  namespace fs = std::filesystem;
  if (argc != 2) {
    std::cerr << "usage: fuzz-replay FOLDER\n";
    return 2;
  }
  for (const int signal : {SIGABRT, SIGALRM, SIGSEGV, SIGBUS, SIGFPE, SIGILL})
    std::signal(signal, tell);
  for (const auto& [name, target] : dkdm::fuzz::targets()) {
    std::vector<fs::path> inputs;
    for (const auto& entry : fs::directory_iterator(fs::path(argv[1]) / name))
      inputs.push_back(entry.path());
    std::sort(inputs.begin(), inputs.end());
    if (inputs.empty()) {
      std::cerr << "fuzz-replay: no inputs for '" << name << "'\n";
      return 1;
    }
    for (const auto& input : inputs) {
      std::ifstream file(input, std::ios::binary);
      const std::string bytes{std::istreambuf_iterator<char>(file),
                              std::istreambuf_iterator<char>()};
      current = input.string();
      alarm(kSeconds);
      target(bytes);
      alarm(0);
    }
    std::cout << name << ": " << inputs.size() << " inputs\n";
  }
  return 0;
}
