// Questions to the database and their SQL: one or more for each view.
#pragma once

#include <string>
#include <vector>

#include "results/text/table.hpp"

namespace dkdm::results {

struct QueryExample {
  std::string view;      // or table
  std::string question;  // what it answers, a sentence
  std::string sql;       // one line
};

const std::vector<QueryExample>& query_examples();

// The same as a listing: view, question, query.
Table examples_table();

}  // namespace dkdm::results
