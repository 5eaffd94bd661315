// What a plugin knows while its files are absent: experiments are planned before there are data and
// weights. A class of any kind may have, and is asked before an object of it is made:
//
//   static void announce(const Params& params, Announced& announced);
//
// It looks whether files are there and opens none: a file that is damaged or does not fit is for
// the constructor or `load` to refuse.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "dkdm/denoiser.hpp"
#include "dkdm/params.hpp"
#include "dkdm/shape.hpp"

namespace dkdm {

struct Announced {
  // A file or folder that is not there. Empty path: no parameter names it.
  struct Absent {
    std::filesystem::path path;
    std::string remedy;  // what it is and where to get it, as DataError's message
  };
  std::vector<Absent> absent;  // empty = all is there, and what follows is not read

  // Of a dataset: what its parameters promise of the images. Zeros = unknown.
  ImageSpec spec{0, 0, 0};
  std::int64_t images = 0;

  // Of a teacher: the student plugin, with values over its defaults, that the weights are expected
  // to fit. None = unknown.
  struct Network {
    std::string student;
    std::map<std::string, Value> values;
    StudentContext context;  // images and process of its training
  };
  std::optional<Network> network;
};

}  // namespace dkdm
