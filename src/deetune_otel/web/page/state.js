// SPDX-License-Identifier: Apache-2.0
// What is looked at and how. All of it is in the URL's hash, so that a view can be shared; the theme alone is a
// person's own and stays in this browser.

const DEFAULTS = {
  window: 60, // seconds
  view: "map",
  node: "",
  edge: "",
  q: "",
  protocol: "",
  namespace: "",
  zone: "",
  errors: false,
  slow: false,
  slowS: 0.5, // p99 from which an edge is slow
  cross: false,
  busy: false,
  sort: "-rate",
};
export const WINDOWS = [60, 300, 900, 3600];
export const SLOW_STEPS = [0.05, 0.1, 0.25, 0.5, 1, 2.5];
const FILTERS = ["q", "protocol", "namespace", "zone", "errors", "slow", "cross", "busy"];

function parse(hash) {
  const found = new URLSearchParams(hash.replace(/^#/, ""));
  const made = { ...DEFAULTS };
  for (const [name, usual] of Object.entries(DEFAULTS)) {
    const text = found.get(name);
    if (text === null) continue;
    if (typeof usual === "boolean") made[name] = text === "1";
    else if (typeof usual === "number") made[name] = Number(text);
    else made[name] = text;
  }
  if (!WINDOWS.includes(made.window)) made.window = DEFAULTS.window;
  if (!SLOW_STEPS.includes(made.slowS)) made.slowS = DEFAULTS.slowS;
  if (made.view !== "table") made.view = "map";
  return made;
}

function written(values) {
  const out = new URLSearchParams();
  for (const [name, usual] of Object.entries(DEFAULTS)) {
    if (values[name] !== usual) out.set(name, values[name] === true ? "1" : values[name]);
  }
  return out.toString();
}

export class State {
  #values = parse(location.hash);
  #listeners = [];

  constructor() {
    addEventListener("hashchange", () => this.#take(parse(location.hash)));
  }

  get now() {
    return this.#values;
  }

  /** `listener(values, names of what changed)`. */
  listen(listener) {
    this.#listeners.push(listener);
  }

  set(changes) {
    const next = { ...this.#values, ...changes };
    const hash = written(next);
    if (hash !== location.hash.replace(/^#/, "")) {
      // What is selected is a place to come back to; a letter in the search field is none.
      const isPlace = "node" in changes || "edge" in changes || "view" in changes;
      history[isPlace ? "pushState" : "replaceState"](null, "", hash ? `#${hash}` : location.pathname);
    }
    this.#take(next);
  }

  clearFilters() {
    this.set(Object.fromEntries(FILTERS.map((name) => [name, DEFAULTS[name]])));
  }

  get isFiltered() {
    return FILTERS.some((name) => this.#values[name] !== DEFAULTS[name]);
  }

  #take(next) {
    const changed = new Set(Object.keys(next).filter((name) => next[name] !== this.#values[name]));
    this.#values = next;
    if (changed.size) for (const listener of this.#listeners) listener(next, changed);
  }
}
