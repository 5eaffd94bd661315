// Recognition of networks by names and shapes.
#include <catch2/catch.hpp>

#include "dkdm/architecture.hpp"
#include "fixtures/students.hpp"
#include "nn/meta.hpp"

using namespace dkdm;
using namespace dkdm::architecture;
using Catch::Contains;
using Integers = std::vector<std::int64_t>;

namespace {

Shapes shapes_of(const std::string& name, const std::map<std::string, Value>& values,
                 const SampleShape& shape) {
  Shapes shapes;
  for (const auto& entry : fixtures::student(name, values, shape)->named_parameters())
    shapes.emplace_back(entry.key(), entry.value().sizes().vec());
  return shapes;
}

Shapes unet_shapes(const std::map<std::string, Value>& changed,
                   const SampleShape& shape = {3, 16, 16}) {
  std::map<std::string, Value> values{{"model_channels", std::int64_t{32}},
                                      {"num_res_blocks", std::int64_t{2}},
                                      {"channel_mult", Integers{1, 2, 3}},
                                      {"attention_resolutions", Integers{8}}};
  for (const auto& [name, value] : changed) values[name] = value;
  return shapes_of("adm-unet", values, shape);
}

Unet unet_of(const Shapes& shapes) {
  const Recognised recognised = recognise(shapes);
  INFO(recognised.text);
  REQUIRE(std::holds_alternative<Unet>(recognised.network));
  return std::get<Unet>(recognised.network);
}

Shapes without(Shapes shapes, const std::string& prefix) {
  std::erase_if(shapes, [&](const auto& entry) { return entry.first.starts_with(prefix); });
  return shapes;
}

Unet published(std::int64_t channels, std::int64_t blocks, const Integers& multipliers,
               std::vector<bool> attention) {
  Unet unet;
  unet.in_channels = 3;
  unet.out_channels = 6;
  unet.time_channels = channels;
  for (const auto mult : multipliers) unet.widths.push_back(mult * channels);
  unet.num_res_blocks = blocks;
  unet.attention = std::move(attention);
  return unet;
}

}  // namespace

TEST_CASE("architecture: every option of the UNet that tensors show is read off them",
          "[unit][architecture]") {
  Unet expected;
  expected.in_channels = 3;
  expected.out_channels = 6;
  expected.time_channels = 32;
  expected.widths = {32, 64, 96};
  expected.num_res_blocks = 2;
  expected.attention = {false, true, false};
  CHECK(unet_of(unet_shapes({})) == expected);

  auto changed = expected;
  changed.out_channels = 3;
  changed.scale_shift = false;
  CHECK(unet_of(unet_shapes({{"learn_sigma", false}, {"use_scale_shift_norm", false}})) == changed);
  changed = expected;
  changed.resampling = Resampling::convolutions;
  CHECK(unet_of(unet_shapes({{"resblock_updown", false}})) == changed);
  changed.resampling = Resampling::pooling;
  CHECK(unet_of(unet_shapes({{"resblock_updown", false}, {"conv_resample", false}})) == changed);
  changed = expected;
  changed.time_channels = 64;
  changed.attention = {true, false, true};
  CHECK(unet_of(unet_shapes({{"time_channels", std::int64_t{64}},
                             {"attention_resolutions", Integers{16, 4}}})) == changed);
  changed = expected;
  changed.in_channels = 1;
  changed.out_channels = 2;
  changed.widths = {32};
  changed.attention = {false};
  changed.num_res_blocks = 1;
  CHECK(unet_of(unet_shapes({{"channel_mult", Integers{1}},
                             {"attention_resolutions", Integers{}},
                             {"num_res_blocks", std::int64_t{1}}},
                            {1, 16, 16})) == changed);
}

TEST_CASE("architecture: label table and data parallel prefix are seen", "[unit][architecture]") {
  Shapes shapes = unet_shapes({});
  shapes.insert(shapes.begin() + 4, {"label_emb.weight", {10, 128}});
  CHECK(unet_of(shapes).classes == 10);
  CHECK_THAT(recognise(shapes).text, Contains("conditional on 10 classes"));
  const auto prefixes = [&] {
    std::vector<std::string> names;
    for (const auto& [name, shape] : shapes) names.push_back(name);
    return network_prefixes(names);
  };
  CHECK(prefixes() == std::vector<std::string>{""});
  for (auto& [name, shape] : shapes) name = "module." + name;
  CHECK(prefixes() == std::vector<std::string>{"module."});
  CHECK(unet_of(shapes).classes == 10);
  shapes.clear();
  CHECK(prefixes().empty());
}

