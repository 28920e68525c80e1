// SPDX-License-Identifier: Apache-2.0
// The page: what the agent says and what the person wants, brought to the views.

import { edgeDetails, nodeDetails, Polling } from "./agent.js";
import { by, h } from "./dom.js";
import { Filters } from "./filters.js";
import * as format from "./format.js";
import { showHelp } from "./help.js";
import { MapView } from "./map-view.js";
import { read, seen } from "./model.js";
import { Panel } from "./panel.js";
import { State, WINDOWS } from "./state.js";
import { Table } from "./table.js";
import { Theme } from "./theme.js";

const state = new State();
const panel = new Panel(go);
const view = new MapView({ onSelect: go, onSay: sayNode });
const table = new Table({ onSelect: go, onSort: (sort) => state.set({ sort }) });
const filters = new Filters(state);
const theme = new Theme(() => view.repaint());
const polling = new Polling({ window: () => state.now.window, onMap: take, onGone: lose });

let map = null; // as the agent sent it
let graph = null;
let left = null; // what the filters leave
let details = { id: "", found: null };
let gone = null; // { since, reason } while the agent does not answer

function take(fresh) {
  map = fresh;
  gone = null;
  by("banner").hidden = true;
  document.body.classList.remove("gone");
  by("host").textContent = map.agents.map((agent) => agent.host).join(", ");
  rebuild();
  askDetails();
}

function rebuild() {
  if (!map) return;
  graph = read(map, state.now.slowS);
  filters.offer(graph);
  show();
}

function show() {
  if (!graph) return;
  left = seen(graph, state.now);
  view.show(graph, left);
  if (state.now.view === "table") table.show(graph, left, state.now);
  showSelected();
  showSummary();
  showEmpty();
}

function showSummary() {
  let [calls, errors] = [0, 0];
  for (const id of left.edges) {
    const edge = graph.edges.get(id);
    calls += edge.rate;
    errors += edge.errors / Math.max(1, map.window_s);
  }
  const parts = [format.plural(left.nodes.size, "node"), format.plural(left.edges.size, "edge"), format.rate(calls)];
  if (calls) parts.push(`${format.share(errors / calls)} errors`);
  if (map.window_s < state.now.window * 0.9) parts.push(`of the last ${format.age(map.window_s)}: the agent is young`);
  by("summary").textContent = parts.join(" · ");
}

function showEmpty() {
  const empty = by("empty");
  const isFiltered = graph.nodes.size > 0 && left.nodes.size === 0;
  empty.hidden = left.nodes.size > 0;
  if (empty.hidden) return;
  const words = isFiltered
    ? [h("h2", null, "Nothing fits these filters"), h("p", null, "There is more on the map than they let through."), h("button", { type: "button", onclick: () => state.clearFilters() }, "Clear filters")]
    : [
        h("h2", null, "No calls yet"),
        h("p", null, "A service appears here with its first request. Nothing has to be restarted or changed: use one of your programs, or start the example shop:"),
        h("pre", null, "deetune demo"),
        h("p", { class: "quiet" }, "Nothing after a minute? ", h("code", null, "deetune check"), " says what this kernel lets the agent see, and ", h("a", { href: "status" }, "/status"), " what it saw."),
      ];
  if (empty.dataset.kind !== String(isFiltered)) {
    empty.dataset.kind = String(isFiltered);
    empty.replaceChildren(...words);
  }
}

// What is selected

function go(target) {
  state.set({ node: target.node ?? "", edge: target.edge ?? "" });
  const id = target.node ?? target.edge;
  if (!id) return;
  panel.open({ takesFocus: Boolean(target.byKey) });
  view.reveal(id);
}

function showSelected() {
  const { node, edge } = state.now;
  const id = node || edge;
  view.select(id);
  if (!id) {
    panel.close();
    document.body.classList.remove("with-panel");
    return;
  }
  panel.open({ takesFocus: false });
  document.body.classList.add("with-panel");
  const found = node ? graph.nodes.get(node) : graph.edges.get(edge);
  const known = details.id === id ? details.found : null;
  if (!found) panel.showGone(id);
  else if (node) panel.showNode(found, known, graph);
  else panel.showEdge(found, known, graph);
}

