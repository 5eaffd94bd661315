// Whole text files.
#include "dkdm/files.hpp"
#include "io/atomic_file.hpp"
#include "io/input_file.hpp"

namespace dkdm::io {

std::string read_text(const std::filesystem::path& file) {
  const InputFile input(file);
  return input.read(0, input.size());
}

void write_text(const std::filesystem::path& file, const std::string& text) {
  AtomicFile output(file);
  output.write(text);
  output.commit();
}

}  // namespace dkdm::io
