// What an autoencoder promises (dkdm/autoencoder.hpp).
#include <ATen/ATen.h>

#include "conformance/check_support.hpp"
#include "dkdm/autoencoder.hpp"
#include "model/model_folder.hpp"
#include "plugin/announce.hpp"

namespace dkdm::conformance {
namespace {

using at::Tensor;

// Those that it takes are encoded; what else is checked at the first.
constexpr ImageSpec kSpecs[] = {{3, 32, 32}, {3, 32, 16}, {1, 32, 32}, {1, 28, 28}};
constexpr std::int64_t kRows = 5;

constexpr const char* kThrew =
    "let encode and decode take [N,…] of every shape that is not refused";

class AutoencoderChecks {
 public:
  AutoencoderChecks(const Subject& subject, Checklist& list) : subject_(subject), list_(list) {}

  // What the others build on comes first: shapes and fingerprint without weights, then the weights.
  void run() {
    list_.run("shapes", [&] { return shapes(); });
    list_.run("fingerprint", [&] { return fingerprint(); });
    const bool loaded = list_.run("loading", [&] { return loading(); });
    if (!loaded || shapes_.taken.empty()) {
      for (const char* name : {"encode", "decode", "loading again", "batch neighbours", "chunks",
                               "fingerprint again", "device"})
        list_.skip(name, loaded ? "it takes no image size that was tried" : "nothing was loaded");
      return;
    }
    spec_ = shapes_.taken.front();
    list_.run("encode", [&] { return encode(); });
    list_.run("decode", [&] { return decode(); });
    check("loading again", &AutoencoderChecks::loading_again);
    check("batch neighbours", &AutoencoderChecks::batch_neighbours);
    check("chunks", &AutoencoderChecks::chunks);
    check("fingerprint again", &AutoencoderChecks::fingerprint_after_loading);
    check("device", &AutoencoderChecks::device);
  }

 private:
  void check(const char* name, std::string (AutoencoderChecks::*body)() const) {
    list_.run(name, [&] {
      return located("at " + text_of(spec_) + ": ", kThrew, [&] { return (this->*body)(); });
    });
  }

  std::shared_ptr<Autoencoder> make() const {
    return subject_.registry.autoencoder(subject_.choice(), subject_.host);
  }
  std::shared_ptr<Autoencoder> loaded() const {
    auto made = make();
    made->load_weights();
    return made;
  }

  static Tensor images(const ImageSpec& spec, std::int64_t first, std::int64_t n) {
    return at::tanh(noisy_images(spec, first, n));
  }

  std::string shapes() {
    const auto autoencoder = make();
    const auto attempt = [&](const ImageSpec& spec) -> std::string {
      SampleShape latent;
      try {
        latent = autoencoder->latent_shape(spec);
      } catch (const Error& error) {
        if (error.exit_code() != ExitCode::usage) throw;
        return error.what();
      }
      require(latent.channels > 0 && latent.height > 0 && latent.width > 0,
              "latent_shape() gives " + text_of(latent), "let every side be positive");
      const ImageSpec back = autoencoder->image_shape(latent);
      require(back == spec, "the image of its latent " + text_of(latent) + " is " + text_of(back),
              "let image_shape() be the reverse of latent_shape()");
      return "";
    };
    shapes_ = taken_shapes({std::begin(kSpecs), std::end(kSpecs)}, attempt);
    require(shapes_.broken.empty(), shapes_.broken,
            "an unsupported size should be refused with a dkdm::ConfigError that says which can");
    require(!shapes_.taken.empty(),
            "none of the image sizes " + shapes_.refused + " is taken: " + shapes_.reason,
            "let it take one of them, name one that it takes in the message, or give other "
            "parameters by --set");
    std::string text;
    for (const ImageSpec& spec : shapes_.taken)
      text += (text.empty() ? "" : ", ") + text_of(spec) + " -> " +
              text_of(autoencoder->latent_shape(spec));
    return text + ", known without weights" +
           (shapes_.refused.empty() ? "" : "; refused clearly: " + shapes_.refused);
  }

  std::string fingerprint() {
    fingerprint_ = make()->fingerprint();
    require(!fingerprint_.empty(), "it is empty",
            "hash the weights' bytes and what says how they are used");
    require(fingerprint_ == make()->fingerprint(), "it changed from one opening to the next",
            "hash only what decides the network: no times, no addresses");
    return fingerprint_.substr(0, 16) + (fingerprint_.size() > 16 ? "…" : "") +
           ", known without loading";
  }

  std::string loading() {
    autoencoder_ = loaded();
    require(plugin::announced(subject_.registry, subject_.choice()).absent.empty(),
            "it loads, and announce() says that files are absent",
            "announce the files that load_weights() opens");
    return std::to_string(model::count_parameters(*autoencoder_)) + " parameters";
  }

  std::string fingerprint_after_loading() const {
    autoencoder_->encode(images(spec_, 0, 1));
    require(autoencoder_->fingerprint() == fingerprint_,
            "it is another one after loading and encoding",
            "let it depend on the files and parameters alone");
    return "the same";
  }

