// The network in this browser: photos go to a worker of this page and nowhere else.

import { Refused } from "./server.js";

let worker = null;
let next = 0;
const asked = new Map();

function start() {
  worker = new Worker(new URL("device-worker.js", import.meta.url), { type: "module" });
  worker.addEventListener("message", ({ data: { id, result, code, detail } }) => {
    const { resolve, reject } = asked.get(id) ?? {};
    asked.delete(id);
    if (result) resolve?.(result);
    else reject?.(new Refused(code, detail));
  });
  worker.addEventListener("error", (event) => {
    for (const { reject } of asked.values()) reject(new Refused("failed", event.message));
    asked.clear();
    worker = null;
  });
}

/** {blob, width, height, box} of a file, as `cutOnServer` gives, and `answered`, which makes the next cut of the file short. */
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
