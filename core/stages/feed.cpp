#include "stages/feed.hpp"

#include <ATen/ATen.h>

#include <algorithm>

#include "dkdm/ahead.hpp"
#include "plugin/call.hpp"

namespace dkdm::stages {

void add_images(Evaluator& evaluator, const Dataset& images, std::int64_t first, std::int64_t last,
                Host& host) {
  constexpr std::int64_t kBatch = 64;
  constexpr std::size_t kAhead = 4;  // batches read and not yet taken
  Ahead ahead(Ahead::Operators::on_all);
  const ClearAtEnd cleared{ahead};
  std::int64_t asked = first, done = first;
  host.progress("images", done, last);
  while (done < last) {
    for (; asked < last && ahead.outstanding() <= kAhead; asked += kBatch)
      ahead.push([&images, from = asked, to = std::min(asked + kBatch, last)] {
        return plugin::images_of(images, at::arange(from, to, at::kLong));
      });
    const at::Tensor batch = ahead.take();
    evaluator.add(batch);
    done += batch.size(0);
    host.progress("images", done, last);
  }
}

void warn_of_few_samples(const Evaluator& evaluator, std::int64_t count, Host& host) {
  if (count < evaluator.min_samples())
    host.log("evaluator", std::to_string(count) + " samples, fewer than " +
                              std::to_string(evaluator.min_samples()) +
                              " (twice the feature dimension): distances are strongly biased");
}

}  // namespace dkdm::stages
