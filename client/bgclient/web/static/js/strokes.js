// What strokes keep and remove, at the network's resolution: what `bgimage.strokes` does on the server, with its numbers
// and its order of float32 operations.

import { above, cleaned, components, INSIDE, subjects, within } from "./people.js";

const f = Math.fround;
const REACH = f(0.35); // change of colour that a stroke reaches where the network contradicts it, ...
const AGREED = 5; // ... and by how much farther where it agrees, times the root of its probability
const STEP = f(0.005); // what a step of one pixel costs
const DIAGONAL = f(STEP * f(Math.SQRT2));
const SOFT = f(0.2); // distances over which the alpha falls from 1 to 0
const HALF_SOFT = f(SOFT / 2);
const UNREACHED = 1e6; // the distance of a pixel that no stroke reaches

/** Mask of the small pixels that strokes of {points, radius} cover, which are in pixels of `photo`, {width, height}. */
export function drawn(strokes, photo, width, height) {
  const covered = new Uint8Array(width * height), scale = width / photo.width;
  for (const { points, radius } of strokes) {
    const places = points.map(([x, y]) => [x * scale, y * (height / photo.height)]);
    const reach = Math.max(0.5, (radius * width) / photo.width);
    places.forEach((end, n) => {
      line(covered, width, height, places[Math.max(0, n - 1)], end, reach);
      covered[Math.min(height - 1, Math.floor(end[1])) * width + Math.min(width - 1, Math.floor(end[0]))] = 1;
    });
  }
  return covered;
}

/** Marks in place every pixel whose centre is within `radius` of the line. */
function line(covered, width, height, [x0, y0], [x1, y1], radius) {
  const dx = x1 - x0, dy = y1 - y0, length = Math.max(dx * dx + dy * dy, 1e-12);
  const left = Math.floor(Math.max(0, Math.min(x0, x1) - radius)), right = Math.min(width, Math.max(x0, x1) + radius + 1);
  const top = Math.floor(Math.max(0, Math.min(y0, y1) - radius)), bottom = Math.min(height, Math.max(y0, y1) + radius + 1);
  for (let row = top; row < Math.floor(bottom); row++) {
    for (let column = left; column < Math.floor(right); column++) {
      const x = column + 0.5 - x0, y = row + 0.5 - y0;
      const along = Math.min(1, Math.max(0, (x * dx + y * dy) / length));
      const offX = x - along * dx, offY = y - along * dy;
      if (offX * offX + offY * offY <= radius * radius) covered[row * width + column] = 1;
    }
  }
}

const SHARE = f(1 / 255);

/** The guide's colours, RGB after RGB in 0..1, blurred by 1-2-1 both ways. */
function smooth(guide, width, height) {
  const inner = (at, extent) => (extent === 1 ? 0 : at < 0 ? 1 : at < extent ? at : extent - 2); // mirrored without the edge
  const colours = new Float32Array(guide.length);
  for (let y = 0; y < height; y++) {
    const above = inner(y - 1, height) * width, row = y * width, below = inner(y + 1, height) * width;
    for (let x = 0; x < width; x++) {
      const left = inner(x - 1, width), right = inner(x + 1, width);
      for (let c = 0; c < 3; c++) {
        const across = (from) => guide[3 * (from + left) + c] + 2 * guide[3 * (from + x) + c] + guide[3 * (from + right) + c];
        colours[3 * (row + x) + c] = ((across(above) + 2 * across(row) + across(below) + 8) >> 4) * SHARE;
      }
    }
  }
  return colours;
}

/** What steps cost between the four pixels of each cell, which its upper left pixel names. */
function costs(colours, width, height) {
  const cost = (i, j, length) => {
    const r = f(colours[3 * i] - colours[3 * j]), g = f(colours[3 * i + 1] - colours[3 * j + 1]), b = f(colours[3 * i + 2] - colours[3 * j + 2]);
    return f(f(Math.sqrt(f(f(f(r * r) + f(g * g)) + f(b * b)))) + length);
  };
  const [down, right, falling, rising] = Array.from({ length: 4 }, () => new Float32Array(width * height));
  for (let y = 0, i = 0; y < height; y++) {
    for (let x = 0; x < width; x++, i++) {
      const more = x + 1 < width;
      if (more) right[i] = cost(i, i + 1, STEP);
      if (y + 1 === height) continue;
      down[i] = cost(i, i + width, STEP);
      if (!more) continue;
      falling[i] = cost(i, i + width + 1, DIAGONAL);
      rising[i] = cost(i + width, i + 1, DIAGONAL);
    }
  }
  return { down, right, falling, rising };
}

