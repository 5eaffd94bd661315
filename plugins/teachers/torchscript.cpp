// A teacher from a TorchScript module (torch.jit.save of a traced or scripted network, deprecated
// in PyTorch 2.15 and still written by it) whose forward(x, t) takes x [N,C,H,W] f32 and t [N]
// int64 and returns [N,C,H,W] or [N,2C,H,W]. Such a file holds a program, which runs: load only
// what you trust.
#include <ATen/ATen.h>
#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/passes/inliner.h>
#include <torch/csrc/jit/serialization/import.h>

#include <set>

#include "as_eps.hpp"
#include "dkdm/announced.hpp"
#include "dkdm/checkpoint.hpp"
#include "dkdm/plugin.hpp"
#include "dkdm/weights_files.hpp"
#include "dkdm/weights_kind.hpp"
#include "weights_file.hpp"

namespace {

namespace fs = std::filesystem;
using dkdm::DataError;
using dkdm::Params;

constexpr const char* kName = "torchscript";
constexpr const char* kWhat = "a module that torch.jit.save wrote";

// LibTorch's messages carry a stack of lines; the first that says something.
std::string first_line(const std::string& text) {
  std::string line = text.substr(0, text.find('\n'));
  if (line.size() > 200) line = line.substr(0, 200) + "…";
  return line;
}

class Scripted final : public dkdm::Denoiser {
 public:
  Scripted(torch::jit::Module module, std::string file)
      : module_(std::move(module)), file_(std::move(file)) {
    // Plain names: a network's parameters are looked at for their number and their device.
    // Contiguous, as the images of forward(): the graph's layers follow their memory, and of
    // channels-last images LibTorch's group normalisation takes the variance as E[x^2] - E[x]^2
    // (dkdm/nn.hpp).
    std::int64_t i = 0;
    for (auto parameter : module_.parameters()) {
      parameter.set_data(parameter.detach().contiguous());
      register_parameter("parameter" + std::to_string(i++), parameter, parameter.requires_grad());
      held_.insert(parameter.unsafeGetTensorImpl());
    }
    for (const c10::IValue& attribute : module_.attributes())
      if (attribute.isTensor()) hold(attribute.toTensor());
    const auto graph = module_.get_method("forward").graph()->copy();
    torch::jit::Inline(*graph);
    look_for_constants(*graph->block());
  }

  at::Tensor forward(const at::Tensor& x_t, const at::Tensor& t) override {
    c10::IValue out;
    try {
      out = module_.forward({x_t.contiguous(), t});
    } catch (const std::exception& error) {
      const bool elsewhere = names_cpu_ && !x_t.is_cpu();
      throw DataError(
          file_, "its forward(x, t) failed for x " + c10::str(x_t.sizes()) + ", t " +
                     c10::str(t.sizes()) + ": " + reason(error.what()) +
                     (elsewhere ? "; its program names the device cpu, as torch.jit.trace writes "
                                  "down where it saw tensors made, and the network is on " +
                                      x_t.device().str() +
                                      ": trace it there, script it, or compute on the CPU "
                                      "(--device cpu)"
                                : ""));
    }
    if (!out.isTensor()) {
      throw DataError(file_, "its forward returned " + out.tagKind() + ", expected one tensor");
    }
    return out.toTensor();
  }

 private:
  // The interpreter puts the cause last.
  static std::string reason(const std::string& text) {
    const auto at = text.rfind("Error: ");
    return first_line(at == std::string::npos ? text : text.substr(at));
  }

  // Makes `tensor` move with the network, as what the module's layers keep (positions, schedules).
  void hold(const at::Tensor& tensor) {
    if (tensor.defined() && held_.insert(tensor.unsafeGetTensorImpl()).second)
      register_buffer("buffer" + std::to_string(buffers(false).size()), tensor);
  }

