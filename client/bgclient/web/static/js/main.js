// The page: photos come in, are cut one after another, looked at, and taken away.

import { brush, fits, marksOf } from "./brush.js";
import { camera } from "./camera.js";
import { dress } from "./chrome.js";
import { compose, frameOf, isPlain, toBlob } from "./compose.js";
import { cutOnDevice, letGo } from "./device.js";
import { cutOnServer, Refused } from "./server.js";
import { keep, recall } from "./store.js";
import { known, t } from "./strings.js";
import { zip } from "./zip.js";

const AT_A_TIME = 2;
const PREVIEW_SIDE = 1600; // pixels
const MAY_PASS = new Set(["offline", "service_unavailable", "rate_limit_exceeded", "upload_timeout", "internal_error", "auth_failed", "failed"]);

const $ = (id) => document.getElementById(id);
const stage = $("stage"), split = $("split");
const noServer = document.documentElement.dataset.only === "device"; // static files, as "bgclient web --export" writes them
const onThisDevice = () => noServer || $("device").checked;

const photos = []; // {id, file, name, thumb, state, share, strokes, result, answered, error, abort}
const look = { background: "none", image: null, blur: 4, crop: false, margin: 8, shadow: false };
let facts = { key_needed: false, on_device: false, max_upload_bytes: 22 * 2 ** 20 };
let current = null;
let held = null; // the photo under the brush: the worker keeps it open, so that a stroke takes a tenth of a second
let shown = null; // {of, photo, cutout, result}: bitmaps of the current photo at the preview's resolution, and of which result
let serial = 0;

// ---- photos in -----------------------------------------------------------------------------------------------------

function add(files) {
  let first = null;
  for (const file of files) {
    if (file.type && !file.type.startsWith("image/")) {
      toast(t("notImage", { name: file.name }));
      continue;
    }
    const photo = { id: ++serial, file, name: file.name || `${t("pasted")}.png`, thumb: URL.createObjectURL(file), state: "waiting", share: 0, strokes: [] };
    photos.push(photo);
    first ??= photo;
  }
  if (!first) return;
  current = first;
  $("welcome").hidden = true;
  $("work").hidden = false;
  drawStrip();
  show();
  pump();
}

function remove(photo) {
  const at = photos.indexOf(photo);
  photo.abort?.abort();
  URL.revokeObjectURL(photo.thumb);
  photos.splice(at, 1);
  if (!photos.length) return restart();
  if (current === photo) current = photos[Math.min(at, photos.length - 1)];
  drawStrip();
  show();
  $("strip").children[photos.indexOf(current)].querySelector(".thumb").focus();
}

function restart() {
  for (const photo of photos) {
    photo.abort?.abort();
    URL.revokeObjectURL(photo.thumb);
  }
  photos.length = 0;
  current = shown = null;
  hold();
  $("work").hidden = true;
  $("welcome").hidden = false;
  document.querySelector("#welcome [data-choose]").focus();
}

// ---- cutting -------------------------------------------------------------------------------------------------------

function pump() {
  const working = photos.filter((photo) => photo.state === "working").length;
  const waiting = photos.filter((photo) => photo.state === "waiting");
  // the photo that is being looked at goes first
  waiting.sort((one, other) => (other === current) - (one === current));
  for (const photo of waiting.slice(0, Math.max(0, AT_A_TIME - working))) cut(photo);
}

async function cut(photo) {
  const onDevice = onThisDevice();
  photo.state = "working";
  photo.share = onDevice ? 1 : 0; // of what is sent
  photo.abort = new AbortController();
  const way = {
    key: () => sessionStorage.getItem("bgclient.key"),
    signal: photo.abort.signal,
    onProgress: (share) => { photo.share = share; refresh(photo); },
    number: photo === held ? photo.id : undefined,
    people: $("main-only").checked && !onDevice ? "main" : "subjects",
    marks: marksOf(photo.strokes),
    answered: photo.answered,
  };
  refresh(photo);
  try {
    const onBoth = photo === held && photo.answered && way.people === "subjects";
    photo.result = await (onDevice ? cutOnDevice : onBoth ? cutOnBoth : cutOnServer)(photo.file, way);
    photo.onDevice = onDevice;
    photo.answered = photo.result.answered ?? photo.answered;
    photo.state = "done";
    if (photo !== current) { // the picture is as large as the photo: the bytes do for later
      photo.result.picture?.close();
      photo.result.picture = null;
    }
    if (photo !== held || !onDevice) afterwards(photo, photo.result);
    announce(t("photoDone", { name: photo.name }));
  } catch (error) {
    if (error.name === "AbortError") return pump();
    fails(photo, error);
  }
  refresh(photo);
  const ended = photos.filter(({ state }) => state === "done" || state === "failed").length;
  if (ended === photos.length && photos.length > 1) announce(t("allDone", { done: count("done"), total: photos.length }));
  pump();
}

