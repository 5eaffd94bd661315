// FID, sFID and IS in the feature space of a small classifier trained on the dataset's own labels:
// the desk scale's evaluator, needs no download. Its values are not Inception's: the protocol id
// carries this network's name and the hash of its weights.
//
//   FID   Fréchet distance of the last convolution's channels, averaged over space: [features]
//   sFID  Fréchet distance of the first 7 channels of the map before it, flattened (h,w,c): 112
//         numbers of a 4 x 4 map (ADM takes the first 7 channels of Mixed_6d's first branch)
//   IS    of the class probabilities, splits of 5000 consecutive samples, a short last one
//         counted fully, as ADM
#include "classifier_network.hpp"

#include <cmath>
#include <nlohmann/json.hpp>
#include <numbers>
#include <sstream>

#include "dkdm/io.hpp"
#include "dkdm/plugin.hpp"
#include "dkdm/random.hpp"
#include "metrics/frechet.hpp"
#include "metrics/inception_score.hpp"
#include "sample_state.hpp"

namespace {

using namespace dkdm;
using namespace dkdm::classifier;
namespace fs = std::filesystem;

constexpr std::int64_t kLeastSize = 8;  // pixels of an image's side
constexpr std::int64_t kSplit = 5000;
constexpr std::int64_t kBatch = 256;  // features are always computed in batches of this size
constexpr std::int64_t kHeldOutShare = 12;
constexpr const char* kRules = "1";  // changes whenever the same weights give other values

struct FeatureMoments {
  metrics::Moments pooled, spatial;
  void add(const Features& features) {
    pooled.add(features.pooled);
    spatial.add(features.spatial);
  }
};

class Classifier final : public Evaluator {
 public:
  static ParamTable params() {
    return {integer("features", 64, "dimension of the pooled features").between(8, 2048),
            integer("width", 32, "channels of the first layer").between(8, 512),
            integer("epochs", 2, "passes over the labelled images").between(1, 1000),
            integer("batch", 128, "images a training step").between(2, 65536),
            real("lr", 5e-3, "learning rate of Adam at the start; falls to 0 as a cosine")
                .between(0, 1)};
  }

  Classifier(const Params& params, Host& host) : params_(params), host_(host) {}

  void prepare(const Dataset& reference, std::uint64_t seed, const fs::path& dir) override {
    build(reference.spec(), reference.num_classes());
    require(reference.size(), "reference dataset");
    initialise(*network_, seed);
    const std::int64_t held_out = reference.size() / kHeldOutShare;
    const std::int64_t trained = reference.size() - held_out;
    learn(reference, trained, seed);
    const auto [statistics, right] = statistics_of(reference, trained);
    const double accuracy = double(right) / double(held_out);
    std::ostringstream line;
    line.precision(3);
    line << "accuracy " << 100 * accuracy << " % on " << held_out << " images held out of training";
    host_.log("classifier", line.str());

    const auto pooled = statistics.pooled.gaussian(), spatial = statistics.spatial.gaussian();
    io::save_tensors(dir / "weights.safetensors", state_of(*network_));
    io::save_tensors(dir / "reference.safetensors", {{"pooled.mean", pooled.mean},
                                                     {"pooled.covariance", pooled.covariance},
                                                     {"spatial.mean", spatial.mean},
                                                     {"spatial.covariance", spatial.covariance}});
    const nlohmann::ordered_json about = {{"channels", spec_.channels},
                                          {"size", spec_.size},
                                          {"classes", reference.num_classes()},
                                          {"reference_images", reference.size()},
                                          {"reference_fingerprint", reference.fingerprint()},
                                          {"held_out_images", held_out},
                                          {"held_out_accuracy", accuracy}};
    io::write_text(dir / "classifier.json", about.dump(2) + "\n");
  }

