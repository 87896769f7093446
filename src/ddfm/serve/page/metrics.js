// Metrics of a fusion beside those of trivial baselines, as a table.

import { askJson } from "./api.js";

const NAMES = {
  fused: "fused", mean: "mean", max: "maximum", "stretched-mean": "stretched mean", "clipped-sum": "clipped sum",
  "mean-noise": "mean and noise", "a-only": "first source alone", "b-only": "second source alone",
};

const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

export async function measured(id, onProgress) {
  const form = new FormData();
  form.append("fusion", id);
  let job = await askJson("/v1/evaluations", { method: "POST", body: form });
  while (job.state === "queued" || job.state === "running") {
    onProgress(job);
    await pause(300);
    job = await askJson(`/v1/evaluations/${job.id}`);
  }
  if (job.state !== "done") throw new Error(job.problem || job.state);
  return job.result;
}

function cell(kind, text, best = false) {
  const made = document.createElement(kind);
  made.textContent = text;
  if (best) made.className = "best";
  if (kind === "th") made.scope = "row";
  return made;
}

export function table({ metrics, methods, mean_rank: ranks }) {
  const made = document.createElement("table");
  const caption = document.createElement("caption");
  caption.className = "unseen";
  caption.textContent = "Metrics by method; the best of each column is marked";
  const head = made.createTHead().insertRow();
  for (const name of ["Method", "Mean rank ↓", ...metrics.map((m) => `${m.name} ${m.higher_is_better ? "↑" : "↓"}`)]) {
    const heading = cell("th", name);
    heading.scope = "col";
    head.append(heading);
  }
  const best = metrics.map((metric) => {
    const values = Object.values(methods).map((row) => row[metric.name]).filter((value) => value !== null);
    return metric.higher_is_better ? Math.max(...values) : Math.min(...values);
  });
  const least = Math.min(...Object.values(ranks));
  const body = made.createTBody();
  for (const [method, values] of Object.entries(methods)) {
    const row = body.insertRow();
    row.append(cell("th", NAMES[method] || method));
    row.append(cell("td", ranks[method].toFixed(2), ranks[method] === least));
    metrics.forEach((metric, k) => {
      const value = values[metric.name];
      row.append(cell("td", value === null ? "∞" : value.toPrecision(4), value === best[k]));
    });
  }
  made.prepend(caption);
  return made;
}
