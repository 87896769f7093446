// The settings: which fit the chosen sources, and what they ask the service for.

const element = (id) => document.getElementById(id);
const USUAL = [
  ["task", "auto"], ["register", ""], ["noise", ""], ["stretch", "auto"], ["deghost", "auto"], ["form", "ddfm"],
  ["prior", "natural"], ["palette", ""],
];
const CHECKS = ["uncertainty", "source_map", "resize", "annotate", "temperatures"];

// Show the settings that only thermal cameras' files have if there is one.
export function fit(groups) {
  const camera = groups.some(({ sources }) => sources.some(({ kind }) => kind === "camera"));
  element("cameras").hidden = element("cameras").disabled = !camera; // what is disabled is not sent
}

function numbers(text, what) {
  const found = text.split(",").map((part) => (part.trim() ? Number(part) : NaN));
  if (found.some(Number.isNaN)) throw new Error(`${what}: ${text} is not numbers with commas between them.`);
  return found;
}

// Return the range of each source from "20,40", "data", "2:0,1000" and the like, as the command has them.
function ranges(text, count) {
  const found = Array(count).fill(null);
  for (const word of text.trim().split(/\s+/)) {
    const [, number, wanted] = /^(?:(\d+):)?(.*)$/.exec(word);
    if (number && !(number >= 1 && number <= count)) throw new Error(`Range: there is no source ${number}.`);
    const value = ["data", "window"].includes(wanted) ? wanted : numbers(wanted, "Range");
    for (let k = 0; k < count; k += 1) if (!number || Number(number) === k + 1) found[k] = value;
  }
  return found;
}

// Return the options of a fusion of these sources. Throws what the user has to mend.
export function wanted(sources) {
  const given = Object.fromEntries(new FormData(element("options")));
  const options = {};
  for (const [name, usual] of USUAL) if (given[name] && given[name] !== usual) options[name] = given[name];
  for (const name of CHECKS) if (given[name]) options[name] = true;
  if (given.steps) options.steps = Number(given.steps);
  if (given.seed && given.seed !== "3407") options.seed = Number(given.seed);
  if (given.emissivity) options.emissivity = Number(given.emissivity);
  if (given.deblur.trim()) options.deblur = numbers(given.deblur, "Blur");
  if (given.range.trim()) options.range = ranges(given.range, sources.length);
  return options;
}
