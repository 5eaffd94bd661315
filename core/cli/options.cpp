// Strict option parsing with suggestions.
#include "cli/options.hpp"

#include <iostream>

#include "cli/terminal.hpp"
#include "config/number.hpp"
#include "dkdm/nearest.hpp"
#include "dkdm/params.hpp"
#include "io/plain_text.hpp"

namespace dkdm::cli {

namespace po = boost::program_options;

Options::Options(std::string usage, std::string about)
    : usage_(std::move(usage)), about_(std::move(about)) {
  visible_.add_options()("help,h", "print this");
}

po::options_description_easy_init Options::add() { return visible_.add_options(); }

Options& Options::add_integer(const std::string& name, const std::string& value_name,
                              std::int64_t default_value, std::int64_t low, std::int64_t high,
                              const std::string& help) {
  integers_[name.substr(0, name.find(','))] = {low, high, default_value};
  add()(name.c_str(),
        po::value<std::string>()
            ->value_name(value_name)
            ->default_value(std::to_string(default_value)),
        help.c_str());
  return *this;
}

Options& Options::add_real(const std::string& name, const std::string& value_name,
                           double default_value, double low, double high, const std::string& help) {
  reals_[name.substr(0, name.find(','))] = {low, high, default_value};
  add()(name.c_str(),
        po::value<std::string>()
            ->value_name(value_name)
            ->default_value(results::shortest(default_value)),
        help.c_str());
  return *this;
}

void Options::read_numbers() {
  for (auto& [name, number] : integers_)
    number.value =
        config::whole_number(get<std::string>(name), "--" + name, number.low, number.high);
  for (auto& [name, number] : reals_)
    number.value =
        config::real_number(get<std::string>(name), "--" + name, number.low, number.high);
}

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

std::string Options::command() const {
  std::string text = "dkdm " + usage_.substr(0, usage_.find(' '));
  for (const auto& arg : args_) text += " " + io::shell_quoted(arg);
  return text;
}

bool Options::parse(const std::vector<std::string>& args) {
  args_ = args;
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
    misuse(usage_.substr(0, usage_.find(' ')) +
           (most_words_ == 0 ? ": takes options only" : ": too many arguments"));
  } catch (const po::error& error) {
    misuse(error.what());
  }
  if (has("help")) {
    std::cout << "usage: dkdm " << usage_ << "\n\n" << about_ << "\n\n" << visible_;
    return false;
  }
  read_numbers();
  if (with_format_) format_ = results::parse_format(get<std::string>("format"));
  return true;
}

void Options::print(const results::Table& table) const {
  const auto text = table.render(format_, stdout_has_colour(), stdout_columns());
  if (format_ == results::Format::text) std::cout << text;  // with its own colours, cleaned already
  else print_exactly(text);
}

std::vector<std::string> Options::words() const {
  return has("words") ? get<std::vector<std::string>>("words") : std::vector<std::string>{};
}

void Options::unknown(const std::string& command, const std::string& word,
                      const std::vector<std::string>& known, const std::string& forms) const {
  const std::string near = nearest_name(word, known);
  misuse(command + ": no '" + word + "'" +
         (near.empty() ? "; there are: " + forms : "; did you mean " + near + "?"));
}

bool is_run_number(const std::string& word) {
  return !word.empty() && word.find_first_not_of("0123456789") == std::string::npos;
}

std::int64_t run_number(const std::string& word) {
  return config::whole_number(word, "run number", 1, config::kLargestId);
}

}  // namespace dkdm::cli
