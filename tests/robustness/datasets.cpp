// Missing, truncated and wrong data: one line that says what and where, and the exit code for
// missing data.
#include <ATen/ATen.h>

#include <catch2/catch.hpp>

#include "dkdm/files.hpp"
#include "dkdm/io.hpp"
#include "fixtures/analytic.hpp"
#include "golden/packed.hpp"

using namespace dkdm;
using Catch::Matchers::Contains;
using fixtures::ScratchFolder;
using fixtures::shipped_plugins;

namespace {

// The message of the dkdm::Error that creating (and reading image 0) ends in.
std::string failure(const std::string& name, const std::map<std::string, Value>& given,
                    ExitCode expected = ExitCode::missing) {
  fixtures::CountingHost host;
  const auto& info = shipped_plugins().find("dataset", name);
  try {
    shipped_plugins()
        .dataset({info.kind, name, info.version, Params(info.params, given)}, host)
        ->images(at::zeros({1}, at::kLong));
  } catch (const Error& error) {
    CHECK(error.exit_code() == expected);
    return error.what();
  }
  return "no error";
}

// An IDX file of unsigned bytes, each 1.
std::string idx(const std::vector<std::int64_t>& shape) {
  std::string bytes{'\0', '\0', '\x08', static_cast<char>(shape.size())};
  std::int64_t count = 1;
  for (const std::int64_t side : shape) {
    for (int shift = 24; shift >= 0; shift -= 8) bytes += static_cast<char>(side >> shift & 0xff);
    count *= side;
  }
  return bytes + std::string(static_cast<std::size_t>(count), '\x01');
}

}  // namespace

TEST_CASE("fashion-mnist: a missing file names Debian's package", "[robustness][datasets]") {
  ScratchFolder scratch;
  CHECK_THAT(
      failure("fashion-mnist", {{"root", scratch.path.string()}}),
      Contains("train-images-idx3-ubyte.gz") && Contains("apt-get install dataset-fashion-mnist"));
}

TEST_CASE("fashion-mnist: truncated, foreign and inconsistent files are named with the byte",
          "[robustness][datasets]") {
  ScratchFolder scratch;
  const auto images = scratch.path / "train-images-idx3-ubyte";
  const auto labels = scratch.path / "train-labels-idx1-ubyte";
  const std::map<std::string, Value> given{{"root", scratch.path.string()}};
  io::write_text(labels, idx({3}));
  io::write_text(images, idx({3, 28, 28}));
  CHECK(failure("fashion-mnist", given) == "no error");

  io::write_text(images, idx({3, 28, 28}).substr(0, 2000));
  CHECK_THAT(failure("fashion-mnist", given),
             Contains("train-images-idx3-ubyte: byte ") && Contains("truncated"));
  io::write_text(images, "not an IDX file");
  CHECK_THAT(failure("fashion-mnist", given), Contains("byte 0: a text (\"not "));
  io::write_text(images, idx({3, 28, 27}));
  CHECK_THAT(failure("fashion-mnist", given), Contains("byte 4: its images are not 28 x 28"));
  io::write_text(images, idx({4, 28, 28}));
  CHECK_THAT(failure("fashion-mnist", given), Contains("3 labels for 4 images"));
  io::write_text(images, idx({3, 28, 28}));
  io::write_text(labels, idx({3}).substr(0, 9) + "\x0b\x01");
  CHECK_THAT(failure("fashion-mnist", given), Contains("byte 9: label 11 is not 0 to 9"));
}

TEST_CASE("fashion-mnist: the package's own file cut in the middle is refused",
          "[robustness][datasets]") {
  ScratchFolder scratch;
  const std::string whole =
      io::read_text("/usr/share/datasets/fashion-mnist/t10k-images-idx3-ubyte.gz");
  const std::map<std::string, Value> given{{"root", scratch.path.string()},
                                           {"split", std::string("test")}};
  const auto file = scratch.path / "t10k-images-idx3-ubyte.gz";
  io::write_text(scratch.path / "t10k-labels-idx1-ubyte", idx({10000}));
  // In gzip's header, in its dictionary, in the pixels, in the trailing checksum.
  for (const std::size_t length :
       {std::size_t{1}, std::size_t{5}, std::size_t{200}, whole.size() / 2, whole.size() - 3}) {
    io::write_text(file, whole.substr(0, length));
    CAPTURE(length);
    CHECK_THAT(failure("fashion-mnist", given),
               Contains("t10k-images-idx3-ubyte.gz: byte ") &&
                   (Contains("truncated") || Contains("magic number")));
  }
  io::write_text(file, whole + "x");
  CHECK_THAT(failure("fashion-mnist", given), Contains("bytes follow the last element"));
  std::string damaged = whole;
  damaged[whole.size() - 6] ^= 1;  // the checksum
  io::write_text(file, damaged);
  CHECK_THAT(failure("fashion-mnist", given), Contains("damaged gzip: incorrect data check"));
}

