// A teacher that this suite trained, read from its model folder.
#include <filesystem>
#include <string>

#include "dkdm/files.hpp"
#include "dkdm/plugin.hpp"
#include "dkdm/weights_files.hpp"
#include "dkdm/weights_kind.hpp"
#include "weights_file.hpp"

namespace {

namespace fs = std::filesystem;

class Checkpoint final : public dkdm::Teacher,
                         public dkdm::StatesWeights,
                         public dkdm::StatesFiles {
 public:
  Checkpoint(const dkdm::Params& params, dkdm::Host& host)
      : host_(host), path_(params.text("path")), weights_(params.text("weights")) {}

  static void announce(const dkdm::Params& params, dkdm::Announced& announced) {
    dkdm::teachers::announce_absence(params, "checkpoint", "the folder of a trained model",
                                     announced);
  }

  static dkdm::ParamTable params() {
    return dkdm::teachers::with_origin(
        {dkdm::text("path", "",
                    "folder of the trained model (empty = the experiment trains its "
                    "own teacher)"),
         dkdm::text("weights", "ema", "which of its weights").one_of({"ema", "raw"})});
  }

  dkdm::TrainedModel load() override {
    check();
    return host_.load_model(path_, weights_);
  }

  std::string weights() const override { return weights_; }

  std::vector<fs::path> weight_files() const override {
    check();
    return {file()};
  }

  // The weights' bytes and the description beside them; nothing of where the folder lies.
  std::string fingerprint() const override {
    check();
    return dkdm::io::sha256(dkdm::io::sha256_file(file()) +
                            dkdm::io::sha256_file(path_ / "model.json"));
  }

 private:
  fs::path file() const { return path_ / (weights_ + ".safetensors"); }

  void check() const {
    if (path_.empty()) {
      throw dkdm::ConfigError(
          "teacher checkpoint: path is not set; give the folder of a trained "
          "model");
    }
    if (!fs::exists(path_ / "model.json")) {
      throw dkdm::DataError(path_.string(), "is not the folder of a trained model: no model.json");
    }
  }

  dkdm::Host& host_;
  fs::path path_;
  std::string weights_;
};

}  // namespace

DKDM_TEACHER("checkpoint", "2", "a model that this suite trained", Checkpoint)
