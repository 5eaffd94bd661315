// dkdm eval and dkdm ref on bad input: one line that says what and where, exit code 2 or 3, nothing
// recorded. Most is refused before the network is read.
#include <catch2/catch.hpp>

#include <algorithm>
#include <cstring>

#include "dkdm/io.hpp"
#include "e2e/program.hpp"
#include "fixtures/inception.hpp"

namespace {

using Catch::Contains;
using e2e::Output;
using e2e::Program;
namespace fs = std::filesystem;
namespace io = dkdm::io;

at::Tensor nhwc(std::int64_t count, std::int64_t side = 8) {
  return dkdm::fixtures::inception_images({count, 3, side, side})
      .permute({0, 2, 3, 1})
      .contiguous();
}

// Seeded random weights, written once.
const fs::path& weights_file() {
  static const Program home;
  static const fs::path file = [] {
    const auto state = dkdm::fixtures::inception_state();
    io::save_tensors(home.home() / "weights.safetensors", {state.begin(), state.end()});
    return home.home() / "weights.safetensors";
  }();
  return file;
}

struct Bench {
  Program dkdm;
  fs::path good = dkdm.home() / "good.npz", bad = dkdm.home() / "bad.npz",
           weights = dkdm.home() / "weights.safetensors";
  Bench() { io::write_npz(good, {{"arr_0", nhwc(6)}}); }

  void with_weights() { weights = weights_file(); }

  // One line that holds `what`, the exit code, and no database.
  void refuses(std::vector<std::string> words, const std::vector<std::string>& what,
               int code) const {
    words.insert(words.begin(), "eval");
    words.insert(words.end(), {"--record", "--set", "weights=" + weights.string()});
    const Output said = dkdm.run(words);
    INFO(said.err);
    CHECK(said.exit_code == code);
    CHECK(said.out.empty());
    const auto start = said.err.rfind("dkdm: ");
    REQUIRE(start != std::string::npos);
    const std::string last = said.err.substr(start);
    CHECK(std::count(last.begin(), last.end(), '\n') == 1);
    for (const auto& part : what) CHECK_THAT(last, Contains(part));
    CHECK_FALSE(fs::exists(dkdm.home() / "results.sqlite"));
  }
  void refuses_samples(const std::vector<std::string>& what, int code = 3) const {
    refuses({bad.string(), good.string()}, what, code);
  }
};

// Overwrites bytes of the only entry's directory record, at `offset` from its mark.
template <class T>
void patch(const fs::path& file, std::size_t offset, T value) {
  std::string bytes = e2e::read_file(file);
  const auto mark = bytes.rfind("PK\x01\x02");
  REQUIRE(mark != std::string::npos);
  std::memcpy(bytes.data() + mark + offset, &value, sizeof value);
  std::ofstream(file, std::ios::binary) << bytes;
}
constexpr std::size_t kMethod = 10, kSize = 24;
constexpr std::uint16_t kDeflate = 8, kBzip2 = 12;

}  // namespace

TEST_CASE("eval: an npz that holds no images is refused with what it holds", "[robustness][eval]") {
  const Bench bench;
  io::write_npz(bench.bad, {{"images", nhwc(6)}});
  bench.refuses_samples({"bad.npz", "no array 'arr_0'", "images.npy"});
  io::write_npz(bench.bad, {{"arr_0", nhwc(6).to(at::kFloat)}});
  bench.refuses_samples({"arr_0", "uint8 [N,H,W,1 or 3]", "Float [6,8,8,3]"});
  io::write_npz(bench.bad, {{"arr_0", nhwc(6).permute({0, 3, 1, 2}).contiguous()}});
  bench.refuses_samples({"uint8 [N,H,W,1 or 3]", "[6,3,8,8]"});
  io::write_npz(bench.bad, {{"arr_0", nhwc(6).slice(3, 0, 2).contiguous()}});
  bench.refuses_samples({"uint8 [N,H,W,1 or 3]", "[6,8,8,2]"});
}

TEST_CASE("eval: damaged and hostile archives are refused", "[robustness][eval]") {
  const Bench bench;
  const std::string whole = e2e::read_file(bench.good);
  std::ofstream(bench.bad, std::ios::binary) << whole.substr(0, whole.size() / 2);
  bench.refuses_samples({"bad.npz", "truncated"});
  std::ofstream(bench.bad, std::ios::binary) << "no zip at all";
  bench.refuses_samples({"bad.npz", "not a zip archive"});
  fs::copy_file(bench.good, bench.bad, fs::copy_options::overwrite_existing);
  patch(bench.bad, kMethod, kBzip2);
  bench.refuses_samples({"compression method 12"});
  // More than deflate can pack.
  fs::copy_file(bench.good, bench.bad, fs::copy_options::overwrite_existing);
  patch(bench.bad, kMethod, kDeflate);
  patch(bench.bad, kSize, std::uint32_t{0xf0000000});
  bench.refuses_samples({"arr_0.npy", "4026531840 bytes cannot lie in"});
  // What deflate could pack, but images never are.
  io::write_npz(bench.bad, {{"arr_0", nhwc(1000, 48)}});
  patch(bench.bad, kMethod, kDeflate);
  patch(bench.bad, kSize, std::uint32_t{0xf0000000});
  bench.refuses_samples({"arr_0.npy", "unpack to 4026531840", "no images"});
}