TEST_CASE("datasets: sizes and channels that are not offered are usage errors",
          "[robustness][datasets]") {
  CHECK_THAT(failure("fashion-mnist", {{"size", std::int64_t{20}}}, ExitCode::usage),
             Contains("size 20 is not 16, 28 or 32"));
  CHECK_THAT(failure("fashion-mnist", {{"channels", std::int64_t{2}}}, ExitCode::usage),
             Contains("channels 2"));
}

TEST_CASE("cifar10: missing and short batches are named", "[robustness][datasets]") {
  ScratchFolder scratch;
  const std::map<std::string, Value> given{{"root", scratch.path.string()}};
  CHECK_THAT(failure("cifar10", given), Contains("data_batch_1.bin") && Contains("absent"));
  io::write_text(scratch.path / "data_batch_1.bin", std::string(3073, '\0'));
  CHECK_THAT(failure("cifar10", given),
             Contains("data_batch_1.bin: byte 3073") && Contains("expected 30730000"));
}

TEST_CASE("npz: a missing file, array or shape of images is named", "[robustness][datasets]") {
  ScratchFolder scratch;
  const auto file = scratch.path / "a.npz";
  const std::map<std::string, Value> given{{"file", file.string()}};
  CHECK_THAT(failure("npz", given), Contains("a.npz: No such file"));
  io::write_npz(file, {{"x", at::zeros({1}, at::kByte)}});
  CHECK_THAT(failure("npz", given), Contains("has no array 'arr_0'; it holds x.npy"));
  io::write_npz(file, {{"arr_0", at::zeros({2, 4, 5, 2}, at::kByte)}});
  CHECK_THAT(failure("npz", given), Contains("found Byte of 2 4 5 2"));
  io::write_npz(file, {{"arr_0", at::zeros({2, 4, 4, 3}, at::kByte)}, {"arr_1", at::ones({3})}});
  CHECK_THAT(failure("npz", given), Contains("'arr_1': expected 2 integer labels"));
  const at::Tensor images = at::zeros({2, 4, 4, 3}, at::kByte);
  io::write_npz(file, {{"arr_0", images}, {"labels", at::tensor({0, -3}, at::kLong)}});
  CHECK_THAT(failure("npz", given), Contains("'labels': label -3 is no class number"));
  io::write_npz(file, {{"arr_0", images}, {"labels", at::tensor({0, 1 << 30}, at::kLong)}});
  CHECK_THAT(failure("npz", given), Contains("label 1073741824 is no class number, 0 to 65535"));
  CHECK_THAT(failure("npz", {{"file", file.string()}, {"labels", std::string("classes")}}),
             Contains("has no array 'classes'; it holds"));
}

TEST_CASE("image-folder: an absent or empty folder and a damaged picture are named",
          "[robustness][datasets]") {
  ScratchFolder scratch;
  CHECK_THAT(failure("image-folder", {{"root", (scratch.path / "no").string()}}),
             Contains("no: cannot list the folder: No such file or directory"));
  const std::map<std::string, Value> given{{"root", scratch.path.string()}};
  CHECK_THAT(failure("image-folder", given), Contains("no .png, .jpg, .jpeg, .webp or .gif in it"));
  io::write_text(scratch.path / "broken.png", "\x89PNG\r\n\x1a\n and no more");
  CHECK_THAT(failure("image-folder", given), Contains("broken.png: byte "));
}

TEST_CASE("image-folder: labels that were asked for and are not there are an error",
          "[robustness][datasets]") {
  ScratchFolder scratch;
  std::filesystem::create_directory(scratch.path / "cat");
  io::write_png(scratch.path / "cat" / "1.png", at::zeros({3, 4, 4}, at::kByte));
  io::write_png(scratch.path / "2.png", at::zeros({3, 4, 4}, at::kByte));
  const auto by = [&](const char* rule) {
    return failure("image-folder",
                   {{"root", scratch.path.string()}, {"labels", std::string(rule)}});
  };
  CHECK_THAT(by("folders"), Contains("2.png") && Contains("lies in no folder below the root"));
  CHECK_THAT(by("names"), Contains("2.png") && Contains("has no \"_\" in its name"));
  CHECK(by("auto") == "no error");
}

