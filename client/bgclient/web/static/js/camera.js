// A photo from the camera: the phone's own app where there is one, else a window with the live picture.

import { t } from "./strings.js";

const $ = (id) => document.getElementById(id);
const phone = () => matchMedia("(pointer: coarse)").matches;

export function camera(onPhoto) {
  const dialog = $("camera"), video = $("video"), error = $("camera-error");
  let stream = null;

  async function open() {
    if (phone()) return app();
    error.hidden = true;
    $("shoot").disabled = true;
    dialog.showModal();
    try {
      stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "user", width: { ideal: 1920 } } });
      video.srcObject = stream;
      await video.play();
      $("shoot").disabled = false;
    } catch (why) {
      error.textContent = t("noCamera", { why: why.message });
      error.hidden = false;
    }
  }

  function app() {
    const input = document.createElement("input");
    Object.assign(input, { type: "file", accept: "image/*" });
    input.setAttribute("capture", "user");
    input.addEventListener("change", () => [...input.files].forEach(onPhoto));
    input.click();
  }

  dialog.addEventListener("close", () => {
    stream?.getTracks().forEach((track) => track.stop());
    stream = video.srcObject = null;
  });
  $("camera-cancel").addEventListener("click", () => dialog.close());
  $("shoot").addEventListener("click", () => {
    const canvas = document.createElement("canvas");
    canvas.width = video.videoWidth;
    canvas.height = video.videoHeight;
    canvas.getContext("2d").drawImage(video, 0, 0);
    dialog.close();
    canvas.toBlob((blob) => onPhoto(new File([blob], "camera.png", { type: "image/png" })), "image/png");
  });
  return open;
}
