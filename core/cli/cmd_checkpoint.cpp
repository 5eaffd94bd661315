// dkdm checkpoint inspect|convert|export: weight files of PyTorch and safetensors.
#include <iostream>

#include "cli/commands.hpp"
#include "cli/session.hpp"
#include "cli/terminal.hpp"
#include "dkdm/architecture.hpp"
#include "dkdm/checkpoint.hpp"
#include "io/array/tensor_types.hpp"

namespace dkdm::cli {
namespace {

namespace fs = std::filesystem;
namespace po = boost::program_options;

std::string shape_text(const at::Tensor& tensor) {
  std::string text;
  for (const std::int64_t side : tensor.sizes()) {
    text += (text.empty() ? "" : "x") + std::to_string(side);
  }
  return text.empty() ? "scalar" : text;
}

std::int64_t parameters(const io::NamedTensors& tensors) {
  std::int64_t count = 0;
  for (const auto& [name, tensor] : tensors) count += tensor.numel();
  return count;
}

// A row for each network that stands in the dictionary, behind whatever wrappers.
void add_networks(results::Table& table, const io::StateDict& state) {
  architecture::Shapes shapes;
  std::vector<std::string> names;
  for (const auto& [name, tensor] : state.tensors) {
    shapes.emplace_back(name, tensor.sizes().vec());
    names.push_back(name);
  }
  auto prefixes = architecture::network_prefixes(names);
  if (prefixes.empty()) prefixes.push_back("");  // part of one, perhaps
  for (const std::string& prefix : prefixes) {
    const auto network = architecture::recognise(architecture::behind(shapes, prefix));
    std::string place = state.path + (state.path.empty() || prefix.empty() ? "" : ".") + prefix;
    if (place.ends_with('.')) place.pop_back();
    if (place.empty()) place = ".";
    if (network.familiar) table.rows.push_back({"network", place, {}, {}, {}, {}, network.text});
  }
}

// One row a fact: the format, then each dictionary with its network and tensors, then the values.
results::Table description(const io::CheckpointFile& checkpoint, const fs::path& file) {
  const auto right = results::Align::right;
  results::Table table;
  table.columns = {{"what"}, {"dictionary"}, {"name"},
                   {"type"}, {"shape"},      {"parameters", right, true},
                   {"value"}};
  table.rows.push_back({"format", {}, {}, {}, {}, {}, checkpoint.format});
  if (const std::string kind = io::kind_of_file(checkpoint); !kind.empty()) {
    table.rows.push_back({"kind", {}, {}, {}, {}, {}, kind});
  }
  for (const io::StateDict& state : checkpoint.states) {
    const std::string path = state.path.empty() ? "." : state.path;
    table.rows.push_back({"dictionary",
                          path,
                          {},
                          {},
                          {},
                          std::to_string(parameters(state.tensors)),
                          std::to_string(state.tensors.size()) + " tensors"});
    add_networks(table, state);
    for (const auto& [name, tensor] : state.tensors) {
      table.rows.push_back({"tensor",
                            path,
                            name,
                            std::string(io::item_of(tensor, file.string()).torch),
                            shape_text(tensor),
                            std::to_string(tensor.numel()),
                            {}});
    }
  }
  for (const auto& [path, value] : checkpoint.values) {
    table.rows.push_back({"value", {}, path, {}, {}, {}, value});
  }
  return table;
}

bool is_safetensors(const fs::path& file) { return file.extension() == ".safetensors"; }

void check_ending(const fs::path& file) {
  const std::string ending = file.extension().string();
  if (is_safetensors(file) || ending == ".pt" || ending == ".pth" || ending == ".ckpt") return;
  throw ConfigError(file.string(),
                    "expected a file name ending in .pt, .pth, .ckpt or .safetensors");
}

void write(const fs::path& file, const io::NamedTensors& tensors) {
  if (is_safetensors(file)) {
    io::write_safetensors(file, tensors);
  } else {
    io::write_torch(file, tensors);
  }
  print_written(file);
}

}  // namespace

int cmd_checkpoint(const Arguments& args, Context& context) {
  Options options(
      "checkpoint inspect FILE | convert IN OUT | export RUN|FOLDER OUT [options]",
      "inspect  prints what a .pt, .pth, .ckpt or .safetensors file holds: dictionaries, networks\n"
      "         known by their tensors, tensors, values. Nothing that the file asks for is run.\n"
      "convert  writes one of its dictionaries as PyTorch's zip (.pt, .pth, .ckpt) or as\n"
      "         .safetensors: the same tensors, byte for byte.\n"
      "export   writes a trained model, by its run's number or folder, as a state_dict of the\n"
      "         reference implementation.");
  options.add()("state", po::value<std::string>()->default_value("")->value_name("PATH"),
                "convert: the dictionary, as inspect shows it; \".\" = the top (default: the only "
                "one, or the EMA weights, or state_dict, model)")(
      "weights", po::value<std::string>()->default_value("ema"), "export: ema or raw");
  options.with_format().with_words(3);
  if (!options.parse(args)) return 0;
  const auto words = options.words();
  const std::string action = words.empty() ? "" : words[0];
  const auto expect = [&](std::size_t count, const std::string& usage) {
    if (words.size() != count) options.misuse("checkpoint: expected " + usage);
  };

  if (action == "inspect") {
    expect(2, "inspect FILE");
    options.print(description(io::read_checkpoint(words[1]), words[1]));
  } else if (action == "convert") {
    expect(3, "convert IN OUT");
    check_ending(words[2]);
    const auto checkpoint = io::read_checkpoint(words[1]);
    const auto& state = io::select_state(checkpoint, options.get<std::string>("state"), words[1]);
    if (checkpoint.states.size() > 1) {
      std::cerr << "checkpoint: the dictionary '" << (state.path.empty() ? "." : state.path)
                << "' of " << checkpoint.states.size() << '\n';
    }
    for (const auto& [name, what] : state.left_out) {
      std::cerr << "checkpoint: left out: " << name << ", " << what << '\n';
    }
    write(words[2], state.tensors);
  } else if (action == "export") {
    expect(3, "export RUN|FOLDER OUT");
    check_ending(words[2]);
    const std::string& weights = options.get<std::string>("weights");
    if (weights != "ema" && weights != "raw") {
      throw ConfigError("--weights " + weights, "expected ema or raw");
    }
    Session session(context);
    const auto model = session.host().load_model(model_folder(words[1], context), weights);
    write(words[2], io::state_of(*model.network));
  } else {
    constexpr const char* kForms = "inspect FILE, convert IN OUT, export RUN|FOLDER OUT";
    if (action.empty()) options.misuse(std::string("checkpoint: expected one of ") + kForms);
    options.unknown("checkpoint", action, {"inspect", "convert", "export"}, kForms);
  }
  return 0;
}

}  // namespace dkdm::cli
