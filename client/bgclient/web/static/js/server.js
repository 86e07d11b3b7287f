// One photo through the REST endpoint, with progress, and patience where the server asks for it.

const TRIES = 4;

export class Refused extends Error {
  constructor(code, detail = "") {
    super(detail || code);
    this.code = code;
  }
}

const pause = (seconds, signal) =>
  new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, seconds * 1000);
    signal.addEventListener("abort", () => { clearTimeout(timer); reject(new DOMException("", "AbortError")); }, { once: true });
  });

function post(file, { key, people, marks, onProgress, signal }) {
  const body = new FormData();
  body.append("image_file", file, file.name);
  body.append("size", "full");
  body.append("format", "png");
  body.append("people", people);
  for (const [name, list] of Object.entries(marks)) if (list.length) body.append(name, JSON.stringify(list));
  const request = new XMLHttpRequest(); // fetch cannot tell how far an upload is
  request.open("POST", "v1.0/removebg");
  request.responseType = "blob";
  if (key()) request.setRequestHeader("X-Api-Key", key());
  request.upload.addEventListener("progress", (event) => event.lengthComputable && onProgress(event.loaded / event.total));
  request.upload.addEventListener("load", () => onProgress(1));
  signal.addEventListener("abort", () => request.abort(), { once: true });
  return new Promise((resolve, reject) => {
    request.addEventListener("load", () => resolve(request));
    request.addEventListener("error", () => reject(new Refused("offline")));
    request.addEventListener("abort", () => reject(new DOMException("", "AbortError")));
    request.send(body);
  });
}

async function refusal(answer) {
  try {
    const [error] = JSON.parse(await answer.response.text()).errors;
    return new Refused(error.code, error.detail ?? error.title);
  } catch {
    return new Refused("failed", `HTTP ${answer.status}`);
  }
}

/** {bytes, width, height, box} of a file; `bytes()` gives the blob, or its promise. people: subjects, all or main; marks: {keep, remove}; onProgress: share of the upload, 1 once it is being cut. */
export async function cutOnServer(file, way) {
  for (let tries = 1; ; tries++) {
    const answer = await post(file, way);
    const number = (name) => Number(answer.getResponseHeader(name) ?? 0);
    if (answer.status === 200) {
      return {
        bytes: () => answer.response,
        width: number("X-Width"), height: number("X-Height"),
        box: {
          x: number("X-Foreground-Left"), y: number("X-Foreground-Top"),
          width: number("X-Foreground-Width"), height: number("X-Foreground-Height"),
        },
      };
    }
    if (![429, 503].includes(answer.status) || tries === TRIES) throw await refusal(answer);
    await pause(Math.min(30, number("Retry-After") || 2) * (0.8 + 0.4 * Math.random()), way.signal);
  }
}
