// One job as it is seen: its pictures, how far it is, its losses, and what can be done with it.

import { ask, json, key } from "./api.js";
import { chart } from "./chart.js";
import { h, say, showIn } from "./dom.js";
import { follow, over } from "./follow.js";
import { kept } from "./remember.js";
import { count, time } from "./words.js";

const FETCH_EVERY = 3000; // ms
const SAID = {
  queued: "waiting for its turn", running: "at work", succeeded: "done", failed: "failed", canceled: "stopped",
};

/** An article for the job `entry` ({id, kind, title}); `changed(job)` hears of its state, `gone()` when it is no more. */
export function card(entry, { changed, gone, done }) {
  const chip = h("span", { class: "chip" }, "…");
  const bar = h("progress", { max: 1, value: 0, "aria-label": "Progress" });
  const far = h("p", { class: "soft far" });
  const told = h("p", { role: "status" });
  const losses = chart();
  const buttons = h("div", { class: "row" });
  const heading = h("h2", { id: `job-${entry.id}` }, entry.title);
  const pictures = entry.kind === "gatys" ? beside(entry) : single();
  const article = h(
    "article", { class: "work", "aria-labelledby": heading.id, dataset: { job: entry.id } },
    h("div", { class: "head" }, heading, chip), pictures, bar, far, losses, told, buttons,
  );
  let fetched = -Infinity;
  let ended = false;

  /** Picture and losses, now and then while they change and once at the end. */
  const fetchAnew = (job) => {
    const source = over(job) && entry.kind === "gatys" ? job.links.result : job.links.preview;
    if (source) pictures.show(`${source.slice(1)}?${job.attempt}-${job.progress.step}`);
    if (job.links.losses) json(job.links.losses.slice(1)).then(losses.draw, () => {});
    if (source) fetched = performance.now();
    ended = over(job);
  };

  const update = (job, problem) => {
    if (problem && [404, 410].includes(problem.status)) return gone();
    if (problem) return say(told, problem.message, "error");
    if ((told.dataset.kind === "error" || over(job)) && !job.error) say(told, "");
    chip.textContent = SAID[job.status];
    chip.dataset.status = job.status;
    const { step, total, eta_s: left } = job.progress;
    if (total) bar.max = total;
    if (total) bar.value = step;
    else if (job.status === "running") bar.removeAttribute("value");
    bar.hidden = over(job);
    far.textContent = over(job) ? took(job) : total ? `Step ${count(step)} of ${count(total)}${left ? `, about ${time(left)} left` : ""}` : "Getting ready …";
    if (over(job) ? !ended : performance.now() - fetched > FETCH_EVERY) fetchAnew(job);
    if (job.error) say(told, job.error.message, "error");
    actions(job);
    changed(job);
  };

  const actions = (job) => {
    const names = over(job) ? (job.links.result ? ["done", "remove"] : ["remove"]) : ["cancel"];
    if (buttons.dataset.names === names.join()) return;
    buttons.dataset.names = names.join();
    const had = buttons.contains(document.activeElement);
    buttons.replaceChildren(...names.flatMap((name) => (name === "done" ? done(job) : [make[name]()])));
    if (had) buttons.firstElementChild?.focus();
  };
  const make = {
    cancel: () => h("button", { onclick: (event) => tell(event, "POST", "/cancel") }, entry.kind === "gatys" ? "Stop and keep the best" : "Stop"),
    remove: () => h("button", { onclick: (event) => confirm("Erase this job and its pictures here and at the service?") && tell(event, "DELETE", "") }, "Remove"),
  };
  const tell = async ({ currentTarget: button }, method, what) => {
    button.disabled = true;
    try {
      await ask(`jobs/${entry.id}${what}`, { method });
      if (method === "DELETE") gone();
      else say(told, "Stopping …");
    } catch (problem) {
      if (problem.status === 404 && method === "DELETE") return gone();
      button.disabled = false;
      say(told, problem.message, "error");
    }
  };

  article.stop = follow(entry.id, update);
  return article;
}

function took(job) {
  const seconds = job.started ? (new Date(job.finished) - new Date(job.started)) / 1000 : 0;
  return seconds ? `${count(job.progress.step)} steps in ${time(seconds)}.` : "";
}

const figure = (image, caption) => h("figure", {}, image, h("figcaption", {}, caption));

/** The quick painting, or else the photograph, beside the slow one. */
function beside(entry) {
  const first = h("img", { alt: "", width: 3, height: 2 });
  const second = h("img", { alt: "", width: 3, height: 2, class: "coming" });
  const left = figure(first, "the photograph");
  const place = h("div", { class: "beside" }, left, figure(second, "at its best"));
  left.hidden = true;
  let here = false;
  Promise.all([kept(entry.id, "quick"), kept(entry.id, "photo")]).then(([quick, photo]) => {
    if (quick || photo) {
      showIn(first, quick ?? photo);
      first.alt = quick ? "Painted at once" : "The photograph";
      left.lastElementChild.textContent = quick ? "at once" : "the photograph";
      left.hidden = false;
    }
    if (photo && !here) showIn(second, photo);
  });
  place.show = (source) => {
    here = true;
    second.classList.remove("coming");
    second.alt = "Painted at its best, so far";
    swap(second, source);
  };
  return place;
}

/** A training's preview: photograph and painting in one picture. */
function single() {
  const image = h("img", { alt: "", width: 2, height: 1 });
  const place = h("div", { class: "single", hidden: true }, figure(image, "a photograph, and what the network makes of it by now"));
  place.show = (source) => {
    place.hidden = false;
    image.alt = "A photograph, and how the network paints it by now";
    swap(image, source);
  };
  return place;
}

/** The next picture once it is there, so that nothing flickers. */
async function swap(image, source) {
  const next = new Image();
  try {
    const shown = key() ? await (await ask(source)).blob() : source; // an image sends no key
    showIn(next, shown);
    await next.decode();
    showIn(image, shown);
    showIn(next, "");
  } catch {
    // the one before stays
  }
}
