// The one line that a person reads of whatever was thrown. Every place that shows or records an
// error of unknown origin takes it from here: std::exception::what() of LibTorch's errors holds a
// backtrace, that of the standard library the name of a function ("stoll").
#pragma once

#include <exception>
#include <string>

#include "dkdm/error.hpp"

namespace dkdm {

DKDM_API std::string error_text(const std::exception& error);

// Of the exception that is being handled, of any type: within a catch block only.
DKDM_API std::string current_error_text();

// `text` in one line without backtraces, of bounded length: for messages that come as text.
DKDM_API std::string one_line(const std::string& text);

}  // namespace dkdm
