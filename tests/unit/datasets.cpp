// The shipped datasets: pixels, labels, resizing, fingerprints.
#include <ATen/ATen.h>

#include <catch2/catch.hpp>

#include <cstdlib>

#include "dkdm/files.hpp"
#include "dkdm/io.hpp"
#include "fixtures/analytic.hpp"
#include "golden/packed.hpp"
#include "plugins/datasets/bilinear.hpp"

using namespace dkdm;
using fixtures::ScratchFolder;
using fixtures::shipped_plugins;
using fixtures::values;

namespace {

std::shared_ptr<Dataset> dataset(const std::string& name,
                                 const std::map<std::string, Value>& given) {
  fixtures::CountingHost host;
  const auto& info = shipped_plugins().find("dataset", name);
  return shipped_plugins().dataset({info.kind, name, info.version, Params(info.params, given)},
                                   host);
}

at::Tensor pick(std::vector<std::int64_t> which) { return at::tensor(which, at::kLong); }

std::int64_t total(const at::Tensor& images) {
  return images.to(at::kLong).sum().item<std::int64_t>();
}

// uint8 [C,H,W] of a rough pattern: (7 (j^2 mod 251) + 13 i) mod 256 at row-major element j.
at::Tensor pattern(std::int64_t i, at::IntArrayRef shape) {
  const at::Tensor j = at::arange(c10::multiply_integers(shape));
  return ((j * j).remainder(251) * 7 + 13 * i).remainder(256).to(at::kByte).view(shape);
}

// Sum of elements weighted 1, 2, … 97, 1, 2, …: feels a permutation, unlike the sum.
std::int64_t weighted(const at::Tensor& images) {
  const at::Tensor flat = images.to(at::kLong).flatten();
  return (flat * (at::arange(flat.numel()).remainder(97) + 1)).sum().item<std::int64_t>();
}

}  // namespace

// Expected sums: gzip.open, numpy.pad and 2 x 2 sums (s + 2) // 4, by Python and numpy 2.4.6.
TEST_CASE("fashion-mnist: training images at 16 pixels have the sums that numpy finds",
          "[unit][datasets]") {
  const auto data = dataset("fashion-mnist", {});
  CHECK(data->spec() == ImageSpec{1, 16, 16});
  REQUIRE(data->size() == 60000);
  CHECK(data->num_classes() == 10);
  CHECK(total(data->images(pick({0}))) == 19078);
  CHECK(total(data->images(pick({59999}))) == 4180);
  CHECK(total(data->images(at::arange(60000))) == 858652757);
  CHECK(values(data->images(pick({0}))[0][0][8]) ==
        std::vector<std::int64_t>{0, 1, 1, 3, 1, 16, 87, 225, 219, 217, 218, 222, 220, 235, 59, 0});
  CHECK(values(data->labels(at::arange(8))) == std::vector<std::int64_t>{9, 0, 0, 3, 0, 2, 7, 2});
  CHECK(values(at::bincount(data->labels(at::arange(60000)))) ==
        std::vector<std::int64_t>(10, 6000));
}

TEST_CASE("fashion-mnist: 28 is untouched, 32 is padded, channels repeat", "[unit][datasets]") {
  const at::Tensor which = pick({9999, 0, 0});
  const auto of = [&](std::int64_t size, std::int64_t channels) {
    return dataset("fashion-mnist",
                   {{"split", std::string("test")}, {"size", size}, {"channels", channels}})
        ->images(which);
  };
  const at::Tensor plain = of(28, 1), padded = of(32, 1), small = of(16, 1);
  CHECK(plain.sizes() == at::IntArrayRef({3, 1, 28, 28}));
  CHECK(total(plain[0]) == 24390);
  CHECK(total(plain[1]) == 33456);
  CHECK(at::equal(plain[1], plain[2]));
  CHECK(at::equal(padded.narrow(2, 2, 28).narrow(3, 2, 28), plain));
  CHECK(total(padded) == total(plain));
  CHECK(total(small[0]) == 6106);
  CHECK(total(small[1]) == 8374);
  const at::Tensor colour = of(16, 3);
  CHECK(at::equal(colour, small.expand({3, 3, 16, 16})));
}

