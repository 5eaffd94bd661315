#include "stages/sampling.hpp"

#include <algorithm>
#include <map>

#include "config/settings.hpp"
#include "diffusion/sampler_kind.hpp"
#include "dkdm/files.hpp"
#include "dkdm/io.hpp"
#include "dkdm/memory.hpp"
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

  ImageSpec spec() const override { return {images_.size(1), images_.size(2)}; }
  std::int64_t size() const override { return images_.size(0); }
  at::Tensor images(const at::Tensor& index) const override {
    return images_.index_select(0, index);
  }
  std::string fingerprint() const override { return fingerprint_; }

 private:
  const at::Tensor images_;
  const std::string fingerprint_;
};

// What earlier attempts drew of a set, in parts of any sizes: each says of which set it is, which images
// it holds, and how many. Image i depends on the seed and i alone, so any of them serve whatever the batch
// is now.
class DrawnParts {
 public:
  DrawnParts(Host& host, const fs::path& folder, const SamplingSpec& spec, const ImageSpec& image)
      : folder_(folder), set_(describe(spec)) {
    for (const auto& file : files()) {
      try {
        const auto work = io::load_work(file);
        const auto first = work.integer("first"), count = work.integer("count");
        if (work.fact("set") != set_ || first < 0 || count < 1 || first + count > spec.count)
          throw DataError(file.string(), "holds no part of this set");
        parts_[first] =
            work.tensor("images", at::kByte, {count, image.channels, image.size, image.size});
      } catch (const Error& error) {
        host.log("sample", io::set_aside(file, error.what()) + "; its images are drawn again");
      }
    }
  }

  // The images from `first` on that are there; undefined when that one is not.
  at::Tensor from(std::int64_t first) const {
    for (const auto& [begin, images] : parts_)
      if (begin <= first && first < begin + images.size(0)) return images.slice(0, first - begin);
    return {};
  }

  // Images to draw from `first` on, `most` at the most, until there are some again.
  std::int64_t missing_from(std::int64_t first, std::int64_t most) const {
    const auto next = parts_.upper_bound(first);
    return next == parts_.end() ? most : std::min(most, next->first - first);
  }

  void add(std::int64_t first, const at::Tensor& images) const {
    io::save_work(folder_ / ("part-" + std::to_string(first) + ".safetensors"), {{"images", images}},
                  {{"set", set_},
                   {"first", std::to_string(first)},
                   {"count", std::to_string(images.size(0))}});
  }

 private:
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
  std::map<std::int64_t, at::Tensor> parts_;  // by their first image
};

// A set that is kept is put together in memory, from batches of which several copies are alive.
void require_room(const SamplingSpec& spec, const ImageSpec& image) {
  const double values = static_cast<double>(image.channels * image.size * image.size);
  constexpr double kBatchTensors = 6;
  const auto batch = std::min(spec.batch, spec.count);
  require_memory(values * (static_cast<double>(spec.count) +
                           static_cast<double>(batch) * sizeof(float) * kBatchTensors),
                 std::to_string(spec.count) + " images of " + text_of(image) + ", " +
                     std::to_string(batch) + " at a time,",
                 "draw fewer, or in smaller batches");
}

void write_samples(const fs::path& folder, const at::Tensor& images) {
  write_grid(folder, images);
  io::write_npz(folder / kSamplesFile, {{"arr_0", images.permute({0, 2, 3, 1}).contiguous()}});
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
  const auto file = folder / kSamplesFile;
  return sample_set(io::read_npz(file, "arr_0").permute({0, 3, 1, 2}).contiguous(),
                    io::sha256_file(file));
}

SamplingSpec sampling_spec(const Params& section, std::int64_t count, std::uint64_t seed) {
  SamplingSpec spec;
  spec.sampler = config::sampler_settings().read(section);
  spec.respacing = section.text("respacing");
  spec.count = count;
  spec.batch = section.integer("batch");
  spec.seed = seed;
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
  return to_uint8(sample(*model.network, process, spec.sampler, model.spec, spec.seed, first, count,
                         progress))
      .contiguous();
}

std::int64_t sampling_evaluations(const DiffusionConfig& diffusion, const SamplingSpec& spec) {
  return spec.count * sampling_steps(sampling_process(diffusion, spec), spec.sampler);
}

double sampling_flops(const TrainedModel& model, const SamplingSpec& spec) {
  return double(sampling_evaluations(model.diffusion, spec)) *
         double(model::forward_flops(*model.network, model.spec));
}

at::Tensor sample_images(Host& host, const TrainedModel& model, const SamplingSpec& spec) {
  require_room(spec, model.spec);
  const auto process = sampling_process(model.diffusion, spec);
  std::vector<at::Tensor> batches;
  for (std::int64_t first = 0; first < spec.count; first += spec.batch)
    batches.push_back(draw_batch(host, model, process, spec, first));
  return at::cat(batches);
}

void draw_samples(Host& host, const TrainedModel& model, const SamplingSpec& spec,
                  const fs::path& folder, record::Manifest& manifest) {
  require_room(spec, model.spec);
  const auto process = sampling_process(model.diffusion, spec);
  const DrawnParts parts(host, folder, spec, model.spec);
  std::vector<at::Tensor> batches;
  for (std::int64_t first = 0; first < spec.count; first += batches.back().size(0)) {
    at::Tensor images = parts.from(first);
    if (!images.defined()) {
      SamplingSpec piece = spec;
      piece.batch = parts.missing_from(first, spec.batch);
      images = draw_batch(host, model, process, piece, first);
      parts.add(first, images);
    }
    batches.push_back(images);
  }
  write_samples(folder, at::cat(batches));
  manifest.outputs = {kSamplesFile, kGridFile};
  manifest.steps = spec.count;
  manifest.flops = sampling_flops(model, spec);
}

}  // namespace dkdm::stages
