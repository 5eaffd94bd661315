// Sample sets: what makes each image of one, drawing, and the files that one is kept in.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>

#include "dkdm/dataset.hpp"
#include "dkdm/diffusion.hpp"
#include "dkdm/host.hpp"
#include "dkdm/sampler.hpp"
#include "record/manifest.hpp"

namespace dkdm::stages {

struct SamplingSpec {
  SamplerConfig sampler;
  std::string respacing;
  std::int64_t count = 0, batch = 0;
  std::uint64_t seed = 0;
  std::string precision = "fp32";  // of the network
};
DKDM_API SamplingSpec sampling_spec(const Params& section, std::int64_t count, std::uint64_t seed);

// The process that is sampled, of a network trained with `config`.
GaussianDiffusion sampling_process(DiffusionConfig config, const SamplingSpec& spec);

// Images through the network for the whole set, counted once a step.
std::int64_t sampling_evaluations(const DiffusionConfig& diffusion, const SamplingSpec& spec);
// Floating-point operations of drawing the whole set (model/flops.hpp).
double sampling_flops(const TrainedModel& model, const SamplingSpec& spec);

// uint8 [n,C,H,W]: images first … first+n-1 of the set, n = spec.batch or what is left.
at::Tensor draw_batch(Host& host, const TrainedModel& model, const GaussianDiffusion& process,
                      const SamplingSpec& spec, std::int64_t first);

// uint8 [count,C,H,W].
DKDM_API at::Tensor sample_images(Host& host, const TrainedModel& model, const SamplingSpec& spec);

// Fills `folder` with samples.npz and grid.png; finished batches survive a kill. In memory is a
// batch, however large the set is. Throws StoreError where the disk has no room for it.
DKDM_API void draw_samples(Host& host, const TrainedModel& model, const SamplingSpec& spec,
                           const std::filesystem::path& folder, record::Manifest& manifest);
inline constexpr const char* kSamplesFile = "samples.npz";  // arr_0 as ADM writes it

// Images uint8 [n,C,H,W], seen as a dataset.
DKDM_API std::shared_ptr<Dataset> sample_set(at::Tensor images, std::string fingerprint);
// A uint8 sample set on disk, seen as a dataset: mapped, whatever its size. Throws DataError for
// one that is damaged.
DKDM_API std::shared_ptr<Dataset> open_samples(const std::filesystem::path& folder);

// The picture of a set's first images, `images` uint8 [N,C,H,W].
void write_grid(const std::filesystem::path& folder, const at::Tensor& images);
inline constexpr const char* kGridFile = "grid.png";
inline constexpr std::int64_t kGridImages = 64;

}  // namespace dkdm::stages
