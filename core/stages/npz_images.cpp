#include "stages/npz_images.hpp"

#include <ATen/ATen.h>

#include <algorithm>

#include "dkdm/files.hpp"
#include "dkdm/io.hpp"
#include "io/array/npz_array.hpp"

namespace dkdm::stages {
namespace {

// Photographs deflate to a half, flat drawings to a twentieth. What is large and packed like zeros
// is a bomb; what is small does no harm.
constexpr std::uint64_t kBombBytes = std::uint64_t{1} << 30, kBombRatio = 200;

void refuse_bomb(const io::ZipEntry& entry, const std::string& where) {
  if (entry.deflated && entry.size > kBombBytes && entry.size / kBombRatio > entry.packed)
    throw DataError(where, std::to_string(entry.packed) + " bytes that unpack to " +
                               std::to_string(entry.size) + " are no images");
}

std::string shape_text(const std::vector<std::int64_t>& shape) {
  std::string text;
  for (const auto side : shape) text += (text.empty() ? "" : ",") + std::to_string(side);
  return "[" + text + "]";
}

}  // namespace

struct NpzImages::Reader {
  Reader(const std::filesystem::path& file, const std::string& array)
      : key(array), open(file, array, refuse_bomb) {}

  std::string key;
  io::NpzArray open;
  std::int64_t next = 0;  // image
};

NpzImages::NpzImages(const std::filesystem::path& file, const std::string& key)
    : file_(file), reader_(std::make_unique<Reader>(file, key)) {
  const at::ScalarType type = reader_->open.header.type;
  const auto& shape = reader_->open.header.shape;
  if (type != at::kByte || shape.size() != 4 || shape[1] < 1 || shape[2] < 1 ||
      (shape[3] != 1 && shape[3] != 3))
    throw DataError(file.string() + ": '" + key + "'",
                    "expected images, uint8 [N,H,W,1 or 3], found " +
                        std::string(c10::toString(type)) + " " + shape_text(shape));
  count_ = shape[0];
  spec_ = {shape[3], shape[1], shape[2]};
  // An image's bytes lie all over an array in Fortran order.
  if (reader_->open.header.fortran_order) whole_ = io::read_npz(file, key);
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
  at::Tensor images =
      at::empty({wanted.numel(), spec_.height, spec_.width, spec_.channels}, at::kByte);
  const std::uint64_t bytes = static_cast<std::uint64_t>(spec_.values());
  auto* out = images.mutable_data_ptr<std::uint8_t>();
  for (std::int64_t i = 0; i < wanted.numel(); ++i, out += bytes) {
    const std::int64_t image = wanted.const_data_ptr<std::int64_t>()[i];
    if (image < reader_->next) rewind();
    // What lies between is read over: a deflated array has no other way.
    for (; reader_->next <= image; ++reader_->next) reader_->open.stream.read(out, bytes);
    if (reader_->next == count_) reader_->open.stream.finish();
  }
  // Not contiguous(): one channel permuted passes for that, in strides by which a network takes
  // other kernels.
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
