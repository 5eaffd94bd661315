#include "model/image_limits.hpp"

namespace dkdm::model {

void check_shape(const SampleShape& shape, const std::string& where) {
  if (shape.channels >= 1 && shape.channels <= kMostChannels && shape.height >= 1 &&
      shape.height <= kLargestSide && shape.width >= 1 && shape.width <= kLargestSide)
    return;
  throw DataError(where, "images of " + text_of(shape) + ", expected 1…" +
                             std::to_string(kMostChannels) + " channels and sides of 1…" +
                             std::to_string(kLargestSide) + " pixels");
}

}  // namespace dkdm::model
