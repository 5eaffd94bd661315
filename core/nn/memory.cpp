// Counting a network without its memory (dkdm/memory.hpp): memory that is asked for and never
// written costs addresses alone, so initialisation is left out where a tensor is large.
#include "dkdm/memory.hpp"

#include <ATen/ATen.h>
#include <c10/core/CPUAllocator.h>
#include <c10/core/impl/LocalDispatchKeySet.h>
#include <torch/library.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <fstream>
#include <mutex>
#include <set>
#include <unordered_map>
#include <utility>

#include "nn/memory_limit.hpp"
#include "nn/meta.hpp"

namespace dkdm {
namespace {

// A mode of LibTorch's dispatcher that nothing else uses: where a thread turns it on, every
// operator goes through `leave_out_writes` first.
constexpr auto kMode = c10::DispatchKey::TESTING_ONLY_GenericMode;

// Smaller tensors are written as ever: a constructor may look at them.
constexpr std::size_t kLargeBytes = std::size_t{1} << 16;

// Of tensors that a forward makes, all but its scalars.
constexpr std::size_t kCountedBytes = std::size_t{1} << 10;

// What a network may take that is only planned, for a machine elsewhere: more than any has.
constexpr double kAnyMachine = 1e14;

thread_local bool any_machine = false;

double assumed_memory() {
  return any_machine ? kAnyMachine : static_cast<double>(machine_memory());
}

std::string size_text(double bytes) {
  constexpr std::array<const char*, 7> kUnits{"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  std::size_t unit = 0;
  for (; bytes >= 1024 && unit + 1 < kUnits.size(); ++unit) bytes /= 1024;
  std::array<char, 32> text;
  std::snprintf(text.data(), text.size(), bytes < 10 && unit > 0 ? "%.1f %s" : "%.0f %s", bytes,
                kUnits[unit]);
  return text.data();
}

// One counting, of one thread.
struct Counting {
  double limit;                                      // bytes
  std::function<std::string(double bytes)> refusal;  // of so many, which are above it
  std::size_t least = kLargeBytes;                   // smaller ones are not counted
  double bytes = 0;                                  // of counted tensors that are alive
  double most = 0;                                   // that it was at once
  std::string refused{};  // what was refused, wherever the exception went since
};

thread_local Counting* counting = nullptr;

class CountingAllocator final : public c10::Allocator {
 public:
  explicit CountingAllocator(c10::Allocator* usual) : usual_(usual) {
    usual_raw_ = usual->raw_deleter();
  }

  c10::DataPtr allocate(std::size_t bytes) override {
    if (!counting || bytes < counting->least) return usual_->allocate(bytes);
    const double all = counting->bytes + static_cast<double>(bytes);
    if (all > counting->limit) {
      counting->refused = counting->refusal(all);
      throw ConfigError(counting->refused);
    }
    auto memory = usual_->allocate(bytes);
    void* const data = memory.get();
    {
      const std::scoped_lock lock(mutex_);
      auto& block = blocks()[data];
      block.memory.release_context();  // given back behind our back: its address was used again
      block = {std::move(memory), bytes};
    }
    counting->bytes = all;
    counting->most = std::max(counting->most, all);
    // Data and context are one pointer: what LibTorch asks of memory that it gives back raw
    // (oneDNN's).
    return {data, data, &release, c10::Device(c10::kCPU)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &release; }
  void copy_data(void* to, const void* from, std::size_t bytes) const override {
    default_copy_data(to, from, bytes);
  }

 private:
  struct Block {
    c10::DataPtr memory;
    std::size_t bytes = 0;
  };
  static void release(void* data) {
    Block block;
    {
      const std::scoped_lock lock(mutex_);
      const auto found = blocks().find(data);
      if (found != blocks().end()) {
        block = std::move(found->second);
        blocks().erase(found);
      }
    }
    if (!block.memory) usual_raw_(data);  // one that was not counted
    else if (counting) counting->bytes -= static_cast<double>(block.bytes);
  }

  static inline std::mutex mutex_;
  // Counted ones that are alive; never destroyed, since a tensor may outlive what is.
  static std::unordered_map<void*, Block>& blocks() {
    static auto* alive = new std::unordered_map<void*, Block>;
    return *alive;
  }
  static inline c10::DeleterFnPtr usual_raw_ = nullptr;
  c10::Allocator* usual_;
};

// Operators that write into their first argument and nothing else.
bool writes_in_place(const std::string& name) {
  static const std::set<std::string> kNames{
      "aten::add_",       "aten::addcmul_",   "aten::bernoulli_", "aten::clamp_",
      "aten::clamp_max_", "aten::clamp_min_", "aten::copy_",      "aten::cos_",
      "aten::div_",       "aten::erfinv_",    "aten::exp_",       "aten::exponential_",
      "aten::fill_",      "aten::log_",       "aten::mul_",       "aten::neg_",
      "aten::normal_",    "aten::pow_",       "aten::random_",    "aten::rsqrt_",
      "aten::sin_",       "aten::sqrt_",      "aten::sub_",       "aten::uniform_",
      "aten::zero_"};
  return kNames.contains(name);
}

void leave_out_writes(const c10::OperatorHandle& op, c10::DispatchKeySet keys,
                      torch::jit::Stack* stack) {
  if (writes_in_place(op.schema().name())) {
    const std::size_t arguments = op.schema().arguments().size();
    const at::Tensor self = stack->at(stack->size() - arguments).toTensor();
    if (self.defined() && self.nbytes() >= kLargeBytes) {
      stack->resize(stack->size() - arguments);
      stack->emplace_back(self);
      return;
    }
  }
  op.redispatchBoxed(keys & c10::DispatchKeySet(c10::DispatchKeySet::FULL_AFTER, kMode), stack);
}

// Counting is on for this thread while it lives. The allocator is the process's: the first of
// several puts it in place, the last takes it away.
class CountingScope {
 public:
  explicit CountingScope(Counting& state) : outer_(counting) {
    const std::scoped_lock lock(mutex_);
    if (scopes_++ == 0) {
      usual_ = c10::GetCPUAllocator();
      // Never freed: a storage may remember it.
      static auto* allocator = new CountingAllocator(usual_);
      c10::SetCPUAllocator(allocator);
    }
    counting = &state;
  }
  ~CountingScope() {
    const std::scoped_lock lock(mutex_);
    counting = outer_;
    if (--scopes_ == 0) c10::SetCPUAllocator(usual_);
  }
  CountingScope(const CountingScope&) = delete;
  CountingScope& operator=(const CountingScope&) = delete;

 private:
  static inline std::mutex mutex_;
  static inline int scopes_ = 0;
  static inline c10::Allocator* usual_ = nullptr;

  Counting* outer_;
};

// Runs `work` under `state`; what was refused is thrown as that, whatever became of the exception.
void run_counted(Counting& state, const std::function<void()>& work) {
  const CountingScope scope(state);
  try {
    work();
  } catch (const std::exception&) {
    if (!state.refused.empty()) throw ConfigError(state.refused);
    throw;
  }
}

// Leaves writes to large tensors out, for this thread while it lives.
class WithoutWrites {
 public:
  WithoutWrites() : mode_((registered(), kMode)) {}

 private:
  static void registered() {
    static const torch::Library library = [] {
      torch::Library made(torch::Library::IMPL, "_", kMode, __FILE__, __LINE__);
      made.fallback(torch::CppFunction::makeFromBoxedFunction<&leave_out_writes>());
      return made;
    }();
  }
  c10::impl::IncludeDispatchKeyGuard mode_;
};

std::int64_t group_limit(const char* file) {
  std::ifstream stream(file);
  std::int64_t limit = 0;
  return stream >> limit && limit > 0 ? limit : INT64_MAX;  // "max" is no number
}

}  // namespace

std::int64_t machine_memory() {
  static const std::int64_t bytes = [] {
    const std::int64_t physical =
        std::int64_t{::sysconf(_SC_PHYS_PAGES)} * std::int64_t{::sysconf(_SC_PAGE_SIZE)};
    return std::min({physical, group_limit("/sys/fs/cgroup/memory.max"),
                     group_limit("/sys/fs/cgroup/memory/memory.limit_in_bytes")});
  }();
  return bytes;
}

NetworkSize measured_network(const std::function<std::shared_ptr<torch::nn::Module>()>& make,
                             std::int64_t copies, const std::string& what) {
  const auto refusal = [&](double bytes) {
    return what + ": a network of more than " + size_text(bytes) +
           (copies > 1 ? ", of which training keeps " + std::to_string(copies) +
                             " copies (weights, gradients, two moments, average),"
                       : "") +
           " does not fit the " + size_text(assumed_memory()) + " of memory of " +
           (any_machine ? "any machine" : "this machine") + "; give it fewer or narrower layers";
  };
  Counting state{assumed_memory() / static_cast<double>(copies), refusal};
  NetworkSize size;
  run_counted(state, [&] {
    const WithoutWrites mode;
    const auto network = make();
    for (const auto& parameter : network->parameters()) {
      size.parameters += parameter.numel();
      size.bytes += static_cast<std::int64_t>(parameter.nbytes());
    }
    for (const auto& buffer : network->buffers())
      size.bytes += static_cast<std::int64_t>(buffer.nbytes());
  });
  return size;
}

void nn::without_writes(const std::function<void()>& work) {
  const WithoutWrites mode;
  work();
}

nn::Allocated nn::within_memory(const std::function<void()>& work, const std::string& what,
                                const std::string& remedy) {
  const auto memory = static_cast<double>(machine_memory());
  const auto refusal = [&](double) {
    return what + " needs more than " + size_text(memory) +
           " of memory, all that this machine has; " + remedy;
  };
  Counting state{memory, refusal, kCountedBytes};
  run_counted(state, work);
  return {state.most, state.bytes};
}

std::optional<nn::Allocated> nn::within_bytes(const std::function<void()>& work, double bytes) {
  Counting state{bytes, [](double) { return std::string("too large"); }, kCountedBytes};
  try {
    run_counted(state, work);
  } catch (const ConfigError&) {
    if (state.refused.empty()) throw;
    return std::nullopt;
  }
  return Allocated{state.most, state.bytes};
}

nn::AnyMachine::AnyMachine() : before_(std::exchange(any_machine, true)) {}
nn::AnyMachine::~AnyMachine() { any_machine = before_; }

void require_memory(double bytes, const std::string& what, const std::string& remedy) {
  if (any_machine || bytes <= static_cast<double>(machine_memory())) return;
  throw ConfigError(what + " needs " + size_text(bytes) + " of memory, this machine has " +
                    size_text(static_cast<double>(machine_memory())) + "; " + remedy);
}

}  // namespace dkdm
