// One target: a function of a byte string, which returns, or aborts where a promise is broken.
// Errors meant for people (dkdm::Error) are right answers; anything else that escapes is a fault.
//
// The same file is built twice: with libFuzzer (DKDM_FUZZ_ENTRY), and into fuzz-replay, which runs
// the corpora with the ordinary compiler.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <string_view>

#include "dkdm/error.hpp"

namespace dkdm::fuzz {

using Input = std::string_view;
using Target = void (*)(Input);

// Targets by name, as their files register them.
inline std::map<std::string, Target>& targets() {
  static std::map<std::string, Target> all;
  return all;
}

inline void require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "fuzz: %s\n", what);
  std::abort();
}

// A folder of this process, for readers that want a path. Removed at the end.
class Folder {
 public:
  Folder() {
    const std::filesystem::path memory = "/dev/shm";
    const auto parent =
        std::filesystem::is_directory(memory) ? memory : std::filesystem::temp_directory_path();
    std::string name = (parent / "dkdm-fuzz-XXXXXX").string();
    require(mkdtemp(name.data()) != nullptr, "no scratch folder");
    path_ = name;
  }
  ~Folder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;

  const std::filesystem::path& path() const { return path_; }
  // `bytes` as the file `name` of the folder; folders on the way are made.
  std::filesystem::path write(const std::string& name, Input bytes) const {
    const auto file = path_ / name;
    std::filesystem::create_directories(file.parent_path());
    std::ofstream(file, std::ios::binary | std::ios::trunc)
        .write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    return file;
  }

 private:
  std::filesystem::path path_;
};

// Calls `f`; whether it returned, rather than refused its input.
template <class F>
bool accepted(F&& f) {
  try {
    f();
    return true;
  } catch (const dkdm::Error&) {
    return false;
  }
}

// The first byte chooses between the forms that one target reads; the rest is the input.
inline unsigned take_form(Input& input, unsigned forms) {
  if (input.empty()) return 0;
  const unsigned form = static_cast<unsigned char>(input.front()) % forms;
  input.remove_prefix(1);
  return form;
}

}  // namespace dkdm::fuzz

#ifdef DKDM_FUZZ_ENTRY
#define DKDM_FUZZ_TARGET(name)                                                         \
  static void fuzz_##name(dkdm::fuzz::Input input);                                    \
  extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data, std::size_t size) { \
    fuzz_##name({reinterpret_cast<const char*>(data), size});                          \
    return 0;                                                                          \
  }                                                                                    \
  static void fuzz_##name(dkdm::fuzz::Input input)
#else
#define DKDM_FUZZ_TARGET(name)                                   \
  static void fuzz_##name(dkdm::fuzz::Input input);              \
  [[maybe_unused]] static const bool registered_##name =         \
      dkdm::fuzz::targets().emplace(#name, &fuzz_##name).second; \
  static void fuzz_##name(dkdm::fuzz::Input input)
#endif
