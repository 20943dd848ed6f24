// The first section: a picture, what it is painted with, and the painting. The last request wins.

import { paint, seconds } from "./api.js";
import { $, h, say } from "./dom.js";
import * as gallery from "./gallery.js";
import { choose, drop, paste } from "./intake.js";
import { camera } from "./camera.js";
import { open } from "./picture.js";
import { stage } from "./stage.js";
import { count, pixels, time } from "./words.js";

const SHOWN = 1600; // px of the long side that the page shows; a download has them all
const FIRST = 30; // percent of the photograph that is left of the divider when a painting comes

export const now = { picture: null, painted: null };
const listeners = new Set();
let show;
let under = new AbortController();
let opening = 0;

export const pictureChanged = (listener) => listeners.add(listener);
export const strength = () => Number($("#strength").value) / 100;
const keepsColours = () => $("#keep-colours").checked;

/** What `/stylize` is asked for the painting as it is seen. */
export function params() {
  const more = {};
  if (strength() < 1) more.strength = strength();
  if (keepsColours()) more.preserve_color = true;
  return { ...gallery.choice(), ...more };
}

export function start() {
  show = stage($("#stage"));
  choose($("#choose"), ([file]) => take(file));
  drop(document.body, ([file]) => take(file));
  paste(([file]) => take(file));
  camera($("#take"), ([file]) => take(file));
  $("#sample").addEventListener("click", sample);
  $("#strength").addEventListener("input", blend);
  $("#keep-colours").addEventListener("change", repaint);
  gallery.changed(() => (opening ? repaint() : demo()));
  demo();
}

/** Before there is a picture: the cat, and what the chosen network makes of it. */
async function demo() {
  show.photo("web/cat.jpg", 451, 300);
  if (!gallery.all().length) return;
  show.busy(true); // a network's first example takes a while, once
  await show.painting(gallery.example(gallery.choice()));
  if (!opening) show.busy(false);
}

export const demoIfEmpty = () => opening || demo();

async function sample() {
  try {
    const response = await fetch("web/cat.jpg");
    await take(new File([await response.blob()], "cat.jpg", { type: "image/jpeg" }));
  } catch {
    say($("#told"), "The service does not answer. See whether it still runs (make serve), then try again.", "error");
  }
}

/** A new picture: shown at once, then painted. */
export async function take(file) {
  if (!file) return;
  const mine = ++opening;
  location.hash = "#paint";
  under.abort();
  show.busy(true);
  say($("#told"), `Reading ${file.name} …`);
  try {
    const picture = await open(file, gallery.choice());
    if (mine !== opening) return;
    now.picture = picture;
    now.painted = null;
    show.photo(picture.shown, picture.width, picture.height);
    document.body.classList.add("has-picture");
    listeners.forEach((listener) => listener(picture));
    await repaint(FIRST);
  } catch (problem) {
    if (mine === opening) fail(problem, () => take(file));
  }
}

/** Paint what there is as it is asked for now; a strength needs no painting of its own. */
async function repaint(divide) {
  const { picture } = now;
  if (!picture) return;
  under.abort();
  const mine = (under = new AbortController());
  show.busy(true);
  say($("#told"), `${about(picture)} Painting …`);
  try {
    const wanted = { ...gallery.choice(), format: "webp" };
    if (keepsColours()) wanted.preserve_color = true;
    if (Math.max(picture.width, picture.height) > SHOWN) wanted.max_side = SHOWN;
    const waiting = (sentence) => say($("#told"), sentence);
    const response = await paint("stylize", picture, wanted, { signal: mine.signal, waiting });
    const blob = await response.blob();
    if (mine !== under) return;
    await show.painting(blob);
    now.painted = blob;
    const part = response.headers.get("Impasto-Painted") ? "An animation: its first frame is painted. " : "";
    if (typeof divide === "number") show.divide(divide);
    show.busy(false);
    say($("#told"), `${about(picture)} ${part}Painted in ${time(seconds(response))}.`);
  } catch (problem) {
    if (problem.name !== "AbortError" && mine === under) fail(problem, () => repaint(divide));
  }
}

/** What the service computes for a strength: photograph and painting mixed, value by value. */
function blend() {
  $("#strength-shown").value = `${count(strength() * 100)}%`;
  show.strength(strength());
}

const about = ({ width, height, note }) => `${pixels(width, height)}. ${note ? `${note} ` : ""}`;

function fail(problem, again) {
  show.busy(false);
  const away = problem.code === "away" || problem.status >= 500;
  const buttons = away ? [" ", h("button", { class: "link", onclick: again }, "Try again")] : [];
  say($("#told"), problem.message, "error", ...buttons);
  if (!problem.facts) throw problem;
}
