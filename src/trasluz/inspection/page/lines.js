// Two lines of words and the rays of light between them.

function drawLine(side) {
  const line = byId(side);
  const words = shown[side].map((word, index) =>
    make(
      "button",
      {
        type: "button",
        className: "word",
        dir: "auto",
        title: word,
        "aria-pressed": "false",
        tabIndex: index ? -1 : 0,
        "data-index": index,
      },
      word,
    ),
  );
  const t = text().sides;
  const name =
    state.kind === "cross" ? (side === "rows" ? t.target : t.source) : side === "rows" ? t.looking : t.looked;
  line.replaceChildren(...words);
  line.dataset.name = name;
  line.setAttribute("role", "group");
  line.setAttribute("aria-label", name);
  line.dir = group()[side].rtl ? "rtl" : "ltr";
}

const wordsOf = (side) => [...byId(side).children];

/** Two lines where the words fit side by side, else two columns; the matrix beside them where there is room. */
function layOut() {
  const view = byId("view");
  view.className = "";
  stage.className = "across";
  const width = view.clientWidth;
  const needed =
    Math.max(...["rows", "columns"].map((side) => wordsOf(side).reduce((sum, word) => sum + word.offsetWidth + 4, 0))) +
    40;
  const across = needed <= width;
  // Words have room to breathe, but neighbours stay neighbours.
  const stageWidth = across ? Math.max(560, Math.round(needed * 1.4)) : 620;
  const room = width - 34 - (across ? needed : 400);
  const matrixWidth = drawMatrix(across || room < 420 ? width : room);
  // Beside two columns of words, which are long, a matrix too large for its place is scrolled.
  const beside = matrixWidth <= room || (!across && room >= 420);
  view.className = beside ? "beside" : "";
  view.style.setProperty(
    "--stage",
    beside ? `${Math.min(stageWidth, width - 34 - Math.min(matrixWidth, room))}px` : "none",
  );
  stage.style.setProperty("--most", `${stageWidth}px`);
  const longest = Math.max(shown.rows.length, shown.columns.length);
  stage.className = (across ? "across" : "down") + (longest > 26 ? " small" : "");
  drawRays();
  light();
}

function anchors() {
  const origin = stage.getBoundingClientRect();
  const across = stage.classList.contains("across");
  const places = (side) =>
    wordsOf(side).map((word) => {
      const box = word.getBoundingClientRect();
      if (across)
        return {
          x: box.x - origin.x + box.width / 2,
          y: (side === "rows" ? box.top - 3 : box.bottom + 3) - origin.y,
          size: box.width,
        };
      return {
        x: (side === "rows" ? box.left - 3 : box.right + 3) - origin.x,
        y: box.y - origin.y + box.height / 2,
        size: box.height,
      };
    });
  return { across, rows: places("rows"), columns: places("columns") };
}

function ray(at, row, column) {
  const weight = weightAt(row, column);
  const share = Math.min(1, weight / shown.top);
  const from = at.columns[column];
  const to = at.rows[row];
  const half = at.across ? (from.y + to.y) / 2 : (from.x + to.x) / 2;
  const curve = at.across
    ? `C${from.x},${half} ${to.x},${half} ${to.x + 0.01},${to.y}`
    : `C${half},${from.y} ${half},${to.y} ${to.x},${to.y + 0.01}`;
  const thick = 1 + share * Math.min(13, Math.max(2, Math.min(from.size, to.size) * 0.4));
  return draw("path", {
    d: `M${from.x},${from.y}${curve}`,
    "stroke-width": thick.toFixed(1),
    "stroke-opacity": (0.06 + 0.84 * share ** 1.2).toFixed(3),
  });
}

function drawRays() {
  const at = anchors();
  const ends = at.across ? [0, at.columns[0].y, 0, at.rows[0].y] : [at.columns.at(-1).x, 0, at.rows[0].x, 0];
  const gradient = draw("linearGradient", {
    id: "light",
    gradientUnits: "userSpaceOnUse",
    x1: ends[0],
    y1: ends[1],
    x2: ends[2],
    y2: ends[3],
  });
  for (const [offset, name] of [
    [0, "--ray-far"],
    [1, "--ray"],
  ]) {
    const stop = draw("stop", { offset });
    stop.style.stopColor = `rgb(var(${name}))`;
    gradient.append(stop);
  }
  const definitions = draw("defs", {});
  definitions.append(gradient);
  const overview = draw("g", { id: "overview" });
  const strongest = shown.rows.flatMap((_, row) =>
    seen({ side: "rows", index: row })
      .slice(0, RAYS_PER_WORD)
      .map(({ i, weight }) => ({ row, column: i, weight })),
  );
  strongest.sort((one, two) => one.weight - two.weight);
  for (const { row, column, weight } of strongest)
    if (weight / shown.top >= FAINT) overview.append(ray(at, row, column));
  byId("rays").replaceChildren(definitions, overview, draw("g", { id: "focus-rays" }));
}
