// Which tensors of a checkpoint are the network: behind wrappers' names, and the moving average
// where there is one.
#include <ATen/ATen.h>

#include <catch2/catch.hpp>

#include "dkdm/architecture.hpp"
#include "dkdm/checkpoint.hpp"

using namespace dkdm;
using Catch::Matchers::Contains;
using io::CheckpointFile;
using io::NamedTensors;
using io::StateDict;
using io::WeightsKind;

namespace {

// Enough of a DiT to be known by its names; every value is `value`.
NamedTensors network(float value, const std::string& prefix = "") {
  NamedTensors tensors;
  for (const auto& [name, shape] : std::vector<std::pair<std::string, std::vector<std::int64_t>>>{
           {"pos_embed", {1, 4, 8}},
           {"x_embedder.proj.weight", {8, 3, 2, 2}},
           {"blocks.0.mlp.fc1.weight", {16, 8}},
           {"final_layer.linear.weight", {12, 8}}}) {
    tensors.emplace_back(prefix + name, at::full(shape, value));
  }
  return tensors;
}

NamedTensors joined(NamedTensors a, const NamedTensors& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

const NamedTensors kCounters{{"num_batches", at::scalar_tensor(3)},
                             {"global_step", at::scalar_tensor(5)}};

io::ChosenNetwork choose(std::vector<StateDict> states, const std::string& state = "",
                         WeightsKind preferred = WeightsKind::ema) {
  return io::choose_network(CheckpointFile{"made", std::move(states), {}, nullptr}, state, "net.pt",
                            preferred);
}

float value_of(const io::ChosenNetwork& chosen) {
  CHECK(chosen.tensors.size() == 4);
  CHECK(chosen.tensors.front().first == "pos_embed");
  CHECK(chosen.tensors.back().first == "final_layer.linear.weight");
  return chosen.tensors.front().second.flatten()[0].item<float>();
}

NamedTensors numbered(NamedTensors tensors) {
  for (std::size_t i = 0; i < tensors.size(); ++i) tensors[i].first = std::to_string(i);
  return tensors;
}

}  // namespace

TEST_CASE("network choice: any nesting of wrappers' names is taken off, counters stay beside",
          "[unit][checkpoint]") {
  for (const std::string prefix :
       {"", "module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module.",
        "_fsdp_wrapped_module.", "model.", "module.model.", "model._orig_mod.module.",
        "net.denoiser.", "_forward_module.module.",
        "diffusion.model._fsdp_wrapped_module._orig_mod."}) {
    CAPTURE(prefix);
    const auto chosen = choose({{"state_dict", joined(network(1, prefix), kCounters)}});
    CHECK(value_of(chosen) == 1);
    CHECK(chosen.kind == WeightsKind::given);
  }
  CHECK(architecture::unwrapped("blocks.0._fsdp_wrapped_module.attn._orig_mod.qkv.weight") ==
        "blocks.0.attn.qkv.weight");
  CHECK(architecture::unwrapped("_orig_mod") == "_orig_mod");
}

TEST_CASE("network choice: wrappers inside the names are taken off too", "[unit][checkpoint]") {
  auto tensors = network(2, "_fsdp_wrapped_module.");
  tensors[2].first = "_fsdp_wrapped_module.blocks.0._checkpoint_wrapped_module.mlp.fc1.weight";
  const auto chosen = choose({{"", tensors}});
  CHECK(value_of(chosen) == 2);
  CHECK(chosen.tensors[2].first == "blocks.0.mlp.fc1.weight");
}

TEST_CASE("network choice: the moving average is taken wherever it stands, and said to be one",
          "[unit][checkpoint]") {
  const std::vector<std::pair<std::string, std::vector<StateDict>>> files{
      {"ema", {{"model", network(1)}, {"ema", network(2)}}},
      {"ema.shadow", {{"model", network(1)}, {"ema.shadow", network(2)}}},
      {"state_dict_ema", {{"state_dict", network(1)}, {"state_dict_ema", network(2, "module.")}}},
      {"model_ema", {{"model", network(1)}, {"model_ema", network(2)}}},
      {"net_ema", {{"net", network(1, "module.")}, {"net_ema", network(2)}}},
      {"ema_state_dict", {{"model_state_dict", network(1)}, {"ema_state_dict", network(2)}}},
      {"modelEma", {{"model", network(1)}, {"modelEma", network(2)}}},
      {"state_dict.model_ema",
       {{"state_dict", joined(network(1, "model."), network(2, "model_ema."))}}},
      {"ema.ema_model",
       {{"model", network(1)},
        {"ema", joined(joined(network(1, "online_model.module."), network(2, "ema_model.module.")),
                       {{"initted", at::scalar_tensor(1)}, {"step", at::scalar_tensor(9)}})}}},
      {"model_avg", {{"model", network(1)}, {"model_avg", network(2)}}},
      {"moving_average", {{"model", network(1)}, {"moving_average", network(2)}}},
      {"model_ewa", {{"model", network(1)}, {"model_ewa", network(2)}}},
      {"smoothed_model", {{"smoothed_model", network(2)}, {"model", network(1)}}},
      // The average stands below what it is of.
      {"ema", {{"", joined(network(1), network(2, "ema."))}}},
      {"module", {{"", joined(network(2, "module."), {{"n_averaged", at::scalar_tensor(5)}})}}},
  };
  for (const auto& [where, states] : files) {
    CAPTURE(where);
    const auto chosen = choose(states);
    CHECK(value_of(chosen) == 2);
    CHECK(chosen.kind == WeightsKind::ema);
    CHECK_THAT(chosen.path, Contains(where));
    CHECK_THAT(chosen.said, Contains("EMA weights, from '" + chosen.path + "'"));
  }
}

TEST_CASE("network choice: raw weights are taken when they are asked for, and called raw",
          "[unit][checkpoint]") {
  const std::vector<StateDict> states{{"model", network(1)}, {"ema", network(2)}};
  for (const auto& chosen : {choose(states, "model"), choose(states, "", WeightsKind::raw)}) {
    CHECK(value_of(chosen) == 1);
    CHECK(chosen.kind == WeightsKind::raw);
    CHECK_THAT(chosen.said, Contains("raw weights, from 'model'") && Contains("in 'ema'"));
  }
  CHECK(value_of(choose(states, "ema")) == 2);
  CHECK(value_of(choose({{"", joined(network(1), network(2, "ema."))}}, "", WeightsKind::raw)) ==
        1);
  const auto one = choose({{"model", network(1)}});
  CHECK(one.kind == WeightsKind::given);
  // Averaged and raw side by side in one dictionary: `state` names what stands before the names,
  // too.
  const std::vector<StateDict> side{
      {"state_dict", joined(network(1, "model."), network(2, "ema_model."))}};
  CHECK(value_of(choose(side, "state_dict.model")) == 1);
  CHECK(value_of(choose(side, "state_dict")) == 2);
}

TEST_CASE(
    "network choice: an average without the network's names is mapped or refused, never passed over",
    "[unit][checkpoint]") {
  const auto list = choose({{"model", network(1)}, {"ema.shadow_params", numbered(network(2))}});
  CHECK(value_of(list) == 2);
  CHECK(list.kind == WeightsKind::ema);

  NamedTensors undotted;  // LitEma's
  for (const auto& [name, tensor] : network(2)) {
    std::string flat = name;
    std::erase(flat, '.');
    undotted.emplace_back("model_ema." + flat, tensor);
  }
  const auto lit = choose({{"state_dict", joined(network(1, "model."), undotted)}});
  CHECK(value_of(lit) == 2);
  CHECK(lit.kind == WeightsKind::ema);

  auto shorter = numbered(network(2));
  shorter.pop_back();
  const std::vector<StateDict> unfit{{"model", network(1)}, {"ema.shadow_params", shorter}};
  CHECK_THROWS_WITH(choose(unfit), Contains("net.pt: ") &&
                                       Contains("'ema.shadow_params' (3 tensors)") &&
                                       Contains("state = \"model\" takes the raw weights"));
  CHECK(choose(unfit, "model").kind == WeightsKind::raw);
}

TEST_CASE("network choice: Lightning's WeightAveraging has the average in state_dict",
          "[unit][checkpoint]") {
  const std::vector<StateDict> states{{"state_dict", network(2, "model.")},
                                      {"current_model_state", network(1, "model.")}};
  const auto average = choose(states);
  CHECK(value_of(average) == 2);
  CHECK(average.kind == WeightsKind::ema);
  const auto raw = choose(states, "", WeightsKind::raw);
  CHECK(value_of(raw) == 1);
  CHECK(raw.kind == WeightsKind::raw);
}

TEST_CASE("network choice: a second set of weights that may be the average is not passed over",
          "[unit][checkpoint]") {
  const std::vector<StateDict> states{{"model", network(1)}, {"target_model", network(2)}};
  CHECK_THROWS_WITH(choose(states),
                    Contains("one network with two sets of weights, 'model', 'target_model'") &&
                        Contains("name one by state"));
  CHECK(value_of(choose(states, "target_model")) == 2);
  CHECK(value_of(choose(states, "", WeightsKind::raw)) == 1);
  CHECK(value_of(choose({{"model", network(1)}, {"target_model", network(1)}})) == 1);  // the same
  auto other = network(2);
  other.back().second = at::full({12, 9}, 2);
  CHECK(value_of(choose({{"model", network(1)}, {"critic", other}})) == 1);
}

TEST_CASE("network choice: what is ambiguous is refused with the choices", "[unit][checkpoint]") {
  CHECK_THROWS_WITH(
      choose({{"ema_0.99", network(1)}, {"ema_0.9999", network(2)}}),
      Contains("several moving averages, 'ema_0.99', 'ema_0.9999'") && Contains("state"));
  CHECK_THROWS_WITH(choose({{"first", network(1)}, {"second", network(2)}}),
                    Contains("name one of 'first', 'second' by state"));
  CHECK_THROWS_WITH(choose({{"model", network(1)}}, "ema"),
                    Contains("no dictionary of tensors 'ema'"));
  const StateDict adam{"state.0", {{"step", at::scalar_tensor(1)}, {"exp_avg", at::ones({2})}}};
  CHECK_THROWS_WITH(choose({adam}), Contains("the state of an optimizer") && Contains("beside it"));
  CHECK(value_of(choose({adam, {"net_g", network(3)}})) == 3);
  CHECK_THROWS_WITH(
      choose({{"model", network(1), {{"t_embedder.mlp.0.weight", "a sparse tensor"}}}}),
      Contains("'t_embedder.mlp.0.weight' is a sparse tensor"));
}
