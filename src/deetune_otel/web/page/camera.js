// SPDX-License-Identifier: Apache-2.0
// What part of the map is seen, and the pointers that move it: drag, wheel, pinch, double click; a node can be dragged.

const LEAST = 0.08;
const MOST = 3;
const MARGIN = 44;
const BELOW = 32; // more at the bottom: there are the signs
// A phone shows a part that can be read rather than all of it.
const NARROW = 640; // px
const LEGIBLE = 0.6;
const CLICK_PX = 5;
const GLIDE_MS = 260;

const isStill = matchMedia("(prefers-reduced-motion: reduce)");

export class Camera {
  x = 0;
  y = 0;
  zoom = 1;
  isMoved = false; // by a person
  #glide = null;

  constructor(canvas, { onChange, onPick, onHover, nodeAt, onDrag }) {
    this.#canvas = canvas;
    this.#on = { onChange, onPick, onHover, nodeAt, onDrag };
    canvas.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
    canvas.addEventListener("pointerdown", (event) => this.#down(event));
    canvas.addEventListener("pointermove", (event) => this.#move(event));
    canvas.addEventListener("pointerup", (event) => this.#up(event));
    canvas.addEventListener("pointercancel", (event) => this.#up(event));
    canvas.addEventListener("pointerleave", () => onHover(null));
    canvas.addEventListener("dblclick", (event) => this.by(1.6, event.offsetX, event.offsetY));
  }

  #canvas;
  #on;
  #pointers = new Map();
  #dragged = null;
  #travel = 0;

  toMap(px, py) {
    return [(px - this.x) / this.zoom, (py - this.y) / this.zoom];
  }

  by(factor, px = this.#canvas.clientWidth / 2, py = this.#canvas.clientHeight / 2) {
    this.#stopGlide();
    this.isMoved = true;
    const zoom = Math.min(MOST, Math.max(LEAST, this.zoom * factor));
    const [mx, my] = this.toMap(px, py);
    Object.assign(this, { zoom, x: px - mx * zoom, y: py - my * zoom });
    this.#on.onChange();
  }

  /** Shows a box of the map, [left, top, right, bottom]. */
  fit(box, { most = 1.25, glides = true } = {}) {
    if (!box) return;
    const [width, height] = [this.#canvas.clientWidth, this.#canvas.clientHeight];
    const margin = Math.min(MARGIN, width / 10);
    const zoom = Math.max(
      width < NARROW ? LEGIBLE : LEAST,
      Math.min(most, (width - 2 * margin) / (box[2] - box[0]), (height - 2 * MARGIN - BELOW) / (box[3] - box[1])),
    );
    const target = {
      zoom,
      x: this.#left(box, zoom, width),
      y: (height - BELOW) / 2 - ((box[1] + box[3]) / 2) * zoom,
    };
    this.#go(target, glides);
  }

  /** In the middle; what is wider than the window begins at its left. */
  #left(box, zoom, width) {
    const isWider = (box[2] - box[0]) * zoom > width;
    return isWider ? 20 - box[0] * zoom : width / 2 - ((box[0] + box[2]) / 2) * zoom;
  }

  /** Moves no further than needed to have a box in sight; goes further away only where it is too large. */
  reveal(box) {
    const [width, height] = [this.#canvas.clientWidth, this.#canvas.clientHeight];
    const room = Math.min((width - MARGIN) / (box[2] - box[0]), (height - 2 * MARGIN) / (box[3] - box[1]));
    if (room < this.zoom) {
      this.fit(box, { most: this.zoom });
      return;
    }
    const [left, top] = [box[0] * this.zoom + this.x, box[1] * this.zoom + this.y];
    const [right, bottom] = [box[2] * this.zoom + this.x, box[3] * this.zoom + this.y];
    const dx = Math.max(0, MARGIN / 2 - left) - Math.max(0, right - (width - MARGIN / 2));
    const dy = Math.max(0, MARGIN - top) - Math.max(0, bottom - (height - MARGIN));
    if (dx || dy) this.#go({ zoom: this.zoom, x: this.x + dx, y: this.y + dy }, true);
  }

  #go(target, glides) {
    this.#stopGlide();
    if (!glides || isStill.matches) {
      Object.assign(this, target);
      this.#on.onChange();
      return;
    }
    const from = { x: this.x, y: this.y, zoom: this.zoom };
    const start = performance.now();
    const step = (now) => {
      const t = Math.min(1, Math.max(0, now - start) / GLIDE_MS);
      const eased = 1 - (1 - t) ** 3;
      for (const name of ["x", "y", "zoom"]) this[name] = from[name] + (target[name] - from[name]) * eased;
      this.#on.onChange();
      this.#glide = t < 1 ? requestAnimationFrame(step) : null;
    };
    this.#glide = requestAnimationFrame(step);
  }

  #stopGlide() {
    if (this.#glide) cancelAnimationFrame(this.#glide);
    this.#glide = null;
  }

  #wheel(event) {
    event.preventDefault();
    const unit = event.deltaMode === 1 ? 16 : 1;
    this.by(Math.exp(-event.deltaY * unit * (event.ctrlKey ? 0.01 : 0.0016)), event.offsetX, event.offsetY);
  }

  #down(event) {
    if (event.button !== 0) return;
    this.#canvas.setPointerCapture(event.pointerId);
    this.#pointers.set(event.pointerId, [event.offsetX, event.offsetY]);
    this.#travel = this.#pointers.size === 1 ? 0 : CLICK_PX;
    this.#dragged = this.#pointers.size === 1 ? this.#on.nodeAt(event.offsetX, event.offsetY) : null;
  }

  #move(event) {
    const before = this.#pointers.get(event.pointerId);
    const here = [event.offsetX, event.offsetY];
    if (!before) {
      this.#on.onHover(here);
      return;
    }
    const [dx, dy] = [here[0] - before[0], here[1] - before[1]];
    this.#travel += Math.hypot(dx, dy);
    if (this.#travel < CLICK_PX) return;
    this.#stopGlide();
    if (this.#pointers.size === 2) this.#pinch(event.pointerId, before, here);
    this.#pointers.set(event.pointerId, here);
    this.isMoved = true;
    if (this.#dragged) {
      this.#on.onDrag(this.#dragged, dx / this.zoom, dy / this.zoom);
      return;
    }
    const part = this.#pointers.size === 2 ? 0.5 : 1;
    this.x += dx * part;
    this.y += dy * part;
    this.#on.onChange();
  }

  #pinch(id, before, here) {
    const [other] = [...this.#pointers].filter(([one]) => one !== id).map(([, at]) => at);
    const apart = (at) => Math.max(1, Math.hypot(at[0] - other[0], at[1] - other[1]));
    this.by(apart(here) / apart(before), (here[0] + other[0]) / 2, (here[1] + other[1]) / 2);
  }

  #up(event) {
    if (!this.#pointers.delete(event.pointerId)) return;
    if (event.type === "pointerup" && this.#travel < CLICK_PX) this.#on.onPick(event.offsetX, event.offsetY);
    if (!this.#pointers.size) this.#dragged = null;
  }
}
