// The styles, each shown as what its network really paints; which network and dataset paint it.

import { json } from "./api.js";
import { $, h } from "./dom.js";
import { known, title } from "./words.js";

let models = [];
const chosen = { arch: "aonet", dataset: "coco", style: "wave" };
const listeners = new Set();

export const choice = () => ({ ...chosen });
export const all = () => models;
export const changed = (listener) => listeners.add(listener);
export const example = ({ arch, dataset, style }) => `styles/${arch}/${dataset}/${style}/example`;

/** The model of a style that is most like what is chosen now; undefined where there is none. */
export function nearest(style, arch = chosen.arch, dataset = chosen.dataset) {
  const points = (model) => 2 * (model.arch === arch) + (model.dataset === dataset);
  return models.filter((model) => model.style === style).sort((a, b) => points(b) - points(a))[0];
}

/** Ask which models there are and draw them. */
export async function load() {
  models = await json("styles");
  const now = nearest(chosen.style) ?? nearest("wave") ?? models[0];
  if (now) Object.assign(chosen, pick(now));
  draw();
}

/** Choose a model, by as much of it as is known. */
export function choose(part) {
  const next = { ...chosen, ...part };
  Object.assign(chosen, pick(nearest(next.style, next.arch, next.dataset) ?? next));
  draw();
  listeners.forEach((listener) => listener(choice()));
}

const pick = ({ arch, dataset, style }) => ({ arch, dataset, style });

function draw() {
  const styles = [...new Set(models.map((model) => model.style))];
  const place = $("#tiles");
  const focused = place.contains(document.activeElement) ? document.activeElement.value : null;
  place.replaceChildren(...styles.map(tile), teachTile());
  if (focused) $(`[value="${CSS.escape(focused)}"]`, place)?.focus();
  const mine = $(":checked", place)?.closest(".tile"); // on a phone the tiles are a strip
  if (mine) place.scrollLeft = mine.offsetLeft - (place.clientWidth - mine.clientWidth) / 2;
  const fellows = models.filter((model) => model.style === chosen.style);
  $("#network").replaceChildren(
    options("Network", "arch", [...new Set(fellows.map((model) => model.arch))]),
    options("Learned from", "dataset", datasets(fellows)),
  );
}

/** Those of the chosen network; another network's are reached through it. */
const datasets = (fellows) => fellows.filter((model) => model.arch === chosen.arch).map((model) => model.dataset);

function tile(style) {
  const model = nearest(style);
  const radio = h("input", { type: "radio", name: "style", value: style, checked: style === chosen.style });
  radio.addEventListener("change", () => choose({ style }));
  const image = h("img", { src: example(model), alt: "", loading: "lazy", width: 440, height: 293 });
  const wait = () => image.classList.add("there");
  image.addEventListener("load", wait);
  image.addEventListener("error", wait);
  return h("label", { class: "tile" }, radio, image, h("span", {}, title(style)));
}

const teachTile = () => h("a", { class: "tile teach", href: "#teach" }, h("span", { "aria-hidden": "true", class: "plus" }, "+"), h("span", {}, "Teach it yours"));

function options(label, name, values) {
  if (values.length < 2) {
    return h("p", { class: "field" }, h("span", {}, label), h("span", { class: "only" }, known(values[0] ?? "none")));
  }
  const select = h("select", { name, "aria-label": label }, ...values.map((value) => h("option", { value, selected: value === chosen[name] }, known(value))));
  select.addEventListener("change", () => {
    choose({ [name]: select.value });
    $(`#network [name=${name}]`)?.focus();
  });
  return h("label", { class: "field" }, h("span", {}, label), select);
}
