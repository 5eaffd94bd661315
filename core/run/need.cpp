#include "run/need.hpp"

#include <boost/algorithm/string/join.hpp>

namespace dkdm::run {
namespace {

// A whole set of files may be absent: the first says what there is to do.
std::string text_of(const Announced::Absent& first, std::size_t count) {
  std::string text = first.path.empty() ? "" : first.path.string() + ": ";
  if (count > 1) text += "and " + std::to_string(count - 1) + " more files: ";
  return text + first.remedy;
}

}  // namespace

void refuse_needs(const std::vector<Need>& needs) {
  const Need& first = needs.front();
  const std::string where = first.absent.front().path.string();
  if (needs.size() == 1 && first.absent.size() == 1 && !where.empty())
    throw DataError(where, first.absent.front().remedy);
  std::string text;
  for (const Need& need : needs)
    text += (text.empty() ? "" : "; ") + need.title() + " (" +
            boost::algorithm::join(need.rows, ", ") + ") needs " +
            text_of(need.absent.front(), need.absent.size());
  throw Error("files are missing, and nothing was run: " + text, ExitCode::missing);
}

}  // namespace dkdm::run
