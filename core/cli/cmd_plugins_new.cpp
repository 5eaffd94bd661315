// dkdm plugins new: a folder with a plugin to start from, made of the files in core/cli/templates/.
#include <algorithm>
#include <iostream>
#include <regex>
#include <sstream>
#include <utility>

#include "cli/plugins.hpp"
#include "dkdm/files.hpp"
#include "dkdm/nearest.hpp"
#include "dkdm/store_error.hpp"
#include "templates.hpp"

namespace dkdm::cli {
namespace {

namespace fs = std::filesystem;

const std::vector<std::string> kKinds{"student",      "teacher",   "dataset",    "baseline",
                                      "distillation", "evaluator", "autoencoder"};

const Template* find_template(const std::string& file) {
  const auto* found = std::find_if(std::begin(kTemplates), std::end(kTemplates),
                                   [&](const Template& t) { return t.file == file; });
  return found == std::end(kTemplates) ? nullptr : found;
}

// Of README.md, where there is an experiment.
constexpr const char* kRunLine =
    "    dkdm run experiment.toml                 # a table, in about two minutes on two cores\n";

std::string template_text(const std::string& file) {
  const Template* found = find_template(file);
  if (!found) throw std::logic_error("no template " + file);
  return found->text;
}

void replace_all(std::string& text, const std::string& what, const std::string& by) {
  for (std::size_t at = 0; (at = text.find(what, at)) != std::string::npos; at += by.size())
    text.replace(at, what.size(), by);
}

// "my-net" -> "MyNet".
std::string class_name(const std::string& name) {
  std::string result;
  bool first = true;
  for (const char c : name) {
    if (c != '-') result += first ? static_cast<char>(c - 'a' + 'A') : c;
    first = c == '-';
  }
  return result;
}

// The sections of `text` (a header line and what follows it, up to the next), with what stands
// before the first under "". A comment line right above a header belongs to it.
using Sections = std::vector<std::pair<std::string, std::string>>;
Sections sections_of(const std::string& text) {
  Sections sections{{"", ""}};
  std::istringstream stream(text);
  std::string comments;
  for (std::string line; std::getline(stream, line);) {
    line += '\n';
    if (line[0] == '#' && !sections.back().first.empty()) {
      comments += line;
      continue;
    }
    if (line[0] == '[') sections.emplace_back(line, "");
    sections.back().second += comments + line;
    comments.clear();
  }
  return sections;
}

// The experiment of all kinds with this kind's sections in place of its own, and its rows at the
// end. A section without content takes that section away.
std::string experiment(const std::string& kind) {
  Sections sections = sections_of(template_text("experiment.toml"));
  for (const auto& [header, text] : sections_of(template_text(kind + ".toml"))) {
    if (header.empty()) continue;
    const auto is_same = [&, &header = header](const auto& section) {
      return section.first == header;
    };
    const auto found = std::find_if(sections.begin(), sections.end(), is_same);
    if (header == "[[row]]\n" || found == sections.end())
      sections.emplace_back(header, "\n" + text);
    else if (text == header) sections.erase(found);
    else found->second = text + (text.ends_with("\n\n") ? "" : "\n");
  }
  std::string all;
  for (const auto& [header, text] : sections) all += text;
  return all;
}

void check_name(const plugin::Registry& registry, const std::string& name) {
  if (!std::regex_match(name, std::regex("[a-z][a-z0-9]*(-[a-z][a-z0-9]*)*"))) {
    throw ConfigError("plugins new: name \"" + name +
                      "\": expected lower-case words joined by '-', as in my-net");
  }
  for (const plugin::PluginInfo& info : registry.plugins()) {
    if (info.name != name) continue;
    throw ConfigError("plugins new: name \"" + name + "\" is taken by the " + info.kind + " of " +
                      info.file.string() + "; choose another");
  }
}

}  // namespace

void new_plugin(const Options& options, Context& context, const std::string& kind,
                const std::string& name, const std::string& output) {
  if (std::find(kKinds.begin(), kKinds.end(), kind) == kKinds.end()) {
    const std::string near = nearest_name(kind, kKinds);
    options.misuse("plugins new: no kind '" + kind + "'" +
                   (near.empty() ? "; there are student, teacher, dataset, baseline, distillation, "
                                   "evaluator and autoencoder"
                                 : "; did you mean " + near + "?"));
  }
  check_name(context.registry(), name);
  const fs::path folder = output.empty() ? fs::path(name) : fs::path(output);
  if (fs::exists(folder)) {
    throw ConfigError("plugins new: " + folder.string() +
                      " exists already; remove it or choose another folder with -o");
  }

  std::string file_name = name;
  std::replace(file_name.begin(), file_name.end(), '-', '_');
  const std::string program = fs::read_symlink("/proc/self/exe").string();
  const auto filled = [&](std::string text) {
    replace_all(text, "my-plugin", name);
    replace_all(text, "my_plugin", file_name);
    replace_all(text, "MyPlugin", class_name(name));
    replace_all(text, "@KIND@", kind);
    replace_all(text, "@PACKAGE@", context.package_folder().string());
    replace_all(text, "@PROGRAM@", program);
    return text;
  };
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) throw StoreError(folder.string() + ": cannot be made: " + error.message());
  std::vector<std::pair<std::string, std::string>> files{
      {file_name + ".cpp", template_text(kind + ".cpp")},
      {"CMakeLists.txt", template_text("CMakeLists.txt")}};
  // Experiments have no place for an autoencoder.
  const bool runs = find_template(kind + ".toml") != nullptr;
  if (runs) files.emplace_back("experiment.toml", experiment(kind));
  std::string readme = template_text("README.md");
  replace_all(readme, "@RUN@\n", runs ? kRunLine : "");
  files.emplace_back("README.md", readme);
  for (const auto& [file, text] : files) {
    io::write_text(folder / file, filled(text));
    std::cout << (folder / file).string() << '\n';
  }
  std::cerr << "Next:\n  cd " << folder.string()
            << "\n  cmake -S . -B build && cmake --build build\n  " << program
            << (runs ? " run experiment.toml\n" : " plugins check build/" + name + ".so\n");
}

}  // namespace dkdm::cli
