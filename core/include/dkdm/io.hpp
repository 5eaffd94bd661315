// Files of tensors and images; texts and hashes are in dkdm/files.hpp. Whatever is written appears
// whole or not at all (temporary name, fsync, rename). Threads: any.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "dkdm/error.hpp"

namespace dkdm::io {

using TensorMap = std::map<std::string, at::Tensor>;

// Reader errors are DataError naming the file and, where there is one, the byte offset or key.
// Writer errors are StoreError naming the file and the system's reason ("No space left on device").

// IDX file, plain or gzip, of unsigned bytes: uint8 tensor of the file's dimensions.
DKDM_API at::Tensor read_idx(const std::filesystem::path& file);

// One array of an npz (stored or deflated; zip64), C order: u1, i4, i8, f2, f4, f8.
DKDM_API at::Tensor read_npz(const std::filesystem::path& file, const std::string& key);
// The same for sets larger than memory: stored bytes (u1) are mapped, and read when touched.
DKDM_API at::Tensor map_npz(const std::filesystem::path& file, const std::string& key);
// Array names of an npz; and with their sizes and CRC-32 as text, to identify what it holds.
DKDM_API std::vector<std::string> npz_keys(const std::filesystem::path& file);
DKDM_API std::string npz_checksums(const std::filesystem::path& file);
// Stored npz as ADM's sampler writes it (entries "<key>.npy", npy v1, C order).
DKDM_API void write_npz(const std::filesystem::path& file, const TensorMap& arrays);

// PNG, JPEG, WebP or GIF (an animation's first frame), by content -> uint8 [C,H,W]; C is 1 or 3 as
// asked (grey <-> RGB by repetition or Rec. 601).
DKDM_API at::Tensor read_image(const std::filesystem::path& file, std::int64_t channels);
// uint8 [C,H,W], C = 1 or 3.
DKDM_API void write_png(const std::filesystem::path& file, const at::Tensor& image);
// uint8 [N,C,H,W] tiled row by row, `columns` wide (0 = nearly square), each pixel drawn
// `scale` x `scale`, one background pixel between tiles: uint8 [C,H,W].
DKDM_API at::Tensor image_grid(const at::Tensor& images, std::int64_t columns, std::int64_t scale);

// safetensors. `metadata` is its __metadata__ table of texts.
DKDM_API TensorMap load_tensors(const std::filesystem::path& file,
                                std::map<std::string, std::string>* metadata = nullptr);
DKDM_API void save_tensors(const std::filesystem::path& file, const TensorMap& tensors,
                           const std::map<std::string, std::string>& metadata = {});

}  // namespace dkdm::io
