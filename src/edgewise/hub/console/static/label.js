// Marks on pictures and time series, groups of pictures, and holding on to what one looks at. The server knows the
// rest: every key that says something presses a button of the form, which works without this file too.
"use strict";

const SVG = "http://www.w3.org/2000/svg";
const SMALLEST = 0.004; // of the picture's side: less is a click, no box
let marks = null; // of the card that is shown: { kind, list, chosen, label, labels, good, length, paint }

function clamp(value, low, high) { return Math.min(high, Math.max(low, value)); }
function round(value) { return Math.round(value * 1e5) / 1e5; }
function css(name) { return getComputedStyle(document.documentElement).getPropertyValue(name).trim(); }
function isGood(label) { return marks.good.includes(label); }

// -- what both kinds of marks share ----------------------------------------------------------------------------------

function begin(kind, box, length, paint) {
  const labels = JSON.parse(box.dataset.labels), good = JSON.parse(box.dataset.good);
  const label = labels.find((one) => !good.includes(one)) ?? labels[0] ?? "mark";
  marks = { kind, list: JSON.parse(box.dataset.marks), chosen: -1, label, labels, good, length, paint };
  changed();
}

function changed() {
  const field = document.getElementById("annotation");
  if (field) field.value = JSON.stringify({ [marks.kind]: marks.list });
  marks.paint();
  list();
}

function list() {
  const holder = document.getElementById("marks-list");
  if (!holder) return;
  holder.replaceChildren(...marks.list.map((one, at) => {
    const item = document.createElement("li"), pick = document.createElement("button"), drop = document.createElement("button");
    pick.type = drop.type = "button";
    pick.textContent = `${at + 1} · ${one.label} · ${words(one)}`;
    pick.setAttribute("aria-pressed", String(at === marks.chosen));
    pick.addEventListener("click", () => { marks.chosen = at; changed(); });
    drop.textContent = "×";
    drop.className = "quiet";
    drop.setAttribute("aria-label", `remove mark ${at + 1}`);
    drop.addEventListener("click", () => remove(at));
    item.append(pick, drop);
    return item;
  }));
  const count = marks.list.length, name = marks.kind === "boxes" ? "box" : "span";
  const none = marks.good.length ? `Nothing there: ${marks.good[0]}` : "Nothing there";
  document.getElementById("save-text").textContent = count === 0 ? none : `Save ${count} ${name}${count === 1 ? "" : marks.kind === "boxes" ? "es" : "s"}`;
  document.querySelectorAll("[data-mark-label]").forEach((button) => {
    button.setAttribute("aria-pressed", String(button.dataset.markLabel === (marks.list[marks.chosen]?.label ?? marks.label)));
  });
}

function words(one) {
  if (marks.kind === "spans") return `${one.start}–${one.end}`;
  const share = (value) => `${Math.round(100 * value)}`;
  return `${share(one.x2 - one.x1)} × ${share(one.y2 - one.y1)} %`;
}

function add(one) {
  marks.list.push(one);
  marks.chosen = marks.list.length - 1;
  changed();
}

function remove(at) {
  marks.list.splice(at, 1);
  marks.chosen = Math.min(at, marks.list.length - 1);
  changed();
}

function name(label) {
  marks.label = label;
  if (marks.chosen >= 0) marks.list[marks.chosen].label = label;
  changed();
}

function addInTheMiddle() {
  if (marks.kind === "boxes") add({ label: marks.label, x1: 0.4, y1: 0.4, x2: 0.6, y2: 0.6 });
  else add({ label: marks.label, start: Math.floor(0.45 * marks.length), end: Math.max(Math.floor(0.45 * marks.length) + 1, Math.floor(0.55 * marks.length)) });
}

// Arrows move the chosen mark, with Shift its far end.
function nudge(x, y, resize) {
  const one = marks.list[marks.chosen];
  if (!one) return false;
  if (marks.kind === "spans") {
    const step = x * Math.max(1, Math.round(marks.length / 200));
    if (resize) one.end = clamp(one.end + step, one.start + 1, marks.length);
    else {
      const by = clamp(step, -one.start, marks.length - one.end);
      one.start += by;
      one.end += by;
    }
  } else if (resize) {
    one.x2 = round(clamp(one.x2 + 0.01 * x, one.x1 + SMALLEST, 1));
    one.y2 = round(clamp(one.y2 + 0.01 * y, one.y1 + SMALLEST, 1));
  } else move(one, 0.01 * x, 0.01 * y);
  changed();
  return true;
}

function move(one, x, y) {
  const right = clamp(x, -one.x1, 1 - one.x2), down = clamp(y, -one.y1, 1 - one.y2);
  one.x1 = round(one.x1 + right);
  one.x2 = round(one.x2 + right);
  one.y1 = round(one.y1 + down);
  one.y2 = round(one.y2 + down);
}

// -- boxes on a picture ----------------------------------------------------------------------------------------------

