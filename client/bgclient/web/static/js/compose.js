// Photo, cut-out and wishes to a picture; the preview and the download are made by the same lines.

/** What part of the photo is shown: {x, y, width, height} in photo pixels. */
export function frameOf({ width, height, box }, look) {
  if (!look.crop || !box) return { x: 0, y: 0, width, height };
  const room = (extent) => Math.round((extent * look.margin) / 100);
  const x = Math.max(0, box.x - room(box.width)), y = Math.max(0, box.y - room(box.height));
  return {
    x, y,
    width: Math.min(width, box.x + box.width + room(box.width)) - x,
    height: Math.min(height, box.y + box.height + room(box.height)) - y,
  };
}

/** True when the picture is the cut-out itself, so that its own bytes can be given out. */
export const isPlain = (look) => look.background === "none" && !look.crop && !look.shadow;

/**
 * Draws into `canvas`.
 * photo, cutout: drawables of the same scene at any resolution; size: {width, height, box} in photo pixels.
 */
export function compose(canvas, { photo, cutout, size, look, maxSide = Infinity, before = false }) {
  const frame = frameOf(size, look);
  const scale = Math.min(1, maxSide / Math.max(frame.width, frame.height));
  canvas.width = Math.max(1, Math.round(frame.width * scale));
  canvas.height = Math.max(1, Math.round(frame.height * scale));
  const context = canvas.getContext("2d");
  if (!context) throw new RangeError("canvas");
  context.imageSmoothingQuality = "high";
  const place = (drawable) => {
    const sx = drawable.width / size.width, sy = drawable.height / size.height;
    context.drawImage(drawable, frame.x * sx, frame.y * sy, frame.width * sx, frame.height * sy, 0, 0, canvas.width, canvas.height);
  };
  if (before) return place(photo);

  if (look.background === "blur") {
    blurred(context, () => place(photo), look.blur);
  } else if (look.background === "image" && look.image) {
    cover(context, look.image);
  } else if (look.background.startsWith("#")) {
    context.fillStyle = look.background;
    context.fillRect(0, 0, canvas.width, canvas.height);
  }
  context.save();
  if (look.shadow) {
    const reach = Math.max(canvas.width, canvas.height) / 60;
    context.shadowColor = "rgb(0 0 0 / 45%)";
    context.shadowBlur = 1.6 * reach;
    context.shadowOffsetX = 0.4 * reach;
    context.shadowOffsetY = reach;
  }
  place(cutout);
  context.restore();
}

function cover(context, image) {
  const { width, height } = context.canvas;
  const scale = Math.max(width / image.width, height / image.height);
  context.drawImage(image, (width - image.width * scale) / 2, (height - image.height * scale) / 2, image.width * scale, image.height * scale);
}

/** Halving and doubling again: blurs alike in every browser, at any resolution (canvas filters do not, yet). */
function blurred(context, draw, strength) {
  const { canvas } = context;
  draw();
  let small = canvas;
  const least = Math.max(8, 160 - 15 * strength);
  while (Math.max(small.width, small.height) > least) small = resized(small, small.width / 2, small.height / 2);
  while (small.width * 2 < canvas.width) small = resized(small, small.width * 2, small.height * 2);
  context.clearRect(0, 0, canvas.width, canvas.height);
  context.drawImage(small, 0, 0, canvas.width, canvas.height);
}

function resized(source, width, height) {
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(width));
  canvas.height = Math.max(1, Math.round(height));
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(source, 0, 0, canvas.width, canvas.height);
  return canvas;
}

export const toBlob = (canvas, type) =>
  new Promise((resolve, reject) => canvas.toBlob((blob) => (blob ? resolve(blob) : reject(new RangeError("canvas"))), type, 0.92));