TEST_CASE("fashion-mnist: the fingerprint names the images and the recipe", "[unit][datasets]") {
  const auto of = [](const char* split, std::int64_t size, std::int64_t channels) {
    return dataset("fashion-mnist",
                   {{"split", std::string(split)}, {"size", size}, {"channels", channels}})
        ->fingerprint();
  };
  const std::string one = of("test", 16, 1);
  CHECK(one == of("test", 16, 1));
  CHECK(one != of("train", 16, 1));
  CHECK(one != of("test", 28, 1));
  CHECK(one != of("test", 16, 3));
}

TEST_CASE("cifar10: a record is a label, then the red, green and blue planes", "[unit][datasets]") {
  ScratchFolder scratch;
  // Record i: label i mod 10, pixel p of its 3072 is (i + 3 p) mod 256.
  const at::Tensor i = at::arange(10000).view({-1, 1});
  const at::Tensor records =
      at::cat({i.remainder(10), (i + 3 * at::arange(3072)).remainder(256)}, 1).to(at::kByte);
  const std::string bytes(reinterpret_cast<const char*>(records.const_data_ptr<std::uint8_t>()),
                          static_cast<std::size_t>(records.numel()));
  const auto root = scratch.path / "cifar-10-batches-bin";
  std::filesystem::create_directory(root);
  io::write_text(root / "test_batch.bin", bytes);
  for (int batch = 1; batch <= 5; ++batch) {
    std::filesystem::create_symlink("test_batch.bin",
                                    root / ("data_batch_" + std::to_string(batch) + ".bin"));
  }
  const auto test = dataset("cifar10", {{"root", root.string()}, {"split", std::string("test")}});
  CHECK(test->spec() == ImageSpec{3, 32, 32});
  CHECK(test->size() == 10000);
  CHECK(values(test->labels(pick({17, 9999}))) == std::vector<std::int64_t>{7, 9});
  // Channel 2, row 1, column 5 is pixel 2 * 1024 + 32 + 5 = 2085: (17 + 6255) mod 256 = 128.
  CHECK(test->images(pick({17}))[0][2][1][5].item<int>() == 128);

  ::setenv("DKDM_DATA", scratch.path.c_str(), 1);
  const auto train = dataset("cifar10", {});
  ::unsetenv("DKDM_DATA");
  CHECK(train->size() == 50000);
  CHECK(at::equal(train->images(pick({40017})), test->images(pick({17}))));
  CHECK(train->fingerprint() != test->fingerprint());
}

// The ten files of ImageNet32 in its layout, four images a file: image i of batch b has pixel p of
// its 3072 at (31 b + 7 i + 3 p) mod 256 and label 100 b + i - 99.
void write_imagenet32(const std::filesystem::path& root) {
  for (std::int64_t b = 1; b <= 10; ++b) {
    const at::Tensor i = at::arange(4).view({-1, 1});
    io::write_npz(root / ("train_data_batch_" + std::to_string(b) + ".npz"),
                  {{"data", (31 * b + 7 * i + 3 * at::arange(3072)).remainder(256).to(at::kByte)},
                   {"labels", (100 * b + i - 99).flatten()},
                   {"mean", at::zeros({3072}, at::kDouble)}});
  }
}

