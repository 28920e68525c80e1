// SPDX-License-Identifier: Apache-2.0
// The map on a canvas: edges, nodes, labels, in that order. From far away it draws less: names go first, then signs.
// Health is told by colour, by dash and by a mark.

import * as format from "./format.js";
import { pointOn } from "./geometry.js";
import { NODE_HEIGHT, NODE_WIDTH } from "./layout.js";
import { MARK, SHAPES } from "./shapes.js";

const FONT = "Inter, system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif";
const NAMES_FROM = 0.34; // zoom
const SIGNS_FROM = 0.2;
const LABELS_FROM = 0.5;
const LINE = 14.5; // of a label
// From far away many edges are a texture, in which only trouble should be seen.
const MANY = 200;
const FAINT = { ok: 0.35, idle: 0.2, slow: 0.5, failing: 0.9 };
const DIMMED = 0.25;
const DASHES = { ok: [], slow: [11, 5], failing: [5, 4], idle: [1.5, 6] };
const [X, Y] = [NODE_WIDTH / 2, NODE_HEIGHT / 2];

export function colours() {
  const style = getComputedStyle(document.documentElement);
  const of = (name) => style.getPropertyValue(`--${name}`).trim();
  return Object.fromEntries(
    ["ground", "surface", "ink", "quiet", "line", "edge", "accent", "ok", "slow", "failing", "idle", "glow", "rim"].map((name) => [name, of(name)]),
  );
}

const thickness = (edge) => (edge.health === "idle" ? 1.2 : Math.min(7, 1.3 + Math.log10(1 + edge.rate) * 1.5));

export class Drawing {
  #pen;
  #canvas;
  #texts = new Map(); // elided names by font and text
  #drawnAt = null; // the camera of the last whole drawing
  #copy = null; // of the last whole drawing, while it is being moved

  constructor(canvas) {
    this.#canvas = canvas;
    this.#pen = canvas.getContext("2d"); // transparent until the first drawing: the page's ground shows
  }

