// Elements made in script. Text goes in as text and never as HTML.

export const $ = (selector, root = document) => root.querySelector(selector);

/** An element with properties (`class`, `dataset`, `on…` listeners, attributes with a dash) and children. */
export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name === "class") element.className = value;
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name.includes("-") || name === "role" || name === "for") element.setAttribute(name, value);
    else if (name === "dataset") Object.assign(element.dataset, value);
    else element[name] = value;
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** Show a sentence where it belongs; screen readers hear it, as the place is a live region. */
export function say(place, text, kind = "", ...buttons) {
  place.dataset.kind = kind;
  place.replaceChildren(text, ...buttons);
}

/** Give an image a blob, or an address, and free the blob it had. */
export function showIn(image, source) {
  const old = image.dataset.blob;
  const url = source instanceof Blob ? URL.createObjectURL(source) : source;
  image.dataset.blob = source instanceof Blob ? url : "";
  image.src = url;
  if (old) URL.revokeObjectURL(old);
  return image;
}

/** Let the browser save a blob as a file. */
export function save(blob, name) {
  const url = URL.createObjectURL(blob);
  const link = h("a", { href: url, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}
