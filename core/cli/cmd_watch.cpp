// dkdm watch: what a store is at work on, as it goes.
#include <poll.h>
#include <signal.h>
#include <termios.h>
#include <unistd.h>

#include <algorithm>
#include <iostream>
#include <sstream>

#include "cli/commands.hpp"
#include "cli/options.hpp"
#include "cli/terminal.hpp"
#include "record/progress_file.hpp"
#include "results/query/watch.hpp"

namespace dkdm::cli {
namespace {

namespace fs = std::filesystem;

volatile sig_atomic_t leaving = 0;

// The terminal's other screen without a cursor, keys without Enter; as it was when this object
// ends.
class OtherScreen {
 public:
  OtherScreen() {
    struct sigaction quietly{};
    quietly.sa_handler = [](int) { leaving = 1; };
    sigemptyset(&quietly.sa_mask);
    for (const int signal : {SIGINT, SIGTERM, SIGHUP}) sigaction(signal, &quietly, nullptr);
    keys_ = ::isatty(STDIN_FILENO) != 0 && ::tcgetattr(STDIN_FILENO, &before_) == 0;
    if (keys_) {
      termios raw = before_;
      raw.c_lflag &= ~static_cast<tcflag_t>(ICANON | ECHO);
      ::tcsetattr(STDIN_FILENO, TCSANOW, &raw);
    }
    std::cout << "\x1b[?1049h\x1b[?25l" << std::flush;
  }
  ~OtherScreen() {
    std::cout << "\x1b[?25h\x1b[?1049l" << std::flush;
    if (keys_) ::tcsetattr(STDIN_FILENO, TCSANOW, &before_);
  }
  OtherScreen(const OtherScreen&) = delete;
  OtherScreen& operator=(const OtherScreen&) = delete;

  // Overwrites what is there, so that nothing flickers; what is more than fits is left out below.
  static void show(const std::string& text) {
    const int rows = std::max(2, stdout_rows());
    std::istringstream lines(text);
    std::string out = "\x1b[H";
    int row = 0;
    for (std::string line; row < rows - 1 && std::getline(lines, line); ++row)
      out += line + "\x1b[K\n";
    std::cout << out << "\x1b[J" << std::flush;
  }

  // Waits; true when somebody wants to leave.
  bool wait(int milliseconds) const {
    pollfd input{keys_ ? STDIN_FILENO : -1, POLLIN, 0};
    const int ready = ::poll(&input, 1, milliseconds);
    if (leaving != 0) return true;
    char key = 0;
    if (ready <= 0 || ::read(STDIN_FILENO, &key, 1) != 1) return ready > 0;  // input has ended
    return key == 'q' || key == 'Q';
  }

 private:
  termios before_{};
  bool keys_ = false;
};

results::Watched look(const Context& context, std::size_t ended) {
  return results::look(context.database(),
                       record::read_progress(record::progress_folder(context.home())), ended);
}

results::WatchStyle style() { return {stdout_columns(), stdout_is_utf8(), stdout_has_colour()}; }

}  // namespace

int cmd_watch(const Arguments& args, Context& context) {
  Options options(
      "watch [--once] [options]",
      "Shows what is running in this store ($DKDM_HOME), in whichever process: stage, rate, time left and\n"
      "the curves of its training; which processes are gone; and what ended last. Reads only: nothing\n"
      "that runs is disturbed. Leave with q or Ctrl-C. Runs of other hosts are shown as far as they can\n"
      "be seen from here. Where stdout is no terminal, and with --format, it prints once and ends.");
  options.add()("once", "print once and end");
  options.add_integer("interval", "S", 2, 1, 3600, "seconds between two looks")
      .add_integer("recent", "N", 8, 0, 1000, "runs that ended, the last first");
  options.with_format();
  if (!options.parse(args)) return 0;
  const auto recent = static_cast<std::size_t>(options.integer("recent"));
  if (options.format() != results::Format::text) {
    context.recorded_database();
    options.print(results::watch_table(look(context, recent)));
    return 0;
  }
  if (options.has("once") || ::isatty(STDOUT_FILENO) == 0) {
    context.recorded_database();
    std::cout << results::watch_text(look(context, recent), style());
    return 0;
  }

  OtherScreen screen;
  do {
    std::string text;
    try {
      std::error_code absent;
      text = fs::exists(context.database(), absent)
                 ? results::watch_text(look(context, recent), style())
                 : context.database().string() + ": no results yet; waiting for the first run\n";
    } catch (const Error& error) {
      text = std::string(error.what()) + "\n";  // a moment later it may be readable again
    }
    OtherScreen::show(text + "\nq: quit\n");
  } while (!screen.wait(1000 * static_cast<int>(options.integer("interval"))));
  return 0;
}

}  // namespace dkdm::cli
