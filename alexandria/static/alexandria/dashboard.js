// The dashboard: draws the charts, and requests new figures every 15 seconds while the page is visible.
"use strict";

document.addEventListener("DOMContentLoaded", () => {
  const REFRESH_MS = 15_000;
  const figures = document.getElementById("dashboard-figures");
  const failure = document.getElementById("dashboard-failure");
  const pause = document.getElementById("dashboard-pause");
  let requestedAt = Date.now();
  let paused = false;

  // --- Charts

  const variable = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  const datasets = (drawn) => {
    const bars = drawn.series.map((series) => ({
      label: series.name,
      data: series.values,
      backgroundColor: variable(`--alx-colour-${series.colour}`),
      borderColor: variable("--alx-surface"),
      borderWidth: { top: 1 },
      stack: "calls",
      order: 1,
    }));
    if (!drawn.limit) return bars;
    const line = { type: "line", label: "safety limit", data: drawn.limit, order: 0, stack: "limit" };
    const look = { borderColor: variable("--alx-text"), borderWidth: 2, borderDash: [6, 4], pointRadius: 1 };
    return [...bars, { ...line, ...look }];
  };

  const roundLabels = (every) => function (value) {
    const step = this.chart.width < 600 ? 3 * every : every;
    return value % step ? null : this.getLabelForValue(value);
  };

  const options = ({ unit, labelEvery }) => {
    const text = variable("--alx-text");
    const grid = { color: variable("--alx-line") };
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
    const holder = document.getElementById("dashboard-charts");
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

  // --- Refreshing keeps what the reader has opened, scrolled and focused

  const refresh = () => {
    if (paused || document.hidden) return;
    requestedAt = Date.now();
    htmx.trigger(figures, "refresh");
  };

  const showFailure = (why) => {
    const since = document.getElementById("dashboard-as-of")?.textContent;
    failure.textContent = `${since ? `Not refreshed since ${since}` : "Not refreshed"}: ${why}`;
  };

  const selectorOf = (element) => {
    if (element.id) return `#${element.id}`;
    if (element.matches("a")) return `a[href="${element.getAttribute("href")}"]`;
    return `section[aria-labelledby="${element.closest("section").getAttribute("aria-labelledby")}"] .alx-scroll`;
  };

  let restore = () => {};

  const remember = () => {
    const open = [...figures.querySelectorAll("details[open]")].map(selectorOf);
    const scrolled = [...figures.querySelectorAll(".alx-scroll")].map((e) => [selectorOf(e), e.scrollLeft, e.scrollTop]);
    const focus = figures.contains(document.activeElement) ? selectorOf(document.activeElement) : null;
    const top = window.scrollY;
    restore = () => {
      for (const selector of open) figures.querySelector(selector)?.setAttribute("open", "");
      for (const [selector, left, down] of scrolled) figures.querySelector(selector)?.scrollTo(left, down);
      if (focus) figures.querySelector(focus)?.focus({ preventScroll: true });
      if (window.scrollY !== top) window.scrollTo(window.scrollX, top);
    };
  };

  figures.addEventListener("htmx:beforeSwap", (event) => {
    const { xhr } = event.detail;
    if (new URL(xhr.responseURL).pathname !== figures.getAttribute("hx-get")) {
      event.detail.shouldSwap = false; // this is the log-in page
      showFailure("you are logged out. Reload the page to log in.");
    } else if (event.detail.shouldSwap) {
      failure.textContent = "";
      remember();
    }
  });
  figures.addEventListener("htmx:afterSwap", () => {
    restore();
    draw();
  });
  figures.addEventListener("htmx:responseError", (event) => showFailure(`the server answered ${event.detail.xhr.status}.`));
  figures.addEventListener("htmx:sendError", () => showFailure("the server cannot be reached."));
  figures.addEventListener("htmx:timeout", () => showFailure("the server did not answer in time."));

  pause.addEventListener("click", () => {
    paused = !paused;
    pause.textContent = paused ? "Resume refreshing" : "Pause refreshing";
    refresh();
  });
  document.addEventListener("visibilitychange", () => {
    if (Date.now() - requestedAt >= REFRESH_MS) refresh();
  });
  setInterval(refresh, REFRESH_MS);

  new MutationObserver(draw).observe(document.documentElement, { attributeFilter: ["class"] });
  draw();
});
