// The first stage of the paper's latent models: VQModel of latent diffusion (Rombach et al. 2022)
// with Esser et al.'s (2021) vector quantiser. At the defaults VQ-f4: images of 256 x 256 to 64 x
// 64 latents of three channels. What diffusion is trained on is not quantised; decoding begins with
// the nearest code. Needs about 0.3 GB beside its weights for each 256 x 256 image at a time
// (`chunk`).
#include "dkdm/announced.hpp"
#include "dkdm/files.hpp"
#include "dkdm/plugin.hpp"
#include "vq_codes.hpp"
#include "vq_network.hpp"
#include "vq_weights.hpp"

namespace {

using namespace dkdm;
using at::Tensor;
using autoencoders::VqConfig;
namespace fs = std::filesystem;

constexpr const char* kWhat =
    "the checkpoint of a latent diffusion model with its first stage (the latent diffusion "
    "repository's celeba.zip and ffhq.zip), or of an autoencoder alone";

class VqF4 final : public Autoencoder {
 public:
  static ParamTable params() {
    return {
        text("path", "",
             "checkpoint with the weights: a latent diffusion model's .ckpt, an autoencoder's "
             ".ckpt or .safetensors, diffusers' vqvae/diffusion_pytorch_model.safetensors"),
        integer("channels", 3, "of the images").between(1, 64),
        integer("ch", 128, "base width; levels are multiples of it").between(32, 4096),
        integers("ch_mult", {1, 2, 4}, "width of each level, in ch; each next one halves the image")
            .between(1, 64)
            .at_most_elements(8),
        integer("num_res_blocks", 2, "residual blocks a level").between(1, 64),
        integer("z_channels", 3, "channels between encoder and codes").between(1, 1024),
        integer("embed_dim", 3, "channels of a latent").between(1, 1024),
        integer("n_embed", 8192, "codes").between(1, 1 << 20),
        real("scale_factor", 1, "what latents are multiplied by for the diffusion")
            .between(1e-6, 1e6),
        integer("chunk", 1, "images at a time; last bits depend on it").between(1, 4096),
    };
  }

  static void announce(const Params& params, Announced& announced) {
    const fs::path path = params.text("path");
    if (!path.empty() && fs::exists(path)) return;
    announced.absent.push_back({path, absence(path)});
  }

  VqF4(const Params& params, Host& host)
      : host_(host), params_(params),
        config_{params.integer("channels"),   params.integer("ch"),
                params.integers("ch_mult"),   params.integer("num_res_blocks"),
                params.integer("z_channels"), params.integer("embed_dim"),
                params.integer("n_embed")},
        chunk_(params.integer("chunk")), scale_(params.real("scale_factor")) {
    if (config_.ch_mult.empty())
      throw ConfigError("ch_mult is empty, expected one multiplier a level, such as [1, 2, 4]");
    if (config_.ch % autoencoders::kGroups != 0)
      throw ConfigError("ch is " + std::to_string(config_.ch) + ", expected a multiple of the " +
                        std::to_string(autoencoders::kGroups) + " groups of normalisation");
    encoder_ = register_module("encoder", std::make_shared<autoencoders::Encoder>(config_));
    decoder_ = register_module("decoder", std::make_shared<autoencoders::Decoder>(config_));
    auto quantize = register_module("quantize", std::make_shared<autoencoders::Names>());
    auto embedding =
        quantize->register_module("embedding", std::make_shared<autoencoders::Names>());
    codes_ =
        embedding->register_parameter("weight", at::empty({config_.n_embed, config_.embed_dim}));
    quant_conv_ =
        register_module("quant_conv", autoencoders::conv(config_.z_channels, config_.embed_dim, 1));
    post_quant_conv_ = register_module(
        "post_quant_conv", autoencoders::conv(config_.embed_dim, config_.z_channels, 1));
  }

  SampleShape latent_shape(const ImageSpec& image) const override {
    if (image.channels != config_.channels || !image.is_divisible_by(factor()))
      throw ConfigError("autoencoder vq-f4: images of " + text_of(image) + ", expected " +
                        std::to_string(config_.channels) +
                        " channels and sides that are multiples of " + std::to_string(factor()));
    return {config_.embed_dim, image.height / factor(), image.width / factor()};
  }

