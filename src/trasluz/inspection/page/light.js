// Light on one word: what pointer, finger and keyboard do, and the shares read aloud.

/** The words on the other side with their weights, strongest first. */
function seen(focus) {
  const other = focus.side === "rows" ? shown.columns : shown.rows;
  const pairs = other.map((word, i) => ({
    word,
    i,
    weight: focus.side === "rows" ? weightAt(focus.index, i) : weightAt(i, focus.index),
  }));
  return pairs.sort((one, two) => two.weight - one.weight);
}

function light() {
  const { focus } = state;
  stage.classList.toggle("focused", Boolean(focus));
  const pairs = focus ? seen(focus) : [];
  for (const side of ["rows", "columns"]) {
    wordsOf(side).forEach((word, index) => {
      const chosen = focus?.side === side && focus.index === index;
      word.classList.toggle("chosen", Boolean(chosen));
      word.classList.remove("lit");
      word.style.setProperty("--w", 0);
      word.setAttribute("aria-pressed", String(Boolean(chosen && state.pinned)));
    });
  }
  if (focus) {
    const others = wordsOf(focus.side === "rows" ? "columns" : "rows");
    for (const { i, weight } of pairs) {
      const share = Math.min(1, weight / shown.top);
      others[i].classList.toggle("lit", share >= FAINT);
      others[i].style.setProperty("--w", share.toFixed(3));
    }
  }
  const rays = byId("focus-rays");
  rays.replaceChildren();
  if (focus) {
    const at = anchors();
    // The strongest last, so that it lies on top.
    for (const { i, weight } of [...pairs].reverse()) {
      if (weight / shown.top >= 0.008)
        rays.append(focus.side === "rows" ? ray(at, focus.index, i) : ray(at, i, focus.index));
    }
  }
  markMatrix(focus);
  read(focus, pairs);
}

function read(focus, pairs) {
  const panel = byId("reading");
  const t = text();
  const bar = (name, weight) => {
    const ray = make("i", { "aria-hidden": "true" });
    ray.style.setProperty("--w", Math.min(1, weight));
    return make("li", {}, name, make("span", {}, ray), make("span", {}, percent(weight)));
  };
  if (!focus) {
    const links = shown.weights.map((weight, i) => ({ i, weight })).sort((one, two) => two.weight - one.weight);
    const width = shown.columns.length;
    const bdi = (word) => make("bdi", {}, word);
    // The arrow points from left to right, whichever way the words are read.
    const name = (i) =>
      make("span", { dir: "ltr" }, bdi(shown.rows[Math.floor(i / width)]), " → ", bdi(shown.columns[i % width]));
    const brightest = links.slice(0, 3).map(({ i, weight }) => bar(name(i), weight));
    panel.replaceChildren(
      make("p", { className: "soft" }, t.hint),
      make("p", { className: "soft" }, t.brightest),
      make("ol", {}, ...brightest),
    );
    return;
  }
  const [word, rest] = (focus.side === "rows" ? t.looksAt : t.seenBy)(shown[focus.side][focus.index]);
  // The strongest is listed however faint it is, as where a word looks at hundreds of others alike.
  let listed = pairs.filter(({ weight }, rank) => weight >= 0.005 || (rank === 0 && weight > 0)).slice(0, 5);
  if (focus.other !== undefined && !listed.some(({ i }) => i === focus.other)) {
    listed = [...listed.slice(0, 4), pairs.find(({ i }) => i === focus.other)];
  }
  const items = listed.map(({ word: other, weight }) => bar(make("span", { dir: "auto" }, other), weight));
  panel.replaceChildren(
    make("p", {}, make("b", { dir: "auto" }, word), rest + (items.length ? "" : ` ${t.nothing}`)),
    make("ol", {}, ...items),
  );
}

function focusOn(focus) {
  const same =
    focus &&
    state.focus &&
    focus.side === state.focus.side &&
    focus.index === state.focus.index &&
    focus.other === state.focus.other;
  if (same || (!focus && !state.focus)) return;
  state.focus = focus;
  light();
}

const focusOf = (target) => {
  const word = target.closest?.(".word");
  return word ? { side: word.parentElement.id, index: Number(word.dataset.index) } : null;
};

function pin(focus) {
  const same =
    state.pinned && focus && state.focus && focus.side === state.focus.side && focus.index === state.focus.index;
  state.pinned = Boolean(focus) && !same;
  state.focus = focus;
  light();
}

stage.addEventListener("pointerover", (event) => {
  if (!state.pinned && event.pointerType === "mouse") focusOn(focusOf(event.target));
});
stage.addEventListener("pointerleave", () => {
  if (!state.pinned) focusOn(focusOf(document.activeElement));
});
stage.addEventListener("focusin", (event) => {
  const focus = focusOf(event.target);
  if (!focus) return;
  for (const word of wordsOf(focus.side)) word.tabIndex = word === event.target ? 0 : -1;
  if (!state.pinned) focusOn(focus);
});
stage.addEventListener("focusout", (event) => {
  if (!state.pinned && !stage.contains(event.relatedTarget)) focusOn(null);
});
stage.addEventListener("click", (event) => pin(focusOf(event.target)));
byId("matrix").addEventListener("pointermove", (event) => {
  if (!state.pinned) focusOn(cellAt(event));
});
byId("matrix").addEventListener("pointerleave", () => {
  if (!state.pinned) focusOn(null);
});
byId("matrix").addEventListener("click", (event) => pin(cellAt(event)));
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") {
    state.pinned = false;
    state.focus = focusOf(document.activeElement);
    light();
  }
});
stage.addEventListener("keydown", (event) => {
  const focus = focusOf(event.target);
  if (!focus || event.altKey || event.ctrlKey || event.metaKey) return;
  const across = stage.classList.contains("across");
  const words = wordsOf(focus.side);
  const forth = across && byId(focus.side).dir === "rtl" ? -1 : 1;
  const along = across ? { ArrowRight: forth, ArrowLeft: -forth } : { ArrowDown: 1, ArrowUp: -1 };
  const cross = across ? ["ArrowUp", "ArrowDown"] : ["ArrowLeft", "ArrowRight"];
  let next = null;
  if (event.key in along) next = words[focus.index + along[event.key]];
  else if (event.key === "Home") next = words[0];
  else if (event.key === "End") next = words.at(-1);
  else if (cross.includes(event.key)) {
    const others = wordsOf(event.key === cross[0] ? "columns" : "rows");
    // Up and down follow the strongest ray.
    if (others[0].parentElement.id !== focus.side) next = others[seen(focus)[0].i];
  } else return;
  event.preventDefault();
  if (next) {
    state.pinned = false;
    next.focus();
  }
});
