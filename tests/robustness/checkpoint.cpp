// Checkpoints that lie: hostile pickles, cut files, flipped bits, sizes that no file has.
#include <ATen/ATen.h>
#include <sys/resource.h>
#include <unistd.h>

#include <catch2/catch.hpp>

#include <functional>

#include "dkdm/checkpoint.hpp"
#include "dkdm/files.hpp"
#include "fixtures/analytic.hpp"
#include "fixtures/pickles.hpp"
#include "io/zip_writer.hpp"

using namespace dkdm;
using namespace dkdm::fixtures;
using Catch::Matchers::Contains;

namespace {

namespace fs = std::filesystem;

const fs::path kFixtures = fs::path(DKDM_SOURCE_DIR) / "tests/fixtures/checkpoints/torch-2.15.0";
constexpr std::int64_t kHuge = std::int64_t{1} << 62;

// Allocations beyond `extra` bytes fail while it lives, so that an unbounded one is seen.
class MemoryLimit {
 public:
  explicit MemoryLimit(std::uint64_t extra) {
    ::getrlimit(RLIMIT_AS, &before_);
    long pages = 0;
    std::ifstream("/proc/self/statm") >> pages;
    rlimit limit = before_;
    limit.rlim_cur =
        static_cast<rlim_t>(pages) * static_cast<rlim_t>(::sysconf(_SC_PAGESIZE)) + extra;
    ::setrlimit(RLIMIT_AS, &limit);
  }
  ~MemoryLimit() { ::setrlimit(RLIMIT_AS, &before_); }

 private:
  rlimit before_{};
};

// What reading a file says: the DataError's message, or "accepted". Any other end fails the test.
std::string said_of_file(const fs::path& file) {
  const MemoryLimit limit(std::uint64_t{1} << 30);
  try {
    const auto checkpoint = io::read_checkpoint(file);
    for (const auto& state : checkpoint.states) {
      io::select_state(checkpoint, state.path.empty() ? "." : state.path, file);
    }
    return "accepted";
  } catch (const DataError& error) {
    return error.what();
  } catch (const std::exception& error) {
    FAIL("not a DataError: " << error.what());
  }
  return "";
}

std::string said_of(const std::string& bytes) {
  ScratchFolder scratch;
  write_bytes(scratch.path / "bad.pt", bytes);
  return said_of_file(scratch.path / "bad.pt");
}

std::string said_of_object(const std::string& object, const std::vector<LegacyStorage>& data = {}) {
  return said_of(legacy(object, data));
}

std::string repeated(const std::string& part, std::size_t times) {
  std::string all;
  while (times-- > 0) all += part;
  return all;
}

const LegacyStorage kFour{"s", 4, floats({1, 2, 3, 4})};

std::string shaped(std::int64_t offset, const std::vector<std::int64_t>& sizes,
                   const std::vector<std::int64_t>& strides) {
  return said_of_object(dict({{text("w"), tensor(storage("s", 4), offset, sizes, strides)}}),
                        {kFour});
}

}  // namespace

TEST_CASE("hostile pickle: a call of a system function is described and not made",
          "[robustness][checkpoint]") {
  ScratchFolder scratch;
  const auto marker = scratch.path / "made";
  const auto file = scratch.path / "bad.pt";
  const std::string attack = call(global("posix", "system"), {text("touch " + marker.string())});
  const std::string stack_global =
      text("os") + text("system") + "\x93" + tuple({text("true")}) + "R";
  write_bytes(file, legacy(dict({{text("a"), attack}, {text("b"), stack_global}})));
  const auto values = io::read_checkpoint(file).values;
  CHECK_THAT(values.at("a"), Contains("a posix.system"));
  CHECK(values.at("b") == "an os.system(true)");
  CHECK_FALSE(fs::exists(marker));
  write_bytes(file, legacy(global("torch\x1b[2J", "x")));
  CHECK(io::read_checkpoint(file).values.at("") == "torch?[2J.x");
}

