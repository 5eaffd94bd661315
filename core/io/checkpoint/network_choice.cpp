// Which of a checkpoint's tensors are the network, and whether they are its moving average.
#include <algorithm>
#include <cctype>
#include <functional>
#include <optional>
#include <set>

#include "dkdm/architecture.hpp"
#include "dkdm/checkpoint.hpp"

namespace dkdm::io {
namespace {

namespace arch = dkdm::architecture;

const std::string kOptimizer =
    "the state of an optimizer (state, param_groups) and no network: the "
    "weights are in the model or ema file beside it";

struct Candidate {
  const StateDict* state = nullptr;
  std::string prefix;  // before its tensors' unwrapped names, "" or ending with '.'
  bool ema = false;
  bool known = false;  // one of the networks of architecture.hpp

  std::string path() const {
    const std::string attribute = prefix.substr(0, prefix.empty() ? 0 : prefix.size() - 1);
    if (state->path.empty() || attribute.empty()) return state->path + attribute;
    return state->path + "." + attribute;
  }
};

std::string in_quotes(const std::string& path) { return "'" + (path.empty() ? "." : path) + "'"; }

std::string listed(const std::vector<std::string>& words, std::size_t limit = 10) {
  std::string text;
  for (std::size_t i = 0; i < std::min(words.size(), limit); ++i)
    text += (i ? ", " : "") + words[i];
  if (words.size() > limit) text += " and " + std::to_string(words.size() - limit) + " more";
  return text;
}

std::string described(const CheckpointFile& file) {
  std::vector<std::string> states;
  for (const StateDict& state : file.states) {
    states.push_back(in_quotes(state.path) + " (" + std::to_string(state.tensors.size()) +
                     " tensors)");
  }
  return listed(states);
}

std::string paths_of(const std::vector<Candidate>& candidates) {
  std::vector<std::string> paths;
  for (const Candidate& one : candidates) paths.push_back(in_quotes(one.path()));
  return listed(paths);
}

// The words of a name in lower case: "state_dict_ema" -> state, dict, ema; "modelEMA.0" -> model,
// ema.
std::set<std::string> words_of(const std::string& name) {
  std::set<std::string> words;
  std::string word;
  bool lower = false;
  for (const char c : name + ".") {
    const auto byte = static_cast<unsigned char>(c);
    const bool begins = std::isupper(byte) && lower;
    if ((!std::isalpha(byte) || begins) && !word.empty()) words.insert(std::exchange(word, ""));
    lower = std::islower(byte) != 0;
    if (std::isalpha(byte)) word += static_cast<char>(std::tolower(byte));
  }
  return words;
}

bool says_average(const std::string& name) {
  const auto words = words_of(name);
  if (words.contains("online")) return false;  // ema_pytorch's name for what it averages
  static const std::set<std::string> kAverage{"average", "averaged", "avg",    "ema",      "ewa",
                                              "ewma",    "polyak",   "shadow", "smoothed", "swa"};
  return std::any_of(words.begin(), words.end(),
                     [](const std::string& word) { return kAverage.contains(word); });
}

// Lightning's WeightAveraging puts the average into state_dict and the trained weights beside it.
bool is_lightning_average(const CheckpointFile& file, const StateDict& state) {
  return state.path == "state_dict" &&
         std::any_of(file.states.begin(), file.states.end(),
                     [](const StateDict& other) { return other.path == "current_model_state"; });
}

// Of an optimizer: what it keeps for a parameter, or the list of them.
bool is_optimizer(const StateDict& state) {
  static const std::set<std::string> kept{"step",
                                          "exp_avg",
                                          "exp_avg_sq",
                                          "max_exp_avg_sq",
                                          "momentum_buffer",
                                          "square_avg",
                                          "acc_delta",
                                          "grad_avg",
                                          "sum",
                                          "exp_inf",
                                          "prev",
                                          "step_size",
                                          "eta",
                                          "mu",
                                          "ax",
                                          "exp_avg_slow"};
  const auto words = words_of(state.path);
  if (words.contains("opt") || words.contains("optim") || words.contains("optimizer") ||
      words.contains("optimizers")) {
    return true;
  }
  return !state.tensors.empty() &&
         std::all_of(state.tensors.begin(), state.tensors.end(),
                     [](const auto& entry) { return kept.contains(entry.first); });
}

bool is_nameless(const StateDict& state) {
  return !state.tensors.empty() &&
         std::all_of(state.tensors.begin(), state.tensors.end(), [](const auto& entry) {
           return std::all_of(entry.first.begin(), entry.first.end(),
                              [](unsigned char c) { return std::isdigit(c); });
         });
}

std::vector<std::string> names_of(const StateDict& state) {
  std::vector<std::string> names;
  for (const auto& [name, tensor] : state.tensors) names.push_back(name);
  return names;
}

bool has(const StateDict& state, const std::string& name) {
  return std::any_of(state.tensors.begin(), state.tensors.end(),
                     [&](const auto& entry) { return arch::unwrapped(entry.first) == name; });
}

// torch.optim.swa_utils.AveragedModel keeps the model as `module` and the count beside it.
bool is_averaged_model(const StateDict& state, const std::string& prefix) {
  const std::string module = "module.";
  return prefix.ends_with(module) &&
         has(state, prefix.substr(0, prefix.size() - module.size()) + "n_averaged");
}

std::vector<Candidate> candidates_of(const CheckpointFile& file) {
  std::vector<Candidate> known, others;
  for (const StateDict& state : file.states) {
    for (const std::string& prefix : arch::network_prefixes(names_of(state))) {
      Candidate one{&state, prefix, false, true};
      one.ema = is_averaged_model(state, prefix) || is_lightning_average(file, state) ||
                says_average(one.path());
      known.push_back(std::move(one));
    }
    if (!is_optimizer(state) && !is_nameless(state)) {
      others.push_back(
          {&state, "", is_lightning_average(file, state) || says_average(state.path), false});
    }
  }
  return known.empty() ? others : known;
}

// The candidate's tensors under the network's own names: not those of another network whose names
// go on from its prefix, and not the counters beside a known network, which has no tensor of no
// dimension.
NamedTensors tensors_of(const Candidate& chosen) {
  std::vector<std::string> others = arch::network_prefixes(names_of(*chosen.state));
  std::erase_if(others, [&](const std::string& prefix) {
    return prefix.size() <= chosen.prefix.size() || !prefix.starts_with(chosen.prefix);
  });
  NamedTensors tensors;
  for (const auto& [wrapped, tensor] : chosen.state->tensors) {
    const std::string name = arch::unwrapped(wrapped);
    const auto begins_name = [&](const std::string& prefix) { return name.starts_with(prefix); };
    if (!begins_name(chosen.prefix) || std::any_of(others.begin(), others.end(), begins_name))
      continue;
    const std::string own = name.substr(chosen.prefix.size());
    const bool counter = chosen.known && tensor.dim() == 0 && own.find('.') == std::string::npos;
    if (!counter) tensors.emplace_back(own, tensor);
  }
  return tensors;
}

// Whether two candidates are one network with other weights: one may be the other's average.
bool is_twin(const Candidate& a, const Candidate& b) {
  const NamedTensors left = tensors_of(a), right = tensors_of(b);
  if (left.size() != right.size()) return false;
  bool same = true;
  for (std::size_t i = 0; i < left.size(); ++i) {
    if (left[i].first != right[i].first || left[i].second.sizes() != right[i].second.sizes())
      return false;
    same = same && left[i].second.scalar_type() == right[i].second.scalar_type() &&
           left[i].second.equal(right[i].second);
  }
  return !same;
}

// A moving average that is no network by its names.
struct NamelessAverage {
  const StateDict* state = nullptr;
  std::string path;
  NamedTensors tensors;  // names: numbers of the list, or LitEma's without dots
};

std::vector<NamelessAverage> nameless_averages(const CheckpointFile& file) {
  std::vector<NamelessAverage> found;
  for (const StateDict& state : file.states) {
    if (is_nameless(state) && says_average(state.path)) {
      found.push_back({&state, state.path, state.tensors});
    }
    // LitEma(self.model) registers its copies as buffers of one module, which allows no dots.
    std::map<std::string, NamedTensors> modules;
    for (const auto& [name, tensor] : state.tensors) {
      const auto dot = name.rfind('.');
      if (dot == std::string::npos || !says_average(name.substr(0, dot))) continue;
      const std::string rest = name.substr(dot + 1);
      if (tensor.dim() > 0 && rest != "weight" && rest != "bias") {
        modules[name.substr(0, dot)].emplace_back(rest, tensor);
      }
    }
    for (auto& [module, tensors] : modules) {
      found.push_back(
          {&state, state.path.empty() ? module : state.path + "." + module, std::move(tensors)});
    }
  }
  return found;
}

std::string without_dots(std::string text) {
  std::erase(text, '.');
  return text;
}

// The average under the names of `raw`, or nothing where it does not fit it tensor by tensor.
std::optional<NamedTensors> named_by(const NamelessAverage& average, const Candidate& raw) {
  const NamedTensors names = tensors_of(raw);
  const auto fits = [](const at::Tensor& a, const at::Tensor& b) { return a.sizes() == b.sizes(); };
  NamedTensors named;
  if (is_nameless(
          *average.state)) {  // in the order of model.parameters(), which state_dict() keeps
    if (names.size() != average.tensors.size()) return std::nullopt;
    for (std::size_t i = 0; i < names.size(); ++i) {
      if (!fits(names[i].second, average.tensors[i].second)) return std::nullopt;
      named.emplace_back(names[i].first, average.tensors[i].second);
    }
    return named;
  }
  // LitEma's names begin below the attribute that it averages: try each part of the prefix.
  for (std::size_t cut = 0;; cut = raw.prefix.find('.', cut) + 1) {
    const std::string below = without_dots(raw.prefix.substr(cut));
    named.clear();
    for (const auto& [name, tensor] : names) {
      const auto found = std::find_if(average.tensors.begin(), average.tensors.end(),
                                      [&, &name = name](const auto& entry) {
                                        return entry.first == below + without_dots(name);
                                      });
      if (found == average.tensors.end() || !fits(tensor, found->second)) break;
      named.emplace_back(name, found->second);
    }
    if (named.size() == names.size()) return named;
    if (raw.prefix.find('.', cut) == std::string::npos) return std::nullopt;
  }
}

class Chooser {
 public:
  Chooser(const CheckpointFile& file, const std::string& state, WeightsKind preferred,
          std::string name)
      : file_(file), wanted_(state == "." ? "" : state), asked_(!state.empty()),
        preferred_(preferred), name_(std::move(name)), candidates_(candidates_of(file)),
        averages_(nameless_averages(file)) {
    if (file.states.empty()) fail("holds no tensors" + what_else());
    // Tensors right below a network's averaged copy are no list without names.
    std::erase_if(averages_, [&](const NamelessAverage& average) {
      return std::any_of(candidates_.begin(), candidates_.end(), [&](const Candidate& one) {
        const std::string a = one.path() + ".", b = average.path + ".";
        return one.ema && (a.starts_with(b) || b.starts_with(a));
      });
    });
  }