  /** `scene`: camera, graph, places, curves, seen, selected, near, hovered, focused, palette, isMoving. */
  draw(scene) {
    const pen = this.#pen;
    const ratio = Math.min(2, devicePixelRatio);
    const [width, height] = [this.#canvas.clientWidth, this.#canvas.clientHeight];
    if (this.#canvas.width !== Math.round(width * ratio) || this.#canvas.height !== Math.round(height * ratio)) {
      this.#canvas.width = Math.round(width * ratio);
      this.#canvas.height = Math.round(height * ratio);
    }
    const { x, y, zoom } = scene.camera;
    this.#drawnAt = { x, y, zoom };
    this.#copy = null;
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.fillStyle = scene.palette.ground;
    pen.fillRect(0, 0, width, height);
    pen.setTransform(ratio * zoom, 0, 0, ratio * zoom, ratio * x, ratio * y);
    const view = [-x / zoom, -y / zoom, (width - x) / zoom, (height - y) / zoom];
    this.#edges(scene, view);
    this.#nodes(scene, view);
    if (zoom >= LABELS_FROM) this.#labels(scene, view);
    pen.globalAlpha = 1;
  }

  /** Moves the last whole drawing to where the camera is now; false where there is none of this size. */
  shift(camera, palette) {
    const { width, height } = this.#canvas;
    const ratio = Math.min(2, devicePixelRatio);
    if (!this.#drawnAt || width !== Math.round(this.#canvas.clientWidth * ratio)) return false;
    if (!this.#copy) {
      this.#copy = new OffscreenCanvas(width, height);
      this.#copy.getContext("2d").drawImage(this.#canvas, 0, 0);
    }
    const scale = camera.zoom / this.#drawnAt.zoom;
    const pen = this.#pen;
    pen.setTransform(1, 0, 0, 1, 0, 0);
    pen.globalAlpha = 1;
    pen.fillStyle = palette.ground;
    pen.fillRect(0, 0, width, height);
    const left = (camera.x - this.#drawnAt.x * scale) * ratio;
    const top = (camera.y - this.#drawnAt.y * scale) * ratio;
    pen.drawImage(this.#copy, left, top, width * scale, height * scale);
    return true;
  }

  #strength(scene, id) {
    const { near, seen } = scene;
    if (near) return near.has(id) ? 1 : DIMMED;
    return seen.found.has(id) || seen.foundEdges.has(id) ? 1 : DIMMED;
  }

  #edges(scene, view) {
    const pen = this.#pen;
    const { zoom } = scene.camera;
    const strong = [];
    pen.lineCap = "butt";
    for (const id of scene.seen.edges) {
      const shape = scene.curves.get(id);
      if (!shape || !overlap(shape.box, view)) continue;
      if (scene.near?.has(id) || id === scene.hovered) strong.push(id);
      else this.#edge(scene, id, shape, zoom);
    }
    for (const id of strong) this.#edge(scene, id, scene.curves.get(id), zoom);
  }

  #edge(scene, id, { points }, zoom) {
    const pen = this.#pen;
    const { palette } = scene;
    const edge = scene.graph.edges.get(id);
    const isChosen = id === scene.selected || id === scene.hovered;
    const width = Math.max(thickness(edge), 0.9 / zoom);
    pen.globalAlpha = this.#strength(scene, id) * (zoom < LABELS_FROM && scene.seen.edges.size > MANY && !scene.near ? FAINT[edge.health] : 1);
    pen.beginPath();
    pen.moveTo(points[0], points[1]);
    pen.bezierCurveTo(points[2], points[3], points[4], points[5], points[6], points[7]);
    if (isChosen) {
      pen.setLineDash([]);
      pen.strokeStyle = palette.glow;
      pen.lineWidth = width + 9;
      pen.stroke();
    }
    const colour = edge.health === "ok" ? palette.edge : palette[edge.health];
    pen.setLineDash(DASHES[edge.health]);
    pen.strokeStyle = colour;
    pen.lineWidth = width;
    pen.stroke();
    pen.setLineDash([]);
    if (zoom < SIGNS_FROM) return;
    pen.fillStyle = colour;
    this.#arrow(points, width);
    if (edge.isCross) this.#ticks(points, colour);
    if (edge.health === "failing" && zoom < LABELS_FROM) this.#mark(pointOn(points, 0.5), 1.3);
  }

  #arrow(points, width) {
    const pen = this.#pen;
    const [tx, ty] = [points[6], points[7]];
    const [fx, fy] = pointOn(points, 0.94);
    const angle = Math.atan2(ty - fy, tx - fx);
    const size = 7 + width * 0.9;
    pen.beginPath();
    pen.moveTo(tx + Math.cos(angle) * 8, ty + Math.sin(angle) * 8);
    for (const turn of [2.6, -2.6]) pen.lineTo(tx + Math.cos(angle + turn) * size * 0.75, ty + Math.sin(angle + turn) * size * 0.75);
    pen.closePath();
    pen.fill();
  }

  /** Two strokes across: from one zone to another. */
  #ticks(points, colour) {
    const pen = this.#pen;
    pen.strokeStyle = colour;
    pen.lineWidth = 1.6;
    pen.beginPath();
    for (const t of [0.1, 0.14]) {
      const [px, py] = pointOn(points, t);
      pen.moveTo(px - 2.5, py + 7);
      pen.lineTo(px + 2.5, py - 7);
    }
    pen.stroke();
  }

