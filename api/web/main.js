// The page's beginning: its rooms, and what each starts with.

import * as actions from "./actions.js";
import { keyField, limits } from "./api.js";
import { $, say } from "./dom.js";
import * as easel from "./easel.js";
import * as gallery from "./gallery.js";

const rooms = [...document.querySelectorAll(".room")];
const entered = {
  best: () => import("./best.js").then((room) => room.enter()),
  teach: () => import("./teach.js").then((room) => room.enter()),
};

function enter() {
  const name = location.hash.slice(1);
  if (name === "main") return;
  const room = rooms.find((one) => one.dataset.room === name) ?? rooms[0];
  const other = room.hidden;
  for (const one of rooms) one.hidden = one !== room;
  for (const link of document.querySelectorAll("nav a")) {
    if (link.hash === `#${room.dataset.room}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = room === rooms[0] ? "Impasto" : `${$("h1", room).textContent.replace(".", "")} · Impasto`;
  if (other) scrollTo(0, 0);
  entered[room.dataset.room]?.();
}

addEventListener("hashchange", enter);
keyField();
easel.start();
actions.start();
enter();

gallery.load().then(
  () => {
    easel.demoIfEmpty();
    if (!gallery.all().length) say($("#told"), "No network has been trained yet: teach it a style first.", "error");
  },
  (problem) => say($("#told"), problem.message, "error"),
);
limits().then(({ jobs, docs }) => {
  document.body.classList.toggle("no-jobs", !jobs);
  $("footer a").hidden = !docs;
}, () => {});
import("./works.js").then((works) => works.start());
