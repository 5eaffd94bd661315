// Which files of a folder are images: one rule for datasets, samples and references.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "dkdm/error.hpp"

namespace dkdm::io {

struct ImageFiles {
  // Relative to the folder; sorted by name within each folder, as ADM's loader goes through them.
  std::vector<std::filesystem::path> files;
  // One line each: what was left out or looks wrong, with number and an example. For a person to
  // read.
  std::vector<std::string> remarks;
};

// The files of `root` and the folders below it (links are followed) that end in .png, .apng, .jpg,
// .jpeg, .jpe, .jfif, .webp or .gif, in upper or lower case. No samples, but remarked: what is
// hidden (".x", macOS's
// "._x", .ipynb_checkpoints) or lies in __MACOSX, @eaDir, lost+found or $RECYCLE.BIN, and files of
// another name that begin like an image. Names that differ in their ending alone are remarked too.
//
// Throws DataError, with counts and an example, where a set would be incomplete without a word:
// images of kinds that are not read (.bmp, .tiff, …), a link to nothing, a pipe, no image at all;
// and where a folder cannot be listed or contains itself by a link.
DKDM_API ImageFiles find_image_files(const std::filesystem::path& root);

}  // namespace dkdm::io