TEST_CASE("architecture: DiT is read off its tensors", "[unit][architecture]") {
  auto shapes = shapes_of("dit",
                          {{"depth", std::int64_t{2}},
                           {"hidden_size", std::int64_t{64}},
                           {"num_heads", std::int64_t{4}},
                           {"patch_size", std::int64_t{4}},
                           {"mlp_ratio", 3.0},
                           {"learn_sigma", false}},
                          {1, 16, 16});
  Dit expected;
  expected.in_channels = expected.out_channels = 1;
  expected.image_size = 16;
  expected.patch_size = 4;
  expected.depth = 2;
  expected.hidden_size = 64;
  expected.mlp_width = 192;
  CHECK(std::get<Dit>(recognise(shapes).network) == expected);
  shapes.emplace_back("y_embedder.embedding_table.weight", Integers{1001, 64});
  expected.classes = 1001;
  CHECK(std::get<Dit>(recognise(shapes).network) == expected);
  // DiT-S, B, L and XL of Peebles & Xie 2023, table 1; and a width that is none of theirs.
  for (const auto& [width, heads] : std::vector<std::pair<std::int64_t, std::int64_t>>{
           {384, 6}, {768, 12}, {1024, 16}, {1152, 16}, {32, 1}}) {
    expected.hidden_size = width;
    CHECK(usual_heads(expected) == heads);
  }
}

TEST_CASE("architecture: the paper's networks are known by their shapes", "[unit][architecture]") {
  // Spec of the authors' arch files: widths, blocks, attention, image size, channels a head.
  struct Row {
    const char* name;
    std::int64_t channels, blocks;
    bool celeba;
    std::int64_t head_channels;
  };
  for (const Row& row : {Row{"14M-CNN", 64, 3, false, 32}, Row{"24M-CNN", 96, 2, false, 32},
                         Row{"32M-CNN", 96, 3, false, 32}, Row{"44M-CNN", 128, 2, false, 32},
                         Row{"57M-CNN", 128, 3, false, 32}, Row{"57M-CNN-CelebA", 96, 2, true, 32},
                         Row{"295M-CNN", 192, 3, true, 64}}) {
    const Unet unet = published(row.channels, row.blocks,
                                row.celeba ? Integers{1, 2, 3, 4} : Integers{1, 2, 2, 2},
                                {false, true, true, row.celeba});
    const UninferableOptions hidden = uninferable_options(unet);
    INFO(row.name);
    CHECK_THAT(hidden.network, Contains(row.name));
    CHECK(hidden.image_size == (row.celeba ? 64 : 32));
    CHECK(hidden.num_head_channels == row.head_channels);
    CHECK(hidden.new_attention_order);
    CHECK(hidden.schedule == "cosine");
    CHECK(hidden.steps == 1000);
  }
  // From a network itself.
  CHECK_THAT(
      uninferable_options(unet_of(shapes_of("adm-unet", {{"preset", "14M-CNN"}}, {3, 32, 32})))
          .network,
      Contains("14M-CNN"));
}

TEST_CASE("architecture: latent diffusion's networks have its counts and are known by their shapes",
          "[unit][architecture]") {
  struct Row {
    const char* preset;
    std::int64_t parameters;
  };
  // Of UNetModel of CompVis/latent-diffusion with celebahq-ldm-vq-4.yaml, base width 224 and 128.
  for (const Row& row : {Row{"LDM-274M", 274056163}, Row{"LDM-89M", 89535619}}) {
    INFO(row.preset);
    const plugin::PluginInfo& info = fixtures::registry().find("student", "adm-unet");
    const std::map<std::string, Value> given{{"preset", std::string(row.preset)},
                                             {"learn_sigma", false}};
    const auto network = nn::made_on_meta([&] {
      return fixtures::registry().student(
          {info.kind, info.name, info.version, Params(info.params, given)}, {{3, 64, 64}, {}}, 0);
    });
    Shapes shapes;
    std::int64_t parameters = 0;
    for (const auto& entry : network->named_parameters()) {
      shapes.emplace_back(entry.key(), entry.value().sizes().vec());
      parameters += entry.value().numel();
    }
    CHECK(parameters == row.parameters);
    CHECK(shapes.size() == 368);
    const UninferableOptions hidden = uninferable_options(unet_of(shapes));
    CHECK_THAT(hidden.network, Contains(row.preset));
    CHECK(hidden.image_size == 64);
    CHECK(hidden.num_head_channels == 32);
    CHECK_FALSE(hidden.new_attention_order);
    CHECK(hidden.schedule == "scaled_linear");
    CHECK(hidden.beta_start == 0.0015);
    CHECK(hidden.beta_end == 0.0195);
  }
}

