// The report as LaTeX: booktabs, and text that pdfTeX typesets whatever a label holds.
#include <array>
#include <cstdio>
#include <map>

#include "results/report/report_data.hpp"

namespace dkdm::results {
namespace {

// Characters that mean something to TeX or that its fonts keep elsewhere. "[" and "*" would be read
// as arguments of the "\\" of the line before.
const std::map<char32_t, const char*>& symbols() {
  static const std::map<char32_t, const char*> kSymbols = {{U'\\', "\\textbackslash{}"},
                                                           {U'~', "\\textasciitilde{}"},
                                                           {U'^', "\\textasciicircum{}"},
                                                           {U'&', "\\&"},
                                                           {U'%', "\\%"},
                                                           {U'$', "\\$"},
                                                           {U'#', "\\#"},
                                                           {U'_', "\\_"},
                                                           {U'{', "\\{"},
                                                           {U'}', "\\}"},
                                                           {U'<', "\\textless{}"},
                                                           {U'>', "\\textgreater{}"},
                                                           {U'|', "\\textbar{}"},
                                                           {U'"', "''"},
                                                           {U'[', "{[}"},
                                                           {U']', "{]}"},
                                                           {U'*', "{*}"},
                                                           {U'↑', "$\\uparrow$"},
                                                           {U'↓', "$\\downarrow$"},
                                                           {U'±', "$\\pm$"},
                                                           {U'×', "$\\times$"},
                                                           {U'−', "$-$"},
                                                           {U'Δ', "$\\Delta$"},
                                                           {U'ρ', "$\\rho$"},
                                                           {U'λ', "$\\lambda$"},
                                                           {U'–', "--"},
                                                           {U'—', "---"},
                                                           {U'…', "\\dots{}"},
                                                           {0xfffd, "?"}};
  return kSymbols;
}

// Of Latin-1's letters those that every font encoding of TeX has.
bool is_latin_letter(char32_t code) {
  return code >= 0xc0 && code <= 0xff && code != 0xd0 && code != 0xd7 && code != 0xde &&
         code != 0xf0 && code != 0xf7 && code != 0xfe;
}

std::string latex_escaped(const std::string& text) {
  std::string out;
  for (std::size_t i = 0; i < text.size();) {
    const auto start = i;
    const auto code = next_code_point(text, i);
    const auto symbol = symbols().find(code);
    if (symbol != symbols().end()) {
      out += symbol->second;
    } else if (code < 0x20 || code == 0x7f) {
      out += ' ';
    } else if (code == '-' && i < text.size() && text[i] == '-') {
      out += "-{}";  // two would join to a dash
    } else if (code < 0x7f || is_latin_letter(code)) {
      out += text.substr(start, i - start);
    } else {
      std::array<char, 12> name{};
      std::snprintf(name.data(), name.size(), "U+%04X", static_cast<unsigned>(code));
      out += name.data();
    }
  }
  return out;
}

std::string tabular(const Table& table) {
  std::string shape, out;
  const auto add_row = [&](const auto& cells) {
    std::string line;
    for (const auto& cell : cells) line += (&cell == &cells.front() ? "" : " & ") + cell;
    out += line + " \\\\\n";
  };
  std::vector<std::string> header;
  for (const auto& column : table.columns) {
    shape += column.align == Align::left ? 'l' : 'r';
    header.push_back(latex_escaped(column.title));
  }
  add_row(header);
  out += "\\midrule\n";
  for (const auto& row : table.rows) {
    std::vector<std::string> cells;
    for (const auto& cell : row) {
      const auto text = latex_escaped(cell.text.value_or(""));
      cells.push_back(cell.strong ? "\\textbf{" + text + "}" : text);
    }
    add_row(cells);
  }
  return "\\begin{tabular}{" + shape + "}\n\\toprule\n" + out + "\\bottomrule\n\\end{tabular}\n";
}

}  // namespace

std::string render_latex(const std::vector<Sheet>& sheets) {
  std::string out = "% needs \\usepackage{booktabs}\n";
  for (const auto& [table, notes] : sheets) {
    out += "\\begin{table}\n\\centering\n\\caption{" + latex_escaped(table.title) + "}\n" +
           tabular(table);
    for (const auto& note : notes) {
      out += "\n\\smallskip\\footnotesize " + latex_escaped(note) + "\n";
    }
    out += "\\end{table}\n";
  }
  return out;
}

}  // namespace dkdm::results
