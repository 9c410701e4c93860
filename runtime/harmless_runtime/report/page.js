"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const find = (id) => document.getElementById(id);
// Rows that are shown on each side of the cut.
const NEAR = 4;
const whole = new Intl.NumberFormat("en-US");

// Rows are made of elements and texts, never of HTML, so that no text can become a part of the page.
function element(kind, name, text) {
  const made = document.createElement(kind);
  if (name) made.className = name;
  if (text !== undefined) made.textContent = text;
  return made;
}

function textOf(text) {
  const box = document.createDocumentFragment();
  const body = element("div", "text", text);
  body.dir = "auto";
  box.append(body);
  if (text.length > 500 || text.split("\n").length > 7) {
    body.classList.add("folded");
    const more = element("button", "more", "show all");
    more.addEventListener("click", () => {
      const folded = body.classList.toggle("folded");
      more.textContent = folded ? "show all" : "show less";
    });
    box.append(more);
  }
  return box;
}

function rowOf(row, isOpen) {
  const made = element("article", "row");
  const header = element("header");
  for (const score of row.scores) header.append(element("span", "score", score));
  const id = element("bdi", "where", row.id);
  header.append(id, element("bdi", "where", row.where));
  made.append(header);
  if (row.question) {
    const details = element("details");
    details.open = isOpen;
    details.append(element("summary", "", "the request"), textOf(row.question));
    made.append(details);
  }
  if (row.answer) made.append(textOf(row.answer));
  return made;
}

function show(place, rows, nothing, isOpen) {
  place.replaceChildren(...rows.map((index) => rowOf(data.rows[index], isOpen)));
  if (!rows.length) place.append(element("p", "quiet", nothing));
}

// The rows that are listed, and the search in them.
if (find("list")) {
  let view = data.views[0].name;
  const list = () => {
    const words = find("search").value.toLowerCase().split(/\s+/).filter(Boolean);
    const rows = data.views.find((each) => each.name === view).rows.filter((index) => {
      const row = data.rows[index];
      const text = `${row.id}\n${row.where}\n${row.question}\n${row.answer}`.toLowerCase();
      return words.every((word) => text.includes(word));
    });
    find("found").textContent = words.length ? `${rows.length} found` : "";
    show(find("list"), rows, "no row holds these words", false);
  };
  const buttons = data.views.map((each) => {
    const button = element("button", "", each.name);
    button.addEventListener("click", () => {
      view = each.name;
      for (const other of buttons) other.setAttribute("aria-pressed", String(other === button));
      list();
    });
    button.setAttribute("aria-pressed", String(each.name === view));
    return button;
  });
  find("views").prepend(...buttons);
  find("search").addEventListener("input", list);
  list();
}

// The cut: a line in the histogram, the rows that are kept, and the rows nearest to it.
if (find("cut")) {
  const { first, step, digits, kept, total, barCuts } = data.cuts;
  const charts = [...document.querySelectorAll("#histogram svg")].map((svg) => {
    const plot = svg.querySelector(".mark-group.role-frame.root > g > path.background");
    const line = document.createElementNS("http://www.w3.org/2000/svg", "line");
    line.setAttribute("class", "cut");
    plot.parentNode.append(line);
    return { plot, line, bars: [...svg.querySelectorAll(".mark-rect.role-mark path")] };
  });
  const slider = find("cut");
  const number = find("value");
  const valueOf = (at) => (first + at * step).toFixed(digits);
  // Of equal scores all or none are kept, so a share may only be reached about.
  const nearest = (wanted) => {
    const distances = kept.map((rows) => Math.abs(rows - wanted));
    return distances.indexOf(Math.min(...distances));
  };
  const drawLine = (at) => {
    for (const { plot, line, bars } of charts) {
      const area = plot.getBBox(); // empty for the variant that is not shown
      const x = area.x + (area.width * at) / (kept.length - 1);
      const ends = { x1: x, x2: x, y1: area.y, y2: area.y + area.height };
      for (const [name, value] of Object.entries(ends)) line.setAttribute(name, value);
      bars.forEach((bar, i) => bar.classList.toggle("dropped", (i + 0.5) * barCuts < at));
    }
  };
  const move = (at) => {
    slider.value = at;
    number.value = valueOf(at);
    const share = kept[at] / total;
    find("kept").textContent =
      `${whole.format(kept[at])} rows kept (${(100 * share).toFixed(1)} %), ` +
      `${whole.format(total - kept[at])} dropped`;
    for (const element of document.querySelectorAll(".above")) element.textContent = valueOf(at);
    drawLine(at);
    if (find("near-above")) {
      const cut = Math.fround(valueOf(at));
      const place = data.sorted.findIndex((index) => Math.fround(data.rows[index].score) >= cut);
      const middle = place < 0 ? data.sorted.length : place;
      show(find("near-above"), data.sorted.slice(middle, middle + NEAR).reverse(), "no row is kept",
        true);
      show(find("near-below"), data.sorted.slice(Math.max(0, middle - NEAR), middle).reverse(),
        "no row is dropped", true);
    }
  };
  slider.addEventListener("input", () => move(Number(slider.value)));
  number.addEventListener("change", () => {
    const at = Math.round((Number(number.value) - first) / step);
    move(Math.min(kept.length - 1, Math.max(0, at || 0)));
  });
  for (const button of document.querySelectorAll("[data-share]")) {
    button.addEventListener("click", () => {
      move(nearest((1 - Number(button.dataset.share)) * total));
    });
  }
  // Another variant of the chart may be shown now.
  addEventListener("resize", () => drawLine(Number(slider.value)));
  move(nearest(0.9 * total));
}