  // The result of `compute` is finite, and the same twice.
  static Tensor require_function(const std::string& what, const std::function<Tensor()>& compute) {
    const Tensor out = compute();
    require(out.isfinite().all().item<bool>(), what + " gave NaN or infinities",
            "look for a division, a logarithm or weights of too large a scale");
    require(at::equal(out, compute()), what + " gave two results for the same input",
            "keep nothing from call to call, and draw nothing");
    return out;
  }

  // At every shape that it takes; the registry's object checks shape, type and place of results.
  std::string encode() const {
    std::string text;
    for (const ImageSpec& spec : shapes_.taken)
      located("at " + text_of(spec) + ": ", kThrew, [&] {
        for (const std::int64_t n : {1, 3}) {
          const Tensor x = images(spec, 0, n).contiguous(at::MemoryFormat::ChannelsLast);
          const Tensor latents =
              require_function("encode", [&] { return autoencoder_->encode(x); });
          if (text.empty() && n == 3) text = text_of(x) + " -> " + text_of(latents);
        }
        return std::string();
      });
    return text + ", the same bits twice";
  }

  std::string decode() const {
    std::string text;
    for (const ImageSpec& spec : shapes_.taken)
      located("at " + text_of(spec) + ": ", kThrew, [&] {
        const Tensor latents = autoencoder_->encode(images(spec, 0, 3));
        for (const bool quantise : {true, false}) {
          const Tensor out =
              require_function(quantise ? "decode" : "decode without quantising",
                               [&] { return autoencoder_->decode(latents, quantise); });
          if (text.empty()) text = text_of(latents) + " -> " + text_of(out);
        }
        return std::string();
      });
    return text + ", of codes and without, the same bits twice";
  }

  // Both directions of `kRows` images in pieces of so many, joined.
  struct Both {
    Tensor latents, images;
  };
  Both in_pieces(std::int64_t size) const {
    const Tensor x = images(spec_, 0, kRows);
    std::vector<Tensor> latents, decoded;
    for (std::int64_t first = 0; first < kRows; first += size) {
      latents.push_back(autoencoder_->encode(x.narrow(0, first, std::min(size, kRows - first))));
      decoded.push_back(autoencoder_->decode(latents.back()));
    }
    return {at::cat(latents), at::cat(decoded)};
  }

  std::string chunks() const {
    const Both whole = in_pieces(kRows);
    for (const std::int64_t size : {1, 2}) {
      const Both pieces = in_pieces(size);
      const std::string alone = " of an image changed when " + std::to_string(kRows) +
                                " were given " + std::to_string(size) + " at a time";
      constexpr const char* kRemedy =
          "take the same number at a time whatever the batch: in_chunks of dkdm/autoencoder.hpp";
      require(at::equal(whole.latents, pieces.latents), "the latent's bits" + alone, kRemedy);
      require(at::equal(whole.images, pieces.images), "the decoded bits" + alone, kRemedy);
    }
    const Tensor none = autoencoder_->encode(images(spec_, 0, kRows).narrow(0, 0, 0));
    require(none.size(0) == 0, "no image gave " + text_of(none), "return as many as were given");
    return "the same bits for " + std::to_string(kRows) + " at once, by one and by two";
  }

  std::string batch_neighbours() const {
    const Tensor first = images(spec_, 0, 1);
    const auto beside = [&](std::int64_t others) {
      const Tensor latents = autoencoder_->encode(at::cat({first, images(spec_, others, 2)}));
      return at::cat({latents.narrow(0, 0, 1).flatten(1),
                      autoencoder_->decode(latents).narrow(0, 0, 1).flatten(1)},
                     1);
    };
    require(at::equal(beside(1), beside(100)),
            "what becomes of an image changed with the others of its batch",
            "let nothing mix rows: no batch normalisation, no mean over dimension 0");
    return "an image depends on itself alone";
  }

  std::string loading_again() const {
    const auto again = loaded();
    const Tensor x = images(spec_, 0, 2), latents = autoencoder_->encode(x);
    require(at::equal(latents, again->encode(x)) &&
                at::equal(autoencoder_->decode(latents), again->decode(latents)),
            "loaded twice, it gives two results",
            "load every weight, leave none at its initial value");
    return "gives the same network";
  }

  std::string device() const {
    const auto autoencoder = loaded();
    bring_to_device(subject_, *autoencoder);
    const Tensor x = images(spec_, 0, 2).to(subject_.device);
    const Tensor latents = noisy_images(autoencoder->latent_shape(spec_), 0, 2).to(subject_.device);
    std::string seen;
    const auto look = [&](const std::string& name, const std::function<Tensor()>& compute) {
      const std::string found = follow_input(subject_, name, compute);
      if (seen.empty() || found.starts_with("not known")) seen = found;
    };
    look("encode", [&] { return autoencoder->encode(x); });
    for (const bool quantise : {true, false})
      look("decode", [&] { return autoencoder->decode(latents, quantise); });
    return seen;
  }

  const Subject& subject_;
  Checklist& list_;
  Shapes shapes_;
  ImageSpec spec_;
  std::string fingerprint_;
  std::shared_ptr<Autoencoder> autoencoder_;
};

}  // namespace

void check_autoencoder(const Subject& subject, Checklist& list) {
  AutoencoderChecks(subject, list).run();
}

}  // namespace dkdm::conformance
