// The conformance test of a plugin: named checks of what its kind's header promises. `dkdm plugins
// check` prints them, the tests run them over every shipped plugin.
#pragma once

#include <functional>
#include <set>
#include <string>
#include <vector>

#include "dkdm/host.hpp"
#include "dkdm/params.hpp"
#include "plugin/registry.hpp"

namespace dkdm::conformance {

enum class Outcome { passed, failed, skipped };

// What came of one check, in one line: what was seen, or what is wrong and what to do about it.
struct Finding {
  std::string check;
  Outcome outcome = Outcome::passed;
  std::string text;
};

// Runs checks one after another; one that fails does not stop the next.
class DKDM_API Checklist {
 public:
  // `begun` hears a check's name before it runs, `found` what came of it. Checks in `left_out` are
  // not made: those that took their process with them.
  Checklist(std::function<void(const std::string&)> begun,
            std::function<void(const Finding&)> found, std::set<std::string> left_out = {})
      : begun_(std::move(begun)), found_(std::move(found)), left_out_(std::move(left_out)) {}

  // `body` returns what it saw. Whatever it throws is a failure with its message, but a want of
  // data (ExitCode::missing) and Interrupted, which end the test. Returns whether it passed.
  bool run(const std::string& check, const std::function<std::string()>& body);
  // A check that could not be made, and why.
  void skip(const std::string& check, const std::string& why);

  bool passed() const { return failed_ == 0; }

 private:
  std::function<void(const std::string&)> begun_;
  std::function<void(const Finding&)> found_;
  std::set<std::string> left_out_;
  int failed_ = 0;
};

// The plugin under test with its parameters' values. References outlive the check.
struct Subject {
  const plugin::Registry& registry;
  const plugin::PluginInfo& plugin;
  Params params;
  Host& host;
  std::vector<ImageSpec> specs =
      {};  // image shapes that a student is tried at; none: the usual ones
  // Where networks are tried as well: an accelerator, or LibTorch's device without memory.
  at::Device device = at::kMeta;

  plugin::PluginChoice choice() const { return {plugin.kind, plugin.name, plugin.version, params}; }
};

// What every kind has: the handshake that it passed, and its description (name, summary, parameters
// with help and ranges). `info` was loaded.
DKDM_API void check_description(const plugin::PluginInfo& info, Checklist& list);

// The checks of the subject's kind. Throws an Error with ExitCode::missing where the plugin lacks
// data or weights, Interrupted when the host is asked to stop.
DKDM_API void check_behaviour(const Subject& subject, Checklist& list);

// What a student costs here: one training step on `batch` images of `spec`, best of a few, and the
// process's largest resident memory (so: one network a process).
struct StudentCost {
  std::int64_t parameters = 0, forward_flops = 0, peak_bytes = 0;
  double step_s = 0;
};
DKDM_API StudentCost student_cost(const plugin::Registry& registry,
                                  const plugin::PluginChoice& student, const ImageSpec& spec,
                                  std::int64_t batch);

// The image shape at which a student's costs are taken: the first of those below that it accepts.
DKDM_API ImageSpec usual_spec(const plugin::Registry& registry,
                              const plugin::PluginChoice& student);

}  // namespace dkdm::conformance