TEST_CASE("imagenet32: ten files of planar images in order, labels from 1", "[unit][datasets]") {
  ScratchFolder scratch;
  write_imagenet32(scratch.path);
  const std::map<std::string, Value> given{{"root", scratch.path.string()},
                                           {"images", std::int64_t{40}}};
  const auto data = dataset("imagenet32", given);
  CHECK(data->spec() == ImageSpec{3, 32, 32});
  CHECK(data->size() == 40);
  CHECK(data->num_classes() == 1000);
  CHECK(values(data->labels(pick({0, 7, 36}))) == std::vector<std::int64_t>{0, 103, 900});
  // Image 3 of batch 2: channel 2, row 1, column 5 is pixel 2085, (62 + 21 + 6255) mod 256 = 194.
  const at::Tensor images = data->images(pick({39, 7}));
  CHECK(images.sizes() == at::IntArrayRef{2, 3, 32, 32});
  CHECK(images[1][2][1][5].item<int>() == 194);
  CHECK(images[0][0][0][0].item<int>() == (310 + 21) % 256);

  const std::string before = data->fingerprint();
  CHECK(dataset("imagenet32", given)->fingerprint() == before);
  auto changed = io::read_npz(scratch.path / "train_data_batch_10.npz", "data");
  changed[3][3071].add_(1);
  io::write_npz(scratch.path / "train_data_batch_10.npz",
                {{"data", changed}, {"labels", at::arange(1, 5)}});
  CHECK(dataset("imagenet32", given)->fingerprint() != before);
}

TEST_CASE("celeba64: OpenCV's pixels of the aligned JPEGs, squashed", "[unit][datasets]") {
  const auto golden = golden::read_json("bilinear.json");
  ScratchFolder scratch;
  std::int64_t count = 0;
  std::string pixels;
  for (const auto& image : golden.at("jpeg")) {
    io::write_text(scratch.path / ("00000" + std::to_string(++count) + ".jpg"),
                   golden::from_base64(image.at("file").get<std::string>()));
    pixels += golden::from_base64(image.at("pixels").get<std::string>());
  }
  io::write_text(scratch.path / ".DS_Store", "");
  const std::map<std::string, Value> given{{"root", scratch.path.string()}, {"images", count}};
  const auto data = dataset("celeba64", given);
  REQUIRE(data->spec() == ImageSpec{3, 64, 64});
  REQUIRE(data->size() == count);
  CHECK(data->num_classes() == 0);
  const at::Tensor expected = at::from_blob(pixels.data(), {count, 3, 64, 64}, at::kByte);
  CHECK(at::equal(data->images(at::arange(count)), expected));
  CHECK(at::equal(data->images(pick({1})), expected.narrow(0, 1, 1)));

  const std::string before = data->fingerprint();
  std::filesystem::last_write_time(scratch.path / "000001.jpg",
                                   std::filesystem::file_time_type::clock::now());
  CHECK(dataset("celeba64", given)->fingerprint() == before);
  io::write_text(scratch.path / "000001.jpg",
                 io::read_text(scratch.path / "000001.jpg") + "trailing");
  CHECK(dataset("celeba64", given)->fingerprint() != before);
}

// uint8 [1,3,height,width] of make_bilinear.py's pattern, as numpy.save writes it.
void write_npy(const std::filesystem::path& file, const at::Tensor& image) {
  const auto sizes = image.sizes();
  std::string header = "{'descr': '|u1', 'fortran_order': False, 'shape': (";
  for (const std::int64_t side : sizes) header += std::to_string(side) + ", ";
  header += "), }";
  header.append(63 - (10 + header.size()) % 64, ' ');
  header += '\n';
  const at::Tensor data = image.contiguous();
  io::write_text(file, std::string("\x93NUMPY\x01\x00", 8) + static_cast<char>(header.size()) +
                           '\0' + header +
                           std::string(static_cast<const char*>(data.const_data_ptr()),
                                       static_cast<std::size_t>(data.numel())));
}

at::Tensor bilinear_pattern(std::int64_t height, std::int64_t width) {
  const at::Tensor a =
      (7 * at::arange(height).view({-1, 1}) + 13 * at::arange(width)).remainder(256);
  return at::stack({a, 255 - a, (3 * a).remainder(256)}).to(at::kByte);
}

