// The jobs of this browser, in the sections that they belong to, followed until they are over.

import { ask } from "./api.js";
import { card } from "./card.js";
import { $, h, save } from "./dom.js";
import { over } from "./follow.js";
import * as gallery from "./gallery.js";
import { forget, inOtherTabs, list } from "./remember.js";
import { known } from "./words.js";

const SECTIONS = { gatys: "best", train: "teach" };
const EMPTY = {
  gatys: "Paintings that are under way, and those that are done, hang here. You may close the page: they go on.",
  train: "Styles that are being learned stand here. You may close the page: they go on.",
};
const cards = new Map();
const states = new Map();

export function start() {
  inOtherTabs(sync);
  sync();
}

/** Cards for the jobs that there are, the newest first. */
export function sync() {
  const entries = list();
  for (const [id, article] of cards) {
    if (!entries.some((entry) => entry.id === id)) drop(id, article);
  }
  for (const entry of entries.toReversed()) {
    if (cards.has(entry.id) || !SECTIONS[entry.kind]) continue;
    const article = card(entry, {
      changed: (job) => note(entry, job),
      gone: () => { forget(entry.id); sync(); },
      done: (job) => (entry.kind === "gatys" ? savers(job, entry) : painter(job)),
    });
    cards.set(entry.id, article);
    $(`#${SECTIONS[entry.kind]}-works`).prepend(article);
  }
  for (const [kind, section] of Object.entries(SECTIONS)) {
    const place = $(`#${section}-works`);
    $(".empty", place)?.remove();
    if (!$("article", place)) place.append(h("p", { class: "empty soft" }, EMPTY[kind]));
  }
}

function drop(id, article) {
  article.stop();
  article.remove();
  cards.delete(id);
  states.delete(id);
  dots();
}

function note(entry, job) {
  const before = states.get(entry.id)?.status;
  states.set(entry.id, { kind: entry.kind, status: job.status });
  if (entry.kind === "train" && job.status === "succeeded" && before !== "succeeded") gallery.load().catch(() => {});
  dots();
}

/** A mark beside the section where something is at work. */
function dots() {
  for (const [kind, section] of Object.entries(SECTIONS)) {
    const busy = [...states.values()].some((state) => state.kind === kind && !over(state));
    $(`nav [href="#${section}"] .dot`).hidden = !busy;
  }
}

function savers(job, entry) {
  const get = async ({ currentTarget: button }) => {
    button.disabled = true;
    try {
      save(await (await ask(job.links.result.slice(1))).blob(), `${entry.name ?? "painting"}-at-its-best.png`);
    } finally {
      button.disabled = false;
    }
  };
  return [h("button", { class: "primary", onclick: get }, "Download PNG")];
}

function painter(job) {
  const query = new URLSearchParams(job.links.stylize?.split("?")[1]);
  const { arch, dataset, style } = Object.fromEntries(query);
  const use = async () => {
    await gallery.load();
    gallery.choose({ arch, dataset, style });
    location.hash = "#paint";
  };
  return [h("button", { class: "primary", onclick: use }, `Paint with it`), h("span", { class: "soft" }, `${known(arch)}, learned from ${known(dataset)}`)];
}
