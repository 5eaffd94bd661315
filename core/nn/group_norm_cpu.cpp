// dkdm::group_norm for f32 on the CPU: which parts of which image each thread sums and maps.
#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <vector>

#include "nn/group_norm.hpp"
#include "nn/group_norm_kernel.hpp"

namespace dkdm::nn::group_normalisation {
namespace {

constexpr std::int64_t kGrain = 32768;  // values that are worth a thread
constexpr std::int64_t kChunk = 16384;  // values of a channels-last image that are summed at a time

struct Shape {
  std::int64_t n, channels, groups, pixels;
  bool last;  // channels-last memory

  std::int64_t width() const { return channels / groups; }
  std::int64_t image() const { return channels * pixels; }
  double values() const { return static_cast<double>(width() * pixels); }              // of a group
  std::int64_t chunk() const { return std::max<std::int64_t>(1, kChunk / channels); }  // pixels
  std::int64_t chunks() const { return (pixels + chunk() - 1) / chunk(); }
};

Shape shape_of(const Tensor& x, std::int64_t groups) {
  return {x.size(0), x.size(1), groups, x.numel() / (x.size(0) * x.size(1)),
          x.suggest_memory_format() == at::MemoryFormat::ChannelsLast};
}

bool has_kernel(const Tensor& x, std::initializer_list<const Optional*> others) {
  const auto fits = [](const Tensor& tensor) {
    return tensor.scalar_type() == at::kFloat && tensor.is_cpu();
  };
  return fits(x) && x.numel() > 0 &&
         x.suggest_memory_format() != at::MemoryFormat::ChannelsLast3d &&
         std::all_of(others.begin(), others.end(),
                     [&](const Optional* other) { return !given(*other) || fits(**other); });
}

// The four rows of a ChannelMap and a fifth, f32 [5,C], of one image.
class Rows {
 public:
  explicit Rows(std::int64_t channels)
      : memory_(static_cast<std::size_t>(5 * channels)), channels_(channels) {}
  ChannelMap map() { return {row(0), row(1), row(2), row(3)}; }
  float* slope() { return row(4); }

 private:
  float* row(std::int64_t i) { return memory_.data() + i * channels_; }
  std::vector<float> memory_;
  std::int64_t channels_;
};

// Calls work(first, last) over tasks of `values` values each.
template <class Work>
void parallel(std::int64_t tasks, std::int64_t values, const Work& work) {
  at::parallel_for(0, tasks, std::max<std::int64_t>(1, kGrain / std::max<std::int64_t>(1, values)),
                   work);
}

// Two passes over channels-last images: sum(image, first pixel, pixels, two rows of sums [C]) over
// chunks, between(image, sums), then map(image, first pixel, pixels). By image where that keeps all
// threads at work, so that the second pass finds the image in the cache; else by chunk. Sums are
// added in the same order either way.
template <class Sum, class Between, class Map>
void two_passes(const Shape& shape, const Sum& sum, const Between& between, const Map& map) {
  const std::int64_t chunks = shape.chunks(), row = 2 * shape.channels;
  const auto pixels = [&](std::int64_t k) {
    return std::min(shape.chunk(), shape.pixels - k * shape.chunk());
  };
  if (shape.n >= at::get_num_threads() || chunks == 1) {
    parallel(shape.n, shape.image(), [&](std::int64_t begin, std::int64_t end) {
      std::vector<double> sums(static_cast<std::size_t>(row));
      for (std::int64_t image = begin; image < end; ++image) {
        std::fill(sums.begin(), sums.end(), 0.0);
        for (std::int64_t k = 0; k < chunks; ++k)
          sum(image, k * shape.chunk(), pixels(k), sums.data());
        between(image, sums.data());
        map(image, 0, shape.pixels);
      }
    });
    return;
  }
  std::vector<double> partial(static_cast<std::size_t>(shape.n * chunks * row));
  const std::int64_t values = shape.chunk() * shape.channels;
  parallel(shape.n * chunks, values, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i)
      sum(i / chunks, i % chunks * shape.chunk(), pixels(i % chunks), partial.data() + i * row);
  });
  for (std::int64_t image = 0; image < shape.n; ++image) {
    double* sums = partial.data() + image * chunks * row;
    for (std::int64_t k = 1; k < chunks; ++k)
      for (std::int64_t i = 0; i < row; ++i) sums[i] += sums[k * row + i];
    between(image, sums);
  }
  parallel(shape.n * chunks, values, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i)
      map(i / chunks, i % chunks * shape.chunk(), pixels(i % chunks));
  });
}

// A mean in f64 as two f32, and r.
struct Moments {
  float mean, rest, r;
  double exact_r;
};