  ChosenNetwork network() {
    if (asked_) {
      for (const NamelessAverage& average : averages_) {
        const bool is_it = average.path == wanted_ ||
                           (average.path.starts_with(wanted_ + ".") && !find_state(wanted_));
        if (is_it && is_known()) return averaged(average);
      }
    }
    const std::vector<Candidate> fitting = asked_ ? asked_for() : candidates_;
    const Candidate chosen = choose(fitting);
    const bool wants_average = !asked_ && preferred_ != WeightsKind::raw;
    if (wants_average && !chosen.ema && chosen.known && !averages_.empty()) {
      return averaged(averages_.front());
    }
    return finished(chosen);
  }

  const StateDict& state() {
    if (!asked_) return *choose(candidates_).state;
    const StateDict* found = find_state(wanted_);
    if (!found) refuse_wanted();
    return *found;
  }

 private:
  [[noreturn]] void fail(const std::string& message) const { throw DataError(name_, message); }

  std::string what_else() const {
    if (file_.values.empty()) return "";
    const auto& [path, value] = *file_.values.begin();
    return "; it holds " + (path.empty() ? value : "'" + path + "': " + value);
  }

  bool is_known() const { return !candidates_.empty() && candidates_.front().known; }

  const StateDict* find_state(const std::string& path) const {
    const StateDict* found = nullptr;
    for (const StateDict& state : file_.states) {
      if (state.path != path) continue;
      if (found) fail("holds two dictionaries called " + in_quotes(path));
      found = &state;
    }
    return found;
  }

