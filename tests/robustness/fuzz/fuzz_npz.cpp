// Arrays, images, labels and reference statistics of an npz. Form 0 is the archive itself; form 1
// is one npy in a sound archive, since no mutation keeps a checksum right, and as a file of its
// own.
#include <ATen/ops/full.h>
#include <zlib.h>

#include "dkdm/io.hpp"
#include "dkdm/npy_file.hpp"
#include "dkdm/statistics_file.hpp"
#include "fuzz_target.hpp"
#include "stages/npz_images.hpp"

namespace {

using dkdm::fuzz::Input;

template <class T>
void append(std::string& out, T value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof value);
}

// A zip of one stored entry.
std::string zip_of(const std::string& name, Input bytes) {
  const auto crc = static_cast<std::uint32_t>(
      crc32(0, reinterpret_cast<const Bytef*>(bytes.data()), static_cast<uInt>(bytes.size())));
  const auto size = static_cast<std::uint32_t>(bytes.size());
  std::string common;  // from "version needed" to "extra length"
  append<std::uint16_t>(common, 20);
  common.append(8, '\0');  // flags, method, time, date
  append(common, crc);
  append(common, size);
  append(common, size);
  append(common, static_cast<std::uint16_t>(name.size()));
  append<std::uint16_t>(common, 0);
  std::string zip = "PK\x03\x04" + common + name + std::string(bytes);
  const auto directory = static_cast<std::uint32_t>(zip.size());
  zip += std::string("PK\x01\x02\x14\0", 6) + common + std::string(14, '\0') + name;
  const auto length = static_cast<std::uint32_t>(zip.size()) - directory;
  zip += std::string("PK\x05\x06\0\0\0\0\x01\0\x01\0", 12);
  append(zip, length);
  append(zip, directory);
  append<std::uint16_t>(zip, 0);
  return zip;
}

}  // namespace

DKDM_FUZZ_TARGET(npz) {
  static const dkdm::fuzz::Folder folder;
  const bool wrapped = dkdm::fuzz::take_form(input, 2) == 1;
  const auto file =
      folder.write("input.npz", wrapped ? zip_of("arr_0.npy", input) : std::string(input));
  if (wrapped)
    dkdm::fuzz::accepted([&] {
      static_cast<void>(dkdm::io::read_npy(folder.write("input.npy", std::string(input))));
    });
  dkdm::fuzz::accepted([&] {
    for (const std::string& key : dkdm::io::npz_keys(file)) {
      dkdm::fuzz::accepted([&] {
        // Every byte that it promises is there.
        const at::Tensor array = dkdm::io::read_npz(file, key).contiguous();
        const auto* bytes = static_cast<const volatile char*>(array.data_ptr());
        for (std::size_t i = 0; i < array.nbytes(); i += 512) static_cast<void>(bytes[i]);
        if (array.nbytes() > 0) static_cast<void>(bytes[array.nbytes() - 1]);
      });
    }
  });
  dkdm::fuzz::accepted([&] {
    if (dkdm::io::has_statistics(file)) dkdm::io::read_statistics(file, 2, 2);
  });
  dkdm::fuzz::accepted([&] {
    const dkdm::stages::NpzImages images(file);
    const auto last = images.size() - 1;
    dkdm::fuzz::require(last >= 0, "a set of no images");
    const auto image = images.images(at::full({1}, last, at::kLong));
    dkdm::fuzz::require(image.size(0) == 1 && image.size(1) == images.spec().channels,
                        "another shape");
  });
}