function fails(photo, error) {
  photo.state = "failed";
  photo.error = error instanceof Refused ? error : new Refused("failed", String(error));
  announce(t("photoFailed", { name: photo.name, why: sentence(photo.error) }));
  if (photo.error.code === "failed") console.error(photo.name, photo.error);
  if (photo.error.code === "auth_failed") askForKey();
}

/** Asks the server at once, and shows what this device makes of the strokes until its cut-out comes. */
async function cutOnBoth(file, way) {
  const served = cutOnServer(file, { ...way, onProgress: () => {} });
  const first = cutOnDevice(file, way).then(
    (result) => ({ ...result, served, bytes: async () => (await served).bytes() }),
    () => served,
  );
  return Promise.race([first, served]);
}

/** Shows the server's cut-out, and gives the strip the small picture once its bytes are there; without them the photo failed after all. */
async function afterwards(photo, result) {
  const wanted = () => photo.result === result && photo.state === "done" && photos.includes(photo);
  try {
    const blob = await result.bytes();
    if (!wanted()) return;
    if (result.served) {
      photo.result = await result.served;
      refresh(photo);
    }
    URL.revokeObjectURL(photo.thumb);
    photo.thumb = URL.createObjectURL(blob);
    dressThumb(photo);
  } catch (error) {
    if (!wanted()) return;
    fails(photo, error);
    refresh(photo);
  }
}

const count = (state) => photos.filter((photo) => photo.state === state).length;

function sentence(error) {
  if (!known(error.code)) return `${t("failed")}. ${error.message}`;
  return t(error.code, { limit: Math.round(facts.max_upload_bytes / 2 ** 20) });
}

/** Has the worker open the photo that a brush is over, and no other one. */
function hold() {
  const wanted = stage.dataset.brush && current?.result && (noServer || facts.on_device) ? current : null;
  if (wanted === held) return;
  if (held?.result && photos.includes(held)) afterwards(held, held.result); // its PNG, should the file be gone later
  held = wanted;
  if (!wanted) return letGo();
  cutOnDevice(wanted.file, { number: wanted.id, marks: marksOf(wanted.strokes), answered: wanted.answered }).then(
    ({ picture, answered }) => { picture.close(); wanted.answered ??= answered; },
    () => {}, // a stroke waits for the server then, or says what is wrong
  );
}

/** Cuts a photo once more, by what is asked now. */
function again(photo) {
  photo.abort?.abort();
  photo.state = "waiting";
  refresh(photo);
}

// ---- the brush -----------------------------------------------------------------------------------------------------

function takeBrush(kind) {
  if (kind && stage.dataset.brush !== kind) stage.dataset.brush = kind;
  else delete stage.dataset.brush;
  for (const one of ["keep", "remove"]) $(`brush-${one}`).setAttribute("aria-pressed", String(stage.dataset.brush === one));
  $("size-row").hidden = !stage.dataset.brush;
  if (current) show();
}

function draws(stroke) {
  const strokes = [...current.strokes, stroke];
  if (!fits(strokes)) return toast(t("brushFull"));
  current.strokes = strokes;
  again(current);
  pump();
}

function undo() {
  if (!current?.strokes.length) return;
  current.strokes = current.strokes.slice(0, -1);
  again(current);
  pump();
}

// ---- the strip -----------------------------------------------------------------------------------------------------

function drawStrip() {
  const strip = $("strip");
  strip.replaceChildren(...photos.map((photo) => {
    const entry = document.createElement("li");
    entry.innerHTML =
      '<button type="button" class="thumb"><img alt=""><span class="meter" aria-hidden="true"><i></i></span></button>' +
      '<button type="button" class="remove"><svg viewBox="0 0 24 24" aria-hidden="true"><path d="M5 5l14 14M19 5L5 19"/></svg></button>';
    const [thumb, cross] = entry.children;
    thumb.addEventListener("click", () => choose(photo));
    thumb.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (event.key === "Delete") remove(photo);
      else if (step) strip.children[photos.indexOf(photo) + step]?.querySelector(".thumb").focus();
      else return;
      event.preventDefault();
    });
    cross.addEventListener("click", () => remove(photo));
    photo.entry = entry;
    dressThumb(photo);
    return entry;
  }));
}

