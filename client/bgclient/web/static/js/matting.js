// The network's small alpha to a matte of the whole photo, in time linear in its pixels.
// Fast guided filter (He and Sun 2015, arXiv:1505.00996) for the alpha; blurred colours (Forte 2021, arXiv:2006.14970) for
// what half-transparent pixels show.

import { cleaned, decided } from "./people.js";
import { chosen } from "./strokes.js";

const RADIUS = 3; // pixels of the network's picture that an edge may move
const EPSILON = 1e-4; // squared contrast below which the photo gives no hint
const COLOUR_RADIUS = 8;

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
  for (let x = 0; x < width; x++) {
    let sum = 0, count = 0;
    for (let y = -radius; y < height; y++) {
      if (y + radius < height) { sum += across[(y + radius) * width + x]; count++; }
      if (y - radius - 1 >= 0) { sum -= across[(y - radius - 1) * width + x]; count--; }
      if (y >= 0) out[y * width + x] = sum / count;
    }
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

/** Calls visit(i, p, q, r, s, right, down) for each pixel: its four nearest in the small planes, and where between them. */
function enlarge(width, height, low, visit) {
  const columns = Array.from({ length: width }, (_, x) => spot(x, width, low.width));
  for (let y = 0, i = 0; y < height; y++) {
    const [top, down] = spot(y, height, low.height);
    const row = top * low.width, below = Math.min(top + 1, low.height - 1) * low.width;
    for (let x = 0; x < width; x++, i++) {
      const [left, right] = columns[x], beside = Math.min(left + 1, low.width - 1);
      visit(i, row + left, row + beside, below + left, below + beside, right, down);
    }
  }
}

function spot(at, extent, small) {
  const place = Math.min(small - 1, Math.max(0, ((at + 0.5) * small) / extent - 0.5));
  const floor = Math.floor(place);
  return [floor, place - floor];
}

const between = (plane, p, q, r, s, right, down) =>
  (plane[p] * (1 - right) + plane[q] * right) * (1 - down) + (plane[r] * (1 - right) + plane[s] * right) * down;

/** uint8 matte of the whole photo. */
export function alphaAt(rgba, width, height, low) {
  const matte = new Uint8ClampedArray(width * height);
  enlarge(width, height, low, (i, p, q, r, s, right, down) => {
    const value = between(low.a, p, q, r, s, right, down) * grey(rgba, 4 * i) + between(low.b, p, q, r, s, right, down);
    matte[i] = Math.round(255 * Math.min(1, Math.max(0, (value - 0.02) / 0.96))); // the filter leaves a faint haze
  });
  return matte;
}

/** Takes the old background out of the colours of half-transparent pixels, in place. */
export function foregroundAt(rgba, matte, width, height, low) {
  enlarge(width, height, low, (i, p, q, r, s, right, down) => {
    const alpha = matte[i] / 255;
    if (alpha === 0 || alpha === 1) return;
    for (let c = 0; c < 3; c++) {
      const front = between(low.front[c], p, q, r, s, right, down), back = between(low.back[c], p, q, r, s, right, down);
      rgba[4 * i + c] = Math.min(255, Math.max(0, front + alpha * (rgba[4 * i + c] - alpha * front - (1 - alpha) * back)));
    }
  });
}

/** Frame of everything above a tenth, so that hair counts, or null. */
export function boxOf(matte, width, height) {
  let left = width, top = height, right = -1, bottom = -1;
  for (let y = 0, i = 0; y < height; y++) {
    for (let x = 0; x < width; x++, i++) {
      if (matte[i] <= 25) continue;
      if (x < left) left = x;
      if (x > right) right = x;
      if (y < top) top = y;
      bottom = y;
    }
  }
  return right < 0 ? null : { x: left, y: top, width: right - left + 1, height: bottom - top + 1 };
}
