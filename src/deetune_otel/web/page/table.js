// SPDX-License-Identifier: Apache-2.0
// The same as the map, for reading, sorting and screen readers: a row an edge.

import { by, h, refill } from "./dom.js";
import * as format from "./format.js";
import { healthSign, protocolName } from "./panel.js";

const ROWS = 200; // a page of it; more on request

const COLUMNS = [
  { key: "client", title: "From", value: (edge, graph) => graph.nodes.get(edge.client).name },
  { key: "server", title: "To", value: (edge, graph) => graph.nodes.get(edge.server).name },
  { key: "protocol", title: "Protocol", value: (edge) => edge.protocols.map(protocolName).join(", ") },
  { key: "rate", title: "Rate", value: (edge) => edge.rate, show: format.rate },
  { key: "errors", title: "Errors", value: (edge) => edge.errorRatio, show: format.share, bad: (edge) => edge.errors > 0 },
  { key: "4xx", title: "4xx", value: (edge) => edge.clientErrorRatio, show: format.share },
  { key: "p50", title: "p50", value: (edge) => edge.p50, show: format.duration },
  { key: "p99", title: "p99", value: (edge) => edge.p99, show: format.duration, late: (edge) => edge.health === "slow" },
  { key: "failures", title: "Failed connects", value: (edge) => edge.failures, show: (one) => (one ? format.count(one) : "–"), bad: (edge) => edge.failures > 0 },
  { key: "rtt", title: "RTT p50", value: (edge) => edge.raw.network.rtt_p50_s, show: format.duration },
  { key: "again", title: "Sent again", value: (edge) => edge.raw.network.retransmits, show: (one) => (one ? format.count(one) : "–") },
  { key: "bytes", title: "Bytes", value: (edge) => edge.raw.network.sent_bytes + edge.raw.network.received_bytes, show: format.bytes },
];

export class Table {
  #section = by("table");
  #most = ROWS;
  #onSelect;
  #onSort;

  constructor({ onSelect, onSort }) {
    this.#onSelect = onSelect;
    this.#onSort = onSort;
  }

  show(graph, seen, { sort, edge: selected, q }) {
    const isDown = sort.startsWith("-");
    const column = COLUMNS.find((one) => one.key === sort.replace(/^-/, "")) ?? COLUMNS[3];
    const edges = [...(q ? seen.foundEdges : seen.edges)].map((id) => graph.edges.get(id));
    edges.sort((a, b) => compare(column.value(a, graph), column.value(b, graph), isDown) || (a.id < b.id ? -1 : 1));
    const rows = edges.slice(0, this.#most);
    refill(
      this.#section,
      h(
        "table",
        { class: "edges" },
        h("caption", { class: "hidden" }, "Who calls whom"),
        h("thead", null, h("tr", null, COLUMNS.map((one) => this.#heading(one, column, isDown)))),
        h("tbody", null, rows.map((edge) => this.#row(edge, graph, edge.id === selected))),
      ),
      edges.length ? null : h("p", { class: "note" }, "No calls fit these filters."),
      edges.length > rows.length
        ? h("button", { type: "button", class: "link", "data-key": "more", onclick: () => this.#more(graph, seen, { sort, edge: selected, q }) }, `Show ${Math.min(ROWS * 5, edges.length - rows.length)} more of ${edges.length}`)
        : null,
    );
  }

  #more(...shown) {
    this.#most += ROWS * 5;
    this.show(...shown);
  }

  #heading(one, sorted, isDown) {
    const isSorted = one === sorted;
    const next = isSorted && isDown ? one.key : isSorted ? `-${one.key}` : one.show ? `-${one.key}` : one.key;
    return h(
      "th",
      { scope: "col", class: one.show ? "number" : "", "aria-sort": isSorted ? (isDown ? "descending" : "ascending") : null },
      h("button", { type: "button", "data-key": `sort ${one.key}`, onclick: () => this.#onSort(next) }, one.title, h("span", { "aria-hidden": "true", class: "way" }, isSorted ? (isDown ? "↓" : "↑") : "")),
    );
  }

  #row(edge, graph, isSelected) {
    const select = () => this.#onSelect({ edge: edge.id });
    return h(
      "tr",
      { class: isSelected ? "selected" : "", onclick: select },
      COLUMNS.map((column, index) => {
        const value = column.value(edge, graph);
        const text = column.show ? column.show(value) : value;
        if (index === 0) {
          return h("th", { scope: "row" }, healthSign(edge.health), h("button", { type: "button", class: "link", "data-key": edge.id, onclick: (event) => { event.stopPropagation(); this.#onSelect({ edge: edge.id, byKey: event.detail === 0 }); } }, text));
        }
        return h("td", { class: [column.show ? "number" : "", column.bad?.(edge) ? "bad" : "", column.late?.(edge) ? "late" : ""].join(" ").trim() }, text);
      }),
    );
  }
}

/** Nothing known comes last, either way. */
function compare(a, b, isDown) {
  if (a === null || a === undefined || b === null || b === undefined) return (a ?? null) === (b ?? null) ? 0 : a === null || a === undefined ? 1 : -1;
  const order = typeof a === "string" ? a.localeCompare(b) : a - b;
  return isDown ? -order : order;
}
