#include "run/sources.hpp"

#include "stages/determinants.hpp"

namespace dkdm::run {
namespace {

bool from_statistics(const config::Row& row) { return !row.statistics.empty(); }

[[noreturn]] void refuse(const config::Row& row, const std::string& message) {
  throw ConfigError(row.where, "row \"" + row.id + "\": " + message);
}

}  // namespace

Needs Sources::needs(const config::Training& training) const {
  return context_.registry.method(training.method, context_.host)->needs();
}

bool Sources::uses_teacher(const config::Row& row) const {
  if (!row.training) return true;
  const Needs needed = needs(*row.training);
  return needed.teacher || needed.synthetic;
}

bool Sources::needs_images(const config::Row& row) const {
  return !from_statistics(row) || (row.training && needs(*row.training).dataset) ||
         (row.teacher && row.teacher->training && uses_teacher(row) &&
          needs(*row.teacher->training).dataset);
}

const Images& Sources::images(const config::Row& row) {
  if (!row.dataset)
    refuse(row,
           "it, or its teacher, is trained on images and there are none; expected a [dataset]");
  auto& images = images_[stages::describe(*row.dataset)];
  if (!images.dataset) {
    auto dataset = context_.dataset(*row.dataset);
    images = {dataset, dataset->fingerprint(), dataset->spec()};
  }
  return images;
}

ImageSpec Sources::spec(const config::Row& row) {
  if (needs_images(row)) return images(row).spec;
  if (const auto spec = statistics(row).statistics->spec; spec.values() > 0) return spec;
  if (row.teacher && !row.teacher->training) {
    const auto& shape = teacher(row).model().shape;
    return {shape.channels, shape.height, shape.width};
  }
  if (row.dataset) return images(row).spec;
  refuse(row, "nothing says what its images are: " + row.statistics.string() +
                  " does not, and there is neither a [dataset] nor a teacher from elsewhere; `dkdm "
                  "ref make` writes statistics that do");
}

std::int64_t Sources::image_count(const config::Row& row) {
  if (needs_images(row)) return images(row).dataset->size();
  if (const auto count = statistics(row).statistics->count; count > 0) return count;
  refuse(row, "synthetic.count = 0 means as many as the reference has images, which " +
                  row.statistics.string() + " does not say; expected a count");
}

const stages::Reference& Sources::statistics(const config::Row& row) {
  const std::string file = row.statistics.string();
  auto& reference = references_[file];
  if (!reference.statistics) {
    reference = stages::read_reference(file);
    if (!reference.statistics)
      refuse(row, "reference.statistics: " + file +
                      " holds none (mu, sigma); `dkdm ref make DATASET -o FILE.npz` writes them");
    if (reference.recipe.empty())
      reference.recipe = "statistics " + row.statistics.filename().string();
  }
  return reference;
}

const stages::Reference& Sources::reference(const config::Row& row) {
  if (from_statistics(row)) {
    const auto& reference = statistics(row);
    const ImageSpec of = reference.statistics->spec, own = spec(row);
    if (of.values() > 0 && of != own)
      refuse(row, "reference.statistics: " + row.statistics.string() + " is of images of " +
                      text_of(of) + ", the row's are of " + text_of(own));
    return reference;
  }
  auto& reference = references_[stages::describe(*row.dataset)];
  if (!reference.images)
    reference = {stages::recipe_of(*row.dataset), images(row).dataset, std::nullopt};
  return reference;
}

ExternalTeacher& Sources::teacher(const config::Row& row) {
  const auto& choice = row.teacher.value().plugin;
  return teachers_.try_emplace(choice.name + '\n' + choice.params.canonical(), choice, context_)
      .first->second;
}

}  // namespace dkdm::run
