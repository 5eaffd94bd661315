// Drives the real program in a home of its own.
#pragma once

#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

namespace e2e {

namespace fs = std::filesystem;

struct Output {
  int exit_code = -1;  // 128 + signal when killed
  std::string out, err;
};

inline std::string read_file(const fs::path& file) {
  std::ifstream stream(file, std::ios::binary);
  std::ostringstream text;
  text << stream.rdbuf();
  return text.str();
}

// A variable of the environment for every program that is started meanwhile.
class With {
 public:
  With(const char* name, const std::string& value) : name_(name) {
    ::setenv(name, value.c_str(), 1);
  }
  ~With() { ::unsetenv(name_); }
  With(const With&) = delete;
  With& operator=(const With&) = delete;

 private:
  const char* name_;
};

// A temporary DKDM_HOME, removed at the end of the test.
class Program {
 public:
  Program() {
    std::string pattern = (fs::temp_directory_path() / "dkdm-e2e-XXXXXX").string();
    home_ = ::mkdtemp(pattern.data());
  }
  ~Program() {
    std::error_code ignored;
    fs::remove_all(home_, ignored);
  }
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;

  const fs::path& home() const { return home_; }

  fs::path write(const std::string& name, const std::string& text) const {
    std::ofstream(home_ / name) << text;
    return home_ / name;
  }

  // Starts `dkdm args…` with DKDM_HOME `store` ("" = the home); stdout and stderr go to files of
  // the home.
  pid_t start(const std::vector<std::string>& args, const fs::path& store = {}) const {
    std::vector<std::string> words{DKDM_BUILD_DIR "/dkdm"};
    words.insert(words.end(), args.begin(), args.end());
    const pid_t child = ::fork();
    if (child == 0) {
      ::setenv("DKDM_HOME", (store.empty() ? home_ : store).c_str(), 1);
      ::setenv("OMP_NUM_THREADS", "2", 1);
      ::setenv("GOMP_SPINCOUNT", "20000", 0);  // as the program would by starting again
      std::freopen((home_ / "stdout").c_str(), "w", stdout);
      std::freopen((home_ / "stderr").c_str(), "w", stderr);
      std::vector<char*> argv;
      for (auto& word : words) argv.push_back(word.data());
      argv.push_back(nullptr);
      ::execv(argv[0], argv.data());
      ::_exit(127);
    }
    return child;
  }

  Output wait(pid_t child) const {
    int status = 0;
    ::waitpid(child, &status, 0);
    const int code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    return {code, read_file(home_ / "stdout"), read_file(home_ / "stderr")};
  }

  Output run(const std::vector<std::string>& args, const fs::path& store = {}) const {
    return wait(start(args, store));
  }

  // Starts, waits until `ready` holds, sends `signal`, waits for the end.
  template <class Ready>
  Output run_until(const std::vector<std::string>& args, const Ready& ready, int signal) const {
    const pid_t child = start(args);
    for (int i = 0; i < 6000 && !ready(); ++i)
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    ::kill(child, signal);
    return wait(child);
  }

 private:
  fs::path home_;
};

}  // namespace e2e
