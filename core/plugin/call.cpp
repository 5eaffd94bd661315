#include "plugin/call.hpp"

#include <sys/mman.h>

#include <ATen/autocast_mode.h>
#include <ATen/core/Tensor.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <map>
#include <mutex>
#include <set>
#include <sstream>
#include <system_error>

#include "error_text.hpp"
#include "log/log.hpp"

namespace dkdm::plugin {
namespace {

struct Names {
  std::mutex mutex;
  std::map<const void*, std::string> by_object;
};

Names& names() {
  static auto* const kept = new Names;  // objects of plugins may end after every static object here
  return *kept;
}

// A thread's innermost call. Threads beyond the number of places share the last one.
struct Place {
  std::atomic<bool> inside;
  std::array<char, 96> plugin;
  std::array<char, 48> stage;
};
constexpr std::size_t kPlaces = 16;
using Places = std::array<Place, kPlaces>;

Places own_places{};
Places* places = &own_places;
std::atomic<std::size_t> taken{0};

Place& own_place() {
  thread_local const std::size_t kMine = std::min(taken++, kPlaces - 1);
  return (*places)[kMine];
}

template <std::size_t n>
void copy_text(std::array<char, n>& to, const char* from) {
  std::strncpy(to.data(), from, n - 1);
  to[n - 1] = '\0';
}

thread_local const CallScope* innermost = nullptr;

}  // namespace

// Once for each plugin and change: a student may do it at every step.
void say_changed(const std::string& plugin, const char* stage, const std::string& changed) {
  static std::mutex mutex;
  static std::set<std::string> said;
  {
    const std::scoped_lock lock(mutex);
    if (!said.insert(plugin + '\n' + changed).second) return;
  }
  log::warn("plugin", plugin + " changed the process's " + changed + " (" + stage + "); put back");
}

std::string name_of(const void* object) {
  const std::scoped_lock lock(names().mutex);
  const auto found = names().by_object.find(object);
  return found == names().by_object.end() ? "" : found->second;
}

void remember_name(const void* object, const std::string& plugin) {
  const std::scoped_lock lock(names().mutex);
  names().by_object[object] = plugin;
}

void forget_name(const void* object) {
  const std::scoped_lock lock(names().mutex);
  names().by_object.erase(object);
}

std::shared_ptr<Denoiser> named(std::shared_ptr<Denoiser> network, const std::string& plugin) {
  Denoiser* const plain = network.get();
  if (!plain || !name_of(plain).empty()) return network;
  remember_name(plain, plugin);
  return {plain, [kept = std::move(network)](Denoiser* gone) { forget_name(gone); }};
}

CallNotes::CallNotes()
    : memory_(mmap(nullptr, sizeof(Places), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
                   0)) {
  if (memory_ == MAP_FAILED)
    throw std::system_error(errno, std::generic_category(), "cannot share memory with a process");
  new (memory_) Places{};
}

CallNotes::~CallNotes() {
  if (places == memory_) places = &own_places;
  munmap(memory_, sizeof(Places));
}

void CallNotes::use() { places = static_cast<Places*>(memory_); }

std::optional<CallNotes::Call> CallNotes::current() const {
  for (const Place& place : *static_cast<const Places*>(memory_))
    if (place.inside) return Call{place.plugin.data(), place.stage.data()};
  return std::nullopt;
}

CallScope::CallScope(std::string plugin, const char* stage, Care care, std::string* changed)
    : plugin_(std::move(plugin)), stage_(stage), care_(care), changed_(changed), outer_(innermost) {
  if (care != Care::numbers) {
    process_.emplace();
    output_.emplace();
  }
  innermost = this;
  note();
}

CallScope::~CallScope() {
  output_.reset();
  std::string changed = numbers_.restore();
  // Threads that the plugin started meanwhile have what it had set.
  if (!changed.empty() && care_ != Care::opening) settle_workers();
  const std::string more = process_ ? process_->restore() : restore_umask() ? "umask" : "";
  if (!more.empty()) changed += (changed.empty() ? "" : ", ") + more;
  if (changed_) *changed_ = changed;
  else if (!changed.empty()) say_changed(plugin_, stage_, changed);
  innermost = outer_;
  if (outer_) outer_->note();
  else own_place().inside = false;
}

void CallScope::note() const {
  Place& place = own_place();
  copy_text(place.plugin, plugin_.c_str());
  copy_text(place.stage, stage_);
  place.inside = true;
}

void CallScope::rethrow() const {
  try {
    throw;
  } catch (const Error&) {
    throw;
  } catch (const c10::OutOfMemoryError&) {
    throw;  // no fault of the plugin's: whoever knows the settings says which to lower
  } catch (...) {
    throw PluginError(plugin_.empty() ? "network" : plugin_, stage_, current_error_text(),
                      ExitCode::run_failed);
  }
}

namespace {

std::string name_or(const void* object, const char* otherwise) {
  const std::string name = name_of(object);
  return name.empty() ? otherwise : name;
}

// Counts what is written into `tensor` by LibTorch's operations; 0 where nothing counts it.
std::int64_t version_of(const at::Tensor& tensor) {
  return tensor.is_inference() ? 0 : static_cast<std::int64_t>(tensor._version());
}

// Elements that share memory (an expanded tensor) or lie apart are copied: what comes after may
// write in place, and must not be slow or differ by how a plugin came to its result. Channels-last
// stays.
at::Tensor simply_laid_out(const at::Tensor& tensor) {
  return tensor.is_non_overlapping_and_dense() ? tensor : tensor.contiguous();
}

[[noreturn]] void refuse(const void* object, const char* otherwise, const char* stage,
                         const at::Tensor& got, const std::string& expected) {
  std::ostringstream text;
  if (got.defined())
    text << "returned " << got.layout() << ' ' << got.scalar_type() << ' ' << got.sizes() << " on "
         << got.device();
  else text << "returned nothing";
  text << ", expected " << expected;
  throw PluginError(name_or(object, otherwise), stage, text.str(), ExitCode::run_failed);
}

// compute(), called in the name of the object's plugin: `input` as it was, and what a network
// gives in fewer bits (device::PrecisionScope) as float32.
template <class Compute>
at::Tensor computed(const void* object, const char* otherwise, const char* stage,
                    const at::Tensor& input, const char* input_name, const Compute& compute) {
  const std::int64_t version = version_of(input);
  at::Tensor output = call(name_of(object), stage, Care::numbers, compute);
  const at::DeviceType device = input.device().type();
  if (output.defined() && at::autocast::is_autocast_available(device) &&
      at::autocast::is_autocast_enabled(device) &&
      output.scalar_type() == at::autocast::get_autocast_dtype(device))
    output = output.to(at::kFloat);
  if (version_of(input) != version)
    throw PluginError(name_or(object, otherwise), stage,
                      std::string("changed its input") + input_name +
                          " in place, which others still read; work on a copy",
                      ExitCode::run_failed);
  return output;
}

bool is_plain_float(const at::Tensor& output, const at::Tensor& input) {
  return output.defined() && output.layout() == at::kStrided &&
         output.scalar_type() == at::kFloat && output.device() == input.device() &&
         output.dim() == 4;
}

}  // namespace

at::Tensor predict(Denoiser& network, const at::Tensor& x_t, const at::Tensor& t) {
  const at::Tensor output = computed(&network, "network", "forward", x_t, " x_t",
                                     [&] { return network.forward(x_t, t); });
  const auto fits = [&] {
    if (!is_plain_float(output, x_t)) return false;
    const bool channels = output.size(1) == x_t.size(1) || output.size(1) == 2 * x_t.size(1);
    return channels && output.size(0) == x_t.size(0) && output.size(2) == x_t.size(2) &&
           output.size(3) == x_t.size(3);
  };
  if (fits()) return simply_laid_out(output);
  std::ostringstream expected;
  expected << "float32 [" << x_t.size(0) << ", " << x_t.size(1) << " or " << 2 * x_t.size(1) << ", "
           << x_t.size(2) << ", " << x_t.size(3) << "] on " << x_t.device();
  refuse(&network, "network", "forward", output, expected.str());
}

at::Tensor transformed(const void* object, const char* stage, const at::Tensor& input,
                       const SampleShape& shape, const std::function<at::Tensor()>& compute) {
  const at::Tensor output = computed(object, "autoencoder", stage, input, "", compute);
  const auto sizes = shape.batch(input.size(0));
  if (is_plain_float(output, input) && output.sizes() == at::IntArrayRef(sizes))
    return simply_laid_out(output);
  std::ostringstream expected;
  expected << "float32 " << at::IntArrayRef(sizes) << " on " << input.device();
  refuse(object, "autoencoder", stage, output, expected.str());
}

at::Tensor images_of(const Dataset& dataset, const at::Tensor& index) {
  const ImageSpec spec = dataset.spec();
  const at::Tensor images = dataset.images(index);
  const bool fits = images.defined() && images.layout() == at::kStrided &&
                    images.scalar_type() == at::kByte && images.device().is_cpu() &&
                    images.sizes() == at::IntArrayRef(spec.batch(index.numel()));
  if (fits) return images.contiguous();
  std::ostringstream expected;
  expected << "uint8 [" << index.numel() << ", " << spec.channels << ", " << spec.height << ", "
           << spec.width << "] on cpu";
  refuse(&dataset, "dataset", "images", images, expected.str());
}

}  // namespace dkdm::plugin
