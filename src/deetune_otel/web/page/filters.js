// SPDX-License-Identifier: Apache-2.0
// The controls above the map, kept in step with the state both ways.

import { by, h } from "./dom.js";
import * as format from "./format.js";
import { choices } from "./model.js";
import { protocolName } from "./panel.js";
import { SLOW_STEPS } from "./state.js";

const PICKS = [
  ["protocol", "All protocols", "protocols", protocolName],
  ["namespace", "All namespaces", "namespaces", String],
  ["zone", "All zones", "zones", String],
];
const CHECKS = ["errors", "slow", "cross", "busy"];

export class Filters {
  #state;
  #offered = {};

  constructor(state) {
    this.#state = state;
    for (const [name] of PICKS) by(name).addEventListener("change", () => state.set({ [name]: by(name).value }));
    for (const name of CHECKS) by(name).addEventListener("change", () => state.set({ [name]: by(name).checked }));
    for (const name of ["window", "view"]) {
      for (const radio of document.getElementsByName(name)) {
        radio.addEventListener("change", () => state.set({ [name]: name === "window" ? Number(radio.value) : radio.value }));
      }
    }
    by("slowS").append(...SLOW_STEPS.map((one) => h("option", { value: one }, `from ${format.duration(one)}`)));
    by("slowS").addEventListener("change", () => state.set({ slowS: Number(by("slowS").value) }));
    by("search").addEventListener("input", () => state.set({ q: by("search").value }));
    by("clear").addEventListener("click", () => state.clearFilters());
    this.show();
  }

  show() {
    const { now } = this.#state;
    for (const name of CHECKS) by(name).checked = now[name];
    for (const name of ["window", "view"]) {
      for (const radio of document.getElementsByName(name)) radio.checked = radio.value === String(now[name]);
    }
    for (const [name] of PICKS) by(name).value = now[name];
    by("slowS").value = String(now.slowS);
    by("slow-from").hidden = !now.slow;
    if (by("search").value !== now.q) by("search").value = now.q;
    by("clear").hidden = !this.#state.isFiltered;
  }

  /** Offers what the map has; what is chosen stays on offer. */
  offer(graph) {
    const found = choices(graph);
    for (const [name, all, list, shown] of PICKS) {
      const chosen = this.#state.now[name];
      const values = [...new Set([...found[list], ...(chosen ? [chosen] : [])])];
      const key = values.join("\n");
      if (this.#offered[name] === key) continue;
      this.#offered[name] = key;
      by(name).replaceChildren(h("option", { value: "" }, all), ...values.map((one) => h("option", { value: one }, shown(one))));
      by(name).closest(".pick").hidden = values.length < 2 && !chosen;
      by(name).value = chosen;
    }
    const zones = found.zones.length > 1 || [...graph.edges.values()].some((edge) => edge.isCross);
    by("cross").closest(".chip").hidden = !zones && !this.#state.now.cross;
  }
}
