# SPDX-License-Identifier: Apache-2.0
"""The parts of the page that are always the same."""

from __future__ import annotations

from typing import Final

__all__ = ["BODY", "SCRIPT", "STYLE"]

STYLE: Final = """
:root{color-scheme:light;--ground:#f5f6f9;--surface:#fff;--ink:#1a2133;--quiet:#5d687c;
--line:#dde1e9;--accent:#3a4fd8;--soft:#e9ecfc;--same:#2c8a5b;--bad:#cb2450;--bad-soft:#fdeaef;
--good-soft:#e4f5ec;--fail:#a86400;--idle:#93a0b5;--shadow:0 1px 2px #1a213312,0 8px 28px #1a21330d;
--mono:ui-monospace,"SF Mono","Cascadia Mono","DejaVu Sans Mono",monospace}
:root[data-theme=dark]{color-scheme:dark;--ground:#10141c;--surface:#1a202c;--ink:#e8ecf5;
--quiet:#97a3b8;--line:#2b3342;--accent:#93a4ff;--soft:#262e52;--same:#58c48d;--bad:#ff7896;
--bad-soft:#40202c;--good-soft:#17382a;--fail:#f0b04a;--idle:#66748c;--shadow:0 1px 2px #0006}
*{box-sizing:border-box}[hidden]{display:none!important}
body{margin:0;background:var(--ground);color:var(--ink);
font:14px/1.5 Inter,system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif}
main{max-width:1240px;margin:0 auto;padding:28px 24px 80px}
header{display:flex;align-items:start;gap:16px;margin-bottom:20px}
header>div{flex:1;min-width:0}h1{font-size:24px;line-height:1.25;margin:0;overflow-wrap:anywhere}
h2{font-size:16px;margin:36px 0 12px}.quiet{color:var(--quiet)}
button,input{font:inherit;color:inherit;background:var(--surface);border:1px solid var(--line);
border-radius:8px;padding:6px 12px}button{cursor:pointer}button:hover{border-color:var(--accent)}
:focus-visible{outline:2px solid var(--accent);outline-offset:2px}
.card{background:var(--surface);border:1px solid var(--line);border-radius:12px;
box-shadow:var(--shadow)}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:12px}
.tile{padding:14px 18px}.tile b{display:block;font-size:28px;line-height:1.2;
font-variant-numeric:tabular-nums}.tile span{color:var(--quiet)}
.bar{display:flex;height:8px;border-radius:4px;overflow:hidden;margin:14px 0 0;gap:2px}
.bar i{min-width:3px}.o-same{--c:var(--same)}.o-different{--c:var(--bad)}.o-failed{--c:var(--fail)}
.o-not{--c:var(--idle)}.tile b{color:var(--c)}.bar i{background:var(--c)}
.clusters{display:grid;gap:8px}.cluster{display:grid;width:100%;text-align:left;padding:12px 16px;
grid-template-columns:64px minmax(0,1fr) minmax(0,1.1fr);gap:16px;align-items:center;
border-radius:12px}.cluster[aria-pressed=true]{border-color:var(--accent);background:var(--soft)}
.cluster strong{font-size:20px;text-align:right;font-variant-numeric:tabular-nums}
.cluster small{display:block;color:var(--quiet)}code,.mono{font-family:var(--mono);font-size:12.5px;
overflow-wrap:anywhere}.was,.now{padding:1px 6px;border-radius:5px}
.was{background:var(--bad-soft)}.now{background:var(--good-soft)}.to{color:var(--quiet);padding:0 6px}
.tools{display:flex;flex-wrap:wrap;gap:8px;margin-bottom:10px}.tools input{flex:1;min-width:220px}
.tools button[aria-pressed=true]{background:var(--soft);border-color:var(--accent)}
#list{overflow:hidden}details{border-top:1px solid var(--line)}details:first-child{border-top:0}
summary{display:grid;grid-template-columns:100px minmax(0,1fr) auto;gap:14px;padding:10px 16px;
cursor:pointer;list-style:none}summary:hover{background:var(--soft)}
summary::-webkit-details-marker{display:none}.pill{justify-self:start;align-self:start;
border-radius:99px;padding:1px 10px;font-size:12px;border:1px solid var(--c);color:var(--c)}
.inside{padding:4px 16px 18px}table{border-collapse:collapse;width:100%}
th{font-weight:500;color:var(--quiet);text-align:left}th,td{padding:6px 12px 6px 0;
border-bottom:1px solid var(--line);vertical-align:top}td.n,th.n{text-align:right;width:90px;
font-variant-numeric:tabular-nums}.pad{padding:6px 16px}tr:last-child td{border-bottom:0}
.sides{display:grid;grid-template-columns:repeat(2,minmax(0,1fr));margin-top:14px;
border:1px solid var(--line);border-radius:8px;overflow:hidden;font:12.5px/1.55 var(--mono)}
.sides>*{padding:0 10px;white-space:pre-wrap;overflow-wrap:anywhere;min-height:1.55em}
.sides>:nth-child(even){border-left:1px solid var(--line)}
.sides .h{font-weight:600;padding:5px 10px;border-bottom:1px solid var(--line)}
.sides .was{border-radius:0;box-shadow:inset 3px 0 var(--bad)}
.sides .now{border-radius:0;box-shadow:inset 3px 0 var(--same)}.sides .gap{color:var(--quiet);
background:var(--ground)}.sides .void{background:repeating-linear-gradient(135deg,transparent 0 6px,
var(--line) 6px 7px)}.more{display:flex;gap:12px;align-items:center;padding:12px 16px}
.fine{padding:22px;text-align:center;color:var(--same);font-size:16px}
@media(max-width:760px){.cluster{grid-template-columns:44px 1fr}.cluster>:last-child{grid-column:2}
summary{grid-template-columns:90px 1fr}summary>:last-child{display:none}}
@media print{.tools,#theme{display:none}}
"""

