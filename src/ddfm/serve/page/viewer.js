// Draw the pictures of a job: side by side with movable edges, laid over each other, or one alone.

const element = (id) => document.getElementById(id);
const MODES = {
  split: "compared", fused: "fused", blend: "blended", checker: "as a checkerboard",
  difference: "their difference", uncertainty: "fused, with its uncertainty on it",
  "source-map": "fused, with the source that counts most at each pixel on it",
};
const WIDER = 1.02; // than the sources: what stands beside a picture
const OVERLAYS = ["uncertainty", "source-map"];

export class Viewer {
  constructor() {
    this.canvas = element("canvas");
    this.context = this.canvas.getContext("2d");
    this.pictures = {};
    this.names = {};
    this.nudge = [0, 0];
    this.dragged = null;
    for (const id of ["left", "right", "opacity", "squares", "first", "second"]) {
      element(id).addEventListener("input", () => this.moved(id));
    }
    element("modes").addEventListener("change", () => this.modeChanged());
    this.canvas.addEventListener("keydown", (event) => this.key(event));
    this.canvas.addEventListener("pointerdown", (event) => this.grab(event));
    this.canvas.addEventListener("pointermove", (event) => this.drag(event));
    this.canvas.addEventListener("pointerup", () => { this.dragged = null; });
    this.modeChanged();
  }

  get mode() {
    return document.querySelector("#modes input:checked").value;
  }

  // Show one picture alone, as while it is being sampled.
  showOnly(bitmap, label) {
    this.pictures = { fused: bitmap };
    this.only = label;
    this.draw();
  }

  // Show the pictures of a finished job: fused, source-1, source-2, ..., uncertainty.
  show(pictures, names) {
    this.only = null;
    this.pictures = pictures;
    this.names = names;
    const sources = Object.keys(pictures).filter((name) => !OVERLAYS.includes(name));
    for (const [id, preferred] of [["first", "source-1"], ["second", "source-2"]]) {
      const before = element(id).value;
      element(id).replaceChildren(...sources.map((name) => new Option(names[name], name)));
      element(id).value = sources.includes(before) ? before : preferred;
    }
    for (const name of OVERLAYS) element(`${name}-mode`).hidden = !pictures[name];
    if (OVERLAYS.includes(this.mode) && !pictures[this.mode]) document.querySelector("#modes input").checked = true;
    const shown = sources.filter((name) => name !== "fused");
    element("legend").replaceChildren(...shown.map((name) => Object.assign(document.createElement("li"), { textContent: names[name] })));
    this.modeChanged();
  }

  // Put another picture in the place of one, at the size of that.
  replace(name, bitmap) {
    this.pictures = { ...this.pictures, [name]: bitmap };
    this.draw();
  }

  // Show nothing, so that no job is taken for another one.
  reset() {
    this.pictures = {};
    this.only = "No picture yet";
    this.canvas.setAttribute("aria-label", this.only);
    this.context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    this.nudge = [0, 0];
    this.tellNudge();
  }

  modeChanged() {
    for (const label of document.querySelectorAll("[data-modes]")) {
      label.hidden = !label.dataset.modes.split(" ").includes(this.mode);
    }
    element("frame").classList.toggle("split", this.mode === "split" && !this.only);
    this.draw();
  }

  moved(id) {
    const [left, right] = [element("left"), element("right")];
    if (id === "left" && Number(left.value) > Number(right.value)) right.value = left.value;
    if (id === "right" && Number(right.value) < Number(left.value)) left.value = right.value;
    this.draw();
  }

  key(event) {
    const by = event.shiftKey ? 10 : 1;
    const moves = { ArrowLeft: [-by, 0], ArrowRight: [by, 0], ArrowUp: [0, -by], ArrowDown: [0, by] };
    if (!(event.key in moves) || this.only) return;
    event.preventDefault();
    this.nudge = this.nudge.map((value, k) => value + moves[event.key][k]);
    this.tellNudge();
    this.draw();
  }

  tellNudge() {
    const [x, y] = this.nudge;
    element("nudged").textContent = x || y ? `Moved by ${x}, ${y} pixels; Register in the settings aligns for good.` : "";
  }

