// The network in this browser: photos go to a worker of this page and nowhere else.

import { Refused } from "./server.js";

let worker = null;
let next = 0;
const asked = new Map();

function start() {
  worker = new Worker(new URL("device-worker.js", import.meta.url), { type: "module" });
  worker.addEventListener("message", ({ data: { id, result, blob, code, detail } }) => {
    const waiting = asked.get(id);
    if (!waiting) return; // aborted
    if (result) {
      waiting.resolve({ ...result, blob: new Promise((resolve, reject) => Object.assign(waiting, { resolve, reject })) });
      return;
    }
    asked.delete(id);
    if (blob) waiting.resolve(blob);
    else waiting.reject(new Refused(code, detail));
  });
  worker.addEventListener("error", (event) => {
    for (const { reject } of asked.values()) reject(new Refused("failed", event.message));
    asked.clear();
    worker = null;
  });
}

/**
 * {blob, width, height, box} of a file, as `cutOnServer` gives, but the blob is still to come.
 * Before it there is the `picture`, a bitmap; `answered` makes the next cut of the file short.
 */
export function cutOnDevice(file, { marks, answered, onProgress, signal }) {
  if (!worker) start();
  onProgress(1);
  const id = next++;
  return new Promise((resolve, reject) => {
    asked.set(id, { resolve, reject });
    signal.addEventListener("abort", () => { asked.delete(id); reject(new DOMException("", "AbortError")); }, { once: true });
    worker.postMessage({ id, file, marks, answered });
  });
}