BODY: Final = """<body><main>
<header><div><h1 id="title"></h1><div class="quiet" id="about"></div></div>
<button id="theme" type="button">Dark</button></header>
<section id="summary" aria-label="Summary"></section>
<h2>What changed</h2><section id="clusters" class="clusters"></section>
<section id="list-part"><h2>Exchanges <span class="quiet" id="shown"></span></h2>
<div class="tools"><input id="search" type="search" aria-label="Search exchanges"
placeholder="Search request, operation, place, value or id"><span id="chips" class="tools"></span>
</div><div class="card" id="list"></div></section>
<h2>Operations</h2><div class="card pad" id="operations"></div>
<section id="left-part"><h2>Not sent, not judged</h2><div class="card pad" id="left"></div></section>
<section id="ignored-part"><h2>Ignored differences</h2><div class="card pad" id="ignored"></div>
</section><noscript>This page needs its own script to show what it holds.</noscript></main>
"""

SCRIPT: Final = r"""
'use strict';
const data = JSON.parse(document.getElementById('data').textContent);
const at = id => document.getElementById(id);
const el = (tag, name, ...inside) => {
  const one = document.createElement(tag);
  if (name) one.className = name;
  one.append(...inside.map(x => x instanceof Node ? x : String(x)));
  return one;
};
const css = outcome => 'o-' + outcome.split(' ')[0];
const number = n => n.toLocaleString('en');
const text = v => v === null ? '\u2205' : typeof v === 'string' ? v : JSON.stringify(v);
const cut = (s, n) => s.length > n ? s.slice(0, n - 1) + '\u2026' : s;
const ms = ns => ns ? (ns / 1e6).toFixed(ns < 1e8 ? 1 : 0) + ' ms' : '';
const root = document.documentElement;
const theme = name => {
  root.dataset.theme = name;
  at('theme').textContent = name === 'dark' ? 'Light' : 'Dark';
};
theme(matchMedia('(prefers-color-scheme: dark)').matches ? 'dark' : 'light');
at('theme').onclick = () => theme(root.dataset.theme === 'dark' ? 'light' : 'dark');

at('title').textContent = 'Replay of ' + data.recording;
const when = new Date(data.started_ns / 1e6).toISOString().slice(0, 19).replace('T', ' ');
const took = ((data.ended_ns - data.started_ns) / 1e9).toFixed(1);
at('about').textContent =
  `against ${data.target} \u00b7 ${when} UTC \u00b7 ${took} s \u00b7 ${number(data.sent)} sent`;

const tiles = el('div', 'tiles'), bar = el('div', 'bar');
for (const [name, count] of Object.entries(data.outcomes)) {
  tiles.append(el('div', 'tile card ' + (count ? css(name) : ''),
    el('b', '', number(count)), el('span', '', name)));
  if (count) {
    const part = el('i', css(name));
    part.style.flexGrow = count;
    part.title = `${name}: ${count}`;
    bar.append(part);
  }
}
const unsent = Object.values(data.skipped).reduce((a, b) => a + b, 0);
if (unsent) tiles.append(el('div', 'tile card', el('b', '', number(unsent)),
  el('span', '', 'not sent')));
at('summary').append(tiles, bar);

const change = (one, n) => one.kind === 'failure' ? el('span', 'mono', el('span', 'was', one.actual))
  : el('span', 'mono', el('span', 'was', cut(text(one.expected), n)), el('span', 'to', '\u2192'),
    el('span', 'now', cut(text(one.actual), n)));
const general = place => place.replace(/\[\d+\]/g, '[*]').replace(/^line \d+$/, 'line *');
const state = { cluster: null, outcome: '', words: '', pages: 1 };
for (const one of data.clusters) {
  const card = el('button', 'cluster card', el('strong', '', number(one.exchanges)),
    el('span', '', el('code', '', one.place), el('small', '', `${one.operation} \u00b7 ${one.kind}`
      + (one.count > one.exchanges ? ` \u00b7 ${number(one.count)} places` : ''))),
    change({ ...one.examples[0], kind: one.kind }, 90));
  card.type = 'button';
  card.setAttribute('aria-pressed', 'false');
  card.onclick = () => {
    state.cluster = state.cluster === one ? null : one;
    for (const other of at('clusters').children)
      other.setAttribute('aria-pressed', String(other === card && state.cluster === one));
    again();
  };
  at('clusters').append(card);
}
if (!data.clusters.length) at('clusters').append(el('div', 'card fine',
  data.outcomes.same ? 'Every exchange that was judged is the same.' : 'Nothing was judged.'));

const PAGE = 50;
const found = new Map(data.exchanges.map(one => [one, [one.request, one.operation, one.id,
  one.trace_id, one.service, one.why_not_judged,
  ...one.findings.flatMap(f => [f.place, text(f.expected), text(f.actual)])]
  .join('\n').toLowerCase()]));
const inCluster = (one, c) => one.operation === c.operation && one.findings.some(f =>
  f.kind === c.kind && general(f.place) === c.place && (!['status', 'failure'].includes(c.place)
    || (f.expected === c.examples[0].expected && f.actual === c.examples[0].actual)));
function inside(one) {
  const box = el('div', 'inside');
  if (one.why_not_judged) box.append(el('p', 'quiet', one.why_not_judged));
  if (one.findings.length) {
    const table = el('table', '', el('tr', '', ...['place', 'kind', 'expected', 'actual']
      .map(name => el('th', '', name))));
    for (const f of one.findings) table.append(el('tr', '', el('td', '', el('code', '', f.place)),
      el('td', '', f.kind), el('td', '', el('code', '', cut(text(f.expected), 400))),
      el('td', '', el('code', '', cut(text(f.actual), 400)))));
    box.append(table);
  }
  if (one.rows && one.rows.length) {
    const sides = el('div', 'sides', el('div', 'h', 'expected'), el('div', 'h', 'actual'));
    for (const [tag, was, now] of one.rows) {
      const name = (side, v) => tag === '\u2026' ? 'gap' : tag === '=' ? '' : v === null ? 'void' : side;
      sides.append(el('div', name('was', was), was ?? ''), el('div', name('now', now), now ?? ''));
    }
    box.append(sides);
  }
  box.append(el('p', 'quiet mono', `exchange ${one.id}` + (one.trace_id ? ` \u00b7 trace ${one.trace_id}` : '')
    + (one.service ? ` \u00b7 ${one.service}` : '')));
  return box;
}
function again() {
  const words = state.words.toLowerCase().split(/\s+/).filter(Boolean);
  const hits = data.exchanges.filter(one => (!state.outcome || one.outcome === state.outcome)
    && (!state.cluster || inCluster(one, state.cluster))
    && words.every(word => found.get(one).includes(word)));
  at('shown').textContent = `${number(hits.length)} of ${number(data.exchanges.length)}`
    + (data.left_out ? `, ${number(data.left_out)} more are not in this page` : '');
  at('list').replaceChildren();
  for (const one of hits.slice(0, state.pages * PAGE)) {
    const row = el('details', '', el('summary', '', el('span', 'pill ' + css(one.outcome), one.outcome),
      el('span', '', el('code', '', cut(one.request, 200)), el('div', 'quiet mono',
        cut(one.why_not_judged || one.findings.map(f => f.place).join(', '), 160))),
      el('span', 'quiet', ms(one.recorded_ns) + (one.replayed_ns ? ' \u2192 ' + ms(one.replayed_ns) : ''))));
    row.ontoggle = () => { if (row.open && row.children.length < 2) row.append(inside(one)); };
    at('list').append(row);
  }
  if (hits.length > state.pages * PAGE) {
    const more = el('button', '', `Show ${PAGE} more`);
    more.onclick = () => { state.pages += 1; again(); };
    at('list').append(el('div', 'more', more));
  }
  if (!hits.length) at('list').append(el('div', 'more quiet', 'No exchange fits.'));
}
at('search').oninput = event => { state.words = event.target.value; state.pages = 1; again(); };
for (const name of ['', ...Object.keys(data.outcomes).filter(o => o !== 'same' && data.outcomes[o])]) {
  const chip = el('button', '', name || 'all');
  chip.setAttribute('aria-pressed', String(!name));
  chip.onclick = () => {
    state.outcome = name;
    state.pages = 1;
    for (const other of at('chips').children) other.setAttribute('aria-pressed', String(other === chip));
    again();
  };
  at('chips').append(chip);
}
again();
at('list-part').hidden = !data.exchanges.length;

function table(where, names, lines) {
  const one = el('table', '', el('tr', '', ...names.map((n, i) => el('th', i ? 'n' : '', n))));
  for (const [first, ...rest] of lines) one.append(el('tr', '', el('td', '', el('code', '', first)),
    ...rest.map(n => el('td', 'n', typeof n === 'number' ? number(n) : n))));
  at(where).append(one);
}
const outcomes = Object.keys(data.outcomes);
table('operations', ['operation', ...outcomes],
  Object.entries(data.operations).map(([name, of]) => [name, ...outcomes.map(o => of[o])]));
const left = [...Object.entries(data.skipped).map(([why, n]) => ['not sent: ' + why, n]),
  ...Object.entries(data.not_judged).map(([why, n]) => ['not judged: ' + why, n]),
  ...Object.entries(data.calls).filter(([what]) => what !== 'compared')
    .map(([why, n]) => ['calls not compared: ' + why, n])];
table('left', ['cause', 'exchanges'], left);
at('left-part').hidden = !left.length;
table('ignored', ['where and why', 'times'], data.ignored.map(one =>
  [`${one.operation}  ${one.place}  \u2014  ${one.reason}`, one.times]));
at('ignored-part').hidden = !data.ignored.length;
"""
