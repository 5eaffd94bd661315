// Seeds as a command line has them.
#include <algorithm>

#include "config/experiment.hpp"
#include "config/number.hpp"

namespace dkdm::config {

std::vector<std::int64_t> parse_seeds(const std::string& text) {
  constexpr std::int64_t kLargest = (std::int64_t{1} << 53) - 1, kMost = 10'000;  // as in a file
  const auto refuse = [&](const std::string& why) {
    throw ConfigError("--seeds",
                      "expected \"0\", \"0-2\" or \"1,4,7\", got \"" + text + "\": " + why);
  };
  const auto number = [&](const std::string& part) {
    if (part.empty()) refuse("a number is missing");
    return whole_number(part, "--seeds \"" + text + '"', 0, kLargest);
  };
  std::vector<std::int64_t> seeds;
  for (std::size_t start = 0; start <= text.size();) {
    const auto end = std::min(text.find(',', start), text.size());
    const std::string part = text.substr(start, end - start);
    const auto dash = part.find('-');
    const std::int64_t first = number(part.substr(0, dash));
    const std::int64_t last = dash == std::string::npos ? first : number(part.substr(dash + 1));
    if (last < first) refuse("a range goes up");
    if (last - first >= kMost) refuse("at most " + std::to_string(kMost) + " at a time");
    for (std::int64_t seed = first; seed <= last; ++seed) {
      if (std::find(seeds.begin(), seeds.end(), seed) != seeds.end())
        refuse(std::to_string(seed) + " is there twice");
      seeds.push_back(seed);
      if (static_cast<std::int64_t>(seeds.size()) > kMost)
        refuse("at most " + std::to_string(kMost) + " seeds");
    }
    start = end + 1;
  }
  return seeds;
}

}  // namespace dkdm::config
