// FID, sFID and IS in the feature space of a small classifier of the dataset's own labels: the desk
// scale's evaluator, needs no download. Its values are not Inception's, and compare only where the
// very same weights gave them: the protocol id has the network's name and the hash of its weights.
// A network that comes with dkdm is one ruler for all machines; one that is trained here is named
// `trained`.
//
//   FID   Fréchet distance of the last convolution's channels, averaged over space: [features]
//   sFID  Fréchet distance of the first 7 channels of the map before it, flattened (h,w,c): 112
//         numbers of a 4 x 4 map (ADM takes the first 7 channels of Mixed_6d's first branch)
//   IS    of the class probabilities, splits of 5000 consecutive samples, a short last one
//         counted fully, as ADM
#include <optional>
#include <sstream>

#include "classifier_training.hpp"
#include "classifier_weights.hpp"
#include "dkdm/device.hpp"
#include "dkdm/documents.hpp"
#include "dkdm/files.hpp"
#include "dkdm/io.hpp"
#include "dkdm/json.hpp"
#include "dkdm/plugin.hpp"
#include "metrics/frechet.hpp"
#include "metrics/inception_score.hpp"
#include "sample_state.hpp"

namespace {

using namespace dkdm;
using namespace dkdm::classifier;
using at::Tensor;

constexpr std::int64_t kLeastSize = 8;  // pixels of an image's side
constexpr std::int64_t kSplit = 5000;
constexpr const char* kRules = "2";  // changes whenever the same weights give other values
constexpr const char* kTrain = "train";
constexpr const char* kWeights =
    "weights.safetensors";  // in a prepared folder: for `weights` elsewhere
constexpr const char* kReference = "reference.safetensors";
constexpr const char* kAbout = "classifier.json";

std::string percent(double share) {
  std::ostringstream text;
  text.precision(3);
  text << 100 * share << " %";
  return text.str();
}

class Classifier final : public Evaluator {
 public:
  static ParamTable params() {
    return {
        text(
            "weights", "",
            "network: " + shipped_names() +
                " (comes with dkdm), a weight file, or train = train one on the reference's labels; "
                "empty = the one that comes with dkdm for this very dataset, else train"),
        integer("features", 64, "dimension of the pooled features, when training").between(8, 2048),
        integer("width", 32, "channels of the first layer, when training").between(8, 512),
        integer("epochs", 2, "passes over the labelled images, when training").between(1, 1000),
        integer("batch", 128, "images a training step").between(2, 65536),
        real("lr", 5e-3, "learning rate of Adam at the start; falls to 0 as a cosine")
            .between(0, 1),
        flag("poor", false,
             "accept a network that tells the classes hardly better apart than guessing")};
  }

  Classifier(const Params& params, Host& host) : params_(params), host_(host) {
    if (!is_named()) return;
    const Params usual(Classifier::params(), {});
    for (const auto& [name, value] : params.values())
      if (name != "weights" && name != "poor" && value != usual.values().at(name))
        throw ConfigError("evaluator classifier",
                          name + " is for training a network; weights = \"" +
                              params.text("weights") + "\" names one that is trained");
  }

  std::string identity() const override {
    std::string text = std::string("rules = ") + kRules + "\n";
    if (is_named()) return text + "weights = " + io::sha256_file(named_file()) + "\n";
    for (const auto& [name, value] : params_.values()) text += name + " = " + to_text(value) + "\n";
    if (params_.text("weights").empty())
      for (const auto& shipped : kShipped) text += std::string("or ") + shipped.sha256 + "\n";
    return text;
  }

  void prepare(const Dataset& reference, std::uint64_t seed, const fs::path& dir) override {
    const auto file = choose(reference);
    if (file) {
      io::write_text(dir / kWeights, io::read_text(*file));
    } else {
      train(reference, seed, dir / kWeights);
    }
    use(dir / kWeights);
    require_shape(reference.spec());
    require(reference.size(), "reference dataset");
    host_.log("classifier",
              protocol_ + ": " + percent(about_.accuracy) + " of " +
                  std::to_string(about_.held_out) +
                  " held-out images classified rightly (guessing: " + percent(about_.chance) + ")");
    if (!file) say_what_compares();
    const auto moments = feature_moments(*network_, reference, host_);
    const auto pooled = moments.pooled.gaussian(), spatial = moments.spatial.gaussian();
    io::save_tensors(dir / kReference, {{"pooled.mean", pooled.mean},
                                        {"pooled.covariance", pooled.covariance},
                                        {"spatial.mean", spatial.mean},
                                        {"spatial.covariance", spatial.covariance}});
    const nlohmann::ordered_json about = {{"channels", about_.spec.channels},
                                          {"height", about_.spec.height},
                                          {"width", about_.spec.width},
                                          {"classes", about_.classes},
                                          {"reference_images", reference.size()},
                                          {"reference_fingerprint", reference.fingerprint()},
                                          {"held_out_images", about_.held_out},
                                          {"held_out_accuracy", about_.accuracy},
                                          {"chance", about_.chance},
                                          {"trained_on", about_.trained_on},
                                          {"recipe", about_.recipe},
                                          {"weights_sha256", io::sha256_file(dir / kWeights)},
                                          {"reference_sha256", io::sha256_file(dir / kReference)}};
    io::write_text(dir / kAbout, about.dump(2) + "\n");
  }