TEST_CASE("eval: names that are nothing are refused with what they could be",
          "[robustness][eval]") {
  const Bench bench;
  bench.refuses({"absent.npz", bench.good.string()}, {"absent.npz", "No such file"}, 3);
  bench.refuses({bench.good.string(), "no-such-set"}, {"no-such-set", "fashion-mnist"}, 2);
  bench.refuses({bench.good.string(), "npz:fil=x"}, {"fil", "file"}, 2);
  bench.refuses({"17", bench.good.string()}, {"no results yet"}, 3);
  bench.refuses({bench.good.string()}, {"at least one sample set and the reference"}, 2);
  bench.refuses({bench.good.string(), bench.good.string(), "--evaluator", "inceptoin"},
                {"inceptoin", "inception"}, 2);
  bench.refuses({bench.good.string(), bench.good.string(), "--set", "protocol=admm"},
                {"protocol", "admm", "pytorch-fid"}, 2);
  bench.refuses({bench.good.string(), bench.good.string(), "--metrics", "fidd"}, {"fidd", "sfid"},
                2);
  // Weights that are not there: which file, from where.
  bench.refuses({bench.good.string(), bench.good.string()},
                {"weights.safetensors", "pt_inception-2015-12-05-6726825d.pth", "pytorch-fid"}, 3);
}

TEST_CASE("eval: folders of mixed sizes, without images, and damaged images",
          "[robustness][eval]") {
  Bench bench;
  bench.with_weights();
  const fs::path folder = bench.dkdm.home() / "folder";
  fs::create_directory(folder);
  bench.refuses({folder.string(), bench.good.string()}, {"folder", "no .png"}, 3);
  const at::Tensor images = nhwc(2).permute({0, 3, 1, 2}).contiguous();
  io::write_png(folder / "a.png", images[0]);
  io::write_png(folder / "b.png", images[1].slice(1, 0, 7).contiguous());
  bench.refuses({folder.string(), folder.string(), "--metrics", "fid"}, {"b.png", "8 x 7", "8 x 8"},
                3);
  std::ofstream(folder / "b.png", std::ios::binary)
      << e2e::read_file(folder / "a.png").substr(0, 60);
  bench.refuses({folder.string(), folder.string(), "--metrics", "fid"}, {"b.png"}, 3);
}

TEST_CASE("eval: too few samples, references that do not fit", "[robustness][eval]") {
  Bench bench;
  bench.with_weights();
  const std::string good = bench.good.string();
  bench.refuses({good, good, "--strict"}, {"6 samples", "at least 4096"}, 3);
  io::write_npz(bench.bad, {{"arr_0", nhwc(1)}});
  bench.refuses({bench.bad.string(), good, "--metrics", "fid"}, {"1 images", "at least 2"}, 3);
  io::write_npz(bench.bad, {{"arr_0", nhwc(4, 16)}});
  bench.refuses({bench.bad.string(), good, "--metrics", "fid"}, {"16 pixels", "have 8"}, 3);
  const fs::path statistics = bench.dkdm.home() / "statistics.npz";
  const at::Tensor sigma = at::eye(2048, at::kDouble);
  io::write_npz(statistics, {{"mu", at::full({2048}, NAN, at::kDouble)}, {"sigma", sigma}});
  bench.refuses({good, statistics.string()}, {"statistics.npz", "mu"}, 3);
  io::write_npz(statistics, {{"mu", at::zeros({64}, at::kDouble)}, {"sigma", sigma}});
  bench.refuses({good, statistics.string()}, {"statistics.npz", "mu", "64"}, 3);
  // Statistics alone are no samples.
  io::write_npz(statistics, {{"mu", at::zeros({2048}, at::kDouble)}, {"sigma", sigma}});
  bench.refuses({statistics.string(), good}, {"statistics.npz", "no images"}, 3);
  // Made under another protocol.
  const Output made =
      bench.dkdm.run({"ref", "make", good, "-o", statistics.string(), "--set", "protocol=clean",
                      "--set", "weights=" + bench.weights.string()});
  INFO(made.err);
  REQUIRE(made.exit_code == 0);
  bench.refuses({good, statistics.string()}, {"clean-1", "adm-1", "do not compare"}, 3);
}

TEST_CASE("ref: what cannot be inspected or made is said", "[robustness][eval]") {
  const Bench bench;
  const auto refuses = [&](const std::vector<std::string>& words, const std::string& what,
                           int code) {
    const Output said = bench.dkdm.run(words);
    INFO(said.err);
    CHECK(said.exit_code == code);
    CHECK_THAT(said.err, Contains(what));
  };
  refuses({"ref"}, "expected make or inspect", 2);
  refuses({"ref", "mak"}, "no 'mak'; did you mean make?", 2);
  refuses({"ref", "make"}, "name a dataset", 2);
  refuses({"ref", "make", bench.good.string(), "-o", "x.txt"}, "ending in .npz", 2);
  refuses({"ref", "inspect", "abcdef"}, "nor the key", 3);
  refuses({"ref", "inspect", "absent.npz"}, "absent.npz", 3);
}
