// What an experiment's rows draw on from outside: datasets, teachers from elsewhere, statistics of
// a reference. Each is opened once, and only for a row that cannot do without.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "config/experiment.hpp"
#include "run/external_teacher.hpp"
#include "stages/reference.hpp"
#include "stages/stage.hpp"

namespace dkdm::run {

// A dataset as rows need it.
struct Images {
  std::shared_ptr<Dataset> dataset;
  std::string fingerprint;
  ImageSpec spec;
};

class DKDM_API Sources {
 public:
  // References outlive it.
  explicit Sources(const stages::StageContext& context) : context_(context) {}

  Needs needs(const config::Training& training) const;
  // A student of the row, or the row itself, uses its teacher.
  bool uses_teacher(const config::Row& row) const;
  // Something of the row is trained on images, or has none but them to be measured against. A row
  // of which this is not true never opens its dataset: it may be absent, or not stated at all.
  bool needs_images(const config::Row& row) const;

  // Throws ConfigError where the row has no dataset.
  const Images& images(const config::Row& row);
  // What the row's samples are: the images of its dataset; where it needs none, those that the
  // statistics are of, or what its teacher draws. Throws ConfigError where nothing says it.
  ImageSpec spec(const config::Row& row);
  // Images that a synthetic set replaces: as many as the dataset's, or those behind the statistics.
  // Throws ConfigError where nothing says it.
  std::int64_t image_count(const config::Row& row);
  // What the row is measured against: one object for all rows that share it. Throws ConfigError for
  // a file without statistics, or of images of another shape than the row's.
  const stages::Reference& reference(const config::Row& row);

  // The row's teacher, which was not trained here.
  ExternalTeacher& teacher(const config::Row& row);

 private:
  const stages::Reference& statistics(const config::Row& row);

  const stages::StageContext& context_;
  std::map<std::string, Images> images_;                 // by what the dataset is
  std::map<std::string, stages::Reference> references_;  // by the file, or what the dataset is
  std::map<std::string, ExternalTeacher> teachers_;      // by the plugin and its parameters
};

}  // namespace dkdm::run
