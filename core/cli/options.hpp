// A command's options over Boost.ProgramOptions: help, strict parsing, errors that name the nearest
// known option.
#pragma once

#include <boost/program_options.hpp>

#include <string>
#include <vector>

#include "results/table.hpp"

namespace dkdm::cli {

class Options {
 public:
  // `usage` follows "usage: dkdm "; `about` is a sentence or more below it.
  Options(std::string usage, std::string about);

  // Declares options as Boost does: options.add()("name,n", po::value<int>(), "help").
  boost::program_options::options_description_easy_init add();
  // Adds --format (text by default) for a listing.
  Options& with_format();
  // Words that are no options, at most `most` (-1 = any number). Read with `words`.
  Options& with_words(int most);

  // False when --help was asked for and printed. Throws ConfigError.
  bool parse(const std::vector<std::string>& args);

  bool has(const std::string& name) const { return values_.count(name) > 0; }
  template <class T>
  const T& get(const std::string& name) const {
    return values_[name].as<T>();
  }
  std::vector<std::string> words() const;
  // Of a listing: `with_format`.
  results::Format format() const { return format_; }
  void print(const results::Table& table) const;

  // What a wrong use throws: the message, and where help is.
  [[noreturn]] void misuse(const std::string& message) const;

 private:
  std::string usage_, about_;
  boost::program_options::options_description visible_{"options"};
  int most_words_ = 0;
  bool with_format_ = false;
  boost::program_options::variables_map values_;
  results::Format format_{};
};

// An argument as a shell takes it.
std::string shell_quoted(const std::string& argument);

}  // namespace dkdm::cli
