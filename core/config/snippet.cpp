#include "config/snippet.hpp"

namespace dkdm::config {

std::string experiment_snippet(const plugin::PluginInfo& info) {
  std::string lines;
  if (info.origin != "shipped") {
    lines = "# in [experiment]: plugins = [" +
            to_text(std::filesystem::absolute(info.file).string()) + "]\n";
  }
  const bool method = info.kind == "baseline" || info.kind == "distillation";
  if (method) lines += "[[row]]\nid = \"" + info.name + "\"\n[row.method]\n";
  else lines += "[" + info.kind + "]\n";
  lines += "plugin = \"" + info.name + "\"\n";
  for (const Param& param : info.params) {
    lines += param.name + " = " + to_text(param.default_value) +
             (param.is_required ? "  # must be given\n" : "\n");
  }
  return lines;
}

}  // namespace dkdm::config
