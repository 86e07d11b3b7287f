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
  const out = new Float32Array(values.length);
  const sums = new Float64Array(width), before = new Float64Array(width + 1); // of the window's rows; of what lies left of a column
  for (let y = -radius; y < height; y++) {
    const next = (y + radius) * width, last = (y - radius - 1) * width, row = y * width;
    if (y + radius < height) for (let x = 0; x < width; x++) sums[x] += values[next + x];
    if (last >= 0) for (let x = 0; x < width; x++) sums[x] -= values[last + x];
    if (y < 0) continue;
    const rows = Math.min(height, y + radius + 1) - Math.max(0, y - radius);
    for (let x = 0; x < width; x++) before[x + 1] = before[x] + sums[x];
    for (let x = 0; x < width; x++) {
      const from = Math.max(0, x - radius), to = Math.min(width, x + radius + 1);
      out[row + x] = (before[to] - before[from]) / (rows * (to - from));
    }
  }
  return out;
}

function product(one, other) {
  const result = new Float32Array(one.length);
  for (let i = 0; i < result.length; i++) result[i] = one[i] * other[i];
  return result;
}

/**
 * What all cut-outs of a photo share, at the network's resolution, the letterbox cut away.
 * side, rgba, alpha: the network's picture and its answer; photo: {width, height}.
 */
export function studied({ side, rgba, alpha }, photo) {
  const inner = letterbox(photo.width, photo.height, side), { width, height } = inner, count = width * height;
  const guide = new Float32Array(count), found = new Float32Array(count), seen = new Uint8Array(3 * count);
  const colours = Array.from({ length: 3 }, () => new Float32Array(count));
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const from = (y + inner.y) * side + x + inner.x, to = y * width + x;
      guide[to] = grey(rgba, 4 * from);
      found[to] = alpha[from];
      for (let c = 0; c < 3; c++) colours[c][to] = seen[3 * to + c] = rgba[4 * from + c];
    }
  }
  return {
    photo, width, height, guide, seen, colours,
    alpha: cleaned(found, width, height),
    guideMean: boxMean(guide, width, height, RADIUS), squareMean: boxMean(product(guide, guide), width, height, RADIUS),
    colourMeans: colours.map((colour) => boxMean(colour, width, height, COLOUR_RADIUS)),
  };
}

/** Planes at the network's resolution: alpha = a * grey + b near by, and mean colours of both sides. marks: {keep, remove}. */
export function coefficients(scene, marks) {
  const { width, height, guide, guideMean: g, squareMean, colours, colourMeans } = scene;
  const mean = (values, radius = RADIUS) => boxMean(values, width, height, radius);
  const matte = decided(chosen(scene, marks), width, height);
  const m = mean(matte), gm = mean(product(guide, matte)), a = new Float32Array(m.length), b = new Float32Array(m.length);
  for (let i = 0; i < a.length; i++) {
    a[i] = (gm[i] - g[i] * m[i]) / (squareMean[i] - g[i] * g[i] + EPSILON);
    b[i] = m[i] - a[i] * g[i];
  }
  const inside = mean(matte, COLOUR_RADIUS);
  const front = colours.map((colour) => mean(product(colour, matte), COLOUR_RADIUS));
  const back = colourMeans.map((whole) => new Float32Array(whole.length));
  for (let c = 0; c < 3; c++) {
    const person = front[c], rest = back[c], whole = colourMeans[c];
    for (let i = 0; i < inside.length; i++) {
      rest[i] = (whole[i] - person[i]) / Math.max(1 - inside[i], 1e-3);
      person[i] /= Math.max(inside[i], 1e-3);
    }
  }
  return { width, height, a: mean(a), b: mean(b), front, back };
}

/** For each pixel of an extent, the pixel of the small extent before it, the one after it, and where between them it lies. */
const spots = (extent, small) => Array.from({ length: extent }, (_, at) => {
  const place = Math.min(small - 1, Math.max(0, ((at + 0.5) * small) / extent - 0.5)), before = Math.floor(place);
  return { before, after: Math.min(before + 1, small - 1), share: place - before };
});

/** Mask of the cells in which two results of `coefficients` differ; all of them without an earlier one. */
function changes(low, before) {
  const changed = new Uint8Array(low.a.length).fill(before ? 0 : 1);
  const compare = (one, other) => { for (let i = 0; i < changed.length; i++) if (one[i] !== other[i]) changed[i] = 1; };
  const planes = ({ a, b, front, back }) => [a, b, ...front, ...back];
  if (before) planes(low).forEach((plane, n) => compare(plane, planes(before)[n]));
  return changed;
}

/**
 * Writes the cut-out of `photo` into `rgba`, both RGBA after RGBA: the matte of `coefficients` as its alpha, and half-transparent
 * pixels without the old background. before: the coefficients by which `rgba` was written; only what differs is written again.
 */
export function cutOut(rgba, photo, width, height, low, before = null) {
  const { a, b, front, back } = low;
  // 0 or 255 where every grey gives that matte, most of the photo; 1 where the pixels must be looked at
  const sure = new Uint8Array(b.length);
  for (let i = 0; i < sure.length; i++) sure[i] = Math.max(b[i], b[i] + a[i]) <= HAZE ? 0 : Math.min(b[i], b[i] + a[i]) >= 1 - HAZE ? 255 : 1;
  const changed = changes(low, before), rowChanged = (row) => changed.subarray(row * low.width, (row + 1) * low.width).includes(1);
  const columns = spots(width, low.width), rows = spots(height, low.height);
  for (let y = 0; y < height; y++) {
    const { before: top, after: below, share: down } = rows[y];
    if (!rowChanged(top) && !rowChanged(below)) continue;
    for (let x = 0, at = 4 * y * width; x < width; x++, at += 4) {
      const { before: left, after: beside, share: right } = columns[x];
      const p = top * low.width + left, q = top * low.width + beside, r = below * low.width + left, s = below * low.width + beside;
      if (!(changed[p] | changed[q] | changed[r] | changed[s])) continue;
      let level = sure[p];
      const inDoubt = level === 1 || level !== sure[q] || level !== sure[r] || level !== sure[s];
      const between = (plane) => (plane[p] * (1 - right) + plane[q] * right) * (1 - down) + (plane[r] * (1 - right) + plane[s] * right) * down;
      if (inDoubt) {
        const value = between(a) * grey(photo, at) + between(b);
        level = Math.round(255 * Math.min(1, Math.max(0, (value - HAZE) / (1 - 2 * HAZE))));
      }
      const alpha = level / 255;
      for (let c = 0; c < 3; c++) {
        let colour = photo[at + c];
        if (level > 0 && level < 255) {
          const person = between(front[c]), rest = between(back[c]);
          colour = Math.min(255, Math.max(0, person + alpha * (colour - alpha * person - (1 - alpha) * rest)));
        }
        rgba[at + c] = colour;
      }
      rgba[at + 3] = level;
    }
  }
}

/** Frame of every alpha above a tenth, so that hair counts, or null. */
export function boxOf(rgba, width, height) {
  let left = width, top = height, right = -1, bottom = -1;
  for (let y = 0; y < height; y++) {
    const row = 4 * y * width + 3;
    let first = 0, last = width - 1;
    while (first < width && rgba[row + 4 * first] <= 25) first++;
    if (first === width) continue;
    while (rgba[row + 4 * last] <= 25) last--;
    left = Math.min(left, first), right = Math.max(right, last), top = Math.min(top, y), bottom = y;
  }
  return right < 0 ? null : { x: left, y: top, width: right - left + 1, height: bottom - top + 1 };
}
