// The network in this browser: photos go to a worker of this page and nowhere else.

import { Refused } from "./server.js";

let worker = null;
let next = 0;
const asked = new Map();

function start() {
  worker = new Worker(new URL("device-worker.js", import.meta.url), { type: "module" });
  worker.addEventListener("message", ({ data: { id, result, blob, code, detail } }) => {
    const waiting = asked.get(id);
    if (!waiting) return result?.picture.close(); // aborted
    if (result && waiting.write) {
      waiting.resolve({ ...result, blob: new Promise((resolve, reject) => Object.assign(waiting, { resolve, reject })) });
      return;
    }
    asked.delete(id);
    if (result ?? blob) waiting.resolve(result ?? blob);
    else waiting.reject(new Refused(code, detail));
  });
  worker.addEventListener("error", (event) => {
    for (const { reject } of asked.values()) reject(new Refused("failed", event.message));
    asked.clear();
    worker = null;
  });
}

/** What the worker makes of a request: {picture, width, height, box, answered} and, where `write`, the promise of a `blob`. */
function ask(request, signal) {
  if (!worker) start();
  const id = next++;
  return new Promise((resolve, reject) => {
    asked.set(id, { resolve, reject, write: request.write });
    signal?.addEventListener("abort", () => { asked.delete(id); reject(new DOMException("", "AbortError")); }, { once: true });
    worker.postMessage({ id, ...request });
  });
}

/**
 * {picture, width, height, box, bytes} of a file, as `cutOnServer` gives, and the picture as a bitmap.
 * answered: of an earlier cut of the file; the network then need not run again.
 * number: of a photo that is mended: the worker keeps it open until `letGo`, and its PNG is written only when `bytes` is called.
 */
export async function cutOnDevice(file, { number, marks, answered, signal }) {
  const request = { file, number, marks, answered };
  const { blob, ...result } = await ask({ ...request, write: number === undefined }, signal);
  request.answered ??= result.answered;
  let written = blob;
  const write = async () => {
    const { picture, blob } = await ask({ ...request, write: true });
    picture.close();
    return blob;
  };
  return { ...result, bytes: () => (written ??= write()) };
}

/** Closes the photo that the worker keeps open. */
export const letGo = () => worker?.postMessage({});
