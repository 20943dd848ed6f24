// A file becomes a picture that can be sent: read, turned upright, shrunk where it is over the limits.

import { limits, paint, Problem } from "./api.js";
import { count, megabytes, pixels } from "./words.js";

const FORM = 2_000; // bytes that the form around a picture takes
const SHOWN = 1600; // px of the long side that a page needs of a picture

/**
 * {name, blob, shown, width, height, note, token}: what is sent, what is shown, and what was done to it.
 * A kind that the service reads and this browser does not (HEIC, TIFF) is shown as the service sees it.
 */
export async function open(file, model) {
  if (!file.size) throw new Problem(`${file.name} is empty. Choose another file.`);
  const limit = await limits();
  const kind = await sniff(file);
  if (kind === "no picture") throw new Problem(`${file.name} is not a picture. Choose a ${limit.readable} file.`);
  const bitmap = await createImageBitmap(file).catch(() => null);
  const most = limit.max_bytes - FORM;
  if (!bitmap) return unshown(file, most, model);
  try {
    return await fitted(file, bitmap, limit, most);
  } finally {
    bitmap.close();
  }
}

async function fitted(file, bitmap, limit, most) {
  const { width, height } = bitmap;
  if (Math.min(width, height) < limit.min_side) {
    throw new Problem(`${file.name} has ${pixels(width, height)}: ${limit.min_side} px a side is the least. Choose a larger one.`);
  }
  const whole = { name: file.name, blob: file, shown: file, width, height, note: "", token: null };
  let scale = Math.min(1, Math.sqrt(limit.max_pixels / (width * height)), limit.max_side / Math.max(width, height));
  if (scale === 1 && file.size <= most) return whole;
  const over = width * height > limit.max_pixels ? `${count(limit.max_pixels / 1e6)} megapixels` : `${count(limit.max_side)} px a side`;
  const why = scale < 1 ? over : megabytes(limit.max_bytes);
  while (Math.min(width, height) * scale >= limit.min_side) {
    const size = [Math.floor(width * scale), Math.floor(height * scale)];
    const blob = await drawn(bitmap, ...size);
    if (blob.size <= most) {
      const note = `It had ${pixels(width, height)} and ${megabytes(file.size)}, and the limit is ${why}: shrunk here, before it was sent.`;
      return { ...whole, name: `${stem(file.name)}.jpg`, blob, shown: blob, width: size[0], height: size[1], note };
    }
    scale *= 0.8;
  }
  throw new Problem(`${file.name} has ${pixels(width, height)}: within ${why} its shorter side would have less than ${limit.min_side} px. Choose another part of it.`);
}

async function unshown(file, most, model) {
  if (file.size > most) {
    throw new Problem(`${file.name} has ${megabytes(file.size)}, the limit is ${megabytes(most)}, and this browser cannot read it to shrink it. Save it as JPEG.`);
  }
  const picture = { name: file.name, blob: file, note: "", token: null };
  const response = await paint("stylize", picture, { ...model, strength: 0, max_side: SHOWN, format: "webp" });
  picture.shown = await response.blob();
  const bitmap = await createImageBitmap(picture.shown);
  return Object.assign(picture, { width: bitmap.width, height: bitmap.height });
}

/** A bitmap as a JPEG of that size; on white where it is transparent. */
export async function drawn(bitmap, width, height, quality = 0.92) {
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  const context = canvas.getContext("2d");
  context.fillStyle = "#fff";
  context.fillRect(0, 0, width, height);
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, width, height);
  const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", quality));
  if (!blob) throw new Problem("This browser could not shrink the picture. Scale it down in another program first.");
  return blob;
}

/** A photograph with its short side at `short` px at most; as it is where this browser cannot read it. */
export async function small(file, short) {
  const bitmap = await createImageBitmap(file).catch(() => null);
  if (!bitmap) return file;
  const scale = short / Math.min(bitmap.width, bitmap.height);
  const blob = scale >= 1 ? file : await drawn(bitmap, Math.round(bitmap.width * scale), Math.round(bitmap.height * scale));
  bitmap.close();
  return blob;
}

/** Only what certainly is no picture is refused here; for the rest the service has the word. */
async function sniff(file) {
  if (file.type && !file.type.startsWith("image/")) return "no picture";
  const start = new Uint8Array(await file.slice(0, 512).arrayBuffer());
  return start.every((byte) => byte >= 9 && byte < 127) && !file.type.includes("svg") ? "no picture" : "perhaps";
}

export const stem = (name) => name.replace(/\.[^.]*$/, "") || "picture";
