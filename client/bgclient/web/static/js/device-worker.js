// Photo to cut-out without a server: letterbox, network, guided upsampling, foreground colours.

import * as ort from "../vendor/ort.wasm.bundle.min.mjs";
import { boxOf, coefficients, cutOut, letterbox, planar } from "./matting.js";

ort.env.wasm.wasmPaths = new URL("../vendor/", import.meta.url).href;
// half of the cores: its threads spin while they wait, and the page is there too
ort.env.wasm.numThreads = self.crossOriginIsolated ? Math.min(4, Math.ceil((navigator.hardwareConcurrency || 1) / 2)) : 1;

const GREY = 127; // around the photo
let session = null;

const network = () =>
  (session ??= ort.InferenceSession.create(new URL("../network.onnx", import.meta.url).href, {
    executionProviders: ["wasm"], graphOptimizationLevel: "all",
  }));

function pixelsOf(bitmap, width, height, inner = { x: 0, y: 0, width, height }, paint = null) {
  const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  if (!context) throw new RangeError("canvas");
  if (paint) {
    context.fillStyle = paint;
    context.fillRect(0, 0, width, height);
  }
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, inner.x, inner.y, inner.width, inner.height);
  return context.getImageData(0, 0, width, height);
}

/** What the network makes of a picture: its square input, RGBA, and its alpha of the same side. */
async function answer(bitmap) {
  const net = await network();
  const side = net.inputMetadata[0].shape[3];
  const { data: rgba } = pixelsOf(bitmap, side, side, letterbox(bitmap.width, bitmap.height, side), `rgb(${GREY} ${GREY} ${GREY})`);
  const image = new ort.Tensor("uint8", planar(rgba, side * side), [1, 3, side, side]);
  return { side, rgba, alpha: (await net.run({ image })).alpha.data };
}

/**
 * Posts the picture as soon as it can be shown, and the PNG when it is written.
 * marks: {keep, remove}; answered: of an earlier cut of the same file, so that the network need not run again.
 */
async function cut(id, file, marks, answered) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(file);
  } catch {
    throw Object.assign(new Error(file.name), { code: "invalid_file_type" });
  }
  const { width, height } = bitmap;
  answered ??= await answer(bitmap);
  const low = coefficients(answered, marks, { width, height });
  const whole = pixelsOf(bitmap, width, height);
  bitmap.close();
  const { data } = whole;
  cutOut(data, width, height, low);
  const box = boxOf(data, width, height);
  if (!box) throw Object.assign(new Error(file.name), { code: "unknown_foreground" });
  const picture = await createImageBitmap(whole);
  self.postMessage({ id, result: { picture, width, height, box, answered } }, [picture]);
  const canvas = new OffscreenCanvas(width, height);
  canvas.getContext("2d").putImageData(whole, 0, 0);
  self.postMessage({ id, blob: await canvas.convertToBlob({ type: "image/png" }) });
}

let turn = Promise.resolve(); // one at a time: a session runs one photo
self.addEventListener("message", ({ data: { id, file, marks, answered } }) => {
  turn = turn.then(() => cut(id, file, marks, answered)).catch((error) =>
    self.postMessage({ id, code: error.code ?? (error instanceof RangeError ? "tooBig" : "failed"), detail: String(error.message ?? error) }));
});
