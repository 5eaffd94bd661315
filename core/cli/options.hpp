// A command's options over Boost.ProgramOptions: help, strict parsing, errors that name the nearest
// known option.
#pragma once

#include <boost/program_options.hpp>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "results/text/table.hpp"

namespace dkdm::cli {

class Options {
 public:
  // `usage` follows "usage: dkdm "; `about` is a sentence or more below it.
  Options(std::string usage, std::string about);

  // Declares options as Boost does: options.add()("name,n", po::value<int>(), "help").
  boost::program_options::options_description_easy_init add();
  // Declares an option that is a number, with its range; `name` as Boost takes it ("count,n"). Read
  // with integer() and real(); parse() refuses anything else, naming the option and the range.
  Options& add_integer(const std::string& name, const std::string& value_name,
                       std::int64_t default_value, std::int64_t low, std::int64_t high,
                       const std::string& help);
  Options& add_real(const std::string& name, const std::string& value_name, double default_value,
                    double low, double high, const std::string& help);
  // Adds --format (text by default) for a listing.
  Options& with_format();
  // Positional arguments, at most `most` (-1 = any number). Read with `words`.
  Options& with_words(int most);

  // False when --help was asked for and printed. Throws ConfigError.
  bool parse(const std::vector<std::string>& args);

  bool has(const std::string& name) const { return values_.count(name) > 0; }
  template <class T>
  const T& get(const std::string& name) const {
    return values_[name].as<T>();
  }
  std::int64_t integer(const std::string& name) const { return integers_.at(name).value; }
  double real(const std::string& name) const { return reals_.at(name).value; }
  std::vector<std::string> words() const;
  // The command as it was typed, for a shell: "dkdm run t.toml --set train.steps=5".
  std::string command() const;
  // Of a listing: `with_format`.
  results::Format format() const { return format_; }
  void print(const results::Table& table) const;

  // What a wrong use throws: the message, and where help is.
  [[noreturn]] void misuse(const std::string& message) const;
  // The same for a word that is none of `known`: "COMMAND: no 'wrod'; did you mean word?", or the
  // list of what there is, as `forms` shows it.
  [[noreturn]] void unknown(const std::string& command, const std::string& word,
                            const std::vector<std::string>& known, const std::string& forms) const;

 private:
  template <class T>
  struct Number {
    T low, high, value;
  };
  void read_numbers();

  std::string usage_, about_;
  boost::program_options::options_description visible_{"options"};
  std::vector<std::string> args_;
  int most_words_ = 0;
  bool with_format_ = false;
  boost::program_options::variables_map values_;
  std::map<std::string, Number<std::int64_t>> integers_;
  std::map<std::string, Number<double>> reals_;
  results::Format format_{};
};

// The number of a recorded run as a person types it. Throws ConfigError.
std::int64_t run_number(const std::string& word);
// Whether a word can only be meant as the number of a run: digits alone.
bool is_run_number(const std::string& word);

}  // namespace dkdm::cli
