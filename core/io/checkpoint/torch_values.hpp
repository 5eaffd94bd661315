// Values of PyTorch's pickles as texts for a person: numbers as Python prints them, what else they
// are.
#pragma once

#include <optional>
#include <string>

#include "io/checkpoint/pickle.hpp"

namespace dkdm::io {

class ValueTexts {
 public:
  explicit ValueTexts(const pickle::Pickle& pickle) : pickle_(pickle) {}

  // "0.001", "None", "torch.float16", "an argparse.Namespace", "a list".
  std::string text(const pickle::Node& node) const;
  // A list, tuple or set of values without parts: "[0.9, 0.999]"; nothing when it holds anything
  // else.
  std::optional<std::string> short_list(const pickle::Node& list) const;
  // A dictionary's key.
  std::string key(const pickle::Node& node) const;
  // Calls that are a value as a whole: torch.Size, numpy's scalars and arrays.
  static bool is_value(pickle::Role role);

 private:
  std::string global_name(const pickle::Node& global) const;
  std::string call_text(const pickle::Node& call) const;
  std::string numpy_scalar(const pickle::Node& call) const;

  const pickle::Pickle& pickle_;
};

}  // namespace dkdm::io
