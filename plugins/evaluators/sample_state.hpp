// What evaluators put into their state, by name.
#pragma once

#include <ATen/ATen.h>

#include <stdexcept>
#include <string>
#include <utility>

#include "dkdm/evaluator.hpp"

namespace dkdm {

inline at::Tensor text_tensor(const std::string& text) {
  return at::tensor(
      at::ArrayRef<std::uint8_t>(reinterpret_cast<const std::uint8_t*>(text.data()), text.size()));
}

inline std::string tensor_text(const at::Tensor& bytes) {
  const at::Tensor whole = bytes.to(at::kByte).contiguous();
  return {reinterpret_cast<const char*>(whole.const_data_ptr()), std::size_t(whole.numel())};
}

// Throws DataError where there is none.
inline const at::Tensor& entry(const io::TensorMap& state, const std::string& name) {
  const auto found = state.find(name);
  if (found == state.end()) throw DataError("evaluator state", "has no " + name);
  return found->second;
}

inline void require_protocol(const io::TensorMap& state, const std::string& protocol) {
  if (const auto theirs = tensor_text(entry(state, "protocol")); theirs != protocol)
    throw DataError("evaluator state", "of protocol " + theirs + ", expected " + protocol);
}

// The state of a part under its name: "pooled.count", "pooled.mean", ….
inline void put(io::TensorMap& state, const std::string& name, const io::TensorMap& part) {
  for (const auto& [key, tensor] : part) state[name + "." + key] = tensor;
}

inline io::TensorMap part(const io::TensorMap& state, const std::string& name) {
  io::TensorMap found;
  for (const auto& [key, tensor] : state)
    if (key.starts_with(name + ".")) found[key.substr(name.size() + 1)] = tensor;
  return found;
}

// Merges the named part (metrics::Moments and the like); an incomplete one is a DataError.
template <class T>
void merge_part(T& into, const io::TensorMap& state, const std::string& name) {
  try {
    T theirs = T::from_state(part(state, name));
    if (into.count() == 0)
      into = std::move(theirs);  // nothing is computed, so a restored one goes on to the bit
    else into.merge(theirs);
  } catch (const std::invalid_argument& error) {
    throw DataError("evaluator state", name + ": " + error.what());
  }
}

// The end of a merge, of what was added one by one: `add` takes in the images of `state` that no
// network has seen, and the count goes on after the later of both. `take_waiting` is for our own
// such images.
template <class Add, class TakeWaiting>
void merge_waiting(const io::TensorMap& state, std::int64_t& next, const Add& add,
                   const TakeWaiting& take_waiting) {
  const auto mine = std::exchange(next, entry(state, "next").item<std::int64_t>());
  if (const auto waiting = state.find("waiting"); waiting != state.end()) add(waiting->second);
  if (next >= mine) return;
  take_waiting();
  next = mine;
}

}  // namespace dkdm
