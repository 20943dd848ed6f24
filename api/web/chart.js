// Losses as curves, on a logarithmic scale: all of them, and where each began and has come to.

import { h } from "./dom.js";

const NAMES = ["total", "style", "content"];
const WIDTH = 600;
const HEIGHT = 160;
const RANGE = Math.log(1000); // a loss that begins at nothing would press the others flat
const MOST = 300; // points of a curve

const svg = (tag, attributes) => {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
};

const short = (value) => (value >= 1000 || value < 0.01 ? value.toExponential(1) : value.toPrecision(3));

/** The content of a row: of our objective the sum of what keeps the subject. */
const whole = (row) => ({ content: row.coarse + row.depicted + row.detail, ...row });

/** A figure with `draw(rows)`; a row is {step, total, style, …} as the service has it. */
export function chart() {
  const lines = NAMES.map((name) => svg("polyline", { class: name, fill: "none", "vector-effect": "non-scaling-stroke" }));
  const picture = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img" });
  picture.append(...lines.toReversed());
  const legend = h("figcaption", {});
  const figure = h("figure", { class: "chart", hidden: true }, picture, legend);

  figure.draw = (rows) => {
    const all = rows.map(whole);
    const main = all.filter((row) => row.main !== 0);
    const shown = main.length > 1 ? main : all;
    if (shown.length < 2) return;
    const every = Math.ceil(shown.length / MOST);
    const some = shown.filter((_, index) => index % every === 0 || index === shown.length - 1);
    const values = some.flatMap((row) => NAMES.map((name) => row[name])).filter((value) => value > 0);
    const high = Math.log(Math.max(...values));
    const low = Math.max(Math.log(Math.min(...values)), high - RANGE);
    const first = some[0].step;
    const x = (step) => ((step - first) / (some.at(-1).step - first || 1)) * WIDTH;
    const y = (value) => 6 + (1 - Math.max(0, Math.log(value) - low) / (high - low || 1)) * (HEIGHT - 12);
    NAMES.forEach((name, index) => {
      const points = some.filter((row) => row[name] > 0).map((row) => `${x(row.step).toFixed(1)},${y(row[name]).toFixed(1)}`);
      lines[index].setAttribute("points", points.join(" "));
    });
    const fell = NAMES.filter((name) => shown[0][name] > 0).map((name) => `${name} ${short(shown[0][name])} → ${short(shown.at(-1)[name])}`);
    picture.setAttribute("aria-label", `Losses from step ${first} to ${some.at(-1).step}: ${fell.join(", ")}`);
    legend.replaceChildren(...fell.map((text) => h("span", { class: text.split(" ")[0] }, text)));
    figure.hidden = false;
  };
  return figure;
}
