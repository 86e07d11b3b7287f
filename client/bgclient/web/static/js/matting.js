// The network's small alpha to a matte of the whole photo, in time linear in its pixels.
// Fast guided filter (He and Sun 2015, arXiv:1505.00996) for the alpha; blurred colours (Forte 2021, arXiv:2006.14970) for
// what half-transparent pixels show.

import { cleaned, decided } from "./people.js";
import { chosen } from "./strokes.js";

const RADIUS = 3; // pixels of the network's picture that an edge may move
const EPSILON = 1e-4; // squared contrast below which the photo gives no hint
const COLOUR_RADIUS = 8;
const HAZE = 0.02; // the filter leaves it where the matte is 0, and takes it away where it is 1

/** Where the photo lies in the network's square picture. */
export function letterbox(width, height, side) {
  const scale = Math.min(side / width, side / height);
  const w = Math.min(side, Math.max(1, Math.round(width * scale))), h = Math.min(side, Math.max(1, Math.round(height * scale)));
  return { x: Math.floor((side - w) / 2), y: Math.floor((side - h) / 2), width: w, height: h };
}

/** RGBA of pixel after pixel to R, G and B plane after plane. */
export function planar(rgba, count) {
  const planes = new Uint8Array(3 * count);
  for (let i = 0; i < count; i++) {
    planes[i] = rgba[4 * i];
    planes[count + i] = rgba[4 * i + 1];
    planes[2 * count + i] = rgba[4 * i + 2];
  }
  return planes;
}

const grey = (rgba, i) => (0.299 * rgba[i] + 0.587 * rgba[i + 1] + 0.114 * rgba[i + 2]) / 255;

/** Mean over a window of 2 radius + 1, cut at the borders. */
export function boxMean(values, width, height, radius) {
  const across = new Float32Array(values.length), out = new Float32Array(values.length);
  for (let y = 0; y < height; y++) {
    let sum = 0, count = 0;
    const row = y * width;
    for (let x = -radius; x < width; x++) {
      if (x + radius < width) { sum += values[row + x + radius]; count++; }
      if (x - radius - 1 >= 0) { sum -= values[row + x - radius - 1]; count--; }
      if (x >= 0) across[row + x] = sum / count;
    }
  }
  const sums = new Float64Array(width); // of all columns, row by row: memory is read in its order
  for (let y = -radius, count = 0; y < height; y++) {
    const next = (y + radius) * width, last = (y - radius - 1) * width;
    if (y + radius < height) { for (let x = 0; x < width; x++) sums[x] += across[next + x]; count++; }
    if (last >= 0) { for (let x = 0; x < width; x++) sums[x] -= across[last + x]; count--; }
    if (y >= 0) for (let x = 0; x < width; x++) out[y * width + x] = sums[x] / count;
  }
  return out;
}

/**
 * Planes at the network's resolution, the letterbox cut away: alpha = a * grey + b near by, and mean colours of both sides.
 * side, rgba, alpha: the network's picture and its answer; marks: {keep, remove}, in pixels of `photo`, {width, height}.
 */
export function coefficients({ side, rgba, alpha }, marks, photo) {
  const inner = letterbox(photo.width, photo.height, side), { width, height } = inner, count = width * height;
  const guide = new Float32Array(count), seen = new Uint8Array(3 * count);
  let matte = new Float32Array(count);
  const colours = Array.from({ length: 3 }, () => new Float32Array(count));
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const from = (y + inner.y) * side + x + inner.x, to = y * width + x;
      guide[to] = grey(rgba, 4 * from);
      matte[to] = alpha[from];
      for (let c = 0; c < 3; c++) colours[c][to] = seen[3 * to + c] = rgba[4 * from + c];
    }
  }
  matte = decided(chosen(cleaned(matte, width, height), seen, marks, photo, width, height), width, height);
  const mean = (values, radius = RADIUS) => boxMean(values, width, height, radius);
  const product = (one, other) => one.map((value, i) => value * other[i]);
  const g = mean(guide), m = mean(matte), gg = mean(product(guide, guide)), gm = mean(product(guide, matte));
  const a = g.map((value, i) => (gm[i] - value * m[i]) / (gg[i] - value * value + EPSILON));
  const b = m.map((value, i) => value - a[i] * g[i]);

  const rest = matte.map((value) => 1 - value);
  const inside = mean(matte, COLOUR_RADIUS), outside = mean(rest, COLOUR_RADIUS);
  const share = (colour, weight, total) => mean(product(colour, weight), COLOUR_RADIUS).map((sum, i) => sum / Math.max(total[i], 1e-3));
  return {
    width, height, a: mean(a), b: mean(b),
    front: colours.map((colour) => share(colour, matte, inside)),
    back: colours.map((colour) => share(colour, rest, outside)),
  };
}

/** For each pixel of an extent, the pixel of the small extent before it, the one after it, and where between them it lies. */
const spots = (extent, small) => Array.from({ length: extent }, (_, at) => {
  const place = Math.min(small - 1, Math.max(0, ((at + 0.5) * small) / extent - 0.5)), before = Math.floor(place);
  return { before, after: Math.min(before + 1, small - 1), share: place - before };
});

/** Makes the photo its cut-out, in place: the matte of `coefficients` as its alpha, and half-transparent pixels without the old background. */
export function cutOut(rgba, width, height, low) {
  const { a, b, front, back } = low;
  // 0 or 255 where every grey gives that matte, most of the photo; 1 where the pixels must be looked at
  const sure = b.map((value, i) => (Math.max(value, value + a[i]) <= HAZE ? 0 : Math.min(value, value + a[i]) >= 1 - HAZE ? 255 : 1));
  const columns = spots(width, low.width), rows = spots(height, low.height);
  for (let y = 0, at = 0; y < height; y++) {
    const { before: top, after: below, share: down } = rows[y];
    for (let x = 0; x < width; x++, at += 4) {
      const { before: left, after: beside, share: right } = columns[x];
      const p = top * low.width + left, q = top * low.width + beside, r = below * low.width + left, s = below * low.width + beside;
      if (sure[p] !== 1 && sure[p] === sure[q] && sure[p] === sure[r] && sure[p] === sure[s]) {
        rgba[at + 3] = sure[p];
        continue;
      }
      const between = (plane) => (plane[p] * (1 - right) + plane[q] * right) * (1 - down) + (plane[r] * (1 - right) + plane[s] * right) * down;
      const value = between(a) * grey(rgba, at) + between(b);
      const level = Math.round(255 * Math.min(1, Math.max(0, (value - HAZE) / (1 - 2 * HAZE)))), alpha = level / 255;
      for (let c = 0; c < 3 && level > 0 && level < 255; c++) {
        const person = between(front[c]), rest = between(back[c]);
        rgba[at + c] = Math.min(255, Math.max(0, person + alpha * (rgba[at + c] - alpha * person - (1 - alpha) * rest)));
      }
      rgba[at + 3] = level;
    }
  }
}

/** Frame of every alpha above a tenth, so that hair counts, or null. */
export function boxOf(rgba, width, height) {
  let left = width, top = height, right = -1, bottom = -1;
  for (let y = 0, at = 3; y < height; y++) {
    for (let x = 0; x < width; x++, at += 4) {
      if (rgba[at] <= 25) continue;
      if (x < left) left = x;
      if (x > right) right = x;
      if (y < top) top = y;
      bottom = y;
    }
  }
  return right < 0 ? null : { x: left, y: top, width: right - left + 1, height: bottom - top + 1 };
}
