// SPDX-License-Identifier: Apache-2.0
// Elements in one line each. Text is always text: nothing that came over the wire is parsed as HTML.

const SVG = "http://www.w3.org/2000/svg";

function build(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((one) => one !== null && one !== undefined && one !== false));
  return element;
}

export const h = (tag, attributes, ...children) => build(document.createElement(tag), attributes, children);
export const s = (tag, attributes, ...children) => build(document.createElementNS(SVG, tag), attributes, children);
export const by = (id) => document.getElementById(id);

/** Replaces what is in `parent`; what had the focus (by `data-key`) has it afterwards, and the scroll stays. */
export function refill(parent, ...children) {
  const key = parent.contains(document.activeElement) ? document.activeElement.dataset.key : null;
  const { scrollTop, scrollLeft } = parent;
  parent.replaceChildren(...children.flat(Infinity).filter(Boolean));
  parent.scrollTop = scrollTop;
  parent.scrollLeft = scrollLeft;
  if (key) parent.querySelector(`[data-key="${CSS.escape(key)}"]`)?.focus({ preventScroll: true });
}
