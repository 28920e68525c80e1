// SPDX-License-Identifier: Apache-2.0
// The map: keeps layout, camera and drawing together, finds what is under the pointer, walks with the arrow keys.

import { Camera } from "./camera.js";
import { by } from "./dom.js";
import { colours, Drawing } from "./drawing.js";
import { curves, distanceTo, pointOn } from "./geometry.js";
import { Layout, NODE_HEIGHT, NODE_WIDTH } from "./layout.js";

// More than this is not drawn in every frame of a movement: the picture is moved, and drawn anew when it rests.
const HEAVY = 350; // nodes and edges
const REST_MS = 140;
const REACH_PX = 8; // how near an edge a pointer has to be
const NOTHING = { nodes: new Set(), edges: new Set(), found: new Set(), foundEdges: new Set() };

export class MapView {
  focused = null; // node id, by keyboard
  #canvas = by("map");
  #graph = null;
  #seen = NOTHING;
  #selected = "";
  #near = null;
  #hovered = null;
  #curves = new Map();
  #palette = colours();
  #isDue = false;
  #resting = null;
  #isMoving = false;
  #on;

  /** `onSelect({ node } | { edge } | {})`, `onSay(node id)`. */
  constructor({ onSelect, onSay }) {
    this.#on = { onSelect, onSay };
    this.drawing = new Drawing(this.#canvas);
    this.#canvas.whereIs = (id) => this.#whereIs(id); // nothing else can tell what is where in a picture
    this.layout = new Layout(() => this.#placed());
    this.camera = new Camera(this.#canvas, {
      onChange: () => this.#moved(),
      onPick: (px, py) => this.#pick(px, py),
      onHover: (at) => this.#hover(at),
      nodeAt: (px, py) => this.#nodeAt(...this.camera.toMap(px, py)),
      onDrag: (id, dx, dy) => this.#drag(id, dx, dy),
    });
    new ResizeObserver(() => this.#drawSoon()).observe(this.#canvas);
    addEventListener("resize", () => !this.camera.isMoved && this.fit({ glides: false }));
    this.#canvas.addEventListener("keydown", (event) => this.#key(event));
    this.#canvas.addEventListener("focus", () => this.#drawSoon());
    this.#canvas.addEventListener("blur", () => this.#drawSoon());
  }

  show(graph, seen) {
    const isFirst = !this.#graph;
    this.#graph = graph;
    this.#seen = seen;
    this.layout.isTouched ||= this.camera.isMoved || Boolean(this.#selected);
    this.layout.follow(graph);
    this.#canvas.setAttribute("aria-label", `Service map: ${seen.nodes.size} nodes, ${seen.edges.size} edges`);
    this.#trace();
    if (isFirst) this.fit({ glides: false });
  }

  select(id) {
    this.#selected = id;
    if (this.#graph?.nodes.has(id)) this.focused = id;
    this.#findNear();
    this.#drawSoon();
  }

  repaint() {
    this.#palette = colours();
    this.#drawSoon();
  }

  fit(options = {}) {
    this.camera.fit(this.#boxOf(this.#seen.nodes), options);
  }

  anew() {
    if (!this.#graph) return;
    this.layout.isTouched = false;
    this.camera.isMoved = false;
    this.layout.anew(this.#graph);
  }

  /** Brings what is selected, and those it talks to, into sight. */
  reveal(id) {
    const box = this.#boxOf([...(this.#near ?? []), id].filter((one) => this.#seen.nodes.has(one)));
    // After the panel has taken its room.
    if (box) requestAnimationFrame(() => this.camera.reveal(box));
  }

  /** Where a node or the middle of an edge is, in px of the canvas; null where it is not shown. */
  #whereIs(id) {
    const place = this.#seen.nodes.has(id) ? this.layout.places.get(id) : null;
    const shape = this.#curves.get(id);
    const at = place ? [place.x, place.y] : shape ? pointOn(shape.points, 0.5) : null;
    return at && [at[0] * this.camera.zoom + this.camera.x, at[1] * this.camera.zoom + this.camera.y];
  }

  #placed() {
    this.#trace();
    if (!this.camera.isMoved) this.fit({ glides: false });
  }

  #trace() {
    const shown = [...this.#seen.edges].map((id) => this.#graph.edges.get(id)).filter(Boolean);
    this.#curves = curves(shown, this.layout.places);
    this.#findNear();
    this.#drawSoon();
  }

  /** What a selection lights up: a node with its edges and their other ends, an edge with both of its. */
  #findNear() {
    this.#near = null;
    const node = this.#graph?.nodes.get(this.#selected);
    const edge = this.#graph?.edges.get(this.#selected);
    if (edge) this.#near = new Set([edge.id, edge.client, edge.server]);
    if (node) {
      this.#near = new Set([node.id]);
      for (const one of [...node.callers, ...node.callees]) this.#near.add(one.id).add(one.client).add(one.server);
    }
  }

  #boxOf(ids) {
    const places = [...ids].map((id) => this.layout.places.get(id)).filter(Boolean);
    if (!places.length) return null;
    const xs = places.map((one) => one.x);
    const ys = places.map((one) => one.y);
    return [
      Math.min(...xs) - NODE_WIDTH / 2,
      Math.min(...ys) - NODE_HEIGHT / 2,
      Math.max(...xs) + NODE_WIDTH / 2,
      Math.max(...ys) + NODE_HEIGHT / 2,
    ];
  }

  #moved() {
    if (this.#seen.nodes.size + this.#seen.edges.size > HEAVY) {
      this.#isMoving = true;
      clearTimeout(this.#resting);
      this.#resting = setTimeout(() => {
        this.#isMoving = false;
        this.#drawSoon();
      }, REST_MS);
    }
    this.#drawSoon();
  }

  #drawSoon() {
    if (this.#isDue) return;
    this.#isDue = true;
    requestAnimationFrame(() => {
      this.#isDue = false;
      if (!this.#graph || !this.#canvas.clientWidth) return;
      this.#canvas.dataset.placed = this.layout.places.size;
      if (this.#isMoving && this.drawing.shift(this.camera, this.#palette)) return;
      this.drawing.draw({
        camera: this.camera,
        graph: this.#graph,
        places: this.layout.places,
        curves: this.#curves,
        seen: this.#seen,
        selected: this.#selected,
        near: this.#near,
        hovered: this.#hovered,
        focused: document.activeElement === this.#canvas ? this.focused : null,
        palette: this.#palette,
      });
    });
  }

  #nodeAt(x, y) {
    for (const id of this.#seen.nodes) {
      const place = this.layout.places.get(id);
      if (place && Math.abs(place.x - x) <= NODE_WIDTH / 2 && Math.abs(place.y - y) <= NODE_HEIGHT / 2) return id;
    }
    return null;
  }

  #edgeAt(x, y) {
    const reach = REACH_PX / this.camera.zoom;
    let [nearest, found] = [reach, null];
    for (const [id, { points, box }] of this.#curves) {
      if (x < box[0] - reach || x > box[2] + reach || y < box[1] - reach || y > box[3] + reach) continue;
      const distance = distanceTo(points, x, y);
      if (distance < nearest) [nearest, found] = [distance, id];
    }
    return found;
  }

  #pick(px, py) {
    const [x, y] = this.camera.toMap(px, py);
    const node = this.#nodeAt(x, y);
    const edge = node ? null : this.#edgeAt(x, y);
    this.#on.onSelect(node ? { node } : edge ? { edge } : {});
  }

