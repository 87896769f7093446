// Ask the service. A token, if one is demanded, is kept for as long as the tab is open.

const KEY = "ddfm.token";

export class Problem extends Error {
  constructor(status, detail, wait) {
    super(detail);
    this.status = status;
    this.wait = wait;
  }
}

let asking = null;

function askForToken() {
  asking ??= new Promise((resolve) => {
    const dialog = document.getElementById("token");
    const value = document.getElementById("token-value");
    value.value = "";
    dialog.addEventListener("close", () => {
      sessionStorage.setItem(KEY, value.value.trim());
      asking = null;
      resolve();
    }, { once: true });
    dialog.showModal();
  });
  return asking;
}

export async function ask(path, options = {}) {
  const token = sessionStorage.getItem(KEY);
  const headers = { ...options.headers, ...(token ? { Authorization: `Bearer ${token}` } : {}) };
  let response;
  try {
    response = await fetch(path, { ...options, headers });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(0, "The service does not answer. Is it still running?", 0);
  }
  if (response.status === 401) {
    await askForToken();
    return ask(path, options);
  }
  if (!response.ok) {
    const about = await response.json().catch(() => ({}));
    const detail = about.detail || `The service answered ${response.status}.`;
    throw new Problem(response.status, detail, Number(response.headers.get("Retry-After")) || 1);
  }
  return response;
}

export const askJson = async (path, options) => (await ask(path, options)).json();

export const askBitmap = async (path, options) => createImageBitmap(await (await ask(path, options)).blob());

// Call back for each server-sent event. Not by EventSource, which can bear no token.
export async function listen(path, signal, onEvent) {
  const reader = (await ask(path, { signal })).body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    text += value;
    const blocks = text.split("\n\n");
    text = blocks.pop();
    for (const block of blocks) {
      const data = block.split("\n").find((line) => line.startsWith("data: "));
      const about = data ? JSON.parse(data.slice(6)) : {};
      if (about.id) onEvent(about);
    }
  }
}

export async function save(path, name) {
  const response = await ask(path);
  const sent = /filename="([^"]+)"/.exec(response.headers.get("Content-Disposition") || "");
  const link = document.createElement("a");
  link.href = URL.createObjectURL(await response.blob());
  link.download = name || (sent ? sent[1] : "fused");
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

const pause = (seconds) => new Promise((resolve) => setTimeout(resolve, 1000 * seconds));

// Send sources, each {name, files}. A full queue is waited for; the key has a repeated request answer the same job.
export async function submit(sources, options, onWait) {
  const key = crypto.randomUUID?.() || `${Date.now()}-${Math.random()}`;
  for (;;) {
    const form = new FormData();
    form.append("options", JSON.stringify(options));
    for (const { name, files, kind } of sources) {
      for (const file of files) form.append("files", file, kind === "dicom" ? `${name}/${file.name}` : file.name);
    }
    try {
      return await askJson("/v1/fusions", { method: "POST", body: form, headers: { "Idempotency-Key": key } });
    } catch (error) {
      if (error.status !== 429) throw error;
      onWait(`The service is busy (${error.message}); trying again in ${error.wait} s.`);
      await pause(error.wait);
    }
  }
}
