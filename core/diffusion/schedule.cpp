// Schedules, respacing, coefficient tables (guided-diffusion: gaussian_diffusion.py, respace.py).
#include "diffusion/schedule.hpp"

#include <charconv>
#include <cmath>
#include <numbers>
#include <string_view>
#include <utility>

namespace dkdm {
namespace {

// A decimal count of at least 1, or 0 when `text` is not one.
std::int64_t parse_count(std::string_view text) {
  std::int64_t count = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), count);
  return error == std::errc{} && end == text.data() + text.size() && count > 0 ? count : 0;
}

// "ddimN": the smallest integer stride that gives exactly N steps.
std::vector<std::int64_t> strided_steps(std::int64_t steps, const std::string& respacing) {
  const std::int64_t wanted = parse_count(std::string_view(respacing).substr(4));
  std::int64_t nearest = 0;
  for (std::int64_t stride = 1; wanted > 0 && stride < steps; ++stride) {
    const std::int64_t count = (steps + stride - 1) / stride;
    if (count == wanted) {
      std::vector<std::int64_t> kept;
      for (std::int64_t t = 0; t < steps; t += stride) kept.push_back(t);
      return kept;
    }
    if (nearest == 0 || std::abs(count - wanted) < std::abs(nearest - wanted)) nearest = count;
  }
  const std::string hint =
      nearest > 0 ? "; the nearest is \"ddim" + std::to_string(nearest) + "\"" : "";
  throw ConfigError("respacing \"" + respacing + "\": no integer stride over " +
                    std::to_string(steps) + " steps keeps that many" + hint);
}

std::vector<std::int64_t> section_counts(const std::string& respacing) {
  std::vector<std::int64_t> counts;
  for (std::size_t begin = 0; begin <= respacing.size();) {
    const std::size_t end = std::min(respacing.find(',', begin), respacing.size());
    const std::int64_t count = parse_count(std::string_view(respacing).substr(begin, end - begin));
    if (count == 0) {
      throw ConfigError("respacing \"" + respacing +
                        "\": expected \"\" (all steps), a count, "
                        "counts separated by commas, or ddimN");
    }
    counts.push_back(count);
    begin = end + 1;
  }
  return counts;
}

}  // namespace

std::vector<std::int64_t> respaced_steps(std::int64_t steps, const std::string& respacing) {
  std::vector<std::int64_t> kept;
  if (respacing.empty()) {
    for (std::int64_t t = 0; t < steps; ++t) kept.push_back(t);
    return kept;
  }
  if (respacing.starts_with("ddim")) return strided_steps(steps, respacing);

  const std::vector<std::int64_t> counts = section_counts(respacing);
  const auto sections = static_cast<std::int64_t>(counts.size());
  std::int64_t start = 0;
  for (std::int64_t section = 0; section < sections; ++section) {
    const std::int64_t size = steps / sections + (section < steps % sections ? 1 : 0);
    const std::int64_t count = counts[static_cast<std::size_t>(section)];
    if (size < count) {
      throw ConfigError("respacing \"" + respacing + "\": cannot keep " + std::to_string(count) +
                        " of the " + std::to_string(size) + " steps of section " +
                        std::to_string(section + 1));
    }
    // The reference accumulates the position and rounds half to even: both decide which steps stay.
    const double stride =
        count <= 1 ? 1.0 : static_cast<double>(size - 1) / static_cast<double>(count - 1);
    double position = 0;
    for (std::int64_t i = 0; i < count; ++i) {
      kept.push_back(start + static_cast<std::int64_t>(std::nearbyint(position)));
      position += stride;
    }
    start += size;
  }
  return kept;
}

