// SPDX-License-Identifier: Apache-2.0
// Small charts of the past: one line or two over time, read with the pointer or heard as a sentence.

import { h, s } from "./dom.js";
import * as format from "./format.js";

const [WIDTH, HEIGHT] = [320, 64];

/** `lines`: [{ name, values, sign }], oldest first, null where nothing is known; `show`: a value as text. */
export function chart({ title, lines, show, stepS, endNs, isFilled = false }) {
  const steps = lines[0].values.length;
  const known = lines.flatMap((line) => line.values).filter((one) => one !== null);
  if (steps < 2 || !known.length) return null;
  const highest = Math.max(...known);
  const most = highest || 1;
  const x = (index) => (index / (steps - 1)) * WIDTH;
  const y = (value) => HEIGHT - 3 - (value / most) * (HEIGHT - 8);
  const reading = h("output", { class: "reading" });
  const cursor = s("path", { class: "cursor" });
  const picture = s(
    "svg",
    { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", "aria-label": spoken(title, lines, show) },
    s("path", { class: "base", d: `M0 ${HEIGHT - 3}H${WIDTH}` }),
    lines.map((line) => [
      isFilled && s("path", { class: `fill ${line.sign}`, d: area(line.values, x, y) }),
      s("path", { class: `stroke ${line.sign}`, d: stroke(line.values, x, y) }),
    ]),
    cursor,
  );
  const rest = () => {
    cursor.setAttribute("d", "");
    reading.textContent = lines.map((line) => told(line, line.values.at(-1), show)).join("  ");
  };
  picture.addEventListener("pointermove", (event) => {
    const index = Math.round((event.offsetX / Math.max(1, picture.clientWidth)) * (steps - 1));
    if (index < 0 || index >= steps) return;
    cursor.setAttribute("d", `M${x(index)} 0V${HEIGHT}`);
    const at = format.clock(endNs - (steps - 1 - index) * stepS * 1e9);
    reading.textContent = `${at}  ${lines.map((line) => told(line, line.values[index], show)).join("  ")}`;
  });
  picture.addEventListener("pointerleave", rest);
  rest();
  return h(
    "figure",
    { class: "chart" },
    h("figcaption", null, h("span", null, h("strong", null, title), ` up to ${show(highest)}`), reading),
    h("div", { class: "plot" }, picture),
  );
}

const told = (line, value, show) => `${line.name ? `${line.name} ` : ""}${show(value ?? null)}`;

function spoken(title, lines, show) {
  const parts = lines.map((line) => {
    const known = line.values.filter((one) => one !== null);
    if (!known.length) return `${line.name}: nothing`;
    const between = `between ${show(Math.min(...known))} and ${show(Math.max(...known))}, now ${show(line.values.at(-1))}`;
    return line.name ? `${line.name} ${between}` : between;
  });
  return `${title}: ${parts.join("; ")}`;
}

/** Stretches of what is known; a single known step is a dash. */
function* stretches(values) {
  let from = null;
  for (let i = 0; i <= values.length; i += 1) {
    const isKnown = i < values.length && values[i] !== null;
    if (isKnown && from === null) from = i;
    if (!isKnown && from !== null) {
      yield [from, i - 1];
      from = null;
    }
  }
}

function stroke(values, x, y) {
  return [...stretches(values)]
    .map(([from, to]) => {
      if (from === to) return `M${x(from) - 2} ${y(values[from])}h4`;
      return values.slice(from, to + 1).map((one, i) => `${i ? "L" : "M"}${x(from + i)} ${y(one)}`).join("");
    })
    .join("");
}

function area(values, x, y) {
  return [...stretches(values)]
    .filter(([from, to]) => to > from)
    .map(([from, to]) => {
      const top = values.slice(from, to + 1).map((one, i) => `L${x(from + i)} ${y(one)}`).join("");
      return `M${x(from)} ${HEIGHT - 3}${top}L${x(to)} ${HEIGHT - 3}Z`;
    })
    .join("");
}
