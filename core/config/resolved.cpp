// Canonical TOML of an experiment (config/resolved.hpp).
#include "config/resolved.hpp"

#include <sstream>

#include "config/settings.hpp"

namespace dkdm::config {
namespace {

class Writer {
 public:
  void section(const std::string& name) {
    stream_ << (stream_.tellp() > 0 ? "\n" : "") << name << '\n';
  }
  void value(const std::string& name, const Value& value) {
    stream_ << name << " = " << to_text(value) << '\n';
  }
  void params(const std::string& name, const Params& params) {
    section(name);
    stream_ << params.canonical();
  }
  void plugin(const std::string& name, const PluginChoice& choice) {
    section(name);
    value("plugin", choice.name);
    stream_ << choice.params.canonical();
  }
  void training(const std::string& prefix, const Training& training) {
    plugin("[" + prefix + ".student]", training.student);
    plugin("[" + prefix + ".method]", training.method);
    params("[" + prefix + ".train]", training.train);
  }
  std::string text() const { return stream_.str(); }

 private:
  std::ostringstream stream_;
};

}  // namespace

std::string resolved_text(const Experiment& experiment) {
  Writer out;
  out.section("[experiment]");
  out.value("name", experiment.name);
  out.value("title", experiment.title);
  out.value("scale", experiment.scale);
  out.value("table", experiment.table);
  out.value("published", experiment.published);
  out.value("seeds", experiment.seeds);
  out.value("samples", experiment.samples);
  if (!experiment.plugins.empty()) out.value("plugins", experiment.plugins);
  out.value("expected_minutes", experiment.expected_minutes);
  out.plugin("[dataset]", experiment.dataset);
  out.section("[diffusion]");
  for (const auto& [name, value] : diffusion_settings().values(experiment.diffusion)) out.value(name, value);
  out.plugin("[teacher]", experiment.teacher);
  if (experiment.teacher_training) out.training("teacher", *experiment.teacher_training);
  out.params("[synthetic]", experiment.synthetic);
  out.plugin("[evaluator]", experiment.evaluator);
  out.params("[evaluate]", experiment.evaluate);
  for (const Row& row : experiment.rows) {
    out.section("[[row]]");
    out.value("id", row.id);
    out.value("label", row.label);
    out.value("published", row.published);
    if (!row.training) out.value("teacher", true);
    if (row.training) out.training("row", *row.training);
    out.params("[row.sample]", row.sample);
  }
  return out.text();
}

}  // namespace dkdm::config
