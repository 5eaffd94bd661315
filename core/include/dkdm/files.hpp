// Whole text files, and hashes. What is written appears whole or not at all. Threads: any.
#pragma once

#include <filesystem>
#include <string>

#include "dkdm/error.hpp"

namespace dkdm::io {

// Throws DataError naming the file.
DKDM_API std::string read_text(const std::filesystem::path& file);
// Throws StoreError naming the file and the system's reason ("No space left on device").
DKDM_API void write_text(const std::filesystem::path& file, const std::string& text);

// Lower-case hexadecimal SHA-256 of a text; of a file's bytes.
DKDM_API std::string sha256(const std::string& text);
DKDM_API std::string sha256_file(const std::filesystem::path& file);

}  // namespace dkdm::io
