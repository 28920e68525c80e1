// SPDX-License-Identifier: Apache-2.0
// Where every node stands. A node keeps its place while the page is open, also while it is not there; a new one gets
// one near those it talks to. Only when nothing stands yet, while the first services still come in and nobody has
// touched the map, or when it is asked for, everything is laid out anew.

export const NODE_WIDTH = 172;
export const NODE_HEIGHT = 52;

const COLUMN = NODE_WIDTH + 116;
const ROW = NODE_HEIGHT + 26;
const REMEMBERED = 5000;
/** New nodes, as a share of those that stand, from which an untouched map is laid out anew. */
const MANY = 0.2;

export class Layout {
  places = new Map(); // id → { x, y }
  isTouched = false;
  #worker = new Worker(new URL("layout-worker.js", import.meta.url), { type: "module" });
  #turn = 0;
  #whenPlaced;
  #graph = null;

  /** `whenPlaced()` is called after a layout of everything. */
  constructor(whenPlaced) {
    this.#whenPlaced = whenPlaced;
    this.#worker.onmessage = ({ data }) => {
      if (data.turn !== this.#turn) return;
      for (const [id, x, y] of data.placed) this.places.set(id, { x, y });
      if (this.#graph) this.#placeNew(this.#graph);
      this.#whenPlaced();
    };
  }

  /** Gives every node of the graph a place, now or (before the first layout) soon. */
  follow(graph) {
    this.#graph = graph;
    const missing = [...graph.nodes.keys()].filter((id) => !this.places.has(id));
    if (!missing.length) return;
    const standing = graph.nodes.size - missing.length;
    if (!standing || (!this.isTouched && missing.length >= Math.max(1, standing * MANY))) this.anew(graph);
    else this.#placeNew(graph);
  }

  anew(graph) {
    this.#graph = graph;
    const byRate = [...graph.edges.values()].sort((a, b) => b.rate - a.rate || (a.id < b.id ? -1 : 1));
    this.#turn += 1;
    this.#worker.postMessage({
      turn: this.#turn,
      ids: [...graph.nodes.keys()],
      edges: byRate.map((edge) => [edge.client, edge.server]),
      width: NODE_WIDTH,
      height: NODE_HEIGHT,
    });
  }

  #placeNew(graph) {
    const waiting = new Set([...graph.nodes.keys()].filter((id) => !this.places.has(id)));
    while (waiting.size) {
      const before = waiting.size;
      for (const id of waiting) {
        const wished = this.#besideNeighbours(graph.nodes.get(id));
        if (!wished) continue;
        this.places.set(id, this.#freePlace(wished));
        waiting.delete(id);
      }
      if (waiting.size < before) continue;
      const [id] = waiting; // it knows nobody that stands
      this.places.set(id, this.#freePlace(this.#below()));
      waiting.delete(id);
    }
    for (const id of this.places.keys()) {
      if (this.places.size <= REMEMBERED) break;
      if (!graph.nodes.has(id)) this.places.delete(id);
    }
  }

  #besideNeighbours(node) {
    const wishes = [
      ...node.callers.map((edge) => [this.places.get(edge.client), COLUMN]),
      ...node.callees.map((edge) => [this.places.get(edge.server), -COLUMN]),
    ].filter(([place]) => place);
    if (!wishes.length) return null;
    return {
      x: wishes[0][0].x + wishes[0][1],
      y: wishes.reduce((sum, [place]) => sum + place.y, 0) / wishes.length,
    };
  }

  #below() {
    let [x, y] = [Infinity, -Infinity];
    for (const place of this.places.values()) {
      x = Math.min(x, place.x);
      y = Math.max(y, place.y);
    }
    return this.places.size ? { x, y: y + ROW * 1.5 } : { x: 0, y: 0 };
  }

  /** The nearest place above or below where nobody stands. */
  #freePlace({ x, y }) {
    const isFree = (tried) =>
      [...this.places.values()].every(
        (one) => Math.abs(one.x - x) >= NODE_WIDTH + 20 || Math.abs(one.y - tried) >= ROW - 8,
      );
    for (let step = 0; ; step += 1) {
      if (isFree(y + step * (ROW / 2))) return { x, y: y + step * (ROW / 2) };
      if (isFree(y - step * (ROW / 2))) return { x, y: y - step * (ROW / 2) };
    }
  }
}
