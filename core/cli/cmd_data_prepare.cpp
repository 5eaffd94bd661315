// dkdm data prepare: every image of a dataset is read once, before a run depends on it.
#include <ATen/ATen.h>

#include <algorithm>

#include "cli/commands.hpp"
#include "cli/image_sets.hpp"
#include "cli/options.hpp"
#include "cli/session.hpp"
#include "cli/signals.hpp"
#include "io/sha256.hpp"
#include "run/run_host.hpp"

namespace po = boost::program_options;

namespace dkdm::cli {
namespace {

constexpr std::int64_t kBatch = 512, kNamed = 10;

// Reads the images of `set` in order, uint8, into a hash of their pixels. One that cannot be read
// does not end it: all are counted, and the first ten named.
class Reading {
 public:
  Reading(const std::string& name, const Dataset& set, Host& host)
      : name_(name), set_(set), host_(host) {}

  // Throws DataError with the number of images that could not be read.
  std::string pixels_sha256() {
    const std::int64_t size = set_.size();
    host_.progress("images", 0, size);
    for (std::int64_t first = 0; first < size; first += kBatch) {
      const std::int64_t last = std::min(first + kBatch, size);
      if (!read(first, last) && last - first > 1)
        for (std::int64_t i = first; i < last; ++i) read(i, i + 1);
      host_.progress("images", last, size);
    }
    if (unreadable_ > 0)
      throw DataError(
          name_, std::to_string(unreadable_) + " of " + std::to_string(size) +
                     " images cannot be used" +
                     (unreadable_ > kNamed ? "; the first ten are named above" : ", named above"));
    return pixels_.hexadecimal();
  }

 private:
  bool read(std::int64_t first, std::int64_t last) {
    try {
      const at::Tensor images = set_.images(at::arange(first, last)).contiguous();
      const auto expected = set_.spec().batch(last - first);
      if (images.scalar_type() != at::kByte || images.sizes() != at::IntArrayRef(expected))
        throw DataError(
            name_ + ": images " + std::to_string(first) + " to " + std::to_string(last - 1),
            "the plugin gave " + std::string(c10::toString(images.scalar_type())) + " of " +
                c10::str(images.sizes()) + ", its shape says uint8 of " +
                c10::str(at::IntArrayRef(expected)));
      pixels_.add(images.const_data_ptr(), images.nbytes());
      return true;
    } catch (const Interrupted&) {
      throw;
    } catch (const Error& error) {
      if (last - first > 1) return false;
      if (++unreadable_ <= kNamed) host_.log(name_, error.what());
      return false;
    }
  }

  const std::string& name_;
  const Dataset& set_;
  Host& host_;
  io::Sha256 pixels_;
  std::int64_t unreadable_ = 0;
};

}  // namespace

int cmd_data_prepare(const Arguments& args, Context& context) {
  Options options(
      "data prepare NAME [--set KEY=VALUE]… [--format F]",
      "Reads every image of a dataset, so that a missing, truncated or foreign file is\n"
      "found now and not after hours of a run; where the files are not there, says where\n"
      "to get them. Prints what the dataset holds and a hash of its pixels, to compare\n"
      "with another machine's. Reads only: experiments use the files as they are.");
  options.add()("set", po::value<std::vector<std::string>>()->composing()->value_name("KEY=VALUE"),
                "a parameter of the dataset, such as root=FOLDER (dkdm plugins describe NAME)");
  options.with_format().with_words(1);
  if (!options.parse(args)) return 0;
  if (options.words().empty()) options.misuse("data prepare: name a dataset (dkdm data list)");
  const std::string name = options.words()[0];
  const auto& info = context.registry().find("dataset", name);

  run::Progress progress({}, record::progress_folder(context.home()), "data prepare");
  run::RunHost host(context.registry(), stop_requested, &progress);
  progress.begin(name);
  const auto set = context.registry().dataset(choose_plugin(info, overrides_of(options)), host);
  const std::string pixels = Reading(name, *set, host).pixels_sha256();
  progress.end();

  results::Table table;
  table.columns = {{"dataset"}, {"images", results::Align::right, true},
                   {"shape"},   {"classes", results::Align::right, true},
                   {"pixels"},  {"fingerprint"}};
  table.rows = {{name, std::to_string(set->size()), text_of(set->spec()),
                 std::to_string(set->num_classes()), "sha256:" + pixels, set->fingerprint()}};
  options.print(table);
  return 0;
}

}  // namespace dkdm::cli