  grab(event) {
    if (this.mode !== "split" || this.only) return;
    const at = this.share(event);
    const apart = (id) => Math.abs(Number(element(id).value) - at);
    this.dragged = apart("left") < apart("right") || at < Number(element("left").value) ? "left" : "right";
    this.canvas.setPointerCapture(event.pointerId);
    this.drag(event);
  }

  drag(event) {
    if (!this.dragged) return;
    element(this.dragged).value = this.share(event);
    this.moved(this.dragged);
  }

  share(event) {
    const box = this.canvas.getBoundingClientRect();
    return Math.round((100 * (event.clientX - box.left)) / box.width);
  }

  draw() {
    const { fused } = this.pictures;
    if (!fused) return;
    const like = this.pictures["source-1"] || fused;
    const beside = (fused.width * like.height) / fused.height > WIDER * like.width; // a scale; else it is rounding
    const [width, height] = [beside ? fused.width : like.width, like.height];
    this.sourceWidth = like.width;
    if (this.canvas.width !== width || this.canvas.height !== height) {
      this.canvas.width = width;
      this.canvas.height = height;
    }
    this.canvas.style.width = `min(100%, ${(72 * width) / height}vh)`;
    const context = this.context;
    context.globalAlpha = 1;
    context.globalCompositeOperation = "source-over";
    context.clearRect(0, 0, width, height);
    if (this.only) {
      context.drawImage(fused, 0, 0, width, height);
      this.canvas.setAttribute("aria-label", this.only);
      return;
    }
    if (OVERLAYS.includes(this.mode)) this.drawOverlay(this.mode);
    else this[`draw_${this.mode}`](width, height);
    this.canvas.setAttribute("aria-label", this.describe());
  }

  describe() {
    const [first, second] = ["first", "second"].map((id) => this.names[element(id).value]);
    if (this.mode === "split") {
      const [left, right] = [element("left").value, element("right").value];
      return `${this.names["source-1"]} up to ${left} percent, then fused, ${second} from ${right} percent`;
    }
    if (this.mode === "fused" || OVERLAYS.includes(this.mode)) return `The picture ${MODES[this.mode]}`;
    return `${first} and ${second}, ${MODES[this.mode]}`;
  }

  put(name, { nudged = false, alpha = 1, clip = null } = {}) {
    const picture = this.pictures[name];
    if (!picture) return;
    const context = this.context;
    context.save();
    if (clip) {
      context.beginPath();
      for (const rectangle of clip) context.rect(...rectangle);
      context.clip();
    }
    context.globalAlpha = alpha;
    const [x, y] = nudged ? this.nudge : [0, 0];
    context.drawImage(picture, x, y, name === "fused" ? this.canvas.width : this.sourceWidth, this.canvas.height);
    context.restore();
  }

  draw_fused() {
    this.put("fused");
  }

  draw_split(width, height) {
    const [left, right] = ["left", "right"].map((id) => (width * Number(element(id).value)) / 100);
    this.put("fused");
    this.put("source-1", { clip: [[0, 0, left, height]] });
    this.put(element("second").value, { nudged: true, clip: [[right, 0, width - right, height]] });
    const line = Math.max(1, width / 500);
    for (const x of [left, right]) {
      this.context.fillStyle = "rgb(0 0 0 / .55)";
      this.context.fillRect(x - line, 0, 2 * line, height);
      this.context.fillStyle = "#fff";
      this.context.fillRect(x - line / 2, 0, line, height);
      this.context.beginPath();
      this.context.arc(x, height / 2, 5 * line, 0, 7);
      this.context.fill();
    }
  }

  draw_blend() {
    this.put(element("first").value);
    this.put(element("second").value, { nudged: true, alpha: Number(element("opacity").value) / 100 });
  }

  draw_checker(width, height) {
    const side = width / Number(element("squares").value);
    const clip = [];
    for (let row = 0; row * side < height; row += 1) {
      for (let column = row % 2; column * side < width; column += 2) {
        clip.push([column * side, row * side, side, side]);
      }
    }
    this.put(element("first").value);
    this.put(element("second").value, { nudged: true, clip });
  }

  draw_difference() {
    this.put(element("first").value);
    this.context.globalCompositeOperation = "difference";
    this.put(element("second").value, { nudged: true });
    this.context.globalCompositeOperation = "source-over";
  }

  drawOverlay(name) {
    this.put("fused");
    this.put(name, { alpha: Number(element("opacity").value) / 100 });
  }
}
