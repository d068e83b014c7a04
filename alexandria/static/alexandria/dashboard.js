// The dashboard: draws the charts, and asks for the figures again every 15 seconds while somebody can see them.
"use strict";

document.addEventListener("DOMContentLoaded", () => {
  const EVERY = 15_000;
  const page = document.querySelector(".dash");
  const figures = document.getElementById("dash-figures");
  const failure = document.getElementById("dash-failure");
  const pause = document.getElementById("dash-pause");
  let askedAt = Date.now();
  let paused = false;

  // --- Charts

  const variable = (name) => getComputedStyle(page).getPropertyValue(name).trim();

  const datasets = (drawn) => {
    const bars = drawn.series.map((series, number) => ({
      label: series.name,
      data: series.values,
      backgroundColor: variable(`--dash-colour-${number}`),
      borderColor: variable("--dash-surface"),
      borderWidth: { top: 1 },
      stack: "calls",
      order: 1,
    }));
    if (!drawn.limit) return bars;
    const line = { type: "line", label: "safety limit", data: drawn.limit, order: 0, stack: "limit" };
    const look = { borderColor: variable("--dash-text"), borderWidth: 2, borderDash: [6, 4], pointRadius: 1 };
    return [...bars, { ...line, ...look }];
  };

  const roundLabels = (every) => function (value) {
    const step = this.chart.width < 600 ? 3 * every : every;
    return value % step ? null : this.getLabelForValue(value);
  };

  const options = ({ unit, labelEvery }) => {
    const text = variable("--dash-text");
    const grid = { color: variable("--dash-line") };
    const ticks = { color: text, maxRotation: 0, autoSkipPadding: 16 };
    const labels = labelEvery ? { ...ticks, autoSkip: false, callback: roundLabels(Number(labelEvery)) } : ticks;
    return {
      animation: false,
      responsive: true,
      maintainAspectRatio: false,
      interaction: { mode: "index", intersect: false },
      plugins: { legend: { display: false }, tooltip: { filter: (item) => item.raw } },
      datasets: { bar: { categoryPercentage: 1, barPercentage: 0.9 } },
      scales: {
        x: { stacked: true, grid: { display: false }, ticks: labels },
        y: { stacked: true, beginAtZero: true, grid, ticks, title: { display: true, text: unit, color: text } },
      },
    };
  };

  const draw = () => {
    const holder = document.getElementById("dash-charts");
    if (!holder) return;
    const charts = JSON.parse(holder.textContent);
    Chart.defaults.font.family = "Inter, sans-serif";
    for (const canvas of figures.querySelectorAll("canvas[data-chart]")) {
      const drawn = charts[canvas.dataset.chart];
      const data = { labels: drawn.labels, datasets: datasets(drawn) };
      const look = options(canvas.dataset);
      const chart = Chart.getChart(canvas);
      if (chart) {
        Object.assign(chart, { data, options: look });
        chart.update("none");
      } else {
        new Chart(canvas, { type: "bar", data, options: look });
      }
    }
  };

  // --- Refreshing, with everything left as the reader has it

  const refresh = () => {
    if (paused || document.hidden) return;
    askedAt = Date.now();
    htmx.trigger(figures, "refresh");
  };

  const say = (why) => {
    const since = document.getElementById("dash-as-of")?.textContent;
    failure.textContent = `${since ? `Not refreshed since ${since}` : "Not refreshed"}: ${why}`;
  };

  const place = (element) => {
    if (element.id) return `#${element.id}`;
    if (element.matches("a")) return `a[href="${element.getAttribute("href")}"]`;
    return `section[aria-labelledby="${element.closest("section").getAttribute("aria-labelledby")}"] .dash-scroll`;
  };

  let asItWas = () => {};

  const remember = () => {
    const open = [...figures.querySelectorAll("details[open]")].map(place);
    const scrolled = [...figures.querySelectorAll(".dash-scroll")].map((e) => [place(e), e.scrollLeft, e.scrollTop]);
    const focused = figures.contains(document.activeElement) ? place(document.activeElement) : null;
    const top = window.scrollY;
    asItWas = () => {
      for (const found of open) figures.querySelector(found)?.setAttribute("open", "");
      for (const [found, left, down] of scrolled) figures.querySelector(found)?.scrollTo(left, down);
      if (focused) figures.querySelector(focused)?.focus({ preventScroll: true });
      if (window.scrollY !== top) window.scrollTo(window.scrollX, top);
    };
  };

  figures.addEventListener("htmx:beforeSwap", (event) => {
    const { xhr } = event.detail;
    if (new URL(xhr.responseURL).pathname !== figures.getAttribute("hx-get")) {
      event.detail.shouldSwap = false; // the page to log in on
      say("you have been logged out. Load the page again to log in.");
    } else if (event.detail.shouldSwap) {
      failure.textContent = "";
      remember();
    }
  });
  figures.addEventListener("htmx:afterSwap", () => {
    asItWas();
    draw();
  });
  figures.addEventListener("htmx:responseError", (event) => say(`the server answered ${event.detail.xhr.status}.`));
  figures.addEventListener("htmx:sendError", () => say("the server cannot be reached."));
  figures.addEventListener("htmx:timeout", () => say("the server did not answer in time."));

  pause.addEventListener("click", () => {
    paused = !paused;
    pause.textContent = paused ? "Resume refreshing" : "Pause refreshing";
    refresh();
  });
  document.addEventListener("visibilitychange", () => {
    if (Date.now() - askedAt >= EVERY) refresh();
  });
  setInterval(refresh, EVERY);

  new MutationObserver(draw).observe(document.documentElement, { attributeFilter: ["class"] });
  draw();
});
