// The page: choose sources, fuse them, look at the result.

import { askBitmap, askJson, listen, save, submit } from "./api.js";
import { chosen, dropped, groupOf, groupsOf } from "./files.js";
import { History, inWords, isOver } from "./history.js";
import { measured, table } from "./metrics.js";
import { fit, wanted } from "./options.js";
import { Viewer } from "./viewer.js";

const OTHERS = ["uncertainty", "source-map", "temperatures"]; // files beside the result

const element = (id) => document.getElementById(id);
const viewer = new Viewer();
const history = new History(element("jobs"), open, close);
const sourcesOf = new Map(); // job's id to its sources, as long as the page is open
let groups = [];
let shown = {}; // the job that is being looked at
let stopListening = () => {};

function say(text, wrong = false) {
  element("message").textContent = text;
  element("message").classList.toggle("wrong", wrong);
}

const complain = (error) => say(error.message, true);

// Sources.

// Take what was dropped or chosen, as soon as it is known what that is.
async function take(coming) {
  const list = element("chosen");
  list.setAttribute("aria-busy", "true");
  try {
    const items = await coming;
    if (items.length) arrange(await groupsOf(items));
  } catch {
    say("These files cannot be read.", true);
  }
  list.removeAttribute("aria-busy");
}

function arrange(found) {
  if (!found.length) {
    say("None of these is a picture that can be fused.", true);
    return;
  }
  // One more for the set that is there: a second source, or the other series.
  const more = groups.length === 1 && found.length === 1 && found[0].sources.length === 1
    && (found[0].sources[0].kind === "dicom") === (groups[0].sources[0].kind === "dicom");
  groups = more ? [groupOf([...groups[0].sources, ...found[0].sources])] : found;
  say("");
  showChosen();
}

const isWhole = ({ sources }) => sources.length > 1 || sources[0].kind === "camera"
  || (sources[0].kind === "dicom" && sources[0].files.length > 1); // of several series, perhaps: the service knows

function showChosen() {
  const one = groups.length === 1;
  const rows = one ? groups[0].sources.map((source, k) => row(source.name, aboutSource(source), () => without(k), source.files[0]))
    : groups.map((group, k) => row(group.name, aboutGroup(group), () => withoutGroup(k), group.sources[0].files[0]));
  element("chosen").replaceChildren(...rows);
  element("fuse").disabled = !groups.length || !groups.every(isWhole);
  element("fuse").textContent = groups.length > 1 ? `Fuse ${groups.length} sets` : "Fuse";
  element("clear").hidden = !groups.length;
  fit(groups);
  const lonely = one && groups[0].sources.length === 1 ? groups[0].sources[0] : null;
  if (lonely?.kind === "camera") say("A thermal camera's file: its own photograph is the second source, if it holds one.");
  else if (lonely?.kind === "dicom") say("Drop the folder of the other series, too, unless both lie in this one.");
  else if (lonely) say("One more is needed: drop the other picture of the scene.");
}

const aboutGroup = ({ sources }) => (sources.length > 1 ? `${sources.length} files` : aboutSource(sources[0]));

function aboutSource({ files, kind }) {
  const size = sizeOf(files.reduce((sum, file) => sum + file.size, 0));
  if (kind === "dicom") return `${files.length} DICOM files, ${size}`;
  return kind === "camera" ? `thermal camera's file, ${size}` : size;
}

const sizeOf = (size) => (size < 2 ** 20 ? `${Math.ceil(size / 1024)} KiB` : `${(size / 2 ** 20).toFixed(1)} MiB`);

function row(name, about, onRemove, file) {
  const item = document.createElement("li");
  const thumbnail = document.createElement("canvas");
  thumbnail.setAttribute("aria-hidden", "true");
  const text = Object.assign(document.createElement("div"), { className: "name", textContent: name, title: name });
  text.append(Object.assign(document.createElement("small"), { textContent: about }));
  const remove = Object.assign(document.createElement("button"), { type: "button", textContent: "×" });
  remove.setAttribute("aria-label", `Leave out ${name}`);
  remove.addEventListener("click", onRemove);
  item.append(thumbnail, text, remove);
  drawThumbnail(thumbnail, file);
  return item;
}

async function drawThumbnail(canvas, file) {
  const bitmap = await createImageBitmap(file).catch(() => null); // TIFF, say, which browsers do not show
  if (!bitmap) return;
  [canvas.width, canvas.height] = [128, 96];
  const scale = Math.max(128 / bitmap.width, 96 / bitmap.height);
  const [width, height] = [bitmap.width * scale, bitmap.height * scale];
  canvas.getContext("2d").drawImage(bitmap, (128 - width) / 2, (96 - height) / 2, width, height);
}

function without(k) {
  const sources = groups[0].sources.filter((_, index) => index !== k);
  groups = sources.length ? [groupOf(sources)] : [];
  say("");
  showChosen();
}

