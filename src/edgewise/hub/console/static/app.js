// The console's few lines of behaviour: charts of evidence, and labelling by keyboard. Pages work without them.
"use strict";

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

// One line over labelled pairs, with the bound at which a release goes back; e-values live on a logarithmic scale.
function draw(box) {
  const data = JSON.parse(box.dataset.chart);
  box.replaceChildren();
  if (data.labels.length === 0) return;
  const axis = { stroke: colour("--soft"), grid: { stroke: colour("--line"), width: 1 }, ticks: { stroke: colour("--line") } };
  const floor = Math.min(0.1, ...data.e_values.filter((value) => value > 0));
  new uPlot({
    width: box.clientWidth,
    height: 260,
    cursor: { drag: { x: false, y: false } },
    scales: { x: { time: false }, y: { distr: 3, range: (_, low, high) => [Math.min(low, floor), Math.max(high, 2 * data.bound)] } },
    axes: [{ ...axis, label: "labelled pairs", incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000] }, { ...axis, label: "e-value", size: 64 }],
    series: [
      { label: "labelled pairs" },
      { label: "e-value", stroke: colour("--info"), width: 2, points: { show: true, size: 6 } },
      { label: "goes back at", stroke: colour("--bad"), dash: [6, 4], width: 1.5, points: { show: false } },
    ],
  }, [data.labels, data.e_values.map((value) => Math.max(value, 1e-6)), data.labels.map(() => data.bound)], box);
}

function drawAll() {
  if (typeof uPlot === "undefined") return;
  document.querySelectorAll(".chart").forEach(draw);
  document.querySelectorAll(".lines").forEach(drawLines);
}

// Every 5 s the chart asks for its rollout again, so that a drill can be watched as it happens.
async function refresh() {
  for (const box of document.querySelectorAll(".chart")) {
    const data = JSON.parse(box.dataset.chart);
    try {
      const answer = await fetch(`/api/v1/rollouts/${data.rollout}`, { headers: { Accept: "application/json" } });
      if (!answer.ok) continue;
      const status = await answer.json();
      if (status.history.length === data.labels.length) continue;
      data.labels = status.history.map((point) => point[2]);
      data.e_values = status.history.map((point) => point[3]);
      box.dataset.chart = JSON.stringify(data);
      draw(box);
    } catch { /* the hub is away; the next turn asks again */ }
  }
}

// A part that follows something is told of each change as it happens, and asks again; without the stream it asks often.
function follow() {
  const live = document.querySelector("[data-follow]");
  if (!live) return;
  const again = () => { htmx.trigger(live, "told"); refresh(); };
  const source = new EventSource(live.dataset.follow);
  let asks = 0;
  source.addEventListener("change", again);
  source.addEventListener("error", () => { if (source.readyState === EventSource.CLOSED && !asks) asks = setInterval(again, 3000); });
  window.addEventListener("pagehide", () => source.close());
}

// Lines over what lies below: rounds, or times in seconds.
function drawLines(box) {
  const data = JSON.parse(box.dataset.lines);
  box.replaceChildren();
  if (data.x.length === 0) return;
  const axis = { stroke: colour("--soft"), grid: { stroke: colour("--line"), width: 1 }, ticks: { stroke: colour("--line") } };
  const strokes = ["--info", "--accent", "--bad", "--warn", "--soft"].map(colour);
  const dashes = [[], [8, 4], [2, 4], [12, 4, 2, 4]];
  const range = data.share ? (_, low, high) => [Math.max(0, Math.min(low, 0.99) - 0.05), Math.min(1, high + 0.05)] : undefined;
  const utc = (second) => new Date(second * 1000).toISOString();
  const names = data.time ? { label: "UTC", values: (_, seconds) => seconds.map((one) => utc(one).slice(11, 19)) } : { values: (_, places) => places.map((place) => data.short[place] ?? ""), incrs: [1, 2, 5, 10, 20, 50] };
  new uPlot({
    width: box.clientWidth,
    height: 260,
    cursor: { drag: { x: false, y: false } },
    scales: { x: { time: Boolean(data.time) }, y: range ? { range } : {} },
    axes: [{ ...axis, ...names }, { ...axis, size: 56 }],
    series: [
      data.time ? { label: "UTC", value: (_, second) => second === null ? "–" : utc(second) }
        : { label: data.x_title, value: (_, place) => place === null ? "–" : data.names[place] },
      ...data.lines.map((line, at) => ({
        label: line.name, stroke: strokes[at % strokes.length], dash: dashes[Math.floor(at / strokes.length) % dashes.length],
        width: 2, spanGaps: true, points: { show: !data.time, size: 6 },
      })),
    ],
  }, [data.x, ...data.lines.map((line) => line.y)], box);
}

function typing(target) {
  return target instanceof HTMLElement && target.matches("input:not([type=checkbox]), select, textarea");
}

function onKey(event) {
  const card = document.getElementById("card");
  if (!card || event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
  if (typing(event.target)) {
    if (event.key === "Escape") event.target.blur();
    if (event.key === "Enter" && event.target.id === "new_label") {
      // The first button of the form would answer Enter, and that one accepts the device's word.
      event.preventDefault();
      if (event.target.value.trim()) card.querySelector("[data-submit-new]").click();
    }
    return;
  }
  if (event.key === "n") {
    event.preventDefault();
    card.querySelector("#new_label")?.focus();
    return;
  }
  // A focused button or link keeps its own Enter.
  if (event.key === "Enter" && event.target instanceof HTMLElement && event.target.matches("a, button, summary")) return;
  const wanted = card.querySelector(`[data-key="${CSS.escape(event.key)}"]`);
  if (wanted) {
    event.preventDefault();
    wanted.click();
  }
}

document.addEventListener("keydown", onKey);
document.addEventListener("DOMContentLoaded", () => {
  drawAll();
  if (document.querySelector(".chart")) setInterval(refresh, 5000);
  follow();
  document.querySelector(".top nav [aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });
  let waiting;
  window.addEventListener("resize", () => { clearTimeout(waiting); waiting = setTimeout(drawAll, 100); });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
});
