// Checks of all kinds, and which checks a kind has.
#include "conformance/check.hpp"

#include <algorithm>

#include "conformance/check_support.hpp"
#include "dkdm/plugin.hpp"
#include "error_text.hpp"

namespace dkdm::conformance {
namespace {

bool is_line(const std::string& text) {
  return !text.empty() && text.find('\n') == std::string::npos;
}

bool is_slug(const std::string& text, char joint) {
  return !text.empty() && text.front() >= 'a' && text.front() <= 'z' &&
         std::all_of(text.begin(), text.end(), [&](char c) {
           return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == joint;
         });
}

bool is_number(const Value& value) {
  return std::holds_alternative<std::int64_t>(value) || std::holds_alternative<double>(value) ||
         std::holds_alternative<std::vector<std::int64_t>>(value) ||
         std::holds_alternative<std::vector<double>>(value);
}

// Keys that an experiment file puts into the plugin's own section.
std::vector<std::string> reserved_names(const std::string& kind) {
  if (kind == "teacher") return {"plugin", "student", "method", "train"};
  return {"plugin"};
}

std::string check_names(const plugin::PluginInfo& info) {
  require(is_slug(info.name, '-'), "the name is \"" + info.name + "\"",
          "use small letters, digits and dashes, a letter first");
  require(is_line(info.version), "the version is empty",
          "give one, and a new one whenever the same parameters would give another result");
  require(is_line(info.summary), "the summary is empty or longer than a line",
          "say in one line what it is");
  return info.kind + " \"" + info.name + "\", version " + info.version;
}

std::string check_parameters(const plugin::PluginInfo& info) {
  const auto reserved = reserved_names(info.kind);
  for (const Param& param : info.params) {
    const std::string who = "parameter " + param.name;
    require(is_slug(param.name, '_'), who + " has a name that TOML or a person may trip over",
            "use small letters, digits and _, a letter first");
    require(std::find(reserved.begin(), reserved.end(), param.name) == reserved.end(),
            who + " has the name of a key that the experiment file uses itself", "rename it");
    require(is_line(param.help), who + " has no help", "say in one line what it does, with unit");
    require(!is_number(param.default_value) || param.min || param.max, who + " has no range",
            "add at_least, at_most or between, so that a wrong value is refused at once");
  }
  if (info.params.empty()) return "it has none";
  return std::to_string(info.params.size()) + " with help, ranges and defaults inside them";
}

}  // namespace

bool Checklist::run(const std::string& check, const std::function<std::string()>& body) {
  if (left_out_.contains(check)) return false;
  begun_(check);
  Finding finding{check, Outcome::passed, ""};
  try {
    finding.text = body();
  } catch (const Error& error) {
    if (error.exit_code() == ExitCode::missing || error.exit_code() == ExitCode::interrupted) throw;
    finding = {check, Outcome::failed, error.what()};
  } catch (const std::exception& error) {
    finding = {check, Outcome::failed, "it threw: " + error_text(error)};
  } catch (...) {
    finding = {check, Outcome::failed, "it " + current_error_text()};
  }
  failed_ += finding.outcome == Outcome::failed;
  found_(finding);
  return finding.outcome == Outcome::passed;
}

void Checklist::skip(const std::string& check, const std::string& why) {
  begun_(check);
  found_({check, Outcome::skipped, why});
}

void check_description(const plugin::PluginInfo& info, Checklist& list) {
  list.run("handshake",
           [&] { return "ABI " DKDM_STR(DKDM_ABI) ", " DKDM_BUILD_ID ", " + info.file.string(); });
  list.run("name", [&] { return check_names(info); });
  list.run("parameters", [&] { return check_parameters(info); });
}

void check_behaviour(const Subject& subject, Checklist& list) {
  const std::string& kind = subject.plugin.kind;
  if (kind == "student") check_student(subject, list);
  else if (kind == "teacher") check_teacher(subject, list);
  else if (kind == "dataset") check_dataset(subject, list);
  else if (kind == "evaluator") check_evaluator(subject, list);
  else if (kind == "autoencoder") check_autoencoder(subject, list);
  else check_method(subject, list);
}

}  // namespace dkdm::conformance
