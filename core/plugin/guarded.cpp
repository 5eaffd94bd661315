#include "plugin/guarded.hpp"

#include <ATen/core/Tensor.h>
#include <c10/core/impl/LocalDispatchKeySet.h>

#include "dkdm/weights_files.hpp"
#include "dkdm/weights_kind.hpp"
#include "dkdm/weights_space.hpp"
#include "plugin/call.hpp"

namespace dkdm::plugin {
namespace {

// What an object of a plugin is, and whose.
template <class T>
class Guard {
 public:
  Guard(std::shared_ptr<T> made, std::string plugin)
      : made_(std::move(made)), plugin_(std::move(plugin)) {}

  template <class Function>
  decltype(auto) seldom(const char* stage, const Function& function) const {
    return call(plugin_, stage, Care::process,
                [&]() -> decltype(auto) { return function(*made_); });
  }
  template <class Function>
  decltype(auto) often(const char* stage, const Function& function) const {
    return call(plugin_, stage, Care::numbers,
                [&]() -> decltype(auto) { return function(*made_); });
  }

 private:
  std::shared_ptr<T> made_;
  std::string plugin_;
};

// `Interface` under the plugin's name for as long as it lives.
template <class Interface>
class Guarded : public Interface {
 public:
  Guarded(std::shared_ptr<Interface> made, const std::string& plugin)
      : guard_(std::move(made), plugin) {
    remember_name(static_cast<const Interface*>(this), plugin);
  }
  ~Guarded() override { forget_name(static_cast<const Interface*>(this)); }
  Guarded(const Guarded&) = delete;
  Guarded& operator=(const Guarded&) = delete;

 protected:
  const Guard<Interface> guard_;
};

class GuardedAutoencoder final : public Guarded<Autoencoder> {
 public:
  GuardedAutoencoder(const std::shared_ptr<Autoencoder>& made, const std::string& plugin)
      : Guarded(made, plugin) {
    made_ = register_module("autoencoder", made);  // to be moved, and counted
  }
  SampleShape latent_shape(const ImageSpec& image) const override {
    return guard_.seldom("latent_shape", [&](Autoencoder& a) { return a.latent_shape(image); });
  }
  ImageSpec image_shape(const SampleShape& latent) const override {
    return guard_.seldom("image_shape", [&](Autoencoder& a) { return a.image_shape(latent); });
  }
  std::string fingerprint() const override {
    return guard_.seldom("fingerprint", [](Autoencoder& a) { return a.fingerprint(); });
  }
  void load_weights() override {
    guard_.seldom("load_weights", [](Autoencoder& a) { a.load_weights(); });
    eval();
    for (auto& parameter : parameters()) parameter.set_requires_grad(false);
  }
  at::Tensor encode(const at::Tensor& images) override {
    const SampleShape shape = latent_shape({images.size(1), images.size(2), images.size(3)});
    return transformed(self(), "encode", images, shape, [&] { return made_->encode(images); });
  }
  at::Tensor decode(const at::Tensor& latents, bool quantise) override {
    const SampleShape shape = image_shape({latents.size(1), latents.size(2), latents.size(3)});
    return transformed(self(), "decode", latents, shape,
                       [&] { return made_->decode(latents, quantise); });
  }

 private:
  const Autoencoder* self() const { return this; }  // under which its name is known