TEST_CASE("celeba64: files that are missing, foreign, damaged or of another size are named",
          "[robustness][datasets]") {
  ScratchFolder scratch;
  const auto root = scratch.path / "img_align_celeba";
  const auto given = [](const std::filesystem::path& folder, std::int64_t images) {
    return std::map<std::string, Value>{{"root", folder.string()}, {"images", images}};
  };
  CHECK_THAT(failure("celeba64", given(root, 2)),
             Contains("img_align_celeba.zip") && Contains("cannot be listed"));
  std::filesystem::create_directory(root);
  const auto jpeg = golden::from_base64(
      golden::read_json("bilinear.json").at("jpeg")[0].at("file").get<std::string>());
  io::write_text(root / "000001.jpg", jpeg);
  CHECK(failure("celeba64", given(root, 1)) == "no error");
  CHECK_THAT(failure("celeba64", given(scratch.path, 1)),
             Contains("1 file (000001.jpg) missing of 1; set `root` to its folder"));
  CHECK_THAT(
      failure("celeba64", given(root, 202599)),
      Contains("202598 files (000002.jpg, 000003.jpg, ") && Contains("000011.jpg, …) missing"));
  io::write_text(root / "list_attr_celeba.txt", "");
  io::write_text(root / "1.jpg", jpeg);
  CHECK_THAT(failure("celeba64", given(root, 1)),
             Contains("2 files (1.jpg, list_attr_celeba.txt) that CelebA does not have"));
  std::filesystem::remove(root / "list_attr_celeba.txt");
  std::filesystem::remove(root / "1.jpg");
  io::write_text(root / "000001.jpg", jpeg.substr(0, jpeg.size() / 2));
  CHECK_THAT(failure("celeba64", given(root, 1)), Contains("000001.jpg: JPEG: "));
  io::write_png(root / "000001.jpg", at::zeros({3, 64, 64}, at::kByte));
  CHECK_THAT(
      failure("celeba64", given(root, 1)),
      Contains("000001.jpg: is of 64 x 64 pixels, CelebA's aligned images are of 178 x 218"));
}

TEST_CASE("imagenet32: files that are missing or of another layout are named",
          "[robustness][datasets]") {
  ScratchFolder scratch;
  const std::map<std::string, Value> trial{
      {"root", scratch.path.string()}, {"split", std::string("val")}, {"images", std::int64_t{2}}};
  const auto file = scratch.path / "val_data.npz";
  const auto write = [&](const at::Tensor& data, const at::Tensor& labels) {
    io::write_npz(file, {{"data", data}, {"labels", labels}});
  };
  const at::Tensor images = at::zeros({2, 3072}, at::kByte), labels = at::tensor({1, 1000});
  CHECK_THAT(
      failure("imagenet32", {{"root", scratch.path.string()}}),
      Contains("10 files (train_data_batch_1.npz, ") && Contains("Imagenet32_train_npz.zip"));
  CHECK_THAT(failure("imagenet32", trial), Contains("Imagenet32_val_npz.zip"));
  write(images, labels);
  CHECK(failure("imagenet32", trial) == "no error");
  CHECK_THAT(
      failure("imagenet32", {{"root", scratch.path.string()}, {"split", std::string("val")}}),
      Contains("val_data.npz: 'data': 2 images where the published file has 50000"));
  write(images.narrow(0, 0, 1), labels.narrow(0, 0, 1));
  CHECK_THAT(failure("imagenet32", trial), Contains("holds 1 images where `images` says 2"));
  write(images.view({2, 3, 32, 32}), labels);
  CHECK_THAT(
      failure("imagenet32", trial),
      Contains("val_data.npz: 'data': expected uint8 [N,3072], found Byte of [2, 3, 32, 32]"));
  write(images.to(at::kFloat), labels);
  CHECK_THAT(failure("imagenet32", trial), Contains("found Float of [2, 3072]"));
  write(images, at::tensor({0, 999}));
  CHECK_THAT(failure("imagenet32", trial),
             Contains("'labels': label 0 of image 0 is not 1 to 1000"));
  write(images, at::tensor({1}));
  CHECK_THAT(failure("imagenet32", trial),
             Contains("'labels': expected 2 integers, found Int of [1]"));
  io::write_npz(file, {{"images", images}});
  CHECK_THAT(failure("imagenet32", trial), Contains("has no array 'data'"));
}

