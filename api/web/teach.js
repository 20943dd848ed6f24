// The third section's form: a painting, a name, photographs to learn on.

import { fixed, json, limits, Problem } from "./api.js";
import { $, h, say } from "./dom.js";
import { number, radios, select, submits, well } from "./fields.js";
import { open, small } from "./picture.js";
import * as gallery from "./gallery.js";
import { add } from "./remember.js";
import { count, known, megabytes, title } from "./words.js";
import { sync } from "./works.js";

const OWN = "";
const GOOD = 200; // photographs that make a good style
const SOME = 20; // with which there is something to see
const FIELDS = ["steps", "size", "batch"];

let built = false;

export async function enter() {
  if (built) return;
  built = true;
  const form = $("#teach-form");
  try {
    await build(form);
  } catch (problem) {
    built = false;
    form.replaceChildren(h("p", { role: "status", dataset: { kind: "error" } }, problem.message));
  }
}

async function build(form) {
  const [sets, recipes, limit] = await Promise.all([json("datasets"), fixed("recipes"), limits()]);
  const told = h("p", { role: "status" });
  const painting = well("Choose a painting", { hint: "The picture whose style is learned.", taken: ([file]) => suggest(form, file) });
  const photographs = well("Choose photographs", { multiple: true, hint: enough(0), taken: (files) => photographs.say(enough(files.length)) });
  photographs.hidden = sets.length > 0;
  const name = h("input", { name: "title", id: "style-name", required: true, maxLength: 60, autocomplete: "off" });
  const called = h("small", { class: "soft", id: "style-called", "aria-live": "polite" }, "It goes by this name in the gallery.");
  name.setAttribute("aria-describedby", called.id);
  name.addEventListener("input", () => { called.textContent = slug(name.value) ? `The API knows it as ${slug(name.value)}.` : "It goes by this name in the gallery."; });
  const choices = [...sets.map((one) => [one, known(one)]), [OWN, "Photographs of mine"]];
  const finer = h("div", {});
  const fill = () => finer.replaceChildren(...numbers(recipes, form.elements.arch?.value ?? "aonet", form.elements.recipe?.value ?? "ours"));
  form.replaceChildren(
    painting,
    h("label", { class: "field", for: name.id }, h("span", {}, "Name"), name, called),
    ...(sets.length ? [radios("dataset", "Learn on", choices, (value) => { photographs.hidden = value !== OWN; })] : []),
    photographs,
    ...(sets.length ? [] : [h("p", { class: "soft" }, "Or fetch a prepared set first: ", h("code", {}, "impasto data fetch coco"), ".")]),
    h(
      "details", {}, h("summary", {}, "Finer points"),
      select("arch", "Network", Object.keys(recipes.ours).map((arch) => [arch, known(arch)]), "aonet"),
      select("recipe", "Recipe", [["ours", "Ours: a style at three sizes, and a subject that stays"], ["report", "The report’s Table 1; needs all of VGG16"]], "ours"),
      finer,
    ),
    h("button", { type: "submit", class: "primary" }, "Teach it"),
    told,
  );
  for (const part of ["arch", "recipe"]) form.elements[part].addEventListener("change", fill);
  fill();
  submits(form, told, (key) => begin(form, { painting, photographs, told, limit, recipes }, key));
}

function numbers(recipes, arch, recipe) {
  const defaults = recipes[recipe][arch];
  const label = { steps: "Steps", size: "Size, px", batch: "Pictures a step" };
  return FIELDS.map((name) => {
    const field = number(name, recipes.train[name], label[name], defaults[name]);
    $("input", field).required = name !== "steps";
    return field;
  });
}

const slug = (text) => text.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase().replace(/[^a-z0-9_-]+/g, "_").replace(/^[_-]+|_+$/g, "").slice(0, 64);

/** A name, from the file's, until somebody gives one. */
function suggest(form, file) {
  const name = form.elements.title;
  if (name.value) return;
  name.value = title(slug(file.name.replace(/\.[^.]*$/, "")));
  name.dispatchEvent(new Event("input"));
}

function enough(number) {
  if (!number) return `Drop a folder’s worth: ${GOOD} or more make a good style, ${SOME} are enough for a first look.`;
  const have = `${count(number)} photograph${number > 1 ? "s" : ""}.`;
  if (number < SOME) return `${have} Few: ${SOME} are enough for a first look, ${GOOD} or more make a good style.`;
  return number < GOOD ? `${have} Enough for a first look; ${GOOD} or more make a good style.` : `${have} That makes a good style.`;
}

async function begin(form, { painting, photographs, told, limit }, key) {
  const { elements } = form;
  const dataset = elements.dataset?.value ?? OWN;
  const files = dataset === OWN ? photographs.files : [];
  if (!painting.files.length) throw new Problem("Choose the painting whose style it is to learn.");
  if (!new RegExp(limit.name).test(slug(elements.title.value))) throw new Problem("Give the style a name with letters of a to z in it.");
  if (dataset === OWN && !files.length) throw new Problem("Choose photographs to learn on: any will do, the more kinds the better.");
  if (files.length > limit.max_photographs) throw new Problem(`${count(limit.max_photographs)} photographs are the most.`);
  const body = new FormData();
  const fields = { kind: "train", name: slug(elements.title.value), arch: elements.arch.value, recipe: elements.recipe.value, dataset };
  for (const field of FIELDS) fields[field] = elements[field].value;
  for (const [field, value] of Object.entries(fields)) if (value !== "") body.set(field, value);
  body.set("style_image", (await open(painting.files[0], gallery.choice())).blob, painting.files[0].name);
  let bytes = painting.files[0].size;
  for (const [index, file] of files.entries()) {
    if (index % 10 === 0) say(told, `Preparing the photographs: ${count(index)} of ${count(files.length)} …`);
    const blob = await small(file, 2 * Number(elements.size.value)); // the service keeps no more of it
    body.append("content_images", blob, file.name);
    bytes += blob.size;
  }
  if (bytes > limit.max_upload) throw new Problem(`The photographs have ${megabytes(bytes)}, the limit is ${megabytes(limit.max_upload)}: choose fewer.`);
  say(told, `Sending ${megabytes(bytes)} …`);
  const job = await json("jobs", { method: "POST", body, headers: { "Idempotency-Key": key } });
  add({ id: job.id, kind: "train", title: title(fields.name), at: job.created });
  say(told, "It is learning. You may close the page, and find it here again.");
  sync();
}