function dressThumb(photo) {
  const [thumb, cross] = photo.entry.children;
  thumb.className = `thumb ${photo.state}`;
  thumb.setAttribute("aria-current", String(photo === current));
  thumb.setAttribute("aria-label", `${photo.name}. ${stateText(photo)}`.trim());
  thumb.style.setProperty("--progress", photo.state === "working" ? 0.1 + 0.6 * photo.share : 0);
  const image = thumb.querySelector("img");
  if (image.src !== photo.thumb) image.src = photo.thumb;
  cross.setAttribute("aria-label", t("remove", { name: photo.name }));
}

function stateText(photo) {
  switch (photo.state) {
    case "waiting": return t("waiting");
    case "working": return photo.share < 1 ? t("sending", { percent: Math.round(100 * photo.share) }) : t("cutting");
    case "failed": return sentence(photo.error);
    default: return "";
  }
}

function refresh(photo) {
  if (!photos.includes(photo)) return;
  dressThumb(photo);
  if (photo === current) show();
  else drawActions();
}

function choose(photo) {
  current = photo;
  photos.forEach(dressThumb);
  show();
  pump();
}

// ---- the stage -----------------------------------------------------------------------------------------------------

let drawing = Promise.resolve();

function show() {
  const photo = current;
  drawActions();
  hold();
  const mending = stage.dataset.brush && shown?.of === photo && shown.result && !["done", "failed"].includes(photo.state);
  const state = mending ? "mending" : photo.state;
  if (stage.dataset.state !== state) stage.dataset.state = state;
  $("veil-text").textContent = stateText(photo);
  $("retry").hidden = photo.state !== "failed" || !MAY_PASS.has(photo.error.code);
  if (mending) return; // what is there stays until the next picture comes
  // one drawing after another, and only what is still wanted
  drawing = drawing.then(() => (photo === current ? draw(photo) : undefined)).catch((error) => console.warn("preview:", error));
}

async function preview(source) {
  const bitmap = source instanceof ImageBitmap ? source : await createImageBitmap(source);
  const scale = PREVIEW_SIDE / Math.max(bitmap.width, bitmap.height);
  if (scale >= 1) return bitmap;
  const [resizeWidth, resizeHeight] = [bitmap.width, bitmap.height].map((side) => Math.max(1, Math.round(side * scale)));
  const small = await createImageBitmap(bitmap, { resizeWidth, resizeHeight, resizeQuality: "high" });
  bitmap.close();
  return small;
}

async function draw(photo) {
  if (shown?.of !== photo) {
    shown = { of: photo, photo: null, cutout: null, result: null };
    try {
      shown.photo = await preview(photo.file);
    } catch {
      shown.photo = null; // a kind of picture that this browser cannot show; the server may read it all the same
    }
  }
  const mine = shown;
  if (photo.state === "done" && mine.result !== photo.result) {
    const { result } = photo, { picture, bytes } = result;
    result.picture = null;
    const cutout = await preview(picture ?? await bytes());
    mine.cutout?.close();
    Object.assign(mine, { cutout, result });
  }
  if (photo !== current || mine !== shown || stage.dataset.state === "mending") return;
  const drawable = mine.photo ?? mine.cutout;
  for (const id of ["before", "after"]) $(id).hidden = !drawable;
  if (!drawable) return;
  const done = photo.state === "done";
  const size = done ? photo.result : { width: drawable.width, height: drawable.height, box: null };
  const common = { photo: drawable, size, look: done ? look : { ...look, crop: false }, maxSide: PREVIEW_SIDE };
  compose($("before"), { ...common, before: true });
  if (done) compose($("after"), { ...common, cutout: mine.cutout });
  place();
  if (done && document.activeElement === document.body) split.focus({ preventScroll: true });
}