  [[noreturn]] void refuse_wanted() const {
    fail("has no dictionary of tensors " + in_quotes(wanted_) + "; it holds " + described(file_));
  }

  // What `state` names: a network, or the networks of a dictionary, or a dictionary without a known
  // one.
  std::vector<Candidate> asked_for() const {
    std::vector<Candidate> fitting;
    const auto take = [&](const std::function<bool(const Candidate&)>& fits) {
      if (!fitting.empty()) return;
      std::copy_if(candidates_.begin(), candidates_.end(), std::back_inserter(fitting), fits);
    };
    take([&](const Candidate& one) { return one.path() == wanted_; });
    take([&](const Candidate& one) { return one.state->path == wanted_; });
    // "ema" where the tensors are in ema.shadow or behind ema.module.
    take([&](const Candidate& one) { return one.path().starts_with(wanted_ + "."); });
    if (!fitting.empty()) return fitting;
    const StateDict* state = find_state(wanted_);
    if (!state) refuse_wanted();
    return {{state, "", says_average(state->path), false}};
  }

  Candidate choose(const std::vector<Candidate>& fitting) const {
    if (fitting.empty()) refuse_file();
    std::vector<Candidate> averages, others;
    for (const Candidate& one : fitting) (one.ema ? averages : others).push_back(one);
    if (preferred_ == WeightsKind::raw && !others.empty()) averages.clear();
    if (averages.size() == 1) return averages.front();
    if (averages.size() > 1) {
      fail("holds several moving averages, " + paths_of(averages) + "; name one by state");
    }
    if (others.size() == 1) return others.front();
    for (const char* usual :
         {"state_dict", "model_state_dict", "model", "module", "net", "network", "unet", ""}) {
      std::vector<Candidate> named;
      for (const Candidate& one : others) {
        if (one.path() == usual || one.state->path == usual) named.push_back(one);
      }
      if (named.size() == 1) return alone(named.front(), others);
      if (named.size() > 1)
        fail("holds several networks, " + paths_of(named) + "; name one by state");
    }
    fail("holds several dictionaries of tensors, none under a usual name; name one of " +
         (others.front().known ? paths_of(others) : described(file_)) + " by state");
  }