function withoutGroup(k) {
  groups = groups.filter((_, index) => index !== k);
  showChosen();
}

async function fuse(sets, optionsOf) {
  element("fuse").disabled = true;
  say("");
  try {
    for (const [k, { name, sources }] of sets.entries()) {
      say(sets.length > 1 ? `Sending ${k + 1} of ${sets.length}.` : "Sending.");
      const job = await submit(sources, optionsOf(sources), say);
      sourcesOf.set(job.id, sources);
      history.add(job, name);
      if (k === 0) open(job.id);
    }
    say("");
  } catch (error) {
    complain(error);
  }
  element("fuse").disabled = !groups.length || !groups.every(isWhole);
}

// One job.

async function open(id) {
  stopListening();
  const controller = new AbortController();
  stopListening = () => controller.abort();
  shown = { id };
  history.select(id);
  viewer.reset();
  document.querySelector("main").classList.remove("fresh");
  element("stage").hidden = false;
  for (const part of ["tools", "facts", "badge", "metrics"]) element(part).hidden = true;
  element("measure").disabled = false;
  element("measure-status").textContent = "";
  await showLocal(sourcesOf.get(id));
  try {
    await listen(`/v1/fusions/${id}/events`, controller.signal, (job) => progressed(id, job));
  } catch (error) {
    if (error.name === "AbortError") return;
    element("status").textContent = error.message;
    if (error.status === 404) {
      history.drop(id);
      complain(error);
    }
  }
}

// Look at no job any more.
function close() {
  stopListening();
  shown = {};
  element("stage").hidden = true;
}

// Until there is a first step, show the first source.
async function showLocal(sources) {
  const bitmap = sources ? await createImageBitmap(sources[0].files[0]).catch(() => null) : null;
  if (!bitmap) return;
  viewer.showOnly(bitmap, "The first source, until there is a first step");
  badge("the first source");
}

function progressed(id, job) {
  if (shown.id !== id) return;
  const stepped = job.step !== shown.step && job.state === "running" && job.step > 0;
  Object.assign(shown, job);
  history.update(job);
  element("stage-title").textContent = job.sources.map((source) => source.name).join(" + ");
  element("running").hidden = isOver(job) && job.state === "done";
  element("cancel").hidden = isOver(job);
  const bar = element("progress");
  bar.hidden = isOver(job);
  if (job.steps) bar.value = job.step / job.steps; else bar.removeAttribute("value");
  const words = inWords(job);
  element("status").textContent = words[0].toUpperCase() + words.slice(1);
  element("status").classList.toggle("wrong", job.state === "failed");
  if (stepped && job.unit === "step") showStep(id);
  if (job.state === "done") showDone(id);
}

async function showStep(id) {
  const bitmap = await askBitmap(`/v1/fusions/${id}/preview`).catch(() => null);
  if (!bitmap || shown.id !== id || shown.state !== "running") return;
  viewer.showOnly(bitmap, `A preview of ${inWords(shown)}`);
  badge(`preview, ${inWords(shown)}`);
}

function badge(text) {
  element("badge").textContent = text;
  element("badge").hidden = !text;
}

async function showDone(id) {
  const { slices } = shown.result;
  element("slices").hidden = slices < 2;
  element("slice").max = slices;
  element("slice").value = Math.ceil(slices / 2);
  await showViews(id);
  if (shown.id !== id) return;
  badge("");
  element("tools").hidden = element("facts").hidden = false;
  const volume = shown.unit === "slice";
  element("balancing").hidden = volume || (shown.options.form || "ddfm") !== "ddfm" || shown.result.settings.task !== "infrared";
  element("measuring").hidden = !shown.result.measurable;
  for (const button of document.querySelectorAll("#downloads [data-query^='?']")) button.hidden = volume;
  for (const name of OTHERS) element(`download-${name}`).hidden = !shown.options[name.replace("-", "_")];
  element("balance").value = shown.options.balance ?? 0.5;
  showBalance();
  showFacts();
}

async function showViews(id) {
  const slice = shown.unit === "slice" ? `?slice=${element("slice").value}` : "";
  element("slice-number").textContent = `${element("slice").value} of ${shown.result.slices}`;
  const names = { fused: "fused" };
  shown.result.shown.forEach((name, k) => { names[`source-${k + 1}`] = name; });
  if (shown.options.uncertainty) names.uncertainty = "uncertainty";
  if (shown.options.source_map) names["source-map"] = "source map";
  const bitmaps = await Promise.all(Object.keys(names).map((name) => askBitmap(`/v1/fusions/${id}/views/${name}${slice}`)));
  if (shown.id !== id) return;
  viewer.show(Object.fromEntries(Object.keys(names).map((name, k) => [name, bitmaps[k]])), names);
  shown.fused = bitmaps[0];
}

