// numpy's legacy choice, and the mixtures of real and synthetic images made with it.
#include <catch2/catch.hpp>

#include <ATen/ATen.h>

#include <vector>

#include "dkdm/numpy_choice.hpp"
#include "dkdm/training_data.hpp"

using dkdm::NumpyChoice;
using Values = std::vector<std::int64_t>;

namespace {

Values front(const Values& all, std::size_t count) { return {all.begin(), all.begin() + count}; }

}  // namespace

TEST_CASE("numpy_choice: a permutation of ten at seed 0 is numpy's", "[unit][train]") {
  // numpy 2.4.6: numpy.random.seed(0); numpy.random.permutation(10)
  CHECK(NumpyChoice(0).choice(10, 10) == Values{2, 8, 4, 9, 1, 6, 7, 3, 0, 5});
}

TEST_CASE("numpy_choice: two draws from one stream are numpy's", "[unit][train]") {
  // numpy 2.4.6, seed 0: choice(50000, 2500), then choice(50000, 47500), both replace=False
  NumpyChoice generator(0);
  const Values real = generator.choice(50000, 2500);
  CHECK(front(real, 8) == Values{11841, 19602, 45519, 25747, 42642, 31902, 30346, 12363});
  CHECK(Values(real.end() - 3, real.end()) == Values{40875, 19826, 46201});
  const Values synthetic = generator.choice(50000, 47500);
  CHECK(front(synthetic, 8) == Values{28921, 11971, 15919, 6271, 11435, 34200, 40991, 20155});
  CHECK(Values(synthetic.end() - 3, synthetic.end()) == Values{39705, 21596, 24474});
}

TEST_CASE("reference_mixture: real images of a larger dataset replace synthetic ones",
          "[unit][train]") {
  // numpy 2.4.6, seed 0: choice(30, 4, replace=False), then choice(20, 16, replace=False)
  const dkdm::Mixture mixture = dkdm::reference_mixture(30, 20, 0.2);
  CHECK(at::equal(mixture.real, at::tensor({2, 28, 13, 10}, at::kLong)));
  CHECK(at::equal(mixture.synthetic,
                  at::tensor({11, 6, 4, 5, 2, 9, 10, 18, 14, 17, 7, 12, 13, 16, 1, 8}, at::kLong)));
}

TEST_CASE("reference_mixture: too few real images is an error that says how many are wanted",
          "[unit][train]") {
  CHECK_THROWS_WITH(dkdm::reference_mixture(3, 20, 0.2),
                    Catch::Contains("asks for 4 real ones") && Catch::Contains("has 3"));
}