  void open(const fs::path& dir) override {
    try {
      const auto about = nlohmann::json::parse(io::read_document(dir / kAbout));
      io::read_field(about, "reference_fingerprint", fingerprint_);
      io::read_field(about, "reference_images", count_);
      require_hash(dir / kWeights, io::as<std::string>(about.at("weights_sha256")));
      require_hash(dir / kReference, io::as<std::string>(about.at("reference_sha256")));
    } catch (const nlohmann::json::exception& e) {
      throw DataError((dir / kAbout).string(), e.what());
    }
    use(dir / kWeights);
    if (!is_named() && (about_.features != params_.integer("features") ||
                        about_.width != params_.integer("width")))
      throw DataError((dir / kWeights).string(),
                      "has width " + std::to_string(about_.width) + " and " +
                          std::to_string(about_.features) + " features, expected " +
                          std::to_string(params_.integer("width")) + " and " +
                          std::to_string(params_.integer("features")));
    const fs::path file = dir / kReference;
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
    pooled_ = gaussian("pooled", about_.features);
    spatial_ = gaussian("spatial", spatial_dimension());
    reset(0);
  }

  std::string protocol() const override { return protocol_; }
  std::string reference_fingerprint() const override { return fingerprint_; }
  std::int64_t reference_count() const override { return count_; }
  std::vector<std::string> metrics() const override { return {"is", "fid", "sfid"}; }

  std::int64_t min_samples() const override {
    const auto features = network_     ? about_.features
                          : is_named() ? read_about(named_file()).features
                                       : params_.integer("features");
    return 2 * std::max(features, spatial_dimension());
  }

  void add(const Tensor& images) override {
    if (images.dim() != 4 || images.scalar_type() != at::kByte ||
        images.sizes().slice(1) != at::IntArrayRef(spec().sizes())) {
      std::ostringstream text;
      text << "expected uint8 images [n," << spec().channels << "," << spec().height << ","
           << spec().width << "], got " << images.scalar_type() << " " << images.sizes();
      throw DataError("samples", text.str());
    }
    const Tensor here = images.to(at::kCPU);
    waiting_ = waiting_.defined() ? at::cat({waiting_, here}) : here.clone();
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
    behind_.finish();
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
    const auto take_in = [this](const Tensor& images) {
      add(images);
      behind_.finish();
    };
    merge_waiting(state, next_, take_in, [this] { take_waiting(); });
  }

  void reset(std::int64_t first) override {
    behind_.clear();
    samples_ = {};
    score_ = {};
    waiting_ = Tensor();
    next_ = first;
  }

 private:
  // weights names a network that exists.
  bool is_named() const {
    const auto& weights = params_.text("weights");
    return !weights.empty() && weights != kTrain;
  }

  fs::path named_file() const {
    const auto& name = params_.text("weights");
    for (const auto& shipped : kShipped)
      if (name == shipped.name) return shipped_file(shipped);
    if (!fs::is_regular_file(name))
      throw DataError(name, "is neither a weight file nor a network that comes with dkdm (" +
                                shipped_names() + "); weights = \"train\" trains one");
    return name;
  }

  // The file to use; none = a network is to be trained.
  std::optional<fs::path> choose(const Dataset& reference) const {
    if (is_named()) return named_file();
    if (params_.text("weights") == kTrain || !trains_as_usual()) return {};
    for (const auto& shipped : kShipped) {
      const auto file = shipped_file(shipped);
      if (read_about(file).trained_on == reference.fingerprint()) return file;
    }
    return {};
  }

  // Whoever sets how a network is trained wants one trained.
  bool trains_as_usual() const {
    const Params usual(params(), {});
    return params_.values() == usual.values();
  }