namespace diffusion {

namespace {

// Both ends of a linear schedule.
std::pair<double, double> linear_ends(const DiffusionConfig& config) {
  const double scale = 1000.0 / static_cast<double>(config.steps);
  const double first = config.beta_start == 0 ? scale * 0.0001 : config.beta_start;
  const double last = config.beta_end == 0 ? scale * 0.02 : config.beta_end;
  if (config.beta_end == 0 && last >= 1) {
    throw ConfigError("diffusion.steps is " + std::to_string(config.steps) +
                      ": the linear schedule needs more than 20, its last beta must be below 1");
  }
  if (!(first > 0 && first <= last && last < 1)) {
    throw ConfigError("diffusion.beta_start and beta_end are " + std::to_string(first) + " and " +
                      std::to_string(last) + ", expected 0 < beta_start <= beta_end < 1");
  }
  return {first, last};
}

std::vector<double> evenly(double first, double last, std::int64_t count) {
  std::vector<double> points(static_cast<std::size_t>(count));
  const double stride = (last - first) / static_cast<double>(count - 1);
  for (std::size_t i = 0; i < points.size(); ++i)
    points[i] = first + static_cast<double>(i) * stride;
  points.back() = last;
  return points;
}

}  // namespace

std::vector<double> betas(const DiffusionConfig& config) {
  const std::int64_t steps = config.steps;
  constexpr std::int64_t kMostSteps = 100000;
  if (steps < 2 || steps > kMostSteps) {
    throw ConfigError("diffusion.steps is " + std::to_string(steps) +
                      ", expected at least 2 and at most " + std::to_string(kMostSteps));
  }
  std::vector<double> beta(static_cast<std::size_t>(steps));
  if (config.schedule == "linear") {
    const auto [first, last] = linear_ends(config);
    beta = evenly(first, last, steps);
  } else if (config.schedule == "scaled_linear") {
    const auto [first, last] = linear_ends(config);
    beta = evenly(std::sqrt(first), std::sqrt(last), steps);
    for (double& b : beta) b *= b;
  } else if (config.schedule == "cosine") {
    const auto alpha_bar = [&](std::size_t i) {
      const double s = static_cast<double>(i) / static_cast<double>(steps);
      const double cosine = std::cos((s + 0.008) / 1.008 * std::numbers::pi / 2);
      return cosine * cosine;
    };
    for (std::size_t i = 0; i < beta.size(); ++i) {
      beta[i] = std::min(1 - alpha_bar(i + 1) / alpha_bar(i), 0.999);
    }
  } else {
    throw ConfigError("diffusion.schedule is \"" + config.schedule +
                      "\", expected \"cosine\", \"linear\" or \"scaled_linear\"");
  }
  return beta;
}

std::vector<double> respaced_betas(const std::vector<double>& betas,
                                   const std::vector<std::int64_t>& kept) {
  std::vector<double> alpha_bar;
  double product = 1;
  for (const double beta : betas) alpha_bar.push_back(product *= 1 - beta);
  std::vector<double> result;
  double last = 1;
  for (const std::int64_t t : kept) {
    const double now = alpha_bar[static_cast<std::size_t>(t)];
    result.push_back(1 - now / last);
    last = now;
  }
  return result;
}

GaussianDiffusion::Tables make_tables(const std::vector<double>& betas) {
  GaussianDiffusion::Tables tables;
  tables.beta = betas;
  double previous = 1;
  for (const double beta : betas) {
    const double alpha = 1 - beta;
    const double alpha_bar = previous * alpha;
    tables.alpha_bar.push_back(alpha_bar);
    tables.alpha_bar_prev.push_back(previous);
    tables.log_beta.push_back(std::log(beta));
    tables.sqrt_alpha_bar.push_back(std::sqrt(alpha_bar));
    tables.sqrt_one_minus_alpha_bar.push_back(std::sqrt(1 - alpha_bar));
    tables.sqrt_recip_alpha_bar.push_back(std::sqrt(1 / alpha_bar));
    tables.sqrt_recipm1_alpha_bar.push_back(std::sqrt(1 / alpha_bar - 1));
    tables.posterior_variance.push_back(beta * (1 - previous) / (1 - alpha_bar));
    tables.posterior_mean_coef_x0.push_back(beta * std::sqrt(previous) / (1 - alpha_bar));
    tables.posterior_mean_coef_xt.push_back((1 - previous) * std::sqrt(alpha) / (1 - alpha_bar));
    previous = alpha_bar;
  }
  // Entry 0 is log 0; entry 1 stands in for it.
  tables.posterior_log_variance_clipped.push_back(std::log(tables.posterior_variance.at(1)));
  for (std::size_t i = 1; i < betas.size(); ++i) {
    tables.posterior_log_variance_clipped.push_back(std::log(tables.posterior_variance[i]));
  }
  return tables;
}

}  // namespace diffusion
}  // namespace dkdm