  // `chosen` by its usual name, unless another may be its average under a name that does not say
  // so.
  Candidate alone(const Candidate& chosen, const std::vector<Candidate>& others) const {
    if (preferred_ == WeightsKind::raw || !chosen.known) return chosen;
    for (const Candidate& other : others) {
      if (!is_twin(chosen, other)) continue;
      fail("holds one network with two sets of weights, " + paths_of({chosen, other}) +
           ", and no name says which is the moving average; name one by state");
    }
    return chosen;
  }

  [[noreturn]] void refuse_file() const {
    const bool optimizer = std::any_of(file_.states.begin(), file_.states.end(), is_optimizer);
    fail(optimizer ? kOptimizer
                   : "holds lists of tensors without names and no network: " + described(file_));
  }

  bool has_average() const {
    return !averages_.empty() || std::any_of(candidates_.begin(), candidates_.end(),
                                             [](const auto& one) { return one.ema; });
  }

  // Where the other kind of weights is, for the log.
  std::string others(bool ema) const {
    std::vector<std::string> paths;
    for (const Candidate& one : candidates_) {
      if (one.ema == ema) paths.push_back(in_quotes(one.path()));
    }
    for (const NamelessAverage& one : averages_) {
      if (ema) paths.push_back(in_quotes(one.path));
    }
    return listed(paths, 3);
  }

