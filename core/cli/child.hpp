// A piece of work in a process of its own, so that a crash in it (a plugin's, as a rule) ends
// nothing else and can be told of.
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

namespace dkdm::cli {

struct ChildEnd {
  int exit_code = 0;             // where it ended by itself
  int signal = 0;                // that ended it, 0 = none
  bool returned = false;         // the work came to its end, by an error or without
  bool stopped = false;          // it was stopped (SIGSTOP) and not continued: it was ended
  std::filesystem::path module;  // the plugin's file whose code it died in, "" = not known
  std::string plugin, stage;     // of the call that it died in, "" = not known
  bool crashed() const { return signal != 0; }
};

// "segmentation fault (signal 11)", with the likely cause where one is likely; for a child that
// ended by itself and should not have, "it ended its process (exit code 0)".
std::string crash_text(const ChildEnd& end);

// One line for a child that did not return: the plugin that was called and where, how it ended, and
// what helps.
std::string death_text(const ChildEnd& end);

using SendLine = std::function<void(const std::string& line)>;

// Forks; `work` runs in the child, what it returns is the exit code. What it passes to `say`, a
// line at a time, `heard` gets here, until the child has ended. An error that `work` throws is its
// exit code and a line on the child's stderr, as in main. The first Ctrl-C or SIGTERM of this
// process raises stop_requested in the child too; the second ends both. A child that is stopped
// while this process runs is named, and ended after plugin::probe_seconds(). `plugins`: files to
// look for in a crash's stack.
//
// Threads do not survive a fork: this process must not have computed with LibTorch.
ChildEnd in_child(const std::function<int(const SendLine& say)>& work,
                  const std::function<void(const std::string& line)>& heard,
                  const std::vector<std::filesystem::path>& plugins);

}  // namespace dkdm::cli
