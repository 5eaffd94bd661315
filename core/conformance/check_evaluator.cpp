// What an evaluator promises (dkdm/evaluator.hpp), on fake images.
#include <ATen/ATen.h>

#include <cmath>
#include <optional>

#include "conformance/check_support.hpp"

namespace dkdm::conformance {
namespace {

using at::Tensor;
using Metrics = std::vector<Metric>;

constexpr std::uint64_t kSeed = 1;
constexpr ImageSpec kSpecs[] = {
    {1, 16, 16}, {3, 32, 32}, {1, 28, 28}, {3, 64, 64}};  // the first that it takes is used
constexpr std::int64_t kMostImages =
    512;  // of reference and samples: features of more take too long

constexpr const char* kThrew =
    "let it work for any uint8 images [n,C,H,W] of the reference's shape";

class EvaluatorChecks {
 public:
  EvaluatorChecks(const Subject& subject, Checklist& list)
      : subject_(subject), list_(list), images_(image_count(subject)) {}

  // What the others build on comes first: whether it can be prepared, whether it is a function.
  void run() {
    if (!list_.run("preparation", [&] { return preparation(); }) && !spec_) {
      for (const char* name : {"afresh", "metrics", "batches", "state", "shards", "protocol",
                               "too few samples", "wrong images"})
        list_.skip(name, "it cannot be prepared");
      return;
    }
    check("afresh", &EvaluatorChecks::afresh);
    check("metrics", &EvaluatorChecks::metrics);
    check("batches", &EvaluatorChecks::batches);
    check("state", &EvaluatorChecks::state);
    check("shards", &EvaluatorChecks::shards);
    check("protocol", &EvaluatorChecks::protocol);
    check("too few samples", &EvaluatorChecks::too_few_samples);
    check("wrong images", &EvaluatorChecks::wrong_images);
  }

 private:
  void check(const char* name, std::string (EvaluatorChecks::*body)() const) {
    list_.run(name, [&] {
      return located("with " + text_of(*spec_) + " images: ", kThrew,
                     [&] { return (this->*body)(); });
    });
  }

  static std::int64_t image_count(const Subject& subject) {
    const auto least = subject.registry.evaluator(subject.choice(), subject.host)->min_samples();
    return std::clamp<std::int64_t>(least, 64, kMostImages);
  }

  std::shared_ptr<Evaluator> make() const {
    return subject_.registry.evaluator(subject_.choice(), subject_.host);
  }
  std::shared_ptr<Evaluator> opened() const {
    auto evaluator = make();
    evaluator->open(folder_->path());
    return evaluator;
  }

  // Other images than the reference's.
  Tensor samples() const {
    return other_->images(at::arange(images_, at::kLong).flip(0) * 3 + 7).bitwise_xor(16);
  }

  // `size` images at a time; a batch of one now and then.
  Metrics measured(Evaluator& evaluator, std::int64_t size) const {
    const Tensor all = samples();
    for (std::int64_t at = 0, turn = 0; at < images_; ++turn) {
      const auto n = std::min(turn % 3 == 2 ? 1 : size, images_ - at);
      evaluator.add(all.narrow(0, at, n));
      at += n;
    }
    return evaluator.finish();
  }

  static void require_equal(const Metrics& a, const Metrics& b, const std::string& what,
                            const std::string& remedy) {
    require(a.size() == b.size(),
            what + ": there are " + std::to_string(b.size()) + " metrics for " +
                std::to_string(a.size()),
            remedy);
    for (std::size_t i = 0; i < a.size(); ++i) {
      const double tolerance = 1e-6 * (1 + std::abs(a[i].value));
      const bool equal = std::abs(a[i].value - b[i].value) <= tolerance ||
                         (std::isnan(a[i].value) && std::isnan(b[i].value));
      require(equal && a[i].name == b[i].name,
              c10::str(what, ": ", b[i].name, " is ", b[i].value, ", it was ", a[i].value), remedy);
    }
  }

  // At the first image size that it takes.
  std::string preparation() {
    const Shapes shapes =
        taken_shapes({std::begin(kSpecs), std::end(kSpecs)}, [&](const ImageSpec& spec) {
          if (spec_) return std::string();  // one is enough
          const FakeImages reference(images_, spec);
          auto folder = std::make_unique<TemporaryFolder>();
          try {
            located("", kThrew, [&] {
              make()->prepare(reference, kSeed, folder->path());
              make()->open(folder->path());
              return std::string();
            });
          } catch (const Error& error) {
            if (error.exit_code() != ExitCode::usage) throw;
            return std::string(error.what());
          }
          folder_ = std::move(folder);
          reference_.emplace(images_, spec);
          other_.emplace(3 * images_ + 8, spec);
          spec_ = spec;
          return std::string();
        });
    require(shapes.broken.empty(), shapes.broken,
            "an unsupported size should be refused with a dkdm::ConfigError that says which can");
    require(spec_.has_value(),
            "none of the image sizes " + shapes.refused + " is taken: " + shapes.reason,
            "let it take one at its defaults, or give other parameters by --set");
    return "of " + std::to_string(images_) + " reference images of " + text_of(*spec_) +
           ", and opened again";
  }

