// Opening of plugin files and the handshake (plugin/module.hpp).
#define BOOST_DLL_USE_STD_FS
#include "plugin/module.hpp"

#include <elf.h>

#include <algorithm>
#include <array>
#include <boost/dll/shared_library.hpp>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <memory>
#include <mutex>
#include <set>
#include <system_error>
#include <vector>

#include "error_text.hpp"
#include "plugin/param_check.hpp"

namespace dkdm::plugin {
namespace {

namespace fs = std::filesystem;

constexpr std::array<const char*, 7> kKinds{"student",      "teacher",   "dataset",    "baseline",
                                            "distillation", "evaluator", "autoencoder"};

constexpr const char* kRebuild = "; rebuild the plugin with this dkdm's headers and compiler";

[[noreturn]] void refuse(const fs::path& file, const char* stage, const std::string& why,
                         const char* remedy) {
  std::string message = why;
  message += remedy;
  throw PluginError(file.string(), stage, message);
}

// Throws unless `file` is a regular, readable, whole 64-bit ELF shared library.
void check_file(const fs::path& file) {
  const auto refuse = [&](const std::string& why, const char* remedy) {
    plugin::refuse(file, "open", why, remedy);
  };
  constexpr const char* kPermissions = "; check the file's permissions";
  constexpr const char* kAgain = "; copy or build it again";
  std::error_code error;
  const auto status = fs::status(file, error);
  if (error || !fs::exists(status)) {
    const bool absent =
        !fs::exists(status) && (!error || error == std::errc::no_such_file_or_directory);
    if (absent) refuse("No such file", "; correct the path, or remove the link to it");
    refuse("cannot be read: " + error.message(), kPermissions);
  }
  if (fs::is_directory(status)) refuse("is a folder, expected a shared library", "; remove it");
  if (!fs::is_regular_file(status)) refuse("is not a file, expected a library", "; remove it");
  std::ifstream stream(file, std::ios::binary);
  if (!stream) refuse("cannot be read: " + std::string(std::strerror(errno)), kPermissions);

  char magic[SELFMAG] = {};
  stream.read(magic, SELFMAG);
  if (!stream || std::memcmp(magic, ELFMAG, SELFMAG) != 0) {
    refuse("is not a shared library (ELF)", "; rebuild or remove it");
  }

  const auto size = static_cast<std::uint64_t>(fs::file_size(file));
  const auto require = [&](std::uint64_t end) {
    if (end <= size) return;
    refuse("is cut short: " + std::to_string(size) + " bytes, expected at least " +
               std::to_string(end),
           kAgain);
  };
  Elf64_Ehdr header = {};
  require(sizeof header);
  stream.seekg(0);
  stream.read(reinterpret_cast<char*>(&header), sizeof header);
  if (header.e_ident[EI_CLASS] != ELFCLASS64 || header.e_type != ET_DYN ||
      header.e_phentsize != sizeof(Elf64_Phdr)) {
    refuse("is not a 64-bit shared library", "; rebuild it for this machine");
  }
  require(header.e_phoff + std::uint64_t{header.e_phnum} * sizeof(Elf64_Phdr));
  require(header.e_shoff + std::uint64_t{header.e_shnum} * header.e_shentsize);
  stream.seekg(static_cast<std::streamoff>(header.e_phoff));
  for (int i = 0; i < header.e_phnum; ++i) {
    Elf64_Phdr segment = {};
    stream.read(reinterpret_cast<char*>(&segment), sizeof segment);
    if (!stream) refuse("cannot be read to its end", kAgain);
    require(segment.p_offset + segment.p_filesz);
  }
}

// The loader's own words, without Boost's around them.
std::string loader_message(const std::string& what) {
  const std::string opening = "(dlerror system message: ";
  const auto begin = what.find(opening);
  const auto end = what.rfind(')');
  if (begin == std::string::npos || end == std::string::npos) return what;
  return what.substr(begin + opening.size(), end - begin - opening.size());
}

// Which parts of two build ids differ: "LibTorch 2.6.0 for LibTorch 2.15.0".
std::string difference(const std::string& built, const std::string& here) {
  const auto parts = [](const std::string& id) {
    std::vector<std::string> found;
    for (std::size_t start = 0; start < id.size();) {
      const auto end = std::min(id.find(", ", start), id.size());
      found.push_back(id.substr(start, end - start));
      start = end + 2;
    }
    return found;
  };
  const auto theirs = parts(built), ours = parts(here);
  if (theirs.size() != ours.size()) return "of another kind of build";
  std::string text;
  for (std::size_t i = 0; i < ours.size(); ++i)
    if (theirs[i] != ours[i]) text += (text.empty() ? "" : ", ") + theirs[i] + " for " + ours[i];
  return text;
}

boost::dll::shared_library& opened(const fs::path& file) {
  // Leaked on purpose, see the header.
  static auto* libraries = new std::vector<std::unique_ptr<boost::dll::shared_library>>;
  static std::mutex mutex;
  try {
    auto library = std::make_unique<boost::dll::shared_library>(
        file, boost::dll::load_mode::rtld_now | boost::dll::load_mode::rtld_local);
    const std::scoped_lock lock(mutex);
    return *libraries->emplace_back(std::move(library));
  } catch (const std::system_error& e) {
    const std::string message = loader_message(e.what());
    const auto says = [&](const char* words) { return message.find(words) != std::string::npos; };
    const char* remedy = "; rebuild or remove the file";
    if (says("undefined symbol") || says("version `")) remedy = kRebuild;
    if (says("cannot open shared object file")) {
      remedy = "; install that library or rebuild the plugin without it";
    }
    refuse(file, "open", message, remedy);
  }
}

}  // namespace

const DkdmPluginTable& open_module(const fs::path& file) {
  check_file(file);
  const boost::dll::shared_library& library = opened(fs::absolute(file));
  const auto refuse = [&](const std::string& why, const char* remedy = kRebuild) {
    plugin::refuse(file, "handshake", why, remedy);
  };
  if (!library.has("dkdm_plugin")) {
    refuse("exports no symbol dkdm_plugin",
           "; end the plugin with a DKDM_* macro, or move the file elsewhere");
  }
  const DkdmPluginTable* table = nullptr;
  try {
    table = library.get<const DkdmPluginTable*()>("dkdm_plugin")();
  } catch (...) {
    refuse("dkdm_plugin() threw, expected a table", "; end the plugin with a DKDM_* macro");
  }
  if (!table) refuse("dkdm_plugin() returned nothing, expected a table");
  if (table->abi != DKDM_ABI) {
    refuse("plugin ABI " + std::to_string(table->abi) + ", this dkdm has " +
           std::to_string(DKDM_ABI));
  }
  const std::string build = table->build_id ? table->build_id : "";
  if (build != DKDM_BUILD_ID) {
    refuse("built as \"" + build + "\", this dkdm as \"" + DKDM_BUILD_ID + "\" (" +
           difference(build, DKDM_BUILD_ID) + ")");
  }
  if (table->struct_size != sizeof(DkdmPluginTable)) {
    refuse("plugin table of " + std::to_string(table->struct_size) + " bytes, this dkdm has " +
           std::to_string(sizeof(DkdmPluginTable)));
  }
  if (!table->kind || !table->name || !table->version || !table->summary || !table->params ||
      !table->create || !table->destroy) {
    refuse("its table has empty entries");
  }
  const std::string kind = table->kind;
  if (std::find(kKinds.begin(), kKinds.end(), kind) == kKinds.end()) {
    std::string known;
    for (const char* k : kKinds) known += (known.empty() ? "" : ", ") + std::string(k);
    refuse("plugin kind \"" + kind + "\", expected one of " + known,
           "; end the plugin with the DKDM_* macro of its kind");
  }
  return *table;
}

ParamTable declared_params(const DkdmPluginTable& table, const fs::path& file) {
  try {
    ParamTable params = table.params();
    std::set<std::string> names;
    for (const Param& param : params) {
      if (!names.insert(param.name).second) {
        throw ConfigError("parameter " + param.name + " is declared twice");
      }
      if (!param.is_required) checked(param, param.default_value, "default");
    }
    return params;
  } catch (...) {
    throw PluginError(file.string(), "params", current_error_text() + "; correct its params()");
  }
}

}  // namespace dkdm::plugin
