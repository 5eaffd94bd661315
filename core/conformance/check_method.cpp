// What a training method promises (dkdm/method.hpp), on a fake teacher, student and images: a few
// steps of what the training loop does.
#include <ATen/ATen.h>

#include <optional>

#include "conformance/check_support.hpp"
#include "dkdm/diffusion.hpp"
#include "dkdm/features.hpp"
#include "plugin/seeded_generator.hpp"

namespace dkdm::conformance {
namespace {

using at::Tensor;

constexpr ImageSpec kSpecs[] = {
    {1, 8, 8}, {3, 32, 32}, {1, 28, 28}, {3, 64, 64}};  // the first that it takes is used
constexpr std::int64_t kBatch = 4, kSteps = 3;
constexpr std::int64_t kRows = 64;  // a batch over which a random walk's cost averages out
constexpr double kCostTolerance = 1.5;
constexpr std::uint64_t kSeed = 1;

bool same(const Tensor& a, const Tensor& b) {
  return a.defined() == b.defined() && (!a.defined() || at::equal(a, b));
}

bool same(const TrainBatch& a, const TrainBatch& b) {
  return same(a.x_t, b.x_t) && same(a.t, b.t) && same(a.x0, b.x0) && same(a.eps, b.eps) &&
         same(a.x_prev, b.x_prev) && same(a.teacher.mean, b.teacher.mean) &&
         same(a.teacher.eps, b.teacher.eps);
}

constexpr const char* kThrew = "see what it needs that MethodContext does not give";

// A method that was started, with the student that it was started for.
struct Started {
  std::shared_ptr<FakeStudent> student;
  std::shared_ptr<Method> method;
  Method* operator->() const { return method.get(); }
  Method& operator*() const { return *method; }
};

class MethodChecks {
 public:
  MethodChecks(const Subject& subject, Checklist& list) : subject_(subject), list_(list) {}

  // Whether it can be started comes first, then whether it is a function of seed and step, then
  // shapes.
  void run() {
    if (!list_.run("needs", [&] { return needs(); }) && !needs_)
      return skip_all("it cannot be made");
    if (!list_.run("start", [&] { return start(); }) && !spec_)
      return skip_all("it cannot be started");
    if (needs_->preparation) check("preparation", &MethodChecks::preparation);
    else list_.skip("preparation", "it has none");
    check("seed", &MethodChecks::seed);
    check("resume", &MethodChecks::resume);
    check("batch", &MethodChecks::batch);
    check("loss", &MethodChecks::loss);
    if (started()->trained_part().network) check("trained part", &MethodChecks::trained_part);
    else list_.skip("trained part", "it has none");
    if (needs_->teacher) check("teacher evaluations", &MethodChecks::teacher_evaluations);
    else list_.skip("teacher evaluations", "it has no teacher");
  }

 private:
  void check(const char* name, std::string (MethodChecks::*body)() const) {
    list_.run(name, [&] {
      return located("at " + text_of(*spec_) + ": ", kThrew, [&] { return (this->*body)(); });
    });
  }

  void skip_all(const std::string& why) {
    if (!needs_) list_.skip("start", why);
    for (const char* name :
         {"preparation", "seed", "resume", "batch", "loss", "trained part", "teacher evaluations"})
      list_.skip(name, why);
  }

  std::shared_ptr<Method> make() const {
    return subject_.registry.method(subject_.choice(), subject_.host);
  }

  // The teacher and the images that a method at `spec` sees.
  struct World {
    explicit World(const ImageSpec& spec, const DiffusionConfig& diffusion)
        : teacher{network, diffusion, spec}, real(2 * kRows, spec),
          synthetic(2 * kRows - 16, spec) {}
    std::shared_ptr<FakeTeacher> network = std::make_shared<FakeTeacher>();
    TrainedModel teacher;
    FakeImages real, synthetic;
  };

  MethodContext context(const World& world, std::uint64_t seed = kSeed,
                        std::int64_t batch = kBatch) const {
    MethodContext given{subject_.host, diffusion_, world.teacher.shape, batch, seed};
    if (needs_->teacher) given.teacher = &world.teacher;
    if (needs_->dataset) given.dataset = &world.real;
    if (needs_->synthetic) given.synthetic = &world.synthetic;
    return given;
  }

