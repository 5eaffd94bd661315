// What an experiment's rows draw on from outside: datasets, teachers from elsewhere, weights of
// evaluators, statistics of a reference. Each is opened once, and only for a row that cannot do
// without. What is not there is noted as a need of the row, and something takes its place that has
// the announced sizes, nothing to read, and a name of its own in keys.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "config/experiment.hpp"
#include "dkdm/announced.hpp"
#include "run/external_teacher.hpp"
#include "run/need.hpp"
#include "stages/reference.hpp"
#include "stages/stage.hpp"

namespace dkdm::run {

// A dataset as rows need it. Where its files are absent: 0 images and a spec of zeros = unknown.
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
  // statistics are of, or what its teacher draws. Throws ConfigError where nothing says it; zeros
  // where only files that are absent would.
  ImageSpec spec(const config::Row& row);
  // Images that a synthetic set replaces: as many as the dataset's, or those behind the statistics.
  // Throws ConfigError where nothing says it; 0 where only files that are absent would.
  std::int64_t image_count(const config::Row& row);
  // What keys have in place of the two where only absent files say them for certain; "" = they do.
  std::string unknown_spec(const config::Row& row);
  std::string unknown_count(const config::Row& row);
  // What the row is measured against: one object for all rows that share it. Throws ConfigError for
  // a file without statistics, or of images of another shape than the row's.
  const stages::Reference& reference(const config::Row& row);

  // The row's teacher, which was not trained here.
  ExternalTeacher& teacher(const config::Row& row);
  // Evaluator::identity() of the row's.
  const std::string& evaluator_identity(const config::Row& row);

  // What rows asked for so far and is absent, by what stands for it in keys: a text that no part of
  // a key has otherwise.
  const std::map<std::string, Need>& needs() const { return needs_; }

 private:
  const stages::Reference& statistics(const config::Row& row);
  // What stands for a plugin's files that are absent, "" where they are there.
  std::string absence(const plugin::PluginChoice& choice, const Announced& announced);
  std::string noted(const std::string& name, const Need& need);
  // Where `fingerprint` stands for something absent, the row cannot be made without it.
  void ask(const config::Row& row, const std::string& fingerprint);

  const stages::StageContext& context_;
  std::map<std::string, Images> images_;                 // by what the dataset is
  std::map<std::string, stages::Reference> references_;  // by the file, or what the dataset is
  std::map<std::string, ExternalTeacher> teachers_;      // by the plugin and its parameters
  std::map<std::string, std::string> evaluators_;        // identities, by the same
  std::map<std::string, Need> needs_;
};

}  // namespace dkdm::run
