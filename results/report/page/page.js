// The page's charts become interactive, and a link into a closed section opens it. Without this script
// the page shows the same charts as drawings and tables.
(() => {
  "use strict";
  const charts = JSON.parse(document.getElementById("charts").textContent);
  const styles = getComputedStyle(document.documentElement);
  const colour = (name) => styles.getPropertyValue("--" + name).trim();
  const shapes = ["circle", "rectRot", "triangle", "rect", "star", "crossRot", "rectRounded", "cross"];
  const kColours = 8;
  const drawn = [];

  // Ticks: 1, 2 and 5 of each power of ten where the scale is logarithmic; whole numbers of steps.
  const step = (value) => (Number.isInteger(value) && value >= 0 ? tick(false)(value) : "");
  const tick = (logarithmic) => (value) => {
    const lead = Math.round(value / 10 ** Math.floor(Math.log10(value)) * 1e6) / 1e6;
    if (logarithmic && ![1, 2, 5].includes(lead)) return "";
    return value.toLocaleString("en", { notation: "compact", maximumFractionDigits: 6 });
  };
  const number = (value) => Number(value.toPrecision(4)).toLocaleString("en", { maximumFractionDigits: 6 });

  // A vertical bar of one standard deviation on either side of each mean over seeds.
  const spreads = {
    id: "spreads",
    afterDatasetsDraw(chart) {
      const { ctx, scales } = chart;
      chart.data.datasets.forEach((dataset, index) => {
        if (!chart.isDatasetVisible(index)) return;
        ctx.save();
        ctx.strokeStyle = dataset.borderColor;
        for (const point of dataset.data) {
          if (!point.spread) continue;
          const x = scales.x.getPixelForValue(point.x);
          ctx.beginPath();
          ctx.moveTo(x, scales.y.getPixelForValue(point.y - point.spread));
          ctx.lineTo(x, scales.y.getPixelForValue(point.y + point.spread));
          ctx.stroke();
        }
        ctx.restore();
      });
    },
  };

  const dataset = (series, range) => {
    const points = series.points.map(([x, y, spread, count]) => ({ x, y, spread, count }));
    const [first] = points;
    const ends = series.level ? range.slice(0, 2).map((x) => ({ x, y: first.y, count: first.count })) : [];
    return {
      label: series.label,
      data: series.level ? ends : points,
      level: series.level,
      colour: series.colour,
      showLine: true,
      borderWidth: 2,
      borderDash: series.level ? [8, 4] : series.colour >= kColours ? [6, 3] : [],
      pointStyle: shapes[series.colour % shapes.length],
      pointRadius: series.level || points.length > 40 ? 0 : 5,
      pointHitRadius: 8,
    };
  };

  const described = (item) => {
    const { x, y, spread, count } = item.raw;
    const value = number(y) + (spread ? ` ± ${number(spread)} (${count} seeds)` : "");
    return item.dataset.level ? `${item.dataset.label}: ${value}`
                              : `${item.dataset.label}: ${value} at ${number(x)}`;
  };

  // A curve's line and mark, so that colour is not the only thing that tells it from others.
  const kKey = { width: 24, height: 14, radius: 5 };
  const paintKey = (key, set) => {
    const { width, height, radius } = kKey, middle = [width / 2, height / 2];
    const ctx = key.getContext("2d");
    ctx.setTransform(key.width / width, 0, 0, key.height / height, 0, 0);
    ctx.clearRect(0, 0, width, height);
    ctx.strokeStyle = ctx.fillStyle = set.borderColor;
    ctx.lineWidth = 2;
    ctx.setLineDash(set.borderDash.map((length) => length / 2));
    ctx.beginPath();
    ctx.moveTo(0, middle[1]);
    ctx.lineTo(width, middle[1]);
    ctx.stroke();
    ctx.setLineDash([]);
    const point = { pointStyle: set.pointStyle, radius, rotation: 0, borderWidth: 1 };
    if (set.pointRadius > 0) Chart.helpers.drawPoint(ctx, point, ...middle);
  };

  const paint = (chart) => {
    chart.data.datasets.forEach((set, index) => {
      set.borderColor = set.pointBackgroundColor = colour("c" + (set.colour % kColours));
      paintKey(chart.keys[index], set);
    });
    for (const axis of ["x", "y"]) {
      const { grid, ticks, title } = chart.options.scales[axis];
      grid.color = colour("rule");
      ticks.color = title.color = colour("soft");
    }
    chart.update("none");
  };

  const axis = (logarithmic, callback, title, min, max) => ({
    type: logarithmic ? "logarithmic" : "linear", min, max,
    title: { display: true, text: title },
    grid: { display: true },
    ticks: { maxRotation: 0, autoSkipPadding: 12, includeBounds: false, callback },
  });

  // Real buttons, where Chart.js's own legend hears the mouse alone. Their keys become chart.keys.
  const legend = (chart, title) => {
    chart.keys = [];
    const list = document.createElement("div");
    list.className = "legend";
    list.setAttribute("role", "group");
    list.setAttribute("aria-label", "Curves shown: " + title);
    chart.data.datasets.forEach((set, index) => {
      const button = document.createElement("button");
      const key = document.createElement("canvas");
      const label = document.createElement("bdi");
      button.type = "button";
      button.setAttribute("aria-pressed", "true");
      key.className = "mark";
      key.width = 2 * kKey.width;
      key.height = 2 * kKey.height;
      key.setAttribute("aria-hidden", "true");
      chart.keys.push(key);
      label.textContent = set.label;
      button.append(key, label);
      button.addEventListener("click", () => {
        const visible = !chart.isDatasetVisible(index);
        chart.setDatasetVisibility(index, visible);
        button.setAttribute("aria-pressed", String(visible));
        chart.update("none");
      });
      list.append(button);
    });
    return list;
  };

  const draw = (figure) => {
    const source = charts[Number(figure.dataset.chart)];
    const [left, right, low, high] = source.range;
    const frame = document.createElement("div");
    const canvas = document.createElement("canvas");
    frame.className = "canvas";
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", source.title + "; the values are in the table below");
    frame.append(canvas);
    figure.querySelector(".drawing").before(frame);
    figure.classList.add("scripted");
    const chart = new Chart(canvas, {
      type: "scatter",
      data: { datasets: source.series.map((series) => dataset(series, source.range)) },
      options: {
        animation: false,
        maintainAspectRatio: false,
        interaction: { mode: "nearest", intersect: false },
        plugins: { legend: { display: false }, tooltip: { callbacks: { label: described } } },
        scales: {
          x: axis(false, step, source.x, left, right),
          y: axis(source.logarithmic, tick(source.logarithmic), source.y, low, high),
        },
      },
      plugins: [spreads],
    });
    frame.after(legend(chart, source.title));
    paint(chart);
    drawn.push(chart);
  };

  // Opens whatever hides the element that the address names.
  const reveal = () => {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (!target) return;
    for (let element = target; element; element = element.parentElement) {
      if (element.tagName === "DETAILS") element.open = true;
    }
    target.scrollIntoView();
  };

  // Not every browser prints what is closed.
  const closed = [];
  addEventListener("beforeprint", () => {
    document.querySelectorAll("details:not([open])").forEach((element) => {
      closed.push(element);
      element.open = true;
    });
  });
  addEventListener("afterprint", () => closed.splice(0).forEach((element) => { element.open = false; }));

  document.querySelectorAll("figure.chart[data-chart]").forEach(draw);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => drawn.forEach(paint));
  addEventListener("hashchange", reveal);
  // A second click on the same link changes no address.
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[href^='#']");
    if (link && link.hash === location.hash) reveal();
  });
  reveal();
})();
