// The same weights as a matrix: a row for each word that looks, a column for each word it can look at.

let grid = null; // geometry of the matrix: cell, left, top
const pen = document.createElement("canvas").getContext("2d");

function shorten(word, font, room) {
  pen.font = font;
  if (pen.measureText(word).width <= room) return word;
  const letters = [...word];
  while (letters.length > 1 && pen.measureText(letters.join("") + "…").width > room) letters.pop();
  return letters.join("") + "…";
}

/** Draw the matrix, in cells as small as 13 pixels where that makes it fit in some room, and return its width. */
function drawMatrix(room) {
  const { rows, columns } = shown;
  const longest = Math.max(rows.length, columns.length);
  const liked = longest <= 6 ? 44 : longest <= 12 ? 32 : longest <= 24 ? 26 : longest <= 44 ? 19 : 15;
  const cell = Math.max(13, Math.min(liked, Math.floor((room - 150) / columns.length)));
  const size = cell >= 26 ? 14 : cell >= 19 ? 13 : Math.min(11.5, cell - 2);
  const font = `${size}px ${getComputedStyle(stage).getPropertyValue("--word")}`;
  const slant = cell >= 19 ? 55 : 90;
  const fit = (words) => words.map((word) => shorten(word, font, 130));
  const rowLabels = fit(rows);
  const columnLabels = fit(columns);
  const widest = (labels) => Math.max(...labels.map((label) => pen.measureText(label).width));
  pen.font = font;
  const left = widest(rowLabels) + 12;
  const angle = (slant * Math.PI) / 180;
  const top = widest(columnLabels) * Math.sin(angle) + size;
  const over =
    Math.max(
      0,
      ...columnLabels.map(
        (label, i) => (i + 0.5) * cell + pen.measureText(label).width * Math.cos(angle) - columns.length * cell,
      ),
    ) +
    size * 1.5;
  const width = Math.ceil(left + columns.length * cell + over);
  const height = Math.ceil(top + rows.length * cell + 2);
  const svg = draw("svg", {
    width,
    height,
    viewBox: `0 0 ${width} ${height}`,
    role: "img",
    "aria-label": text().matrix(rows.length, columns.length),
  });
  svg.append(
    draw("rect", { class: "ground", x: left, y: top, width: columns.length * cell, height: rows.length * cell }),
  );
  const label = (word, attributes) => {
    const element = draw("text", { "font-size": size, direction: "ltr", ...attributes });
    element.textContent = word;
    svg.append(element);
  };
  rowLabels.forEach((word, i) =>
    label(word, { x: left - 7, y: top + (i + 0.5) * cell + size * 0.34, "text-anchor": "end", "data-row": i }),
  );
  columnLabels.forEach((word, i) => {
    const x = left + (i + 0.5) * cell + size * 0.3;
    label(word, {
      transform: `translate(${x.toFixed(1)} ${(top - 6).toFixed(1)}) rotate(${-slant})`,
      "data-column": i,
    });
  });
  for (let row = 0; row < rows.length; row++) {
    for (let column = 0; column < columns.length; column++) {
      const share = weightAt(row, column) / shown.top;
      if (share < 0.004) continue;
      svg.append(
        draw("rect", {
          class: "cell",
          x: left + column * cell + 0.5,
          y: top + row * cell + 0.5,
          width: cell - 1,
          height: cell - 1,
          "fill-opacity": Math.min(1, share).toFixed(3),
        }),
      );
    }
  }
  const marks = draw("g", { id: "marks" });
  svg.append(marks);
  byId("matrix").setAttribute("role", "region");
  byId("matrix").setAttribute("aria-label", text().matrixName);
  byId("matrix").replaceChildren(svg);
  grid = { cell, left, top };
  return width;
}

function cellAt(event) {
  const box = byId("matrix").firstChild.getBoundingClientRect();
  const column = Math.floor((event.clientX - box.x - grid.left) / grid.cell);
  const row = Math.floor((event.clientY - box.y - grid.top) / grid.cell);
  const inside = row >= 0 && column >= 0 && row < shown.rows.length && column < shown.columns.length;
  return inside ? { side: "rows", index: row, other: column } : null;
}

function markMatrix(focus) {
  const { cell, left, top } = grid;
  const marks = [];
  const band = (x, y, width, height) => marks.push(draw("rect", { class: "band", x, y, width, height, rx: 2 }));
  const wide = shown.columns.length * cell;
  const high = shown.rows.length * cell;
  if (focus?.side === "rows") band(left, top + focus.index * cell, wide, cell);
  if (focus?.side === "columns") band(left + focus.index * cell, top, cell, high);
  if (focus && focus.other !== undefined) band(left + focus.other * cell, top + focus.index * cell, cell, cell);
  byId("marks").replaceChildren(...marks);
  for (const label of byId("matrix").querySelectorAll("text")) {
    const row = label.dataset.row;
    const column = label.dataset.column;
    let weight = 1;
    if (focus?.side === "rows")
      weight =
        row !== undefined ? Number(Number(row) === focus.index) : weightAt(focus.index, Number(column)) / shown.top;
    if (focus?.side === "columns")
      weight =
        column !== undefined ? Number(Number(column) === focus.index) : weightAt(Number(row), focus.index) / shown.top;
    label.classList.toggle("faded", weight < FAINT);
  }
}