TEST_CASE("celebahq256: albumentations' pixels of arrays, in the order of their names",
          "[unit][datasets]") {
  // In the layout of the authors' data folder: celebahq/ beside celebahqtrain.txt.
  ScratchFolder scratch;
  std::filesystem::create_directory(scratch.path / "celebahq");
  const auto cropped = golden::read_json("bilinear.json").at("cropped");
  std::string list;
  for (std::size_t i = 0; i < cropped.size(); ++i) {
    const auto from = cropped[i].at("from").get<std::vector<std::int64_t>>();
    const std::string name = "imgHQ0000" + std::to_string(i) + ".npy";
    write_npy(scratch.path / "celebahq" / name, bilinear_pattern(from[0], from[1]).unsqueeze(0));
    list = name + "\r\n" + list;
  }
  write_npy(scratch.path / "celebahq/imgHQ09999.npy", pattern(0, {1, 3, 8, 8}));  // not in the list
  io::write_text(scratch.path / "celebahqtrain.txt", list + "\n");
  ::setenv("DKDM_DATA", scratch.path.c_str(), 1);
  const auto data = dataset("celebahq256", {{"own_list", true}});
  ::unsetenv("DKDM_DATA");
  REQUIRE(data->spec() == ImageSpec{3, 256, 256});
  REQUIRE(data->size() == static_cast<std::int64_t>(cropped.size()));
  CHECK(data->num_classes() == 0);
  for (std::int64_t i = 0; i < data->size(); ++i) {
    const auto& expected = cropped[static_cast<std::size_t>(i)];
    INFO(expected.at("from").dump());
    const at::Tensor image = data->images(pick({i}))[0];
    CHECK(total(image) == expected.at("sum").get<std::int64_t>());
    CHECK(weighted(image) == expected.at("weighted").get<std::int64_t>());
    CHECK(values(image.select(1, -1).select(1, -1)) ==
          expected.at("last").get<std::vector<std::int64_t>>());
  }
}

TEST_CASE("ffhq256: PNG files of a list, whatever their ending is here", "[unit][datasets]") {
  ScratchFolder scratch;
  const auto root = scratch.path / "ffhq";
  std::filesystem::create_directory(root);
  const at::Tensor first = pattern(1, {3, 256, 256}), second = pattern(2, {3, 256, 256});
  io::write_png(root / "00007.png", first);
  io::write_png(root / "60000.png", second);
  io::write_text(scratch.path / "ffhqtrain.txt", "60000.png\n00007.png\n");
  const std::map<std::string, Value> given{{"root", root.string() + "/"}, {"own_list", true}};
  const auto data = dataset("ffhq256", given);
  CHECK(at::equal(data->images(at::arange(2)), at::stack({first, second})));

  const std::string before = data->fingerprint();
  CHECK(dataset("ffhq256", given)->fingerprint() == before);
  for (const char* name : {"00007", "60000"})
    std::filesystem::rename(root / (std::string(name) + ".png"),
                            root / (std::string(name) + ".PNG"));
  auto renamed = given;
  renamed["suffix"] = std::string(".PNG");
  CHECK(at::equal(dataset("ffhq256", renamed)->images(pick({1})), second.unsqueeze(0)));
  io::write_text(scratch.path / "one.txt", "60000.png\n");
  renamed["file"] = (scratch.path / "one.txt").string();
  const auto one = dataset("ffhq256", renamed);
  CHECK(one->size() == 1);
  CHECK(one->fingerprint() != before);
}