TEST_CASE("celebahq256, ffhq256: lists that are absent, foreign, empty or wrong are named",
          "[robustness][datasets]") {
  ScratchFolder scratch;
  const auto root = scratch.path / "ffhq", list = scratch.path / "ffhqtrain.txt";
  std::map<std::string, Value> given{{"root", root.string()}};
  CHECK_THAT(failure("ffhq256", given),
             Contains("ffhqtrain.txt: absent; put ffhqtrain.txt (data/ of CompVis/taming-"));
  CHECK_THAT(failure("celebahq256", {{"root", root.string()}}),
             Contains("celebahqtrain.txt: absent") && Contains("imgHQ00000.npy and so on"));
  io::write_text(list, "00000.png\n00001.png\n");
  CHECK_THAT(
      failure("ffhq256", given),
      Contains("ffhqtrain.txt: holds 2 names and is not the published ffhqtrain.txt of 60000 "
               "(SHA-256 a6553043bba837ac…); own_list = true"));
  given["own_list"] = true;
  CHECK_THAT(failure("ffhq256", given), Contains("ffhq: no such folder; put ffhqtrain.txt"));
  std::filesystem::create_directory(root);
  const at::Tensor image = at::zeros({3, 256, 256}, at::kByte);
  for (const char* name : {"00000.png", "00001.png"}) io::write_png(root / name, image);
  CHECK(failure("ffhq256", given) == "no error");

  io::write_text(list, "\n \n");
  CHECK_THAT(failure("ffhq256", given), Contains("ffhqtrain.txt: holds no name, expected one a"));
  io::write_text(list, "00001.png\n00000.png\n00001.png\n00001.png\n");
  CHECK_THAT(failure("ffhq256", given), Contains("holds 1 name (00001.png) twice"));
  io::write_text(list, "00000.png\n/etc/passwd\n../00001.png\n");
  CHECK_THAT(failure("ffhq256", given),
             Contains("holds 2 names (../00001.png, /etc/passwd) outside of the images' folder"));
  std::string many = "00000.png\n";
  for (int i = 10; i < 22; ++i) many += "000" + std::to_string(i) + ".png\n";
  io::write_text(list, many);
  CHECK_THAT(failure("ffhq256", given), Contains("12 files (00010.png, 00011.png, ") &&
                                            Contains("00019.png, …) missing of 13; `suffix` says"));
}

TEST_CASE("celebahq256: images that are damaged, small or no images are named",
          "[robustness][datasets]") {
  ScratchFolder scratch;
  const auto root = scratch.path / "celebahq";
  std::filesystem::create_directory(root);
  io::write_text(scratch.path / "celebahqtrain.txt", "imgHQ00000.npy\n");
  const std::map<std::string, Value> given{{"root", root.string()}, {"own_list", true}};
  const auto of = [&](const std::string& shape, std::size_t bytes,
                      const std::string& type = "|u1") {
    std::string header =
        "{'descr': '" + type + "', 'fortran_order': False, 'shape': (" + shape + "), }\n";
    io::write_text(root / "imgHQ00000.npy", std::string("\x93NUMPY\x01\x00", 8) +
                                                static_cast<char>(header.size()) + '\0' + header +
                                                std::string(bytes, '\x07'));
    return failure("celebahq256", given);
  };
  constexpr std::size_t kPixels = std::size_t{256} * 256;
  CHECK(of("1, 3, 256, 256", 3 * kPixels) == "no error");
  CHECK_THAT(of("1, 3, 256, 256", 3 * kPixels - 1),
             Contains("imgHQ00000.npy: its npy header promises 196608 bytes, 196607 follow"));
  CHECK_THAT(of("3, 256, 256", 3 * kPixels),
             Contains("imgHQ00000.npy: expected an image, uint8 [1,3,H,W], found Byte of [3, 256"));
  CHECK_THAT(of("1, 3, 256, 256", 12 * kPixels, "<f4"),
             Contains("found Float of [1, 3, 256, 256]"));
  CHECK_THAT(of("1, 3, 200, 300", 180'000),
             Contains("imgHQ00000.npy: is of 300 x 200 pixels, expected at least 256 each way"));
  io::write_text(root / "imgHQ00000.npy", "no array");
  CHECK_THAT(failure("celebahq256", given),
             Contains("imgHQ00000.npy: does not begin as an npy array"));
}
