#include "error_text.hpp"

#include <c10/util/Exception.h>
#include <cxxabi.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <new>
#include <system_error>
#include <typeinfo>

namespace dkdm {
namespace {

constexpr std::size_t kLongest = 1000;  // characters

// LibTorch's allocator says it among file names and error codes.
std::string out_of_memory(const std::string& text) {
  const std::string words = "you tried to allocate ";
  const auto at = text.find(words);
  if (at == std::string::npos) return "";
  const double bytes = std::strtod(text.c_str() + at + words.size(), nullptr);
  char size[64];
  if (bytes < double(1 << 30)) std::snprintf(size, sizeof size, "%.0f MB", bytes / 1e6);
  else std::snprintf(size, sizeof size, "%.1f GB", bytes / 1e9);
  return std::string("out of memory: ") + size + " could not be allocated";
}

// An accelerator's allocator says what was wanted and what was free, and then how its memory is
// divided and which of its own switches there are.
std::string device_out_of_memory(const std::string& text) {
  const auto wanted = text.find("Tried to allocate ");
  if (wanted == std::string::npos) return one_line(text);
  const std::string words = " is free.";
  const auto free = text.find(words, wanted);
  const auto end = free == std::string::npos ? text.find(". ", wanted) : free + words.size() - 1;
  return one_line("out of memory: tried to allocate " +
                  text.substr(wanted + 18, end == std::string::npos ? end : end - wanted - 18));
}

void cut_from(std::string& text, const char* words) {
  const auto at = text.find(words);
  if (at != std::string::npos && at > 0) text.resize(at);
}

// Removes from the opening to the closing words, both included.
void cut_out(std::string& text, const char* opening, const std::string& closing) {
  const auto begin = text.find(opening);
  if (begin == std::string::npos) return;
  const auto end = text.find(closing, begin);
  if (end != std::string::npos) text.erase(begin, end + closing.size() - begin);
}

std::string type_text(const std::type_info& type) {
  int status = 0;
  const std::unique_ptr<char, void (*)(void*)> name(
      abi::__cxa_demangle(type.name(), nullptr, nullptr, &status), &std::free);
  return status == 0 ? name.get() : type.name();
}

std::string file_text(const std::filesystem::filesystem_error& error) {
  std::string text = error.path1().string();
  if (!error.path2().empty()) text += " -> " + error.path2().string();
  return (text.empty() ? "" : text + ": ") + error.code().message();
}

}  // namespace

std::string one_line(const std::string& given) {
  std::string text = given;
  if (const auto memory = out_of_memory(text); !memory.empty()) return memory;
  cut_from(text, "Exception raised from ");
  cut_from(text, "frame #0: ");
  cut_from(text, "C++ CapturedTraceback:");
  cut_out(text, "(Could this error message be improved?", "PyTorch.)");
  cut_out(text, "[enforce fail at ", "] ");
  cut_out(text, "[json.exception.", "] ");
  std::string line;
  for (const char c : text) {
    const bool space = static_cast<unsigned char>(c) <= ' ';
    if (!space) line += c;
    else if (!line.empty() && line.back() != ' ') line += ' ';
  }
  while (!line.empty() && line.back() == ' ') line.pop_back();
  if (line.size() > kLongest) {
    line.resize(kLongest);
    while (!line.empty() && (static_cast<unsigned char>(line.back()) & 0xC0U) == 0x80U)
      line.pop_back();
    if (!line.empty() && static_cast<unsigned char>(line.back()) >= 0xC0U) line.pop_back();
    line += " …";
  }
  return line;
}

std::string error_text(const std::exception& error) {
  if (const auto* known = dynamic_cast<const Error*>(&error)) return one_line(known->what());
  if (const auto* memory = dynamic_cast<const c10::OutOfMemoryError*>(&error))
    return device_out_of_memory(memory->what_without_backtrace());
  if (const auto* torch = dynamic_cast<const c10::Error*>(&error))
    return one_line(torch->what_without_backtrace());
  if (dynamic_cast<const std::bad_alloc*>(&error)) return "out of memory";
  if (const auto* file = dynamic_cast<const std::filesystem::filesystem_error*>(&error))
    return file_text(*file);
  // Thrown by the standard library with nothing but a function's name, or by code that expected
  // otherwise.
  if (dynamic_cast<const std::logic_error*>(&error))
    return "unexpected " + type_text(typeid(error)) + ": " + one_line(error.what());
  const auto line = one_line(error.what());
  return line.empty() ? type_text(typeid(error)) : line;
}

std::string current_error_text() {
  try {
    throw;
  } catch (const std::exception& error) {
    return error_text(error);
  } catch (...) {
    const std::type_info* type = abi::__cxa_current_exception_type();
    return "threw something that is not a std::exception" +
           (type ? " (" + type_text(*type) + ")" : std::string());
  }
}

}  // namespace dkdm
