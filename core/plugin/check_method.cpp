// What a training method promises (dkdm/method.hpp), on a made-up teacher and made-up images: a few
// steps of what the training loop does.
#include <ATen/ATen.h>

#include "dkdm/diffusion.hpp"
#include "plugin/check_support.hpp"

namespace dkdm::plugin {
namespace {

using at::Tensor;

constexpr ImageSpec kSpec{1, 8};
constexpr std::int64_t kBatch = 4, kSteps = 3;
constexpr std::uint64_t kSeed = 1;

bool same(const Tensor& a, const Tensor& b) {
  return a.defined() == b.defined() && (!a.defined() || at::equal(a, b));
}

bool same(const TrainBatch& a, const TrainBatch& b) {
  return same(a.x_t, b.x_t) && same(a.t, b.t) && same(a.x0, b.x0) && same(a.eps, b.eps) &&
         same(a.x_prev, b.x_prev) && same(a.teacher.mean, b.teacher.mean) &&
         same(a.teacher.eps, b.teacher.eps);
}

class MethodChecks {
 public:
  MethodChecks(const Subject& subject, Checklist& list) : subject_(subject), list_(list) {}

  void run() {
    if (!list_.run("needs", [&] { return needs(); })) return;
    if (needs_.preparation) {
      if (!list_.run("preparation", [&] { return preparation(); })) return;
    } else {
      list_.skip("preparation", "it has none");
    }
    if (!list_.run("batch", [&] { return batch(); })) return;
    list_.run("loss", [&] { return loss(); });
    list_.run("seed", [&] { return seed(); });
    list_.run("resume", [&] { return resume(); });
    list_.run("teacher evaluations", [&] { return teacher_evaluations(); });
  }

 private:
  std::shared_ptr<Method> make() const {
    return subject_.registry.method(subject_.choice(), subject_.host);
  }

  MethodContext context(std::uint64_t seed = kSeed) const {
    MethodContext given{subject_.host, diffusion_, kSpec, kBatch, seed};
    if (needs_.teacher) given.teacher = &teacher_;
    if (needs_.dataset) given.dataset = &real_;
    if (needs_.synthetic) given.synthetic = &synthetic_;
    return given;
  }

  std::filesystem::path prepared() const {
    return needs_.preparation ? folder_.path() : std::filesystem::path();
  }

  std::shared_ptr<Method> started(std::uint64_t seed = kSeed) const {
    auto method = make();
    method->start(context(seed), prepared());
    return method;
  }

  static std::vector<TrainBatch> batches(Method& method, std::int64_t first, std::int64_t count) {
    std::vector<TrainBatch> made;
    for (std::int64_t step = first; step < first + count; ++step) made.push_back(method.next(step));
    return made;
  }

  std::string needs() {
    needs_ = make()->needs();
    if (subject_.plugin.kind == "distillation")
      require(needs_.teacher && !needs_.dataset && !needs_.synthetic,
              "a distillation method needs the teacher and no images",
              "set Needs::teacher alone, or end the file with DKDM_BASELINE");
    else
      require(needs_.dataset || needs_.synthetic, "a baseline needs images, real or synthetic",
              "set Needs::dataset or Needs::synthetic, or end the file with DKDM_DISTILLATION");
    std::string text;
    for (const auto& [needed, name] : {std::pair{needs_.teacher, "teacher"},
                                       {needs_.dataset, "real images"},
                                       {needs_.synthetic, "synthetic images"}})
      if (needed) text += (text.empty() ? "" : ", ") + std::string(name);
    return text;
  }

  std::string preparation() {
    const auto method = make();
    const auto announced = method->preparation_evaluations(diffusion_, kBatch);
    require(announced >= 0, "preparation_evaluations() is negative", "count teacher forwards");
    method->prepare(context(), folder_.path());
    require(!std::filesystem::is_empty(folder_.path()), "prepare() left its folder empty",
            "write what start() reads, or leave Needs::preparation out");
    // As after a kill at the very end: the folder is there, its manifest is not.
    make()->prepare(context(), folder_.path());
    return std::to_string(network_->images) + " teacher forwards, announced " +
           std::to_string(announced) + " (an average)";
  }

  std::string batch() const {
    const auto method = started();
    const auto steps = method->diffusion().num_steps();
    for (const TrainBatch& batch : batches(*method, 0, kSteps)) {
      const std::vector<std::int64_t> shape{kBatch, kSpec.channels, kSpec.size, kSpec.size};
      const auto image = [&](const Tensor& tensor, const std::string& name) {
        require(tensor.defined() && tensor.sizes() == shape && tensor.scalar_type() == at::kFloat,
                name + " is " + text_of(tensor), c10::str("expected f32 ", at::IntArrayRef(shape)));
        require(tensor.isfinite().all().item<bool>(), name + " has NaN or infinities",
                "look at the steps at both ends of the chain");
        require(!tensor.requires_grad(), name + " carries a gradient",
                "targets are constants: compute them under NoGradGuard");
      };
      image(batch.x_t, "x_t");
      require(batch.t.defined() && batch.t.scalar_type() == at::kLong &&
                  batch.t.sizes() == at::IntArrayRef{kBatch},
              "t is " + text_of(batch.t), "expected int64 [" + std::to_string(kBatch) + "]");
      require(batch.t.min().item<std::int64_t>() >= 0 && batch.t.max().item<std::int64_t>() < steps,
              "t leaves 0 … " + std::to_string(steps - 1),
              "count steps of diffusion(), which may be respaced");
      const bool data = batch.x0.defined() || batch.eps.defined();
      if (data) image(batch.x0, "x0"), image(batch.eps, "eps");
      if (batch.teacher.eps.defined()) image(batch.teacher.eps, "teacher.eps");
      require(data || batch.teacher.eps.defined(), "the batch has no target",
              "fill x0 and eps, or teacher");
    }
    return std::to_string(kSteps) + " batches of " + std::to_string(kBatch) + ", a chain of " +
           std::to_string(steps) + " steps";
  }