function showFacts() {
  element("command").textContent = shown.command;
  element("remarks").replaceChildren(...shown.result.remarks.map((text) => Object.assign(document.createElement("li"), { textContent: text })));
  const made = { size: `${shown.result.width} × ${shown.result.height}, ${shown.result.depth}`, ...shown.result.settings };
  const rows = Object.entries(made).filter(([, value]) => value !== null && value !== "");
  element("made").replaceChildren(...rows.flatMap(([name, value]) => [
    Object.assign(document.createElement("dt"), { textContent: name.replaceAll("_", " ") }),
    Object.assign(document.createElement("dd"), { textContent: Array.isArray(value) ? value.join(", ") : String(value) }),
  ]));
}

// The balance slider: one request at a time, the last place wins.

let balancing = false;

function showBalance() {
  const value = Number(element("balance").value);
  const own = shown.options.balance ?? 0.5;
  element("balance-value").textContent = `${value.toFixed(2)}${value === own ? ", as fused" : ", previewed without sampling"}`;
  element("refuse").hidden = value === own || !sourcesOf.has(shown.id);
}

async function balanced() {
  showBalance();
  if (balancing) return;
  balancing = true;
  const { id } = shown;
  try {
    for (let value = null; value !== element("balance").value && shown.id === id;) {
      value = element("balance").value;
      const own = Number(value) === (shown.options.balance ?? 0.5);
      const picture = own ? shown.fused : await askBitmap(`/v1/fusions/${id}/previews`, {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify({ balance: Number(value) }),
      });
      if (shown.id !== id) break;
      viewer.replace("fused", picture);
      badge(own ? "" : `balance ${Number(value).toFixed(2)}, a preview`);
    }
  } catch (error) {
    complain(error);
  }
  balancing = false;
}

async function measure() {
  const { id } = shown;
  element("measure").disabled = true;
  const status = element("measure-status");
  try {
    const result = await measured(id, (job) => { status.textContent = job.step ? `${job.step} of ${job.steps} measured` : "Waits"; });
    if (shown.id !== id) return;
    status.textContent = "Single metrics are easily won by trivial methods: look at all of them.";
    element("metrics").replaceChildren(table(result));
    element("metrics").hidden = false;
  } catch (error) {
    status.textContent = error.message;
    element("measure").disabled = false;
  }
}

async function copy() {
  try {
    await navigator.clipboard.writeText(element("command").textContent);
    element("copy").textContent = "Copied";
    setTimeout(() => { element("copy").textContent = "Copy"; }, 2000);
  } catch {
    getSelection().selectAllChildren(element("command"));
  }
}

const saving = (promise) => promise.catch(complain);

// What is clicked, dropped and pasted.

function connect() {
  const drop = element("drop");
  for (const [button, input] of [["choose", "files"], ["choose-folder", "folder"]]) {
    element(button).addEventListener("click", () => element(input).click());
    element(input).addEventListener("change", (event) => { take(chosen(event.target.files)); event.target.value = ""; });
  }
  for (const name of ["dragover", "dragleave", "drop"]) {
    document.addEventListener(name, (event) => {
      event.preventDefault();
      drop.classList.toggle("over", name === "dragover");
    });
  }
  document.addEventListener("drop", (event) => take(dropped(event.dataTransfer)));
  element("fuse").addEventListener("click", () => {
    if (!element("options").checkValidity()) element("settings").open = true;
    if (element("options").reportValidity()) fuse(groups, wanted);
  });
  element("clear").addEventListener("click", () => { groups = []; say(""); showChosen(); });
  element("cancel").addEventListener("click", () => history.remove(shown.id));
  element("balance").addEventListener("input", balanced);
  element("slice").addEventListener("input", () => showViews(shown.id));
  element("refuse").addEventListener("click", () => {
    const options = { ...shown.options, balance: Number(element("balance").value) };
    fuse([groupOf(sourcesOf.get(shown.id))], () => options);
  });
  for (const button of document.querySelectorAll("#downloads [data-query]")) {
    button.addEventListener("click", () => saving(save(`/v1/fusions/${shown.id}/result${button.dataset.query}`)));
  }
  for (const name of OTHERS) {
    element(`download-${name}`).addEventListener("click", () => saving(save(`/v1/fusions/${shown.id}/${name}`)));
  }
  element("measure").addEventListener("click", measure);
  element("copy").addEventListener("click", copy);
  element("zip").addEventListener("click", () => {
    const ids = history.done.slice(0, 200).map((job) => `fusion=${job.id}`).join("&");
    saving(save(`/v1/archive?${ids}`));
  });
  element("cancel-all").addEventListener("click", async () => { for (const job of history.waiting) await history.remove(job.id); });
  element("forget").addEventListener("click", async () => { for (const job of history.over) await history.remove(job.id); });
}

connect();
document.querySelector("main").classList.add("fresh");
history.show();
const priors = await askJson("/v1/priors").catch(() => []);
document.querySelector("[name=prior]").replaceChildren(...priors.map(({ name }) => new Option(name, name)));