TEST_CASE("hostile pickle: what is no pickle ends at the byte that is wrong",
          "[robustness][checkpoint]") {
  const std::map<std::string, std::string> cases{
      {")o", "goes back to a mark"},
      {"(o", "makes an object of no class"},
      {"\xff", "the opcode 0xff is none of pickle's"},
      {"\x80\x06", "pickle protocol 6"},
      {"K\x01K\x02", "ends with more than one value"},
      {"", "takes a value where there is none"},
      {"h\x05", "memo entry 5, which was never stored"},
      {"t", "goes back to a mark where there is none"},
      {"K\x01(R", "takes a value where there is none"},
      {"](K\x01u", "has no value"},
      {"]K\x01K\x02s", "what is no dictionary"},
      {"}K\x01" + std::string("a"), "what is no list"},
      {"cabc", "a line does not end"},
      {"Fx\n", "a number is none"},
      {"gx\n", "a memo entry's number is none"},
      {"\x98", "takes a value where there is none"},
  };
  for (const auto& [object, expected] : cases) {
    CAPTURE(expected);
    CHECK_THAT(said_of_object(object), Contains(expected) && Contains("bad.pt: byte "));
  }
}

TEST_CASE("hostile pickle: references that multiply end in an error, cycles and depth are told",
          "[robustness][checkpoint]") {
  std::string bomb = "}q" + std::string(1, '\0');
  for (int i = 1; i < 50; ++i) {  // each holds the one before twice: 2^49 paths
    const std::string before(1, static_cast<char>(i - 1));
    bomb += "](h" + before + "h" + before + "eq" + std::string(1, static_cast<char>(i));
  }
  const std::string nested_bomb = "](" + bomb + "e";
  CHECK_THAT(said_of_object(nested_bomb), Contains("refer to each other so often"));

  const std::string zero(1, '\0');
  CHECK(said_of_object("]q" + zero + "(h" + zero + "}e") == "accepted");
  CHECK(said_of_object("}q" + zero + text("me") + "h" + zero + "s") == "accepted");
  const std::size_t depth = 200'000;
  CHECK(said_of_object(std::string(depth, ']') + "}" + std::string(depth, 'a')) == "accepted");
  // Calls within calls, as arguments and as functions.
  CHECK(said_of_object(repeated("(" + global("torch", "device"), 1) + "N" +
                       repeated("\x85", 100'000) + "o") == "accepted");
  std::string calls = global("torch", "device");
  for (int i = 0; i < 100'000; ++i) calls += ")R";
  CHECK(said_of_object(calls) == "accepted");
  // A long text that is shared by many keys' paths.
  std::string shared = "}(";
  for (int i = 0; i < 2000; ++i) shared += text(std::string(4000, 'k') + std::to_string(i)) + "}";
  CHECK(said_of_object(shared + "u") == "accepted");
}

TEST_CASE("hostile pickle: counts that no file holds ask for no memory",
          "[robustness][checkpoint]") {
  const std::map<std::string, std::string> cases{
      {"X\xff\xff\xff\xff", "needs 4294967295 more bytes"},
      {"\x8d" + raw(kHuge), "needs 4611686018427387904 more bytes"},
      {"\x8e" + raw(kHuge), "needs 4611686018427387904 more bytes"},
      {"\x8b\xff\xff\xff\xff", "needs 4294967295 more bytes"},
      {"]r\xff\xff\xff\xff", "memo entry 4294967295 is not read"},
      {std::string(5'000'000, ']'), "more than 4194304 values"},
      {std::string(5'000'000, '('), "too many open marks"},
      {"]q\x01" + repeated("h\x01", 5'000'000), "more values are waiting"},
      {dict({{text("w"), tensor(storage("s", kHuge), 0, {1}, {1})}}), "items is impossible"},
      {dict({{text("w"), tensor(storage("s", kHuge / 8), 0, {1}, {1})}}), "expected 576460752303"},
      {dict({{text("w"), tensor(storage("s", -1), 0, {1}, {1})}}), "is not an integer from 0"},
      {dict({{text("w"), tensor(storage("s", 4), 0, std::vector<std::int64_t>(65, 1),
                                std::vector<std::int64_t>(65, 1))}}),
       "is not a short list of integers"},
  };
  for (const auto& [object, expected] : cases) {
    CAPTURE(expected);
    CHECK_THAT(said_of_object(object, {kFour}), Contains(expected));
  }
  CHECK(shaped(0, {2, 2}, {2, 1}) == "accepted");
  CHECK(shaped(4, {0, std::int64_t{1} << 40}, {kHuge, 1}) == "accepted");
  CHECK(shaped(0, {1 << 20, 4}, {0, 1}) == "accepted");
  CHECK_THAT(shaped(1, {4}, {1}), Contains("first item 1 does not lie in its storage of 4 items"));
  CHECK_THAT(shaped(0, {2, 2}, {3, 1}), Contains("does not lie in its storage"));
  CHECK_THAT(shaped(0, {kHuge, 4}, {kHuge, 1}),
             Contains("dimension 4611686018427387904 is impossible"));
  CHECK_THAT(shaped(2, {3}, {kHuge}), Contains("does not lie in its storage"));
  CHECK_THAT(shaped(kHuge, {2, 2}, {kHuge, kHuge}), Contains("does not lie in its storage"));
  CHECK_THAT(shaped(0, {2}, {-1}), Contains("is not a short list of integers from 0"));
  CHECK_THAT(shaped(-1, {2}, {1}), Contains("is not an integer from 0"));
  CHECK_THAT(shaped(0, {2}, {1, 1}), Contains("not one stride a dimension"));
  CHECK_THAT(shaped(0, {1 << 20, 1 << 20}, {0, 0}), Contains("more often than is read"));
}

TEST_CASE("legacy stream: storages that are absent, strange, misnumbered or too many",
          "[robustness][checkpoint]") {
  const std::string object = dict({{text("w"), tensor(storage("s", 4), 0, {4}, {1})}});
  CHECK(said_of_object(object, {kFour}) == "accepted");
  CHECK_THAT(said_of_object(object), Contains("the bytes of the storage 's' are not in the file"));
  CHECK_THAT(said_of_object(object, {kFour, kFour}), Contains("stands there twice"));
  CHECK_THAT(said_of_object(object, {kFour, {"t", 0, ""}}), Contains("'t' stands there twice or"));
  CHECK_THAT(said_of_object(object, {{"s", 3, floats({1, 2, 3})}}),
             Contains("has 3 items, expected 4"));
  CHECK_THAT(said_of(legacy(object, {kFour}) + "x"), Contains("bytes follow the last storage"));
  CHECK_THAT(said_of_object("](" + tensor(storage("s", 4), 0, {4}, {1}) +
                                tensor(storage("s", 5), 0, {4}, {1}) + "e",
                            {kFour}),
             Contains("is given 16 bytes, and 20 elsewhere"));
  CHECK_THAT(
      said_of_object(dict({{text("b"), tensor(storage("s", 2, "BoolStorage"), 0, {2}, {1})}}),
                     {{"s", 2, "\x01\x02"}}),
      Contains("tensor 'b': a BOOL is neither 0 nor 1"));
}

TEST_CASE("torch zip: entries that are absent, compressed in name, resized or of another kind",
          "[robustness][checkpoint]") {
  ScratchFolder scratch;
  const std::string objects = pickle(dict({{text("w"), tensor(storage("0", 2), 0, {2}, {1})}}));
  const auto said = [&](const std::vector<std::pair<std::string, std::string>>& entries) {
    const auto file = scratch.path / "made.zip";
    io::ZipWriter zip(file);
    for (const auto& [name, bytes] : entries) zip.add(name, bytes);
    zip.commit();
    return said_of(io::read_text(file));
  };
  const std::pair<std::string, std::string> data{"x/data/0", floats({1, 2})};
  CHECK(said({{"x/data.pkl", objects}, data}) == "accepted");
  CHECK(said({{"x/data.pkl", objects}, {"x/byteorder", "little"}, data}) == "accepted");
  CHECK_THAT(said({{"x/data.pkl", objects}, {"x/byteorder", "middle"}, data}),
             Contains("the byte order is 'middle', expected little or big"));
  CHECK_THAT(said({{"x/data.pkl", objects}}), Contains("no entry for the storage '0'"));
  CHECK_THAT(said({{"x/data.pkl", objects}, {"x/data/0", "four"}}),
             Contains("has 4 bytes, but its storage takes 8"));
  CHECK_THAT(said({{"x/data.pkl", objects}, {"y/data.pkl", objects}, data}),
             Contains("two entries data.pkl"));
  CHECK_THAT(said({{"x/data.pkl", objects}, {"x/constants.pkl", ""}, data}),
             Contains("a TorchScript module"));
  CHECK_THAT(said({{"x/data.pkl", objects + "x"}, data}),
             Contains("bytes follow the pickle's end"));
  CHECK_THAT(said({{"x/data.pkl", objects.substr(0, 9)}, data}), Contains("truncated?"));
}

TEST_CASE("cut files: at every byte an error that names the file and a byte",
          "[robustness][checkpoint]") {
  ScratchFolder scratch;
  const auto file = scratch.path / "bad.pt";
  const auto tensors = io::read_checkpoint(kFixtures / "state.pt").states.at(0).tensors;
  io::write_safetensors(scratch.path / "state.safetensors", tensors);
  for (const fs::path& source :
       {kFixtures / "state.pt", kFixtures / "legacy-state.pt", kFixtures / "legacy-views.pt",
        scratch.path / "state.safetensors"}) {
    const std::string whole = io::read_text(source);
    CHECK(said_of(whole) == "accepted");
    int wrong = 0;
    write_bytes(file, whole);
    for (std::size_t bytes = whole.size(); bytes-- > 0;) {
      fs::resize_file(file, bytes);
      const std::string said = said_of_file(file);
      if (said.find("bad.pt: ") == std::string::npos || said.find("byte") == std::string::npos) {
        ++wrong;
        UNSCOPED_INFO(source << " cut to " << bytes << ": " << said);
      }
    }
    CHECK(wrong == 0);
  }
}

TEST_CASE("flipped bits: a zip is refused or unchanged, a stream refused or read, nothing else",
          "[robustness][checkpoint]") {
  ScratchFolder scratch;
  const auto file = scratch.path / "flipped.pt";
  for (const std::string name : {"state.pt", "legacy-state.pt"}) {
    const std::string whole = io::read_text(kFixtures / name);
    const auto original = io::read_checkpoint(kFixtures / name);
    int refused = 0;
    std::string changed;  // by which bytes
    for (std::size_t at = 0; at < whole.size(); ++at) {
      std::string bytes = whole;
      bytes[at] = static_cast<char>(bytes[at] ^ (1 << at % 8));
      write_bytes(file, bytes);
      try {
        const auto read = io::read_checkpoint(file);
        const auto& state = io::select_state(read, "", file);
        const auto& expected = original.states.at(0);
        bool same = state.tensors.size() == expected.tensors.size();
        for (std::size_t i = 0; same && i < state.tensors.size(); ++i) {
          same = state.tensors[i].first == expected.tensors[i].first &&
                 at::equal(state.tensors[i].second, expected.tensors[i].second);
        }
        if (!same) changed += " " + std::to_string(at);
      } catch (const DataError&) {
        ++refused;
      }
    }
    CAPTURE(name, changed);
    CHECK(refused > 500);
    if (name == "state.pt") CHECK(changed.empty());  // every byte of a tensor is under a checksum
  }
}

TEST_CASE("a file without checksums, as set_crc32_options(False) writes it, is read",
          "[robustness][checkpoint]") {
  std::string bytes = io::read_text(kFixtures / "state.pt");
  // Where a local header, a directory entry and a data descriptor hold theirs.
  const std::map<std::string, std::size_t> records{
      {"PK\x03\x04", 14}, {"PK\x01\x02", 16}, {"PK\x07\x08", 4}};
  for (const auto& [mark, at] : records) {
    for (auto found = bytes.find(mark); found != std::string::npos;
         found = bytes.find(mark, found + 4)) {
      bytes.replace(found + at, 4, 4, '\0');
    }
  }
  CHECK(said_of(bytes) == "accepted");
}
