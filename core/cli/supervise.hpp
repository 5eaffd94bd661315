// Commands that call plugins run in a child process: whatever ends that process (a crash, exit(0)
// in a constructor, a process that is killed for memory) is one line that names the plugin and an
// exit code that is not 0, and the run that was under way is recorded as failed.
#pragma once

#include <functional>

#include "cli/child.hpp"

namespace dkdm::cli {

// The exit code of `command`, run in a child; in this process where there is none to be had, and
// under a debugger, which would lose it. Throws Interrupted when it was.
int supervised(const std::function<int()>& command);

// Where this process tells its supervisor what it is at (ForwardingRecorder); null where it has
// none.
const SendLine* supervisor();

}  // namespace dkdm::cli
