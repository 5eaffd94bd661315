// The two decompositions behind the Fréchet distance, made of matrix products: LAPACK's
// eigenvalues and singular values of 2048 x 2048 take several times as long on two cores.
#pragma once

#include <ATen/core/Tensor.h>

namespace dkdm::metrics {

// F [D,rank] f64 with F F^T = covariance [D,D] to rounding of each variance: Cholesky of the matrix
// scaled to variances near 1, with diagonal pivoting (Higham 2002, ch. 10.3) where it is not
// definite; that ends where what is left is rounding. Throws std::invalid_argument for values that
// are not finite, and for a matrix that is not a valid covariance.
at::Tensor covariance_factor(const at::Tensor& covariance);

// U [m,n] with U^T U = I that is nearest to a matrix M [m,n] f64, m >= n: tr U^T M is the sum of
// M's singular values. Above 128 columns by Newton's iteration for the polar factor (Higham 2008,
// ch. 8.6) with the scaling of Byers & Xu 2008; singular matrices by LAPACK.
at::Tensor nearest_isometry(const at::Tensor& matrix);

}  // namespace dkdm::metrics
