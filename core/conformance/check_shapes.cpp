// A student's shapes at an image and a batch that its tests have no memory for.
#include <ATen/ATen.h>

#include "conformance/check_support.hpp"
#include "dkdm/nn.hpp"
#include "error_text.hpp"
#include "nn/memory_limit.hpp"
#include "nn/meta.hpp"
#include "plugin/call.hpp"

namespace dkdm::conformance {
namespace {

// As large as networks of the paper's kind are trained on; the first that the student takes.
constexpr ImageSpec kLarge[] = {{3, 256, 256}, {1, 256, 256}, {3, 128, 128},
                                {1, 128, 128}, {3, 64, 64},   {1, 64, 64}};
constexpr std::int64_t kLargeBatch = 256, kSmallBatch = 2;
constexpr const char* kStage = "forward";

std::string at_shape(const SampleShape& shape, std::int64_t batch) {
  return c10::str("at ", batch, " images of ", text_of(shape), " ");
}

// What is wrong with the output for a batch, "" = nothing. Throws what the network throws.
std::string misfit(Denoiser& network, const SampleShape& shape, std::int64_t batch, bool training) {
  network.train(training);
  if (training) nn::seed_layers(network, /*seed=*/0, /*step=*/0);
  const at::AutoGradMode with_grad(training);
  const auto meta = at::TensorOptions().device(at::kMeta);
  const auto x_t = at::empty(shape.batch(batch), meta).contiguous(at::MemoryFormat::ChannelsLast);
  const auto out = plugin::call(plugin::name_of(&network), kStage, plugin::Care::numbers, [&] {
    return network.forward(x_t, at::empty({batch}, meta.dtype(at::kLong)));
  });
  auto expected = shape.batch(batch);
  if (out.defined() && out.dim() == 4 && out.size(1) == 2 * expected[1]) expected[1] *= 2;
  if (out.defined() && out.sizes() == at::IntArrayRef(expected)) return "";
  return "gave " + (out.defined() ? text_of(out) : std::string("nothing")) + " for x_t " +
         text_of(x_t);
}

// A student at an image shape that it takes; null where it refuses that.
std::shared_ptr<Denoiser> on_meta(const Subject& subject, const SampleShape& shape) {
  try {
    return nn::made_on_meta(
        [&] { return subject.registry.student(subject.choice(), {shape, {}}, /*seed=*/0); });
  } catch (const PluginError& error) {
    if (error.exit_code() == ExitCode::usage) return nullptr;
    throw;
  }
}

}  // namespace

void check_shapes(const Subject& subject, Checklist& list) {
  const char* const name = "large shapes";
  const nn::AnyMachine sizes_alone;
  const ImageSpec usual = subject.specs.empty() ? usual_spec(subject.registry, subject.choice())
                                                : subject.specs.front();
  try {
    const auto network = on_meta(subject, usual);
    if (!network) return list.skip(name, "no size");
    for (const bool training : {false, true}) misfit(*network, usual, kSmallBatch, training);
  } catch (const Interrupted&) {
    throw;
  } catch (const Error& error) {
    return list.skip(name,
                     std::string("it does not run on LibTorch's meta device: ") + error.what());
  }
  list.run(name, [&] {
    ImageSpec spec = usual;
    auto network = on_meta(subject, usual);
    for (const ImageSpec& large : kLarge) {
      if (!subject.specs.empty()) break;
      if (auto taken = on_meta(subject, large)) {
        spec = large;
        network = std::move(taken);
        break;
      }
    }
    for (const bool training : {false, true}) {
      std::string wrong;
      try {
        wrong = misfit(*network, spec, kLargeBatch, training);
      } catch (const Interrupted&) {
        throw;
      } catch (const Error& error) {
        wrong = error.what();
      }
      require(wrong.empty(),
              subject.plugin.name + ": " + kStage + ": " + at_shape(spec, kLargeBatch) + wrong,
              "let every size follow from those of x_t and of the constructor's shape");
    }
    return "right for " + std::to_string(kLargeBatch) + " images of " + text_of(spec) +
           ", by shapes alone";
  });
}

}  // namespace dkdm::conformance
