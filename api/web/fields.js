// Parts of forms; what a parameter is, its bounds and its default come from the service's /recipes.

import { $, h, say, showIn } from "./dom.js";
import { choose, drop } from "./intake.js";
import { title } from "./words.js";

/** A number as its JSON Schema has it. */
export function number(name, schema, label, value) {
  const kind = schema.anyOf?.find((one) => one.type !== "null") ?? schema;
  const input = h("input", {
    type: "number", name, id: `field-${name}-${Math.random().toString(36).slice(2)}`, required: true,
    min: kind.minimum ?? kind.exclusiveMinimum ?? "", max: kind.maximum ?? "", step: kind.type === "integer" ? 1 : "any",
    value: value ?? schema.default ?? "",
  });
  const hint = h("small", { class: "soft", id: `${input.id}-hint` }, `${schema.description[0].toUpperCase()}${schema.description.slice(1)}.`);
  input.setAttribute("aria-describedby", hint.id);
  return h("label", { class: "field", for: input.id }, h("span", {}, label), input, hint);
}

export function select(name, label, options, value) {
  const list = h("select", { name }, ...options.map(([key, text]) => h("option", { value: key, selected: key === value }, text)));
  return h("label", { class: "field" }, h("span", {}, label), list);
}

/** Radio buttons that look like tiles: [value, text, picture]. */
export function radios(name, legend, options, listener) {
  const group = h("fieldset", { class: "pills" }, h("legend", {}, legend));
  for (const [value, text, picture] of options) {
    const radio = h("input", { type: "radio", name, value, checked: value === options[0][0] });
    radio.addEventListener("change", () => listener(value));
    const image = picture ? h("img", { src: picture, alt: "", loading: "lazy", width: 440, height: 293, class: "there" }) : null;
    group.append(h("label", { class: "pill" }, radio, image, h("span", {}, text)));
  }
  return group;
}

export const styles = (names, picture) => names.map((name) => [name, title(name), picture(name)]);

/** A place for one picture or many, to drop on or to choose: `files` are what it holds. */
export function well(label, { multiple = false, hint = "", taken = () => {} } = {}) {
  const button = h("button", { type: "button" }, label);
  const image = h("img", { alt: "", hidden: true });
  const text = h("p", { class: "soft", role: "status" }, hint);
  const area = h("div", { class: "well" }, image, button, text);
  area.files = [];
  area.say = (sentence, kind) => say(text, sentence, kind);
  area.show = (source, alt) => {
    showIn(image, source);
    image.alt = alt;
    image.hidden = false;
  };
  const take = (files) => {
    area.files = multiple ? [...area.files, ...files] : files.slice(0, 1);
    if (!multiple) area.show(area.files[0], area.files[0].name);
    image.onerror = () => { image.hidden = true; }; // a kind that only the service reads
    taken(area.files);
  };
  choose(button, take, { multiple });
  drop(area, take);
  return area;
}

/** Send a form once, however often it is pressed, and say what came of it. */
export function submits(form, told, work) {
  let key = fresh();
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const button = $("[type=submit]", form);
    const wrong = [...form.elements].find((one) => one.willValidate && !one.validity.valid && one.offsetParent);
    if (wrong) {
      say(told, `${wrong.labels[0].firstElementChild.textContent}: ${wrong.validationMessage}`, "error");
      wrong.focus();
      return;
    }
    button.disabled = true;
    try {
      await work(key);
      key = fresh();
    } catch (problem) {
      if (!problem.facts) throw problem;
      if (problem.code !== "away") key = fresh(); // without an answer it may have been taken on: the same again is safe
      say(told, problem.message, "error");
    } finally {
      button.disabled = false;
    }
  });
}

const fresh = () => [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
