// SPDX-License-Identifier: Apache-2.0
// The details of a node or an edge: what it does now, what it did, what went wrong, and the facts beneath.

import { chart } from "./charts.js";
import { by, h, refill, s } from "./dom.js";
import * as format from "./format.js";
import { KINDS } from "./model.js";

const ENDS = {
  both: "Both ends were seen.",
  client: "Only the caller's end was seen.",
  server: "Only the called end was seen.",
};
const FOUND_BY = { dns: "a DNS answer", config: "the configuration", container: "its container", systemd: "its unit" };

export class Panel {
  #panel = by("panel");
  #onGo;
  #opener = null;

  /** `onGo({ node } | { edge } | {})`: where a link leads; {} closes. */
  constructor(onGo) {
    this.#onGo = onGo;
  }

  get isOpen() {
    return !this.#panel.hidden;
  }

  open({ takesFocus }) {
    if (!this.isOpen) this.#opener = document.activeElement;
    this.#panel.hidden = false;
    if (takesFocus) this.#panel.focus();
  }

  close() {
    if (!this.isOpen) return;
    const hadFocus = this.#panel.contains(document.activeElement);
    this.#panel.hidden = true;
    this.#panel.replaceChildren();
    if (hadFocus) (this.#opener?.isConnected ? this.#opener : by("map")).focus();
  }

  /** `details` is null until they arrive, and where there are none any more. */
  showEdge(edge, details, graph) {
    const [client, server] = [graph.nodes.get(edge.client), graph.nodes.get(edge.server)];
    refill(
      this.#panel,
      this.#head(
        "Calls",
        [this.#link(client.name, { node: client.id }), h("span", { class: "arrow", "aria-label": "to" }, " → "), this.#link(server.name, { node: server.id })],
        [...edge.protocols.map(protocolName), edge.isCross ? "across zones" : ""].filter(Boolean),
      ),
      goldenFigures(edge),
      ...trouble(edge),
      ...details ? this.#past(details) : [],
      ...details ? [operations(details.operations), examples(details.examples)] : [waiting()],
      network(edge.raw),
      facts([
        ["Seen", `${ENDS[edge.raw.ends]}${edge.isEstimated ? " Its share of calls is estimated: one address leads to several services." : ""}`],
        ["By way of", edge.raw.via.join(", ")],
        ["Over", edge.raw.transports.map((one) => one.toUpperCase()).join(", ")],
        ["Zones", zonesOf(client, server)],
        ["First", edge.raw.first_seen_unix_ns ? format.clock(edge.raw.first_seen_unix_ns) : ""],
        ["Last", edge.raw.last_seen_unix_ns ? format.clock(edge.raw.last_seen_unix_ns) : ""],
      ]),
    );
  }

  showNode(node, details, graph) {
    const callers = this.#calls("Called by", node.callers, "client", graph);
    const callees = this.#calls("Calls", node.callees, "server", graph);
    refill(
      this.#panel,
      this.#head(KINDS[node.kind] ?? node.kind, [node.name], [node.namespace, ...node.zones].filter(Boolean)),
      goldenFigures(node),
      ...trouble(node),
      ...details ? this.#past(details) : [],
      callers,
      callees,
      ...details ? [operations(details.operations), examples(details.examples)] : [waiting()],
      instances(node.raw.instances),
      facts([
        ["Named by", FOUND_BY[node.raw.found_by] ?? node.raw.found_by],
        ["Addresses", node.raw.addresses.join("\n")],
        ["Last seen", node.raw.last_seen_unix_ns ? format.clock(node.raw.last_seen_unix_ns) : ""],
      ]),
    );
  }

  showGone(what) {
    refill(this.#panel, this.#head("Not here", [what], []), h("p", { class: "note" }, "It is not on the map now: there were no calls for a while, or the link is from another agent."));
  }

  #head(above, title, tags) {
    return h(
      "header",
      { class: "head" },
      h(
        "div",
        null,
        h("p", { class: "above" }, above),
        h("h2", null, title),
        tags.length ? h("ul", { class: "tags" }, tags.map((one) => h("li", null, one))) : null,
      ),
      h("button", { class: "icon", type: "button", "aria-label": "Close details", title: "Close (Esc)", "data-key": "close", onclick: () => this.#onGo({}) }, "×"),
    );
  }

  #link(text, target) {
    const key = `go ${target.node ?? target.edge}`;
    return h("button", { class: "link", type: "button", "data-key": key, onclick: () => this.#onGo(target) }, text);
  }

  #calls(title, edges, end, graph) {
    if (!edges.length) return null;
    const rows = [...edges].sort((a, b) => b.rate - a.rate).slice(0, 50);
    return section(
      `${title} ${edges.length}`,
      h(
        "ul",
        { class: "calls" },
        rows.map((edge) =>
          h(
            "li",
            null,
            h(
              "button",
              { type: "button", class: `row ${edge.health}`, "data-key": `go ${edge.id}`, onclick: () => this.#onGo({ edge: edge.id }) },
              healthSign(edge.health),
              h("span", { class: "name" }, graph.nodes.get(edge[end])?.name ?? edge[end]),
              h("span", { class: "number" }, edge.count ? format.rate(edge.rate) : edge.failures ? "cannot connect" : "idle"),
              h("span", { class: "number" }, edge.p99 === null ? "" : format.duration(edge.p99)),
              h("span", { class: `number${edge.errors ? " bad" : ""}` }, edge.errors ? format.share(edge.errorRatio) : ""),
            ),
          ),
        ),
      ),
      edges.length > rows.length ? h("p", { class: "note" }, `and ${edges.length - rows.length} more: see the table`) : null,
    );
  }

  #past({ history }) {
    const common = { stepS: history.step_s, endNs: history.end_unix_ns };
    const made = [
      chart({ ...common, title: "Rate", isFilled: true, show: (one) => (one === null ? "–" : format.rate(one)), lines: [{ name: "", values: history.rate, sign: "ok" }] }),
      chart({
        ...common,
        title: "Latency",
        show: format.duration,
        lines: [
          { name: "p99", values: history.p99_s, sign: "slow" },
          { name: "p50", values: history.p50_s, sign: "accent" },
        ],
      }),
      chart({ ...common, title: "Errors", isFilled: true, show: format.share, lines: [{ name: "", values: history.error_ratio, sign: "failing" }] }),
    ].filter(Boolean);
    return made.length ? [h("section", { class: "charts", "aria-label": "History" }, made)] : [h("p", { class: "note" }, "No history yet: it is drawn from the second reading on.")];
  }
}

const section = (title, ...content) => h("section", null, h("h3", null, title), content);
const waiting = () => h("p", { class: "note" }, "Asking the agent…");
export const protocolName = (one) => ({ http: "HTTP", redis: "Redis", dns: "DNS", connect: "connect", unknown: "unknown protocol", tcp: "TCP", udp: "UDP", unix: "Unix socket" })[one] ?? one;

export function healthSign(health) {
  const word = { ok: "well", slow: "slow", failing: "errors", idle: "idle" }[health];
  const shape = { ok: "M2 6h8", slow: "M2 6h3M7 6h3", failing: "M6 1.500L10.500 6 6 10.500 1.500 6z", idle: "M5.500 6h1" }[health];
  return s("svg", { viewBox: "0 0 12 12", class: `sign ${health}`, role: "img", "aria-label": word }, s("path", { d: shape }));
}

function goldenFigures(one) {
  const figure = (name, value, sign = "") => h("div", { class: sign }, h("dt", null, name), h("dd", null, value));
  return h(
    "dl",
    { class: "golden" },
    figure("rate", format.rate(one.rate)),
    figure("errors", format.share(one.errorRatio), one.errors ? "bad" : ""),
    ...(one.clientErrors ? [figure("4xx", format.share(one.clientErrorRatio))] : []),
    figure("p50", format.duration(one.p50)),
    figure("p99", format.duration(one.p99), one.health === "slow" ? "late" : ""),
  );
}

function trouble(one) {
  if (!one.failures) return [];
  const kinds = Object.entries(one.raw.network.connect_failures).map(([errno, times]) => `${format.count(times)} × ${errno}`);
  return [h("p", { class: "trouble" }, `Could not connect: ${kinds.join(", ")}.`)];
}

function operations(list) {
  if (!list.length) return null;
  return section(
    "Operations",
    h(
      "table",
      { class: "small" },
      h("thead", null, h("tr", null, ["Operation", "Rate", "Errors", "4xx", "p50", "p99"].map((one) => h("th", { scope: "col" }, one)))),
      h(
        "tbody",
        null,
        list.slice(0, 50).map(({ name, protocol, calls }) =>
          h(
            "tr",
            null,
            h("th", { scope: "row", title: `${name} (${protocolName(protocol)})` }, name),
            h("td", null, format.rate(calls.rate)),
            h("td", { class: calls.errors ? "bad" : "" }, calls.errors ? format.share(calls.error_ratio) : "–"),
            h("td", null, calls.client_errors ? format.share(calls.client_errors / calls.count) : "–"),
            h("td", null, format.duration(calls.p50_s)),
            h("td", null, format.duration(calls.p99_s)),
          ),
        ),
      ),
    ),
    list.length > 50 ? h("p", { class: "note" }, `and ${list.length - 50} more`) : null,
  );
}

function examples(list) {
  if (!list.length) return section("Slow and failed", h("p", { class: "note" }, "None lately."));
  return section(
    "Slow and failed, lately",
    h(
      "ul",
      { class: "examples" },
      list.slice(0, 20).map((one) =>
        h(
          "li",
          { class: one.is_error ? "failing" : "slow" },
          healthSign(one.is_error ? "failing" : "slow"),
          h("span", { class: "name", title: one.operation }, one.operation),
          h("span", { class: one.is_error ? "number bad" : "number" }, one.result),
          h("span", { class: "number" }, format.duration(one.duration_s)),
          h("time", { class: "number quiet" }, format.clock(one.time_unix_ns)),
          one.trace_url && /^https?:\/\//.test(one.trace_url)
            ? h("a", { href: one.trace_url, target: "_blank", rel: "noopener noreferrer", "data-key": `trace ${one.span_id}`, "aria-label": `Open the trace of ${one.operation}` }, "Trace ↗")
            : h("code", { class: "quiet", title: `Trace ${one.trace_id}` }, one.trace_id.slice(0, 8)),
        ),
      ),
    ),
    list.some((one) => one.trace_url) ? null : h("p", { class: "note" }, "Set web.trace_url, and each of these opens its trace."),
  );
}

function network({ network: facts_ }) {
  const failures = Object.values(facts_.connect_failures).reduce((sum, one) => sum + one, 0);
  const list = [
    ["Open connections", format.count(facts_.active)],
    ["Connects", `${format.count(facts_.connects)}${facts_.connect_p99_s === null ? "" : `, p99 ${format.duration(facts_.connect_p99_s)}`}`],
    ["Failed connects", failures ? Object.entries(facts_.connect_failures).map(([errno, times]) => `${format.count(times)} × ${errno}`).join("\n") : "none"],
    ["Round trip", facts_.rtt_p50_s === null ? "not known" : `p50 ${format.duration(facts_.rtt_p50_s)}, p99 ${format.duration(facts_.rtt_p99_s)}`],
    ["Sent again", facts_.retransmits ? `${format.count(facts_.retransmits)} segments` : "nothing"],
    ["Bytes there", format.bytes(facts_.sent_bytes)],
    ["Bytes back", format.bytes(facts_.received_bytes)],
  ];
  return section("Network", table(list));
}

function facts(list) {
  const known = list.filter(([, value]) => value);
  return known.length ? section("More", table(known)) : null;
}

const table = (list) => h("dl", { class: "facts" }, list.map(([name, value]) => [h("dt", null, name), h("dd", null, value)]));

function zonesOf(client, server) {
  if (!client.zones.length && !server.zones.length) return "";
  return `${client.zones.join(", ") || "not known"} → ${server.zones.join(", ") || "not known"}`;
}

function instances(list) {
  if (!list.length) return null;
  return section(
    list.length === 1 ? "1 instance" : `${list.length} instances`,
    h(
      "ul",
      { class: "instances" },
      list.slice(0, 30).map((one) =>
        h(
          "li",
          null,
          h("strong", null, `pid ${one.pid}`),
          h("span", null, one.host),
          one.zone ? h("span", null, one.zone) : null,
          one.container_id ? h("code", { title: one.container_id }, one.container_id.slice(0, 12)) : null,
        ),
      ),
    ),
    list.length > 30 ? h("p", { class: "note" }, `and ${list.length - 30} more`) : null,
  );
}
