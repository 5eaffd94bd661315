// What the datasets share whose images are files of their own, or lie in $DKDM_DATA.
#pragma once

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "dkdm/announced.hpp"
#include "dkdm/shape.hpp"

namespace dkdm::datasets {

// `root` as it was given, or where that is empty the folder `name` in $DKDM_DATA.
inline std::filesystem::path data_folder(const std::string& root, const char* name) {
  if (!root.empty()) return root;
  const char* data = std::getenv("DKDM_DATA");
  return std::filesystem::absolute(std::filesystem::path(data ? data : "") / name);
}

// Announces those of `files` that are not there; of a folder that is not, the folder alone.
inline void announce_absence(const std::vector<std::filesystem::path>& files,
                             const std::string& remedy, Announced& announced) {
  namespace fs = std::filesystem;
  const fs::path folder = files.front().parent_path();
  if (!folder.empty() && !fs::exists(folder)) {
    announced.absent.push_back({folder, remedy});
    return;
  }
  for (const fs::path& file : files)
    if (!fs::exists(file)) announced.absent.push_back({file, remedy});
}

// "12 files (a, b, … )": the first ten of them.
inline std::string first_ten(const std::vector<std::string>& names, const std::string& what) {
  std::string text = std::to_string(names.size()) + " " + what + (names.size() == 1 ? "" : "s");
  for (std::size_t i = 0; i < names.size() && i < 10; ++i) text += (i ? ", " : " (") + names[i];
  return text + (names.size() > 10 ? ", …)" : ")");
}

// uint8 [n,C,H,W] of `spec`: for each element of index, int64 [n], what `decode` makes of it, uint8
// [C,H,W]. On as many threads as LibTorch uses. Throws what `decode` threw.
template <class Decode>
at::Tensor decoded(const at::Tensor& index, const ImageSpec& spec, const Decode& decode) {
  const at::Tensor wanted = index.to(at::kCPU, at::kLong).contiguous();
  const auto* at_index = wanted.const_data_ptr<std::int64_t>();
  const std::int64_t count = wanted.numel();
  at::Tensor images = at::empty(spec.batch(count), at::kByte);
  std::atomic<std::int64_t> next{0};
  std::exception_ptr failure;
  std::mutex failing;
  const auto work = [&] {
    try {
      for (std::int64_t i = next++; i < count; i = next++) images[i].copy_(decode(at_index[i]));
    } catch (...) {
      const std::lock_guard lock(failing);
      failure = std::current_exception();
      next = count;
    }
  };
  std::vector<std::thread> helpers;
  const std::int64_t threads = std::min<std::int64_t>(at::get_num_threads(), count);
  for (std::int64_t i = 1; i < threads; ++i) helpers.emplace_back(work);
  work();
  for (std::thread& helper : helpers) helper.join();
  if (failure) std::rethrow_exception(failure);
  return images;
}

}  // namespace dkdm::datasets
