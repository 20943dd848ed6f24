// Photograph and painting on top of each other, with a divider to move between them.

import { h, showIn } from "./dom.js";

/** Fills `root`: {photo(source, width, height), painting(source), strength(part), divide(percent), busy(yes)}. */
export function stage(root, labels = ["photograph", "painting"]) {
  const below = h("img", { alt: labels[0], draggable: false });
  const above = h("img", { alt: labels[1], class: "above", hidden: true, draggable: false });
  const range = h("input", {
    type: "range", min: 0, max: 100, step: 1, value: 50, hidden: true, class: "divider",
    "aria-label": `Divider between ${labels[0]} and ${labels[1]}`,
  });
  const tags = labels.map((label, side) => h("span", { class: `tag ${side ? "right" : "left"}`, "aria-hidden": "true" }, label));
  const line = h("span", { class: "line", "aria-hidden": "true" });
  const frame = h("div", { class: "frame" }, below, above, line, ...tags, range);
  root.replaceChildren(frame);

  const divide = (percent) => {
    range.value = percent;
    frame.style.setProperty("--at", `${percent}%`);
    range.setAttribute("aria-valuetext", `${percent}% ${labels[0]}, ${100 - percent}% ${labels[1]}`);
    tags[0].classList.toggle("gone", percent < 18);
    tags[1].classList.toggle("gone", percent > 82);
  };
  range.addEventListener("input", () => divide(Number(range.value)));
  divide(50);
  let turn = 0; // of photographs: a painting of an earlier one comes too late

  return {
    frame,
    photo(source, width, height) {
      turn++;
      root.style.setProperty("--ratio", width / height);
      showIn(below, source);
      frame.classList.remove("both");
      for (const part of [above, range]) part.hidden = true;
    },
    async painting(source) {
      const mine = turn;
      const next = new Image();
      showIn(next, source);
      await next.decode().catch(() => {});
      if (next.dataset.blob) URL.revokeObjectURL(next.dataset.blob);
      if (mine !== turn) return;
      showIn(above, source);
      frame.classList.add("both");
      for (const part of [above, range]) part.hidden = false;
    },
    strength: (part) => frame.style.setProperty("--strength", part),
    divide,
    busy: (yes) => { frame.classList.toggle("busy", yes); root.setAttribute("aria-busy", String(yes)); },
  };
}