  ChosenNetwork finished(const Candidate& chosen) const {
    ChosenNetwork out;
    out.path = chosen.path();
    out.tensors = tensors_of(chosen);
    out.kind = chosen.ema      ? WeightsKind::ema
               : has_average() ? WeightsKind::raw
                               : WeightsKind::given;
    for (const auto& [wrapped, what] : chosen.state->left_out) {
      if (arch::unwrapped(wrapped).starts_with(chosen.prefix)) {
        fail("tensor '" + wrapped + "' is " + what + ", which is not read");
      }
    }
    if (chosen.ema) {
      out.said = "EMA weights, from " + in_quotes(out.path);
      if (const auto raw = others(false); !raw.empty()) out.said += "; the raw ones are in " + raw;
    } else if (out.kind == WeightsKind::raw) {
      out.said =
          "raw weights, from " + in_quotes(out.path) + "; EMA weights are in " + others(true);
    } else if (!out.path.empty()) {
      out.said = "from " + in_quotes(out.path);
    }
    compare_checksums(file_, out.tensors);
    return out;
  }

  ChosenNetwork averaged(const NamelessAverage& average) const {
    std::vector<Candidate> raw;
    for (const Candidate& one : candidates_) {
      if (!one.ema) raw.push_back(one);
    }
    ChosenNetwork out;
    if (!raw.empty()) {
      const Candidate by = choose(raw);
      if (auto named = named_by(average, by)) {
        out.path = average.path;
        out.kind = WeightsKind::ema;
        out.tensors = std::move(*named);
        out.said = "EMA weights, from " + in_quotes(average.path) + " by the names of " +
                   in_quotes(by.path()) + ", which are the raw ones";
        compare_checksums(file_, out.tensors);
        return out;
      }
    }
    fail("holds a moving average without the network's names, " + in_quotes(average.path) + " (" +
         std::to_string(average.tensors.size()) + " tensors), which does not fit " +
         (raw.empty() ? "any network of the file"
                      : paths_of(raw) + " tensor by tensor; state = \"" +
                            (raw.front().path().empty() ? "." : raw.front().path()) +
                            "\" takes the raw weights"));
  }

  const CheckpointFile& file_;
  const std::string wanted_;
  const bool asked_;
  const WeightsKind preferred_;
  const std::string name_;
  const std::vector<Candidate> candidates_;
  std::vector<NamelessAverage> averages_;
};

}  // namespace

std::string kind_of_file(const CheckpointFile& file) {
  const bool optimizer =
      !file.states.empty() && std::all_of(file.states.begin(), file.states.end(), is_optimizer);
  return optimizer ? kOptimizer : "";
}

ChosenNetwork choose_network(const CheckpointFile& file, const std::string& state,
                             const std::filesystem::path& name, WeightsKind preferred) {
  return Chooser(file, state, preferred, name.string()).network();
}

const StateDict& select_state(const CheckpointFile& file, const std::string& path,
                              const std::filesystem::path& name) {
  const StateDict& state = Chooser(file, path, WeightsKind::ema, name.string()).state();
  compare_checksums(file, state.tensors);
  return state;
}

}  // namespace dkdm::io