  void open(const fs::path& dir) override {
    try {
      const auto about = nlohmann::json::parse(io::read_text(dir / "classifier.json"));
      build({about.at("channels"), about.at("size")}, about.at("classes"));
      fingerprint_ = about.at("reference_fingerprint");
      count_ = about.at("reference_images");
    } catch (const nlohmann::json::exception& e) {
      throw DataError((dir / "classifier.json").string(), e.what());
    }
    load_strictly(*network_, dir / "weights.safetensors");
    network_->eval();
    const fs::path file = dir / "reference.safetensors";
    const auto stored = io::load_tensors(file);
    auto gaussian = [&](const std::string& name, std::int64_t dimension) {
      const auto mean = stored.find(name + ".mean"), covariance = stored.find(name + ".covariance");
      if (mean == stored.end() || covariance == stored.end() ||
          mean->second.sizes() != at::IntArrayRef{dimension} ||
          covariance->second.sizes() != at::IntArrayRef{dimension, dimension})
        throw DataError(file.string(), name + ": expected a mean and covariance of dimension " +
                                           std::to_string(dimension));
      return metrics::Gaussian{mean->second, covariance->second, count_};
    };
    pooled_ = gaussian("pooled", params_.integer("features"));
    spatial_ = gaussian("spatial", spatial_dimension());
    protocol_ = std::string("classifier-") + kRules + "-" +
                io::sha256_file(dir / "weights.safetensors").substr(0, 8);
    reset(0);
  }

  std::string protocol() const override { return protocol_; }
  std::string reference_fingerprint() const override { return fingerprint_; }
  std::int64_t reference_count() const override { return count_; }
  std::int64_t least_samples() const override {
    return 2 * std::max(params_.integer("features"), spatial_dimension());
  }

  void add(const Tensor& images) override {
    if (images.dim() != 4 || images.scalar_type() != at::kByte ||
        images.sizes().slice(1) != at::IntArrayRef{spec_.channels, spec_.size, spec_.size}) {
      std::ostringstream text;
      text << "expected uint8 images [n," << spec_.channels << "," << spec_.size << ","
           << spec_.size << "], got " << images.scalar_type() << " " << images.sizes();
      throw DataError("samples", text.str());
    }
    waiting_ = waiting_.defined() ? at::cat({waiting_, images}) : images.clone();
    for (; waiting_.size(0) >= kBatch; waiting_ = waiting_.slice(0, kBatch))
      take(waiting_.slice(0, 0, kBatch));
  }

  std::vector<Metric> finish() override {
    take_waiting();
    const FeatureMoments samples = std::move(samples_);
    const metrics::InceptionScore score = std::move(score_);
    reset(0);
    if (samples.pooled.count() < 2)
      throw DataError("samples", std::to_string(samples.pooled.count()) +
                                     " images; a covariance needs at least 2");
    return {{"is", score.value().mean, true, ""},
            {"fid", metrics::frechet_distance(samples.pooled.gaussian(), pooled_), false, ""},
            {"sfid", metrics::frechet_distance(samples.spatial.gaussian(), spatial_), false, ""}};
  }

  io::TensorMap state() override {
    io::TensorMap state = {{"protocol", text_tensor(protocol_)}};
    if (waiting_.defined()) state["waiting"] = waiting_.clone();
    put(state, "pooled", samples_.pooled.state());
    put(state, "spatial", samples_.spatial.state());
    if (score_.count() > 0) put(state, "score", score_.state());
    state["next"] = at::scalar_tensor(next_, at::kLong);
    return state;
  }

  void merge(const io::TensorMap& state) override {
    require_protocol(state, protocol_);
    take_waiting();
    merge_part(samples_.pooled, state, "pooled");
    merge_part(samples_.spatial, state, "spatial");
    if (!part(state, "score").empty()) merge_part(score_, state, "score");
    const auto mine = std::exchange(next_, entry(state, "next").item<std::int64_t>());
    if (const auto waiting = state.find("waiting"); waiting != state.end()) add(waiting->second);
    if (next_ >= mine) return;
    take_waiting();
    next_ = mine;
  }

  void reset(std::int64_t first) override {
    samples_ = {};
    score_ = {};
    waiting_ = Tensor();
    next_ = first;
  }

 private:
  void build(const ImageSpec& spec, std::int64_t classes) {
    if (classes < 2)
      throw DataError("evaluator classifier",
                      "the dataset has no labels to learn; take one that has, or another "
                      "evaluator");
    if (spec.size < kLeastSize)
      throw DataError("evaluator classifier", "images of " + std::to_string(spec.size) +
                                                  " pixels a side; expected at least " +
                                                  std::to_string(kLeastSize));
    spec_ = spec;
    network_ = std::make_shared<Network>(spec, params_.integer("width"),
                                         params_.integer("features"), classes);
  }