function startBoxes(svg, picture) {
  const width = picture.naturalWidth || 1, height = picture.naturalHeight || 1;
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  const place = (event) => {
    const point = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
    return [clamp(point.x / width, 0, 1), clamp(point.y / height, 0, 1)];
  };
  const shape = (tag, values, kind) => {
    const made = document.createElementNS(SVG, tag);
    for (const [key, value] of Object.entries(values)) made.setAttribute(key, value);
    made.setAttribute("class", kind);
    return made;
  };
  const paint = () => {
    svg.replaceChildren();
    marks.list.forEach((one, at) => {
      const box = { x: one.x1 * width, y: one.y1 * height, width: (one.x2 - one.x1) * width, height: (one.y2 - one.y1) * height };
      const chosen = at === marks.chosen ? " chosen" : "";
      svg.append(shape("rect", { ...box, "data-at": at }, `box${chosen}${isGood(one.label) ? " good" : ""}`));
      const size = 0.035 * Math.max(width, height);
      const text = shape("text", { x: box.x, y: box.y > size ? box.y - 0.25 * size : box.y + size, "font-size": size }, "box-name");
      text.textContent = `${at + 1} ${one.label}`;
      svg.append(text);
      if (chosen) {
        for (const [corner, x, y] of [["nw", one.x1, one.y1], ["ne", one.x2, one.y1], ["sw", one.x1, one.y2], ["se", one.x2, one.y2]]) {
          svg.append(shape("circle", { cx: x * width, cy: y * height, r: 0.4 * size, "data-corner": corner }, "corner"));
        }
      }
    });
  };
  begin("boxes", svg, 0, paint);
  svg.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    event.preventDefault();
    svg.focus({ preventScroll: true });
    svg.setPointerCapture(event.pointerId);
    const [x, y] = place(event);
    const corner = event.target.dataset?.corner, at = event.target.dataset?.at;
    let one, fixed = [x, y], last = [x, y], fresh = false;
    if (corner) {
      one = marks.list[marks.chosen];
      fixed = [corner.includes("w") ? one.x2 : one.x1, corner.includes("n") ? one.y2 : one.y1];
    } else if (at !== undefined) {
      marks.chosen = Number(at);
      one = marks.list[marks.chosen];
      changed();
    } else {
      one = { label: marks.label, x1: x, y1: y, x2: x, y2: y };
      fresh = true;
    }
    const moving = (next) => {
      const [nx, ny] = place(next);
      if (at !== undefined && !corner) move(one, nx - last[0], ny - last[1]);
      else {
        if (fresh && !marks.list.includes(one)) { marks.list.push(one); marks.chosen = marks.list.length - 1; }
        one.x1 = round(Math.min(fixed[0], nx));
        one.x2 = round(Math.max(fixed[0], nx));
        one.y1 = round(Math.min(fixed[1], ny));
        one.y2 = round(Math.max(fixed[1], ny));
      }
      last = [nx, ny];
      changed();
    };
    const ended = () => {
      svg.removeEventListener("pointermove", moving);
      if (one.x2 - one.x1 < SMALLEST || one.y2 - one.y1 < SMALLEST) {
        marks.list = marks.list.filter((other) => other !== one);
        marks.chosen = -1;
      }
      changed();
    };
    svg.addEventListener("pointermove", moving);
    svg.addEventListener("pointerup", ended, { once: true });
    svg.addEventListener("pointercancel", ended, { once: true });
  });
}

// -- spans of a series -----------------------------------------------------------------------------------------------

function startPlot(box) {
  if (typeof uPlot === "undefined") return;
  const length = Number(box.dataset.length), steps = JSON.parse(box.dataset.steps), channels = JSON.parse(box.dataset.channels);
  const drawing = box.dataset.draw === "1", colours = ["--info", "--accent", "--warn", "--bad", "--soft", "--info", "--accent", "--warn"].map(css);
  const axis = { stroke: css("--soft"), grid: { stroke: css("--line"), width: 1 }, ticks: { stroke: css("--line") } };
  let plot = null;
  const bands = (chart) => {
    const pen = chart.ctx;
    pen.save();
    marks.list.forEach((one, at) => {
      const left = chart.valToPos(one.start - 0.5, "x", true), right = chart.valToPos(one.end - 0.5, "x", true);
      pen.globalAlpha = at === marks.chosen ? 0.35 : 0.18;
      pen.fillStyle = css(isGood(one.label) ? "--good" : "--bad");
      pen.fillRect(left, chart.bbox.top, Math.max(1, right - left), chart.bbox.height);
      pen.globalAlpha = 1;
      pen.fillStyle = css("--ink");
      pen.textAlign = "left";
      pen.font = `${12 * devicePixelRatio}px system-ui, sans-serif`;
      pen.fillText(`${at + 1} ${one.label}`, left + 4, chart.bbox.top + 14 * devicePixelRatio);
    });
    pen.restore();
  };
  begin("spans", box, length, () => plot?.redraw(false));
  const selected = (chart) => {
    if (!drawing || chart.select.width < 2) return;
    const start = clamp(Math.round(chart.posToVal(chart.select.left, "x")), 0, length - 1);
    const end = clamp(Math.round(chart.posToVal(chart.select.left + chart.select.width, "x")) + 1, start + 1, length);
    chart.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false);
    add({ label: marks.label, start, end });
  };
  plot = new uPlot({
    width: box.clientWidth,
    height: 380,
    cursor: { drag: { x: drawing, y: false, setScale: false } },
    scales: { x: { time: false, range: [-0.5, length - 0.5] } },
    axes: [{ ...axis, label: "step" }, { ...axis, scale: "c0", size: 64 }],
    series: [{ label: "step" }, ...channels.map(([label], at) => ({ label, scale: `c${at}`, stroke: colours[at % colours.length], width: 1.5, points: { show: length <= 60 } }))],
    hooks: { draw: [bands], setSelect: [selected] },
  }, [steps, ...channels.map(([, values]) => values)], box);
  box.addEventListener("pointerdown", () => box.focus({ preventScroll: true }));
  let waiting;
  new ResizeObserver(() => { clearTimeout(waiting); waiting = setTimeout(() => plot.setSize({ width: box.clientWidth, height: 380 }), 100); }).observe(box);
  list();
}