TEST_CASE("bilinear resize: OpenCV's bits down, up and where nothing changes", "[unit][datasets]") {
  for (const auto& size : golden::read_json("bilinear.json").at("sizes")) {
    const auto from = size.at("from").get<std::vector<std::int64_t>>();
    const auto to = size.at("to").get<std::vector<std::int64_t>>();
    INFO(size.at("from").dump() << " to " << size.at("to").dump());
    const at::Tensor small =
        datasets::resize_bilinear(bilinear_pattern(from[0], from[1]), to[0], to[1]);
    CHECK(total(small) == size.at("sum").get<std::int64_t>());
    CHECK(weighted(small) == size.at("weighted").get<std::int64_t>());
    CHECK(values(small.select(1, -1).select(1, -1)) ==
          size.at("last").get<std::vector<std::int64_t>>());
  }
}

TEST_CASE("npz: interleaved images become planes, labels are optional", "[unit][datasets]") {
  ScratchFolder scratch;
  const std::string file = (scratch.path / "a.npz").string();
  const at::Tensor planes = pattern(1, {4, 3, 8, 8});
  io::write_npz(file, {{"arr_0", planes.permute({0, 2, 3, 1})}});
  const auto bare = dataset("npz", {{"file", file}});
  CHECK(bare->spec() == ImageSpec{3, 8, 8});
  CHECK(bare->num_classes() == 0);
  CHECK_FALSE(bare->labels(pick({0})).defined());
  CHECK(at::equal(bare->images(pick({3, 1})), planes.index_select(0, pick({3, 1}))));
  const std::string before = bare->fingerprint();

  const std::string wide = (scratch.path / "wide.npz").string();
  io::write_npz(wide, {{"arr_0", planes.view({4, 3, 4, 16}).permute({0, 2, 3, 1})}});
  CHECK(dataset("npz", {{"file", wide}})->spec() == ImageSpec{3, 4, 16});

  io::write_npz(file, {{"arr_0", planes.permute({0, 2, 3, 1})}, {"arr_1", pick({2, 0, 5, 2})}});
  const auto labelled = dataset("npz", {{"file", file}});
  CHECK(labelled->num_classes() == 6);
  CHECK(values(labelled->labels(pick({2, 3}))) == std::vector<std::int64_t>{5, 2});
  CHECK(labelled->fingerprint() != before);
  io::write_npz(file, {{"arr_0", planes.permute({0, 2, 3, 1})}, {"labels", pick({1, 0, 0, 3})}});
  CHECK(values(dataset("npz", {{"file", file}})->labels(at::arange(4))) ==
        std::vector<std::int64_t>{1, 0, 0, 3});
}

TEST_CASE("image-folder: resized and cropped to the pixels of ADM's loader", "[unit][datasets]") {
  // center_crop_arr of guided-diffusion's image_datasets.py with Pillow 13.0 on the same patterns:
  // sum and weighted sum. The first is halved twice by the box filter, the third is enlarged.
  struct Case {
    std::int64_t height, width, pattern, size, sum, weighted;
  };
  for (const Case& one : {Case{37, 53, 1, 8, 23447, 1131861}, Case{23, 19, 2, 12, 54068, 2473883},
                          Case{9, 11, 3, 16, 94372, 4694951}, Case{8, 8, 4, 8, 24406, 1165955}}) {
    ScratchFolder scratch;
    io::write_png(scratch.path / "a.png", pattern(one.pattern, {3, one.height, one.width}));
    const auto data =
        dataset("image-folder", {{"root", scratch.path.string()}, {"size", one.size}});
    const at::Tensor image = data->images(pick({0}))[0];
    CAPTURE(one.height, one.width, one.size);
    CHECK(image.sizes() == at::IntArrayRef({3, one.size, one.size}));
    CHECK(total(image) == one.sum);
    CHECK(weighted(image) == one.weighted);
  }
}

TEST_CASE("image-folder: grey is converted before it is resized", "[unit][datasets]") {
  // As above after Pillow's convert("L").
  ScratchFolder scratch;
  io::write_png(scratch.path / "a.png", pattern(1, {3, 37, 53}));
  const auto data = dataset(
      "image-folder",
      {{"root", scratch.path.string()}, {"size", std::int64_t{8}}, {"channels", std::int64_t{1}}});
  CHECK(total(data->images(pick({0}))) == 7808);
  CHECK(weighted(data->images(pick({0}))) == 254928);
}

