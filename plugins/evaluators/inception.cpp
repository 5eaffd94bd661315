// FID, sFID, IS, precision and recall in the features of Inception-v3 (2015-12-05), by the rules of
// a published evaluator: resize, scale and splits differ between them (metrics/preprocess.hpp).
//
//   FID, sFID          Fréchet distances of pool_3 and of the first seven channels of mixed_6/conv
//   IS                 of the logits without bias; 5000 consecutive samples a split, or
//                      torch-fidelity's ten shuffled ones
//   precision, recall  of pool_3, k nearest neighbours (Kynkäänniemi et al. 2019)
//   fid_inf            FID extrapolated to infinitely many samples (Chong & Forsyth 2020)
#include <ATen/ATen.h>

#include <optional>
#include <sstream>
#include <tuple>

#include "dkdm/ahead.hpp"
#include "dkdm/announced.hpp"
#include "dkdm/device.hpp"
#include "dkdm/documents.hpp"
#include "dkdm/files.hpp"
#include "dkdm/io.hpp"
#include "dkdm/json.hpp"
#include "dkdm/plugin.hpp"
#include "inception_metrics.hpp"
#include "inception_protocol.hpp"
#include "one_behind.hpp"
#include "sample_state.hpp"

namespace {

using namespace dkdm;
using metrics::Inception;
namespace fs = std::filesystem;
using at::Tensor;

constexpr const char* kRules = "1";  // changes whenever the same weights give other values
constexpr std::int64_t kNeighbours = 3, kManifoldImages = 10'000;
constexpr std::size_t kBatchesAhead = 2;
constexpr const char* kAbout = "inception.json";
constexpr const char* kReference = "reference.safetensors";

class InceptionEvaluator final : public Evaluator {
 public:
  static ParamTable params() {
    return {
        text("weights", "",
             "file of FID's Inception weights; empty = $DKDM_INCEPTION_WEIGHTS, else "
             "looked for in weights/ of the store"),
        text("protocol", "adm", "whose rules of resize, scale and splits")
            .one_of(evaluators::protocols()),
        texts("metrics", {},
              "what to compute; empty = all that the protocol's evaluator does: adm fid, sfid, is, "
              "precision, recall; torch-fidelity fid, is; the others fid; and fid_inf with each"),
        integer("k", kNeighbours, "neighbours of precision and recall").between(1, 100),
        integer("manifold_images", kManifoldImages,
                "images of the reference, evenly spaced, that precision and recall see; 0 = all")
            .between(0, 100'000'000),
        integer("bootstrap", 0, "resamples for a 95 % interval of fid (fid_low, fid_high); 0 = off")
            .between(0, 100'000),
        integer("batch", 50, "images through the network at a time").between(1, 4096)};
  }

  static void announce(const Params& params, Announced& announced) {
    const auto file = evaluators::look_for_inception_weights(params.text("weights"));
    if (file.path.empty()) announced.absent.push_back(file.absent);
  }

  InceptionEvaluator(const Params& params, Host& host)
      : params_(params), host_(host), rule_(evaluators::preprocessing(params.text("protocol"))),
        rules_{evaluators::metrics_under(params.text("protocol"), params.texts("metrics")),
               params.text("protocol") == "torch-fidelity", params.integer("k"),
               params.integer("bootstrap")} {}

  std::int64_t min_samples() const override { return 2 * Inception::kPooled; }
  std::vector<std::string> metrics() const override { return rules_.names; }

  std::string identity() const override {
    return "protocol = " + params_.text("protocol") + "\nrules = " + kRules + "\nweights = " +
           io::sha256_file(evaluators::find_inception_weights(params_.text("weights"))) +
           "\nmanifold_images = " + std::to_string(params_.integer("manifold_images")) + "\n";
  }

  void prepare(const Dataset& reference, std::uint64_t, const fs::path& dir) override {
    need_network();
    if (reference.size() < 2)
      throw DataError("reference",
                      std::to_string(reference.size()) + " images; a covariance needs at least 2");
    metrics::Moments pooled, spatial;
    std::vector<Tensor> features;
    const Tensor chosen = manifold_choice(reference.size());
    each_batch(reference, at::arange(reference.size()), "reference images",
               [&](const metrics::InceptionFeatures& batch, const Tensor& index) {
                 pooled.add(batch.pooled);
                 spatial.add(batch.spatial);
                 features.push_back(batch.pooled.index({at::isin(index, chosen)}));
               });
    const auto pool = pooled.gaussian(), space = spatial.gaussian();
    save(dir,
         {{"mu", pool.mean},
          {"sigma", pool.covariance},
          {"mu_s", space.mean},
          {"sigma_s", space.covariance},
          {"features", at::cat(features)}},
         reference.fingerprint(), reference.size(), reference.spec());
  }

  void prepare_from_statistics(const Statistics& statistics, const Dataset* images,
                               const fs::path& dir) override {
    need_network();
    if (!statistics.protocol.empty() && !statistics.protocol.starts_with(features_id()))
      throw DataError("reference", "its statistics are of protocol " + statistics.protocol +
                                       ", this evaluation is of " + features_id() +
                                       "; the two do not compare");
    io::TensorMap arrays = statistics.arrays;
    if (images && images->size() > 0) {
      std::vector<Tensor> features;
      each_batch(*images, manifold_choice(images->size()), "reference images",
                 [&](const metrics::InceptionFeatures& batch, const Tensor&) {
                   features.push_back(batch.pooled);
                 });
      arrays["features"] = at::cat(features);
    }
    const ImageSpec spec = statistics.spec.height == 0 && images ? images->spec() : statistics.spec;
    save(dir, arrays, statistics.fingerprint, statistics.count, spec);
  }

  void open(const fs::path& dir) override {
    need_network();
    try {
      const auto about = nlohmann::json::parse(io::read_document(dir / kAbout));
      if (about.at("features") != features_id())
        throw DataError((dir / kAbout).string(), "of features " + about.at("features").dump() +
                                                     ", expected " + features_id());
      io::read_field(about, "fingerprint", fingerprint_);
      io::read_field(about, "images", count_);
      std::tie(height_, width_) = io::read_sides(about);
    } catch (const nlohmann::json::exception& e) {
      throw DataError((dir / kAbout).string(), e.what());
    }
    reference_ = io::load_tensors(dir / kReference);
    say_what_is_missing();
    reset(0);
  }

  std::string protocol() const override {
    std::string id = features_id();
    // What is not as usual shows.
    if (params_.integer("k") != kNeighbours) id += "-k" + std::to_string(params_.integer("k"));
    if (params_.integer("manifold_images") != kManifoldImages)
      id += "-m" + std::to_string(params_.integer("manifold_images"));
    return id;
  }
  std::string reference_fingerprint() const override { return fingerprint_; }
  std::int64_t reference_count() const override { return count_; }

  io::TensorMap reference_statistics() const override {
    io::TensorMap arrays = reference_;
    arrays.erase("features");
    return arrays;
  }

  void add(const Tensor& images) override {
    if (images.dim() != 4 || images.scalar_type() != at::kByte ||
        (images.size(1) != 1 && images.size(1) != 3)) {
      std::ostringstream text;
      text << "expected uint8 images [n,1 or 3,H,W], got " << images.scalar_type() << " "
           << images.sizes();
      throw DataError("samples", text.str());
    }
    if (height_ == 0) std::tie(height_, width_) = std::pair(images.size(2), images.size(3));
    if (images.size(2) != height_ || images.size(3) != width_)
      throw DataError("samples", "images of " + std::to_string(images.size(2)) + " x " +
                                     std::to_string(images.size(3)) +
                                     " pixels where the reference's have " +
                                     std::to_string(height_) + " x " + std::to_string(width_));
    const Tensor rgb = images.to(at::kCPU).expand({-1, 3, -1, -1});
    waiting_ = waiting_.defined() ? at::cat({waiting_, rgb}) : rgb.clone();
    const auto batch = params_.integer("batch");
    for (; waiting_.size(0) >= batch; waiting_ = waiting_.slice(0, batch))
      push(waiting_.slice(0, 0, batch).clone());
  }

  std::vector<Metric> finish() override {
    take_waiting();
    const evaluators::Passed passed = std::move(passed_);
    reset(0);
    if (passed.pooled.count() < 2)
      throw DataError("samples", std::to_string(passed.pooled.count()) +
                                     " images; a covariance needs at least 2");
    try {
      return evaluators::metrics_of(passed, reference_, count_, rules_, host_);
    } catch (const std::invalid_argument& error) {
      throw DataError("samples", error.what());
    }
  }

  io::TensorMap state() override {
    take_outstanding(0);
    io::TensorMap state = {{"protocol", text_tensor(protocol())},
                           {"next", at::scalar_tensor(next_, at::kLong)}};
    if (waiting_.defined()) state["waiting"] = waiting_.clone();
    put(state, "pooled", passed_.pooled.state());
    put(state, "spatial", passed_.spatial.state());
    if (passed_.score.count() > 0) put(state, "score", passed_.score.state());
    for (const auto& [name, list] : passed_.lists())
      if (!list->empty()) state[name] = at::cat(*list);
    return state;
  }

  void merge(const io::TensorMap& state) override {
    require_protocol(state, protocol());
    take_waiting();
    merge_part(passed_.pooled, state, "pooled");
    merge_part(passed_.spatial, state, "spatial");
    if (!part(state, "score").empty()) merge_part(passed_.score, state, "score");
    for (const auto& [name, list] : passed_.lists())
      if (const auto found = state.find(name); found != state.end()) list->push_back(found->second);
    const auto take_in = [this](const Tensor& images) {
      add(images);
      take_outstanding(0);
    };
    merge_waiting(state, next_, take_in, [this] { take_waiting(); });
  }

  void reset(std::int64_t first) override {
    ahead_.clear();
    behind_.clear();
    passed_ = {};
    waiting_ = Tensor();
    next_ = first;
  }

 private:
  // Network and preprocessing. Only the published weights go by the protocol's plain name.
  std::string features_id() const {
    const std::string id = params_.text("protocol") + "-" + kRules;
    const auto& weights = network().weights;
    return weights.published ? id + "-" + weights.sha256.substr(0, 8)
                             : "unpublished-" + weights.content.substr(0, 8) + "-" + id;
  }

  struct Loaded {
    evaluators::InceptionWeights weights;
    std::optional<Inception> network;
  };

  // Read when first needed: a plan asks an evaluator for less.
  const Loaded& network() const {
    if (loaded_) return *loaded_;
    const auto file = evaluators::find_inception_weights(params_.text("weights"));
    auto loaded = std::make_shared<Loaded>();
    loaded->weights = evaluators::load_inception_weights(file);
    try {
      loaded->network.emplace(loaded->weights.state, host_.device());
    } catch (const std::invalid_argument& error) {
      throw DataError(file.string(), error.what());
    }
    loaded->weights.state.clear();  // the network has its own
    loaded_ = loaded;
    return *loaded_;
  }
  void need_network() const { network(); }

  Tensor manifold_choice(std::int64_t images) const {
    const auto most = params_.integer("manifold_images");
    const auto count = most == 0 ? images : std::min(most, images);
    return at::arange(count, at::kLong) * images / count;
  }

  // What the other thread makes of images for the network: resized, and where an accelerator can
  // fetch it.
  Tensor prepared(const Tensor& images) const {
    const Tensor resized = metrics::preprocess(images, rule_);
    return host_.device().is_cpu() ? resized : resized.pin_memory();
  }

  // Sends a batch through the network; `take` gets its features on the CPU when `behind` has them.
  template <class Take>
  void look_at(const Tensor& prepared, evaluators::OneBehind& behind, const Take& take) const {
    const at::NoGradGuard no_grad;
    const auto features = (*network().network)(sent_to(prepared, host_.device()));
    behind.push({features.pooled, features.spatial, features.logits},
                [take](const std::vector<Tensor>& all) {
                  const at::NoGradGuard no_grad;
                  take(metrics::InceptionFeatures{all[0], all[1], all[2]});
                });
  }

  // Reading and resizing go on in the other thread.
  template <class Take>
  void each_batch(const Dataset& images, const Tensor& index, const std::string& unit,
                  const Take& take) {
    const auto parts = index.split(params_.integer("batch"));
    ahead_.clear();
    evaluators::OneBehind behind;
    // Whatever ends this, nothing reads `images` afterwards.
    const ClearAtEnd cleared{ahead_};
    std::int64_t done = 0;
    for (std::size_t i = 0, taken = 0; taken < parts.size();) {
      for (; i < parts.size() && ahead_.outstanding() <= kBatchesAhead; ++i)
        ahead_.push([this, &images, part = parts[i]] { return prepared(images.images(part)); });
      host_.progress(unit, done, index.size(0));
      look_at(ahead_.take(), behind,
              [&take, part = parts[taken]](const metrics::InceptionFeatures& batch) {
                take(batch, part);
              });
      done += parts[taken++].size(0);
    }
    behind.finish();
    host_.progress(unit, done, index.size(0));
  }

  void save(const fs::path& dir, const io::TensorMap& arrays, const std::string& fingerprint,
            std::int64_t count, const ImageSpec& spec) const {
    io::save_tensors(dir / kReference, arrays);
    const auto features = arrays.find("features");
    const nlohmann::ordered_json about = {
        {"features", features_id()},
        {"fingerprint", fingerprint},
        {"images", count},
        {"channels", spec.channels},
        {"height", spec.height},
        {"width", spec.width},
        {"manifold_images", features == arrays.end() ? 0 : features->second.size(0)}};
    io::write_text(dir / kAbout, about.dump(2) + "\n");
  }

  void say_what_is_missing() {
    if (rules_.wants("sfid") && !reference_.contains("mu_s"))
      host_.log("inception", "the reference has no mu_s and sigma_s: no sfid");
    if (rules_.wants_manifold() && !reference_.contains("features"))
      host_.log("inception", "the reference has no images: no precision and recall");
  }

  void push(const Tensor& images) {
    ahead_.push([this, images] { return prepared(images); });
    take_outstanding(kBatchesAhead);
  }

  // Sends what is resized through the network, until no more than `most` are left; 0 = and takes
  // all that it gives.
  void take_outstanding(std::size_t most) {
    while (ahead_.outstanding() > most)
      look_at(ahead_.take(), behind_,
              [this](const metrics::InceptionFeatures& features) { take(features); });
    if (most == 0) behind_.finish();
  }

  void take(const metrics::InceptionFeatures& features) {
    const auto count = features.pooled.size(0);
    passed_.pooled.add(features.pooled);
    if (rules_.wants("sfid")) passed_.spatial.add(features.spatial);
    if (rules_.needs_features(reference_)) passed_.features.push_back(features.pooled);
    if (rules_.wants("is") && rules_.shuffled) {
      passed_.logits.push_back(features.logits);
      passed_.numbers.push_back(at::arange(next_, next_ + count, at::kLong));
    } else if (rules_.wants("is")) {
      passed_.score.add(at::softmax(features.logits.to(at::kDouble), 1),
                        metrics::consecutive_splits(next_, count, evaluators::kSplit));
    }
    next_ += count;
  }

  void take_waiting() {
    if (waiting_.defined() && waiting_.size(0) > 0) push(waiting_);
    waiting_ = Tensor();
    take_outstanding(0);
  }

  Params params_;
  Host& host_;
  const metrics::Preprocessing rule_;
  const evaluators::MetricRules rules_;
  mutable std::shared_ptr<const Loaded> loaded_;
  io::TensorMap reference_;  // mu, sigma, mu_s, sigma_s, features
  std::string fingerprint_;
  std::int64_t count_ = 0, height_ = 0,
               width_ = 0;  // images of the reference (0 = unknown), their sides
  evaluators::Passed passed_;
  Tensor waiting_;         // images not yet a batch
  std::int64_t next_ = 0;  // number of the next sample whose features are taken
  evaluators::OneBehind behind_;
  Ahead ahead_;
};

}  // namespace

DKDM_EVALUATOR("inception", "2",
               "FID, sFID, IS, precision, recall in Inception features, as published",
               InceptionEvaluator)
