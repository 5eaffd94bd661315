// What the artifact store keeps as JSON: model.json, manifest.json, metrics.json, read by core and
// by results/.
#include "fuzz_target.hpp"
#include "model/model_folder.hpp"
#include "plugin/registry.hpp"
#include "record/artifact_store.hpp"
#include "record/metrics_file.hpp"
#include "results/store/artifacts.hpp"

DKDM_FUZZ_TARGET(json) {
  static const dkdm::fuzz::Folder folder;
  static const dkdm::plugin::Registry registry({DKDM_FUZZ_PLUGINS});
  switch (dkdm::fuzz::take_form(input, 3)) {
    case 0: {
      const auto file = folder.write("model/model.json", input);
      dkdm::fuzz::accepted([&] {
        const auto model = dkdm::model::read_model_description(file.parent_path(), registry);
        dkdm::fuzz::require(model.shape.values() > 0, "a model of no pixels");
      });
      break;
    }
    case 1: {
      const auto file = folder.write("artifacts/train/00/manifest.json", input);
      folder.write("artifacts/train/00/raw.safetensors", "12345678");
      dkdm::fuzz::accepted([&] { dkdm::record::read_manifest(file); });
      dkdm::fuzz::accepted([&] {
        const auto artifact = dkdm::results::find_artifact(folder.path(), "train", "00");
        if (artifact) dkdm::results::damage_of(folder.path(), *artifact, true);
      });
      break;
    }
    default: {
      folder.write("artifacts/evaluate/00/metrics.json", input);
      dkdm::fuzz::accepted(
          [&] { dkdm::record::read_metrics(folder.path() / "artifacts/evaluate/00"); });
    }
  }
}