/** Geodesic distance to the nearest seed, UNREACHED where it is not below the limit; such a pixel hands none on. */
function distances(seeds, { down, right, falling, rising }, limits, width, height) {
  const found = new Float32Array(seeds.length).fill(UNREACHED);
  for (let i = 0; i < found.length; i++) if (seeds[i] && limits[i] > 0) found[i] = 0;
  if (!found.includes(0)) return found;
  sweep(found, down, falling, rising, limits, height, width, width, 1);
  sweep(found, right, falling, rising, limits, width, 1, height, width);
  return found;
}

/** Carries distances from line to line, there and back, in place. `next`: from a line to the next; `beside`: within one. */
function sweep(found, straight, falling, rising, limits, lines, next, length, beside) {
  const reached = new Uint8Array(lines); // lines that have something to carry on
  for (let at = 0; at < lines; at++) for (let n = 0, i = at * next; n < length; n++, i += beside) if (found[i] < UNREACHED) { reached[at] = 1; break; }
  for (let at = 1; at < lines; at++) {
    if (!reached[at - 1]) continue;
    for (let n = 0, from = (at - 1) * next; n < length; n++, from += beside) {
      let least = found[from] + straight[from];
      if (n > 0) least = Math.min(least, found[from - beside] + falling[from - beside]);
      if (n + 1 < length) least = Math.min(least, found[from + beside] + rising[from]);
      const to = from + next;
      if (least < found[to] && f(least) < limits[to]) found[to] = least, reached[at] = 1;
    }
  }
  for (let at = lines - 2; at >= 0; at--) {
    if (!reached[at + 1]) continue;
    for (let n = 0, to = at * next; n < length; n++, to += beside) {
      const from = to + next;
      let least = found[from] + straight[to];
      if (n + 1 < length) least = Math.min(least, found[from + beside] + falling[to]);
      if (n > 0) least = Math.min(least, found[from - beside] + rising[to - beside]);
      if (least < found[to] && f(least) < limits[to]) found[to] = least, reached[at] = 1;
    }
  }
}

/** Mask of the connected parts of `mask` and the seeds that hold a seed. */
function touching(mask, seeds, width, height) {
  const either = mask.slice();
  for (let i = 0; i < either.length; i++) either[i] |= seeds[i];
  const { labels, count } = components(either, width, height, true), touched = new Uint8Array(count + 1);
  for (let i = 0; i < labels.length; i++) if (seeds[i]) touched[labels[i]] = 1;
  return within(labels, touched);
}

/** Makes what all strokes on a scene share, which is kept in it. */
export function ready(scene) {
  const { alpha, seen, width, height } = scene;
  scene.inside ??= above(alpha, INSIDE);
  scene.steps ??= costs(smooth(seen, width, height), width, height);
  return scene;
}

/** The alpha of `scene` with the parts at the marks decided by them. keep, remove: masks that have no pixel in common. */
function redecided(scene, keep, remove) {
  const { alpha, inside, steps, width, height } = ready(scene);
  const result = alpha.slice(), reach = new Float32Array(alpha.length), limits = new Float32Array(alpha.length);
  for (const [value, seeds, others] of [[1, keep, remove], [0, remove, keep]]) {
    if (!seeds.includes(1)) continue;
    // a mark changes what is on the other side, and never goes through its own
    for (let i = 0; i < reach.length; i++) {
      reach[i] = REACH + f(AGREED * f(Math.sqrt(value ? alpha[i] : f(1 - alpha[i]))));
      limits[i] = inside[i] === value ? 0 : reach[i] + HALF_SOFT;
    }
    const own = distances(seeds, steps, limits, width, height);
    for (let i = 0; i < limits.length; i++) if (!(own[i] < limits[i])) limits[i] = 0;
    const other = distances(others, steps, limits, width, height);
    for (let i = 0; i < result.length; i++) {
      const room = Math.min(f(reach[i] - own[i]), f(other[i] - own[i]));
      const share = seeds[i] ? 1 : Math.min(1, Math.max(0, f(f(room / SOFT) + 0.5)));
      result[i] = value ? Math.max(result[i], share) : Math.min(result[i], f(1 - share));
    }
  }
  return result;
}

/**
 * The alpha of the people that are meant, and what the marks say of them, {keep, remove}: strokes of {points, radius} in pixels
 * of the photo.
 * scene: {alpha, cleaned; seen, RGB after RGB; width, height; photo: {width, height}}.
 */
export function chosen(scene, marks) {
  const { alpha, photo, width, height } = scene;
  if (!marks.keep.length && !marks.remove.length) return subjects(alpha, width, height);
  const keep = drawn(marks.keep, photo, width, height), remove = drawn(marks.remove, photo, width, height);
  for (let i = 0; i < keep.length; i++) if (remove[i]) keep[i] = 0;
  const marked = redecided(scene, keep, remove);
  const result = subjects(cleaned(marked, width, height), width, height).slice();
  // whom somebody marked stays, passer-by or not
  const stays = touching(above(marked, INSIDE), keep, width, height);
  for (let i = 0; i < result.length; i++) if (stays[i]) result[i] = marked[i];
  return result;
}
