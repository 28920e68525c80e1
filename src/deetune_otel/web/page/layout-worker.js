// SPDX-License-Identifier: Apache-2.0
// Layers from left to right, away from the page's own thread. dagre is good and slow: it orders what fits into its
// budget of edges (the busiest, and enough of them to hold everything together: 2,000 edges would take it minutes),
// and large maps are then packed, so that they are as wide as they are high.

import { Graph, layout } from "./vendor/dagre.esm.js";

const EXACT_EDGES = 120; // 0.1 s
const COLUMN_GAP = 116; // room for an edge's label
const ROW_GAP = 44;
const TIGHT_ROW_GAP = 26; // of a map with more nodes than fit a screen
const ROOMY_NODES = 40;

/** The edges that dagre is told of, as [client, server]. */
function backbone(ids, edges) {
  if (edges.length <= EXACT_EDGES) return edges;
  const parent = new Map(ids.map((id) => [id, id]));
  const root = (id) => {
    while (parent.get(id) !== id) {
      parent.set(id, parent.get(parent.get(id)));
      id = parent.get(id);
    }
    return id;
  };
  const kept = [];
  for (const edge of edges) { // the busiest first
    const [a, b] = [root(edge[0]), root(edge[1])];
    if (a === b) continue;
    parent.set(a, b);
    kept.push(edge);
  }
  return kept;
}

function order({ ids, edges, width, height }) {
  const graph = new Graph();
  const ranker = edges.length > EXACT_EDGES ? "longest-path" : "network-simplex";
  graph.setGraph({ rankdir: "LR", ranker, nodesep: ids.length > ROOMY_NODES ? TIGHT_ROW_GAP : ROW_GAP, ranksep: COLUMN_GAP, edgesep: 14 });
  graph.setDefaultEdgeLabel(() => ({}));
  for (const id of ids) graph.setNode(id, { width, height });
  for (const [client, server] of backbone(ids, edges)) graph.setEdge(client, server);
  layout(graph);
  return ids.map((id) => [id, graph.node(id).x, graph.node(id).y]);
}

/** Columns of even height, in dagre's order; a column that is too high stands in several. */
function pack(placed, { width, height }) {
  const columns = new Map();
  for (const one of placed) {
    const key = Math.round(one[1]);
    if (!columns.has(key)) columns.set(key, []);
    columns.get(key).push(one);
  }
  const most = Math.ceil(Math.sqrt(placed.length) * 1.3);
  const result = [];
  let x = 0;
  for (const key of [...columns.keys()].sort((a, b) => a - b)) {
    const column = columns.get(key).sort((a, b) => a[2] - b[2]);
    const parts = Math.ceil(column.length / most);
    const rows = Math.ceil(column.length / parts);
    column.forEach(([id], index) => {
      const row = Math.floor(index / parts);
      result.push([id, x + (index % parts) * (width + 40), (row - (rows - 1) / 2) * (height + TIGHT_ROW_GAP)]);
    });
    x += parts * (width + 40) + COLUMN_GAP - 40;
  }
  return result;
}

/** Who calls nobody and is called by nobody: in rows below the rest. */
function alone(ids, below, { width, height }) {
  const columns = Math.max(3, Math.ceil(Math.sqrt(ids.length)));
  return ids.map((id, index) => [
    id,
    (index % columns) * (width + 40),
    below + Math.floor(index / columns) * (height + ROW_GAP),
  ]);
}

function arrange(task) {
  const edges = task.edges.filter(([client, server]) => client !== server);
  const joined = new Set(edges.flat());
  const together = task.ids.filter((id) => joined.has(id));
  let placed = together.length ? order({ ...task, ids: together, edges }) : [];
  if (together.length > ROOMY_NODES) placed = pack(placed, task);
  const below = placed.reduce((most, one) => Math.max(most, one[2] + task.height * 2.5), 0);
  return [...placed, ...alone(task.ids.filter((id) => !joined.has(id)), below, task)];
}

onmessage = ({ data }) => postMessage({ turn: data.turn, placed: arrange(data) });
