// SPDX-License-Identifier: Apache-2.0
// What each kind of node looks like: an outline and a sign, so that none of it hangs on colour. Centred on 0, 0.

import { NODE_HEIGHT as H, NODE_WIDTH as W } from "./layout.js";

const [X, Y] = [W / 2, H / 2];

function rounded(radius) {
  const path = new Path2D();
  path.roundRect(-X, -Y, W, H, radius);
  return path;
}

function cylinder() {
  const path = new Path2D();
  path.moveTo(-X, -Y + 5);
  path.ellipse(0, -Y + 5, X, 6, 0, Math.PI, 0);
  path.lineTo(X, Y - 5);
  path.ellipse(0, Y - 5, X, 6, 0, 0, Math.PI);
  path.closePath();
  return path;
}

function rimOfCylinder() {
  const path = new Path2D();
  path.ellipse(0, -Y + 5, X, 6, 0, 0, Math.PI);
  return path;
}

function hexagon() {
  const path = new Path2D();
  path.moveTo(-X + 14, -Y);
  path.lineTo(X - 14, -Y);
  path.lineTo(X, 0);
  path.lineTo(X - 14, Y);
  path.lineTo(-X + 14, Y);
  path.lineTo(-X, 0);
  path.closePath();
  return path;
}

/** Outline, dash of its line, and the sign in a field of 16 × 16. */
export const SHAPES = {
  service: { outline: rounded(12), dash: [], sign: new Path2D("M8 1.500l5.600 3.250v6.500L8 14.500l-5.600-3.250v-6.500zM2.600 4.900L8 8l5.400-3.100M8 8v6.300") },
  database: { outline: cylinder(), detail: rimOfCylinder(), dash: [], sign: new Path2D("M2.500 4c0-1.400 2.500-2.400 5.500-2.400s5.500 1 5.500 2.400-2.500 2.400-5.500 2.400S2.500 5.400 2.500 4zM2.500 4v8c0 1.400 2.500 2.400 5.500 2.400s5.500-1 5.500-2.400V4M2.500 8c0 1.400 2.500 2.400 5.500 2.400s5.500-1 5.500-2.400") },
  external: { outline: rounded(Y), dash: [6, 4], sign: new Path2D("M8 1.600a6.400 6.400 0 1 0 0 12.800A6.400 6.400 0 0 0 8 1.600zM1.600 8h12.800M8 1.600c2.200 2 2.900 4.100 2.900 6.400S10.200 12.400 8 14.400C5.800 12.400 5.100 10.300 5.100 8S5.800 3.600 8 1.600") },
  address: { outline: rounded(3), dash: [6, 4], sign: new Path2D("M6 2L4.500 14M11.500 2L10 14M2 5.500h12.500M1.500 10.500H14") },
  clients: { outline: rounded(Y), dash: [], sign: new Path2D("M8 2a2.900 2.900 0 1 0 0 5.800A2.900 2.900 0 0 0 8 2zM2.500 14c.3-3 2.400-4.600 5.500-4.600s5.200 1.600 5.500 4.600") },
  virtual: { outline: hexagon(), dash: [], sign: new Path2D("M2 8h4c3 0 2.500-4.500 5.500-4.500H14M6 8c3 0 2.500 4.500 5.500 4.500H14M12 1.500l2 2-2 2M12 10.500l2 2-2 2") },
  other: { outline: rounded(12), dash: [2, 4], sign: new Path2D("M3 8h.1M8 8h.1M13 8h.1") },
};

export const MARK = new Path2D("M0 -5L5 0L0 5L-5 0Z"); // errors
