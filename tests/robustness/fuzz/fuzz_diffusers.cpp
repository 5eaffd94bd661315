// config.json and scheduler_config.json of a diffusers folder.
#include "../../../plugins/teachers/diffusers_config.hpp"
#include "fuzz_target.hpp"

DKDM_FUZZ_TARGET(diffusers) {
  static const dkdm::fuzz::Folder folder;
  const bool network = dkdm::fuzz::take_form(input, 2) == 0;
  const auto file = folder.write("config.json", input);
  dkdm::fuzz::accepted([&] {
    if (network) {
      const auto config = dkdm::diffusers::read_unet(file);
      dkdm::fuzz::require(!config.widths.empty() && config.layers >= 1, "a network of nothing");
    } else {
      dkdm::diffusers::read_scheduler(file);
    }
  });
}
