// Curves and metrics as TensorBoard's event files.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace dkdm::results {

// One folder a run, FOLDER/EXPERIMENT/ROW-seedS-runN (names as plain_name makes them), with one
// event file: each training curve as a scalar
// ("loss"), each metric at its step ("fid@2048 ema"). The time of a curve's point is interpolated
// between the start and end of its stage. `runs` empty = all. A file that is there already is
// replaced. Returns the files written. Throws StoreError.
std::vector<std::filesystem::path> export_tensorboard(const std::filesystem::path& file,
                                                      const std::filesystem::path& folder,
                                                      const std::vector<std::int64_t>& runs);

// CRC-32C (Castagnoli; RFC 3720, section 12.1).
std::uint32_t crc32c(std::string_view bytes);

// A record of a TFRecord file: length, masked CRC of the length, bytes, masked CRC of the bytes;
// little endian.
std::string tfrecord(std::string_view bytes);

}  // namespace dkdm::results
