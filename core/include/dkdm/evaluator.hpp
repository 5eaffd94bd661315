// Named metrics of samples against a reference.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "dkdm/dataset.hpp"
#include "dkdm/host.hpp"

namespace dkdm {

struct Metric {
  std::string name;  // "is", "fid", "sfid"
  double value = 0;
  bool higher_is_better = false;
  std::string unit;  // "" = none
};

class DKDM_API Evaluator {
 public:
  virtual ~Evaluator();

  // Fewer samples than this give no meaningful value (twice the largest feature dimension). Known from
  // the parameters alone, so that an experiment with too few is refused before it trains anything.
  virtual std::int64_t least_samples() const = 0;

  // Makes weights and reference statistics for `reference` in `dir`, once (cached by the host).
  virtual void prepare(const Dataset& reference, std::uint64_t seed,
                       const std::filesystem::path& dir) = 0;
  // Opens what `prepare` made. The calls below come after.
  virtual void open(const std::filesystem::path& dir) = 0;

  // Two values compare only under one protocol: feature network with hash, preprocessing, rules.
  virtual std::string protocol() const = 0;
  virtual std::string reference_fingerprint() const = 0;
  // uint8 [n,C,S,S] in sample order, any batch sizes; then `finish` gives the metrics and resets.
  virtual void add(const at::Tensor& images) = 0;
  virtual std::vector<Metric> finish() = 0;
};

}  // namespace dkdm
