// Sections of an experiment file that belong to no plugin, as parameter tables.
#include "config/experiment.hpp"
#include "config/settings.hpp"
#include "device/precision.hpp"
#include "diffusion/sampler_kind.hpp"

namespace dkdm::config {
namespace {

// Far above what is useful, far below what fills a machine or overflows a product: a slip of the
// keyboard is refused where it stands. What is large only together is refused by its size
// (run/limits.hpp).
constexpr double kMostSteps = 1e8;   // of training; the paper's longest has 8e5
constexpr double kMostImages = 1e8;  // of a sample set; published values are of 5e4
constexpr double kLargestBatch = 65536;
constexpr double kLargestSeed =
    9007199254740991;  // 2^53 - 1: what JSON and a database read back equal
constexpr std::size_t kMostSeeds = 10000;

ParamTable joined(ParamTable first, const ParamTable& second) {
  first.insert(first.end(), second.begin(), second.end());
  return first;
}

// "ancestral (DDPM, Ho et al. 2020), …"
std::string samplers() {
  std::string text;
  for (const auto& kind : diffusion::sampler_kinds())
    text += (text.empty() ? "" : ", ") + kind.name + " (" + kind.paper + ")";
  return text;
}

// What drawing images is configured by, for evaluation and for synthetic sets.
ParamTable sampling(Param count) {
  return joined({std::move(count),
                 text("respacing", "50",
                      "steps of the chain: \"50\", \"10,15,20\" by section, \"ddim25\", "
                      "\"\" = all"),
                 integer("batch", 64, "images drawn at a time; no sample depends on it")
                     .between(1, kLargestBatch)
                     .no_effect_on_result()},
                sampler_settings().table());
}

// Of a network, or "auto".
Param precision(const std::string& name, const std::string& usual, const std::string& about) {
  std::vector<std::string> words = device::precision_names();
  words.push_back("auto");
  return text(name, usual,
              about +
                  ": fp32 (IEEE), bf16, fp16 (with the authors' loss scaling), tf32 (CUDA), or "
                  "auto, chosen when it is first planned on a machine and fixed from then on")
      .one_of(words)
      .no_effect_on_result();  // of fp32, which is in no key; others are added to keys by name
}

}  // namespace

const ParamTable& experiment_table() {
  static const ParamTable table{
      text("name", "", "short name, [a-z0-9_-]+").required(),
      text("title", "", "heading of the report, empty = the name"),
      text("scale", "desk", "size of the experiment; scales never share a table")
          .one_of({"desk", "paper"}),
      text("table", "", "shape of the report: the paper's table or figure, as in \"table2\""),
      text("published", "", "section of the published values, as in \"table2.cifar10\""),
      integers("seeds", {0}, "seeds of the runs, one run a row and seed")
          .between(0, kLargestSeed)
          .at_most_elements(kMostSeeds),
      integer("samples", 50000,
              "images that the published values are of; at scale paper a row with "
              "fewer is refused")
          .between(1, kMostImages),
      texts("rows", {},
            "which rows of the file and its bases are made, in this order; empty = all"),
      flag("isolate", false,
           "every run in a process of its own: one that crashes is recorded as failed, "
           "and the others go on"),
      texts("plugins", {},
            "plugin files and folders beside the shipped ones, relative to this file"),
      text("device", "auto",
           "what networks compute on: cpu, cuda, cuda:N, or auto (a GPU where there is one); "
           "--device and $DKDM_DEVICE come before. No result depends on it, but for rounding"),
      real("expected_minutes", 0, "duration on two cores in minutes, 0 = not stated")
          .between(0, 1e7),
  };
  return table;
}

const ParamTable& train_table() {
  static const ParamTable table{
      integer("batch", 64, "training examples a step").between(1, kLargestBatch),
      integer("steps", 0, "training steps").between(1, kMostSteps).required(),
      real("lr", 1e-4, "learning rate of AdamW").between(0, 1000),
      integer("warmup_steps", 0, "steps over which lr grows linearly from zero, 0 = off")
          .between(0, kMostSteps),
      text("lr_decay", "none", "course of lr after that; cosine and linear reach zero at the end")
          .one_of({"none", "cosine", "linear"}),
      real("weight_decay", 0, "AdamW's decoupled weight decay, 0 = off").between(0, 1000),
      real("beta1", 0.9, "AdamW's decay of the first moment").between(0, 1),
      real("beta2", 0.999, "AdamW's decay of the second moment").between(0, 1),
      real("adam_eps", 1e-8, "AdamW's epsilon").between(0, 1),
      real("ema", 0.9999, "decay of the weights' moving average, a step").between(0, 1),
      flag("ema_warmup", false,
           "EMA decay min(ema, (1 + n) / (10 + n)), for short runs: true = n from 0, "
           "\"ldm\" = n from 1, as latent diffusion's")
          .one_of({"ldm"}),
      real("grad_clip", 0, "largest global L2 norm of the gradients, 0 = off").between(0, 1e9),
      text("last_batch", "drop",
           "an epoch's last, smaller batch, of methods that train on images: drop or keep")
          .one_of({"drop", "keep"})
          .added(),
      precision("precision", "fp32", "what the student's network computes in"),
      text(
          "teacher_precision", "",
          "the same of the teacher's network, also where a batch set is prepared: fp32, tf32, bf16 "
          "or fp16; empty = as precision")
          .one_of({"", "fp32", "tf32", "bf16", "fp16"})
          .no_effect_on_result(),  // as precision
      text(
          "pool", "auto",
          "where a method keeps its batch set on a GPU: device, host (pinned copies of the rows that "
          "a step needs), or auto (host where the set would take more than half of the device)")
          .one_of({"auto", "device", "host"})
          .no_effect_on_result(),
      flag(
          "graphs", false,
          "on a GPU, record the passes of student and teacher once and launch each as a whole (CUDA "
          "graphs): faster where a network is small; takes memory for their activations throughout")
          .no_effect_on_result(),
      text("select", "last",
           "the step whose values count: last, or best:METRIC (best:fid), the best of those that "
           "[evaluate] evaluates")
          .no_effect_on_result(),
      integer("checkpoint_every", 1000, "steps between checkpoints, at most")
          .between(1, kMostSteps)
          .no_effect_on_result(),
      real("checkpoint_minutes", 30,
           "minutes between checkpoints, at most: whichever of the two comes first")
          .between(0, 1e5)
          .no_effect_on_result(),
      integer("log_every", 50, "steps between points of the curves")
          .between(1, kMostSteps)
          .no_effect_on_result(),
  };
  return table;
}

const ParamTable& sample_table() {
  static const ParamTable table = [] {
    ParamTable params = sampling(integer("count", 0, "images that are drawn and evaluated")
                                     .between(1, kMostImages)
                                     .required());
    params.push_back(text("weights", "ema", "which weights are evaluated").one_of({"ema", "raw"}));
    params.push_back(precision("precision", "fp32", "what the network computes in"));
    params.push_back(flag("save", false,
                          "keep the images (samples.npz as ADM writes it); they go "
                          "straight into the evaluator otherwise"));
    return params;
  }();
  return table;
}

const ParamTable& evaluate_table() {
  static const ParamTable table{
      integer("every", 0,
              "students are evaluated after so many training steps, again and again, "
              "0 = at the end alone")
          .between(0, kMostSteps),
      integer("count", 0, "images of each of these evaluations, 0 = as many as [sample] has")
          .between(0, kMostImages),
      text("samples", "same",
           "their random numbers: the same as those of the images that are drawn at the end, or "
           "other ones, so that a step chosen by them (train.select) is judged by images that had "
           "no part in the choice")
          .one_of({"same", "other"}),
  };
  return table;
}

const ParamTable& reference_table() {
  static const ParamTable table{
      text("statistics", "",
           "npz of reference statistics (ADM's layout, or of dkdm ref make), used in place of the "
           "dataset's images; rows that train on none then need no dataset"),
  };
  return table;
}

const ParamTable& synthetic_table() {
  static const ParamTable table = [] {
    ParamTable params = sampling(
        integer("count", 0, "images drawn from the teacher, 0 = as many as the dataset has")
            .between(0, kMostImages));
    params.push_back(precision("precision", "fp32", "what the teacher computes in"));
    return params;
  }();
  return table;
}

const Settings<DiffusionConfig>& diffusion_settings() {
  using C = DiffusionConfig;
  static const Settings<C> kSettings(std::vector<Setting<C>>{
      {&C::schedule, text("schedule", C().schedule, "noise schedule")
                         .one_of({"cosine", "linear", "scaled_linear"})},
      {&C::steps,
       integer("steps", C().steps, "diffusion steps T before respacing").between(2, 100000)},
      {&C::beta_start, real("beta_start", 0, "first beta of a linear schedule, 0 = 0.1 / steps")
                           .between(0, 1)
                           .added()},
      {&C::beta_end,
       real("beta_end", 0, "last beta of a linear schedule, 0 = 20 / steps").between(0, 1).added()},
      {&C::variance, text("variance", C().variance,
                          "variance of networks that predict none: beta "
                          "(fixed_large) or the posterior's (fixed_small)")
                         .one_of({"fixed_large", "fixed_small"})
                         .added()},
      {&C::variance_range,
       text("variance_range", C().variance_range,
            "v that spans posterior variance to beta: -1 … 1 (centred, the authors' "
            "code) or 0 … 1 (unit, the paper's Eq. 12)")
           .one_of({"centred", "unit"})
           .added()},
  });
  return kSettings;
}

const Settings<SamplerConfig>& sampler_settings() {
  using C = SamplerConfig;
  static const Settings<C> kSettings(std::vector<Setting<C>>{
      {&C::sampler, text("sampler", C().sampler, samplers()).one_of(sampler_names())},
      {&C::eta,
       real("eta", C().eta, "DDIM's stochasticity, 0 = deterministic; the others ignore it")
           .between(0, 1)},
      {&C::solver_steps,
       integer("solver_steps", C().solver_steps,
               "network calls of dpm-solver, which ignores respacing; the others ignore it")
           .between(2, 1000)},
      {&C::clip_denoised,
       flag("clip_denoised", C().clip_denoised,
            "clamp the predicted image to [-1, 1] at every step; dpm-solver thresholds it "
            "dynamically")},
      {&C::steps_offset,
       integer(
           "steps_offset", C().steps_offset,
           "added to DDIM's steps (diffusers' name; 1 = latent diffusion's), whose respacing is "
           "then \"ddimN\" with N a divisor of the chain; the others ignore it")
           .between(0, 1)
           .added()},
      {&C::set_alpha_to_one,
       flag("set_alpha_to_one", C().set_alpha_to_one,
            "DDIM's last step ends without noise (diffusers' name); false: at the chain's first "
            "alpha_bar, as latent diffusion's; the others ignore it")
           .added()},
  });
  return kSettings;
}

}  // namespace dkdm::config
