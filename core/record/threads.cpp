#include "record/threads.hpp"

#include <ATen/Parallel.h>
#include <omp.h>

#include <cctype>
#include <charconv>
#include <string_view>

namespace dkdm::record {
namespace {

using Variable = std::function<const char*(const char*)>;

// The first number of NAME; OpenMP's may be a list, one a level of nesting. 0 = not set.
std::int64_t number(const Variable& variable, const char* name) {
  const char* text = variable(name);
  if (!text) return 0;
  std::string_view rest(text);
  while (!rest.empty() && std::isspace(static_cast<unsigned char>(rest.front())))
    rest.remove_prefix(1);
  std::int64_t value = 0;
  std::from_chars(rest.data(), rest.data() + rest.size(), value);
  return value > 0 ? value : 0;
}

bool dynamic(const Variable& variable) {
  const char* text = variable("MKL_DYNAMIC");
  if (!text || !*text) return true;
  const char first = static_cast<char>(std::tolower(static_cast<unsigned char>(*text)));
  return first != 'f' && first != '0' && first != 'n';
}

std::string assignment(const char* name, const Variable& variable) {
  return std::string(name) + "=" + variable(name);
}

}  // namespace

std::int64_t working_threads() {
  at::get_num_threads();  // the first call sets OpenMP's number by MKL's
  int count = 1;
#pragma omp parallel
#pragma omp single
  count = omp_get_num_threads();
  return count;
}

std::string reason_for_threads(std::int64_t threads, std::int64_t cores, const Variable& variable) {
  const std::int64_t mkl = number(variable, "MKL_NUM_THREADS");
  const std::int64_t omp = number(variable, "OMP_NUM_THREADS");
  const std::int64_t limit = number(variable, "OMP_THREAD_LIMIT");
  const std::int64_t asked = mkl ? mkl : omp;
  std::string text;
  if (mkl) {
    text = assignment("MKL_NUM_THREADS", variable);
    if (omp && omp != mkl) text += ", which wins over " + assignment("OMP_NUM_THREADS", variable);
  } else if (omp) {
    text = assignment("OMP_NUM_THREADS", variable);
  } else {
    text = threads == cores ? "one per core" : "cores this process may use";
  }
  for (const char* name : {"MKL_NUM_THREADS", "OMP_NUM_THREADS"}) {
    if (variable(name) && number(variable, name) == 0)
      text += "; " + assignment(name, variable) + " is ignored, expected a number above 0";
  }
  const bool limited = limit && threads == limit && (!asked || asked > limit);
  if (limited) {
    text += "; limited by " + assignment("OMP_THREAD_LIMIT", variable);
  } else if (asked && threads < asked) {
    text += dynamic(variable) ? "; MKL allows no more than the cores unless MKL_DYNAMIC=false"
                              : "; the system gave no more";
  }
  if (threads > cores) text += "; more than the cores";
  return text;
}

}  // namespace dkdm::record
