// Numbers and names as people read them.

export const count = (number) => Math.round(number).toLocaleString("en");
export const pixels = (width, height) => `${count(width)} × ${count(height)} px`;
export const megabytes = (bytes) => `${(bytes / 1e6).toFixed(bytes < 1e7 ? 1 : 0)} MB`;

/** rain_princess -> Rain princess */
export const title = (name) => {
  const text = name.replace(/[_-]+/g, " ").trim();
  return text.charAt(0).toUpperCase() + text.slice(1);
};

/** Seconds -> "0.4 s", "12 s", "3 min", "2 h 10 min" */
export function time(seconds) {
  if (seconds < 9.95) return `${seconds.toFixed(1)} s`;
  if (seconds < 100) return `${Math.round(seconds)} s`;
  const minutes = Math.round(seconds / 60);
  return minutes < 100 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

const KNOWN = { aonet: "AONet", vgg16: "VGG16", coco: "COCO", tinyimagenet: "TinyImageNet", custom: "your photographs" };
export const known = (name) => KNOWN[name] ?? title(name);