  // As the host does it; `dir` holds what was prepared.
  Started started_at(const World& world, const std::filesystem::path& dir, std::uint64_t seed,
                     std::int64_t batch = kBatch) const {
    Started made{std::make_shared<FakeStudent>(world.teacher.shape), make()};
    MethodContext given = context(world, seed, batch);
    given.student = made.student.get();
    const plugin::SeededGenerator generator(seed);
    made->start(given, needs_->preparation ? dir : std::filesystem::path());
    return made;
  }
  Started started(std::uint64_t seed = kSeed) const {
    return started_at(*world_, folder_->path(), seed);
  }

  static std::vector<TrainBatch> batches(Method& method, std::int64_t first, std::int64_t count) {
    std::vector<TrainBatch> made;
    for (std::int64_t step = first; step < first + count; ++step) made.push_back(method.next(step));
    return made;
  }

  std::string needs() {
    needs_ = make()->needs();
    if (subject_.plugin.kind == "distillation")
      require(needs_->teacher && !needs_->dataset && !needs_->synthetic,
              "a distillation method needs the teacher and no images",
              "set Needs::teacher alone, or end the file with DKDM_BASELINE");
    else
      require(needs_->dataset || needs_->synthetic, "a baseline needs images, real or synthetic",
              "set Needs::dataset or Needs::synthetic, or end the file with DKDM_DISTILLATION");
    std::string text;
    for (const auto& [needed, name] : {std::pair{needs_->teacher, "teacher"},
                                       {needs_->dataset, "real images"},
                                       {needs_->synthetic, "synthetic images"}})
      if (needed) text += (text.empty() ? "" : ", ") + std::string(name);
    return text;
  }

  // Prepared and started at the first image size that it takes.
  std::string start() {
    const Shapes shapes =
        taken_shapes({std::begin(kSpecs), std::end(kSpecs)}, [&](const ImageSpec& spec) {
          if (spec_) return std::string();  // one is enough
          auto world = std::make_unique<World>(spec, diffusion_);
          auto folder = std::make_unique<TemporaryFolder>();
          try {
            located("", kThrew, [&] {
              if (needs_->preparation) make()->prepare(context(*world), folder->path());
              started_at(*world, folder->path(), kSeed);
              return std::string();
            });
          } catch (const Error& error) {
            if (error.exit_code() != ExitCode::usage) throw;
            return std::string(error.what());
          }
          spec_ = spec;
          world_ = std::move(world);
          folder_ = std::move(folder);
          return std::string();
        });
    require(shapes.broken.empty(), shapes.broken,
            "an unsupported size should be refused with a dkdm::ConfigError that says which can");
    require(spec_.has_value(),
            "none of the image sizes " + shapes.refused + " is taken: " + shapes.reason,
            "let it take one at its defaults, or give other parameters by --set");
    return "with " + text_of(*spec_) + " images" +
           (shapes.refused.empty() ? "" : "; refused clearly: " + shapes.refused);
  }

  std::string preparation() const {
    const TemporaryFolder folder;
    const World world(*spec_, diffusion_);
    const auto method = make();
    const auto announced = method->preparation_evaluations(diffusion_, kRows);
    method->prepare(context(world, kSeed, kRows), folder.path());
    require(!std::filesystem::is_empty(folder.path()), "prepare() left its folder empty",
            "write what start() reads, or leave Needs::preparation out");
    const auto made = world.network->images;
    // As after a kill at the very end: the folder is there, its manifest is not.
    make()->prepare(context(world, kSeed, kRows), folder.path());
    require_cost("preparation_evaluations()", announced, made);
    return std::to_string(made) + " teacher forwards, announced " + std::to_string(announced) +
           " (an average)";
  }

  static void require_cost(const std::string& function, std::int64_t announced, std::int64_t made) {
    const bool near =
        static_cast<double>(made) <= kCostTolerance * static_cast<double>(announced) &&
        static_cast<double>(announced) <= kCostTolerance * static_cast<double>(made);
    require(near || announced == made,
            function + " announces " + std::to_string(announced) +
                " teacher forwards for a batch of " + std::to_string(kRows) + ", " +
                std::to_string(made) + " were counted",
            "announce what it makes on average: the plan's hours come from it");
  }