  #hover(at) {
    const [x, y] = at ? this.camera.toMap(...at) : [];
    const found = at ? this.#nodeAt(x, y) ?? this.#edgeAt(x, y) : null;
    if (found === this.#hovered) return;
    this.#hovered = found;
    this.#canvas.classList.toggle("over", Boolean(found));
    this.#drawSoon();
  }

  #drag(id, dx, dy) {
    const place = this.layout.places.get(id);
    this.layout.places.set(id, { x: place.x + dx, y: place.y + dy });
    this.layout.isTouched = true;
    this.#trace();
  }

  #key(event) {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (step) {
      const next = this.#neighbour(...step);
      if (next) this.#focus(next);
    } else if (event.key === "Enter" && this.focused) {
      this.#on.onSelect({ node: this.focused, byKey: true });
    } else return;
    event.preventDefault();
  }

  #focus(id) {
    this.focused = id;
    this.camera.reveal(this.#boxOf([id]));
    this.#on.onSay(id);
    this.#drawSoon();
  }

  /** To the right: whom it calls; to the left: who calls it; up and down: who stands there. */
  #neighbour(dx, dy) {
    const { places } = this.layout;
    const shown = [...this.#seen.nodes].filter((id) => places.has(id));
    if (!this.focused || !places.has(this.focused) || !this.#seen.nodes.has(this.focused)) {
      return shown.sort((a, b) => places.get(a).x - places.get(b).x || places.get(a).y - places.get(b).y)[0] ?? null;
    }
    const here = places.get(this.focused);
    const node = this.#graph.nodes.get(this.focused);
    const joined = dx > 0 ? node?.callees.map((edge) => edge.server) : dx < 0 ? node?.callers.map((edge) => edge.client) : [];
    const wanted = joined?.filter((id) => id !== this.focused && this.#seen.nodes.has(id) && places.has(id)) ?? [];
    const off = (id) => {
      const [x, y] = [places.get(id).x - here.x, places.get(id).y - here.y];
      const along = x * dx + y * dy;
      const across = Math.abs(x * dy) + Math.abs(y * dx);
      return along > 1 ? along + across * 2.5 : Infinity;
    };
    if (wanted.length) return wanted.sort((a, b) => Math.abs(places.get(a).y - here.y) - Math.abs(places.get(b).y - here.y))[0];
    const [best] = shown.filter((id) => id !== this.focused).sort((a, b) => off(a) - off(b));
    return best && off(best) < Infinity ? best : null;
  }
}