  #mark([px, py], size) {
    const pen = this.#pen;
    pen.save();
    pen.translate(px, py);
    pen.scale(size, size);
    pen.fill(MARK);
    pen.restore();
  }

  #nodes(scene, view) {
    for (const id of scene.seen.nodes) {
      const place = scene.places.get(id);
      if (!place || !overlap([place.x - X, place.y - Y, place.x + X, place.y + Y], view)) continue;
      this.#node(scene, scene.graph.nodes.get(id), place);
    }
  }

  #node(scene, node, { x, y }) {
    const pen = this.#pen;
    const { palette, camera } = scene;
    const shape = SHAPES[node.kind] ?? SHAPES.other;
    const isFocused = node.id === scene.focused;
    const isChosen = node.id === scene.selected;
    pen.save();
    pen.translate(x, y);
    // Nothing shines through a node that is only pale.
    pen.fillStyle = palette.ground;
    pen.fill(shape.outline);
    pen.globalAlpha = this.#strength(scene, node.id);
    pen.fillStyle = palette.surface;
    pen.fill(shape.outline);
    if (isChosen || isFocused || node.id === scene.hovered) {
      pen.strokeStyle = palette.glow;
      pen.lineWidth = 8;
      pen.stroke(shape.outline);
    }
    const troubled = node.health === "failing" || node.health === "slow";
    pen.strokeStyle = isChosen || isFocused ? palette.accent : troubled ? palette[node.health] : palette.rim;
    pen.lineWidth = Math.max(isChosen || isFocused ? 2.2 : troubled ? 1.6 : 1.2, 0.8 / camera.zoom);
    pen.setLineDash(shape.dash);
    pen.stroke(shape.outline);
    if (shape.detail) pen.stroke(shape.detail);
    pen.setLineDash([]);
    if (camera.zoom >= SIGNS_FROM) this.#sign(scene, node, shape);
    if (camera.zoom >= NAMES_FROM) this.#words(scene, node);
    pen.restore();
  }

  #sign({ palette }, node, shape) {
    const pen = this.#pen;
    const colour = node.health === "failing" || node.health === "slow" ? palette[node.health] : node.kind === "service" ? palette.accent : palette.quiet;
    pen.save();
    pen.translate(-X + 11, node.kind === "database" ? -5 : -9);
    pen.scale(18 / 16, 18 / 16);
    pen.strokeStyle = colour;
    pen.lineWidth = node.kind === "other" ? 2.4 : 1.35;
    pen.lineCap = "round";
    pen.lineJoin = "round";
    pen.stroke(shape.sign);
    pen.restore();
  }

  #words({ palette }, node) {
    const pen = this.#pen;
    const isBarrel = node.kind === "database";
    const [left, drop] = [-X + 38, isBarrel ? 3 : 0];
    const below = node.count ? format.rate(node.rate) : node.callees.length ? "" : node.namespace;
    const more = node.count && node.p99 !== null ? `${below} · ${format.duration(node.p99)}` : below;
    pen.textBaseline = "alphabetic";
    pen.textAlign = "left";
    pen.fillStyle = palette.ink;
    pen.font = `600 14px ${FONT}`;
    pen.fillText(this.#fitting(node.name, X * 2 - 48, "name"), left, (below ? -3 : 5) + drop);
    if (!below) return;
    let room = X * 2 - 48;
    if (node.errors > 0) room -= this.#errorsAt(palette, format.share(node.errorRatio), X - 10, 15 + drop) + 8;
    pen.font = `12px ${FONT}`;
    pen.fillStyle = palette.quiet;
    const text = pen.measureText(more).width <= room ? more : this.#fitting(below, Math.round(room), "below");
    pen.fillText(text, left, 15 + drop);
  }

  /** The mark and a share, ending at `right`; how wide it is. */
  #errorsAt(palette, text, right, baseline) {
    const pen = this.#pen;
    pen.textAlign = "right";
    pen.font = `600 12px ${FONT}`;
    pen.fillStyle = palette.failing;
    pen.fillText(text, right, baseline);
    const width = pen.measureText(text).width + 8;
    this.#mark([right - width, baseline - 4], 0.75);
    pen.textAlign = "left";
    return width + 4;
  }

  #fitting(text, room, font) {
    const key = `${font} ${room} ${text}`;
    let found = this.#texts.get(key);
    if (found === undefined) {
      found = text;
      if (this.#pen.measureText(text).width > room) {
        // In the middle: names of one system begin alike, and differ at their ends.
        const cut = (length) => `${text.slice(0, Math.ceil(length / 2))}…${text.slice(text.length - Math.floor(length / 2))}`;
        let [fits, most] = [1, text.length - 1];
        while (fits < most) {
          const length = Math.ceil((fits + most) / 2);
          if (this.#pen.measureText(cut(length)).width > room) most = length - 1;
          else fits = length;
        }
        found = cut(fits);
      }
      if (this.#texts.size > 4000) this.#texts.clear();
      this.#texts.set(key, found);
    }
    return found;
  }

  /** The most telling first; one that would lie on another or on a node is moved along its edge, or left out. */
  #labels(scene, view) {
    const taken = new Taken(scene, view);
    const shown = [...scene.seen.edges].filter((id) => {
      const shape = scene.curves.get(id);
      return shape && overlap(shape.box, view) && this.#strength(scene, id) === 1;
    });
    const weight = (id) => {
      const edge = scene.graph.edges.get(id);
      const chosen = id === scene.selected || id === scene.hovered ? 1e9 : 0;
      return chosen + (edge.health === "failing" ? 1e6 : 0) + (edge.health === "slow" ? 1e5 : 0) + edge.rate;
    };
    shown.sort((a, b) => weight(b) - weight(a));
    for (const id of shown.slice(0, 400)) this.#label(scene, id, taken);
  }

  #label(scene, id, taken) {
    const pen = this.#pen;
    const edge = scene.graph.edges.get(id);
    const isChosen = id === scene.selected || id === scene.hovered;
    if (edge.health === "idle" && !isChosen) return;
    const { palette } = scene;
    const lines = edge.count ? [format.rate(edge.rate), format.duration(edge.p99)] : edge.failures ? ["cannot", "connect"] : ["idle"];
    const trouble = edge.errors ? format.share(edge.errorRatio) : edge.count && edge.failures ? "connect" : "";
    pen.font = `600 12px ${FONT}`;
    const troubleWidth = trouble ? pen.measureText(trouble).width + 12 : 0;
    pen.font = `12px ${FONT}`;
    const w = Math.max(troubleWidth, ...lines.map((line) => pen.measureText(line).width)) + 16;
    const h = (lines.length + (trouble ? 1 : 0)) * LINE + 7;
    const at = taken.room(scene.curves.get(id).points, w, h, isChosen);
    if (!at) return;
    const [left, top] = [at[0] - w / 2, at[1] - h / 2];
    pen.globalAlpha = 1;
    pen.beginPath();
    pen.roundRect(left, top, w, h, 9);
    pen.fillStyle = palette.surface;
    pen.fill();
    pen.strokeStyle = isChosen ? palette.accent : edge.health === "failing" || edge.health === "slow" ? palette[edge.health] : palette.line;
    pen.lineWidth = 1;
    pen.stroke();
    pen.textBaseline = "alphabetic";
    pen.textAlign = "center";
    lines.forEach((line, row) => {
      pen.fillStyle = row === 0 ? palette.ink : edge.health === "slow" ? palette.slow : palette.quiet;
      pen.fillText(line, at[0], top + (row + 1) * LINE);
    });
    if (trouble) this.#errorsAt(palette, trouble, at[0] + troubleWidth / 2, top + (lines.length + 1) * LINE);
  }
}

