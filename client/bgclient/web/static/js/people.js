// Which parts of the network's alpha are meant and how soft they are: what `bgimage.people` does on the server, with its numbers.

export const INSIDE = 0.5; // alpha above which a pixel belongs to somebody
const SPECK = 0.002; // share of all people's alpha
const SMALLEST = 9; // pixels
const FAR_AWAY = 0.001; // share of the picture
const NOBODY = 0.003; // share of the picture that all parts have together at least
const SOFT = 0.003; // of the diagonal: half the width of the band along the outline that may be half-transparent
const SUBJECT = 0.2; // share of the largest part's area
const APART = 0.1; // of the diagonal
const BEHIND = 0.35; // share of the largest part's area
const HEAD = 0.05, FEET = 0.75, TALL = 0.3; // of the largest part's height

/** Mask of the values for which `test(value, i)` holds; `Uint8Array.from` takes many times as long. */
export function maskOf(values, test) {
  const mask = new Uint8Array(values.length);
  for (let i = 0; i < mask.length; i++) mask[i] = test(values[i], i) ? 1 : 0;
  return mask;
}

/** Pixels to the nearest pixel whose value in `mask` is not 0: OpenCV's 5 x 5 chamfer distance. */
function distanceTo(mask, width, height) {
  const W = width + 4, distance = new Float32Array(W * (height + 4)).fill(1e6); // two pixels of frame: no bounds to check
  for (let y = 0; y < height; y++) for (let x = 0; x < width; x++) if (mask[y * width + x]) distance[(y + 2) * W + x + 2] = 0;
  for (const t of [-1, 1]) {
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < width; x++) {
        const i = t < 0 ? (y + 2) * W + x + 2 : (height + 1 - y) * W + width + 1 - x;
        distance[i] = Math.min(
          distance[i], distance[i + t] + 1, distance[i + t * W] + 1,
          Math.min(distance[i + t * (W - 1)], distance[i + t * (W + 1)]) + 1.4,
          Math.min(distance[i + t * (W - 2)], distance[i + t * (W + 2)], distance[i + t * (2 * W - 1)], distance[i + t * (2 * W + 1)]) + 2.1969,
        );
      }
    }
  }
  return (x, y) => distance[(y + 2) * W + x + 2];
}

/** The alpha soft only along its 0.5 contour, 0 or 1 elsewhere, as `bgimage.people.decided` makes it. */
export function decided(alpha, width, height) {
  const person = maskOf(alpha, (value) => value > INSIDE);
  const toPerson = distanceTo(person, width, height), toRest = distanceTo(person.map((value) => 1 - value), width, height);
  const reach = SOFT * Math.hypot(width, height);
  return alpha.map((value, i) => {
    const x = i % width, y = (i - x) / width;
    const soft = Math.min(1, Math.max(0, 3 - (Math.min(toPerson(x, y) + toRest(x, y), 4 * reach) - 0.5) / (reach / 2)));
    return soft * value + (1 - soft) * person[i];
  });
}

/** Connected parts of what is not 0 in `mask`, by diagonals too where `eight`: a number from 1 on for each, 0 elsewhere. */
export function components(mask, width, height, eight) {
  const labels = new Int32Array(mask.length), stack = new Int32Array(mask.length);
  let count = 0;
  for (let start = 0; start < mask.length; start++) {
    if (!mask[start] || labels[start]) continue;
    labels[start] = ++count;
    stack[0] = start;
    for (let waiting = 1; waiting > 0; ) {
      const i = stack[--waiting], x = i % width, y = (i - x) / width;
      for (let v = Math.max(0, y - 1); v <= Math.min(height - 1, y + 1); v++) {
        const reach = eight || v === y ? 1 : 0, end = v * width + Math.min(width - 1, x + reach);
        for (let j = v * width + Math.max(0, x - reach); j <= end; j++) {
          if (!mask[j] || labels[j]) continue;
          labels[j] = count;
          stack[waiting++] = j;
        }
      }
    }
  }
  return { labels, count };
}

/** Of each part, the sum of `value(i)` over its pixels; what lies outside of all parts at 0. */
function sums({ labels, count }, value) {
  const totals = new Float64Array(count + 1);
  for (let i = 0; i < labels.length; i++) totals[labels[i]] += value(i);
  return totals;
}

/** The alpha without specks and pinholes, as `bgimage.people.cleaned` makes it. */
export function cleaned(alpha, width, height) {
  const touched = components(maskOf(alpha, (value) => value > Math.fround(0.1)), width, height, true);
  const mass = sums(touched, (i) => alpha[i]);
  const total = mass.subarray(1).reduce((sum, value) => sum + value, 0);
  if (total < NOBODY * alpha.length) return alpha.map(() => 0);
  const limit = Math.max(SMALLEST, SPECK * total);
  const least = Math.max(limit, FAR_AWAY * alpha.length);
  const result = alpha.map((value, i) => (touched.labels[i] && mass[touched.labels[i]] < least ? 0 : value));

  const open = components(maskOf(result, (value) => value < Math.fround(0.9)), width, height, false);
  const missing = sums(open, (i) => 1 - result[i]), deep = sums(open, (i) => result[i] < INSIDE);
  const border = new Set();
  for (let x = 0; x < width; x++) border.add(open.labels[x]).add(open.labels[(height - 1) * width + x]);
  for (let y = 0; y < height; y++) border.add(open.labels[y * width]).add(open.labels[y * width + width - 1]);
  const hole = (label) => label && missing[label] < limit && deep[label] && !border.has(label);
  return result.map((value, i) => (hole(open.labels[i]) ? 1 : value));
}

/** Left, top, right and bottom of each part, the latter two behind its last pixel. */
function boxes({ labels, count }, width) {
  const result = Array.from({ length: count + 1 }, () => [Infinity, Infinity, 0, 0]);
  labels.forEach((label, i) => {
    if (!label) return;
    const box = result[label], x = i % width, y = (i - x) / width;
    box[0] = Math.min(box[0], x), box[1] = Math.min(box[1], y), box[2] = Math.max(box[2], x + 1), box[3] = Math.max(box[3], y + 1);
  });
  return result;
}

/** The alpha without passers-by, as `people="subjects"` leaves them out on the server. */
export function subjects(alpha, width, height) {
  const found = components(maskOf(alpha, (value) => value > INSIDE), width, height, true);
  const areas = sums(found, () => 1);
  areas[0] = 0;
  const most = Math.max(...areas), all = boxes(found, width), largest = all[areas.indexOf(most)];
  const behind = all.map(([left, top, right, bottom], label) => {
    const beside = right <= largest[0] || left >= largest[2];
    const [head, feet] = [top, bottom].map((y) => (y - largest[1]) / (largest[3] - largest[1]));
    return areas[label] < BEHIND * most && beside && head > HEAD && feet < FEET && feet - head >= TALL;
  });
  const large = maskOf(found.labels, (label) => label && areas[label] >= SUBJECT * most);
  const distance = distanceTo(large, width, height), reach = APART * Math.hypot(width, height);
  const near = new Set();
  found.labels.forEach((label, i) => {
    const x = i % width;
    if (label && !behind[label] && (large[i] || distance(x, (i - x) / width) <= reach)) near.add(label);
  });
  if (near.size === found.count) return alpha;
  const toKept = distanceTo(maskOf(found.labels, (label) => near.has(label)), width, height);
  const toOthers = distanceTo(maskOf(found.labels, (label) => label && !near.has(label)), width, height);
  return alpha.map((value, i) => {
    const x = i % width, y = (i - x) / width;
    return toOthers(x, y) < toKept(x, y) ? 0 : value;
  });
}
