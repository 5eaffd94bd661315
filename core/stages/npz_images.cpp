#include "stages/npz_images.hpp"

#include <ATen/ATen.h>

#include <algorithm>

#include "dkdm/files.hpp"
#include "dkdm/io.hpp"
#include "io/array/npy.hpp"
#include "io/zip_reader.hpp"

namespace dkdm::stages {
namespace {

// Photographs deflate to a half, flat drawings to a twentieth. What is large and packed like zeros
// is a bomb; what is small does no harm.
constexpr std::uint64_t kBombBytes = std::uint64_t{1} << 30, kBombRatio = 200;

const io::ZipEntry& find_entry(const io::ZipReader& zip, const std::filesystem::path& file,
                               const std::string& key) {
  std::string found;
  for (const io::ZipEntry& entry : zip.entries()) {
    if (entry.name == key + ".npy") return entry;
    found += (found.empty() ? "" : ", ") + entry.name;
  }
  throw DataError(file.string(), "has no array '" + key + "', where images would be; it holds " +
                                     (found.empty() ? "nothing" : found));
}

std::string shape_text(const std::vector<std::int64_t>& shape) {
  std::string text;
  for (const auto side : shape) text += (text.empty() ? "" : ",") + std::to_string(side);
  return "[" + text + "]";
}

}  // namespace

struct NpzImages::Reader {
  Reader(const std::filesystem::path& file, const std::string& array)
      : key(array), zip(file), entry(find_entry(zip, file, array)), stream(zip, entry) {
    if (entry.deflated && entry.size > kBombBytes && entry.size / kBombRatio > entry.packed)
      throw DataError(stream.where(), std::to_string(entry.packed) + " bytes that unpack to " +
                                          std::to_string(entry.size) + " are no images");
    header = io::read_npy_header(stream);
    const std::uint64_t bytes =
        io::array_bytes(header.shape, c10::elementSize(header.type), stream.where());
    if (bytes != stream.left())
      throw DataError(stream.where(), "its npy header promises " + std::to_string(bytes) +
                                          " bytes, " + std::to_string(stream.left()) + " follow");
  }

  std::string key;
  io::ZipReader zip;
  const io::ZipEntry& entry;
  io::ZipStream stream;
  io::NpyHeader header;
  std::int64_t next = 0;  // image
};

NpzImages::NpzImages(const std::filesystem::path& file, const std::string& key)
    : file_(file), reader_(std::make_unique<Reader>(file, key)) {
  const at::ScalarType type = reader_->header.type;
  const auto& shape = reader_->header.shape;
  if (type != at::kByte || shape.size() != 4 || shape[1] < 1 || shape[2] < 1 ||
      (shape[3] != 1 && shape[3] != 3))
    throw DataError(file.string() + ": '" + key + "'",
                    "expected images, uint8 [N,H,W,1 or 3], found " +
                        std::string(c10::toString(type)) + " " + shape_text(shape));
  count_ = shape[0];
  spec_ = {shape[3], shape[1], shape[2]};
  // An image's bytes lie all over an array in Fortran order.
  if (reader_->header.fortran_order) whole_ = io::read_npz(file, key);
}

NpzImages::~NpzImages() = default;

void NpzImages::rewind() const {
  const std::string key = reader_->key;
  reader_ = std::make_unique<Reader>(file_, key);
}

at::Tensor NpzImages::images(const at::Tensor& index) const {
  const at::Tensor wanted = index.to(at::kLong).contiguous();
  if (whole_.defined())
    return whole_.index_select(0, wanted).permute({0, 3, 1, 2}).clone(at::MemoryFormat::Contiguous);
  at::Tensor images = at::empty({wanted.numel(), spec_.height, spec_.width, spec_.channels}, at::kByte);
  const std::uint64_t bytes = static_cast<std::uint64_t>(spec_.values());
  auto* out = images.mutable_data_ptr<std::uint8_t>();
  for (std::int64_t i = 0; i < wanted.numel(); ++i, out += bytes) {
    const std::int64_t image = wanted.const_data_ptr<std::int64_t>()[i];
    if (image < reader_->next) rewind();
    // What lies between is read over: a deflated array has no other way.
    for (; reader_->next <= image; ++reader_->next) reader_->stream.read(out, bytes);
    if (reader_->next == count_) reader_->stream.finish();
  }
  // Not contiguous(): one channel permuted passes for that, in strides by which a network takes other
  // kernels.
  return images.permute({0, 3, 1, 2}).clone(at::MemoryFormat::Contiguous);
}

const io::Labels& NpzImages::labelled() const {
  if (!labels_) labels_ = io::read_npz_labels(file_, "", count_);
  return *labels_;
}

at::Tensor NpzImages::labels(const at::Tensor& index) const {
  const auto& values = labelled().values;
  return values.defined() ? values.index_select(0, index.to(at::kLong)) : at::Tensor();
}

std::string NpzImages::fingerprint() const {
  if (fingerprint_.empty()) fingerprint_ = io::sha256_file(file_);
  return fingerprint_;
}

}  // namespace dkdm::stages
