#include "cli/sweep.hpp"

#include "cli/session.hpp"

namespace dkdm::cli {
namespace {

using Overrides = std::vector<std::string>;

std::string trimmed(const std::string& text) {
  const auto first = text.find_first_not_of(" \t");
  return first == std::string::npos ? ""
                                    : text.substr(first, text.find_last_not_of(" \t") - first + 1);
}

// The elements of "a,b,c" or "[a, b, c]": cut at commas outside of quotes and brackets. Fewer than
// two, or an empty one: no list.
std::vector<std::string> elements(std::string text) {
  if (text.size() > 1 && text.front() == '[' && text.back() == ']')
    text = text.substr(1, text.size() - 2);
  std::vector<std::string> parts(1);
  int depth = 0;
  char quote = 0;
  for (const char c : text) {
    if (quote != 0) {
      if (c == quote) quote = 0;
    } else if (c == '"' || c == '\'') {
      quote = c;
    } else if (c == '[' || c == '{') {
      ++depth;
    } else if (c == ']' || c == '}') {
      --depth;
    } else if (c == ',' && depth == 0) {
      parts.emplace_back();
      continue;
    }
    parts.back() += c;
  }
  for (auto& part : parts) {
    part = trimmed(part);
    if (part.empty()) return {};
  }
  return parts.size() < 2 ? std::vector<std::string>() : parts;
}

bool loads(const std::filesystem::path& file, const Overrides& overrides, Context& context) {
  try {
    read_experiment(file, overrides, context);
    return true;
  } catch (const ConfigError&) {
    return false;
  }
}

}  // namespace

std::vector<Overrides> configurations(const std::filesystem::path& file, const Overrides& overrides,
                                      Context& context) {
  constexpr std::size_t kMost = 1000;
  Overrides plain;                                       // without lists
  std::vector<std::pair<std::size_t, Overrides>> lists;  // place, each value's override
  for (std::size_t i = 0; i < overrides.size(); ++i) {
    const auto equals = overrides[i].find('=');
    const auto values =
        equals == std::string::npos ? Overrides() : elements(overrides[i].substr(equals + 1));
    if (values.empty()) {
      plain.push_back(overrides[i]);
      continue;
    }
    Overrides each;
    for (const auto& value : values) each.push_back(overrides[i].substr(0, equals + 1) + value);
    lists.emplace_back(i, each);
  }
  std::vector<Overrides> all{overrides};
  for (const auto& [place, each] : lists) {
    auto with = plain;
    with.push_back(overrides[place]);
    if (loads(file, with, context)) continue;  // the key takes the list as it stands
    for (const auto& one : each) {
      with.back() = one;
      read_experiment(file, with, context);  // says which value is wrong
    }
    if (all.size() * each.size() > kMost)
      throw ConfigError("--set", "asks for " + std::to_string(all.size() * each.size()) +
                                     " configurations or more, expected at most " +
                                     std::to_string(kMost));
    std::vector<Overrides> more;
    for (const auto& configuration : all) {
      for (const auto& one : each) {
        more.push_back(configuration);
        more.back()[place] = one;
      }
    }
    all = std::move(more);
  }
  return all;
}

}  // namespace dkdm::cli
