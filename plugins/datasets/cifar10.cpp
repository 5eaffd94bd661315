// CIFAR-10 (Krizhevsky, 2009), binary version: five files of 10,000 records for training, one for
// the test; a record is one byte of label and 3 x 32 x 32 bytes, red plane first.
#include "dkdm/announced.hpp"
#include "dkdm/files.hpp"
#include "dkdm/plugin.hpp"
#include "image_files.hpp"
#include "in_memory.hpp"

namespace {

using dkdm::DataError;
using dkdm::Host;
using dkdm::Params;

constexpr std::int64_t kRecords = 10'000, kPixels = 3 * 32 * 32, kClasses = 10;
const char* const kFolder = "cifar-10-batches-bin";
const char* const kRemedy =
    "absent; unpack CIFAR-10's binary version (cifar-10-binary.tar.gz, "
    "https://www.cs.toronto.edu/~kriz) and set `root` to that folder, or $DKDM_DATA to its parent";

class Cifar10 final : public dkdm::datasets::InMemory {
 public:
  static dkdm::ParamTable params() {
    return {dkdm::text("root", "",
                       "folder of the .bin files (empty = cifar-10-batches-bin in $DKDM_DATA)"),
            dkdm::text("split", "train", "which images").one_of({"train", "test"})};
  }

  static void announce(const Params& params, dkdm::Announced& announced) {
    const auto files = files_of(params);
    dkdm::datasets::announce_absence(files, kRemedy, announced);
    announced.spec = dkdm::ImageSpec::square(3, 32);
    announced.images = kRecords * static_cast<std::int64_t>(files.size());
  }

  Cifar10(const Params& params, Host&) : files_(files_of(params)) {
    const std::int64_t count = kRecords * static_cast<std::int64_t>(files_.size());
    at::Tensor images = at::empty({count, 3, 32, 32}, at::kByte);
    at::Tensor labels = at::empty({count}, at::kLong);
    for (std::size_t i = 0; i < files_.size(); ++i) {
      const auto first = static_cast<std::int64_t>(i) * kRecords;
      read(files_[i], images.narrow(0, first, kRecords), labels.narrow(0, first, kRecords));
    }
    hold(images, labels, 3, kClasses);
  }

  std::string fingerprint() const override {
    std::string text = "cifar10 1";
    for (const auto& file : files_) text += " " + dkdm::io::sha256_file(file);
    return dkdm::io::sha256(text);
  }

 private:
  static std::vector<std::filesystem::path> files_of(const Params& params) {
    const auto root = dkdm::datasets::data_folder(params.text("root"), kFolder);
    if (params.text("split") == "test") return {root / "test_batch.bin"};
    std::vector<std::filesystem::path> files;
    for (int i = 1; i <= 5; ++i)
      files.push_back(root / ("data_batch_" + std::to_string(i) + ".bin"));
    return files;
  }

  static void read(const std::filesystem::path& file, at::Tensor images, at::Tensor labels) {
    if (!std::filesystem::exists(file)) throw DataError(file.string(), kRemedy);
    std::string bytes = dkdm::io::read_text(file);
    const std::int64_t expected = kRecords * (1 + kPixels);
    if (static_cast<std::int64_t>(bytes.size()) != expected) {
      throw DataError(file.string() + ": byte " + std::to_string(bytes.size()),
                      "the file ends here, expected " + std::to_string(expected) + " bytes");
    }
    const at::Tensor records = at::from_blob(bytes.data(), {kRecords, 1 + kPixels}, at::kByte);
    images.copy_(records.narrow(1, 1, kPixels).view_as(images));
    labels.copy_(records.select(1, 0));
    if (labels.max().item<std::int64_t>() >= kClasses) {
      const auto record = (labels >= kClasses).nonzero()[0].item<std::int64_t>();
      throw DataError(
          file.string() + ": byte " + std::to_string(record * (1 + kPixels)),
          "label " + std::to_string(labels[record].item<std::int64_t>()) + " is not 0 to 9");
    }
  }

  std::vector<std::filesystem::path> files_;
};

}  // namespace

DKDM_DATASET("cifar10", "1", "CIFAR-10's binary batches, 32 x 32 RGB, ten classes", Cifar10)
