// What people have instead of the file that a reader wants: pointers, web pages, archives, other
// formats.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "io/input_file.hpp"
#include "io/zip_reader.hpp"

namespace dkdm::io {

// What `file` is, by its content, and what helps: "a Git LFS pointer (1234567 bytes are elsewhere):
// run git lfs pull". "" = not recognised. Looks at the first few kB.
std::string recognised_kind(const ByteSource& file);

// The same for a zip archive with these entries: "an npz (arrays of numpy)", "" = not recognised.
std::string zip_kind(const std::vector<ZipEntry>& entries);

// The same for what a program keeps as a folder where a reader wants one file: "a distributed
// checkpoint of PyTorch …", "" = not recognised or no folder. By the names in it.
std::string folder_kind(const std::filesystem::path& folder);

// Whether a file is, by its name, a part of a distributed checkpoint: zips behind each other, or
// their pickled plan.
bool is_distributed_part(const std::filesystem::path& file);

// Throws DataError: that `file` is of `kind`, and not `expected` ("a checkpoint"); "" = of no kind
// that is known.
[[noreturn]] void refuse_kind(const std::filesystem::path& file, const std::string& kind,
                              const std::string& expected);

// The same, of the kind that the file is recognised as.
[[noreturn]] void refuse_foreign(const ByteSource& file, const std::string& expected);

}  // namespace dkdm::io
