// Photo to cut-out without a server: letterbox, network, guided upsampling, foreground colours.

import * as ort from "../vendor/ort.wasm.bundle.min.mjs";
import { boxOf, coefficients, cutOut, letterbox, planar, studied } from "./matting.js";
import { ready } from "./strokes.js";

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

/** A photo decoded and looked at. keeps: its pixels are needed again after the first cut. */
async function opened(file, answered, keeps) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(file);
  } catch {
    throw Object.assign(new Error(file.name), { code: "invalid_file_type" });
  }
  const { width, height } = bitmap;
  answered ??= await answer(bitmap);
  const whole = pixelsOf(bitmap, width, height);
  bitmap.close();
  const scene = studied(answered, { width, height });
  return { answered, scene: keeps ? ready(scene) : scene, pixels: keeps ? whole.data.slice() : whole.data, whole, low: null };
}

let held = null; // the photo that is being mended, opened, and its number

/**
 * Posts the picture as soon as it can be shown; then, where `write`, its PNG.
 * marks: {keep, remove}; answered: of an earlier cut of the same file, so that the network need not run again.
 * number: of a photo that is mended. It stays open, and the next cut does only what its marks change.
 */
async function cut({ id, file, number, marks, answered, write }) {
  const keeps = number !== undefined && !write, open = held !== null && held.number === number;
  const photo = open ? held : await opened(file, answered, keeps);
  if (keeps) held = Object.assign(photo, { number });
  const { whole } = photo, { data, width, height } = whole;
  const low = coefficients(photo.scene, marks);
  cutOut(data, photo.pixels, width, height, low, photo.low);
  photo.low = low;
  const box = boxOf(data, width, height);
  if (!box) throw Object.assign(new Error(file.name), { code: "unknown_foreground" });
  const picture = await createImageBitmap(whole);
  self.postMessage({ id, result: { picture, width, height, box, answered: answered ? undefined : photo.answered } }, [picture]);
  if (!write) return;
  const canvas = new OffscreenCanvas(width, height);
  canvas.getContext("2d").putImageData(whole, 0, 0);
  const blob = await canvas.convertToBlob({ type: "image/png" }).catch(() => { throw new RangeError("png"); }); // out of memory
  self.postMessage({ id, blob });
}

let turn = Promise.resolve(); // one at a time: a session runs one photo
self.addEventListener("message", ({ data }) => {
  turn = turn.then(() => (data.file ? cut(data) : (held = null))).catch((error) =>
    self.postMessage({ id: data.id, code: error.code ?? (error instanceof RangeError ? "tooBig" : "failed"), detail: String(error.message ?? error) }));
});
