// Images of an npz without holding them: ADM's sample sets are larger than memory.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include "dkdm/dataset.hpp"
#include "dkdm/npz_labels.hpp"

namespace dkdm::stages {

// uint8 [N,H,W,C], C = 1 or 3, as the array `key`. Images are read in ascending order at the speed
// of the file; going back starts at its beginning again. Of one reader at a time. What is damaged
// shows when it is reached, the checksum after the last image. An array in Fortran order is held
// whole. Throws DataError: no such array, another type or shape, an archive that unpacks to far
// more than images could.
class DKDM_API NpzImages final : public Dataset {
 public:
  explicit NpzImages(const std::filesystem::path& file, const std::string& key = "arr_0");
  ~NpzImages() override;

  ImageSpec spec() const override { return spec_; }
  std::int64_t size() const override { return count_; }
  at::Tensor images(const at::Tensor& index) const override;  // ascending index
  // Read when first asked for: most evaluators need none, and an array beside the images may be
  // anything.
  std::int64_t num_classes() const override { return labelled().classes; }
  at::Tensor labels(const at::Tensor& index) const override;
  std::string fingerprint() const override;

 private:
  struct Reader;
  void rewind() const;
  const io::Labels& labelled() const;

  std::filesystem::path file_;
  ImageSpec spec_;
  std::int64_t count_ = 0;
  mutable std::unique_ptr<Reader> reader_;
  at::Tensor whole_;  // the array, where it is in Fortran order
  mutable std::string fingerprint_;
  mutable std::optional<io::Labels> labels_;
};

}  // namespace dkdm::stages
