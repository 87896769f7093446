// Jobs of this browser: their ids are kept here, all else is asked of the service.

import { ask, askJson, Problem } from "./api.js";

const KEY = "ddfm.jobs";
const MOST = 200;
const POLLED = 8; // of the jobs that are not over, the first in the queue
const OVER = ["done", "failed", "cancelled"];

export const isOver = (job) => OVER.includes(job.state);

export function inWords(job) {
  if (job.state === "queued") return job.place > 1 ? `waits, ${job.place - 1} before it` : "waits";
  if (job.state === "running") return job.steps ? `${job.unit} ${job.step} of ${job.steps}` : "begins";
  if (job.state === "failed") return `failed: ${job.problem}`;
  return job.state;
}

export class History {
  constructor(list, onOpen, onGone) {
    this.list = list;
    this.onOpen = onOpen;
    this.onGone = onGone; // called when the job that is looked at is forgotten
    this.current = null;
    this.jobs = new Map(); // id to what is known, newest first
    for (const kept of JSON.parse(localStorage.getItem(KEY) || "[]")) this.jobs.set(kept.id, kept);
    this.poll();
  }

  keep() {
    const rows = [...this.jobs.values()].slice(0, MOST).map(({ id, title }) => ({ id, title }));
    localStorage.setItem(KEY, JSON.stringify(rows));
  }

  add(job, title) {
    this.jobs = new Map([[job.id, { ...job, title }], ...this.jobs]);
    this.keep();
    this.show();
  }

  update(job) {
    const known = this.jobs.get(job.id);
    if (known) Object.assign(known, job);
    this.show();
  }

  drop(id) {
    this.jobs.delete(id);
    this.keep();
    this.show();
    if (id === this.current) this.onGone();
  }

  async remove(id) {
    await ask(`/v1/fusions/${id}`, { method: "DELETE" }).catch((error) => {
      if (error.status !== 404) throw error;
    });
    const job = this.jobs.get(id);
    if (job && !isOver(job)) this.update({ id, state: "cancelled" });
    else this.drop(id);
  }

  select(id) {
    this.current = id;
    this.show();
  }

  get waiting() {
    return [...this.jobs.values()].filter((job) => job.state && !isOver(job));
  }

  get done() {
    return [...this.jobs.values()].filter((job) => job.state === "done");
  }

  get over() {
    return [...this.jobs.values()].filter((job) => job.state && isOver(job));
  }

  async poll() {
    const unknown = [...this.jobs.values()].filter((job) => !job.state);
    const waiting = this.waiting.filter((job) => job.id !== this.current).reverse();
    for (const { id } of [...unknown, ...waiting].slice(0, POLLED)) {
      try {
        this.update(await askJson(`/v1/fusions/${id}`));
      } catch (error) {
        if (error instanceof Problem && error.status === 404) this.drop(id);
      }
    }
    this.show();
    setTimeout(() => this.poll(), unknown.length > POLLED ? 50 : 1000);
  }

  show() {
    const known = new Map([...this.list.children].map((item) => [item.dataset.id, item]));
    const items = [...this.jobs.values()].map((job) => this.item(job, known.get(job.id)));
    if (items.length !== this.list.children.length || items.some((item, k) => item !== this.list.children[k])) {
      this.list.replaceChildren(...items);
    }
    document.getElementById("history").hidden = !items.length;
    document.getElementById("cancel-all").hidden = this.waiting.length < 2;
    document.getElementById("zip").disabled = !this.done.length;
    document.getElementById("forget").disabled = !this.over.length;
  }

  item(job, known) {
    const item = known || this.made(job);
    item.classList.toggle("failed", job.state === "failed");
    if (job.id === this.current) item.setAttribute("aria-current", "true");
    else item.removeAttribute("aria-current");
    const words = job.state ? inWords(job) : "…";
    const state = item.querySelector(".state");
    if (state.textContent !== words) state.textContent = words;
    const bar = item.querySelector("progress");
    bar.hidden = job.state !== "running";
    bar.value = job.steps ? job.step / job.steps : 0;
    const remove = item.querySelector(".remove");
    const does = job.state && !isOver(job) ? "Cancel" : "Remove";
    if (remove.textContent !== does) {
      remove.textContent = does;
      remove.setAttribute("aria-label", `${does} ${job.title}`);
    }
    return item;
  }

  made(job) {
    const item = document.createElement("li");
    item.dataset.id = job.id;
    const open = Object.assign(document.createElement("button"), { type: "button", className: "open", textContent: job.title });
    open.addEventListener("click", () => this.onOpen(job.id));
    const state = Object.assign(document.createElement("span"), { className: "state" });
    const remove = Object.assign(document.createElement("button"), { type: "button", className: "remove" });
    remove.addEventListener("click", () => this.remove(job.id));
    const bar = Object.assign(document.createElement("progress"), { max: 1 });
    bar.setAttribute("aria-label", `Progress of ${job.title}`);
    item.append(open, state, remove, bar);
    return item;
  }
}
