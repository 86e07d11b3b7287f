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

/** Mask of the values above a limit. */
export function above(values, limit) {
  const mask = new Uint8Array(values.length);
  for (let i = 0; i < mask.length; i++) mask[i] = values[i] > limit ? 1 : 0;
  return mask;
}

/** Mask of the pixels whose part, a number in `labels`, is marked in `parts`. */
export function within(labels, parts) {
  const mask = new Uint8Array(labels.length);
  for (let i = 0; i < mask.length; i++) mask[i] = parts[labels[i]];
  return mask;
}

/** Of each pixel, the distance to the nearest one whose value in `mask` is `wanted`: OpenCV's 5 x 5 chamfer distance. */
function distanceTo(mask, width, height, wanted = 1) {
  const W = width + 4, distance = new Float32Array(W * (height + 4)).fill(1e6); // two pixels of frame: no bounds to check
  for (let y = 0, i = 0; y < height; y++) for (let x = 0; x < width; x++, i++) if (mask[i] === wanted) distance[(y + 2) * W + x + 2] = 0;
  for (const t of [-1, 1]) {
    for (let y = 0; y < height; y++) {
      for (let x = 0, i = t < 0 ? (y + 2) * W + 2 : (height + 1 - y) * W + width + 1; x < width; x++, i -= t) {
        if (distance[i] === 0) continue;
        const straight = Math.min(distance[i + t], distance[i + t * W]);
        const diagonal = Math.min(distance[i + t * (W - 1)], distance[i + t * (W + 1)]);
        const leap = Math.min(distance[i + t * (W - 2)], distance[i + t * (W + 2)], distance[i + t * (2 * W - 1)], distance[i + t * (2 * W + 1)]);
        distance[i] = Math.min(distance[i], straight + 1, diagonal + 1.4, leap + 2.1969);
      }
    }
  }
  const inner = new Float32Array(width * height);
  for (let y = 0; y < height; y++) inner.set(distance.subarray((y + 2) * W + 2, (y + 2) * W + 2 + width), y * width);
  return inner;
}

/** The alpha soft only along its 0.5 contour, 0 or 1 elsewhere, as `bgimage.people.decided` makes it. */
export function decided(alpha, width, height) {
  const person = above(alpha, INSIDE), result = new Float32Array(alpha.length);
  const toPerson = distanceTo(person, width, height), toRest = distanceTo(person, width, height, 0);
  const reach = SOFT * Math.hypot(width, height);
  for (let i = 0; i < result.length; i++) {
    const soft = Math.min(1, Math.max(0, 3 - (Math.min(toPerson[i] + toRest[i], 4 * reach) - 0.5) / (reach / 2)));
    result[i] = soft * alpha[i] + (1 - soft) * person[i];
  }
  return result;
}

/** Connected parts of what is not 0 in `mask`, by diagonals too where `eight`: a number from 1 on for each, 0 elsewhere. */
export function components(mask, width, height, eight) {
  const reach = eight ? 1 : 0;
  const begins = [], ends = [], leaders = []; // of each run of pixels within a row; leaders: the first run of its part
  const leader = (run) => { while (leaders[run] !== run) run = leaders[run]; return run; };
  for (let y = 0, above = 0; y < height; y++) {
    const here = begins.length, last = (y + 1) * width;
    for (let begin = y * width, end; begin < last; begin = end) {
      while (begin < last && !mask[begin]) begin++;
      for (end = begin; end < last && mask[end];) end++;
      if (begin === end) break;
      let first = begins.length;
      while (above < here && ends[above] + width + reach <= begin) above++;
      for (let run = above; run < here && begins[run] + width < end + reach; run++) {
        const [one, other] = [first, leader(run)];
        first = Math.min(one, other);
        leaders[Math.max(one, other)] = first;
      }
      begins.push(begin);
      ends.push(end);
      leaders[begins.length - 1] = first;
    }
    above = here;
  }
  const labels = new Int32Array(mask.length), numbers = [];
  let count = 0;
  for (let run = 0; run < begins.length; run++) {
    numbers[run] = leaders[run] === run ? ++count : numbers[leaders[run]];
    labels.fill(numbers[run], begins[run], ends[run]);
  }
  return { labels, count };
}

/** Of each part, the sum of the values of its pixels; what lies outside of all parts at 0. */
function sums({ labels, count }, values) {
  const totals = new Float64Array(count + 1);
  for (let i = 0; i < labels.length; i++) totals[labels[i]] += values[i];
  return totals;
}

/** The alpha without specks and pinholes, as `bgimage.people.cleaned` makes it. */
export function cleaned(alpha, width, height) {
  const touched = components(above(alpha, Math.fround(0.1)), width, height, true);
  const mass = sums(touched, alpha);
  const total = mass.subarray(1).reduce((sum, value) => sum + value, 0);
  if (total < NOBODY * alpha.length) return new Float32Array(alpha.length);
  const limit = Math.max(SMALLEST, SPECK * total);
  const least = Math.max(limit, FAR_AWAY * alpha.length);
  const result = alpha.slice();
  if (mass.subarray(1).some((one) => one < least)) touched.labels.forEach((label, i) => { if (label && mass[label] < least) result[i] = 0; });

  const rest = new Float32Array(result.length), faint = new Uint8Array(result.length), dark = new Uint8Array(result.length);
  for (let i = 0; i < rest.length; i++) {
    rest[i] = 1 - result[i];
    faint[i] = result[i] < Math.fround(0.9) ? 1 : 0;
    dark[i] = result[i] < INSIDE ? 1 : 0;
  }
  const open = components(faint, width, height, false), missing = sums(open, rest), deep = sums(open, dark);
  const border = new Set();
  for (let x = 0; x < width; x++) border.add(open.labels[x]).add(open.labels[(height - 1) * width + x]);
  for (let y = 0; y < height; y++) border.add(open.labels[y * width]).add(open.labels[y * width + width - 1]);
  const holes = Array.from(missing, (sum, label) => label > 0 && sum < limit && deep[label] > 0 && !border.has(label));
  if (holes.includes(true)) open.labels.forEach((label, i) => { if (holes[label]) result[i] = 1; });
  return result;
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
  const person = above(alpha, INSIDE), found = components(person, width, height, true);
  if (found.count < 2) return alpha;
  const areas = sums(found, person);
  const most = Math.max(...areas), all = boxes(found, width), largest = all[areas.indexOf(most)];
  const behind = all.map(([left, top, right, bottom], label) => {
    const beside = right <= largest[0] || left >= largest[2];
    const [head, feet] = [top, bottom].map((y) => (y - largest[1]) / (largest[3] - largest[1]));
    return areas[label] < BEHIND * most && beside && head > HEAD && feet < FEET && feet - head >= TALL;
  });
  const large = within(found.labels, areas.map((area) => area >= SUBJECT * most));
  const distance = distanceTo(large, width, height), reach = APART * Math.hypot(width, height);
  const near = new Set();
  found.labels.forEach((label, i) => {
    if (label && !behind[label] && distance[i] <= reach) near.add(label);
  });
  if (near.size === found.count) return alpha;
  const toKept = distanceTo(within(found.labels, areas.map((_, label) => near.has(label))), width, height);
  const toOthers = distanceTo(within(found.labels, areas.map((_, label) => label > 0 && !near.has(label))), width, height);
  return alpha.map((value, i) => (toOthers[i] < toKept[i] ? 0 : value));
}
