// What a dry run cuts down, and its look at true batches without memory.
#include "run/rehearsal.hpp"

#include <catch2/catch.hpp>

#include "fixtures/analytic.hpp"

using namespace dkdm;
namespace fs = std::filesystem;

namespace {

const plugin::Registry& registry() { return fixtures::shipped_plugins(); }

}  // namespace

TEST_CASE("rehearsal: every shipped student takes a paper's batch by its shapes", "[unit][run]") {
  int students = 0;
  for (const auto& info : registry().plugins()) {
    if (info.kind != "student") continue;
    ++students;
    INFO(info.name);
    // 2500 images of 3x32x32 through a UNet would take 20 GB and minutes.
    const auto checked =
        run::check_batch({info.kind, info.name, info.version, Params(info.params, {}, info.name)},
                         {{3, 32, 32}, DiffusionConfig()}, 2500, registry());
    CHECK(checked.possible);
    CHECK(checked.message.empty());
  }
  CHECK(students >= 6);
}

TEST_CASE("rehearsal: steps, batches and sets are cut; networks, sizes and chains are not",
          "[unit][run]") {
  const fs::path shipped = fs::path(DKDM_SOURCE_DIR) / "experiments";
  const auto whole =
      config::load_experiment({shipped / "paper/table5.toml", {}, shipped}, registry());
  const auto cut = run::cut_down(whole);
  REQUIRE(cut.rows.size() == whole.rows.size());
  for (std::size_t i = 0; i < cut.rows.size(); ++i) {
    const auto &row = cut.rows[i], &was = whole.rows[i];
    INFO(row.id);
    CHECK(row.diffusion == was.diffusion);
    CHECK(row.sample.text("respacing") == was.sample.text("respacing"));
    CHECK(row.sample.integer("count") == 8);
    CHECK(row.synthetic.text("respacing") == was.synthetic.text("respacing"));
    CHECK(row.synthetic.integer("count") == 32);
    CHECK(row.evaluate.integer("every") == 1);
    for (const auto& [now, before] : {std::pair(&row.training, &was.training),
                                      {&row.teacher->training, &was.teacher->training}}) {
      REQUIRE(now->has_value() == before->has_value());
      if (!now->has_value()) continue;
      CHECK((*now)->train.integer("steps") == 2);
      CHECK((*now)->train.integer("batch") == 2);
      CHECK((*now)->train.real("lr") == (*before)->train.real("lr"));
      CHECK((*now)->student.params.canonical() == (*before)->student.params.canonical());
      CHECK((*now)->method.params.canonical() == (*before)->method.params.canonical());
    }
  }
}
