// Reference statistics in ADM's and pytorch-fid's npz files.
#include <ATen/ATen.h>

#include <catch2/catch.hpp>
#include <limits>

#include "dkdm/io.hpp"
#include "dkdm/statistics_file.hpp"
#include "fixtures/analytic.hpp"
#include "golden/u_fill.hpp"

using namespace dkdm;
using Catch::Matchers::Contains;
using fixtures::ScratchFolder;

namespace {

io::FeatureStatistics statistics(std::int64_t i, std::int64_t dimension) {
  const auto x = golden::u_fill(i, {2 * dimension, dimension}).to(at::kDouble).pow(2);
  return {x.mean(0), at::cov(x.t())};
}

}  // namespace

TEST_CASE("statistics file: what was written comes back to the bit, in both forms", "[unit][io]") {
  ScratchFolder scratch;
  const auto adm = scratch.path / "adm.npz", pytorch_fid = scratch.path / "pytorch-fid.npz";
  const auto images = at::arange(24, at::kByte).view({2, 2, 2, 3});
  io::write_statistics(adm, {statistics(1, 6), statistics(2, 4)}, images);
  io::write_statistics(pytorch_fid, {statistics(1, 6), std::nullopt});

  CHECK(io::npz_keys(adm) == std::vector<std::string>{"arr_0", "mu", "mu_s", "sigma", "sigma_s"});
  CHECK(io::npz_keys(pytorch_fid) == std::vector<std::string>{"mu", "sigma"});
  CHECK(io::read_npz(adm, "arr_0").equal(images));
  for (const auto& file : {adm, pytorch_fid}) {
    CHECK(io::has_statistics(file));
    const auto read = io::read_statistics(file, 6, 4);
    CHECK(read.pool.mean.equal(statistics(1, 6).mean));
    CHECK(read.pool.covariance.equal(statistics(1, 6).covariance));
    REQUIRE(read.spatial.has_value() == (file == adm));
  }
  CHECK(io::read_statistics(adm, 6, 4).spatial->covariance.equal(statistics(2, 4).covariance));
  io::write_npz(scratch.path / "images.npz", {{"arr_0", images}});
  CHECK_FALSE(io::has_statistics(scratch.path / "images.npz"));
}

TEST_CASE("statistics file: float32 arrays are read as float64", "[unit][io]") {
  ScratchFolder scratch;
  const auto file = scratch.path / "single.npz";
  const auto pool = statistics(1, 6);
  io::write_npz(file,
                {{"mu", pool.mean.to(at::kFloat)}, {"sigma", pool.covariance.to(at::kFloat)}});
  const auto read = io::read_statistics(file, 6);
  CHECK(read.pool.mean.scalar_type() == at::kDouble);
  CHECK(at::allclose(read.pool.covariance, pool.covariance, 1e-6, 1e-8));
}

TEST_CASE("statistics file: each fault names the file, the array and what is wrong", "[unit][io]") {
  ScratchFolder scratch;
  const auto file = scratch.path / "bad.npz";
  const auto pool = statistics(1, 6), spatial = statistics(2, 4);
  const io::TensorMap good{{"mu", pool.mean},
                           {"sigma", pool.covariance},
                           {"mu_s", spatial.mean},
                           {"sigma_s", spatial.covariance}};
  const auto refused = [&](const std::string& key, const at::Tensor& array,
                           const std::string& reason) {
    INFO(key << ": " << reason);
    io::TensorMap arrays = good;
    arrays.erase(key);
    if (array.defined()) arrays[key] = array;
    io::write_npz(file, arrays);
    CHECK_THROWS_AS(io::read_statistics(file, 6, 4), DataError);
    CHECK_THROWS_WITH(io::read_statistics(file, 6, 4),
                      Contains("bad.npz") && Contains("'" + key + "'") && Contains(reason));
  };
  const auto changed = [](const at::Tensor& array, std::int64_t row, std::int64_t column,
                          double value) {
    auto copy = array.clone();
    copy[row][column] = value;
    return copy;
  };
  refused("mu", {}, "has no array");
  refused("sigma_s", {}, "has no array");
  refused("mu", at::zeros({7}, at::kDouble), "[7]");
  refused("sigma", at::zeros({6, 5}, at::kDouble), "[6, 5]");
  refused("sigma_s", pool.covariance, "[4, 4] is expected");
  refused("mu_s", at::zeros({4}, at::kLong), "f4 or f8");
  refused("sigma", changed(pool.covariance, 1, 2, std::numeric_limits<double>::quiet_NaN()),
          "not finite");
  refused("sigma", changed(pool.covariance, 1, 2, 0.5), "not symmetric");
  refused("sigma_s", changed(spatial.covariance, 3, 3, -1), "variance of feature 3 is -1");
  CHECK_THROWS_WITH(io::read_statistics(file), Contains("[2048]"));
}

TEST_CASE("statistics file: a variance that rounding left below zero is none", "[unit][io]") {
  ScratchFolder scratch;
  const auto file = scratch.path / "streamed.npz";
  auto pool = statistics(1, 6);
  pool.covariance[4] = 0;
  pool.covariance.select(1, 4).fill_(0);
  pool.covariance[4][4] = -1.9e-16;  // E[x x] - E[x] E[x] of a constant feature
  io::write_statistics(file, {pool, std::nullopt});
  const auto read = io::read_statistics(file, 6);
  CHECK(read.pool.covariance[4][4].item<double>() == 0);
  CHECK(read.pool.covariance.diagonal().min().item<double>() == 0);

  pool.covariance[4][4] = -0.01 * pool.covariance.diagonal().abs().mean().item<double>();
  io::write_statistics(file, {pool, std::nullopt});
  CHECK_THROWS_WITH(io::read_statistics(file, 6), Contains("variance of feature 4 is -"));
}