  std::shared_ptr<Autoencoder> made_;
};

class GuardedDataset final : public Guarded<Dataset> {
 public:
  using Guarded::Guarded;
  ImageSpec spec() const override {
    return guard_.often("spec", [](Dataset& d) { return d.spec(); });
  }
  std::int64_t size() const override {
    return guard_.often("size", [](Dataset& d) { return d.size(); });
  }
  std::int64_t num_classes() const override {
    return guard_.often("num_classes", [](Dataset& d) { return d.num_classes(); });
  }
  at::Tensor images(const at::Tensor& index) const override {
    return guard_.often("images", [&](Dataset& d) { return d.images(index); });
  }
  at::Tensor labels(const at::Tensor& index) const override {
    return guard_.often("labels", [&](Dataset& d) { return d.labels(index); });
  }
  std::string fingerprint() const override {
    return guard_.seldom("fingerprint", [](Dataset& d) { return d.fingerprint(); });
  }
};

// States nothing where the teacher does not.
class GuardedTeacher : public Guarded<Teacher>, public StatesWeights, public StatesFiles {
 public:
  using Guarded::Guarded;
  TrainedModel load() override {
    auto model = guard_.seldom("load", [](Teacher& t) { return t.load(); });
    model.network = named(std::move(model.network), name_of(static_cast<const Teacher*>(this)));
    return model;
  }
  std::string fingerprint() const override {
    return guard_.seldom("fingerprint", [](Teacher& t) { return t.fingerprint(); });
  }
  std::string weights() const override {
    return guard_.seldom("weights", [](Teacher& t) {
      const auto* states = dynamic_cast<const StatesWeights*>(&t);
      return states ? states->weights() : std::string();
    });
  }
  std::vector<std::filesystem::path> weight_files() const override {
    return guard_.seldom("weight_files", [](Teacher& t) {
      const auto* states = dynamic_cast<const StatesFiles*>(&t);
      return states ? states->weight_files() : std::vector<std::filesystem::path>();
    });
  }
};

class GuardedLatentTeacher final : public GuardedTeacher, public DrawsLatents {
 public:
  using GuardedTeacher::GuardedTeacher;
};

class GuardedMethod final : public Guarded<Method> {
 public:
  using Guarded::Guarded;
  Needs needs() const override {
    return guard_.seldom("needs", [](Method& m) { return m.needs(); });
  }
  void prepare(const MethodContext& context, const std::filesystem::path& dir) override {
    guard_.seldom("prepare", [&](Method& m) { m.prepare(context, dir); });
  }
  std::string preparation_identity(const DiffusionConfig& diffusion,
                                   std::int64_t batch) const override {
    return guard_.seldom("preparation_identity",
                         [&](Method& m) { return m.preparation_identity(diffusion, batch); });
  }
  std::int64_t preparation_evaluations(const DiffusionConfig& diffusion,
                                       std::int64_t batch) const override {
    return guard_.seldom("preparation_evaluations",
                         [&](Method& m) { return m.preparation_evaluations(diffusion, batch); });
  }
  std::int64_t training_evaluations(const DiffusionConfig& diffusion, std::int64_t batch,
                                    std::int64_t steps) const override {
    return guard_.seldom("training_evaluations", [&](Method& m) {
      return m.training_evaluations(diffusion, batch, steps);
    });
  }
  double held_bytes(const DiffusionConfig& diffusion, const SampleShape& shape,
                    std::int64_t batch) const override {
    return guard_.seldom("held_bytes",
                         [&](Method& m) { return m.held_bytes(diffusion, shape, batch); });
  }
  void start(const MethodContext& context, const std::filesystem::path& prepared) override {
    guard_.seldom("start", [&](Method& m) { m.start(context, prepared); });
  }
  const GaussianDiffusion& diffusion() const override {
    return guard_.often("diffusion",
                        [](Method& m) -> const GaussianDiffusion& { return m.diffusion(); });
  }
  TrainBatch next(std::int64_t step) override {
    return guard_.often("next", [&](Method& m) { return m.next(step); });
  }
  LossTerms loss(const TrainBatch& batch, const at::Tensor& output) const override {
    return guard_.often("loss", [&](Method& m) { return m.loss(batch, output); });
  }
  std::vector<std::string> student_features() const override {
    return guard_.seldom("student_features", [](Method& m) { return m.student_features(); });
  }
  TrainedPart trained_part() const override {
    return guard_.seldom("trained_part", [](Method& m) { return m.trained_part(); });
  }
  TensorMap state() const override {
    return guard_.seldom("state", [](Method& m) { return m.state(); });
  }
  void restore(const TensorMap& state) override {
    guard_.seldom("restore", [&](Method& m) { m.restore(state); });
  }
};

class GuardedEvaluator final : public Guarded<Evaluator> {
 private:
  // Values of two runs are to compare: autocast, which training may have on, is off in what
  // measures them, sums and distances included.
  template <class Function>
  auto exactly(const char* stage, const Function& function) {
    const c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::autocast_dispatch_keyset);
    return guard_.seldom(stage, function);
  }

