// Canonical TOML of an experiment (config/resolved.hpp).
#include "config/resolved.hpp"

#include <algorithm>

#include "config/settings.hpp"

namespace dkdm::config {
namespace {

struct Line {
  std::string name;
  Value value;
};

// A section below a row ("teacher.student"), or a row's own lines ("").
struct Block {
  std::string path;
  std::vector<Line> lines;

  void add(const std::string& name, const Value& value) { lines.push_back({name, value}); }
  void add(const Params& params) {
    for (const auto& [name, value] : params.values()) add(name, value);
  }
  bool operator==(const Block& other) const {
    return path == other.path && std::equal(lines.begin(), lines.end(), other.lines.begin(),
                                            other.lines.end(), [](const Line& a, const Line& b) {
                                              return a.name == b.name && a.value == b.value;
                                            });
  }
};

using Blocks = std::vector<Block>;

Block plugin(const std::string& path, const PluginChoice& choice) {
  Block block{path, {{"plugin", choice.name}}};
  block.add(choice.params);
  return block;
}

Block params(const std::string& path, const Params& values) {
  Block block{path, {}};
  block.add(values);
  return block;
}

Blocks training(const std::string& prefix, const Training& of) {
  return {plugin(prefix + "student", of.student), plugin(prefix + "method", of.method),
          params(prefix + "train", of.train)};
}

Blocks teacher(const Row& row) {
  if (!row.teacher) return {};
  Blocks blocks{plugin("teacher", row.teacher->plugin)};
  if (!row.teacher->name.empty())
    blocks[0].lines.insert(blocks[0].lines.begin(), {"name", row.teacher->name});
  if (row.teacher->training)
    for (Block& block : training("teacher.", *row.teacher->training))
      blocks.push_back(std::move(block));
  return blocks;
}

Block diffusion(const Row& row) {
  Block block{"diffusion", {}};
  for (const auto& [name, value] : diffusion_settings().values(row.diffusion))
    block.add(name, value);
  return block;
}

// What rows may have in common, each list as a whole.
std::vector<Blocks> common(const Row& row) {
  Blocks dataset, reference;
  if (row.dataset) dataset.push_back(plugin("dataset", *row.dataset));
  if (!row.statistics.empty()) {
    reference.push_back({"reference", {}});
    reference[0].add("statistics", row.statistics.string());
  }
  return {std::move(dataset),
          {diffusion(row)},
          teacher(row),
          std::move(reference),
          {params("synthetic", row.synthetic)},
          {plugin("evaluator", row.evaluator)},
          {params("evaluate", row.evaluate)}};
}

class Writer {
 public:
  explicit Writer(const Origins* origins) : origins_(origins) {}

  // `path`: of its values' origins.
  void block(const std::string& title, const std::vector<Line>& lines, const std::string& path) {
    text_ += (text_.empty() ? "" : "\n") + title + '\n';
    std::vector<std::string> written;
    std::size_t width = 0;
    for (const Line& line : lines) {
      written.push_back(line.name + " = " + to_text(line.value));
      width = std::max(width, written.back().size());
    }
    for (std::size_t i = 0; i < lines.size(); ++i) {
      text_ += written[i];
      if (origins_) {
        const auto origin = origins_->find(path + '.' + lines[i].name);
        text_ += std::string(width - written[i].size() + 2, ' ') + "# " +
                 (origin == origins_->end() ? "default" : origin->second);
      }
      text_ += '\n';
    }
  }
  const std::string& text() const { return text_; }

 private:
  const Origins* origins_;
  std::string text_;
};

std::string written(const Experiment& experiment, const Origins* origins) {
  Writer out(origins);
  std::vector<Line> head{{"name", experiment.name},           {"title", experiment.title},
                         {"scale", experiment.scale},         {"table", experiment.table},
                         {"published", experiment.published}, {"seeds", experiment.seeds},
                         {"samples", experiment.samples}};
  if (!experiment.plugins.empty()) head.push_back({"plugins", experiment.plugins});
  head.push_back({"expected_minutes", experiment.expected_minutes});
  out.block("[experiment]", head, "experiment");

  const Row& first = experiment.rows.front();
  const auto shared = common(first);
  std::vector<bool> is_shared(shared.size(), true);
  for (const Row& row : experiment.rows) {
    const auto own = common(row);
    for (std::size_t i = 0; i < shared.size(); ++i)
      is_shared[i] = is_shared[i] && own[i] == shared[i];
  }
  for (std::size_t i = 0; i < shared.size(); ++i)
    if (is_shared[i])
      for (const Block& block : shared[i])
        out.block('[' + block.path + ']', block.lines, "row." + first.id + '.' + block.path);

  constexpr std::size_t kTeacher = 2;  // of common()
  for (const Row& row : experiment.rows) {
    const std::string path = "row." + row.id;
    std::vector<Line> lines{{"id", row.id}, {"label", row.label}, {"published", row.published}};
    if (!row.training && is_shared[kTeacher]) lines.push_back({"teacher", true});
    out.block("[[row]]", lines, path);
    Blocks own;
    const auto parts = common(row);
    for (std::size_t i = 0; i < parts.size(); ++i)
      if (!is_shared[i]) own.insert(own.end(), parts[i].begin(), parts[i].end());
    if (row.training)
      for (Block& block : training("", *row.training)) own.push_back(std::move(block));
    own.push_back(params("sample", row.sample));
    for (const Block& block : own)
      out.block("[row." + block.path + ']', block.lines, path + '.' + block.path);
  }
  return out.text();
}

}  // namespace

std::string resolved_text(const Experiment& experiment) { return written(experiment, nullptr); }

std::string resolved_text(const Experiment& experiment, const Origins& origins) {
  return written(experiment, &origins);
}

}  // namespace dkdm::config