Moments moments_of(double sum, double square, double values, double eps) {
  const double mean = sum / values;
  // In f64 the difference keeps every digit that f32 values have.
  const double variance = std::max(0.0, square / values - mean * mean);
  const double r = 1 / std::sqrt(variance + eps);
  const auto rounded = static_cast<float>(mean);
  return {rounded, static_cast<float>(mean - rounded), static_cast<float>(r), r};
}

}  // namespace

Normalised kernel(const Tensor& x_any, std::int64_t groups, const Optional& weight,
                  const Optional& bias, double eps) {
  if (!has_kernel(x_any, {&weight, &bias})) return composite(x_any, groups, weight, bias, eps);
  check(x_any, groups, weight, bias);
  const Tensor x = x_any.contiguous(x_any.suggest_memory_format());
  const Shape shape = shape_of(x, groups);
  Tensor y = at::empty_like(x);
  Tensor mean =
      at::empty({shape.n, groups}, x.options().memory_format(at::MemoryFormat::Contiguous));
  Tensor rest = at::empty_like(mean), r = at::empty_like(mean);
  const Tensor w = given(weight) ? weight->contiguous() : Tensor();
  const Tensor b = given(bias) ? bias->contiguous() : Tensor();
  const float* weights = w.defined() ? w.const_data_ptr<float>() : nullptr;
  const float* biases = b.defined() ? b.const_data_ptr<float>() : nullptr;
  const float* in = x.const_data_ptr<float>();
  float* out = y.mutable_data_ptr<float>();
  float *means = mean.mutable_data_ptr<float>(), *rests = rest.mutable_data_ptr<float>(),
        *rs = r.mutable_data_ptr<float>();
  const std::int64_t width = shape.width();
  const auto keep = [&](std::int64_t group, const Moments& m) {
    means[group] = m.mean, rests[group] = m.rest, rs[group] = m.r;
  };
  const auto scale = [&](const Moments& m, std::int64_t c) {
    return static_cast<float>(weights ? m.exact_r * weights[c] : m.exact_r);
  };
  const auto offset = [&](std::int64_t c) { return biases ? biases[c] : 0.0F; };

  if (!shape.last) {
    parallel(shape.n * groups, width * shape.pixels, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t group = begin; group < end; ++group) {
        const std::int64_t start = group * width * shape.pixels;
        double sum = 0, square = 0;
        moments(in + start, width * shape.pixels, sum, square);
        const Moments m = moments_of(sum, square, shape.values(), eps);
        keep(group, m);
        for (std::int64_t i = 0; i < width; ++i) {
          const std::int64_t c = group % groups * width + i, at = start + i * shape.pixels;
          normalise(in + at, out + at, shape.pixels, m.mean, m.rest, scale(m, c), offset(c));
        }
      }
    });
    return {y, mean, rest, r};
  }

  std::vector<Rows> rows(static_cast<std::size_t>(shape.n), Rows(shape.channels));
  const auto map_of = [&](std::int64_t image) {
    return rows[static_cast<std::size_t>(image)].map();
  };
  two_passes(
      shape,
      [&](std::int64_t image, std::int64_t pixel, std::int64_t pixels, double* sums) {
        add_moments_last(in + image * shape.image() + pixel * shape.channels, pixels,
                         shape.channels, sums, sums + shape.channels);
      },
      [&](std::int64_t image, const double* sums) {
        const ChannelMap map = map_of(image);
        for (std::int64_t g = 0; g < groups; ++g) {
          double sum = 0, square = 0;
          for (std::int64_t c = g * width; c < (g + 1) * width; ++c)
            sum += sums[c], square += sums[shape.channels + c];
          const Moments m = moments_of(sum, square, shape.values(), eps);
          keep(image * groups + g, m);
          for (std::int64_t c = g * width; c < (g + 1) * width; ++c)
            map.mean[c] = m.mean, map.rest[c] = m.rest, map.scale[c] = scale(m, c),
            map.offset[c] = offset(c);
        }
      },
      [&](std::int64_t image, std::int64_t pixel, std::int64_t pixels) {
        const std::int64_t at = image * shape.image() + pixel * shape.channels;
        normalise_last(in + at, out + at, pixels, shape.channels, map_of(image));
      });
  return {y, mean, rest, r};
}

