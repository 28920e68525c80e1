// SPDX-License-Identifier: Apache-2.0
// Light or dark: the system's, until a person chooses; then theirs, in this browser.

import { by } from "./dom.js";

const KEY = "deetune-theme";
const system = matchMedia("(prefers-color-scheme: dark)");

function remembered() {
  try {
    return localStorage.getItem(KEY);
  } catch {
    return null; // storage is switched off: the system decides
  }
}

export class Theme {
  #chosen = remembered();
  #onChange;

  constructor(onChange) {
    this.#onChange = onChange;
    system.addEventListener("change", () => this.#show());
    by("theme").addEventListener("click", () => this.toggle());
    this.#show();
  }

  toggle() {
    const isDark = document.documentElement.dataset.theme === "dark";
    this.#chosen = isDark ? "light" : "dark";
    // What the system says anyway need not be remembered: then it is followed again.
    if ((this.#chosen === "dark") === system.matches) this.#chosen = null;
    try {
      if (this.#chosen) localStorage.setItem(KEY, this.#chosen);
      else localStorage.removeItem(KEY);
    } catch {
      // it holds for this page
    }
    this.#show();
  }

  #show() {
    const theme = this.#chosen ?? (system.matches ? "dark" : "light");
    document.documentElement.dataset.theme = theme;
    by("theme").setAttribute("aria-label", theme === "dark" ? "Switch to light" : "Switch to dark");
    this.#onChange();
  }
}
