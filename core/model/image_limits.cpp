#include "model/image_limits.hpp"

namespace dkdm::model {

void check_spec(const ImageSpec& spec, const std::string& where) {
  if (spec.channels >= 1 && spec.channels <= kMostChannels && spec.size >= 1 &&
      spec.size <= kLargestSide)
    return;
  throw DataError(where, "images of " + text_of(spec) + ", expected 1…" + std::to_string(kMostChannels) +
                             " channels and sides of 1…" + std::to_string(kLargestSide) + " pixels");
}

}  // namespace dkdm::model
