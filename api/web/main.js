// The page's beginning: its sections, and what each starts with.

import * as actions from "./actions.js";
import { keyField, limits } from "./api.js";
import { $, say } from "./dom.js";
import * as painting from "./paint.js";
import * as gallery from "./gallery.js";

const sections = [...document.querySelectorAll(".section")];
const entered = {
  best: () => import("./best.js").then((section) => section.enter()),
  teach: () => import("./teach.js").then((section) => section.enter()),
};

function enter() {
  const name = location.hash.slice(1);
  if (name === "main") return;
  const section = sections.find((one) => one.dataset.section === name) ?? sections[0];
  const other = section.hidden;
  for (const one of sections) one.hidden = one !== section;
  for (const link of document.querySelectorAll("nav a")) {
    if (link.hash === `#${section.dataset.section}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = section === sections[0] ? "Impasto" : `${$("h1", section).textContent.replace(".", "")} · Impasto`;
  if (other) scrollTo(0, 0);
  entered[section.dataset.section]?.();
}

addEventListener("hashchange", enter);
keyField();
painting.start();
actions.start();
enter();

gallery.load().then(
  () => {
    painting.demoIfEmpty();
    if (!gallery.all().length) say($("#told"), "No network has been trained yet: teach it a style first.", "error");
  },
  (problem) => say($("#told"), problem.message, "error"),
);
limits().then(({ jobs, docs }) => {
  document.body.classList.toggle("no-jobs", !jobs);
  $("footer a").hidden = !docs;
}, () => {});
import("./works.js").then((works) => works.start());
