// The files of teachers from elsewhere: which they are, and whose images their networks draw. A
// network of another dataset with the same shape fits in everything but the numbers.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "config/experiment.hpp"
#include "run/selection.hpp"
#include "stages/stage.hpp"

namespace dkdm::run {

class ExternalTeacher;

// A finished run whose teacher had the same weights.
struct EarlierUse {
  std::int64_t run = 0;
  std::string experiment, images;  // images: the dataset that it took them to draw
};
// Of the weights with this SHA-256, the latest first.
using EarlierUses = std::function<std::vector<EarlierUse>(const std::string& sha256)>;

// Writes the SHA-256 of its weights into every teacher from elsewhere that a selected row uses, in
// the rows and in the resolved text: so it is recorded, and the text is held to the same file when
// it is run again. Nothing is written for files that are absent, and for a plugin without the
// parameters or without StatesFiles. Throws ConfigError where the experiment states another hash,
// and where the weights draw another dataset's images than the row's, as their model folder or
// `earlier` has it, unless trained_on says that this is meant. Datasets are told apart by their
// plugins' names; where one of two is of whatever files it is given, that is a warning. `say`: logs
// which file a teacher is where nothing says what it draws.
DKDM_API void settle_teachers(config::Experiment& experiment, const Selection& selection,
                              const stages::StageContext& context, const EarlierUses& earlier,
                              bool say);

// The dataset whose images the network of `choice` draws, as the experiment or its files state it;
// "" where neither does.
std::string images_of(ExternalTeacher& teacher, const plugin::PluginChoice& choice);

// "FILE: [teacher.NAME] (plugin)": where an error of a row's teacher is.
std::string place_of_teacher(const config::Experiment& experiment, const config::Row& row);

}  // namespace dkdm::run