  // What is written into the program itself: tensors, which the interpreter shares with this copy
  // of the graph, and devices.
  void look_for_constants(const torch::jit::Block& block) {
    namespace jit = torch::jit;
    for (const jit::Node* node : block.nodes()) {
      for (const jit::Block* inner : node->blocks()) look_for_constants(*inner);
      if (node->kind() != c10::prim::Constant || !node->hasAttribute(c10::attr::value)) continue;
      const auto kind = node->kindOf(c10::attr::value);
      if (kind == jit::AttributeKind::t) {
        // Numbers that shapes are reckoned with: on a device each would be waited for.
        const at::Tensor& constant = node->t(c10::attr::value);
        if (constant.dim() > 0 || constant.is_floating_point()) hold(constant);
      } else if (kind == jit::AttributeKind::s) {
        names_cpu_ |= node->s(c10::attr::value).starts_with("cpu");
      }
    }
  }

  torch::jit::Module module_;
  std::string file_;
  std::set<const void*> held_;  // tensors that are registered
  bool names_cpu_ = false;
};

class TorchScript final : public dkdm::Teacher,
                          public dkdm::StatesWeights,
                          public dkdm::StatesFiles {
 public:
  TorchScript(const Params& params, dkdm::Host& host) : params_(params), host_(host) {}

  static void announce(const Params& params, dkdm::Announced& announced) {
    dkdm::teachers::announce_absence(params, kName, kWhat, announced);
  }

  static dkdm::ParamTable params() {
    using namespace dkdm;
    return dkdm::teachers::with_origin({
        text("path", "",
             "the module, as torch.jit.save writes it; it is a program: load only what "
             "you trust"),
        integer("channels", 3, "of its images").between(1, 64),
        integer("image_size", 32, "height of its images, in pixels").between(1, 4096),
        integer("image_width", 0, "their width; 0 = image_size").between(0, 4096),
        text("schedule", "cosine", "noise that it was trained with")
            .one_of({"cosine", "linear", "scaled_linear"}),
        integer("steps", 1000, "diffusion steps T; t is 0 … T-1").between(2, 100000),
        real("beta_start", 0, "first beta of a linear schedule, 0 = 0.1 / steps").between(0, 1),
        real("beta_end", 0, "last beta of a linear schedule, 0 = 20 / steps").between(0, 1),
        text("prediction", "epsilon", "what it predicts; sample and v_prediction are converted")
            .one_of({"epsilon", "sample", "v_prediction"}),
        flag("rescale_timesteps", false, "call it with t 1000 / steps, a real number"),
        text("variance", "fixed_large",
             "where it returns C channels: beta (fixed_large) or the "
             "posterior's (fixed_small)")
            .one_of({"fixed_large", "fixed_small"}),
        text("weights", "",
             "what its weights are, which no module says (empty = recorded as unlabelled)")
            .one_of({"", "ema", "raw"}),
    });
  }

  dkdm::TrainedModel load() override {
    const fs::path file = path();
    const auto network = std::make_shared<Scripted>(read(file), file.string());
    const auto height = params_.integer("image_size"), width = params_.integer("image_width");
    const dkdm::SampleShape shape{params_.integer("channels"), height, width > 0 ? width : height};
    const dkdm::DiffusionConfig diffusion{.schedule = params_.text("schedule"),
                                          .steps = params_.integer("steps"),
                                          .respacing = "",
                                          .beta_start = params_.real("beta_start"),
                                          .beta_end = params_.real("beta_end"),
                                          .variance = params_.text("variance")};
    const std::string& predicted = params_.text("prediction");
    using dkdm::teachers::Prediction;
    const auto prediction = predicted == "sample"         ? Prediction::sample
                            : predicted == "v_prediction" ? Prediction::v
                                                          : Prediction::eps;
    const double time_scale =
        params_.flag("rescale_timesteps") ? 1000.0 / static_cast<double>(diffusion.steps) : 1.0;
    auto model = dkdm::teachers::frozen(
        dkdm::teachers::as_eps(network, prediction, diffusion, time_scale), diffusion, shape);
    // Before its first forward, after which the interpreter keeps what it worked out of constants.
    model.network->to(host_.device());
    const auto channels = try_out(model, host_.device(), file);
    host_.log(kName, file.filename().string() + ": returns " + std::to_string(channels) +
                         " channels for images of " + text_of(shape) + ", predicts " + predicted +
                         "; by parameters: " + diffusion.schedule + " schedule, " +
                         std::to_string(diffusion.steps) + " steps" +
                         (channels == shape.channels ? ", variance " + diffusion.variance : ""));
    return model;
  }

  std::string fingerprint() const override {
    return dkdm::teachers::fingerprint(params_, {path()});
  }

  std::vector<fs::path> weight_files() const override { return {path()}; }

  std::string weights() const override { return params_.text("weights"); }

 private:
  fs::path path() const { return dkdm::teachers::given_path(params_, kName, kWhat); }

  static torch::jit::Module read(const fs::path& file) {
    if (!fs::is_regular_file(file)) throw DataError(file.string(), "is not a file");
    try {
      auto module = torch::jit::load(file.string(), at::kCPU);
      module.eval();
      if (!module.find_method("forward"))
        throw DataError(file.string(), "its module has no method forward(x, t)");
      return module;
    } catch (const dkdm::Error&) {
      throw;
    } catch (const std::exception& error) {
      throw DataError(file.string(), "is not a TorchScript module: " + instead(file, error.what()));
    }
  }

  // What the file is instead, where the checkpoints' reader knows it.
  static std::string instead(const fs::path& file, const std::string& error) {
    const std::string remedy =
        "; trace or script the network and write it with torch.jit.save (deprecated in PyTorch 2.15, "
        "which still does it; what torch.export writes is not read)";
    try {
      if (!dkdm::io::read_checkpoint(file).states.empty())
        return "a checkpoint of tensors without their program: the teacher guided-diffusion takes a "
               "state dict of its networks";
    } catch (const DataError& known) {
      std::string text = known.what();
      // A module that is damaged inside is one by its entries.
      const bool is_module = text.find("a TorchScript module") != std::string::npos;
      if (text.starts_with(file.string())) text.erase(0, file.string().size() + 2);
      if (!is_module) return text + remedy;
    }
    return first_line(error) + remedy;
  }

  // Two images of two steps, together and alone: shape, values, and that rows do not mix, as in a
  // module that was traced with one batch size or in training mode. Returns the output's channels.
  static std::int64_t try_out(const dkdm::TrainedModel& model, at::Device device,
                              const fs::path& file) {
    const at::NoGradGuard no_grad;
    const auto c = model.shape.channels;
    const at::Tensor x =
        at::linspace(-1, 1, 2 * model.shape.values()).view(model.shape.batch(2)).to(device);
    const at::Tensor t =
        at::tensor({std::int64_t{0}, model.diffusion.steps - 1}, at::kLong).to(device);
    const at::Tensor out = model.network->forward(x, t);
    const bool shaped = out.dim() == 4 && out.size(0) == 2 && out.size(2) == x.size(2) &&
                        out.size(3) == x.size(3) && (out.size(1) == c || out.size(1) == 2 * c);
    if (!shaped || !out.is_floating_point()) {
      throw DataError(file.string(),
                      "returned " + std::string(out.dtype().name()) + " " + c10::str(out.sizes()) +
                          " for images of " + c10::str(x.sizes()) + ", expected floats with " +
                          std::to_string(c) + " or " + std::to_string(2 * c) +
                          " channels of the same size; check channels and image_size");
    }
    if (!out.isfinite().all().item<bool>())
      throw DataError(file.string(), "returned values that are not finite on its first call");
    const at::Tensor alone = model.network->forward(x.narrow(0, 1, 1), t.narrow(0, 1, 1));
    if (alone.sizes() != out.narrow(0, 1, 1).sizes() ||
        !at::allclose(alone, out.narrow(0, 1, 1), 1e-3, 1e-4)) {
      throw DataError(file.string(),
                      "gives an image another output alone than in a batch of two; "
                      "trace it in evaluation mode, with nothing that depends on the "
                      "batch");
    }
    return out.size(1);
  }

  Params params_;
  dkdm::Host& host_;
};

}  // namespace

DKDM_TEACHER("torchscript", "2", "a traced or scripted module: forward(x, t)", TorchScript)
