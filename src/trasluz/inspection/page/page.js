// The controls, all heads at a glance, and the page as a whole. Runs last.

function update(change) {
  Object.assign(state, change, { focus: null, pinned: false });
  const kinds = data.sentences[state.sentence].kinds;
  if (!(state.kind in kinds)) state.kind = Object.keys(kinds)[0];
  for (const name of ["layer", "head"]) {
    if (!choices(name).includes(state[name])) state[name] = choices(name)[0];
  }
  if (!weightsOf(state.layer, state.head)) state.head = choices("head").find((head) => weightsOf(state.layer, head));
  render();
}

function segmented(name, label, options) {
  const buttons = options.map(([value, title]) =>
    make(
      "button",
      {
        type: "button",
        "aria-pressed": String(state[name] === value),
        "data-name": name,
        "data-value": String(value),
        onclick: () => update({ [name]: value }),
      },
      title,
    ),
  );
  return make("fieldset", {}, make("legend", {}, label), make("span", { className: "choice" }, ...buttons));
}

function select(name, label, options) {
  const list = make(
    "select",
    { id: `choose-${name}` },
    ...options.map(([value, title], i) => make("option", { value: String(i), selected: state[name] === value }, title)),
  );
  list.addEventListener("change", () => update({ [name]: options[Number(list.value)][0] }));
  return make("label", { htmlFor: list.id }, label, list);
}

function drawControls() {
  const active = document.activeElement;
  const keep =
    active && byId("controls").contains(active) ? active.id || [active.dataset.name, active.dataset.value] : null;
  const t = text();
  const parts = [];
  const kinds = Object.keys(data.sentences[state.sentence].kinds);
  if (data.sentences.length > 1)
    parts.push(
      select(
        "sentence",
        t.sentence,
        data.sentences.map((sentence, i) => [i, `${i + 1}. ${sentence.label}`]),
      ),
    );
  if (kinds.length > 1)
    parts.push(
      segmented(
        "kind",
        t.kind,
        kinds.map((kind) => [kind, t.kinds[kind]]),
      ),
    );
  for (const name of ["layer", "head"]) {
    const options = choices(name);
    if (options.length > 1)
      parts.push(
        select(
          name,
          t[name],
          options.map((value) => [value, value === "mean" ? t.mean : String(value)]),
        ),
      );
  }
  if (canMerge())
    parts.push(
      segmented("merged", t.show, [
        [true, t.words],
        [false, t.pieces],
      ]),
    );
  byId("controls").replaceChildren(...parts);
  // A control that was used keeps the keyboard, although it has been drawn anew.
  if (typeof keep === "string") byId(keep)?.focus();
  else if (keep)
    [...byId("controls").querySelectorAll("button")]
      .find((one) => one.dataset.name === keep[0] && one.dataset.value === keep[1])
      ?.focus();
}

function thumbnail(layer, head) {
  const weights = merged(weightsOf(layer, head));
  if (!weights) return make("td");
  const canvas = make("canvas", { width: shown.columns.length, height: shown.rows.length });
  const context = canvas.getContext("2d");
  const image = context.createImageData(canvas.width, canvas.height);
  const colour = getComputedStyle(stage).getPropertyValue("--ray").trim().split(/\s+/).map(Number);
  const top = weights.reduce((most, weight) => Math.max(most, weight), 0) || 1;
  weights.forEach((weight, i) => image.data.set([...colour, Math.round(255 * Math.min(1, weight / top))], i * 4));
  context.putImageData(image, 0, 0);
  const t = text();
  const name = t.headName(layer === "mean" ? t.mean : layer, head === "mean" ? t.mean : head);
  const pressed = String(state.layer === layer && state.head === head);
  const button = make(
    "button",
    {
      type: "button",
      title: name,
      "aria-label": name,
      "aria-pressed": pressed,
      onclick: () => update({ layer, head }),
    },
    canvas,
  );
  button.dataset.key = `${layer} ${head}`;
  return make("td", {}, button);
}

function drawHeads() {
  const section = byId("heads");
  const layers = choices("layer");
  const heads = choices("head");
  section.hidden = layers.length * heads.length < 2;
  if (section.hidden) return;
  const kept = section.contains(document.activeElement) ? document.activeElement.dataset.key : null;
  const t = text();
  const name = (value) => (value === "mean" ? t.mean : String(value));
  const header = make("tr", {}, make("td"), ...heads.map((head) => make("th", { scope: "col" }, name(head))));
  const rows = layers.map((layer) =>
    make(
      "tr",
      {},
      make("th", { scope: "row" }, layer === "mean" ? t.mean : `${t.layer} ${layer}`),
      ...heads.map((head) => thumbnail(layer, head)),
    ),
  );
  section.replaceChildren(
    make("h2", {}, t.heads),
    make("table", {}, make("thead", {}, header), make("tbody", {}, ...rows)),
  );
  if (kept) [...section.querySelectorAll("button")].find((button) => button.dataset.key === kept)?.focus();
}

function render() {
  const t = text();
  document.documentElement.lang = state.language;
  byId("title").textContent = data.title || t.title;
  const model = data.sentences[state.sentence].model;
  byId("model").textContent = model ? t.model + model : "";
  byId("language").textContent = t.other;
  byId("language").lang = state.language === "en" ? "es" : "en";
  byId("about").textContent = t.about;
  choose();
  drawControls();
  drawLine("columns");
  drawLine("rows");
  layOut();
  drawHeads();
}

byId("language").addEventListener("click", () => {
  state.language = state.language === "en" ? "es" : "en";
  render();
});
byId("controls").addEventListener("submit", (event) => event.preventDefault());
render();
let lastWidth = byId("view").clientWidth;
new ResizeObserver(() => {
  if (byId("view").clientWidth === lastWidth) return;
  lastWidth = byId("view").clientWidth;
  layOut();
}).observe(byId("view"));
// Words may move without the page changing its width: a font that arrives, a reader's own text size.
new ResizeObserver(() => {
  drawRays();
  light();
}).observe(stage);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", render);
document.fonts?.ready.then(layOut);