  std::string loss() const {
    const auto method = started();
    const TrainBatch batch = method->next(0);
    double value = 0;
    for (const std::int64_t channels : {2 * kSpec.channels, kSpec.channels}) {
      const Tensor output = noisy_images({channels, kSpec.size}, 40, kBatch).requires_grad_();
      const LossTerms terms = method->loss(batch, output);
      require(terms.loss.defined() && terms.loss.sizes() == at::IntArrayRef{kBatch},
              "loss is " + text_of(terms.loss) + " for an output " + text_of(output),
              "return one value an example, [" + std::to_string(kBatch) + "]");
      require(terms.mse.defined() && terms.vb.defined(), "loss terms mse and vb are not filled",
              "fill them: they are the training curves");
      require(terms.loss.isfinite().all().item<bool>(), "loss is not finite",
              "look at the steps at both ends of the chain");
      terms.loss.mean().backward();
      const Tensor grad = output.grad();
      require(grad.defined() && grad.isfinite().all().item<bool>() && grad.ne(0).any().item<bool>(),
              "the student's output gets no gradient, or one that is not finite",
              "let loss() depend on the output without detaching it");
      value = terms.loss.mean().item<double>();
    }
    return c10::str(value, " an example, with gradient, for outputs of one and two times the channels");
  }

  std::string seed() const {
    const auto first = batches(*started(), 0, kSteps), again = batches(*started(), 0, kSteps);
    const auto other = batches(*started(kSeed + 1), 0, kSteps);
    bool differs = false;
    for (std::int64_t i = 0; i < kSteps; ++i) {
      require(same(first[i], again[i]), "two starts with one seed gave other batches at step " +
              std::to_string(i), "draw by dkdm::Random(seed, stream) alone, keyed by the step");
      differs |= !same(first[i], other[i]);
    }
    require(differs, "two seeds gave the same batches", "key dkdm::Random by MethodContext::seed");
    return "decides the batches";
  }

  std::string resume() const {
    const auto whole = started(), stopped = started(), continued = started();
    const auto all = batches(*whole, 0, 2 * kSteps);
    batches(*stopped, 0, kSteps);
    // As a checkpoint would keep it: copies that later steps do not change.
    TensorMap state;
    for (const auto& [name, tensor] : stopped->state()) state[name] = tensor.clone();
    continued->restore(state);
    const auto rest = batches(*continued, kSteps, kSteps);
    for (std::int64_t i = 0; i < kSteps; ++i)
      require(same(all[kSteps + i], rest[i]),
              "after restore(state()), step " + std::to_string(kSteps + i) +
                  " has another batch than in a run that was not stopped",
              "put all that next() depends on beyond (seed, step) into state()");
    return std::to_string(kSteps) + " steps, state, restore and " + std::to_string(kSteps) +
           " more are the same bits as " + std::to_string(2 * kSteps);
  }

  std::string teacher_evaluations() const {
    const auto method = started();
    std::int64_t before = method->teacher_evaluations();
    const std::int64_t counted = before, asked = network_->images;
    for (std::int64_t step = 0; step < kSteps; ++step) {
      method->next(step);
      const auto now = method->teacher_evaluations();
      require(now >= before, "teacher_evaluations() fell from " + std::to_string(before) + " to " +
              std::to_string(now), "count every single-image forward since start()");
      before = now;
    }
    const auto reported = before - counted, made = network_->images - asked;
    require(reported == made, "it reports " + std::to_string(reported) + " teacher forwards of " +
            std::to_string(made) + " made", "count one for each image, at every forward");
    return std::to_string(made) + " in " + std::to_string(kSteps) + " steps, all reported";
  }

  const Subject& subject_;
  Checklist& list_;
  Needs needs_;
  TemporaryFolder folder_;
  const DiffusionConfig diffusion_{.schedule = "cosine", .steps = 16, .respacing = ""};
  const std::shared_ptr<MadeUpTeacher> network_ = std::make_shared<MadeUpTeacher>();
  const TrainedModel teacher_{network_, diffusion_, kSpec};
  const MadeUpImages real_{64, kSpec}, synthetic_{48, kSpec};
};

}  // namespace

void check_method(const Subject& subject, Checklist& list) { MethodChecks(subject, list).run(); }

}  // namespace dkdm::plugin