Gradients kernel_backward(const Tensor& dy_any, const Tensor& x_any, const Tensor& mean,
                          const Tensor& rest, const Tensor& r, const Optional& weight,
                          std::int64_t groups, std::array<bool, 3> wanted) {
  if (!has_kernel(x_any, {&weight}) || dy_any.scalar_type() != at::kFloat)
    return composite_backward(dy_any, x_any, mean, rest, r, weight, groups, wanted);
  const auto format = x_any.suggest_memory_format();
  const Tensor x = x_any.contiguous(format), dy = dy_any.contiguous(format);
  const Shape shape = shape_of(x, groups);
  const std::int64_t width = shape.width(), channels = shape.channels;
  Tensor dx = wanted[0] ? at::empty_like(x) : Tensor();
  const Tensor w = given(weight) ? weight->contiguous() : Tensor();
  const float* weights = w.defined() ? w.const_data_ptr<float>() : nullptr;
  const float *in = x.const_data_ptr<float>(), *slopes = dy.const_data_ptr<float>();
  float* out = wanted[0] ? dx.mutable_data_ptr<float>() : nullptr;
  const float *means = mean.const_data_ptr<float>(), *rests = rest.const_data_ptr<float>(),
              *rs = r.const_data_ptr<float>();
  // Of each sample's channels: sum(dy), then sum(dy d).
  std::vector<double> sums(static_cast<std::size_t>(2 * shape.n * channels));
  const auto of_sample = [&](std::int64_t n) { return sums.data() + 2 * n * channels; };

  // What dx = dy scale + d slope + offset has the same for a group.
  struct Terms {
    float slope, offset;
  };
  const auto terms = [&](std::int64_t group) {
    const double* own = of_sample(group / groups);
    const std::int64_t first = group % groups * width;
    double sum = 0, product = 0;
    for (std::int64_t c = first; c < first + width; ++c) {
      const double weight_of = weights ? weights[c] : 1.0;
      sum += weight_of * own[c], product += weight_of * own[channels + c];
    }
    const double scale = rs[group];
    return Terms{static_cast<float>(-scale * scale * scale * product / shape.values()),
                 static_cast<float>(-scale * sum / shape.values())};
  };
  const auto scale = [&](std::int64_t group, std::int64_t c) {
    return weights ? rs[group] * weights[c] : rs[group];
  };

  if (!shape.last) {
    parallel(shape.n * groups, width * shape.pixels, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t group = begin; group < end; ++group) {
        double* own = of_sample(group / groups);
        const std::int64_t first = group % groups * width, start = group * width * shape.pixels;
        for (std::int64_t i = 0; i < width; ++i) {
          const std::int64_t at = start + i * shape.pixels;
          products(slopes + at, in + at, shape.pixels, means[group], rests[group], own[first + i],
                   own[channels + first + i]);
        }
        if (!out) continue;
        const Terms t = terms(group);
        for (std::int64_t i = 0; i < width; ++i) {
          const std::int64_t at = start + i * shape.pixels;
          differentiate(slopes + at, in + at, out + at, shape.pixels, means[group], rests[group],
                        scale(group, first + i), t.slope, t.offset);
        }
      }
    });
  } else {
    std::vector<Rows> rows(static_cast<std::size_t>(shape.n), Rows(channels));
    const auto rows_of = [&](std::int64_t image) -> Rows& {
      return rows[static_cast<std::size_t>(image)];
    };
    for (std::int64_t group = 0; group < shape.n * groups; ++group) {
      const ChannelMap map = rows_of(group / groups).map();
      for (std::int64_t i = 0; i < width; ++i) {
        const std::int64_t c = group % groups * width + i;
        map.mean[c] = means[group], map.rest[c] = rests[group], map.scale[c] = scale(group, c);
      }
    }
    two_passes(
        shape,
        [&](std::int64_t image, std::int64_t pixel, std::int64_t pixels, double* partial) {
          const std::int64_t at = image * shape.image() + pixel * channels;
          add_products_last(slopes + at, in + at, pixels, channels, rows_of(image).map(), partial,
                            partial + channels);
        },
        [&](std::int64_t image, const double* whole) {
          std::copy_n(whole, 2 * channels, of_sample(image));
          const ChannelMap map = rows_of(image).map();
          for (std::int64_t g = 0; g < groups; ++g) {
            const Terms t = terms(image * groups + g);
            std::fill_n(rows_of(image).slope() + g * width, width, t.slope);
            std::fill_n(map.offset + g * width, width, t.offset);
          }
        },
        [&](std::int64_t image, std::int64_t pixel, std::int64_t pixels) {
          if (!out) return;
          const std::int64_t at = image * shape.image() + pixel * channels;
          differentiate_last(slopes + at, in + at, out + at, pixels, channels, rows_of(image).map(),
                             rows_of(image).slope());
        });
  }

  // Of weight and bias: over the batch, in its order.
  const auto over_batch = [&](bool want, bool product) {
    if (!want) return Tensor();
    std::vector<double> total(static_cast<std::size_t>(channels));
    for (std::int64_t n = 0; n < shape.n; ++n) {
      for (std::int64_t c = 0; c < channels; ++c) {
        total[static_cast<std::size_t>(c)] +=
            product ? rs[n * groups + c / width] * of_sample(n)[channels + c] : of_sample(n)[c];
      }
    }
    return at::tensor(total, at::kDouble).to(at::kFloat);
  };
  return {dx, over_batch(wanted[1], true), over_batch(wanted[2], false)};
}

}  // namespace dkdm::nn::group_normalisation
