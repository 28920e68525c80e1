// SPDX-License-Identifier: Apache-2.0
// Asks the agent, every two seconds while somebody looks. An agent that is gone is asked on, and says so.

const EVERY_MS = 2000;
// A large map takes the agent a while to draw: looking at it costs it a tenth of a processor at most.
const SHARE = 0.1;
const PATIENCE_MS = 8000;

async function get(path, parameters) {
  const response = await fetch(`api/${path}?${new URLSearchParams(parameters)}`, {
    signal: AbortSignal.timeout(PATIENCE_MS),
  });
  if (response.status === 404) return null;
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(answer.error ?? `it answers with ${response.status}`);
  return answer;
}

export const edgeDetails = (id, window) => get("edge", { id, window });
export const nodeDetails = (id, window) => get("node", { id, window });

export class Polling {
  #timer = null;
  #turn = 0;

  /** `window()` in seconds; `onMap(map)`; `onGone(reason)`: null when nobody answers. */
  constructor({ window, onMap, onGone }) {
    this.#asked = { window, onMap, onGone };
    document.addEventListener("visibilitychange", () => {
      if (document.hidden) this.stop();
      else this.now();
    });
  }

  #asked;

  stop() {
    clearTimeout(this.#timer);
    this.#turn += 1;
  }

  /** Asks at once; an answer that is still on its way is for a question that nobody has any more. */
  async now() {
    this.stop();
    const turn = this.#turn;
    const started = performance.now();
    let heard;
    try {
      const map = await get("map", { window: this.#asked.window() });
      if (map === null) throw new Error("it has no map");
      heard = () => this.#asked.onMap(map);
    } catch (error) {
      const isSilence = error instanceof TypeError || error.name === "TimeoutError" || error.name === "AbortError";
      heard = () => this.#asked.onGone(isSilence ? null : error.message);
    }
    if (turn !== this.#turn) return;
    const took = performance.now() - started;
    this.#timer = setTimeout(() => this.now(), Math.max(EVERY_MS, took / SHARE));
    heard();
  }
}
