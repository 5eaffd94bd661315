// What a dataset promises (dkdm/dataset.hpp).
#include <ATen/ATen.h>

#include "conformance/check_support.hpp"
#include "plugin/announce.hpp"
#include "record/clock.hpp"

namespace dkdm::conformance {
namespace {

using at::Tensor;

class DatasetChecks {
 public:
  DatasetChecks(const Subject& subject, Checklist& list) : subject_(subject), list_(list) {}

  void run() {
    list_.run("opening", [&] { return opening(); });
    if (!data_ || data_->size() < 1) {
      for (const char* name : {"index", "fingerprint", "images", "labels", "out of range"})
        list_.skip(name, "there are no images to look at");
      return;
    }
    check("index", &DatasetChecks::index);
    check("fingerprint", &DatasetChecks::fingerprint);
    check("images", &DatasetChecks::images);
    check("labels", &DatasetChecks::labels);
    check("out of range", &DatasetChecks::out_of_range);
  }

 private:
  void check(const char* name, std::string (DatasetChecks::*body)() const) {
    list_.run(name, [&] {
      return located("", "let it take int64 [n] of 0 … size() - 1",
                     [&] { return (this->*body)(); });
    });
  }

  std::shared_ptr<Dataset> open() const {
    return subject_.registry.dataset(subject_.choice(), subject_.host);
  }

  // A few places from the first to the last, in no order, one twice: int64 [n].
  Tensor some() const {
    const auto last = data_->size() - 1;
    return at::tensor({last, std::int64_t{0}, last / 2, last, last / 3}, at::kLong);
  }

  std::string opening() {
    data_ = open();
    const ImageSpec spec = data_->spec();
    require(spec.channels > 0 && spec.height > 0 && spec.width > 0,
            "its images are " + text_of(spec), "spec() gives channels and side, both positive");
    require(data_->size() > 0, "it has " + std::to_string(data_->size()) + " images",
            "refuse an empty folder or file in the constructor with a dkdm::DataError");
    require(data_->num_classes() >= 0, "num_classes() is negative", "0 means no labels");
    check_announcement(spec);
    return std::to_string(data_->size()) + " images of " + text_of(spec) + ", " +
           std::to_string(data_->num_classes()) + " classes";
  }

  // Experiments are planned by it before there are files.
  void check_announcement(const ImageSpec& spec) const {
    const Announced announced = plugin::announced(subject_.registry, subject_.choice());
    require(announced.absent.empty(), "it opens, and announce() says that files are absent",
            "announce the files that the constructor opens");
    require(
        announced.spec.values() == 0 || announced.spec == spec,
        "announce() says images of " + text_of(announced.spec) + ", they are of " + text_of(spec),
        "announce what the parameters promise, else zeros");
    require(announced.images == 0 || announced.images == data_->size(),
            "announce() says " + std::to_string(announced.images) + " images, there are " +
                std::to_string(data_->size()),
            "announce what the parameters promise, else 0");
  }

  Tensor images_at(const Tensor& index) const {
    const ImageSpec spec = data_->spec();
    const Tensor images = data_->images(index);
    const auto wanted = spec.batch(index.size(0));
    require(
        images.defined() && images.scalar_type() == at::kByte &&
            images.sizes() == at::IntArrayRef(wanted),
        "images() gave " + text_of(images) + " for " + std::to_string(index.size(0)) + " indices",
        c10::str("expected uint8 ", at::IntArrayRef(wanted)));
    return images;
  }

  std::string images() const { return text_of(images_at(some())) + " for five indices"; }

  std::string index() const {
    const Tensor chosen = some(), together = images_at(chosen);
    for (std::int64_t i = 0; i < chosen.size(0); ++i)
      require(at::equal(images_at(chosen.narrow(0, i, 1)), together.narrow(0, i, 1)),
              "image " + std::to_string(chosen[i].item<std::int64_t>()) +
                  " differs alone and among others, or from call to call",
              "let image i depend on i alone: no augmentation, no shuffling (the methods do both)");
    require(at::equal(images_at(chosen), together), "the same indices gave other images",
            "let images() read only");
    return "an image is the same alone, among others and asked for twice";
  }

  std::string labels() const {
    const Tensor labels = data_->labels(some());
    if (data_->num_classes() == 0) {
      require(!labels.defined(), "there are labels but num_classes() is 0",
              "override num_classes()");
      return "it has none";
    }
    require(labels.defined() && labels.scalar_type() == at::kLong &&
                labels.sizes() == at::IntArrayRef{some().size(0)},
            "labels() gave " + text_of(labels), "expected int64 [n] for n indices");
    const Tensor all = data_->labels(at::arange(data_->size(), at::kLong));
    const auto low = all.min().item<std::int64_t>(), high = all.max().item<std::int64_t>();
    require(low >= 0 && high < data_->num_classes(),
            "labels run from " + std::to_string(low) + " to " + std::to_string(high) + " with " +
                std::to_string(data_->num_classes()) + " classes",
            "number the classes from 0, and check the labels in the constructor");
    require(at::equal(all.index_select(0, some()), labels),
            "labels depend on what is asked with them", "let label i depend on i alone");
    return std::to_string(low) + " to " + std::to_string(high);
  }

  std::string out_of_range() const {
    for (const std::int64_t wrong : {data_->size(), std::int64_t{-1}}) {
      bool refused = false;
      try {
        data_->images(at::tensor({wrong}, at::kLong));
      } catch (const std::exception&) {
        refused = true;
      }
      require(refused,
              "images() gave an image for index " + std::to_string(wrong) + " of " +
                  std::to_string(data_->size()),
              "throw for what is out of range (index_select does)");
    }
    return "refused: " + std::to_string(data_->size()) + " and -1";
  }

  std::string fingerprint() const {
    const auto start = record::Clock::now();
    const std::string first = data_->fingerprint();
    const double elapsed = record::seconds_since(start);
    require(!first.empty(), "it is empty", "hash the files' bytes and the preparation's recipe");
    require(first == data_->fingerprint() && first == open()->fingerprint(),
            "it changed from call to call or from opening to opening",
            "hash only what decides the images: no times, no addresses");
    return c10::str(first.substr(0, 16), first.size() > 16 ? "… in " : " in ", elapsed, " s");
  }

  const Subject& subject_;
  Checklist& list_;
  std::shared_ptr<Dataset> data_;
};

}  // namespace

void check_dataset(const Subject& subject, Checklist& list) { DatasetChecks(subject, list).run(); }

}  // namespace dkdm::conformance