  void train(const Dataset& reference, std::uint64_t seed, const fs::path& file) const {
    const auto classes = reference.num_classes();
    const ImageSpec spec = reference.spec();
    if (classes < 2)
      throw DataError("evaluator classifier",
                      classes == 1
                          ? "all images are of one class; training needs at least two"
                          : "no labels to train on; use a labelled dataset, weights = \"" +
                                shipped_names() + "\" or a weight file, or another evaluator");
    if (spec.shorter_side() < kLeastSize)
      throw DataError("evaluator classifier", "images of " + std::to_string(spec.shorter_side()) +
                                                  " pixels a side; expected at least " +
                                                  std::to_string(kLeastSize));
    About about;
    about.spec = spec;
    about.classes = classes;
    about.width = params_.integer("width");
    about.features = params_.integer("features");
    about.trained_on = reference.fingerprint();
    about.recipe = "epochs " + std::to_string(params_.integer("epochs")) + ", batch " +
                   std::to_string(params_.integer("batch")) + ", lr " +
                   to_text(Value(params_.real("lr"))) + ", seed " + std::to_string(seed);
    const auto least = 2 * std::max(about.features, kSpatialChannels * Network::map_places(spec));
    require(reference.size(), least, "reference dataset");
    Network network(spec, about.width, about.features, classes);
    initialise(network, seed);
    network.to(host_.device());
    const Images images(reference, host_);
    const Split split(reference.size(), seed);
    learn(network, images, split.trained,
          {params_.integer("epochs"), params_.integer("batch"), params_.real("lr")}, seed, host_);
    const auto measured = accuracy(network, images, split.held_out);
    about.held_out = split.held_out.size(0);
    about.accuracy = measured.right;
    about.chance = measured.chance;
    write_weights(file, network, about);
  }

  // Makes the weights of `file` this evaluator's.
  void use(const fs::path& file) {
    auto loaded = read_weights(file);
    about_ = loaded.about;
    network_ = std::move(loaded.network);
    network_->to(host_.device());
    const auto sha256 = io::sha256_file(file);
    const auto name = shipped_name(sha256);
    protocol_ = std::string("classifier-") + kRules + "-" + (name.empty() ? "trained" : name) +
                "-" + sha256.substr(0, 8);
    if (about_.tells_classes_apart()) return;
    const std::string what =
        "classifies " + percent(about_.accuracy) + " of its " + std::to_string(about_.held_out) +
        " held-out images rightly, where guessing "
        "the most frequent class gets " +
        percent(about_.chance) + ": distances in its features say little about images";
    if (!params_.flag("poor"))
      throw DataError("evaluator classifier",
                      "the network " + what +
                          "; check the labels, train longer (epochs), or accept "
                          "it (poor = true)");
    protocol_ += "-poor";
    host_.log("classifier", "WARNING: it " + what);
  }

  void say_what_compares() const {
    std::string other;
    for (const auto& shipped : kShipped)
      if (ImageSpec::square(shipped.channels, shipped.size) == spec() &&
          shipped.classes == about_.classes)
        other = shipped.name;
    host_.log(
        "classifier",
        "trained here: its values compare with no other network's, on other machines neither; pass "
        "its " +
            std::string(kWeights) + " on as `weights`" +
            (other.empty() ? "" : ", or use weights = \"" + other + "\" for its dataset"));
  }

  const ImageSpec& spec() const { return about_.spec; }

  void require_shape(const ImageSpec& reference) const {
    if (reference == spec()) return;
    throw DataError("evaluator classifier", "the network is for images of " + text_of(spec()) +
                                                ", the reference has " + text_of(reference));
  }

  static void require(std::int64_t count, std::int64_t least, const std::string& what) {
    if (count < least)
      throw DataError(what, std::to_string(count) + " images where at least " +
                                std::to_string(least) +
                                " are needed: twice the dimension of the largest feature, or its "
                                "covariance means nothing");
  }
  void require(std::int64_t count, const std::string& what) const {
    require(count, min_samples(), what);
  }

  static void require_hash(const fs::path& file, const std::string& sha256) {
    if (const auto found = io::sha256_file(file); found != sha256)
      throw DataError(file.string(), "is damaged: its SHA-256 is " + found +
                                         ", it was written with " + sha256 +
                                         "; delete its folder, and it is made again");
  }

  std::int64_t spatial_dimension() const { return kSpatialChannels * Network::map_places(spec()); }

  void take(const Tensor& images) {
    const classifier::Features features = network_->features(sent_to(images, host_.device()));
    behind_.push({features.pooled, features.spatial, features.probabilities},
                 [this](const std::vector<Tensor>& all) {
                   const auto count = all[0].size(0);
                   samples_.add({all[0], all[1], all[2]});
                   score_.add(all[2], metrics::consecutive_splits(next_, count, kSplit));
                   next_ += count;
                 });
  }

  void take_waiting() {
    if (waiting_.defined() && waiting_.size(0) > 0) take(waiting_);
    waiting_ = Tensor();
    behind_.finish();
  }

  Params params_;
  Host& host_;
  About about_;
  std::shared_ptr<Network> network_;
  std::string protocol_, fingerprint_;
  std::int64_t count_ = 0;              // images of the reference
  metrics::Gaussian pooled_, spatial_;  // of the reference
  FeatureMoments samples_;
  metrics::InceptionScore score_;
  std::int64_t next_ = 0;  // number of the next sample whose features are taken
  Tensor waiting_;         // images not yet a batch
  evaluators::OneBehind behind_;
};

}  // namespace

DKDM_EVALUATOR("classifier", "3", "FID, sFID, IS in the features of a classifier of the dataset",
               Classifier)
