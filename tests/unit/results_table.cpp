// Tables in every format.
#include <algorithm>
#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>
#include <sstream>

#include "dkdm/error.hpp"
#include "results/text/table.hpp"

using namespace dkdm::results;

namespace {

Table sample() {
  Table table{"Two rows", {{"Method"}, {"FID ↓", Align::right, true}}, {}};
  table.rows.push_back({"dynamic", "9.56"});
  table.rows.push_back({"a|b, \"c\"", Cell()});
  table.rows[0][1].strong = true;
  return table;
}

}  // namespace

TEST_CASE("table: text is aligned by what a terminal shows", "[unit][results]") {
  CHECK(sample().render(Format::text) ==
        "Two rows\n"
        "Method    FID ↓\n"
        "───────────────\n"
        "dynamic    9.56\n"
        "a|b, \"c\"\n");
}

TEST_CASE("table: markdown escapes what would break a cell and marks strong cells",
          "[unit][results]") {
  CHECK(sample().render(Format::markdown) ==
        "### Two rows\n\n"
        "| Method    |    FID ↓ |\n"
        "| --------- | -------: |\n"
        "| dynamic   | **9.56** |\n"
        "| a\\|b, \"c\" |          |\n");
  Table hostile{"", {{"x"}}, {{"<script>&`"}}};
  CHECK(hostile.render(Format::markdown) ==
        "| x                  |\n| ------------------ |\n| &lt;script>&amp;\\` |\n");
}

TEST_CASE("table: csv quotes as RFC 4180 says", "[unit][results]") {
  Table table{"", {{"a"}, {"b"}}, {{"x,y", "say \"hi\""}, {"two\nlines", Cell()}}};
  CHECK(table.render(Format::csv) == "a,b\r\n\"x,y\",\"say \"\"hi\"\"\"\r\n\"two\nlines\",\r\n");
}

TEST_CASE("table: json has numbers, null and valid text for any bytes", "[unit][results]") {
  const auto json = nlohmann::json::parse(sample().render(Format::json));
  REQUIRE(json.size() == 2);
  CHECK(json[0]["FID ↓"] == 9.56);
  CHECK(json[1]["FID ↓"].is_null());
  CHECK(json[1]["Method"] == "a|b, \"c\"");
  Table broken{"", {{"x"}}, {{"bad \xff byte"}}};
  CHECK(nlohmann::json::parse(broken.render(Format::json))[0]["x"] == "bad \xef\xbf\xbd byte");
}

TEST_CASE("table: programs get the raw value where a person gets a readable one",
          "[unit][results]") {
  Table table{"", {{"seconds", Align::right, true}}, {{"2:00"}}};
  table.rows[0][0].raw = "120.25";
  CHECK(table.render(Format::text) == "seconds\n───────\n   2:00\n");
  CHECK(table.render(Format::csv) == "seconds\r\n120.25\r\n");
  CHECK(nlohmann::json::parse(table.render(Format::json))[0]["seconds"] == 120.25);
}

TEST_CASE("table: text from outside cannot drive the terminal", "[unit][results]") {
  Table table{"", {{"x"}}, {{"red \x1b[31m\nnext \xff"}}};
  const auto text = table.render(Format::text);
  CHECK(text.find('\x1b') == std::string::npos);
  CHECK(text.find("red \\x1b[31m next \xef\xbf\xbd\n") != std::string::npos);
  // Trojan Source (CVE-2021-42574): overrides of the writing direction are shown, not obeyed.
  CHECK(terminal_text("a\xe2\x80\xae"
                      "b") == "a\\u202eb");
}

TEST_CASE("table: colours mark strong and faulty cells without moving a column",
          "[unit][results]") {
  auto table = sample();
  table.rows[1][1] = "failed";
  table.rows[1][1].fault = true;
  CHECK(table.render(Format::text, true) ==
        "\x1b[1mTwo rows\x1b[0m\n"
        "Method     FID ↓\n"
        "────────────────\n"
        "dynamic     \x1b[1m9.56\x1b[0m\n"
        "a|b, \"c\"  \x1b[31mfailed\x1b[0m\n");
  CHECK(table.render(Format::markdown, true) == table.render(Format::markdown));
}

TEST_CASE("table: a text is shortened by columns, between characters", "[unit][results]") {
  CHECK(shortened("exact", 5) == "exact");
  CHECK(shortened("longer", 5) == "long…");
  CHECK(shortened("漢字漢字", 5) == "漢字…");
  CHECK(shortened("漢字漢字", 4) == "漢…");  // half a wide character is none
}

TEST_CASE("table: long cells are broken where the table then fits the terminal",
          "[unit][results]") {
  Table table{
      "",
      {{"what"}, {"n", Align::right}, {"value"}},
      {{"network", "1", "levels of 32 and 64 channels, attention at half"}, {"x", "22", "y"}}};
  CHECK(table.render(Format::text, false, 34) ==
        "what      n  value\n"
        "──────────────────────────────────\n"
        "network   1  levels of 32 and 64\n"
        "             channels, attention\n"
        "             at half\n"
        "x        22  y\n");
  // Wide enough: one line a row, as in a file.
  CHECK(table.render(Format::text, false, 80) == table.render(Format::text));
  CHECK(table.render(Format::csv, false, 34) == table.render(Format::csv));
}

