// The second section's form: a picture, a style, and off it goes to be painted in pixels.

import { fixed, json, paint, Problem } from "./api.js";
import { $, h, say } from "./dom.js";
import * as painting from "./paint.js";
import { number, radios, styles, submits, well } from "./fields.js";
import * as gallery from "./gallery.js";
import { open, small, stem } from "./picture.js";
import { add, keep } from "./remember.js";
import { title } from "./words.js";
import { sync } from "./works.js";

const OWN = "";
const KEPT = 800; // px of the short side of what this browser keeps to show beside the result

let picture = null;
let photograph;

export async function enter() {
  if (!photograph) await build();
  if (photograph && painting.now.picture && painting.now.picture !== picture) use(painting.now.picture);
}

function use(next) {
  picture = next;
  photograph.show(picture.shown, picture.name);
  photograph.say(picture.note);
}

async function build() {
  const form = $("#best-form");
  const told = h("p", { role: "status" });
  photograph = well("Choose a photograph", { hint: "The photograph.", taken: ([file]) => read(file) });
  form.replaceChildren(photograph);
  let names, recipes;
  try {
    [names, recipes] = await Promise.all([json("styles/kept"), fixed("recipes")]);
  } catch (problem) {
    photograph = null;
    form.replaceChildren(h("p", { role: "status", dataset: { kind: "error" } }, problem.message));
    return;
  }
  const own = well("Choose a painting", { hint: "A picture whose style it is to have." });
  own.hidden = names.length > 0;
  const shown = (name) => (gallery.nearest(name) ? gallery.example(gallery.nearest(name)) : null);
  const chosen = gallery.choice().style;
  names.sort((a, b) => (b === chosen) - (a === chosen));
  const choices = [...styles(names, shown), [OWN, "A picture of mine"]];
  const fields = recipes.gatys;
  form.append(
    radios("style", "Style", choices, (value) => { own.hidden = value !== OWN; }),
    own,
    h("label", { class: "check" }, h("input", { type: "checkbox", name: "preserve_color" }), " Keep the photograph’s colours"),
    h(
      "details", {}, h("summary", {}, "Finer points"),
      number("num_iterations", fields.num_iterations, "Steps"),
      number("size", fields.size, "Size, px"),
      number("style_weight", fields.style_weight, "Weight of the style"),
    ),
    h("button", { type: "submit", class: "primary" }, "Paint it"),
    told,
  );
  submits(form, told, (key) => begin(form, own, told, key));
}

async function read(file) {
  try {
    use(await open(file, gallery.choice()));
  } catch (problem) {
    photograph.say(problem.message, "error");
  }
}

async function begin(form, own, told, key) {
  if (!picture) throw new Problem("Choose a photograph first.");
  const style = form.elements.style.value;
  const [painted] = own.files;
  if (style === OWN && !painted) throw new Problem("Choose a picture for its style, or one of the styles that have a name.");
  say(told, "Sending …");
  const body = new FormData();
  body.set("kind", "gatys");
  for (const name of ["num_iterations", "size", "style_weight"]) body.set(name, form.elements[name].value);
  if (form.elements.preserve_color.checked) body.set("preserve_color", "true");
  if (style === OWN) body.set("style_image", (await open(painted, gallery.choice())).blob, painted.name);
  else body.set("style", style);
  body.set("image", picture.blob, picture.name);
  const mine = picture;
  const job = await json("jobs", { method: "POST", body, headers: { "Idempotency-Key": key } });
  await keep(job.id, "photo", await small(mine.shown, KEPT));
  add({ id: job.id, kind: "gatys", title: style === OWN ? `Like ${stem(painted.name)}` : title(style), name: stem(mine.name), at: job.created });
  say(told, "It is taken on. You may close the page, and find it here again.");
  const model = gallery.nearest(style);
  if (model) await quick(job.id, mine, { arch: model.arch, dataset: model.dataset, style }, form.elements.preserve_color.checked);
  sync();
}

/** The same in a moment, to hang beside it. */
async function quick(id, mine, model, colours) {
  try {
    const response = await paint("stylize", mine, { ...model, max_side: 1200, format: "webp", preserve_color: colours });
    await keep(id, "quick", await response.blob());
  } catch { /* the slow one is what was asked for */ }
}
