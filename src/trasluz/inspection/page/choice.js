// What the page holds and what of it is chosen: sentence, kind, layer, head, words or pieces.

const byId = (id) => document.getElementById(id);
const data = JSON.parse(byId("data").textContent);
// Of each looking word the overview draws the strongest rays, as long as they are not faint.
const RAYS_PER_WORD = 5;
const FAINT = 0.06;
const stage = byId("stage");
const first = data.first;
const state = {
  language: data.language || ((navigator.language || "en").toLowerCase().startsWith("es") ? "es" : "en"),
  sentence: 0,
  kind: first.kind,
  layer: first.layer,
  head: first.head,
  merged: true,
  focus: null, // {side: "rows" | "columns", index, other}
  pinned: false,
};
let shown = null; // what is on the page: row and column words, weights, the largest weight
const text = () => TEXT[state.language];

function make(name, properties = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key in element) element[key] = value;
    else element.setAttribute(key, value);
  }
  element.append(...children);
  return element;
}

function draw(name, attributes) {
  const element = document.createElementNS(byId("rays").namespaceURI, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}

/** A share in whole percents, or with as many digits behind the point as a small one needs. */
function percent(share) {
  const digits = share > 0 && share < 0.0995 ? Math.max(1, Math.ceil(-Math.log10(share)) - 2) : 0;
  return new Intl.NumberFormat(state.language, { style: "percent", maximumFractionDigits: digits }).format(share);
}

const group = () => data.sentences[state.sentence].kinds[state.kind];

/** The layers, or heads, that can be chosen: those that are there, and their mean. */
function choices(name) {
  const all = [...new Set(group().maps.map((map) => map[name]))];
  const numbers = all.filter((value) => value !== "mean").sort((one, two) => one - two);
  return all.length > 1 || !numbers.length ? ["mean", ...numbers] : numbers;
}

/** The weights of a layer and head, or their mean over those that are there; null where there are none. */
function weightsOf(layer, head) {
  const maps = group().maps;
  const exact = maps.find((map) => map.layer === layer && map.head === head);
  if (exact) return exact.weights.map((weight) => weight / data.scale);
  const fits = maps.filter(
    (map) => (layer === "mean" || map.layer === layer) && (head === "mean" || map.head === head),
  );
  // Single heads make the mean; means that were given count only where there is nothing finer.
  const single = fits.filter((map) => map.layer !== "mean" && map.head !== "mean");
  const chosen = single.length ? single : fits;
  if (!chosen.length) return null;
  const sum = new Array(chosen[0].weights.length).fill(0);
  for (const map of chosen) map.weights.forEach((weight, i) => (sum[i] += weight));
  return sum.map((weight) => weight / data.scale / chosen.length);
}

const canMerge = () => Boolean(group().rows.groups && group().columns.groups);

/** Sum over the pieces of a word that is looked at, average over the pieces of a word that looks. */
function merged(weights) {
  const { rows, columns } = group();
  if (!state.merged || !canMerge() || !weights) return weights;
  const width = columns.tokens.length;
  const result = [];
  for (const row of rows.groups) {
    for (const column of columns.groups) {
      let sum = 0;
      for (const i of row) for (const j of column) sum += weights[i * width + j];
      result.push(sum / row.length);
    }
  }
  return result;
}

function choose() {
  const { rows, columns } = group();
  const asWords = state.merged && canMerge();
  const weights = merged(weightsOf(state.layer, state.head));
  const largest = weights.reduce((most, weight) => Math.max(most, weight), 0);
  shown = {
    rows: asWords ? rows.words : rows.tokens,
    columns: asWords ? columns.words : columns.tokens,
    weights,
    top: largest >= 0.5 || largest === 0 ? 1 : largest,
  };
}

const weightAt = (row, column) => shown.weights[row * shown.columns.length + column];
