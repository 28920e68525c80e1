// SPDX-License-Identifier: Apache-2.0
// Numbers as people read them. A thin space keeps number and unit together.

const GAP = "\u202f";

function digits(value) {
  if (value >= 100) return String(Math.round(value));
  if (value >= 10) return String(Math.round(value * 10) / 10).replace(/\.0$/, "");
  return String(Math.round(value * 10) / 10);
}

function scaled(value, step, units) {
  let unit = 0;
  while (value >= step * 0.9995 && unit < units.length - 1) {
    value /= step;
    unit += 1;
  }
  return [digits(value), units[unit]];
}

export function count(value) {
  const [number, unit] = scaled(value, 1000, ["", "k", "M", "G", "T"]);
  return unit ? number + GAP + unit : number;
}

/** Calls a second; fewer than one are told by the minute or the hour. */
export function rate(perSecond) {
  if (!perSecond) return `0${GAP}/s`;
  if (perSecond >= 0.95) {
    const [number, unit] = scaled(perSecond, 1000, ["", "k", "M", "G"]);
    return `${number}${GAP}${unit}/s`;
  }
  const perMinute = perSecond * 60;
  return perMinute >= 0.95 ? `${digits(perMinute)}${GAP}/min` : `${digits(perMinute * 60)}${GAP}/h`;
}

export function duration(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds >= 10) return `over 10${GAP}s`; // the last bound of the histogram
  if (seconds >= 0.9995) return `${Math.round(seconds * 100) / 100}${GAP}s`;
  if (seconds >= 0.0009995) {
    const ms = seconds * 1000;
    return `${ms >= 10 ? Math.round(ms) : Math.round(ms * 10) / 10}${GAP}ms`;
  }
  return `${Math.round(seconds * 1e6)}${GAP}µs`;
}

export function share(ratio) {
  if (ratio === null || ratio === undefined) return "–";
  if (ratio === 0) return `0${GAP}%`;
  const percent = ratio * 100;
  if (percent < 0.1) return `<0.1${GAP}%`;
  if (percent < 10) return `${Math.round(percent * 10) / 10}${GAP}%`;
  if (percent > 99 && percent < 100) return `>99${GAP}%`;
  return `${Math.round(percent)}${GAP}%`;
}

export function bytes(value) {
  const [number, unit] = scaled(value, 1000, ["B", "kB", "MB", "GB", "TB"]);
  return number + GAP + unit;
}

/** Seconds as a span of time: "12 s", "4 min", "2 h". */
export function age(seconds) {
  if (seconds < 90) return `${Math.max(0, Math.round(seconds))}${GAP}s`;
  if (seconds < 90 * 60) return `${Math.round(seconds / 60)}${GAP}min`;
  if (seconds < 48 * 3600) return `${Math.round(seconds / 3600)}${GAP}h`;
  return `${Math.round(seconds / 86400)}${GAP}d`;
}

/** A time of day; with the date when it is not today's. */
export function clock(unixNs) {
  const date = new Date(unixNs / 1e6);
  const time = date.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit" });
  return date.toDateString() === new Date().toDateString() ? time : `${date.toLocaleDateString()} ${time}`;
}

export function plural(number, one, many = `${one}s`) {
  return `${count(number)} ${number === 1 ? one : many}`;
}
