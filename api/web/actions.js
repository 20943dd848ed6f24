// What is done with a painting: saved, made by a command line, compared.

import { key, paint } from "./api.js";
import { $, h, save, say, showIn } from "./dom.js";
import * as painting from "./paint.js";
import * as gallery from "./gallery.js";
import { stem } from "./picture.js";
import { pixels, time, title } from "./words.js";

const SUFFIX = { png: "png", jpeg: "jpg", webp: "webp" };
let sheet = null;

export function start() {
  for (const button of document.querySelectorAll("#downloads [data-format]")) {
    button.addEventListener("click", () => working(button, () => download(button.dataset.format)));
  }
  $("#curl").addEventListener("click", () => working($("#curl"), copyCurl));
  $("#compare").addEventListener("click", compare);
  $("#sheet-save").addEventListener("click", () => sheet && save(sheet.blob, sheet.name));
  painting.pictureChanged(ready);
  gallery.changed(ready);
  ready();
}

function ready() {
  for (const button of document.querySelectorAll(".actions button")) button.disabled = !painting.now.picture;
}

/** The painting at its full size, as the service makes it. */
async function download(format) {
  const { picture } = painting.now;
  const response = await paint("stylize", picture, { ...painting.params(), format });
  save(await response.blob(), `${stem(picture.name)}-${gallery.choice().style}.${SUFFIX[format]}`);
}

async function copyCurl() {
  const { picture } = painting.now;
  const query = new URLSearchParams(painting.params());
  const url = new URL("stylize", location.href);
  const bearer = key() ? ' -H "Authorization: Bearer $IMPASTO_KEY"' : "";
  const line = `curl${bearer} -F ${quoted(`image=@${named(picture.name)}`)} ${quoted(`${url.origin}${url.pathname}?${query}`)} -o painted.png`;
  await copied(line);
  const shrunk = picture.note ? ` Scale the file to ${pixels(picture.width, picture.height)} first, as this page did.` : "";
  say($("#told"), `Copied: ${line}${shrunk}`);
}

/** A name as curl's -F takes it, which reads ; and , as its own. */
const named = (name) => (/[;,"\\]/.test(name) ? `"${name.replace(/[\\"]/g, "\\$&")}"` : name);
const quoted = (word) => (/^[\w@=./:-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`);

async function copied(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text).catch(() => selected(text));
  return selected(text);
}

/** Where the page is not served securely there is no clipboard but this one. */
function selected(text) {
  const area = h("textarea", { value: text, class: "unseen", "aria-hidden": "true" });
  document.body.append(area);
  area.select();
  document.execCommand("copy");
  area.remove();
}

/** The chosen style by every network that has learned it. */
async function compare() {
  const { picture } = painting.now;
  const { arch, dataset, ...wanted } = painting.params(); // of all networks and datasets
  const { style } = wanted;
  const dialog = $("#sheet");
  const told = $("[role=status]", dialog);
  const image = $("img", dialog);
  const leave = new AbortController();
  dialog.addEventListener("close", () => leave.abort(), { once: true });
  sheet = null;
  image.hidden = true;
  $("#sheet-save").disabled = true;
  $("h2", dialog).textContent = `${title(style)}, by every network`;
  const many = gallery.all().filter((model) => model.style === style).length;
  const waiting = (sentence) => say(told, sentence);
  waiting(many === 1 ? "One network has learned this style; it is painting …" : `${many} networks are painting …`);
  dialog.showModal();
  const begun = performance.now();
  try {
    const response = await paint("compare", picture, wanted, { signal: leave.signal, waiting });
    sheet = { blob: await response.blob(), name: `${stem(picture.name)}-${style}-networks.png` };
    showIn(image, sheet.blob);
    image.alt = `The photograph, and it painted as ${title(style)} by ${many} networks`;
    image.hidden = false;
    $("#sheet-save").disabled = false;
    say(told, `Painted in ${time((performance.now() - begun) / 1000)}.`);
  } catch (problem) {
    if (problem.name !== "AbortError") say(told, problem.message, "error");
  }
}

async function working(button, work) {
  button.disabled = true;
  button.setAttribute("aria-busy", "true");
  try {
    await work();
  } catch (problem) {
    if (!problem.facts) throw problem;
    say($("#told"), problem.message, "error");
  } finally {
    button.disabled = false;
    button.removeAttribute("aria-busy");
  }
}
