// imgly's background removal for Node, with its medium IS-Net and its own PNG encoder.
import { readFile, readdir, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { removeBackground, segmentForeground } from '@imgly/background-removal-node';

const { values, positionals } = parseArgs({
  options: { form: { type: 'string', default: 'alpha' }, repeat: { type: 'string', default: '1' } },
  allowPositionals: true,
});
const [photos, out] = positionals;
const call = values.form === 'alpha' ? segmentForeground : removeBackground;
const make = async (data) => {
  const picture = await call(new Blob([data], { type: 'image/jpeg' }), { output: { format: 'image/png' } });
  return Buffer.from(await picture.arrayBuffer());
};

const names = (await readdir(photos)).filter((name) => name.endsWith('.jpg')).sort();
const version = (name) => createRequire(import.meta.url)(`./node_modules/${name}/package.json`).version;
const packages = ['@imgly/background-removal-node', 'onnxruntime-node', 'sharp'];
const versions = Object.fromEntries(packages.map((name) => [name, version(name)]));
const started = performance.now();
await make(await readFile(path.join(photos, names[0]))); // loads the network; not measured
const load_s = (performance.now() - started) / 1000;
console.log(JSON.stringify({ rival: 'imgly', versions, load_s, device: 'CPU (onnxruntime-node)' }));
for (const name of names) {
  const data = await readFile(path.join(photos, name));
  const seconds = [];
  let picture;
  for (let turn = 0; turn < Number(values.repeat); turn++) {
    const began = performance.now();
    picture = await make(data);
    seconds.push((performance.now() - began) / 1000);
  }
  await writeFile(path.join(out, name.replace(/jpg$/, 'png')), picture);
  console.log(JSON.stringify({ key: name.replace(/\.jpg$/, ''), seconds }));
}
