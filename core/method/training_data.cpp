// Minibatches of images and the authors' mixing (dkdm/training_data.hpp).
#include <cmath>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include <ATen/ATen.h>

#include "dkdm/ahead.hpp"
#include "dkdm/device.hpp"
#include "dkdm/image.hpp"
#include "dkdm/numpy_choice.hpp"
#include "dkdm/params.hpp"
#include "dkdm/python_sample.hpp"
#include "dkdm/training_data.hpp"
#include "plugin/call.hpp"

namespace dkdm {

namespace {

at::Tensor to_tensor(const std::vector<std::int64_t>& values) {
  return at::tensor(values, at::kLong);
}

}  // namespace

TrainingImages::TrainingImages(std::vector<ImageSource> sources, const SampleShape& shape,
                               std::int64_t batch, std::uint64_t seed, bool flip, at::Device device,
                               bool keep_last)
    : sources_(std::move(sources)), batch_(batch), flip_(flip), keep_last_(keep_last),
      order_(seed, Stream::minibatch), augment_(seed, Stream::augment), device_(device),
      ahead_(device.is_cpu() ? nullptr : std::make_unique<Ahead>()) {
  for (const ImageSource& source : sources_) {
    if (source.dataset->spec() != shape) {
      throw DataError("training images",
                      "are " + text_of(source.dataset->spec()) + ", expected " + text_of(shape));
    }
    size_ += source.index.size(0);
  }
  if (size_ < batch_) {
    throw ConfigError("a training batch of " + std::to_string(batch_) + " needs at least as many " +
                      "images, but there are " + std::to_string(size_));
  }
}

// Works of the other thread refer to the sources.
TrainingImages::~TrainingImages() { ahead_.reset(); }

at::Tensor TrainingImages::places(std::int64_t step) {
  const std::int64_t steps_per_epoch = (size_ + (keep_last_ ? batch_ - 1 : 0)) / batch_;
  const std::int64_t epoch = step / steps_per_epoch;
  if (epoch != epoch_) {
    permutation_ = order_.choice(static_cast<std::uint32_t>(epoch), size_, size_);
    epoch_ = epoch;
  }
  const std::int64_t first = step % steps_per_epoch * batch_;
  return permutation_.slice(0, first, std::min(first + batch_, size_));
}

at::Tensor TrainingImages::batch(std::int64_t step) {
  at::Tensor images;
  if (ahead_) {
    const auto read = [this](std::int64_t of) {
      ahead_->push([this, of] { return pixels(of).pin_memory(); });
      ahead_step_ = of;
    };
    if (ahead_step_ != step) {
      ahead_->clear();
      read(step);
    }
    images = ahead_->take();
    read(step + 1);
  } else {
    images = pixels(step);
  }
  return to_unit_range(sent_to(images, device_)).contiguous(at::MemoryFormat::ChannelsLast);
}

at::Tensor TrainingImages::pixels(std::int64_t step) {
  const at::Tensor wanted = places(step);
  const std::int64_t examples = wanted.size(0);
  at::Tensor images;
  std::int64_t first = 0;  // place of this source's first image in the list
  for (const ImageSource& source : sources_) {
    const std::int64_t count = source.index.size(0);
    const at::Tensor slots = at::nonzero((wanted >= first) & (wanted < first + count)).squeeze(1);
    if (slots.size(0) > 0) {
      const at::Tensor own = source.index.index_select(0, wanted.index_select(0, slots) - first);
      const at::Tensor pixels = plugin::images_of(*source.dataset, own);
      if (!images.defined()) {
        std::vector<std::int64_t> sizes = pixels.sizes().vec();
        sizes[0] = examples;
        images = at::empty(sizes, pixels.options());
      }
      images.index_copy_(0, slots, pixels);
    }
    first += count;
  }
  if (flip_) {
    const at::Tensor mirrored =
        augment_.uniform(static_cast<std::uint32_t>(step), 0, examples) < 0.5;
    images = at::where(mirrored.view({examples, 1, 1, 1}), images.flip(3), images);
  }
  return images;
}

namespace {

// `choose(n, count)` draws without replacement; its stream goes on from the first to the second.
template <class Choose>
Mixture drawn(std::int64_t real_images, std::int64_t total, std::int64_t real, Choose choose) {
  Mixture mixture;
  mixture.real = to_tensor(choose(real_images, real));
  mixture.synthetic = to_tensor(choose(total, total - real));
  return mixture;
}

}  // namespace

Mixture reference_mixture(std::int64_t real_images, std::int64_t total, double fraction,
                          Draw draw) {
  const auto real_count =
      static_cast<std::int64_t>(std::nearbyint(static_cast<double>(total) * fraction));
  if (real_count > real_images) {
    throw ConfigError("fraction " + to_text(Value(fraction)) + " of " + std::to_string(total) +
                      " training images asks for " + std::to_string(real_count) +
                      " real ones, but the dataset has " + std::to_string(real_images));
  }
  if (draw == Draw::python) {
    PythonSample generator(0);
    return drawn(real_images, total, real_count,
                 [&](std::int64_t n, std::int64_t count) { return generator.sample(n, count); });
  }
  NumpyChoice generator(0);
  return drawn(real_images, total, real_count,
               [&](std::int64_t n, std::int64_t count) { return generator.choice(n, count); });
}

}  // namespace dkdm
