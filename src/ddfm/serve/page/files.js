// What was dropped or chosen, and which files belong together.

const PICTURES = /\.(png|jpe?g|tiff?|bmp|webp|nii|nii\.gz)$/i;

export const isPicture = (file) => PICTURES.test(file.name) && !file.name.startsWith(".");

const entriesOf = (reader) => new Promise((resolve, reject) => reader.readEntries(resolve, reject));
const fileOf = (entry) => new Promise((resolve, reject) => entry.file(resolve, reject));

async function below(entry, folder) {
  if (entry.isFile) return [{ file: await fileOf(entry), folder }];
  const reader = entry.createReader();
  const found = [];
  for (let some = await entriesOf(reader); some.length; some = await entriesOf(reader)) {
    for (const each of some) found.push(...(await below(each, `${folder}/${entry.name}`)));
  }
  return found;
}

// Return {file, folder} for everything in a drop, folders opened.
export async function dropped(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.length) return [...transfer.files].map((file) => ({ file, folder: "" }));
  return (await Promise.all(entries.map((entry) => below(entry, "")))).flat();
}

export const chosen = (list) =>
  [...list].map((file) => ({ file, folder: (file.webkitRelativePath || "").split("/").slice(0, -1).join("/") }));

const stem = (name) => name.replace(PICTURES, "");
const shared = (name) => stem(name).replace(/[ _.-]?(ir|vis?|thermal|infrared|visible|rgb|mri|ct|pet|spect|near|far|under|over|[ab]|[0-9]+)$/i, "");

function grouped(items, key) {
  const groups = new Map();
  for (const item of items) groups.set(key(item), [...(groups.get(key(item)) || []), item.file]);
  return groups;
}

// Return groups of files to be fused, each with a name: files of one stem in several folders, or files whose
// names differ in their last word; otherwise all of them are one group.
export function groupsOf(items) {
  const pictures = items.filter(({ file }) => isPicture(file))
    .sort((x, y) => (x.folder + x.file.name).localeCompare(y.folder + y.file.name, "en", { numeric: true }));
  const folders = new Set(pictures.map((item) => item.folder));
  const key = folders.size > 1 ? ({ file }) => stem(file.name) : ({ file }) => shared(file.name);
  const groups = grouped(pictures, key);
  const whole = [...groups.values()].every((files) => files.length > 1);
  if (groups.size > 1 && whole) return [...groups].map(([name, files]) => ({ name, files }));
  if (folders.size > 1 && groups.size > 1) {
    return [...groups].filter(([, files]) => files.length > 1).map(([name, files]) => ({ name, files }));
  }
  const files = pictures.map((item) => item.file);
  return files.length ? [{ name: files.map((file) => file.name).join(" + "), files }] : [];
}