TEST_CASE("architecture: OpenAI's published networks and the defaults of their code",
          "[unit][architecture]") {
  // guided-diffusion's README, 512 x 512; improved-diffusion's README, CIFAR-10.
  Unet large = published(256, 2, {}, {false, false, false, false, true, true, true});
  large.widths = {128, 256, 256, 512, 512, 1024, 1024};
  CHECK(uninferable_options(large).image_size == 512);
  CHECK(uninferable_options(large).num_head_channels == 64);
  CHECK(uninferable_options(large).schedule == "linear");
  Unet cifar = published(128, 3, {1, 2, 2, 2}, {false, true, true, false});
  cifar.resampling = Resampling::convolutions;
  CHECK(uninferable_options(cifar).steps == 4000);
  CHECK(uninferable_options(cifar).rescale_timesteps);
  CHECK(uninferable_options(cifar).num_heads == 4);
  CHECK_FALSE(uninferable_options(cifar).new_attention_order);
  // Nobody's: script_util.py's defaults, and the size that goes with its multipliers.
  const UninferableOptions other =
      uninferable_options(published(64, 1, {1, 2, 3, 4}, {false, false, true, true}));
  CHECK(other.network.empty());
  CHECK(other.image_size == 64);
  CHECK(other.num_heads == 4);
  CHECK(other.schedule == "linear");
  CHECK(other.steps == 1000);
  CHECK(uninferable_options(published(64, 1, {1, 5}, {false, true})).image_size == 0);
}

TEST_CASE("architecture: what is not known is said with what was recognised",
          "[unit][architecture]") {
  const auto text = [](const Shapes& shapes) {
    const Recognised recognised = recognise(shapes);
    CHECK(std::holds_alternative<std::monostate>(recognised.network));
    return recognised.text;
  };
  const Shapes unet = unet_shapes({});
  CHECK_THAT(text(without(unet, "output_blocks.")), Contains("classifier"));
  CHECK_THAT(text(without(unet, "out.")),
             Contains("guided-diffusion's UNet") && Contains("there is no out.2.weight"));
  CHECK_THAT(text(without(unet, "input_blocks.8.")),
             Contains("8 input blocks and 9 output blocks"));
  Shapes flat = unet;
  flat[0].second = {128};
  CHECK_THAT(text(flat), Contains("time_embed.0.weight has 1 dimensions, expected 2"));
  flat[0].second = {100, 32};
  CHECK_THAT(text(flat), Contains("makes 100 channels of 32, expected four times as many"));
  Shapes conditioned = unet;
  conditioned.emplace_back("input_blocks.4.1.transformer_blocks.0.attn1.to_q.weight",
                           Integers{64, 64});
  CHECK_THAT(text(conditioned), Contains("attends to a text"));
  CHECK_THAT(text({{"model.diffusion_model.time_embed.0.weight", {1280, 320}},
                   {"first_stage_model.encoder.conv_in.weight", {128, 3, 3, 3}}}),
             Contains("latent diffusion"));
  CHECK_THAT(
      text({{"conv_in.weight", {32, 3, 3, 3}}, {"down_blocks.0.resnets.0.norm1.bias", {32}}}),
      Contains("diffusers"));
  CHECK_THAT(text({{"x_embedder.proj.weight", {64, 3, 2, 2}}, {"blocks.0.attn.qkv.bias", {192}}}),
             Contains("looks like DiT, but there is no pos_embed"));
  CHECK_FALSE(recognise({{"fc.weight", {10, 5}}}).familiar);
  CHECK(recognise(without(unet, "output_blocks.")).familiar);
  CHECK_THAT(text({{"fc.weight", {10, 5}}, {"fc.bias", {10}}}), Contains("fc.weight, fc.bias"));
  CHECK_THAT(text({}), Contains("no tensors"));
  // Numbers that are none, or that nobody has, count for nothing.
  Shapes odd = unet;
  odd.emplace_back("input_blocks.99999999999.0.weight", Integers{1});
  odd.emplace_back("input_blocks.x.0.weight", Integers{1});
  CHECK(unet_of(odd).num_res_blocks == 2);
}