/** Lays slider and divider over the picture, which is smaller than the stage on two of its sides. */
function place() {
  const canvas = $("before");
  const fit = Math.min(stage.clientWidth / canvas.width, stage.clientHeight / canvas.height);
  const width = canvas.width * fit, height = canvas.height * fit;
  for (const id of ["before", "after", "marks"]) Object.assign($(id).style, { width: `${width}px`, height: `${height}px` });
  const set = (name, value) => stage.style.setProperty(name, value);
  set("--left", `${(stage.clientWidth - width) / 2}px`);
  set("--top", `${(stage.clientHeight - height) / 2}px`);
  set("--width", `${width}px`);
  set("--height", `${height}px`);
  set("--split", `${split.value}%`);
  set("--split-px", `${(width * split.value) / 100}px`);
}

// ---- wishes --------------------------------------------------------------------------------------------------------

function wish(changes) {
  Object.assign(look, changes);
  $("own-row").hidden = !(document.querySelector('[name="background"][value="own"]').checked);
  $("blur-row").hidden = look.background !== "blur";
  $("image-row").hidden = look.background !== "image";
  $("margin-row").hidden = !look.crop;
  $("margin-value").textContent = `${look.margin}%`;
  if (current) show();
}

function background(value) {
  if (value === "own") return wish({ background: own() });
  if (value === "image" && !look.image) $("background-file").click();
  wish({ background: value });
}

function own() {
  const color = $("own-color").value;
  const swatch = document.querySelector(".swatch.own");
  swatch.classList.add("picked");
  swatch.style.setProperty("--color", color);
  return color;
}

// ---- taking away ---------------------------------------------------------------------------------------------------

function drawActions() {
  const { result, state } = current;
  const ready = state === "done";
  $("download").disabled = !ready;
  $("undo").disabled = !current.strokes.length;
  $("download-all").hidden = count("done") < 2;
  const { width, height } = ready ? frameOf(result, look) : {};
  $("facts").textContent = ready ? t(current.onDevice ? "factsDevice" : "facts", { width, height }) : "";
  $("download").textContent = t($("jpeg").checked ? "downloadJpeg" : "download");
}

/** The finished picture of a photo: the server's own bytes where nothing is to be added. JPEG is never transparent. */
async function finished(photo) {
  const jpeg = $("jpeg").checked, blob = await photo.result.bytes();
  if (isPlain(look) && !jpeg) return blob;
  const asked = jpeg && look.background === "none" ? { ...look, background: "#ffffff" } : look;
  const canvas = document.createElement("canvas");
  const [original, cutout] = await Promise.all([
    look.background === "blur" ? createImageBitmap(photo.file) : null, createImageBitmap(blob),
  ]);
  compose(canvas, { photo: original, cutout, size: photo.result, look: asked });
  original?.close();
  cutout.close();
  return toBlob(canvas, jpeg ? "image/jpeg" : "image/png");
}

const fileName = (name) => `${name.replace(/\.[^.]+$/, "")}-cutout.${$("jpeg").checked ? "jpg" : "png"}`;