TEST_CASE(
    "table: none is wider than the terminal, no number is broken, and what is left out is named",
    "[unit][results]") {
  Table table{"A title that is longer than the narrowest of these terminals is wide",
              {{"Method"},
               {"FID@512 ↓", Align::right},
               {"paper FID", Align::right},
               {"train_seconds", Align::right},
               {"key"},
               {"note"}},
              {}};
  table.rows.push_back({"Shuffled iterative distillation", "10.02 ± 0.31", "12.06", "1772361234.5",
                        std::string(64, 'a'), "between 123456789 and 1.5e-05"});
  table.rows.push_back({"Teacher", "5.67", "—", "204", std::string(64, 'b'), ""});
  const std::string whole = table.render(Format::text);
  for (int columns = 20; columns <= 200; ++columns) {
    const auto text = table.render(Format::text, false, columns);
    INFO(columns << "\n" << text);
    std::istringstream lines(text);
    int widest = 0;
    for (std::string line; std::getline(lines, line);)
      widest = std::max(widest, display_width(line));
    CHECK(widest <= columns);
    const bool all = text.find("No room for") == std::string::npos;
    if (text.find("10.02") != std::string::npos)
      CHECK(text.find("10.02 ± 0.31") != std::string::npos);
    if (all) {
      for (const char* number : {"10.02 ± 0.31", "12.06", "1772361234.5", "123456789", "1.5e-05"})
        CHECK(text.find(number) != std::string::npos);
    } else {
      CHECK(text.find("note") != std::string::npos);  // the last column goes first, and is named
    }
  }
  CHECK(table.render(Format::text, false, 20).find("No room for") != std::string::npos);
  CHECK(table.render(Format::text, false, 400) == whole);
}

TEST_CASE("table: titles of numbers are broken at spaces and underscores, above their rule",
          "[unit][results]") {
  Table table{"",
              {{"row"}, {"published_fid", Align::right}, {"train seconds", Align::right}},
              {{"dynamic", "9.56", "67"}}};
  CHECK(table.render(Format::text, false, 28) ==
        "         published_    train\n"
        "row             fid  seconds\n"
        "────────────────────────────\n"
        "dynamic        9.56       67\n");
}

TEST_CASE("table: text is wrapped at spaces, within words that are longer than a line",
          "[unit][results]") {
  using Lines = std::vector<std::string>;
  CHECK(wrapped("", 5) == Lines{""});
  CHECK(wrapped("exact", 5) == Lines{"exact"});
  CHECK(wrapped("two words", 5) == Lines{"two", "words"});
  CHECK(wrapped("three words", 5) == Lines{"three", "words"});
  CHECK(wrapped("0123456789ab cd", 5) == Lines{"01234", "56789", "ab cd"});
  CHECK(wrapped("漢字漢字", 5) == Lines{"漢字", "漢字"});
  CHECK(wrapped("漢字", 1) == Lines{"漢", "字"});
}

TEST_CASE("table: an unknown format is refused with those there are", "[unit][results]") {
  CHECK(parse_format("md") == Format::markdown);
  CHECK_THROWS_AS(parse_format("xml"), dkdm::ConfigError);
  CHECK_THROWS_WITH(parse_format("xml"),
                    Catch::Contains("'xml'") && Catch::Contains("text, markdown, csv, json"));
}

TEST_CASE("table: width counts arrows once, wide characters twice, combining ones not",
          "[unit][results]") {
  CHECK(display_width("FID ↓") == 5);
  CHECK(display_width("1.0 ± 0.2") == 9);
  CHECK(display_width("漢字") == 4);       // East Asian Width W (Unicode annex 11)
  CHECK(display_width("e\xcc\x81") == 1);  // e with combining acute
  CHECK(display_width("\xff\xfe") == 2);   // two broken bytes
}

TEST_CASE("table: malformed UTF-8 is replaced byte by byte", "[unit][results]") {
  const std::string mark = "\xef\xbf\xbd";
  CHECK(valid_utf8("ρ 漢 \xf0\x9f\x92\xa5") == "ρ 漢 \xf0\x9f\x92\xa5");
  CHECK(valid_utf8("a\xff\xfe"
                   "b") == "a" + mark + mark + "b");
  // RFC 3629, sections 3 and 10: an overlong slash, a surrogate, a code beyond U+10FFFF, a cut end.
  CHECK(valid_utf8("\xc0\xaf") == mark + mark);
  CHECK(valid_utf8("\xe0\x80\xaf") == mark + mark + mark);
  CHECK(valid_utf8("\xed\xa0\x80") == mark + mark + mark);
  CHECK(valid_utf8("\xf4\x90\x80\x80") == mark + mark + mark + mark);
  CHECK(valid_utf8("\xe6\xbc") == mark + mark);
}

TEST_CASE("table: a name for a file stays within its folder", "[unit][results]") {
  CHECK(plain_name("table2-cifar10_v1.5") == "table2-cifar10_v1.5");
  CHECK(plain_name("../../etc/passwd") == "_.._.._etc_passwd");
  CHECK(plain_name("") == "_");
  CHECK(plain_name("-o rm") == "_-o_rm");
  CHECK(plain_name(std::string(500, 'W')).size() <= 100);
}

TEST_CASE("table: numbers read as a person writes them", "[unit][results]") {
  CHECK(shortest(0.1) == "0.1");
  CHECK(fixed(2.345678, 2) == "2.35");
  CHECK(count_text(350'000) == "0.35 M");
  CHECK(count_text(57'210'000) == "57.2 M");
  CHECK(count_text(999) == "999");
  CHECK(duration_text(4.25) == "4.2 s");
  CHECK(duration_text(3849) == "1:04:09");
  CHECK(duration_text(59) == "59 s");
}
