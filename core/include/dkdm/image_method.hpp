// What baselines share that train on images: the trainer of the reference and the data-based hybrid
// loss (paper Eq. 4-9). Example i of step k depends on (seed, k, i) alone.
#pragma once

#include <memory>
#include <vector>

#include "dkdm/dataset.hpp"
#include "dkdm/method.hpp"
#include "dkdm/params.hpp"

namespace dkdm {

// Trains on the images that the subclass names: x_t = q_sample of an image at uniform t, loss =
// hybrid_loss unless the subclass has another. Parameters: `flip`, `vb_weight`, `t0_term`.
class DKDM_API ImageMethod : public Method {
 public:
  explicit ImageMethod(const Params& params);
  ~ImageMethod() override;
  static ParamTable params();

  void start(const MethodContext& context, const std::filesystem::path& prepared) override;
  const GaussianDiffusion& diffusion() const final;
  TrainBatch next(std::int64_t step) final;
  LossTerms loss(const TrainBatch& batch, const at::Tensor& output) const override;

 protected:
  virtual std::vector<ImageSource> sources(const MethodContext& context) const = 0;

 private:
  struct Training;  // what `start` makes

  bool flip_, decode_;
  double vb_weight_;
  std::unique_ptr<Training> training_;
};

}  // namespace dkdm