  std::string protocol() const {
    const auto evaluator = opened();
    const std::string protocol = evaluator->protocol();
    require(!protocol.empty(), "protocol() is empty",
            "name the feature network with its hash, the preprocessing and the rules");
    const bool has_reference = evaluator->reference_count() != 0;
    require(evaluator->reference_count() >= 0, "reference_count() is negative", "0 means unknown");
    require(!has_reference || !evaluator->reference_fingerprint().empty(),
            "reference_fingerprint() is empty for a reference of " +
                std::to_string(evaluator->reference_count()) + " images",
            "keep the reference dataset's fingerprint in prepare()");
    require(protocol == opened()->protocol() &&
                evaluator->reference_fingerprint() == opened()->reference_fingerprint(),
            "opened twice, protocol or reference changed",
            "let them depend on what was prepared alone");
    return protocol +
           (has_reference ? ", reference " + evaluator->reference_fingerprint() : ", no reference");
  }

  std::string metrics() const {
    const auto evaluator = opened();
    const Metrics found = measured(*evaluator, images_);
    require(!found.empty(), "finish() gave no metric", "return at least one");
    std::string text;
    for (const Metric& metric : found) {
      require(!metric.name.empty(), "a metric has no name", "give it one, small letters");
      for (const Metric& other : found)
        require(&other == &metric || other.name != metric.name, metric.name + " is there twice",
                "give every metric its own name");
      require(std::isfinite(metric.value), metric.name + " is not finite",
              "give a value for every set of at least min_samples() images");
      text += c10::str(text.empty() ? "" : ", ", metric.name, " ", metric.value);
    }
    return text;
  }

  std::string batches() const {
    const auto evaluator = opened();
    const Metrics whole = measured(*opened(), images_);
    for (const std::int64_t size : {7, 50})
      require_equal(
          whole, measured(*opened(), size),
          "in batches of " + std::to_string(size) + " instead of one",
          "compute features in batches of a size of your own, and keep the samples' order");
    return "the same values for one batch, and for batches of 7, 50 and single images";
  }

  std::string afresh() const {
    const auto evaluator = opened();
    evaluator->add(reference_->images(at::arange(images_, at::kLong)));
    evaluator->finish();
    require_equal(measured(*opened(), images_), measured(*evaluator, images_),
                  "measured after another set", "forget everything in finish()");
    return "finish() forgets what was added";
  }

  // The first images through one evaluator, its state through another, the rest there.
  std::string state() const {
    const auto first = opened(), second = opened();
    const Tensor all = samples();
    const std::int64_t half = images_ / 2 + 3;
    first->add(all.narrow(0, 0, half));
    const io::TensorMap kept = first->state();
    second->add(all.narrow(0, 0, 5));  // to be forgotten
    second->restore(kept);
    for (const auto& evaluator : {first, second})
      evaluator->add(all.narrow(0, half, images_ - half));
    const Metrics whole = measured(*opened(), images_);
    require_equal(whole, first->finish(), "with state() asked for half-way",
                  "let state() leave what was added as it is");
    require_equal(whole, second->finish(), "restored half-way in another evaluator",
                  "put all that finish() depends on into state(), in tensors of its own");
    return "restored half-way it goes on to the same values";
  }

  std::string shards() const {
    const auto first = opened(), second = opened();
    const Tensor all = samples();
    const std::int64_t half = images_ / 2;
    first->add(all.narrow(0, 0, half));
    second->reset(half);
    second->add(all.narrow(0, half, images_ - half));
    first->merge(second->state());
    require_equal(
        measured(*opened(), images_), first->finish(), "merged from two shards",
        "add sums and counts in merge(), and order by the samples' numbers what needs an order");
    bool refused = false;
    try {
      opened()->merge({{"nothing", at::zeros({1})}});
    } catch (const std::exception&) {
      refused = true;
    }
    require(refused, "merge() took a state that is none", "throw a dkdm::DataError");
    return "two shards merge into the whole";
  }

  std::string too_few_samples() const {
    const auto evaluator = opened();
    const auto least = evaluator->min_samples();
    require(least >= 0, "min_samples() is negative", "0 means that any number will do");
    if (least == 0) return "any number will do";
    try {
      evaluator->finish();
    } catch (const Error&) {
      return "none at all is refused; from " + std::to_string(least) +
             " on a value means something";
    }
    fail("finish() gave values for no sample at all, min_samples() is " + std::to_string(least),
         "throw a dkdm::DataError that says how many it needs");
  }

  std::string wrong_images() const {
    const auto evaluator = opened();
    try {
      evaluator->add(at::zeros({2, spec_->channels, spec_->height}, at::kByte));
      evaluator->finish();
    } catch (const std::exception&) {
      return "an array that is no images is refused";
    }
    fail("add() took " + c10::str("uint8 [2, ", spec_->channels, ", ", spec_->height, "]") +
             ", which are no images",
         "throw a dkdm::DataError for anything "
         "but uint8 [n,C,H,W]");
  }

  const Subject& subject_;
  Checklist& list_;
  const std::int64_t images_;
  std::optional<ImageSpec> spec_;  // at which it is checked
  std::optional<FakeImages> reference_, other_;
  std::unique_ptr<TemporaryFolder> folder_;  // of what was prepared
};

}  // namespace

void check_evaluator(const Subject& subject, Checklist& list) {
  EvaluatorChecks(subject, list).run();
}

}  // namespace dkdm::conformance