  std::string batch() const {
    const auto method = started();
    const auto steps = method->diffusion().num_steps();
    for (const TrainBatch& batch : batches(*method, 0, kSteps)) {
      const auto shape = spec_->batch(kBatch);
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

  // The loss of an output, with the student's features beside it as the loop puts them there.
  static LossTerms loss_of(const Started& method, TrainBatch& batch, const Tensor& output) {
    if (const auto names = method->student_features(); !names.empty()) {
      Features features(*method.student, names);
      method.student->forward(batch.x_t, batch.t);
      batch.features = features.take();
    }
    return method->loss(batch, output);
  }

  std::string loss() const {
    const auto method = started();
    TrainBatch batch = method->next(0);
    double value = 0;
    for (const std::int64_t channels : {2 * spec_->channels, spec_->channels}) {
      const Tensor output =
          noisy_images({channels, spec_->height, spec_->width}, 40, kBatch).requires_grad_();
      const LossTerms terms = loss_of(method, batch, output);
      require(terms.loss.defined() && terms.loss.sizes() == at::IntArrayRef{kBatch},
              "loss is " + text_of(terms.loss) + " for an output " + text_of(output),
              "return one value an example, [" + std::to_string(kBatch) + "]");
      require(terms.mse.defined() && terms.vb.defined(), "loss terms mse and vb are not filled",
              "fill them: they are the training curves");
      require(terms.loss.isfinite().all().item<bool>(), "loss is not finite",
              "look at the steps at both ends of the chain");
      terms.loss.mean().backward();
      const Tensor& grad = output.grad();
      require(grad.defined() && grad.isfinite().all().item<bool>() && grad.ne(0).any().item<bool>(),
              "the student's output gets no gradient, or one that is not finite",
              "let loss() depend on the output without detaching it");
      value = terms.loss.mean().item<double>();
    }
    std::string features;
    for (const std::string& name : method->student_features()) features += " " + name;
    return c10::str(value,
                    " an example, with gradient, for outputs of one and two times the channels",
                    features.empty() ? "" : ", and the student's features" + features);
  }

  std::string trained_part() const {
    const auto method = started(), again = started();
    const auto part = method->trained_part();
    const auto weights = part.network->parameters(),
               same_seed = again->trained_part().network->parameters();
    require(!weights.empty(), "its network has no parameters", "return none, or register them");
    for (std::size_t i = 0; i < weights.size(); ++i)
      require(
          i < same_seed.size() && at::equal(weights[i], same_seed[i]),
          "one seed gave two sets of initial weights",
          "make it in start() and draw from LibTorch's default generator alone, as its layers do");
    TrainBatch batch = method->next(0);
    loss_of(method, batch,
            noisy_images({2 * spec_->channels, spec_->height, spec_->width}, 40, kBatch)
                .requires_grad_())
        .loss.mean()
        .backward();
    for (const auto& entry : part.network->named_parameters())
      if (entry.value().requires_grad())
        require(entry.value().grad().defined(), entry.key() + " gets no gradient from the loss",
                "use it in loss(), or register it with requires_grad = false");
    return std::to_string(weights.size()) + " parameter tensors, trained with the student, " +
           (part.ema ? "averaged" : "not averaged");
  }

  std::string seed() const {
    const auto one = started(), two = started(), three = started(kSeed + 1);
    const auto first = batches(*one, 0, kSteps), again = batches(*two, 0, kSteps);
    const auto other = batches(*three, 0, kSteps);
    bool differs = false;
    for (std::int64_t i = 0; i < kSteps; ++i) {
      require(same(first[i], again[i]),
              "two starts with one seed gave other batches at step " + std::to_string(i),
              "draw by dkdm::Random(seed, stream) alone, keyed by the step");
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
    const TemporaryFolder folder;
    const World world(*spec_, diffusion_);
    if (needs_->preparation) make()->prepare(context(world, kSeed, kRows), folder.path());
    const auto before = world.network->images;
    const auto method = started_at(world, folder.path(), kSeed, kRows);
    batches(*method, 0, kSteps);
    const auto made = world.network->images - before;
    require_cost("training_evaluations()", method->training_evaluations(diffusion_, kRows, kSteps),
                 made);
    return std::to_string(made) + " in " + std::to_string(kSteps) + " steps of " +
           std::to_string(kRows) + ", as announced";
  }

  const Subject& subject_;
  Checklist& list_;
  const DiffusionConfig diffusion_{.schedule = "cosine", .steps = 16, .respacing = ""};
  std::optional<Needs> needs_;
  std::optional<ImageSpec> spec_;            // at which it is checked
  std::unique_ptr<World> world_;             // at that size
  std::unique_ptr<TemporaryFolder> folder_;  // what it prepared there
};

}  // namespace

void check_method(const Subject& subject, Checklist& list) { MethodChecks(subject, list).run(); }

}  // namespace dkdm::conformance
