// Figures for papers, drawn by gnuplot.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "results/report/report.hpp"

namespace dkdm::results {

// Writes into `folder` (made where missing), for each table of the experiments, what it has points
// for: NAME-figure4a (FID by training step and method), NAME-figure4b (and rho),
// NAME-teacher-evaluations, NAME-loss, and NAME-bars-METRIC, each as .svg and .pdf, with the .gp
// script and the .dat values that made it, for an author to change. NAME is the experiment's, with
// "-2", … for its further tables. Returns the figures' paths, sorted. Throws Error with exit code 3
// when gnuplot is not installed, Error with gnuplot's words when it fails, ConfigError and
// StoreError as `report` does.
std::vector<std::filesystem::path> write_plots(const std::filesystem::path& file,
                                               const std::vector<std::string>& experiments,
                                               const ReportChoice& choice,
                                               const std::filesystem::path& folder);

}  // namespace dkdm::results
