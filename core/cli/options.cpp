// Strict option parsing with suggestions.
#include "cli/options.hpp"

#include <iostream>

#include "cli/terminal.hpp"
#include "dkdm/params.hpp"

namespace dkdm::cli {

namespace po = boost::program_options;

Options::Options(std::string usage, std::string about)
    : usage_(std::move(usage)), about_(std::move(about)) {
  visible_.add_options()("help,h", "print this");
}

po::options_description_easy_init Options::add() { return visible_.add_options(); }

Options& Options::with_format() {
  with_format_ = true;
  visible_.add_options()("format", po::value<std::string>()->default_value("text"),
                         "text, markdown, csv or json");
  return *this;
}

Options& Options::with_words(int most) {
  most_words_ = most;
  return *this;
}

void Options::misuse(const std::string& message) const {
  throw ConfigError(message + " (help: dkdm " + usage_.substr(0, usage_.find(' ')) + " --help)");
}

bool Options::parse(const std::vector<std::string>& args) {
  po::options_description all, hidden;
  hidden.add_options()("words", po::value<std::vector<std::string>>());
  all.add(visible_).add(hidden);
  po::positional_options_description positions;
  if (most_words_ != 0) positions.add("words", most_words_);

  try {
    // No guessing: an abbreviation that works today would break when an option is added.
    const int style = po::command_line_style::unix_style & ~po::command_line_style::allow_guessing;
    po::store(po::command_line_parser(args).options(all).positional(positions).style(style).run(),
              values_);
    po::notify(values_);
  } catch (const po::unknown_option& error) {
    std::vector<std::string> names;
    for (const auto& option : visible_.options()) names.push_back("--" + option->long_name());
    const std::string wrong = error.get_option_name();
    const std::string near = nearest_name(wrong, names);
    misuse("unknown option " + wrong + (near.empty() ? "" : "; did you mean " + near + "?"));
  } catch (const po::too_many_positional_options_error&) {
    misuse(most_words_ == 0 ? "takes options only" : "too many arguments");
  } catch (const po::error& error) {
    misuse(error.what());
  }
  if (has("help")) {
    std::cout << "usage: dkdm " << usage_ << "\n\n" << about_ << "\n\n" << visible_;
    return false;
  }
  if (with_format_) format_ = results::parse_format(get<std::string>("format"));
  return true;
}

void Options::print(const results::Table& table) const {
  std::cout << table.render(format_, stdout_has_colour(), stdout_columns());
}

std::vector<std::string> Options::words() const {
  return has("words") ? get<std::vector<std::string>>("words") : std::vector<std::string>{};
}

std::string shell_quoted(const std::string& argument) {
  const bool plain = argument.find_first_of(" '\"\\$*?;&|<>()") == std::string::npos;
  if (plain && !argument.empty()) return argument;
  std::string quoted = "'";
  for (const char c : argument) quoted += c == '\'' ? std::string(R"('\'')") : std::string(1, c);
  return quoted + "'";
}

}  // namespace dkdm::cli
