// The one precompiled header of everything that sees LibTorch (built once, about 45 s; a file that
// uses it then compiles in 6 to 8 s).
#include <ATen/ATen.h>
#include <torch/nn/module.h>
#include <torch/nn/modules/container/modulelist.h>
#include <torch/nn/modules/container/sequential.h>
#include <torch/nn/modules/conv.h>
#include <torch/nn/modules/linear.h>
#include <torch/nn/modules/normalization.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <string>
#include <vector>