  ImageSpec image_shape(const SampleShape& latent) const override {
    if (latent.channels != config_.embed_dim)
      throw ConfigError("autoencoder vq-f4: latents of " + text_of(latent) + ", expected " +
                        std::to_string(config_.embed_dim) + " channels");
    return {config_.channels, latent.height * factor(), latent.width * factor()};
  }

  // The weights' bytes rather than the file's: the same in a teacher's file and in one of its own.
  std::string fingerprint() const override {
    if (!fingerprint_.empty()) return fingerprint_;
    auto weights = autoencoders::vq_weights(path(), config_.ch_mult.size());
    std::sort(weights.tensors.begin(), weights.tensors.end(),
              [](const auto& a, const auto& b) { return a.first < b.first; });
    std::string all;
    for (const auto& [name, tensor] : weights.tensors) {
      const Tensor values = tensor.to(at::kFloat).contiguous();
      const std::string bytes(static_cast<const char*>(values.const_data_ptr()), values.nbytes());
      all += name + c10::str(' ', values.sizes(), ' ') + io::sha256(bytes) + "\n";
    }
    for (const auto& [name, value] : params_.determining())
      if (name != "path") all += name + " = " + to_text(value) + "\n";
    return fingerprint_ = io::sha256(all);
  }

  void load_weights() override {
    const fs::path file = path();
    const auto weights = autoencoders::vq_weights(file, config_.ch_mult.size());
    for (auto& parameter : parameters())
      if (parameter.dim() == 4)
        parameter.set_data(parameter.detach().contiguous(at::MemoryFormat::ChannelsLast));
    io::load_strictly(weights.tensors, *this, file.string());
    std::int64_t values = 0;
    for (const auto& parameter : parameters()) values += parameter.numel();
    host_.log("vq-f4", file.filename().string() +
                           (weights.said.empty() ? "" : " (" + weights.said + ")") + ": " +
                           std::to_string(config_.n_embed) + " codes; " + std::to_string(values) +
                           " weights");
  }

  Tensor encode(const Tensor& images) override {
    return in_chunks(images, chunk_, [&](const Tensor& x) {
      const Tensor h = encoder_->forward(x.contiguous(at::MemoryFormat::ChannelsLast));
      const nn::FullPrecision full;
      return (quant_conv_(nn::in_full(h)) * scale_).contiguous();
    });
  }

  Tensor decode(const Tensor& latents, bool quantise) override {
    return in_chunks(latents, chunk_, [&](const Tensor& scaled) {
      return decoder_->forward(
          decoder_input(scaled, quantise).contiguous(at::MemoryFormat::ChannelsLast));
    });
  }

 private:
  static std::string absence(const fs::path& path) {
    return path.empty() ? std::string("path is not set; give ") + kWhat
                        : std::string("no such file; the autoencoder vq-f4 needs ") + kWhat;
  }

  fs::path path() const {
    const fs::path path = params_.text("path");
    if (path.empty()) throw ConfigError("autoencoder vq-f4: " + absence(path));
    if (!fs::exists(path)) throw DataError(path.string(), absence(path));
    return path;
  }

  std::int64_t factor() const { return std::int64_t{1} << (config_.ch_mult.size() - 1); }

  // Latents [N,D,h,w] -> [N,z_channels,h,w].
  Tensor decoder_input(const Tensor& latents, bool quantise) {
    const nn::FullPrecision full;
    const Tensor z = nn::in_full(latents) / scale_;
    return post_quant_conv_(quantise ? quantised(z) : z);
  }

  // z [N,D,h,w] -> its nearest codes, the same shape.
  Tensor quantised(const Tensor& z) const {
    const Tensor rows = z.permute({0, 2, 3, 1});
    const Tensor code = autoencoders::nearest_code(rows.reshape({-1, z.size(1)}), codes_);
    return codes_.index({code}).view(rows.sizes()).permute({0, 3, 1, 2});
  }

  Host& host_;
  const Params params_;
  const VqConfig config_;
  const std::int64_t chunk_;
  const double scale_;
  mutable std::string fingerprint_;
  std::shared_ptr<autoencoders::Encoder> encoder_;
  std::shared_ptr<autoencoders::Decoder> decoder_;
  Tensor codes_;  // [n_embed, embed_dim]
  torch::nn::Conv2d quant_conv_{nullptr}, post_quant_conv_{nullptr};
};

}  // namespace

DKDM_AUTOENCODER("vq-f4", "1", "latent diffusion's VQ autoencoder, the first stage of its models",
                 VqF4)
