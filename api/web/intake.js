// The ways a picture comes in: chosen, dropped, pasted.

import { h } from "./dom.js";

/** Call `take(files)` with what is chosen by a click on `button`. */
export function choose(button, take, { multiple = false, capture = "" } = {}) {
  const input = h("input", { type: "file", accept: "image/*,.heic,.heif,.tif,.tiff,.avif", multiple, hidden: true, tabIndex: -1 });
  if (capture) input.setAttribute("capture", capture);
  input.addEventListener("change", () => {
    if (input.files.length) take([...input.files]);
    input.value = "";
  });
  button.after(input);
  button.addEventListener("click", () => input.click());
  return input;
}

/** Call `take(files)` with what is dropped on `area`, which shows that it would take it. */
export function drop(area, take) {
  let depth = 0;
  const over = (change) => (event) => {
    if (![...event.dataTransfer.types].includes("Files")) return;
    event.preventDefault();
    event.stopPropagation();
    depth = change ? Math.max(0, depth + change) : depth;
    area.classList.toggle("dropping", depth > 0);
  };
  area.addEventListener("dragenter", over(1));
  area.addEventListener("dragleave", over(-1));
  area.addEventListener("dragover", over(0));
  area.addEventListener("drop", (event) => {
    event.preventDefault();
    event.stopPropagation();
    depth = 0;
    document.querySelectorAll(".dropping").forEach((one) => one.classList.remove("dropping"));
    if (event.dataTransfer.files.length) take([...event.dataTransfer.files]);
  });
}

/** Call `take(files)` with pictures that are pasted anywhere. */
export function paste(take) {
  document.addEventListener("paste", (event) => {
    const files = [...(event.clipboardData?.files ?? [])];
    if (files.length) {
      event.preventDefault();
      take(files);
    }
  });
}
