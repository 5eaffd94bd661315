// Out-of-line members of the plugin interfaces: one vtable and typeinfo each, in dkdm_core.
#include <ATen/ATen.h>

#include <algorithm>

#include "dkdm/autoencoder.hpp"
#include "dkdm/dataset.hpp"
#include "dkdm/denoiser.hpp"
#include "dkdm/evaluator.hpp"
#include "dkdm/host.hpp"
#include "dkdm/method.hpp"
#include "dkdm/teacher.hpp"
#include "dkdm/weights_files.hpp"
#include "dkdm/weights_kind.hpp"
#include "dkdm/weights_space.hpp"

namespace dkdm {

Autoencoder::Autoencoder() = default;
Autoencoder::~Autoencoder() = default;
Denoiser::Denoiser() = default;
Denoiser::~Denoiser() = default;
Dataset::~Dataset() = default;
Evaluator::~Evaluator() = default;
Host::~Host() = default;
Method::~Method() = default;
Teacher::~Teacher() = default;
DrawsLatents::~DrawsLatents() = default;
StatesFiles::~StatesFiles() = default;
StatesWeights::~StatesWeights() = default;

at::Tensor Autoencoder::in_chunks(const at::Tensor& input, std::int64_t count,
                                  const std::function<at::Tensor(const at::Tensor& rows)>& work) {
  const std::int64_t all = input.size(0);
  auto chunk = input.sizes().vec();
  chunk[0] = count;
  at::Tensor joined;
  for (std::int64_t first = 0; first < std::max<std::int64_t>(all, 1); first += count) {
    const std::int64_t rows = std::min(count, all - first);
    at::Tensor given = input.narrow(0, first, rows);
    if (rows < count) {
      given = at::zeros(chunk, input.options());
      given.narrow(0, 0, rows).copy_(input.narrow(0, first, rows));
    }
    const at::Tensor made = work(given);
    if (!joined.defined()) {
      auto sizes = made.sizes().vec();
      sizes[0] = all;
      joined = at::empty(sizes, made.options());
    }
    joined.narrow(0, first, rows).copy_(made.narrow(0, 0, rows));
  }
  return joined;
}

at::Tensor Dataset::labels(const at::Tensor&) const { return {}; }

ImageSource all_images(const Dataset& dataset) {
  return {&dataset, at::arange(dataset.size(), at::kLong)};
}

std::string Method::preparation_identity(const DiffusionConfig&, std::int64_t) const { return ""; }

std::int64_t Method::preparation_evaluations(const DiffusionConfig&, std::int64_t) const {
  return 0;
}

std::int64_t Method::training_evaluations(const DiffusionConfig&, std::int64_t batch,
                                          std::int64_t steps) const {
  return needs().teacher ? batch * steps : 0;
}

double Method::held_bytes(const DiffusionConfig&, const SampleShape&, std::int64_t) const {
  return 0;
}

void Method::prepare(const MethodContext&, const std::filesystem::path&) {}

void Evaluator::prepare_from_statistics(const Statistics&, const Dataset*,
                                        const std::filesystem::path&) {
  throw ConfigError("this evaluator takes images as reference, no computed statistics");
}

io::TensorMap Evaluator::reference_statistics() const {
  throw ConfigError("this evaluator's reference statistics have no file layout of their own");
}

void Evaluator::restore(const io::TensorMap& state) {
  reset();
  merge(state);
}

}  // namespace dkdm