function give(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

async function download() {
  try {
    give(await finished(current), fileName(current.name));
  } catch (error) {
    toast(t(error instanceof RangeError ? "tooBig" : "failed"));
  }
}

async function downloadAll() {
  const done = photos.filter(({ state }) => state === "done");
  const button = $("download-all");
  button.disabled = true;
  try {
    const files = [];
    for (const photo of done) {
      toast(t("zipping", { done: files.length + 1, total: done.length }));
      files.push({ name: fileName(photo.name), blob: await finished(photo) });
    }
    give(await zip(files), "cutouts.zip");
    $("toast").hidden = true;
  } catch (error) {
    toast(t(error instanceof RangeError ? "tooBig" : "failed"));
  } finally {
    button.disabled = false;
  }
}

// ---- telling -------------------------------------------------------------------------------------------------------

const announce = (text) => { $("status").textContent = text; };

let toasting;
function toast(text) {
  $("toast").textContent = text;
  $("toast").hidden = false;
  clearTimeout(toasting);
  toasting = setTimeout(() => { $("toast").hidden = true; }, 6000);
}

function askForKey() {
  if (!$("key-dialog").open) $("key-dialog").showModal();
}

// ---- wiring --------------------------------------------------------------------------------------------------------

const openCamera = camera((file) => add([file]));
for (const button of document.querySelectorAll("[data-choose]")) button.addEventListener("click", () => $("files").click());
document.querySelector("[data-camera]").addEventListener("click", openCamera);
$("files").addEventListener("change", (event) => { add(event.target.files); event.target.value = ""; });

let depth = 0;
const carriesFiles = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
addEventListener("dragenter", (event) => { if (carriesFiles(event)) { depth++; $("over").hidden = false; } });
addEventListener("dragleave", (event) => { if (carriesFiles(event) && --depth <= 0) { depth = 0; $("over").hidden = true; } });
addEventListener("dragover", (event) => { if (carriesFiles(event)) event.preventDefault(); });
addEventListener("drop", (event) => {
  if (!carriesFiles(event)) return;
  event.preventDefault();
  depth = 0;
  $("over").hidden = true;
  add(event.dataTransfer.files);
});
addEventListener("paste", (event) => {
  const files = [...(event.clipboardData?.files ?? [])];
  if (files.length) add(files);
});

split.addEventListener("input", place);
new ResizeObserver(() => { if (current) place(); }).observe(stage);
$("retry").addEventListener("click", () => { current.state = "waiting"; refresh(current); pump(); });
for (const choice of document.querySelectorAll('[name="background"]')) {
  choice.addEventListener("change", () => background(choice.value));
}
document.querySelector('[name="background"][value="image"]').addEventListener("click", () => { if (!look.image) $("background-file").click(); });
for (const span of document.querySelectorAll("[data-color]")) span.style.setProperty("--color", span.dataset.color);
$("own-color").addEventListener("input", () => wish({ background: own() }));
$("blur").addEventListener("input", (event) => wish({ blur: Number(event.target.value) }));
$("crop").addEventListener("change", (event) => wish({ crop: event.target.checked }));
$("margin").addEventListener("input", (event) => wish({ margin: Number(event.target.value) }));
$("jpeg").addEventListener("change", () => { if (current) drawActions(); });
$("main-only").addEventListener("change", () => {
  photos.forEach(again);
  pump();
});
brush($("marks"), {
  frame: () => frameOf(current.result, look),
  share: () => Number($("brush-size").value) / 200,
  kind: () => stage.dataset.brush ?? null,
  onStroke: draws,
});
for (const kind of ["keep", "remove"]) $(`brush-${kind}`).addEventListener("click", () => takeBrush(kind));
$("undo").addEventListener("click", undo);
addEventListener("keydown", (event) => {
  if (event.key === "Escape" && stage.dataset.brush) takeBrush(null);
  if (event.key === "z" && (event.ctrlKey || event.metaKey) && current) { event.preventDefault(); undo(); }
});
$("shadow").addEventListener("change", (event) => wish({ shadow: event.target.checked }));
$("choose-image").addEventListener("click", () => $("background-file").click());
$("background-file").addEventListener("change", async (event) => {
  const [file] = event.target.files;
  event.target.value = "";
  if (!file) return;
  try {
    const image = await createImageBitmap(file);
    look.image?.close();
    $("image-name").textContent = file.name;
    const url = URL.createObjectURL(file);
    document.querySelector(".swatch.image span").style.backgroundImage = `url("${url}")`;
    wish({ image });
  } catch {
    toast(t("notImage", { name: file.name }));
  }
});
$("download").addEventListener("click", download);
$("download-all").addEventListener("click", downloadAll);
$("restart").addEventListener("click", restart);
$("key-form").addEventListener("submit", () => {
  sessionStorage.setItem("bgclient.key", $("key").value);
  for (const photo of photos) if (photo.error?.code === "auth_failed" && photo.state === "failed") { photo.state = "waiting"; refresh(photo); }
  pump();
});
$("device").addEventListener("change", () => { keep("device", $("device").checked ? "1" : "0"); tellWhere(); });

function tellWhere() {
  const onDevice = onThisDevice();
  $("privacy").textContent = t(onDevice ? "privacyDevice" : "privacy");
  $("main-row").hidden = onDevice; // the browser's network does not tell people apart
}

dress(() => {
  tellWhere();
  $("image-name").textContent ||= t("noImage");
  photos.forEach(dressThumb);
  if (current) show();
});

if (!noServer) {
  try {
    facts = await (await fetch("page.json")).json();
    $("device-switch").hidden = !facts.on_device;
    $("device").checked = facts.on_device && recall("device") === "1";
    tellWhere();
    if (facts.key_needed && !sessionStorage.getItem("bgclient.key")) askForKey();
  } catch (error) {
    console.warn("page.json:", error);
  }
}