TEST_CASE("image-folder: files are sorted within folders, labels come from names",
          "[unit][datasets]") {
  ScratchFolder scratch;
  const auto write = [&](const std::string& name, std::int64_t value) {
    std::filesystem::create_directories((scratch.path / name).parent_path());
    io::write_png(scratch.path / name, at::full({3, 4, 4}, value, at::kByte));
  };
  write("dog_1.png", 40);
  write("cat_9.PNG", 20);
  write("cow/cat_2.png", 30);
  write("ant_10.png", 10);
  io::write_text(scratch.path / "notes.txt", "not an image");
  const std::map<std::string, Value> given{{"root", scratch.path.string()},
                                           {"size", std::int64_t{4}}};
  const auto data = dataset("image-folder", given);
  REQUIRE(data->size() == 4);
  CHECK(values(data->images(at::arange(4)).select(1, 0).select(1, 0).select(1, 0)) ==
        std::vector<std::int64_t>{10, 20, 30, 40});
  CHECK(data->num_classes() == 3);
  CHECK(values(data->labels(at::arange(4))) == std::vector<std::int64_t>{0, 1, 1, 2});
  const std::string before = data->fingerprint();
  CHECK(before == dataset("image-folder", given)->fingerprint());

  write("bare.png", 15);  // no "_", and not in a folder: no labels for any
  const auto more = dataset("image-folder", given);
  CHECK(more->num_classes() == 0);
  CHECK_FALSE(more->labels(pick({0})).defined());
  CHECK(more->fingerprint() != before);
}

TEST_CASE("image-folder: a folder per class gives labels, however the files are called",
          "[unit][datasets]") {
  ScratchFolder scratch;
  const auto write = [&](const std::string& name) {
    std::filesystem::create_directories((scratch.path / name).parent_path());
    io::write_png(scratch.path / name, at::zeros({3, 4, 4}, at::kByte));
  };
  for (const char* name : {"dog/img_1.png", "cat/x/img_1.png", "cat/2.png", "ant/img_9.png"})
    write(name);
  const auto labels = [&](const char* rule) {
    const auto data = dataset("image-folder", {{"root", scratch.path.string()},
                                               {"size", std::int64_t{4}},
                                               {"labels", std::string(rule)}});
    return std::pair(data->num_classes(), data->fingerprint());
  };
  const auto data = dataset("image-folder", {{"root", scratch.path.string()}});
  CHECK(data->num_classes() == 3);
  // ant/img_9, cat/2, cat/x/img_1, dog/img_1.
  CHECK(values(data->labels(at::arange(4))) == std::vector<std::int64_t>{0, 1, 1, 2});
  CHECK(labels("folders") == labels("auto"));
  CHECK(labels("none").first == 0);
  CHECK(labels("none").second != labels("auto").second);
}

TEST_CASE("image-folder: what an editor left behind is no sample, and is said",
          "[unit][datasets]") {
  ScratchFolder scratch;
  std::filesystem::create_directory(scratch.path / ".ipynb_checkpoints");
  for (const char* name : {"0.png", ".ipynb_checkpoints/0-checkpoint.png"})
    io::write_png(scratch.path / name, at::zeros({3, 4, 4}, at::kByte));
  fixtures::CountingHost host;
  const auto& info = shipped_plugins().find("dataset", "image-folder");
  const auto data = shipped_plugins().dataset(
      {info.kind, info.name, info.version, Params(info.params, {{"root", scratch.path.string()}})},
      host);
  CHECK(data->size() == 1);
  CHECK_THAT(host.said, Catch::Contains("left out 1 hidden: .ipynb_checkpoints/"));
}
