// The baselines' training step (dkdm/image_method.hpp).
#include "dkdm/image_method.hpp"

#include <cstdint>

#include <ATen/ATen.h>

#include "dkdm/device.hpp"
#include "dkdm/diffusion.hpp"
#include "dkdm/random.hpp"
#include "dkdm/training_data.hpp"

namespace dkdm {

struct ImageMethod::Training {
  GaussianDiffusion process;
  TrainingImages images;
  Random timestep, noise;
  SampleShape shape;
  at::Tensor places;  // 0 … batch - 1 on the device
};

ImageMethod::ImageMethod(const Params& params)
    : flip_(params.flag("flip")), decode_(params.text("t0_term") == "decoder"),
      vb_weight_(params.real("vb_weight")) {}

ImageMethod::~ImageMethod() = default;

ParamTable ImageMethod::params() {
  return {flag("flip", true, "mirror each image left to right with probability 1/2"),
          real("vb_weight", 1.0,
               "weight of the variational bound, in bits per dimension and step "
               "(0 = noise prediction alone)")
              .between(0, 1e6),
          text("t0_term", "decoder",
               "bound at t = 0: likelihood of the image's grey levels (decoder, "
               "the authors' code), or the KL term, as at all other steps (kl)")
              .one_of({"decoder", "kl"})};
}

void ImageMethod::start(const MethodContext& context, const std::filesystem::path&) {
  training_.reset(new Training{
      .process = GaussianDiffusion(context.diffusion),
      .images = TrainingImages(sources(context), context.shape, context.batch, context.seed, flip_,
                               context.host.device(), context.keep_last_batch),
      .timestep = Random(context.seed, Stream::timestep),
      .noise = Random(context.seed, Stream::train_noise),
      .shape = context.shape,
      .places = at::arange(context.batch,
                           at::TensorOptions().dtype(at::kLong).device(context.host.device()))});
}

const GaussianDiffusion& ImageMethod::diffusion() const { return training_->process; }

TrainBatch ImageMethod::next(std::int64_t step) {
  const auto key = static_cast<std::uint32_t>(step);
  auto& [process, images, timestep, noise, shape, all_places] = *training_;
  TrainBatch batch;
  batch.x0 = images.batch(step);
  const at::Tensor places = all_places.slice(0, 0, batch.x0.size(0));
  batch.t =
      sent_to(timestep.integers(key, 0, places.size(0), process.num_steps()), places.device());
  batch.eps = noise.normal(key, places, shape.sizes()).contiguous(at::MemoryFormat::ChannelsLast);
  batch.x_t =
      process.q_sample(batch.x0, batch.t, batch.eps).contiguous(at::MemoryFormat::ChannelsLast);
  return batch;
}

LossTerms ImageMethod::loss(const TrainBatch& batch, const at::Tensor& output) const {
  return hybrid_loss(training_->process, output, batch.x0, batch.x_t, batch.t, batch.eps,
                     vb_weight_, decode_);
}

}  // namespace dkdm