  void require(std::int64_t count, const std::string& what) const {
    if (count < least_samples())
      throw DataError(what, std::to_string(count) + " images where at least " +
                                std::to_string(least_samples()) +
                                " are needed: twice the dimension of the largest feature, or its "
                                "covariance means nothing");
  }

  std::int64_t spatial_dimension() const {
    const std::int64_t side = Network::map_size(spec_.size);
    return kSpatialChannels * side * side;
  }

  // Adam (Kingma & Ba 2015) on the cross-entropy of the first `count` images.
  void learn(const Dataset& data, std::int64_t count, std::uint64_t seed) {
    network_->train();
    const Random order(seed, Stream::evaluator);
    const std::int64_t batch = std::min(params_.integer("batch"), count), per_epoch = count / batch;
    const std::int64_t steps = params_.integer("epochs") * per_epoch;
    const auto parameters = network_->parameters();
    std::vector<Tensor> values, gradients(parameters.size()), mean, square, step_count;
    for (const auto& parameter : parameters) {
      values.push_back(parameter.detach());
      mean.push_back(at::zeros_like(values.back()));
      square.push_back(at::zeros_like(values.back()));
      step_count.push_back(at::zeros({}, at::kFloat));
    }
    Tensor permutation;
    for (std::int64_t step = 0; step < steps; ++step) {
      host_.progress("classifier steps", step, steps);
      if (step % per_epoch == 0)
        permutation = order.choice(static_cast<std::uint32_t>(step / per_epoch), count, count);
      const Tensor index = permutation.narrow(0, step % per_epoch * batch, batch);
      at::cross_entropy_loss(network_->logits(data.images(index)), data.labels(index)).backward();
      for (std::size_t i = 0; i < parameters.size(); ++i) gradients[i] = parameters[i].grad();
      for (auto& steps_done : step_count) steps_done.fill_(double(step + 1));
      const double done = double(step) / double(steps);
      const double lr = params_.real("lr") * 0.5 * (1 + std::cos(std::numbers::pi * done));
      at::NoGradGuard no_grad;
      at::_fused_adam_(values, gradients, mean, square, {}, step_count, lr, 0.9, 0.999,
                       /*weight_decay=*/0, 1e-8, /*amsgrad=*/false, /*maximize=*/false);
      for (const auto& parameter : parameters) parameter.mutable_grad().reset();
    }
    host_.progress("classifier steps", steps, steps);
  }

  struct Measured {
    FeatureMoments statistics;   // of all images
    std::int64_t right = 0;  // of the images from `held_out` on, classified rightly
  };
  Measured statistics_of(const Dataset& data, std::int64_t held_out) {
    network_->eval();
    Measured measured;
    for (std::int64_t first = 0; first < data.size(); first += kBatch) {
      host_.progress("reference images", first, data.size());
      const Tensor index = at::arange(first, std::min(first + kBatch, data.size()), at::kLong);
      const Features features = network_->features(data.images(index));
      measured.statistics.add(features);
      const Tensor right = features.probabilities.argmax(1).eq(data.labels(index));
      measured.right += right.logical_and(index.ge(held_out)).sum().item<std::int64_t>();
    }
    host_.progress("reference images", data.size(), data.size());
    return measured;
  }

  void take(const Tensor& images) {
    const Features features = network_->features(images);
    samples_.add(features);
    score_.add(features.probabilities,
               metrics::consecutive_splits(next_, images.size(0), kSplit));
    next_ += images.size(0);
  }

  void take_waiting() {
    if (waiting_.defined() && waiting_.size(0) > 0) take(waiting_);
    waiting_ = Tensor();
  }

  Params params_;
  Host& host_;
  ImageSpec spec_;
  std::shared_ptr<Network> network_;
  std::string protocol_, fingerprint_;
  std::int64_t count_ = 0;  // images of the reference
  metrics::Gaussian pooled_, spatial_;  // of the reference
  FeatureMoments samples_;
  metrics::InceptionScore score_;
  std::int64_t next_ = 0;                        // number of the next sample
  Tensor waiting_;  // images not yet a batch
};

}  // namespace

DKDM_EVALUATOR("classifier", "2", "FID, sFID, IS in the features of a classifier of the dataset",
               Classifier)
