// FID, sFID and IS in the feature space of a small classifier trained on the dataset's own labels: the
// desk scale's evaluator, needs no download. Its values are not Inception's: the protocol id carries
// this network's name and the hash of its weights.
//
//   FID   Fréchet distance of the pooled features of the last convolution ([N, features])
//   sFID  Fréchet distance of that map's first 7 channels, flattened (h, w, c), 4 x 4 x 7 = 112: as ADM
//         takes the first 7 channels of a spatial layer
//   IS    exp of the mean KL of the class probabilities to their marginal, over the whole set
#include <torch/nn/modules/conv.h>
#include <torch/nn/modules/linear.h>

#include <nlohmann/json.hpp>

#include "dkdm/io.hpp"
#include "dkdm/plugin.hpp"
#include "dkdm/random.hpp"
#include "metrics/frechet.hpp"
#include "metrics/inception_score.hpp"

namespace {

using namespace dkdm;
using at::Tensor;
namespace fs = std::filesystem;
namespace tnn = torch::nn;

constexpr std::int64_t kMapSize = 4;          // pixels of the last map's side
constexpr std::int64_t kSpatialChannels = 7;  // of it that sFID sees
constexpr std::int64_t kBatch = 256;          // features are always computed in batches of this size
constexpr const char* kRules = "1";           // changes whenever the same weights give other values

struct Features {
  Tensor pooled, spatial, probabilities;  // [n,features], [n,112], [n,classes]
};

// 3x3 convolutions, stride 2 until the map is 4 x 4, mean, linear.
class Network final : public tnn::Module {
 public:
  Network(const ImageSpec& spec, std::int64_t width, std::int64_t features, std::int64_t classes) {
    std::int64_t in = spec.channels, out = width;
    for (std::int64_t size = spec.size; size > kMapSize; size /= 2) {
      add(in, out, 1);
      add(out, 2 * width, 2);
      in = out = 2 * width;
    }
    add(in, features, 1);
    head_ = register_module("head", tnn::Linear(features, classes));
  }

  // x [n,C,S,S] in [-1,1] -> [n,features,4,4].
  Tensor map(Tensor x) {
    x = x.contiguous(at::MemoryFormat::ChannelsLast);
    for (auto& layer : layers_) x = at::relu(layer->forward(x));
    return x;
  }
  Tensor logits(const Tensor& map) { return head_->forward(map.mean({2, 3})); }

  Features features(const Tensor& images) {
    at::NoGradGuard no_grad;
    const auto last = map(to_unit_range(images));
    const auto spatial = last.slice(1, 0, kSpatialChannels).permute({0, 2, 3, 1}).flatten(1);
    return {last.mean({2, 3}), spatial, at::softmax(logits(last).to(at::kDouble), 1)};
  }

 private:
  void add(std::int64_t in, std::int64_t out, std::int64_t stride) {
    layers_.push_back(register_module(
        "conv" + std::to_string(layers_.size()),
        tnn::Conv2d(tnn::Conv2dOptions(in, out, 3).stride(stride).padding(1))));
  }

  std::vector<tnn::Conv2d> layers_;
  tnn::Linear head_{nullptr};
};

// He et al. 2015 from the run's own random numbers, so that the default generator plays no part.
void initialise(Network& network, std::uint64_t seed) {
  at::NoGradGuard no_grad;
  const Random random(seed, Stream::initialise);
  std::uint32_t number = 0;
  for (auto& parameter : network.parameters()) {
    if (parameter.dim() == 1) parameter.zero_();
    else
      parameter.copy_(random.normal(number, 0, 1, parameter.sizes()).squeeze(0) *
                      std::sqrt(2.0 / double(parameter[0].numel())));
    ++number;
  }
}

struct Reference {
  metrics::Moments pooled, spatial;
};

std::map<std::string, Tensor> named(const Network& network) {
  std::map<std::string, Tensor> tensors;
  for (const auto& entry : network.named_parameters()) tensors[entry.key()] = entry.value().detach();
  return tensors;
}

class Classifier final : public Evaluator {
 public:
  static ParamTable params() {
    return {integer("features", 64, "dimension of the pooled features").between(8, 2048),
            integer("width", 32, "channels of the first layer").between(4, 512),
            integer("epochs", 2, "passes over the labelled images").between(1, 1000),
            integer("batch", 128, "images a training step").at_least(1),
            real("lr", 2e-3, "learning rate of Adam, to zero by a cosine").at_least(0)};
  }

