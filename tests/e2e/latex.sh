#!/usr/bin/env bash
# Typesets the report's LaTeX, as a paper would include it. Usage: latex.sh FOLDER (that report-samples
# made). Needs pdfTeX with booktabs (Debian: texlive-latex-recommended), which `./dkdm test` installs where it
# may: without it this test is skipped (exit code 77).
set -euo pipefail
cd -- "$1"
kpsewhich booktabs.sty >/dev/null 2>&1 && command -v pdflatex >/dev/null || {
  echo "skipped: no pdfTeX with booktabs here (Debian: apt-get install texlive-latex-recommended)"
  exit 77
}
for name in report hostile; do
  cat >"paper-$name.tex" <<TEX
\\documentclass{article}
\\usepackage{booktabs}
\\begin{document}
\\input{$name.tex}
\\end{document}
TEX
  if ! pdflatex -halt-on-error -interaction=nonstopmode "paper-$name.tex" >"$name.out" 2>&1; then
    grep -m 5 -A 4 '^!' "$name.out" || tail -n 20 "$name.out"
    echo "latex: $1/$name.tex does not compile"
    exit 1
  fi
  [[ -s paper-$name.pdf ]]
done
echo "latex: both compile"