// -- keys ------------------------------------------------------------------------------------------------------------

function onMarkKey(event) {
  const arrows = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  if (event.key in arrows) return nudge(...arrows[event.key], event.shiftKey);
  if (event.key === "Delete" || event.key === "Backspace") {
    if (marks.chosen < 0) return false;
    remove(marks.chosen);
  } else if (event.key === "b") addInTheMiddle();
  else if (event.key === "[" || event.key === "]") {
    const count = marks.list.length;
    if (count) marks.chosen = (marks.chosen + (event.key === "]" ? 1 : count + (marks.chosen < 0 ? 0 : -1))) % count;
    changed();
  } else if (event.key === "Escape") {
    marks.chosen = -1;
    changed();
  } else return false;
  return true;
}

function onGroupKey(event, tiles) {
  const at = tiles.indexOf(document.activeElement);
  const across = Math.max(1, tiles.filter((one) => one.closest("li").offsetTop === tiles[0].closest("li").offsetTop).length);
  const arrows = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -across, ArrowDown: across };
  if (event.key in arrows) tiles[at < 0 ? 0 : clamp(at + arrows[event.key], 0, tiles.length - 1)].focus();
  else if (event.key === "x" && at >= 0) tiles[at].click();
  else return false;
  return true;
}

function handled(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return false;
  const target = event.target;
  const tiles = [...document.querySelectorAll(".tile input")];
  if (tiles.length) return onGroupKey(event, tiles);
  if (target instanceof HTMLElement && target.matches("input, select, textarea")) return false;
  return marks && document.getElementById("annotation") ? onMarkKey(event) : false;
}

document.addEventListener("keydown", (event) => {
  if (handled(event)) {
    event.preventDefault();
    event.stopPropagation();
  }
}, true);

document.addEventListener("click", (event) => {
  const theirs = event.target instanceof Element ? event.target.closest("[data-take]") : null;
  if (theirs && marks) {
    marks.list = JSON.parse(theirs.dataset.take);
    marks.chosen = -1;
    changed();
    theirs.blur(); // so that Enter saves
    return;
  }
  const button = event.target instanceof Element ? event.target.closest("[data-mark-label], [data-mark-new]") : null;
  if (!button || !marks) return;
  const field = document.getElementById("new_label");
  const label = button.hasAttribute("data-mark-new") ? field.value.trim() : button.dataset.markLabel;
  if (!label) return;
  if (button.hasAttribute("data-mark-new")) { field.value = ""; field.blur(); }
  name(label);
});

// -- one card after the other ----------------------------------------------------------------------------------------

let keeping;

// While a page is looked at, its samples stay this person's; a page in the background lets them go.
function hold(card) {
  clearInterval(keeping);
  const samples = card.dataset.keep ? card.dataset.keep.split(",") : [];
  if (!samples.length) return;
  keeping = setInterval(() => {
    if (document.hidden) return;
    const address = `/api/v1/usecases/${encodeURIComponent(card.dataset.useCase)}/labelling/keep`;
    fetch(address, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ samples }) }).catch(() => { /* the hub is away */ });
  }, 1000 * Number(card.dataset.keepS));
}

function start(card) {
  marks = null;
  hold(card);
  const svg = document.getElementById("boxes"), picture = document.getElementById("picture"), plot = document.getElementById("plot");
  if (svg) {
    if (picture.complete) startBoxes(svg, picture);
    else picture.addEventListener("load", () => startBoxes(svg, picture), { once: true });
  }
  if (plot) startPlot(plot);
}

document.addEventListener("DOMContentLoaded", () => {
  let shown = null;
  const look = () => {
    const card = document.getElementById("card");
    if (card && card !== shown) { shown = card; start(card); }
  };
  look();
  new MutationObserver(look).observe(document.getElementById("main"), { childList: true });
});