  Classifier(const Params& params, Host& host) : params_(params), host_(host) {}

  void prepare(const Dataset& reference, std::uint64_t seed, const fs::path& dir) override {
    check(reference);
    build(reference.spec(), reference.num_classes());
    initialise(*network_, seed);
    const auto held_out = reference.size() / 12;  // measures accuracy, trains nothing
    learn(reference, reference.size() - held_out, seed);
    const double accuracy = measure_accuracy(reference, reference.size() - held_out);
    char percent[16];
    std::snprintf(percent, sizeof percent, "%.1f %%", 100 * accuracy);
    host_.log("classifier", std::string("accuracy ") + percent + " on " +
                                std::to_string(held_out) + " images held out");

    const auto moments = reference_moments(reference);
    const auto pooled = moments.pooled.gaussian(), spatial = moments.spatial.gaussian();
    io::save_tensors(dir / "weights.safetensors", named(*network_));
    io::save_tensors(dir / "reference.safetensors", {{"pooled.mean", pooled.mean},
                                                     {"pooled.covariance", pooled.covariance},
                                                     {"spatial.mean", spatial.mean},
                                                     {"spatial.covariance", spatial.covariance}});
    const nlohmann::ordered_json about = {{"channels", reference.spec().channels},
                                          {"size", reference.spec().size},
                                          {"classes", reference.num_classes()},
                                          {"reference_images", reference.size()},
                                          {"reference_fingerprint", reference.fingerprint()},
                                          {"held_out_images", held_out},
                                          {"held_out_accuracy", accuracy}};
    io::write_text(dir / "classifier.json", about.dump(2) + "\n");
  }

  void open(const fs::path& dir) override {
    const auto about = nlohmann::json::parse(io::read_text(dir / "classifier.json"));
    build({about.at("channels"), about.at("size")}, about.at("classes"));
    fingerprint_ = about.at("reference_fingerprint");
    const auto weights = io::load_tensors(dir / "weights.safetensors");
    at::NoGradGuard no_grad;
    for (auto& [name, tensor] : named(*network_)) tensor.copy_(weights.at(name));
    const auto reference = io::load_tensors(dir / "reference.safetensors");
    const auto count = about.at("reference_images").get<std::int64_t>();
    pooled_ = {reference.at("pooled.mean"), reference.at("pooled.covariance"), count};
    spatial_ = {reference.at("spatial.mean"), reference.at("spatial.covariance"), count};
    protocol_ = std::string("classifier-") + kRules + "-" +
                io::sha256_file(dir / "weights.safetensors").substr(0, 8);
    reset();
  }

  std::string protocol() const override { return protocol_; }
  std::string reference_fingerprint() const override { return fingerprint_; }
  std::int64_t least_samples() const override {
    return 2 * std::max(params_.integer("features"), kMapSize * kMapSize * kSpatialChannels);
  }

  void add(const Tensor& images) override {
    if (images.dim() != 4 || images.scalar_type() != at::kByte || images.size(1) != spec_.channels ||
        images.size(2) != spec_.size || images.size(3) != spec_.size) {
      std::ostringstream text;
      text << "expected uint8 images [n," << spec_.channels << "," << spec_.size << "," << spec_.size
           << "], got " << images.scalar_type() << " " << images.sizes();
      throw DataError("samples", text.str());
    }
    waiting_ = waiting_.defined() ? at::cat({waiting_, images}) : images;
    while (waiting_.size(0) >= kBatch) {
      take(waiting_.slice(0, 0, kBatch));
      waiting_ = waiting_.slice(0, kBatch);
    }
  }

  std::vector<Metric> finish() override {
    if (waiting_.defined() && waiting_.size(0) > 0) take(waiting_);
    const auto count = samples_.pooled.count();
    if (count < least_samples())
      throw DataError("samples", std::to_string(count) + " images; at least " +
                                     std::to_string(least_samples()) +
                                     " are needed, twice the feature dimension, for a covariance "
                                     "that means something");
    const std::vector<Metric> result{
        {"is", metrics::inception_score(at::cat(probabilities_), /*split=*/0), true, ""},
        {"fid", metrics::frechet_distance(samples_.pooled.gaussian(), pooled_), false, ""},
        {"sfid", metrics::frechet_distance(samples_.spatial.gaussian(), spatial_), false, ""}};
    reset();
    return result;
  }

