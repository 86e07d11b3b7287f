// A brush over the result: what belongs to the cut-out and what does not, as the marks that the API takes.

const MOST = 2000; // numbers in one list of marks, as `bgimage.strokes.MOST`
const COLOURS = { keep: "rgb(30 160 80 / 60%)", remove: "rgb(215 45 55 / 60%)" };

const tenth = (value) => Math.round(value * 10) / 10;

/** {keep, remove}: the lists of marks that strokes of {kind, points, radius} make. */
export function marksOf(strokes) {
  const of = (wanted) => strokes.filter(({ kind }) => kind === wanted).map(({ points, radius }) => ({ points, radius }));
  return { keep: of("keep"), remove: of("remove") };
}

/** True when a server takes that many. */
export const fits = (strokes) =>
  Object.values(marksOf(strokes)).every((marks) => marks.reduce((sum, { points }) => sum + 2 * points.length + 1, 0) <= MOST);

/**
 * Draws with mouse, pen or finger on `canvas`, which lies over the picture.
 * frame(): the part of the photo that the picture shows, {x, y, width, height}; share(): the brush's radius over its longer
 * side; kind(): "keep", "remove" or null; onStroke: takes {kind, points, radius} in photo pixels.
 */
export function brush(canvas, { frame, share, kind, onStroke }) {
  let drawing = null; // {pointer, kind, points, radius, shown: places on the canvas}

  function add(event) {
    const box = canvas.getBoundingClientRect(), { x, y, width, height } = frame();
    const inside = (value) => Math.min(1, Math.max(0, value));
    const across = inside((event.clientX - box.left) / box.width), down = inside((event.clientY - box.top) / box.height);
    const point = [tenth(x + across * width), tenth(y + down * height)];
    const last = drawing.points.at(-1);
    if (last && Math.hypot(point[0] - last[0], point[1] - last[1]) < Math.max(1, drawing.radius / 2)) return;
    drawing.points.push(point);
    drawing.shown.push([across * canvas.width, down * canvas.height]);
  }

  function draw() {
    const context = canvas.getContext("2d");
    context.clearRect(0, 0, canvas.width, canvas.height);
    if (!drawing) return;
    const [[x, y], ...rest] = drawing.shown;
    context.strokeStyle = COLOURS[drawing.kind];
    context.lineWidth = Math.max(2, (2 * drawing.radius * canvas.width) / frame().width);
    context.lineCap = context.lineJoin = "round";
    context.beginPath();
    context.moveTo(x, y);
    context.lineTo(x, y);
    for (const place of rest) context.lineTo(...place);
    context.stroke();
  }

  const mine = (event) => drawing?.pointer === event.pointerId;

  canvas.addEventListener("pointerdown", (event) => {
    if (drawing || !kind() || event.button) return;
    event.preventDefault();
    canvas.setPointerCapture(event.pointerId);
    const { clientWidth, clientHeight } = canvas, { width, height } = frame();
    canvas.width = clientWidth * devicePixelRatio;
    canvas.height = clientHeight * devicePixelRatio;
    drawing = { pointer: event.pointerId, kind: kind(), points: [], shown: [], radius: tenth(share() * Math.max(width, height)) };
    add(event);
    draw();
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!mine(event)) return;
    const events = event.getCoalescedEvents?.() ?? [];
    for (const one of events.length ? events : [event]) add(one);
    draw();
  });
  canvas.addEventListener("pointerup", (event) => {
    if (!mine(event)) return;
    add(event);
    const { kind, points, radius } = drawing;
    drawing = null;
    draw();
    onStroke({ kind, points, radius });
  });
  canvas.addEventListener("pointercancel", (event) => {
    if (!mine(event)) return;
    drawing = null;
    draw();
  });
}
