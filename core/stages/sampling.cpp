#include "stages/sampling.hpp"

#include <malloc.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>

#include "config/settings.hpp"
#include "device/precision.hpp"
#include "diffusion/sampler_kind.hpp"
#include "dkdm/device.hpp"
#include "dkdm/files.hpp"
#include "dkdm/image.hpp"
#include "dkdm/io.hpp"
#include "dkdm/memory.hpp"
#include "dkdm/store_error.hpp"
#include "io/array/npz_array.hpp"
#include "io/checkpoint/work_file.hpp"
#include "model/flops.hpp"
#include "record/artifact_store.hpp"
#include "stages/determinants.hpp"

namespace dkdm::stages {
namespace {

namespace fs = std::filesystem;

class SampleSet final : public Dataset {
 public:
  SampleSet(at::Tensor images, std::string fingerprint)
      : images_(std::move(images)), fingerprint_(std::move(fingerprint)) {}

  ImageSpec spec() const override { return {images_.size(1), images_.size(2), images_.size(3)}; }
  std::int64_t size() const override { return images_.size(0); }
  at::Tensor images(const at::Tensor& index) const override {
    return images_.index_select(0, index);
  }
  std::string fingerprint() const override { return fingerprint_; }

 private:
  const at::Tensor images_;
  const std::string fingerprint_;
};

// What was drawn of a set so far, in parts of any sizes on disk: each says of which set it is,
// which images it holds, and how many. Image i depends on the seed and i alone, so any of them
// serve whatever the batch is now.
class DrawnParts {
 public:
  DrawnParts(Host& host, const fs::path& folder, const SamplingSpec& spec, const SampleShape& shape)
      : folder_(folder), set_(describe(spec)), count_(spec.count), shape_(shape) {
    for (const auto& file : files()) {
      try {
        const auto [first, images] = read(file);
        parts_[first] = {file, images.size(0)};
      } catch (const Error& error) {
        host.log("sample", io::set_aside(file, error.what()) + "; its images are drawn again");
      }
    }
  }

  // The first image from `first` on that is not there; the set's count where all are.
  std::int64_t next_missing(std::int64_t first) const {
    for (const auto& [begin, part] : parts_)
      if (begin <= first) first = std::max(first, begin + part.count);
    return first;
  }

  // Images to draw from `first` on, `most` at the most, until there are some again.
  std::int64_t missing_from(std::int64_t first, std::int64_t most) const {
    const auto next = parts_.upper_bound(first);
    return next == parts_.end() ? most : std::min(most, next->first - first);
  }

  void add(std::int64_t first, const at::Tensor& images) {
    const auto file = folder_ / ("part-" + std::to_string(first) + ".safetensors");
    io::save_work(file, {{"images", images}},
                  {{"set", set_},
                   {"first", std::to_string(first)},
                   {"count", std::to_string(images.size(0))}});
    parts_[first] = {file, images.size(0)};
    // glibc keeps freed batches that lie between small blocks which stay: 1.3 MB a part, 5 GB of a
    // large set.
    ::malloc_trim(0);
  }

  // Images first … last - 1, all of which are there: uint8 [n,C,H,W], some at a time.
  void each(std::int64_t first, std::int64_t last,
            const std::function<void(const at::Tensor&)>& take) const {
    for (const auto& [begin, part] : parts_) {
      if (first >= last || begin + part.count <= first) continue;
      const auto images = read(part.file).second;
      const auto end = std::min(begin + part.count, last);
      take(images.slice(0, first - begin, end - begin));
      first = end;
    }
  }

 private:
  struct Part {
    fs::path file;
    std::int64_t count = 0;
  };

  std::pair<std::int64_t, at::Tensor> read(const fs::path& file) const {
    const auto work = io::load_work(file);
    const auto first = work.integer("first"), count = work.integer("count");
    if (work.fact("set") != set_ || first < 0 || count < 1 || first + count > count_)
      throw DataError(file.string(), "holds no part of this set");
    return {first, work.tensor("images", at::kByte, shape_.batch(count))};
  }

  std::vector<fs::path> files() const {
    std::vector<fs::path> found;
    for (const auto& entry : fs::directory_iterator(folder_)) {
      const auto name = entry.path().filename().string();
      if (name.starts_with("part-") && entry.path().extension() == ".safetensors")
        found.push_back(entry.path());
    }
    return found;
  }

