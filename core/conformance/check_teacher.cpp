// What a teacher promises (dkdm/teacher.hpp, TrainedModel in dkdm/host.hpp).
#include <ATen/ATen.h>

#include "conformance/check_support.hpp"
#include "dkdm/diffusion.hpp"
#include "model/model_folder.hpp"
#include "plugin/announce.hpp"

namespace dkdm::conformance {
namespace {

using at::Tensor;

class TeacherChecks {
 public:
  TeacherChecks(const Subject& subject, Checklist& list) : subject_(subject), list_(list) {}

  void run() {
    list_.run("fingerprint", [&] { return fingerprint(); });
    list_.run("loading", [&] { return loading(); });
    if (!model_.network || model_.shape.channels < 1 || model_.shape.height < 1 ||
        model_.shape.width < 1) {
      for (const char* name : {"loading again", "frozen", "forward", "batch neighbours", "device"})
        list_.skip(name, "no network was loaded");
      return;
    }
    check("loading again", &TeacherChecks::loading_again);
    check("frozen", &TeacherChecks::frozen);
    check("forward", &TeacherChecks::forward);
    check("batch neighbours", &TeacherChecks::batch_neighbours);
    check("device", &TeacherChecks::device);
  }

 private:
  void check(const char* name, std::string (TeacherChecks::*body)() const) {
    list_.run(name, [&] {
      return located(
          "with " + text_of(model_.shape) + " images: ",
          "let forward take [N,C,H,W] of TrainedModel::spec and steps 0 … diffusion.steps - 1",
          [&] { return (this->*body)(); });
    });
  }

  std::shared_ptr<Teacher> open() const {
    return subject_.registry.teacher(subject_.choice(), subject_.host);
  }

  std::string fingerprint() {
    fingerprint_ = open()->fingerprint();
    require(!fingerprint_.empty(), "it is empty",
            "hash the weight file's bytes and what says how "
            "they are read");
    require(fingerprint_ == open()->fingerprint(), "it changed from one opening to the next",
            "hash only what decides the network: no times, no addresses");
    return fingerprint_.substr(0, 16) + (fingerprint_.size() > 16 ? "…" : "") +
           ", known without loading";
  }

  std::string loading() {
    const auto teacher = open();
    model_ = teacher->load();
    require(plugin::announced(subject_.registry, subject_.choice()).absent.empty(),
            "it loads, and announce() says that files are absent",
            "announce the files that load() opens");
    require(model_.network != nullptr, "load() gave no network", "fill TrainedModel::network");
    require(model_.shape.channels > 0 && model_.shape.height > 0 && model_.shape.width > 0,
            "its images are " + text_of(model_.shape), "fill TrainedModel::spec");
    require(teacher->fingerprint() == fingerprint_, "loading changed the fingerprint",
            "let it depend on the files and parameters alone");
    const GaussianDiffusion process(model_.diffusion);
    return text_of(model_.shape) + " images, " + std::to_string(process.num_steps()) +
           " steps of " + model_.diffusion.schedule + " noise, " +
           std::to_string(model::count_parameters(*model_.network)) + " parameters";
  }

  std::string frozen() const {
    require(!model_.network->is_training(), "the network is in training mode", "call eval()");
    for (const auto& entry : model_.network->named_parameters())
      require(!entry.value().requires_grad(), entry.key() + " asks for a gradient",
              "set_requires_grad(false) for every parameter: a teacher is not trained");
    return "evaluation mode, no parameter asks for a gradient";
  }

  Tensor steps(std::int64_t first, std::int64_t n) const {
    return spread_steps(first, n, model_.diffusion.steps);
  }

  Tensor output() const {
    const at::NoGradGuard no_grad;
    return model_.network->forward(noisy_images(model_.shape, 0, 3), steps(0, 3));
  }

  std::string forward() const {
    const Tensor x = noisy_images(model_.shape, 0, 3), out = output();
    require_output(out, x);
    require(at::equal(out, output()), "the same input gave two outputs",
            "keep nothing from call to "
            "call, and let dropout be off");
    return text_of(x) + " -> " + text_of(out) + ", the same bits twice";
  }

  std::string batch_neighbours() const {
    const at::NoGradGuard no_grad;
    require_independent_rows(*model_.network, model_.shape, model_.diffusion.steps, [] {});
    return "a row depends on itself alone";
  }

  std::string device() const {
    const TrainedModel again = open()->load();
    return follow_inputs(subject_, *again.network, again.shape, again.diffusion.steps, {[] {}});
  }

  std::string loading_again() const {
    const at::NoGradGuard no_grad;
    const TrainedModel again = open()->load();
    require(
        at::equal(output(), again.network->forward(noisy_images(model_.shape, 0, 3), steps(0, 3))),
        "loaded twice, it gives two outputs", "load every weight, leave none at its initial value");
    return "gives the same network";
  }

  const Subject& subject_;
  Checklist& list_;
  std::string fingerprint_;
  TrainedModel model_;
};

}  // namespace

void check_teacher(const Subject& subject, Checklist& list) { TeacherChecks(subject, list).run(); }

}  // namespace dkdm::conformance
