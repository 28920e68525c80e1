// SPDX-License-Identifier: Apache-2.0
// What the keys and the signs mean.

import { by, h } from "./dom.js";

const KEYS = [
  ["/", "find a service or an address"],
  ["← →", "who calls it, whom it calls"],
  ["↑ ↓", "who stands above, below"],
  ["Enter", "open its details"],
  ["Esc", "close, step by step"],
  ["t", "table or map"],
  ["1 2 3 4", "1 minute, 5, 15, 1 hour"],
  ["f", "show everything"],
  ["+ −", "closer, further away"],
  ["l", "lay out anew"],
  ["d", "light or dark"],
  ["?", "this"],
];

const WORDS = [
  ["On an edge", "calls a second, the time that 99 % of them stay under, and ◆ the share that failed. The more calls, the thicker."],
  ["Errors", "from 1 % of failed calls, or a connect that failed, an edge counts as failing: short dashes and ◆."],
  ["Slow", "long dashes: its p99 is over the time that the filter “Slow” says (500 ms unless you choose another)."],
  ["Outlines", "a card is a service that was observed; a barrel a database; a dashed pill is outside; a dashed box an address; a pill with a person callers; a hexagon a virtual address."],
  ["Share a view", "the address of this page holds window, filters and what is open."],
];

export function showHelp() {
  const dialog = by("help");
  if (!dialog.childElementCount) {
    dialog.append(
      h("header", { class: "head" }, h("h2", { id: "help-title" }, "Keys and signs"), h("button", { type: "button", class: "icon", "aria-label": "Close", onclick: () => dialog.close() }, "×")),
      h("dl", { class: "keys" }, KEYS.map(([key, what]) => [h("dt", null, key.split(" ").map((one) => h("kbd", null, one))), h("dd", null, what)])),
      h("dl", { class: "words" }, WORDS.map(([word, what]) => [h("dt", null, word), h("dd", null, what)])),
    );
    dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  }
  if (dialog.open) dialog.close();
  else dialog.showModal();
}
