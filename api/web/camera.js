// A photograph from the camera: on a phone its own app, elsewhere a window with what the camera sees.

import { $, say } from "./dom.js";
import { choose } from "./intake.js";
import { drawn } from "./picture.js";

export function camera(button, take) {
  const touch = matchMedia("(pointer: coarse)").matches;
  if (touch || !navigator.mediaDevices?.getUserMedia) {
    button.hidden = !touch;
    choose(button, take, { capture: "environment" });
    return;
  }
  button.addEventListener("click", () => look(take));
}

async function look(take) {
  const dialog = $("#camera");
  const video = $("video", dialog);
  const snap = $(".primary", dialog);
  const told = $("[role=status]", dialog);
  let stream;
  snap.disabled = true;
  say(told, "Waiting for the camera …");
  dialog.showModal();
  const close = () => stream?.getTracks().forEach((track) => track.stop());
  dialog.addEventListener("close", close, { once: true });
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: 1920 } } });
  } catch (error) {
    const why = error.name === "NotFoundError" ? "There is no camera here." : "The browser may not use the camera: allow it in its settings for this page.";
    say(told, why, "error");
    return;
  }
  if (!dialog.open) { close(); return; }
  video.srcObject = stream;
  await video.play();
  say(told, "");
  snap.disabled = false;
  snap.onclick = async () => {
    const blob = await drawn(video, video.videoWidth, video.videoHeight, 0.95);
    dialog.close();
    take([new File([blob], "camera.jpg", { type: "image/jpeg" })]);
  };
}
