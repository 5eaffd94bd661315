// PNG, JPEG, WebP and GIF, whatever the bytes begin with.
#include "dkdm/io.hpp"
#include "fuzz_target.hpp"

DKDM_FUZZ_TARGET(image) {
  static const dkdm::fuzz::Folder folder;
  const std::int64_t channels = dkdm::fuzz::take_form(input, 2) == 0 ? 3 : 1;
  const auto file = folder.write(input.starts_with("\xff\xd8") ? "input.jpg" : "input.png", input);
  dkdm::fuzz::accepted([&] {
    const at::Tensor image = dkdm::io::read_image(file, channels);
    dkdm::fuzz::require(image.dim() == 3 && image.size(0) == channels, "another shape");
    static_cast<void>(image.sum().item<std::int64_t>());
  });
}
