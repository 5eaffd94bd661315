// All that a plugin of any kind includes. One kind alone: dkdm/boundary.hpp and the kind's own header.
#pragma once

#include "dkdm/boundary.hpp"
#include "dkdm/dataset.hpp"
#include "dkdm/denoiser.hpp"
#include "dkdm/diffusion.hpp"
#include "dkdm/evaluator.hpp"
#include "dkdm/method.hpp"
#include "dkdm/params.hpp"
#include "dkdm/teacher.hpp"
