// SPDX-License-Identifier: Apache-2.0
// The agent's map as the page needs it: golden metrics of edges and nodes, who is whose neighbour, and what the
// filters leave of it. An edge of several protocols shows the sum of their calls and the worst of their quantiles.

export const KINDS = {
  service: "Service",
  database: "Database, not observed itself",
  external: "Outside, not observed",
  address: "Address, not observed",
  clients: "Callers, not observed",
  virtual: "Virtual address",
  other: "The rest, over a bound",
};

/** Share of failed calls from which an edge is drawn as failing. */
const FAILING_FROM = 0.01;

function golden(calls) {
  const sum = { rate: 0, count: 0, errors: 0, clientErrors: 0, p50: null, p99: null, requestBytes: 0, responseBytes: 0 };
  for (const { calls: tally } of calls) {
    sum.rate += tally.rate;
    sum.count += tally.count;
    sum.errors += tally.errors;
    sum.clientErrors += tally.client_errors ?? 0;
    sum.requestBytes += tally.request_bytes;
    sum.responseBytes += tally.response_bytes;
    if (tally.p50_s !== null) sum.p50 = Math.max(sum.p50 ?? 0, tally.p50_s);
    if (tally.p99_s !== null) sum.p99 = Math.max(sum.p99 ?? 0, tally.p99_s);
  }
  sum.errorRatio = sum.count ? sum.errors / sum.count : null;
  sum.clientErrorRatio = sum.count && calls.some((one) => one.protocol === "http") ? sum.clientErrors / sum.count : null;
  return sum;
}

function health({ count, errorRatio, p99 }, failures, slowS) {
  if (failures > 0 || (errorRatio ?? 0) >= FAILING_FROM) return "failing";
  if (!count) return "idle";
  return p99 !== null && p99 >= slowS ? "slow" : "ok";
}

const total = (record) => Object.values(record).reduce((sum, one) => sum + one, 0);

function toEdge(raw, slowS) {
  const sum = golden(raw.calls);
  const failures = total(raw.network.connect_failures);
  return {
    ...sum,
    id: raw.id,
    client: raw.client,
    server: raw.server,
    protocols: raw.calls.length ? raw.calls.map((one) => one.protocol) : raw.transports,
    failures,
    health: health(sum, failures, slowS),
    isCross: raw.is_cross_zone === true,
    isEstimated: raw.calls.some((one) => one.is_estimated),
    raw,
  };
}

function toNode(raw) {
  return { id: raw.id, kind: raw.kind, name: raw.name, namespace: raw.namespace, zones: raw.zones, callers: [], callees: [], raw };
}

/** `{ nodes, edges }`, Maps by id; `window_s`, `time_unix_ns`, `agents` of the agent's own. */
export function read(map, slowS) {
  const nodes = new Map(map.nodes.map((raw) => [raw.id, toNode(raw)]));
  const edges = new Map();
  for (const raw of map.edges) {
    const edge = toEdge(raw, slowS);
    edges.set(edge.id, edge);
    nodes.get(edge.client)?.callees.push(edge);
    nodes.get(edge.server)?.callers.push(edge);
  }
  for (const node of nodes.values()) {
    const own = golden(node.raw.served);
    // A peer without an agent has no numbers of its own; those of its callers are.
    Object.assign(node, own.count ? own : golden(node.callers.flatMap((edge) => edge.raw.calls)));
    const failures = node.callers.reduce((sum, edge) => sum + edge.failures, 0);
    node.health = health(node, failures, slowS);
    node.text = [node.name, node.namespace, node.id, ...node.raw.addresses, ...node.raw.instances.map((one) => one.host)]
      .join("\n")
      .toLowerCase();
  }
  return { nodes, edges, window_s: map.window_s, time_unix_ns: map.time_unix_ns, agents: map.agents };
}

/** What there is to choose from. */
export function choices(graph) {
  const protocols = new Set();
  const namespaces = new Set();
  const zones = new Set();
  for (const edge of graph.edges.values()) edge.protocols.forEach((one) => protocols.add(one));
  for (const node of graph.nodes.values()) {
    if (node.namespace) namespaces.add(node.namespace);
    node.zones.forEach((one) => zones.add(one));
  }
  return { protocols: [...protocols].sort(), namespaces: [...namespaces].sort(), zones: [...zones].sort() };
}

export const matches = (node, query) => !query || node.text.includes(query.trim().toLowerCase());

/** Sets of ids: what the filters leave, and of that what the search finds. */
export function seen(graph, state) {
  const { protocol, namespace, zone, errors, slow, slowS, cross, busy, q } = state;
  const ends = (edge) => [graph.nodes.get(edge.client), graph.nodes.get(edge.server)];
  const isLeft = (edge) =>
    (!protocol || edge.protocols.includes(protocol)) &&
    (!errors || edge.errors > 0 || edge.failures > 0) &&
    (!slow || (edge.p99 ?? 0) >= slowS) &&
    (!cross || edge.isCross) &&
    (!busy || edge.count > 0 || edge.failures > 0) &&
    (!namespace || ends(edge).some((node) => node.namespace === namespace)) &&
    (!zone || ends(edge).some((node) => node.zones.includes(zone)));
  const edges = new Set();
  const nodes = new Set();
  for (const edge of graph.edges.values()) {
    if (!isLeft(edge)) continue;
    edges.add(edge.id);
    nodes.add(edge.client).add(edge.server);
  }
  const isOfEdges = protocol || errors || slow || cross || busy;
  if (!isOfEdges) {
    for (const node of graph.nodes.values()) {
      if ((!namespace || node.namespace === namespace) && (!zone || node.zones.includes(zone))) nodes.add(node.id);
    }
  }
  const found = new Set([...nodes].filter((id) => matches(graph.nodes.get(id), q)));
  const foundEdges = new Set(
    [...edges].filter((id) => found.has(graph.edges.get(id).client) || found.has(graph.edges.get(id).server)),
  );
  return { nodes, edges, found, foundEdges };
}
