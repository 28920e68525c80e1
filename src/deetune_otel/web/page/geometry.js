// SPDX-License-Identifier: Apache-2.0
// Curves between nodes: an edge leaves its client on the right and reaches its server on the left. All in the map's
// own coordinates.

import { NODE_HEIGHT, NODE_WIDTH } from "./layout.js";

const HALF = NODE_WIDTH / 2;
const ARROW = 9;
const SPREAD = NODE_HEIGHT * 0.62; // along a node's side, where its edges begin or end

function curve(from, fromY, to, toY) {
  if (from === to) { // a service that calls itself
    const [x, y] = [from.x + HALF, from.y];
    return [x, y - 8, x + 70, y - 70, x - 150, y - 90, x - 60, y - NODE_HEIGHT / 2 - ARROW + 4];
  }
  const [x1, y1, x2, y2] = [from.x + HALF, from.y + fromY, to.x - HALF - ARROW, to.y + toY];
  const isBack = x2 < x1 + 20;
  const reach = isBack ? Math.min(200, 70 + (x1 - x2) * 0.16) : Math.max(40, (x2 - x1) * 0.5);
  if (!isBack) return [x1, y1, x1 + reach, y1, x2 - reach, y2, x2, y2];
  // Back to the left: in an arc that stays clear of both nodes.
  const bow = Math.abs(y2 - y1) < NODE_HEIGHT * 1.5 ? NODE_HEIGHT * 1.8 : 0;
  return [x1, y1, x1 + reach, y1 + bow, x2 - reach, y2 + bow, x2, y2];
}

/** At 0..1 of a curve. */
export function pointOn([x1, y1, cx1, cy1, cx2, cy2, x2, y2], t) {
  const u = 1 - t;
  const [a, b, c, d] = [u * u * u, 3 * u * u * t, 3 * u * t * t, t * t * t];
  return [a * x1 + b * cx1 + c * cx2 + d * x2, a * y1 + b * cy1 + c * cy2 + d * y2];
}

/** Curves by edge id, with the box around each: [left, top, right, bottom]. */
export function curves(edges, places) {
  const shown = [...edges].filter((edge) => places.has(edge.client) && places.has(edge.server));
  const starts = spread(shown, "client", "server", places);
  const ends = spread(shown, "server", "client", places);
  return new Map(
    shown.map((edge) => {
      const points = curve(places.get(edge.client), starts.get(edge.id), places.get(edge.server), ends.get(edge.id));
      const xs = [points[0], points[2], points[4], points[6]];
      const ys = [points[1], points[3], points[5], points[7]];
      return [edge.id, { points, box: [Math.min(...xs), Math.min(...ys), Math.max(...xs), Math.max(...ys)] }];
    }),
  );
}

/** How far from a side's middle each edge begins (or ends): in the order of the other ends, so that few cross. */
function spread(edges, here, there, places) {
  const sides = new Map();
  for (const edge of edges) {
    if (!sides.has(edge[here])) sides.set(edge[here], []);
    sides.get(edge[here]).push(edge);
  }
  const offsets = new Map();
  for (const side of sides.values()) {
    side.sort((a, b) => places.get(a[there]).y - places.get(b[there]).y || (a.id < b.id ? -1 : 1));
    const step = Math.min(11, SPREAD / Math.max(1, side.length - 1));
    side.forEach((edge, index) => offsets.set(edge.id, (index - (side.length - 1) / 2) * step));
  }
  return offsets;
}

/** Distance from a point to a curve, near enough for a pointer. */
export function distanceTo(points, x, y) {
  let nearest = Infinity;
  let [px, py] = pointOn(points, 0);
  for (let i = 1; i <= 24; i += 1) {
    const [qx, qy] = pointOn(points, i / 24);
    const [dx, dy] = [qx - px, qy - py];
    const t = Math.max(0, Math.min(1, ((x - px) * dx + (y - py) * dy) / (dx * dx + dy * dy || 1)));
    nearest = Math.min(nearest, Math.hypot(x - px - t * dx, y - py - t * dy));
    [px, py] = [qx, qy];
  }
  return nearest;
}
