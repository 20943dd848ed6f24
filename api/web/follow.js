// How a job stands, as it happens: by server-sent events, and by asking now and then where there can be none.

import { json, key, Problem } from "./api.js";

const ASK_EVERY = 2000; // ms
const MOST_STREAMS = 2; // of this tab: a browser has six connections to a host for all its tabs
const OVER = ["succeeded", "failed", "canceled"];

let streams = 0;

export const over = (job) => OVER.includes(job.status);

/** Calls `told(job, problem)` with every change until the job is over or gone; gives a function that stops it. */
export function follow(id, told) {
  let job = null;
  let source = null;
  let timer = 0;
  let stopped = false;

  const end = () => {
    stopped = true;
    rest();
    document.removeEventListener("visibilitychange", seen);
  };
  const rest = () => {
    clearTimeout(timer);
    if (source) {
      source.close();
      source = null;
      streams--;
    }
  };
  const tell = (part) => {
    if (stopped) return;
    job = { ...job, ...part };
    if (over(job)) end();
    told(job, null);
  };
  const look = async () => {
    try {
      tell(await json(`jobs/${id}`));
    } catch (problem) {
      if (stopped || !(problem instanceof Problem)) return;
      if ([404, 410].includes(problem.status)) end();
      told(job, problem);
    }
  };
  const poll = async () => {
    await look();
    if (!stopped && !source) timer = setTimeout(poll, ASK_EVERY);
  };
  const begin = async () => {
    await look();
    if (stopped || source || document.hidden) return;
    if (streams >= MOST_STREAMS || key()) { // an EventSource sends no key
      timer = setTimeout(poll, ASK_EVERY);
      return;
    }
    streams++;
    source = new EventSource(`jobs/${id}/events`);
    const hear = (name, use) => source.addEventListener(name, (event) => use(JSON.parse(event.data)));
    hear("status", (status) => (over(status) ? look() : tell(status))); // the end is told whole, or not yet
    hear("progress", (progress) => tell({ progress }));
    hear("preview", look); // which has the links that came with it
    hear("done", () => look());
    source.onerror = () => {
      rest();
      timer = setTimeout(begin, ASK_EVERY);
      look();
    };
  };
  const seen = () => (document.hidden ? rest() : begin());
  document.addEventListener("visibilitychange", seen);
  begin();
  return end;
}