/** Where nodes and labels already are, in a coarse grid. */
class Taken {
  #cells = new Map();

  constructor(scene, view) {
    for (const id of scene.seen.nodes) {
      const place = scene.places.get(id);
      if (!place) continue;
      const box = [place.x - X - 4, place.y - Y - 3, place.x + X + 4, place.y + Y + 3];
      if (overlap(box, view)) this.#add(box);
    }
  }

  /** The middle of a free spot on the curve, or null. */
  room(points, w, h, isNeeded) {
    for (const t of [0.5, 0.42, 0.58, 0.34, 0.66, 0.26, 0.74]) {
      const at = pointOn(points, t);
      const box = [at[0] - w / 2 - 2, at[1] - h / 2 - 2, at[0] + w / 2 + 2, at[1] + h / 2 + 2];
      if (!this.#isFree(box)) continue;
      this.#add(box);
      return at;
    }
    return isNeeded ? pointOn(points, 0.5) : null;
  }

  *#keys([left, top, right, bottom]) {
    for (let i = Math.floor(left / 200); i <= Math.floor(right / 200); i += 1) {
      for (let j = Math.floor(top / 100); j <= Math.floor(bottom / 100); j += 1) yield `${i} ${j}`;
    }
  }

  #add(box) {
    for (const key of this.#keys(box)) {
      if (!this.#cells.has(key)) this.#cells.set(key, []);
      this.#cells.get(key).push(box);
    }
  }

  #isFree(box) {
    for (const key of this.#keys(box)) {
      if (this.#cells.get(key)?.some((one) => overlap(one, box))) return false;
    }
    return true;
  }
}

function overlap(a, b) {
  return a[0] < b[2] && a[2] > b[0] && a[1] < b[3] && a[3] > b[1];
}
