// What this browser remembers of its jobs: their ids, and small pictures to show beside the result.

const KEY = "impasto.jobs";
const MOST = 40;

/** [{id, kind, title, at}], the newest first; in all tabs of this browser. */
export function list() {
  try {
    const found = JSON.parse(localStorage.getItem(KEY) ?? "[]");
    return Array.isArray(found) ? found.filter((one) => /^[0-9a-f]{32}$/.test(one?.id)) : [];
  } catch {
    return [];
  }
}

const write = (jobs) => localStorage.setItem(KEY, JSON.stringify(jobs.slice(0, MOST)));
export const add = (job) => write([job, ...list()]);
export const inOtherTabs = (listener) => addEventListener("storage", (event) => event.key === KEY && listener());

export function forget(id) {
  write(list().filter((one) => one.id !== id));
  for (const what of ["photo", "quick"]) keep(id, what, null);
}

let database;

function opened() {
  database ??= new Promise((resolve, reject) => {
    const request = indexedDB.open("impasto", 1);
    request.onupgradeneeded = () => request.result.createObjectStore("pictures");
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
  return database;
}

/** Keep a blob, or forget it (null). A browser that keeps nothing is no reason to stop. */
export async function keep(id, what, blob) {
  try {
    const pictures = (await opened()).transaction("pictures", "readwrite").objectStore("pictures");
    if (blob) pictures.put(blob, `${id} ${what}`);
    else pictures.delete(`${id} ${what}`);
  } catch { /* a private window */ }
}

/** The blob that was kept, or null. */
export async function kept(id, what) {
  try {
    const request = (await opened()).transaction("pictures").objectStore("pictures").get(`${id} ${what}`);
    return await new Promise((resolve) => {
      request.onsuccess = () => resolve(request.result ?? null);
      request.onerror = () => resolve(null);
    });
  } catch {
    return null;
  }
}
