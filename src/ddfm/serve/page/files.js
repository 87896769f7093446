// What was dropped or chosen, and which files belong together.
//
// A source is {name, files}: one file, or all files of a DICOM series. A group is {name, sources}: what is fused.

const PICTURES = /\.(png|jpe?g|tiff?|bmp|webp|nii|nii\.gz)$/i;
const DICOM_AT = 128;
const HEAD = 2 ** 18; // bytes within which cameras put what tells their files
const CAMERA = /\xff\xe1..FLIR\0/s; // a segment of FLIR's in a JPEG

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

async function bytes(file, start, end) {
  return new TextDecoder("latin1").decode(await file.slice(start, end).arrayBuffer());
}

// Tell what a file is: picture, camera (a thermal camera's own, which may be both sources), dicom or none.
async function kindOf(file) {
  if (file.name.startsWith(".")) return "none";
  if ((await bytes(file, DICOM_AT, DICOM_AT + 4)) === "DICM") return file.name === "DICOMDIR" ? "none" : "dicom";
  if (!PICTURES.test(file.name)) return "none";
  return /\.jpe?g$/i.test(file.name) && CAMERA.test(await bytes(file, 0, HEAD)) ? "camera" : "picture";
}

const stem = (name) => name.replace(PICTURES, "");
const shared = (name) => stem(name).replace(/([ _.-]?(ir|vis?|thermal|infrared|visible|rgb|mri|ct|pet|spect|near|far|under|over|[ab]|[0-9]+)|[_-][tvr])$/i, "");

function grouped(items, key) {
  const groups = new Map();
  for (const item of items) groups.set(key(item), [...(groups.get(key(item)) || []), item]);
  return groups;
}

export function groupOf(sources) {
  return { name: sources.map((source) => source.name).join(" + "), sources };
}

const asSource = ({ file, kind }) => ({ name: file.name, files: [file], kind });

// Return a source for each folder of DICOM files; their names for the service have that folder in them.
function series(items) {
  return [...grouped(items, (item) => item.folder)].map(([folder, found]) => ({
    name: folder.split("/").pop() || "DICOM files", files: found.map(({ file }) => file), kind: "dicom",
  }));
}

// Return groups of sources to be fused: files of one stem in several folders, or files whose names differ in
// their last word; otherwise all of them are one group. Cameras' files without a partner are a group each.
export async function groupsOf(items) {
  const kinds = await Promise.all(items.map(({ file }) => kindOf(file)));
  const known = items.map((item, k) => ({ ...item, kind: kinds[k] })).filter(({ kind }) => kind !== "none")
    .sort((x, y) => (x.folder + x.file.name).localeCompare(y.folder + y.file.name, "en", { numeric: true }));
  const slices = known.filter(({ kind }) => kind === "dicom");
  if (slices.length) return [groupOf(series(slices))];
  if (known.length > 1 && known.every(({ kind }) => kind === "camera")) return known.map((item) => groupOf([asSource(item)]));
  const folders = new Set(known.map((item) => item.folder));
  const key = folders.size > 1 ? ({ file }) => stem(file.name) : ({ file }) => shared(file.name);
  const groups = grouped(known, key);
  const complete = ([, found]) => found.length > 1 || found[0].kind === "camera";
  const named = ([name, found]) => ({ name, sources: found.map(asSource) });
  const whole = [...groups].every(complete);
  if (groups.size > 1 && whole) return [...groups].map(named);
  if (folders.size > 1 && groups.size > 1) return [...groups].filter(complete).map(named);
  return known.length ? [groupOf(known.map(asSource))] : [];
}