 public:
  using Guarded::Guarded;
  std::int64_t min_samples() const override {
    return guard_.seldom("min_samples", [](Evaluator& e) { return e.min_samples(); });
  }
  std::vector<std::string> metrics() const override {
    return guard_.seldom("metrics", [](Evaluator& e) { return e.metrics(); });
  }
  std::string identity() const override {
    return guard_.seldom("identity", [](Evaluator& e) { return e.identity(); });
  }
  void prepare(const Dataset& reference, std::uint64_t seed,
               const std::filesystem::path& dir) override {
    exactly("prepare", [&](Evaluator& e) { e.prepare(reference, seed, dir); });
  }
  void prepare_from_statistics(const Statistics& statistics, const Dataset* images,
                               const std::filesystem::path& dir) override {
    exactly("prepare", [&](Evaluator& e) { e.prepare_from_statistics(statistics, images, dir); });
  }
  void open(const std::filesystem::path& dir) override {
    exactly("open", [&](Evaluator& e) { e.open(dir); });
  }
  std::string protocol() const override {
    return guard_.seldom("protocol", [](Evaluator& e) { return e.protocol(); });
  }
  std::string reference_fingerprint() const override {
    return guard_.seldom("reference_fingerprint",
                         [](Evaluator& e) { return e.reference_fingerprint(); });
  }
  std::int64_t reference_count() const override {
    return guard_.seldom("reference_count", [](Evaluator& e) { return e.reference_count(); });
  }
  io::TensorMap reference_statistics() const override {
    return guard_.seldom("reference_statistics",
                         [](Evaluator& e) { return e.reference_statistics(); });
  }
  void add(const at::Tensor& images) override {
    exactly("add", [&](Evaluator& e) { e.add(images); });
  }
  std::vector<Metric> finish() override {
    return exactly("finish", [](Evaluator& e) { return e.finish(); });
  }
  io::TensorMap state() override {
    return exactly("state", [](Evaluator& e) { return e.state(); });
  }
  void merge(const io::TensorMap& state) override {
    exactly("merge", [&](Evaluator& e) { e.merge(state); });
  }
  void reset(std::int64_t first) override {
    guard_.seldom("reset", [&](Evaluator& e) { e.reset(first); });
  }
};

}  // namespace

std::shared_ptr<Autoencoder> guarded(std::shared_ptr<Autoencoder> made, const std::string& plugin) {
  return std::make_shared<GuardedAutoencoder>(made, plugin);
}

std::shared_ptr<Dataset> guarded(std::shared_ptr<Dataset> made, const std::string& plugin) {
  return std::make_shared<GuardedDataset>(std::move(made), plugin);
}

std::shared_ptr<Evaluator> guarded(std::shared_ptr<Evaluator> made, const std::string& plugin) {
  return std::make_shared<GuardedEvaluator>(std::move(made), plugin);
}

std::shared_ptr<Method> guarded(std::shared_ptr<Method> made, const std::string& plugin) {
  return std::make_shared<GuardedMethod>(std::move(made), plugin);
}

std::shared_ptr<Teacher> guarded(std::shared_ptr<Teacher> made, const std::string& plugin) {
  if (dynamic_cast<const DrawsLatents*>(made.get()))
    return std::make_shared<GuardedLatentTeacher>(std::move(made), plugin);
  return std::make_shared<GuardedTeacher>(std::move(made), plugin);
}

}  // namespace dkdm::plugin