async function askDetails() {
  const { node, edge, window } = state.now;
  const id = node || edge;
  if (!graph?.nodes.has(id) && !graph?.edges.has(id)) return; // the agent would not know it either
  try {
    const found = await (node ? nodeDetails(id, window) : edgeDetails(id, window));
    if (id !== (state.now.node || state.now.edge)) return;
    details = { id, found };
    showSelected();
  } catch {
    // The map is asked for every two seconds: that says it when the agent is gone.
  }
}

// The agent is gone

function lose(reason) {
  gone ??= { since: Date.now() };
  gone.reason = reason;
  document.body.classList.add("gone");
  sayGone();
}

function sayGone() {
  if (!gone) return;
  const banner = by("banner");
  const what = gone.reason ? `The agent cannot draw its map: ${gone.reason}.` : "The agent does not answer.";
  const which = map ? ` This is the map of ${format.clock(map.time_unix_ns)}, ${format.age(Date.now() / 1e3 - map.time_unix_ns / 1e9)} ago.` : "";
  banner.hidden = false;
  banner.textContent = `${what}${which} Asking again every 2 seconds.`;
}
setInterval(sayGone, 1000);

// Keys that hold everywhere

const GLOBAL = {
  "/": () => (by("search").focus(), by("search").select()),
  t: () => state.set({ view: state.now.view === "table" ? "map" : "table" }),
  "?": showHelp,
  d: () => theme.toggle(),
  f: () => view.fit(),
  l: () => view.anew(),
  "+": () => view.camera.by(1.25),
  "=": () => view.camera.by(1.25),
  "-": () => view.camera.by(0.8),
  ...Object.fromEntries(WINDOWS.map((window, index) => [String(index + 1), () => state.set({ window })])),
};

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey || by("help").open) {
    if (event.key === "?" && by("help").open) showHelp();
    return;
  }
  const isTyping = event.target === by("search");
  if (event.key === "Escape") return escape(isTyping);
  if (isTyping) {
    if (event.key === "Enter") firstFound();
    return;
  }
  if (event.target.tagName === "SELECT" || !GLOBAL[event.key]) return;
  event.preventDefault();
  GLOBAL[event.key]();
});

function escape(isTyping) {
  if (isTyping) {
    state.set({ q: "" });
    by("map").focus();
  } else if (panel.isOpen) go({});
  else if (state.now.q) state.set({ q: "" });
}

function firstFound() {
  const [id] = [...(left?.found ?? [])].sort((a, b) => graph.nodes.get(b).rate - graph.nodes.get(a).rate);
  if (id) go({ node: id, byKey: true });
}

function sayNode(id) {
  const node = graph.nodes.get(id);
  const errors = node.errors ? `, ${format.share(node.errorRatio)} errors` : "";
  by("said").textContent = `${node.name}, ${format.rate(node.rate)}${errors}; called by ${node.callers.length}, calls ${node.callees.length}`;
}

// The rest of the wiring

by("zoom-in").addEventListener("click", GLOBAL["+"]);
by("zoom-out").addEventListener("click", GLOBAL["-"]);
by("fit").addEventListener("click", GLOBAL.f);
by("tidy").addEventListener("click", GLOBAL.l);
by("ask").addEventListener("click", showHelp);
by("skip").addEventListener("click", (event) => {
  event.preventDefault();
  state.set({ view: "table" });
  by("table").focus();
});

function showView() {
  const isTable = state.now.view === "table";
  by("stage").hidden = isTable;
  by("table").hidden = !isTable;
}

state.listen((now, changed) => {
  filters.show();
  showView();
  if (changed.has("slowS")) rebuild();
  else show();
  if (changed.has("window")) polling.now();
  else if (changed.has("node") || changed.has("edge")) askDetails();
  const filtered = ["protocol", "namespace", "zone", "errors", "slow", "cross", "busy"];
  if (filtered.some((name) => changed.has(name))) view.fit();
});

showView();
polling.now();
