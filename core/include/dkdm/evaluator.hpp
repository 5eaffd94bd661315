// Named metrics of samples against a reference. Threads: the host calls an evaluator from one.
// An evaluator's life: prepare (once a reference, cached by the host) -> open -> add … add ->
// finish, and add again for the next sample set. What has been added so far is its state, a few
// tensors: saved, it survives a kill; restored, it goes on; states of shards merge into that of the
// whole.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "dkdm/dataset.hpp"
#include "dkdm/host.hpp"
#include "dkdm/io.hpp"

namespace dkdm {

struct Metric {
  std::string name;  // "is", "fid", "sfid", "precision", "recall", "fid_inf", …
  double value = 0;
  bool higher_is_better = false;
  std::string unit;  // "" = none
};

class DKDM_API Evaluator {
 public:
  virtual ~Evaluator();

  // Fewer samples than this are too biased to compare (twice the largest feature dimension): the
  // host warns, and refuses them at scale "paper". Known from the parameters, before any training.
  virtual std::int64_t min_samples() const = 0;
  // Names of what `finish` may give, likewise; none = not said.
  virtual std::vector<std::string> metrics() const { return {}; }

  // What decides, besides name and version, what `prepare` makes: parameters, a weight file's hash.
  // Input of content keys; "" = all parameters. DataError for a missing file says how to get it.
  virtual std::string identity() const { return ""; }

  // Makes weights and reference statistics for `reference` in `dir`, once (cached by the host).
  virtual void prepare(const Dataset& reference, std::uint64_t seed,
                       const std::filesystem::path& dir) = 0;
  // The same from statistics computed before: arrays mu, sigma, mu_s, sigma_s as ADM's npz has
  // them. `images` (may be null) serves the metrics that need features of the reference, such as
  // precision. Throws ConfigError unless overridden.
  struct Statistics {
    io::TensorMap arrays;
    std::string protocol;  // under which they were computed, "" = unknown; another one is refused
    std::string fingerprint;  // of the images they were computed from, or of the arrays
    std::int64_t count = 0;   // of those images, 0 = unknown
    ImageSpec spec{0, 0, 0};  // zeros = unknown
  };
  virtual void prepare_from_statistics(const Statistics& statistics, const Dataset* images,
                                       const std::filesystem::path& dir);

  // Opens what one of the two made. The calls below come after.
  virtual void open(const std::filesystem::path& dir) = 0;

  // Two values compare only under one protocol: feature network with hash, preprocessing, rules.
  virtual std::string protocol() const = 0;
  virtual std::string reference_fingerprint() const = 0;
  virtual std::int64_t reference_count() const = 0;  // images behind the reference, 0 = unknown
  // mu, sigma, … as `prepare_from_statistics` takes them. Throws ConfigError unless overridden.
  virtual io::TensorMap reference_statistics() const;

  // uint8 [n,C,H,W] in sample order, in batches of any size. DataError for another type or shape.
  virtual void add(const at::Tensor& images) = 0;
  // The metrics of what was added; forgets it. Throws DataError when that is too little for any.
  virtual std::vector<Metric> finish() = 0;

  // What was added since `open` or `finish`, computed, in tensors that later calls leave alone.
  virtual io::TensorMap state() = 0;
  // Takes in the samples of another evaluator's state, another shard's: the value is that of the
  // whole set to rounding (1e-12 relative, and what the feature network makes of other batches).
  // What is added afterwards follows the last of them. Throws DataError for a state of another
  // protocol.
  virtual void merge(const io::TensorMap& state) = 0;
  // Forgets what was added. The next image is number `first` of the set, where a shard begins.
  virtual void reset(std::int64_t first = 0) = 0;
  // Forgets what was added, and goes on from `state` as its evaluator would have, to the bit.
  void restore(const io::TensorMap& state);
};

}  // namespace dkdm
