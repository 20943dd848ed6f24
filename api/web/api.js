// Talking to the service. What goes wrong is a Problem, whose message says what to do.

import { time } from "./words.js";

const AWAY = "The service does not answer. See whether it still runs (make serve), then try again.";

export class Problem extends Error {
  constructor(message, status = 0, facts = {}) {
    super(message);
    this.status = status;
    this.code = facts.error ?? "";
    this.facts = facts;
  }
}

const KEY = "impasto-key"; // in sessionStorage: gone with the tab

export const key = () => sessionStorage.getItem(KEY);

/** A service may want a key: a field for one at the page's end, shown where that is so. */
export function keyField() {
  const form = document.querySelector("#key");
  const input = form.querySelector("input");
  limits().then(({ keys }) => { form.hidden = !keys; }, () => {});
  input.value = key() ?? "";
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (input.value.trim()) sessionStorage.setItem(KEY, input.value.trim());
    else sessionStorage.removeItem(KEY);
    location.reload();
  });
}

/** The response to a request, if it is one of success. */
export async function ask(path, options = {}) {
  let response;
  try {
    const headers = key() ? { ...options.headers, Authorization: `Bearer ${key()}` } : options.headers;
    response = await fetch(path, { ...options, headers });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(AWAY, 0, { error: "away" });
  }
  if (response.ok) return response;
  const facts = await response.json().catch(() => ({}));
  if (response.status === 401) {
    document.querySelector("#key input").focus();
    throw new Problem("This service paints for those who have a key. Give yours at the end of the page.", 401, facts);
  }
  throw new Problem(facts.detail ?? `The service answered ${response.status}. Try again in a moment.`, response.status, facts);
}

export const json = async (path, options) => (await ask(path, { cache: "no-store", ...options })).json();

const once = new Map();

/** JSON that does not change while the page is open. */
export function fixed(path) {
  if (!once.has(path)) once.set(path, json(path).catch((problem) => { once.delete(path); throw problem; }));
  return once.get(path);
}

export const limits = () => fixed("limits");

/** A painting, or a sheet, of a picture that the service may still hold: else it is sent again. */
export async function paint(path, picture, params, { signal, waiting = () => {} } = {}) {
  for (let attempt = 1; ; attempt++) {
    try {
      return await send(path, picture, params, signal);
    } catch (problem) {
      if (problem.code === "picture_gone") picture.token = null;
      else if (problem.code === "busy" && attempt <= 4) await wait(problem.facts.retry_after ?? 1, waiting, signal);
      else throw problem;
    }
  }
}

async function send(path, picture, params, signal) {
  const query = new URLSearchParams(params);
  let body;
  if (picture.token) {
    query.set("picture", picture.token);
  } else {
    body = new FormData();
    body.append("image", picture.blob, picture.name);
  }
  const response = await ask(`${path}?${query}`, { method: "POST", body, signal });
  picture.token = response.headers.get("Impasto-Picture") ?? picture.token;
  return response;
}

function wait(seconds, waiting, signal) {
  waiting(`Many pictures are being painted. Yours is tried again in ${time(seconds)}.`);
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, seconds * 1000);
    signal?.addEventListener("abort", () => { clearTimeout(timer); reject(signal.reason); });
  });
}

/** Seconds that the service took, from its Server-Timing. */
export function seconds(response) {
  const found = /total;dur=([\d.]+)/.exec(response.headers.get("Server-Timing") ?? "");
  return found ? Number(found[1]) / 1000 : null;
}
