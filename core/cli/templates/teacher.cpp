// my-plugin: the ideal denoiser of a few images, which needs no training. When the data are exactly
// x_1 … x_n, the best guess of x_0 is their mean weighted by how well each explains x_t:
//   w_i ~ exp(-|x_t - sqrt(alpha_bar) x_i|^2 / (2 (1 - alpha_bar)))       (Karras et al. 2022, Eq.
//   57)
// A teacher of trained weights instead: network = host.student("adm-unet", values, {shape,
// diffusion}), then io::load_strictly(io::read_checkpoint(file)…, *network, file) of
// dkdm/checkpoint.hpp.
#include <ATen/ATen.h>

#include "dkdm/boundary.hpp"
#include "dkdm/diffusion.hpp"
#include "dkdm/files.hpp"
#include "dkdm/io.hpp"
#include "dkdm/teacher.hpp"

namespace {

using at::Tensor;

class IdealDenoiser final : public dkdm::Denoiser {
 public:
  // images f32 [n,C,H,W] in [-1,1].
  IdealDenoiser(const Tensor& images, const dkdm::GaussianDiffusion& process) {
    images_ = register_buffer("images", images.flatten(1));
    alpha_bar_ = register_buffer("alpha_bar", at::tensor(process.tables().alpha_bar));
  }

  // x_t [N,C,H,W], t [N] -> eps [N,C,H,W].
  Tensor forward(const Tensor& x_t, const Tensor& t) override {
    const Tensor alpha_bar = alpha_bar_.index_select(0, t.to(at::kLong)).unsqueeze(1);
    const Tensor x = x_t.flatten(1).to(at::kDouble), scale = alpha_bar.sqrt();
    const Tensor known = images_.to(at::kDouble);
    // Of |x - scale x_i|^2, what depends on i.
    const Tensor fit = scale * x.mm(known.t()) - alpha_bar * known.square().sum(1) / 2;
    const Tensor x_0 = at::softmax(fit / (1 - alpha_bar), 1).mm(known);
    const Tensor eps = (x - scale * x_0) / (1 - alpha_bar).sqrt();
    return eps.to(at::kFloat).view(x_t.sizes());
  }

 private:
  Tensor images_, alpha_bar_;
};

class MyPlugin final : public dkdm::Teacher {
 public:
  static dkdm::ParamTable params() {
    return {
        dkdm::text("file", "/usr/share/datasets/fashion-mnist/train-images-idx3-ubyte.gz",
                   "IDX file of 28 x 28 images"),
        dkdm::integer("count", 256, "images that it knows, the file's first").between(1, 60000)};
  }

  MyPlugin(const dkdm::Params& params, dkdm::Host&)
      : file_(params.text("file")), count_(params.integer("count")) {}

  dkdm::TrainedModel load() override {
    const Tensor all = dkdm::io::read_idx(file_);
    if (all.dim() != 3 || all.size(1) != 28 || all.size(2) != 28 || all.size(0) < count_)
      throw dkdm::DataError(file_, "expected " + std::to_string(count_) + " images of 28 x 28");
    // 16 x 16 as the dataset fashion-mnist makes them: two black pixels around, then halved.
    const Tensor padded =
        at::constant_pad_nd(all.narrow(0, 0, count_).unsqueeze(1), {2, 2, 2, 2}, 0);
    const Tensor images = at::avg_pool2d(padded.to(at::kFloat), 2) / 127.5 - 1;
    const dkdm::DiffusionConfig diffusion;  // cosine, 1000 steps
    auto network = std::make_shared<IdealDenoiser>(images, dkdm::GaussianDiffusion(diffusion));
    network->eval();
    return {network, diffusion, {1, 16, 16}};
  }

  std::string fingerprint() const override {
    return dkdm::io::sha256(dkdm::io::sha256_file(file_) + " " + std::to_string(count_));
  }

 private:
  std::string file_;
  std::int64_t count_;
};

}  // namespace

DKDM_TEACHER("my-plugin", "1", "the ideal denoiser of a few images, in closed form", MyPlugin)