  const fs::path folder_;
  const std::string set_;
  const std::int64_t count_;
  const SampleShape shape_;
  std::map<std::int64_t, Part> parts_;  // by their first image
};

// `count` images are held at once, beside a batch of which several copies are alive.
void require_room(const SamplingSpec& spec, const SampleShape& shape, std::int64_t count) {
  const double values = static_cast<double>(shape.values());
  constexpr double kBatchTensors = 6;
  const auto batch = std::min(spec.batch, spec.count);
  require_memory(values * (static_cast<double>(count) +
                           static_cast<double>(batch) * sizeof(float) * kBatchTensors),
                 std::to_string(spec.count) + " images of " + text_of(shape) + ", " +
                     std::to_string(batch) + " at a time,",
                 "draw fewer, or in smaller batches");
}

// A set is on disk twice when it is put together. Nothing is asked of a set that was begun before.
void require_disk(const SamplingSpec& spec, const SampleShape& shape, const fs::path& folder) {
  constexpr double kMB = 1e6;
  const double bytes = 2 * static_cast<double>(shape.values()) * static_cast<double>(spec.count);
  std::error_code unknown;
  const auto free = fs::space(folder, unknown).available;
  if (unknown || bytes <= static_cast<double>(free) ||
      fs::directory_iterator(folder) != fs::directory_iterator())
    return;
  throw StoreError(folder.string() + ": " + std::to_string(spec.count) + " images of " +
                   text_of(shape) + " need " + std::to_string(std::llround(bytes / kMB)) +
                   " MB of disk while they are drawn, " +
                   std::to_string(std::llround(static_cast<double>(free) / kMB)) +
                   " are free; make room, or draw fewer");
}

}  // namespace

void write_grid(const fs::path& folder, const at::Tensor& images) {
  io::write_png(folder / kGridFile,
                io::image_grid(images.slice(0, 0, kGridImages), /*columns=*/0, /*scale=*/3));
}

std::shared_ptr<Dataset> sample_set(at::Tensor images, std::string fingerprint) {
  return std::make_shared<SampleSet>(std::move(images), std::move(fingerprint));
}

std::shared_ptr<Dataset> open_samples(const fs::path& folder) {
  record::check_contents(folder, {kSamplesFile});
  // An artifact's key, the name of its folder, is what its images are.
  return sample_set(io::map_npz(folder / kSamplesFile, "arr_0").permute({0, 3, 1, 2}),
                    folder.filename().string());
}

SamplingSpec sampling_spec(const Params& section, std::int64_t count, std::uint64_t seed) {
  SamplingSpec spec;
  spec.sampler = config::sampler_settings().read(section);
  spec.respacing = section.text("respacing");
  spec.count = count;
  spec.batch = section.integer("batch");
  spec.seed = seed;
  spec.precision = section.text("precision");
  return spec;
}

GaussianDiffusion sampling_process(DiffusionConfig config, const SamplingSpec& spec) {
  const bool respaced = diffusion::sampler_kind(spec.sampler.sampler).uses_respacing;
  config.respacing = respaced ? spec.respacing : "";
  return GaussianDiffusion(config);
}

at::Tensor draw_batch(Host& host, const TrainedModel& model, const GaussianDiffusion& process,
                      const SamplingSpec& spec, std::int64_t first) {
  const auto count = std::min(spec.batch, spec.count - first);
  const auto progress = [&](std::int64_t steps) {
    host.progress("images", first + count * steps / sampling_steps(process, spec.sampler),
                  spec.count);
  };
  const device::PrecisionScope scope(device::precision_named(spec.precision),
                                     device_of(*model.network));
  return to_uint8(sample(*model.network, process, spec.sampler, model.shape, spec.seed, first,
                         count, progress))
      .contiguous()
      .to(at::kCPU);
}

std::int64_t sampling_evaluations(const DiffusionConfig& diffusion, const SamplingSpec& spec) {
  return spec.count * sampling_steps(sampling_process(diffusion, spec), spec.sampler);
}

double sampling_flops(const TrainedModel& model, const SamplingSpec& spec) {
  return double(sampling_evaluations(model.diffusion, spec)) *
         double(model::forward_flops(*model.network, model.shape));
}

at::Tensor sample_images(Host& host, const TrainedModel& model, const SamplingSpec& spec) {
  require_room(spec, model.shape, spec.count);
  const auto process = sampling_process(model.diffusion, spec);
  std::vector<at::Tensor> batches;
  for (std::int64_t first = 0; first < spec.count; first += spec.batch)
    batches.push_back(draw_batch(host, model, process, spec, first));
  return at::cat(batches);
}

void draw_samples(Host& host, const TrainedModel& model, const SamplingSpec& spec,
                  const fs::path& folder, record::Manifest& manifest) {
  const auto grid = std::min(kGridImages, spec.count);
  require_room(spec, model.shape, grid);
  const auto process = sampling_process(model.diffusion, spec);
  require_disk(spec, model.shape, folder);
  DrawnParts parts(host, folder, spec, model.shape);
  for (auto first = parts.next_missing(0); first < spec.count; first = parts.next_missing(first)) {
    SamplingSpec piece = spec;
    piece.batch = parts.missing_from(first, spec.batch);
    parts.add(first, draw_batch(host, model, process, piece, first));
  }
  // The whole is never in memory: from the parts' files straight into the archive.
  std::vector<at::Tensor> first_images;
  parts.each(0, grid, [&](const at::Tensor& images) { first_images.push_back(images); });
  write_grid(folder, at::cat(first_images));
  const auto [channels, height, width] = model.shape.sizes();
  io::write_npz_rows(folder / kSamplesFile, "arr_0", {spec.count, height, width, channels},
                     [&](const auto& take) {
                       parts.each(0, spec.count, [&](const at::Tensor& images) {
                         take(images.permute({0, 2, 3, 1}).contiguous());
                       });
                     });
  manifest.outputs = {kSamplesFile, kGridFile};
  manifest.steps = spec.count;
  manifest.flops = sampling_flops(model, spec);
}

}  // namespace dkdm::stages
