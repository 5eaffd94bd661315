#include "run/teacher_files.hpp"

#include <algorithm>
#include <cctype>
#include <map>
#include <set>

#include "config/resolved.hpp"
#include "log/log.hpp"
#include "run/sources.hpp"

namespace dkdm::run {
namespace {

// Parameters of the teacher plugins (plugins/teachers/weights_file.hpp).
constexpr const char *kHash = "sha256", *kTrainedOn = "trained_on";

// Datasets whose names do not say what images they are of.
bool is_of_any_images(const std::string& dataset) {
  return dataset == "npz" || dataset == "image-folder";
}

bool is_hash(const std::string& text) {
  return text.size() == 64 && std::all_of(text.begin(), text.end(),
                                          [](unsigned char c) { return std::isxdigit(c) != 0; });
}

std::string lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(),
                 [](unsigned char c) { return std::tolower(c); });
  return text;
}

// The parameter `name`, "" where the plugin has none of that name.
std::string stated(const plugin::PluginChoice& teacher, const char* name) {
  const auto& values = teacher.params.values();
  const auto found = values.find(name);
  const auto* text = found == values.end() ? nullptr : std::get_if<std::string>(&found->second);
  return text ? *text : "";
}

class Settling {
 public:
  Settling(config::Experiment& experiment, const stages::StageContext& context,
           const EarlierUses& earlier, bool say)
      : experiment_(experiment), context_(context), sources_(context), earlier_(earlier),
        say_(say) {}

  void settle(const Selection& selection) {
    for (const config::Row& row : experiment_.rows) {
      if (!row.teacher) continue;
      check_statements(row);
      if (row.teacher->training || !is_selected(row, selection) || !sources_.uses_teacher(row))
        continue;
      check_space(row);
      check_file(row);
      check_images(row);
    }
    // Rows that have the same teacher and do not use it keep it in common with those that do.
    for (config::Row& row : experiment_.rows) {
      if (!row.teacher || row.teacher->training) continue;
      auto& plugin = row.teacher->plugin;
      const auto found = hashes_.find(name_of(plugin));
      if (found == hashes_.end() || !plugin.params.values().contains(kHash)) continue;
      auto values = plugin.params.values();
      values[kHash] = found->second;
      plugin.params = Params(context_.registry.find(plugin.kind, plugin.name).params, values);
    }
    experiment_.resolved = config::resolved_text(experiment_);
  }

 private:
  static std::string name_of(const plugin::PluginChoice& choice) {
    return choice.name + '\n' + choice.params.canonical();
  }

  [[noreturn]] void refuse(const config::Row& row, const std::string& message) const {
    throw ConfigError(place_of_teacher(experiment_, row), message);
  }

  void check_statements(const config::Row& row) const {
    const auto& teacher = *row.teacher;
    const std::string hash = stated(teacher.plugin, kHash);
    if (!hash.empty() && !is_hash(hash))
      refuse(row, "sha256 = \"" + hash + "\", expected the 64 hexadecimal digits of sha256sum");
    for (const char* name : {kHash, kTrainedOn})
      if (teacher.training && !stated(teacher.plugin, name).empty())
        refuse(row, std::string(name) +
                        " is of a teacher from elsewhere, and this one is trained "
                        "here; leave it out");
  }

  // 64 x 64 latents of three channels have the shape of many a set of images.
  void check_space(const config::Row& row) {
    if (sources_.teacher(row).draws_latents())
      refuse(row,
             "its network draws latents of an autoencoder, and experiments are of images: "
             "there is no place for an autoencoder in one yet; give a teacher that draws "
             "images");
  }

  void check_file(const config::Row& row) {
    auto& teacher = sources_.teacher(row);
    const std::string &sha256 = teacher.sha256(), wanted = stated(row.teacher->plugin, kHash);
    if (sha256.empty()) return;
    if (!wanted.empty() && lower(wanted) != sha256)
      refuse(row, "sha256 is " + lower(wanted) + ", and " + teacher.file() + " has " + sha256 +
                      what_is_known(teacher) + "; give the file that is meant, or its hash");
    hashes_[name_of(row.teacher->plugin)] = sha256;
  }

  // " (trained on cifar10)", for a file that is not the one that was meant.
  std::string what_is_known(ExternalTeacher& teacher) const {
    if (const std::string images = teacher.images(); !images.empty())
      return " (trained on " + images + ")";
    const auto uses = earlier_(teacher.sha256());
    return uses.empty() ? ""
                        : " (the teacher of run " + std::to_string(uses.front().run) + " on " +
                              uses.front().images + ")";
  }

  void check_images(const config::Row& row) {
    auto& teacher = sources_.teacher(row);
    const std::string own = row.dataset ? row.dataset->name : "";
    const std::string word = stated(row.teacher->plugin, kTrainedOn), images = teacher.images();
    if (!word.empty()) {
      if (!images.empty() && images != word)
        refuse(row, "trained_on = \"" + word + "\", but " + teacher.file() + " was trained on " +
                        images + ", as its model.json says");
      return;
    }
    if (own.empty()) return;
    if (!images.empty()) {
      compare(row, images, "as its model.json says", "");
      return;
    }
    if (teacher.sha256().empty()) return;
    const auto uses = earlier_(teacher.sha256());
    if (uses.empty()) {
      if (say_ && stated(row.teacher->plugin, kHash).empty())
        log::info_once("teacher", teacher.file() + ": SHA-256 " + teacher.sha256() +
                                      "; nothing says what it was trained on, taken to be " + own);
      return;
    }
    if (std::any_of(uses.begin(), uses.end(),
                    [&](const EarlierUse& use) { return use.images == own; }))
      return;
    const auto& use = uses.front();
    const std::string run = "run " + std::to_string(use.run);
    compare(row, use.images, "as " + run + " of " + use.experiment + " had it",
            ", or \"" + own + "\" where " + run + " had it wrong");
  }

  void compare(const config::Row& row, const std::string& images, const std::string& by,
               const std::string& otherwise) {
    const std::string& own = row.dataset->name;
    if (images == own) return;
    const std::string text = sources_.teacher(row).file() + " was trained on " + images + ", " +
                             by + ", and row \"" + row.id + "\" is of " + own;
    if (is_of_any_images(images) || is_of_any_images(own)) {
      log::warn_once("teacher", text + ": are these the same images?");
      return;
    }
    refuse(row, text + "; give a teacher of " + own + ", or state what is meant: trained_on = \"" +
                    images + "\"" + otherwise);
  }

  config::Experiment& experiment_;
  const stages::StageContext& context_;
  Sources sources_;
  const EarlierUses& earlier_;
  const bool say_;
  std::map<std::string, std::string> hashes_;  // by the plugin and its parameters
};

}  // namespace

void settle_teachers(config::Experiment& experiment, const Selection& selection,
                     const stages::StageContext& context, const EarlierUses& earlier, bool say) {
  Settling(experiment, context, earlier, say).settle(selection);
}

std::string images_of(ExternalTeacher& teacher, const plugin::PluginChoice& choice) {
  const std::string word = stated(choice, kTrainedOn);
  return word.empty() ? teacher.images() : word;
}

std::string place_of_teacher(const config::Experiment& experiment, const config::Row& row) {
  const auto& [name, plugin, _] = row.teacher.value();
  return experiment.file.string() + ": [teacher" + (name.empty() ? "" : "." + name) + "] (" +
         plugin.name + ")";
}

}  // namespace dkdm::run