 private:
  static void check(const Dataset& reference) {
    if (reference.num_classes() < 2)
      throw DataError("evaluator classifier",
                      "the dataset has no labels to train on; use one that has, or another evaluator");
    const auto size = reference.spec().size;
    if (size < 2 * kMapSize || (size & (size - 1)) != 0)
      throw DataError("evaluator classifier", "images of " + std::to_string(size) +
                                                  " pixels; expected 8, 16, 32, 64, …");
  }

  void build(const ImageSpec& spec, std::int64_t classes) {
    spec_ = spec;
    network_ = std::make_shared<Network>(spec, params_.integer("width"), params_.integer("features"),
                                         classes);
  }

  // Adam (Kingma & Ba 2015) over the first `count` images.
  void learn(const Dataset& data, std::int64_t count, std::uint64_t seed) {
    const Random order(seed, Stream::evaluator);
    const auto batch = std::min(params_.integer("batch"), count), a_pass = count / batch;
    const auto steps = params_.integer("epochs") * a_pass;
    const auto parameters = network_->parameters();
    std::vector<Tensor> exp_avg, exp_avg_sq, step_count;
    std::vector<Tensor> values;
    for (const auto& parameter : parameters) {
      values.push_back(parameter.detach());
      exp_avg.push_back(at::zeros_like(values.back()));
      exp_avg_sq.push_back(at::zeros_like(values.back()));
      step_count.push_back(at::zeros({}, at::kFloat));
    }
    Tensor permutation;
    for (std::int64_t step = 0; step < steps; ++step) {
      if (step % 10 == 0) host_.progress("classifier steps", step, steps);
      if (step % a_pass == 0)
        permutation = order.choice(static_cast<std::uint32_t>(step / a_pass), count, count);
      const auto index = permutation.narrow(0, step % a_pass * batch, batch);
      const auto logits = network_->logits(network_->map(to_unit_range(data.images(index))));
      at::cross_entropy_loss(logits, data.labels(index)).backward();
      std::vector<Tensor> gradients;
      for (const auto& parameter : parameters) gradients.push_back(parameter.grad());
      for (auto& value : step_count) value.fill_(double(step + 1));
      const double lr = params_.real("lr") * 0.5 * (1 + std::cos(M_PI * double(step) / double(steps)));
      at::_fused_adam_(values, gradients, exp_avg, exp_avg_sq, {}, step_count, lr, 0.9, 0.999,
                       /*weight_decay=*/0, 1e-8, /*amsgrad=*/false, /*maximize=*/false);
      for (const auto& parameter : parameters) parameter.mutable_grad().reset();
    }
  }

  // Calls visit(images, index) for the images first … size-1, in batches.
  template <class Visit>
  static void in_batches(const Dataset& data, std::int64_t first, const Visit& visit) {
    for (; first < data.size(); first += kBatch) {
      const auto index = at::arange(first, std::min(first + kBatch, data.size()), at::kLong);
      visit(data.images(index), index);
    }
  }

  double measure_accuracy(const Dataset& data, std::int64_t first) {
    std::int64_t right = 0;
    in_batches(data, first, [&](const Tensor& images, const Tensor& index) {
      const auto predicted = network_->features(images).probabilities.argmax(1);
      right += predicted.eq(data.labels(index)).sum().item<std::int64_t>();
    });
    return double(right) / double(std::max<std::int64_t>(1, data.size() - first));
  }

  Reference reference_moments(const Dataset& data) {
    Reference reference;
    in_batches(data, 0, [&](const Tensor& images, const Tensor& index) {
      const auto features = network_->features(images);
      reference.pooled.add(features.pooled);
      reference.spatial.add(features.spatial);
      host_.progress("reference images", index[0].item<std::int64_t>(), data.size());
    });
    return reference;
  }

  void take(const Tensor& images) {
    const auto features = network_->features(images);
    samples_.pooled.add(features.pooled);
    samples_.spatial.add(features.spatial);
    probabilities_.push_back(features.probabilities);
  }

  void reset() {
    samples_ = {};
    probabilities_.clear();
    waiting_ = Tensor();
  }

  Params params_;
  Host& host_;
  ImageSpec spec_;
  std::shared_ptr<Network> network_;
  std::string protocol_, fingerprint_;
  metrics::Gaussian pooled_, spatial_;
  Reference samples_;
  std::vector<Tensor> probabilities_;
  Tensor waiting_;
};

}  // namespace

DKDM_EVALUATOR("classifier", "1", "FID, sFID, IS in the features of a classifier of the dataset",
               Classifier)
