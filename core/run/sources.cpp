#include "run/sources.hpp"

#include <algorithm>

#include "dkdm/files.hpp"
#include "plugin/announce.hpp"
#include "stages/determinants.hpp"

namespace dkdm::run {
namespace {

bool from_statistics(const config::Row& row) { return !row.statistics.empty(); }

// Images of which only sizes are known.
class AbsentImages final : public Dataset {
 public:
  AbsentImages(const Announced& announced, std::string fingerprint)
      : spec_(announced.spec), size_(announced.images), fingerprint_(std::move(fingerprint)) {}

  ImageSpec spec() const override { return spec_; }
  std::int64_t size() const override { return size_; }
  std::string fingerprint() const override { return fingerprint_; }
  at::Tensor images(const at::Tensor&) const override {
    throw Error("the dataset's files are absent");
  }

 private:
  const ImageSpec spec_;
  const std::int64_t size_;
  const std::string fingerprint_;
};

std::string name_of(const plugin::PluginChoice& choice) {
  return choice.name + '\n' + choice.params.canonical();
}

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
    const auto announced = plugin::announced(context_.registry, *row.dataset);
    const std::string stand_in = absence(*row.dataset, announced);
    auto dataset = stand_in.empty()         ? context_.dataset(*row.dataset)
                   : context_.absent_images ? context_.absent_images(announced, stand_in)
                                            : std::make_shared<AbsentImages>(announced, stand_in);
    images = {dataset, dataset->fingerprint(), dataset->spec()};
  }
  ask(row, images.fingerprint);
  return images;
}

ImageSpec Sources::spec(const config::Row& row) {
  const auto of_teacher = [&]() -> ImageSpec {
    if (!row.teacher || row.teacher->training) return {0, 0, 0};
    const auto known = teacher(row).made_for();
    if (!known) return {0, 0, 0};
    return {known->shape.channels, known->shape.height, known->shape.width};
  };
  if (needs_images(row)) {
    const auto& own = images(row);
    return own.spec.values() == 0 && needs_.contains(own.fingerprint) ? of_teacher() : own.spec;
  }
  if (const auto spec = statistics(row).statistics->spec; spec.values() > 0) return spec;
  if (const auto spec = of_teacher(); spec.values() > 0) return spec;
  const bool is_absent = needs_.contains(statistics(row).fingerprint());
  if (is_absent || (row.teacher && !row.teacher->training)) return {0, 0, 0};
  if (row.dataset) return images(row).spec;
  refuse(row, "nothing says what its images are: " + row.statistics.string() +
                  " does not, and there is neither a [dataset] nor a teacher from elsewhere; `dkdm "
                  "ref make` writes statistics that do");
}

std::int64_t Sources::image_count(const config::Row& row) {
  if (needs_images(row)) return images(row).dataset->size();
  if (const auto count = statistics(row).statistics->count; count > 0) return count;
  if (needs_.contains(statistics(row).fingerprint())) return 0;
  refuse(row, "synthetic.count = 0 means as many as the reference has images, which " +
                  row.statistics.string() + " does not say; expected a count");
}

const stages::Reference& Sources::statistics(const config::Row& row) {
  const std::string file = row.statistics.string();
  auto& reference = references_[file];
  if (std::error_code error; !reference.statistics && !std::filesystem::exists(file, error)) {
    const Need need{"statistics",
                    row.statistics.filename().string(),
                    {{file,
                      "No such file; `dkdm ref make DATASET -o FILE.npz` writes statistics, "
                      "and ADM's reference batches hold some"}},
                    {},
                    /*is_known=*/false};
    reference.statistics.emplace().fingerprint = noted(file, need);
  }
  if (!reference.statistics) {
    reference = stages::read_reference(file);
    if (!reference.statistics)
      refuse(row, "reference.statistics: " + file +
                      " holds none (mu, sigma); `dkdm ref make DATASET -o FILE.npz` writes them");
    if (reference.recipe.empty())
      reference.recipe = "statistics " + row.statistics.filename().string();
  }
  ask(row, reference.statistics->fingerprint);
  return reference;
}

const stages::Reference& Sources::reference(const config::Row& row) {
  if (from_statistics(row)) {
    const auto& reference = statistics(row);
    const ImageSpec of = reference.statistics->spec, own = spec(row);
    if (of.values() > 0 && own.values() > 0 && of != own)
      refuse(row, "reference.statistics: " + row.statistics.string() + " is of images of " +
                      text_of(of) + ", the row's are of " + text_of(own));
    return reference;
  }
  const auto& own = images(row);
  auto& reference = references_[stages::describe(*row.dataset)];
  if (!reference.images) reference = {stages::recipe_of(*row.dataset), own.dataset, std::nullopt};
  return reference;
}

ExternalTeacher& Sources::teacher(const config::Row& row) {
  const auto& choice = row.teacher.value().plugin;
  auto found = teachers_.find(name_of(choice));
  if (found == teachers_.end()) {
    auto announced = plugin::announced(context_.registry, choice);
    auto stand_in = absence(choice, announced);
    found = teachers_
                .try_emplace(name_of(choice), choice, context_, std::move(announced),
                             std::move(stand_in))
                .first;
  }
  ask(row, found->second.stand_in());
  return found->second;
}

const std::string& Sources::evaluator_identity(const config::Row& row) {
  auto found = evaluators_.find(name_of(row.evaluator));
  if (found == evaluators_.end()) {
    std::string identity =
        absence(row.evaluator, plugin::announced(context_.registry, row.evaluator));
    if (identity.empty())
      identity = context_.registry.evaluator(row.evaluator, context_.host)->identity();
    found = evaluators_.emplace(name_of(row.evaluator), std::move(identity)).first;
  }
  ask(row, found->second);
  return found->second;
}

std::string Sources::unknown_spec(const config::Row& row) {
  if (spec(row).values() > 0) return "";
  std::vector<std::string> sources{needs_images(row) ? images(row).fingerprint
                                                     : statistics(row).fingerprint()};
  if (row.teacher && !row.teacher->training) sources.push_back(teacher(row).stand_in());
  const auto absent = std::find_if(sources.begin(), sources.end(),
                                   [&](const auto& source) { return needs_.contains(source); });
  return absent == sources.end() ? "" : *absent;
}

std::string Sources::unknown_count(const config::Row& row) {
  const std::string source =
      needs_images(row) ? images(row).fingerprint : statistics(row).fingerprint();
  return needs_.contains(source) ? source : "";
}

std::string Sources::noted(const std::string& name, const Need& need) {
  // No hash of files begins so; equal lengths, so that none is part of another.
  const std::string stand_in = "absent-" + io::sha256(need.kind + '\n' + name);
  needs_.emplace(stand_in, need);
  return stand_in;
}

std::string Sources::absence(const plugin::PluginChoice& choice, const Announced& announced) {
  if (announced.absent.empty()) return "";
  const bool is_known = announced.spec.values() > 0 || announced.network.has_value();
  return noted(name_of(choice), {choice.kind, choice.name, announced.absent, {}, is_known});
}

void Sources::ask(const config::Row& row, const std::string& fingerprint) {
  const auto found = needs_.find(fingerprint);
  if (found == needs_.end()) return;
  auto& rows = found->second.rows;
  if (std::find(rows.begin(), rows.end(), row.id) == rows.end()) rows.push_back(row.id);
}

}  // namespace dkdm::run
